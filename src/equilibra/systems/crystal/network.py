r"""The crystal's process and network: fractional coordinates `frac` on the torus, and the cell `cell` as a symmetric matrix.

The noise of fractional coordinates reaches a width where the distribution is uniform to 1e-5. That of the cell, in units of the spread of the data,
ends where nothing but the density is left of it: the prior is Gaussian about a cube of the mean density.
"""

from dataclasses import asdict
from typing import Any, Literal

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser, Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SymmetricMatrices, Torus
from equilibra.errors import ConfigError
from equilibra.nn.crystal import CELL, FRAC, CrystalNetwork, CrystalNetworkConfig
from equilibra.systems.crystal.system import NODE_VOCABULARY, PAIR_VOCABULARY

FRAC_SIGMA_MIN, FRAC_SIGMA_MAX = 0.002, 0.8
"""Noise range of fractional coordinates: about 0.01 Å in a cell of 5 Å, and where the distribution is uniform."""

CELL_SIGMA_MIN, CELL_SIGMA_MAX = 0.02, 20.0
"""Noise range of the cell, in units of the data scale. At every time the noise of the cell changes bonds about as much as that of the coordinates does: with less the cell
would be settled before the atoms can tell what it should be, with more the other way round."""

FRAC_SCALE = 0.29
"""Standard deviation of a uniform fractional coordinate: the unit of training noise."""


def crystal_process(centre: float, scale: float) -> Process:
    """Returns the variance-exploding process of both fields.

    Arguments:
        centre: Mean of the diagonal of L/n^(1/3) over the data, in Å.
        scale: Standard deviation of L/n^(1/3) per axis, in Å.
    """
    cell = VarianceExploding(sigma_min=CELL_SIGMA_MIN * scale, sigma_max=CELL_SIGMA_MAX * scale)
    frac = VarianceExploding(sigma_min=FRAC_SIGMA_MIN, sigma_max=FRAC_SIGMA_MAX)
    return Process(
        {
            FRAC: Field(space=Torus(period=1.0, centred=True), schedule=frac, data_scale=FRAC_SCALE),
            CELL: Field(space=SymmetricMatrices(centre=centre), schedule=cell, data_scale=scale),
        }
    )


def crystal_network_config(**size: Any) -> CrystalNetworkConfig:
    """Returns the network's configuration with the crystal's vocabularies; keywords change its size."""
    return CrystalNetworkConfig(node_vocabulary=dict(NODE_VOCABULARY), pair_vocabulary=dict(PAIR_VOCABULARY), **size)


def network_values(config: CrystalNetworkConfig) -> dict[str, Any]:
    """Returns the JSON form of a network's configuration."""
    return asdict(config)


def crystal_denoiser(
    process: Process,
    config: CrystalNetworkConfig,
    *,
    parametrisation: Parametrisation | Literal["energy"] = "edm",
    seed: int | None = None,
) -> TrainedDenoiser:
    """Makes the denoiser; with a seed, its initial weights depend on the seed alone.

    Raises:
        ConfigError: If the parametrisation is `energy`, which crystals do not have, or the process is not that of crystals.
    """
    if parametrisation == "energy":
        raise ConfigError("parametrisation: got 'energy', but crystals have no conservative network; use 'edm'")
    space = process.fields[CELL].space if CELL in process.fields else None
    if FRAC not in process.fields or not isinstance(space, SymmetricMatrices):
        raise ConfigError(f"process: got the fields {list(process.fields)}, expected '{FRAC}' and '{CELL}' of crystals")
    centre, scale = space.centre, process.fields[CELL].data_scale

    def make() -> TrainedDenoiser:
        return NetworkDenoiser(CrystalNetwork(config, centre=centre, scale=scale), process, parametrisation)

    if seed is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
