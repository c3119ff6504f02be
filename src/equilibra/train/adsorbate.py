"""Training of adsorbates from trajectories: frames of molecular dynamics or relaxations, as ASE reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.data.conformations import ConformationData, Conformations
from equilibra.errors import ConfigError, InputError
from equilibra.nn.surface import POSITIONS
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.adsorbate.domain import elements, identifier
from equilibra.systems.adsorbate.lmdb_files import SUFFIXES, read_lmdb
from equilibra.systems.adsorbate.network import adsorbate_denoiser, adsorbate_network_config, adsorbate_process
from equilibra.systems.adsorbate.species import Adsorbate, molecules_of
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.adsorbate_energy import DEFAULT, TRANSFERABLE
from equilibra.train.config import FINE_TUNING, TrainConfig
from equilibra.train.fit import check_elements, fit, start_choices, starting_model, tuned, warn_left_out, weights_digest
from equilibra.train.run import Progress
from equilibra.units import thermal_energy

TUNING = dataclasses.replace(
    FINE_TUNING, noise_median=DEFAULT.noise_median, noise_width=DEFAULT.noise_width, precision=DEFAULT.precision, compile=False
)
"""How models of adsorbates are trained further by default."""

_SUFFIXES = (".traj", ".extxyz", ".xyz", *SUFFIXES)
_STILL = 1e-3  # Å by which atoms of a slab that is held may differ between frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdsorbateEntry:
    """One set of trajectories in a training.

    Attributes:
        data: A file of frames that ASE reads (traj, extxyz), each of one slab with an adsorbate on it, told by tags (see `read_slab`); a database in the form of the Open Catalyst
            data (lmdb, aselmdb) with any number of these; or a folder of such files.
        weight: Share of the samples that are drawn from it, relative to the other sets.

    Raises:
        ConfigError: If the weight is not positive.
    """

    data: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise ConfigError(f"weight: got {self.weight}, expected a positive number")


def read_trajectories(path: Path, temperature: float | None) -> list[Conformations]:
    """Reads the frames of a file, those of one slab together.

    A slab that moves between frames is told to the network as it is in each frame: the adsorbate's distribution is conditional on it. Of a database, trajectories that cannot be
    used are left out; a warning names the first of them.

    Arguments:
        path: File of frames of one system, or database of many (`read_lmdb`).
        temperature: Temperature of frames at equilibrium, in K, by which their forces are reduced; None where there is none, as of relaxations.

    Raises:
        InputError: If the file cannot be read, or a frame has no adsorbate that tags tell.
        MissingDependencyError: If a database needs a package that is not installed.
    """
    if path.suffix.lower() in SUFFIXES:
        return _of_database(path, temperature)
    import ase.io

    try:
        frames: Any = ase.io.read(path, index=":")
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(f"'{path}' cannot be read: {type(error).__name__}: {error}") from error
    return _conformations(frames, f"'{path}'", path.stem, temperature)


def _of_database(path: Path, temperature: float | None) -> list[Conformations]:
    problems: list[InputError] = []
    found: list[Conformations] = []
    for name, frames in read_lmdb(path).items():
        try:
            found += _conformations(frames, name, name, temperature)
        except InputError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    warn_left_out(problems, "trajectories")
    return found


def _conformations(frames: Sequence[Any], where: str, called: str, temperature: float | None) -> list[Conformations]:
    """Returns the frames of one trajectory, those of one slab together."""
    from equilibra.systems.adsorbate.slab import adsorbed_atoms, read_slab

    groups: list[tuple[AdsorbateSystem, list[np.ndarray], list[np.ndarray | None]]] = []
    order: list[int] = []
    species: list[Adsorbate] = []
    for index, atoms in enumerate(frames):
        slab, on_it = read_slab(atoms)
        if on_it is None:
            raise InputError(
                f"{where}: frame {index} has no adsorbate that its tags tell (2 for adsorbed atoms on a surface of 1)"
            )
        if not species:
            # the molecules of the last frame are the ones that were meant: relaxations may start from anything
            last = read_slab(frames[-1])[1]
            found = [] if last is None else molecules_of(last, str(last.symbols))
            species, order = [item for item, _ in found], [atom for _, members in found for atom in members]
        if sorted(order) != list(range(len(on_it))):
            raise InputError(
                f"{where}: frame {index} has {len(on_it)} adsorbed atoms, and the last one {len(order)}; expected one system"
            )
        known = next((group for group in groups if _same_slab(group[0].slab, slab)), None)
        if known is None:
            name = f"{','.join(item.name for item in species)}@{called}"
            known = (AdsorbateSystem.of(slab, species, name=name, whole=True), [], [])
            groups.append(known)
        known[1].append(on_it.positions[order])
        force = None if atoms.calc is None or temperature is None else _forces(atoms)
        known[2].append(None if force is None else force[adsorbed_atoms(atoms)][order])
    made = []
    for system, positions, forces in groups:
        x = torch.tensor(np.stack(positions) - np.array([0.0, 0.0, system.level])).float()
        scores = None
        there = [force for force in forces if force is not None]
        if temperature is not None and len(there) == len(forces):
            scores = torch.tensor(np.stack(there) / thermal_energy(temperature)).float()
        made.append(Conformations(system, {POSITIONS: x}, None if scores is None else {POSITIONS: scores}))
    return made


def train_adsorbate(
    entries: Sequence[AdsorbateEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "adsorbate",
    temperature: float | None = None,
    network: dict[str, int] | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on trajectories, from random weights; the same call goes on with an interrupted run.

    Arguments:
        entries: Sets of trajectories.
        folder: Run folder; the model is written to `folder/model`.
        config: How to train; networks of adsorbates are never compiled.
        name: Name of the model.
        temperature: Temperature of the frames in K, if they are at equilibrium; their forces are then learned from as well.
        network: Changes of the network's size, by the names of `SurfaceNetworkConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or DEFAULT, compile=False)
    data, own = _read(entries, temperature)
    network_config = adsorbate_network_config(**(network or {}))
    model = Model(
        name=name,
        domain="adsorbate",
        denoiser=adsorbate_denoiser(adsorbate_process(), network_config, seed=config.seed),
        network=dataclasses.asdict(network_config),
        sampler=sampler or SamplerConfig(grid=GridConfig(steps=20, spacing="log", end="flow")),
        scope=_scope(own, temperature),
        card=card or Card(summary=f"Trained on {data.frames} frames of {len(own)} slab(s) with adsorbates."),
    )
    return fit(model, data, Path(folder), config, progress, weights=weights_digest(data))


def fine_tune_adsorbate(
    model: Model,
    entries: Sequence[AdsorbateEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str | None = None,
    temperature: float | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model further on trajectories; the given model is left as it is.

    Arguments:
        model: Where to start; of a model of several temperatures, what it is at that of the data.
        entries: Sets of trajectories.
        folder: Run folder; the new model is written to `folder/model`.
        config: How to train; by default a tenth of a full training at a third of its learning rate.
        name: Name of the new model; by default that of the old one with `-tuned`.
        temperature: Temperature of the frames in K, if they are at equilibrium.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, have an element that the model has never seen, or another temperature than it knows.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or TUNING, compile=False)
    start = starting_model(model, "adsorbate", temperature)
    data, own = _read(entries, temperature)
    check_elements(model, elements(own))
    copy = tuned(
        start,
        name=name,
        scope=_scope(own, start.scope.temperature if temperature is None else temperature),
        card=Card(
            summary=f"{model.name}, trained further on {data.frames} frames of {len(own)} slab(s) with adsorbates.",
            not_good_for=f"Anything but the systems of its training; those of '{model.name}' may have been forgotten.",
        ),
    )
    choices = start_choices(model, start)
    return fit(copy, data, Path(folder), config, progress, start=model.sha256, weights=weights_digest(data), **choices)


def _read(entries: Sequence[AdsorbateEntry], temperature: float | None) -> tuple[ConformationData, list[AdsorbateSystem]]:
    """Reads a mix of trajectories as training batches, and returns the systems in it."""
    conformations: list[Conformations] = []
    weights: list[float] = []
    for entry in entries:
        found = [item for path in _files(entry.data) for item in read_trajectories(path, temperature)]
        total = sum(len(item) for item in found)
        conformations += found
        weights += [entry.weight * len(item) / total for item in found]
    data = ConformationData(conformations, bucket=4, weights=weights)
    systems = {entry.system.digest: entry.system for entry in data.entries}.values()
    return data, [system for system in systems if isinstance(system, AdsorbateSystem)]


def _scope(systems: Sequence[AdsorbateSystem], temperature: float | None) -> Scope:
    return Scope(
        systems=tuple(sorted({identifier(system) for system in systems})),
        elements=elements(systems),
        temperature=temperature,
        transferable=len(systems) > TRANSFERABLE,
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise InputError(f"'{path}': there is no trajectory in it; expected files that end with {', '.join(_SUFFIXES)}")
    return found


def _same_slab(one: Any, other: Any) -> bool:
    return (
        len(one) == len(other)
        and bool((one.numbers == other.numbers).all())
        and float(np.abs(one.positions - other.positions).max()) < _STILL
        and float(np.abs(np.asarray(one.cell) - np.asarray(other.cell)).max()) < _STILL
    )


def _forces(atoms: Any) -> np.ndarray | None:
    try:
        return np.asarray(atoms.get_forces(apply_constraint=False))
    except Exception:  # frames with an energy alone have no forces, and every calculator says so in its own way
        return None
