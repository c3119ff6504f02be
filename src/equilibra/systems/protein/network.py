"""The protein's process and network: C-alpha positions `trans` on the mean-free space, and orientations `rot` on SO(3), of every residue."""

from dataclasses import asdict
from typing import Any, Literal

import torch

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import NetworkDenoiser, Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, CentredEuclidean
from equilibra.nn.frames import ROT, TRANS, FrameNetwork, FrameNetworkConfig, FramePotentialNetwork
from equilibra.systems.protein.featurise import NODE_VOCABULARY, PAIR_VOCABULARY

SIGMA_MIN, SIGMA_MAX = 0.05, 35.0
"""Noise range of the positions in Å: far below the thermal motion of a residue, and far above the extent of a small protein."""

ROT_SIGMA_MIN, ROT_SIGMA_MAX = 0.02, 2.4
"""Noise range of the orientations in rad: about one degree, and where the distribution is uniform to a few percent."""


def protein_process(data_scale: float, *, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Process:
    """Returns the variance-exploding process of both fields, for positions of the given standard deviation per axis, in Å."""
    trans = VarianceExploding(sigma_min=sigma_min, sigma_max=max(sigma_max, 8.0 * data_scale))
    rot = VarianceExploding(sigma_min=ROT_SIGMA_MIN, sigma_max=ROT_SIGMA_MAX)
    return Process(
        {
            TRANS: Field(space=CentredEuclidean(), schedule=trans, data_scale=data_scale),
            ROT: Field(space=SO3(), schedule=rot, data_scale=1.0),
        }
    )


def protein_network_config(**size: Any) -> FrameNetworkConfig:
    """Returns the network's configuration with the protein's vocabularies; keywords change its size."""
    return FrameNetworkConfig(node_vocabulary=dict(NODE_VOCABULARY), pair_vocabulary=dict(PAIR_VOCABULARY), **size)


def network_values(config: FrameNetworkConfig) -> dict[str, Any]:
    """Returns the JSON form of a network's configuration.

    Optional features are named where a network has them only: models and runs from before there were any stay the same.
    """
    values = asdict(config)
    return values if config.optional_features else {key: value for key, value in values.items() if key != "optional_features"}


def protein_denoiser(
    process: Process,
    config: FrameNetworkConfig,
    *,
    parametrisation: Parametrisation | Literal["energy"] = "edm",
    seed: int | None = None,
) -> TrainedDenoiser:
    """Makes the denoiser, a conservative one for the parametrisation `energy`; with a seed, its initial weights depend on the seed alone."""

    def make() -> TrainedDenoiser:
        if parametrisation == "energy":
            return ConservativeDenoiser(FramePotentialNetwork(config), process)
        return NetworkDenoiser(FrameNetwork(config), process, parametrisation)

    if seed is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
