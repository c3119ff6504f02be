"""Reference data of a molecule: several independent runs of Langevin dynamics, with replica exchange if wanted, in one resumable folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path, write_arrays, write_text
from equilibra.energies.openmm_system import ForceFieldConfig, make_openmm_system
from equilibra.energies.replica_exchange import DynamicsConfig, ReplicaExchange, block_path, geometric_ladder, run_blocks
from equilibra.errors import CheckpointError, InputError
from equilibra.run_folder import claim
from equilibra.systems.molecule.files import write_frames
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system
from equilibra.units import NM

SCHEMA_VERSION = 1
"""Version of `simulation.json`."""

KIND = "simulation of molecule"
"""Kind of run that a simulation's folder holds."""


@dataclass(frozen=True, kw_only=True)
class SimulationProgress:
    """How far a simulation is: the run, counted from 0, the number of runs, and the simulated time of that run and its goal in ns."""

    run: int
    runs: int
    time_ns: float
    total_ns: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """A finished simulation.

    Attributes:
        folder: Where its files are.
        system: The molecule, its atoms in the order of the files.
        frames: Frames of each run.
        temperatures: The ladder in K; frames are of the first.
        acceptance: For each run, the share of accepted exchanges of each pair of neighbouring temperatures; NaN before any attempt.
        platform: OpenMM platform.
    """

    folder: Path
    system: MoleculeSystem
    frames: tuple[int, ...]
    temperatures: tuple[float, ...]
    acceptance: tuple[tuple[float, ...], ...]
    platform: str

    def trajectory(self, run: int) -> Path:
        """Returns the file of a run's frames."""
        return self.folder / f"trajectory-{run}.dcd"

    def forces(self, run: int) -> Path:
        """Returns the file of a run's forces (F, N, 3) in eV/Å and energies (F,) in eV."""
        return self.folder / f"forces-{run}.npz"


def simulate(
    molecule: Any,
    folder: str | Path,
    *,
    time_ns: float,
    force_field: str = "amber99sbildn-obc",
    temperature: float = 300.0,
    constraints: str = "none",
    time_step: float = 1.0,
    hydrogen_mass: float | None = None,
    friction: float = 1.0,
    frame_interval_ps: float = 1.0,
    runs: int = 2,
    rungs: int = 1,
    top_temperature: float = 600.0,
    platform: str = "auto",
    seed: int = 0,
    block_frames: int = 200,
    progress: Callable[[SimulationProgress], None] = lambda state: None,
) -> Simulation:
    """Simulates a molecule with OpenMM; the same call goes on with an interrupted simulation, and with a longer time extends it.

    Arguments:
        molecule: What `molecule_system` reads, for example `ACE-ALA-NME`, or a system.
        folder: Folder of the simulation. `run-<k>/` keeps the blocks; at the end come `topology.pdb`, `trajectory-<k>.dcd`,
            `forces-<k>.npz` (arrays `forces` in eV/Å and `energies` in eV) and `simulation.json`.
        time_ns: Simulated time of each run at the lowest temperature, in ns; rounded up to whole blocks.
        force_field: A name of `FORCE_FIELDS`.
        temperature: Temperature of the frames, in K.
        constraints: `none` or `h-bonds`.
        time_step: Integration step, in fs.
        hydrogen_mass: Mass of hydrogens in u, or None to leave masses alone.
        friction: Langevin friction, in 1/ps.
        frame_interval_ps: Time between frames and between exchange attempts, in ps.
        runs: Independent runs, with different noise; more can be added later.
        rungs: Temperatures of the replica exchange; 1 for plain dynamics.
        top_temperature: The highest of them, in K.
        platform: OpenMM platform; `auto` takes the fastest on this machine, and keeps to it when a simulation goes on.
        seed: Seed of all runs.
        block_frames: Frames of a block, the unit that is kept when a simulation is interrupted.
        progress: Called after each block.

    Raises:
        InputError: If an option is out of range, the molecule cannot be read, or the force field cannot describe it.
        CheckpointError: If the folder holds another simulation.
        DivergenceError: If the dynamics diverges; the blocks before it are kept.
    """
    folder = Path(folder)
    for name, value in (("time_ns", time_ns), ("runs", runs), ("rungs", rungs)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name}: got {value}, expected a positive number")
    if hydrogen_mass is not None and not 1.0 <= hydrogen_mass <= 4.0:
        raise InputError(f"hydrogen_mass: got {hydrogen_mass} u, expected 1 to 4; a methyl's carbon has no more to give")
    if seed < 0:
        raise InputError(f"seed: got {seed}, expected 0 or a larger whole number")
    field = ForceFieldConfig(name=force_field, constraints=constraints, hydrogen_mass=hydrogen_mass)  # type: ignore[arg-type]
    config = DynamicsConfig(
        temperature=temperature,
        ladder=geometric_ladder(temperature, top_temperature, rungs) if rungs > 1 else (),
        time_step=time_step,
        friction=friction,
        frame_interval=frame_interval_ps,
        block_frames=block_frames,
        platform=platform,
    )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"'{folder}' is a file, expected a folder")
    system = molecule if isinstance(molecule, MoleculeSystem) else molecule_system(molecule)
    openmm_system = make_openmm_system(system.topology.to_openmm(), field)
    start = system.reference / NM
    dynamics = {key: value for key, value in asdict(config).items() if key != "platform"}
    identity = {
        "kind": KIND,
        "name": system.name,
        "system": system.digest,
        "force_field": field.name,
        "constraints": field.constraints,
        "hydrogen_mass": field.hydrogen_mass,
        **dynamics,
        "seed": seed,
    }
    chosen = _kept_platform(folder) if platform == "auto" else platform
    if chosen is None:
        # settled once: another platform rounds differently, and a resumed run would not repeat an uninterrupted one
        chosen = ReplicaExchange(openmm_system, config, seed=seed).platform(start)
    config = DynamicsConfig(**{**asdict(config), "platform": chosen})
    claim(folder, {**identity, "platform": chosen})
    start = _kept_start(folder, start)
    block_ns = block_frames * config.steps_per_frame * time_step * 1e-6
    blocks = math.ceil(round(time_ns / block_ns, 6))
    for run in range(runs):
        engine = ReplicaExchange(openmm_system, config, seed=_run_seed(seed, run))

        def report(done: int, total: int, run: int = run) -> None:
            progress(SimulationProgress(run=run, runs=runs, time_ns=done * block_ns, total_ns=total * block_ns))

        run_blocks(engine, start, blocks=blocks, folder=folder / f"run-{run}", progress=report)
    return _finish(folder, system, config, {**identity, "platform": chosen}, runs)


