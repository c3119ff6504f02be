"""The adsorbate's process and network: one field `pos`, positions of the mobile atoms above a periodic plane."""

from typing import Any, Literal

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser, Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.slab import Slab
from equilibra.errors import ConfigError
from equilibra.nn.surface import POSITIONS, SurfaceNetwork, SurfaceNetworkConfig
from equilibra.systems.adsorbate.system import NODE_VOCABULARY, PAIR_VOCABULARY, REACH, SHELLS

SIGMA_MIN, SIGMA_MAX = 0.01, 8.0
"""Noise range in Å: a fifth of the amplitude of a stiff vibration, and where the law in a plane of 12 Å is uniform to one part in a thousand."""

SCALE = 1.0
"""Data scale in Å: the spread of heights, and the unit of training noise."""


def adsorbate_process() -> Process:
    """Returns the variance-exploding process of positions above a plane; bind it to a system for its cell (`Process.of_system`)."""
    schedule = VarianceExploding(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    return Process({POSITIONS: Field(space=Slab(), schedule=schedule, data_scale=SCALE)})


def adsorbate_network_config(**size: Any) -> SurfaceNetworkConfig:
    """Returns the network's configuration with the adsorbate's vocabularies; keywords change its size."""
    return SurfaceNetworkConfig(
        node_vocabulary=dict(NODE_VOCABULARY), pair_vocabulary=dict(PAIR_VOCABULARY), environment=len(SHELLS) + 1, **size
    )


def adsorbate_denoiser(
    process: Process,
    config: SurfaceNetworkConfig,
    *,
    parametrisation: Parametrisation | Literal["energy"] = "edm",
    seed: int | None = None,
) -> TrainedDenoiser:
    """Makes the denoiser; with a seed, its initial weights depend on the seed alone.

    Raises:
        ConfigError: If the parametrisation is `energy`, which adsorbates do not have, the cut-off is longer than that of the features, or the process is
            not that of adsorbates.
    """
    if parametrisation == "energy":
        raise ConfigError("parametrisation: got 'energy', but adsorbates have no conservative network; use 'edm'")
    if POSITIONS not in process.fields or not isinstance(process.fields[POSITIONS].space, Slab):
        raise ConfigError(f"process: got the fields {list(process.fields)}, expected '{POSITIONS}' above a plane")
    if config.cutoff > REACH:
        raise ConfigError(
            f"cutoff: got {config.cutoff} Å, expected at most {REACH} Å, for which the features of surfaces are made"
        )

    def make() -> TrainedDenoiser:
        return NetworkDenoiser(SurfaceNetwork(config, scale=process.fields[POSITIONS].data_scale), process, parametrisation)

    if seed is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
