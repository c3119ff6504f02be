"""The molecule's process and network: one field `pos` on the mean-free space of atomic positions."""

from typing import Literal

import torch

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import NetworkDenoiser, Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork, PotentialNetwork
from equilibra.systems.chemical_graph import NODE_VOCABULARY, PAIR_VOCABULARY

FIELD = "pos"
"""Name of the molecule's one field."""

SIGMA_MIN, SIGMA_MAX = 0.01, 20.0
"""Noise range in Å: a third of the stiffest bond's amplitude (0.03 Å) and about ten times the extent of a small molecule."""


def molecule_process(data_scale: float, *, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Process:
    """Returns the variance-exploding process of mean-free positions in Å, for data of the given standard deviation per axis."""
    schedule = VarianceExploding(sigma_min=sigma_min, sigma_max=max(sigma_max, 8.0 * data_scale))
    return Process({FIELD: Field(space=CentredEuclidean(), schedule=schedule, data_scale=data_scale)})


def molecule_network_config(**size: int) -> GraphormerConfig:
    """Returns the network's configuration with the molecule's vocabularies; keywords change its size."""
    return GraphormerConfig(node_vocabulary=dict(NODE_VOCABULARY), pair_vocabulary=dict(PAIR_VOCABULARY), **size)


def molecule_denoiser(
    process: Process,
    config: GraphormerConfig,
    *,
    parametrisation: Parametrisation | Literal["energy"] = "edm",
    seed: int | None = None,
) -> TrainedDenoiser:
    """Makes the denoiser, a conservative one for the parametrisation `energy`; with a seed, its initial weights depend on the seed alone."""

    def make() -> TrainedDenoiser:
        if parametrisation == "energy":
            return ConservativeDenoiser(PotentialNetwork(config, FIELD), process)
        return NetworkDenoiser(PositionNetwork(config, FIELD), process, parametrisation)

    if seed is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
