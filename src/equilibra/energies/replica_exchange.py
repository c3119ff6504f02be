"""Reference molecular dynamics with OpenMM: Langevin dynamics with temperature replica exchange, in resumable blocks.

Neighbouring rungs of the ladder T_1 < ... < T_K swap their configurations with the Metropolis probability

    P = min(1, exp[(1/kT_i - 1/kT_j)(U_i - U_j)]),

which leaves the product of the K canonical distributions invariant (Sugita & Okamoto, 1999). Frames are kept at the lowest
temperature. One rung is plain Langevin dynamics.

A run is a chain of blocks. A block is a deterministic function of the state at its start and of (seed, run, block): it begins with
freshly seeded integrators. So a run that is killed goes on with the last complete block and gives the frames of an uninterrupted run.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equilibra.atomic import write_arrays
from equilibra.errors import DivergenceError, InputError
from equilibra.units import BOLTZMANN_EV, KJ_PER_MOL_EV, KJ_PER_MOL_NM_EV_A, NM

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """How to integrate.

    Attributes:
        temperature: Temperature of the kept frames, in K.
        ladder: Temperatures of the other rungs in K, ascending, each above `temperature`. Empty for plain dynamics.
        time_step: Integration step in fs.
        friction: Langevin friction in 1/ps.
        frame_interval: Time between kept frames, and between exchange attempts, in ps.
        block_frames: Frames of a block, the unit of work that is written at once.
        platform: OpenMM platform, or `auto` for the faster of Reference and CPU on this system.
    """

    temperature: float = 300.0
    ladder: tuple[float, ...] = ()
    time_step: float = 1.0
    friction: float = 1.0
    frame_interval: float = 1.0
    block_frames: int = 200
    platform: str = "auto"

    def __post_init__(self) -> None:
        for name in ("temperature", "time_step", "friction", "frame_interval", "block_frames"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: got {getattr(self, name)}, expected a positive number")
        rungs = (self.temperature, *self.ladder)
        if any(high <= low for low, high in itertools.pairwise(rungs)):
            raise InputError(f"ladder: got {self.ladder} above {self.temperature} K, expected ascending temperatures")
        if self.platform not in ("auto", "Reference", "CPU", "CUDA", "OpenCL"):
            raise InputError(f"platform: got '{self.platform}', expected auto, Reference, CPU, CUDA or OpenCL")

    @property
    def steps_per_frame(self) -> int:
        """Integration steps between two frames."""
        return max(1, round(self.frame_interval * 1000.0 / self.time_step))


def geometric_ladder(low: float, high: float, rungs: int) -> tuple[float, ...]:
    """Returns the `rungs` - 1 temperatures above `low`, in geometric progression up to `high`, in K."""
    if rungs < 1 or high <= low:
        raise InputError(
            f"replica exchange: got {rungs} rungs from {low} to {high} K, expected at least 1 rung and a higher top"
        )
    ratio = (high / low) ** (1.0 / max(rungs - 1, 1))
    return tuple(round(low * ratio**k, 2) for k in range(1, rungs))


@dataclass(frozen=True)
class ReplicaState:
    """Configurations (K, N, 3) in nm, velocities in nm/ps, and the rung of each replica: what one block hands to the next."""

    positions: FloatArray
    velocities: FloatArray
    rungs: NDArray[np.int64]


class ReplicaExchange:
    """Replica-exchange Langevin dynamics of one OpenMM system.

    Arguments:
        system: The OpenMM `System`.
        config: How to integrate.
        seed: Seed of the whole run; a block's noise depends on (seed, block) alone.
    """

    def __init__(self, system: Any, config: DynamicsConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._system = system
        self._temperatures = np.array((config.temperature, *config.ladder))
        self._platform_name = config.platform

    def _context(self, temperature: float, seed: int, platform_name: str) -> Any:
        import openmm
        from openmm import unit

        integrator = openmm.LangevinMiddleIntegrator(
            float(temperature) * unit.kelvin,
            self.config.friction / unit.picosecond,
            self.config.time_step * unit.femtosecond,
        )
        integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName(platform_name)
        properties = {"Threads": "1", "DeterministicForces": "true"} if platform_name == "CPU" else {}
        return openmm.Context(self._system, integrator, platform, properties)

    def platform(self, positions: FloatArray) -> str:
        """Returns the platform in use; `auto` is settled by timing 200 steps on each candidate."""
        if self._platform_name == "auto":
            durations = {}
            for name in ("Reference", "CPU"):
                context = self._context(self.config.temperature, 1, name)
                context.setPositions(positions)
                context.getIntegrator().step(20)
                start = time.perf_counter()
                context.getIntegrator().step(200)
                durations[name] = time.perf_counter() - start
            self._platform_name = min(durations, key=durations.__getitem__)
        return self._platform_name

    def start(self, positions: FloatArray, *, equilibration: float = 20.0) -> ReplicaState:
        """Minimises the energy and equilibrates every rung for `equilibration` ps, from positions (N, 3) in nm."""
        import openmm

        rng = np.random.default_rng([self.seed, 2**31])
        rungs = np.arange(len(self._temperatures))
        final = []
        for temperature in self._temperatures:
            context = self._context(temperature, _openmm_seed(rng), self.platform(positions))
            context.setPositions(positions)
            openmm.LocalEnergyMinimizer.minimize(context)
            context.setVelocitiesToTemperature(float(temperature), _openmm_seed(rng))
            context.getIntegrator().step(round(equilibration * 1000.0 / self.config.time_step))
            final.append(_phase_point(context))
        return ReplicaState(np.stack([x for x, _ in final]), np.stack([v for _, v in final]), rungs)

    def block(self, state: ReplicaState, index: int) -> tuple[dict[str, NDArray[Any]], ReplicaState]:
        """Runs one block.

        Returns:
            Arrays `positions` (F, N, 3) in Å, `forces` (F, N, 3) in eV/Å, `energies` (F,) in eV, `replica` (F,) the replica that
            visited the lowest rung, `attempts` and `accepted` (K-1,) per pair of rungs; and the state for the next block.

        Raises:
            DivergenceError: If a coordinate left the finite numbers.
        """
        from openmm import unit

        config = self.config
        rng = np.random.default_rng([self.seed, index])
        contexts = []
        for replica, rung in enumerate(state.rungs):
            context = self._context(self._temperatures[rung], _openmm_seed(rng), self.platform(state.positions[0]))
            context.setPositions(state.positions[replica])
            context.setVelocities(state.velocities[replica])
            contexts.append(context)
        rungs = state.rungs.copy()
        pairs = max(len(rungs) - 1, 0)
        attempts, accepted = np.zeros(pairs, dtype=np.int64), np.zeros(pairs, dtype=np.int64)
        frames, forces, energies, replicas = [], [], [], []
        kj_mol, kj_mol_nm = unit.kilojoule_per_mole, unit.kilojoule_per_mole / unit.nanometer
        for frame in range(config.block_frames):
            potential = np.empty(len(contexts))
            for replica, context in enumerate(contexts):
                context.getIntegrator().step(config.steps_per_frame)
                potential[replica] = context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(kj_mol) * KJ_PER_MOL_EV
            if not np.isfinite(potential).all():
                raise DivergenceError(
                    f"the dynamics diverged in block {index} with a time step of {config.time_step} fs; use a smaller --time-step"
                )
            lowest = int(np.flatnonzero(rungs == 0)[0])
            snapshot = contexts[lowest].getState(getPositions=True, getForces=True)
            frames.append(snapshot.getPositions(asNumpy=True).value_in_unit(unit.nanometer) * NM)
            forces.append(snapshot.getForces(asNumpy=True).value_in_unit(kj_mol_nm) * KJ_PER_MOL_NM_EV_A)
            energies.append(potential[lowest])
            replicas.append(lowest)
            for low in range(frame % 2, pairs, 2):
                attempts[low] += 1
                i, j = int(np.flatnonzero(rungs == low)[0]), int(np.flatnonzero(rungs == low + 1)[0])
                betas = 1.0 / (BOLTZMANN_EV * self._temperatures[[low, low + 1]])
                if np.log(rng.random()) < (betas[0] - betas[1]) * (potential[i] - potential[j]):
                    accepted[low] += 1
                    rungs[i], rungs[j] = low + 1, low
                    self._retarget(contexts[i], self._temperatures[low], self._temperatures[low + 1])
                    self._retarget(contexts[j], self._temperatures[low + 1], self._temperatures[low])
        points = [_phase_point(context) for context in contexts]
        arrays = {
            "positions": np.asarray(frames, dtype=np.float32),
            "forces": np.asarray(forces, dtype=np.float32),
            "energies": np.asarray(energies),
            "replica": np.asarray(replicas, dtype=np.int64),
            "attempts": attempts,
            "accepted": accepted,
        }
        return arrays, ReplicaState(np.stack([x for x, _ in points]), np.stack([v for _, v in points]), rungs)

    @staticmethod
    def _retarget(context: Any, old: float, new: float) -> None:
        context.getIntegrator().setTemperature(float(new))
        velocities = context.getState(getVelocities=True).getVelocities(asNumpy=True)
        context.setVelocities(velocities * float(np.sqrt(new / old)))


def _openmm_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 2**31 - 1))


def _phase_point(context: Any) -> tuple[FloatArray, FloatArray]:
    from openmm import unit

    state = context.getState(getPositions=True, getVelocities=True)
    return (
        np.asarray(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)),
        np.asarray(state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)),
    )


def run_blocks(
    engine: ReplicaExchange,
    start: FloatArray,
    *,
    blocks: int,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Runs the missing blocks of a run, from positions (N, 3) in nm, into `folder/block-00000.npz`, ...

    Each block file holds its frames and the state that the next block starts from; it is written to a temporary name and renamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    while block_path(folder, done).exists():
        done += 1
    if done >= blocks:
        progress(blocks, blocks)
        return
    if done == 0:
        state = engine.start(start)
    else:
        with np.load(block_path(folder, done - 1), allow_pickle=False) as file:
            state = ReplicaState(file["next_positions"], file["next_velocities"], file["next_rungs"])
    for index in range(done, blocks):
        arrays, state = engine.block(state, index)
        arrays |= {"next_positions": state.positions, "next_velocities": state.velocities, "next_rungs": state.rungs}
        write_arrays(block_path(folder, index), arrays)
        progress(index + 1, blocks)


def block_path(folder: Path, index: int) -> Path:
    """Returns the file of block `index`."""
    return folder / f"block-{index:05d}.npz"
