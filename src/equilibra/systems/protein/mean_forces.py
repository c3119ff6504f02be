r"""Mean forces on the frames of a protein: the gradient of their potential of mean force, from short dynamics of all its atoms.

From backbones come all-atom structures, and from these short Langevin dynamics in implicit solvent. Each of its snapshots gives frames; the forces and
torques on them are averaged over a short run in which the frames are held and everything else moves (`held_frames`):

.. math:: s_{trans} = \langle F \rangle / kT, \qquad s_{rot} = \langle M \rangle / kT

with a standard error. An average of one is the force on the rigid residues of the snapshot itself, the label of eqs. (A27)-(A29) of Zheng et al. (2023),
https://arxiv.org/abs/2306.05445: right on average, and noisy, as peptide bonds are stiff.

Snapshots are samples of short dynamics about the given backbones: points at which forces are known, no equilibrium ensemble. What is slow stays where it
is, in the average too: a side chain keeps its rotamer, and the standard error cannot know that there are others. Chains have charged ends, and cysteines
are reduced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from equilibra.energies.openmm_system import ForceFieldConfig, Platform, make_context, make_openmm_system
from equilibra.errors import ConfigError, DivergenceError, EquilibraError, InputError
from equilibra.geometry.backbone import backbone_from_frames
from equilibra.systems.protein.all_atom import ENGINES, side_chain_engine
from equilibra.systems.protein.forces import frame_forces
from equilibra.systems.protein.held_frames import HeldFrames
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray, IntArray, all_atom_protein
from equilibra.systems.protein.relax import RelaxConfig, Relaxer
from equilibra.systems.protein.system import ProteinSystem
from equilibra.thermo.statistics import contiguous_blocks
from equilibra.units import NM

HYDROGEN_MASS = 3.0
"""Mass of hydrogens in u, which averages over positions do not depend on, for time steps of 2 fs without constraints."""

BLOCKS = 10
"""Most blocks that a standard error compares."""


@dataclass(frozen=True, kw_only=True)
class FrameForceConfig:
    """Where mean forces on frames come from.

    Attributes:
        force_field: A key of `FORCE_FIELDS`.
        temperature: Temperature in K.
        snapshots: Snapshots of each protein.
        average: Conformations that the force of a snapshot is averaged over, the snapshot among them; 1 for its own, instantaneous force.
        starts: Most conformations of a protein, evenly spaced among the given ones, that dynamics start from; the snapshots are shared out evenly.
        interval: Time between snapshots, in ps.
        spacing: Time between the averaged conformations, in ps.
        equilibration: Time before the first snapshot of each start, in ps.
        time_step: Time step in fs; bonds are flexible, and hydrogens have the mass `HYDROGEN_MASS`.
        friction: Friction in 1/ps.
        side_chains: A key of `ENGINES`.
        platform: OpenMM platform. In single precision, as on the CPU platform, forces have about four digits.
        seed: Seed of the dynamics.

    Raises:
        ConfigError: If a number is out of range.
        InputError: If there is no such force field or side-chain engine.
    """

    force_field: str = "amber14-obc2"
    temperature: float = 300.0
    snapshots: int = 100
    average: int = 50
    starts: int = 10
    interval: float = 1.0
    spacing: float = 0.02
    equilibration: float = 2.0
    time_step: float = 2.0
    friction: float = 1.0
    side_chains: str = "pdbfixer"
    platform: Platform = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        ForceFieldConfig(name=self.force_field)
        if self.side_chains not in ENGINES:
            raise InputError(f"side_chains: got '{self.side_chains}', expected one of {', '.join(sorted(ENGINES))}")
        if self.platform not in get_args(Platform):
            raise ConfigError(f"platform: got '{self.platform}', expected one of {', '.join(get_args(Platform))}")
        for name in ("snapshots", "average", "starts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least 1")
        for name in ("temperature", "interval", "spacing", "time_step"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected a positive number")
        for name in ("equilibration", "friction", "seed"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected a number that is not negative")

    def steps(self, time: float) -> int:
        """Returns the time steps, one at least, of a time in ps."""
        return max(1, round(1e3 * time / self.time_step))


class UnbuiltError(EquilibraError):
    """A backbone could not be given all its atoms; the message says why."""


class FrameForce(NamedTuple):
    """Mean force (L, 3) in eV/Å and torque (L, 3) in eV/rad on each frame, global, with their standard errors: NaN for an average of one."""

    force: FloatArray
    torque: FloatArray
    force_error: FloatArray
    torque_error: FloatArray


def mean_frame_force(samples: Iterable[tuple[FloatArray, FloatArray]], residue: IntArray, ca: IntArray) -> FrameForce:
    """Averages the force and the torque on rigid residues over conformations with the same frames.

    The standard error is that of the means of up to `BLOCKS` contiguous blocks. Of motions slower than a block it knows too little; forces of stiff bonds
    oscillate, and in blocks shorter than that it is too large.

    Arguments:
        samples: Positions of all atoms (A, 3) in Å with the forces on them (A, 3) in eV/Å, in the order of time.
        residue: The residue of each atom (A,).
        ca: The C-alpha of each residue (L,), about which residues turn.
    """
    which, series = torch.from_numpy(np.asarray(residue)), []
    for positions, forces in samples:
        x = torch.from_numpy(positions)
        both = frame_forces(x, torch.from_numpy(forces), which, x[torch.from_numpy(np.asarray(ca))])
        series.append(np.concatenate([part.numpy() for part in both], axis=1))
    values = np.stack(series)
    blocks = contiguous_blocks([len(values)], -(-len(values) // min(len(values), BLOCKS)))
    means, sizes = np.stack([values[block].mean(0) for block in blocks]), np.array([len(block) for block in blocks])
    mean = values.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # blocks of uneven size: the last may be shorter
        spread = (sizes[:, None, None] * (means - mean) ** 2).sum(0) / sizes.sum()
        error = np.sqrt(spread / np.float64(len(blocks) - 1))
    return FrameForce(mean[:, :3], mean[:, 3:], error[:, :3], error[:, 3:])


class FrameForceRun:
    """Snapshots of one protein and their mean forces, one start after the other.

    Arguments:
        system: The protein.
        config: How.

    Raises:
        InputError: If the protein has no all-atom form, or the force field cannot describe it.
    """

    def __init__(self, system: ProteinSystem, config: FrameForceConfig) -> None:
        self.config = config
        self.protein: AllAtomProtein = all_atom_protein(system)
        try:
            self.openmm_system = make_openmm_system(
                self.protein.topology, ForceFieldConfig(name=config.force_field, hydrogen_mass=HYDROGEN_MASS)
            )
        except InputError as error:
            raise InputError(f"{system.name}: {error}") from error
        self._engine = side_chain_engine(config.side_chains, self.protein)
        self._breaks = torch.from_numpy(np.array(system.breaks))

    @cached_property
    def _relaxer(self) -> Relaxer:
        return Relaxer(self.protein, RelaxConfig(force_field=self.config.force_field, platform=self.config.platform))

    def built(self, trans: FloatArray, rot: FloatArray, *, seed: int = 0) -> FloatArray:
        """Returns relaxed positions of all atoms (A, 3) in Å on one backbone of frames (L, 3) and (L, 3, 3).

        Raises:
            UnbuiltError: If that cannot be done, or the result is another molecule: with a stereocentre of the wrong hand, or a side chain through a ring.
        """
        backbone = backbone_from_frames(torch.from_numpy(trans).double(), torch.from_numpy(rot).double(), self._breaks)
        try:
            built = self._engine(backbone.numpy(), seed=seed)
        except Exception as error:
            # engines raise whatever their own code stumbles over
            raise UnbuiltError(f"{self._engine.name} failed: {' '.join(str(error).split())}") from error
        done = self._relaxer(built)
        if done.status == "failed" or done.inverted or done.stretched:
            raise UnbuiltError(done.reason)
        return done.positions

    def snapshots(self, positions: FloatArray, count: int, *, seed: int) -> Iterator[tuple[FloatArray, FrameForce, int]]:
        """Yields snapshots of the dynamics that starts from one structure.

        Arguments:
            positions: All atoms (A, 3), in Å.
            count: Number of snapshots.
            seed: Seed of the dynamics, above 0.

        Yields:
            Positions of all atoms (A, 3) in Å, the mean force on their frames, and the energy calls of this snapshot.

        Raises:
            DivergenceError: If the dynamics diverges.
        """
        import openmm

        config, protein = self.config, self.protein
        step = 1e-3 * config.time_step
        integrator = openmm.LangevinMiddleIntegrator(config.temperature, config.friction, step)
        integrator.setRandomNumberSeed(seed)
        context = make_context(self.openmm_system, integrator, config.platform)
        held = HeldFrames(
            self.openmm_system,
            protein.backbone,
            temperature=config.temperature,
            time_step=config.time_step,
            friction=config.friction,
            platform=config.platform,
            seed=seed,
        )
        context.setPositions(positions / NM)
        context.setVelocitiesToTemperature(config.temperature, seed)
        for index in range(count):
            steps = config.steps(config.interval if index else max(config.equilibration, config.interval))
            integrator.step(steps)
            now = self._positions(context)
            before = held.calls
            samples = held.samples(now, config.average, every=config.steps(config.spacing))
            force = mean_frame_force(samples, protein.residue, protein.backbone[:, 1])
            yield now, force, steps + held.calls - before

    @staticmethod
    def _positions(context: Any) -> FloatArray:
        from openmm import unit

        x = np.array(context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)) * NM
        if not np.isfinite(x).all():
            raise DivergenceError("dynamics left the finite numbers; use a smaller time step")
        return x
