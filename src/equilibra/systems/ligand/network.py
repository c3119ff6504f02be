r"""The ligand's process and network: shift, turn and torsions of poses, and two fixed fields.

The reference measure of every density is the product of Lebesgue measure of the shift (Å³), Haar measure of mass 1 of the turn, and Lebesgue measure of the torsions (rad). It is the Cartesian measure for
the given bonds and angles, whatever the point that the shift is of (`geometry.torsion_tree`).
"""

from __future__ import annotations

from dataclasses import asdict
from math import pi
from typing import Any, Literal

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser, Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, Euclidean, Fixed, Torus
from equilibra.errors import ConfigError
from equilibra.nn.ligand import LigandNetwork, LigandNetworkConfig
from equilibra.systems.ligand.features import NODE_VOCABULARY, PAIR_VOCABULARY
from equilibra.systems.ligand.system import CONFORMER, REFERENCE, SHIFT, TORSIONS, TURN

SHIFT_SCALE = 2.5
"""Standard deviation in Å per axis of middles of ligands about the centre of their boxes."""

SHIFT_SIGMA = 0.04, 10.0
"""Noise range of the shift, in Å."""

TURN_SIGMA = 0.02, 2.5
"""Noise range of the turn, in rad; the largest is uniform within 1e-4 nat."""

TORSION_SIGMA = 0.03, 5.0
"""Noise range of torsions, in rad; the largest is uniform within 1e-5."""

_UNIFORM = pi / 3**0.5  # standard deviation of an angle that is uniform


def ligand_process(scale: float = SHIFT_SCALE) -> Process:
    """Returns the variance-exploding process of poses: a Gaussian prior of the shift about the centre of the box, uniform turns and torsions.

    Arguments:
        scale: Standard deviation in Å per axis of the shift over the data.
    """

    def field(space: Any, sigmas: tuple[float, float], scale: float) -> Field:
        return Field(space=space, schedule=VarianceExploding(sigma_min=sigmas[0], sigma_max=sigmas[1]), data_scale=scale)

    return Process(
        {
            REFERENCE: field(Fixed(), SHIFT_SIGMA, 1.0),
            SHIFT: field(Euclidean(), (SHIFT_SIGMA[0], max(SHIFT_SIGMA[1], 4.0 * scale)), scale),
            TURN: field(SO3(), TURN_SIGMA, _UNIFORM),
            TORSIONS: field(Torus(period=2.0 * pi), TORSION_SIGMA, _UNIFORM),
            CONFORMER: field(Fixed(), SHIFT_SIGMA, 1.0),
        }
    )


def ligand_network_config(**size: Any) -> LigandNetworkConfig:
    """Returns the network's configuration with the ligand's vocabularies; keywords change its size."""
    return LigandNetworkConfig(node_vocabulary=dict(NODE_VOCABULARY), pair_vocabulary=dict(PAIR_VOCABULARY), **size)


def network_values(config: LigandNetworkConfig) -> dict[str, Any]:
    """Returns the JSON form of a network's configuration."""
    return asdict(config)


def ligand_denoiser(
    process: Process,
    config: LigandNetworkConfig,
    *,
    parametrisation: Parametrisation | Literal["energy"] = "edm",
    seed: int | None = None,
) -> TrainedDenoiser:
    """Makes the denoiser; with a seed, its initial weights depend on the seed alone.

    Raises:
        ConfigError: If the parametrisation is `energy`, which ligands do not have, or the process is not that of ligands.
    """
    if parametrisation == "energy":
        raise ConfigError("parametrisation: got 'energy', but ligands have no conservative network; use 'edm'")
    if process.moving != [SHIFT, TURN, TORSIONS]:
        raise ConfigError(
            f"process: got the moving fields {process.moving}, expected {SHIFT}, {TURN} and {TORSIONS} of ligands"
        )
    scale = process.fields[SHIFT].data_scale

    def make() -> TrainedDenoiser:
        return NetworkDenoiser(LigandNetwork(config, scale=scale), process, parametrisation)

    if seed is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
