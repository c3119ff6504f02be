r"""The ligand's processes and networks, of two states: torsional, with shift, turn and torsions, or Cartesian, as DiG has it, with positions of the heavy atoms.

The reference measure of every density of the Cartesian state is Lebesgue measure of the heavy atoms (Å^3L). Of the torsional state it is the product of Lebesgue measure of the shift (Å³), Haar measure of mass 1 of the turn, and Lebesgue measure of the torsions (rad). It is the Cartesian measure for
the given bonds and angles, whatever the point that the shift is of (`geometry.torsion_tree`).
"""

from __future__ import annotations

from dataclasses import asdict
from math import pi
from typing import Any, Literal, get_args

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser, Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, Euclidean, Fixed, Torus
from equilibra.errors import ConfigError
from equilibra.nn.ligand import CartesianLigandNetwork, LigandNetwork, LigandNetworkConfig, PocketTrunk
from equilibra.systems.ligand.features import NODE_VOCABULARY, PAIR_VOCABULARY
from equilibra.systems.ligand.system import CONFORMER, POSITIONS, REFERENCE, SHIFT, TORSIONS, TURN

StateKind = Literal["torsional", "cartesian"]
"""What poses of a model are: shift, turn and torsions, or positions of the heavy atoms."""

STATES: tuple[StateKind, ...] = get_args(StateKind)
"""Names of the states, the default first."""

MOVING: dict[StateKind, list[str]] = {"torsional": [SHIFT, TURN, TORSIONS], "cartesian": [POSITIONS]}
"""Fields that move in each of them."""

SHIFT_SCALE = 2.5
"""Standard deviation in Å per axis of middles of ligands about the centre of their boxes."""

SHIFT_SIGMA = 0.04, 10.0
"""Noise range of the shift, in Å."""

TURN_SIGMA = 0.02, 2.5
"""Noise range of the turn, in rad; the largest is uniform within 1e-4 nat."""

TORSION_SIGMA = 0.03, 5.0
"""Noise range of torsions, in rad; the largest is uniform within 1e-5."""

POSITION_SCALE = 4.0
"""Standard deviation in Å per axis of heavy atoms about the middle of the atoms of their pockets."""

POSITION_SIGMA = 0.01, 20.0
"""Noise range of heavy atoms, in Å: from a third of the stiffest bond's amplitude."""

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


def cartesian_process(scale: float = POSITION_SCALE) -> Process:
    """Returns the variance-exploding process of heavy atoms, their prior Gaussian about the middle of the pocket's atoms; nothing is mean-free, since the pocket is the frame.

    Arguments:
        scale: Standard deviation in Å per axis of the heavy atoms over the data.
    """
    schedule = VarianceExploding(sigma_min=POSITION_SIGMA[0], sigma_max=max(POSITION_SIGMA[1], 4.0 * scale))
    return Process(
        {
            REFERENCE: Field(space=Fixed(), schedule=schedule),
            POSITIONS: Field(space=Euclidean(), schedule=schedule, data_scale=scale),
        }
    )


def state_of(process: Process) -> StateKind:
    """Tells what poses of a process are, by its fields.

    Raises:
        ConfigError: If it is no process of ligands.
    """
    for kind, moving in MOVING.items():
        if process.moving == moving:
            return kind
    expected = " or ".join(", ".join(moving) for moving in MOVING.values())
    raise ConfigError(f"process: got the moving fields {', '.join(process.moving)}, expected {expected} of ligands")


def ligand_network_config(state: StateKind = "torsional", **size: Any) -> LigandNetworkConfig:
    """Returns the network's configuration with the ligand's vocabularies and a noise level for each field that moves; keywords change its size."""
    levels = len(MOVING[state])
    return LigandNetworkConfig(
        node_vocabulary=dict(NODE_VOCABULARY), pair_vocabulary=dict(PAIR_VOCABULARY), levels=levels, **size
    )


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
    """Makes the denoiser, of the state that the process is of; with a seed, its initial weights depend on the seed alone.

    Raises:
        ConfigError: If the parametrisation is `energy`, which ligands do not have, or the process is not that of ligands, or the network has another number of noise levels.
    """
    if parametrisation == "energy":
        raise ConfigError("parametrisation: got 'energy', but ligands have no conservative network; use 'edm'")
    state = state_of(process)
    if config.levels != len(process.moving):
        raise ConfigError(
            f"network: got {config.levels} noise levels, expected {len(process.moving)}, one for each field that moves in the {state} state"
        )
    network: type[PocketTrunk] = LigandNetwork if state == "torsional" else CartesianLigandNetwork
    scale = process.fields[process.reference].data_scale

    def make() -> TrainedDenoiser:
        return NetworkDenoiser(network(config, scale=scale), process, parametrisation)

    if seed is None:
        return make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