def _run_seed(seed: int, run: int) -> int:
    return int(np.random.SeedSequence([seed, run]).generate_state(1)[0] >> 1)


def _kept_platform(folder: Path) -> str | None:
    """Returns the platform of the simulation in a folder, if there is one; `claim` judges whether it is this one."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("platform")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _kept_start(folder: Path, start: np.ndarray) -> np.ndarray:
    """Returns the positions that all runs start from; they are kept, since another release may build a molecule a little differently."""
    path = folder / "start.npy"
    if not path.exists():
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, start)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"'{path}' is damaged ({error}); use another folder") from error
    if found.shape != start.shape:
        raise CheckpointError(f"'{path}' has shape {found.shape}, expected {start.shape}; use another folder")
    return np.asarray(found, dtype=np.float64)


def _finish(folder: Path, system: MoleculeSystem, config: DynamicsConfig, identity: dict[str, Any], runs: int) -> Simulation:
    """Joins the blocks of each run, and describes them all; files that are up to date are left alone."""
    while block_path(folder / f"run-{runs}", 0).exists():
        runs += 1  # of an earlier call that wanted more
    counts, acceptance = [], []
    for run in range(runs):
        blocks = _blocks(folder / f"run-{run}")
        attempts = np.sum([block["attempts"] for block in blocks], axis=0)
        accepted = np.sum([block["accepted"] for block in blocks], axis=0)
        with np.errstate(invalid="ignore"):
            acceptance.append(tuple(float(share) for share in accepted / attempts))
        counts.append(sum(len(block["energies"]) for block in blocks))
    simulation = Simulation(
        folder=folder,
        system=system,
        frames=tuple(counts),
        temperatures=(config.temperature, *config.ladder),
        acceptance=tuple(acceptance),
        platform=config.platform,
    )
    description = {
        "schema_version": SCHEMA_VERSION,
        **identity,
        "temperatures": list(simulation.temperatures),
        "frames": counts,
        "acceptance": [[round(share, 4) if math.isfinite(share) else None for share in row] for row in acceptance],
        "trajectories": [simulation.trajectory(run).name for run in range(runs)],
        "forces": [simulation.forces(run).name for run in range(runs)],
    }
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    record = folder / "simulation.json"
    paths = [simulation.trajectory(run) for run in range(runs)] + [simulation.forces(run) for run in range(runs)]
    if record.is_file() and record.read_text(encoding="utf-8") == text and all(path.is_file() for path in paths):
        return simulation
    record.unlink(missing_ok=True)
    for run in range(runs):
        blocks = _blocks(folder / f"run-{run}")
        positions = np.concatenate([block["positions"] for block in blocks])
        if run == 0:
            write_frames(folder / "topology.pdb", positions[:1], system)
        write_frames(simulation.trajectory(run), positions, system)
        joined = {name: np.concatenate([block[name] for block in blocks]) for name in ("forces", "energies")}
        write_arrays(simulation.forces(run), joined)
    write_text(record, text)
    return simulation


def _blocks(folder: Path) -> list[dict[str, np.ndarray]]:
    blocks: list[dict[str, np.ndarray]] = []
    while (path := block_path(folder, len(blocks))).exists():
        try:
            with np.load(path, allow_pickle=False) as file:
                blocks.append({name: file[name] for name in ("positions", "forces", "energies", "attempts", "accepted")})
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"'{path}' is damaged ({error}); delete it and the blocks after it, and repeat the command"
            ) from error
    return blocks
