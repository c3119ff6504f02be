"""Ensembles of one or several runs: a folder of samples, a folder of a simulation, or trajectories with their topology."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.molecule.domain import identifier
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.files import read_frames
from equilibra.systems.molecule.load import load_ensemble
from equilibra.systems.molecule.simulate import KIND
from equilibra.systems.molecule.simulate import SCHEMA_VERSION as SIMULATION_VERSION
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system

Source = str | Path | MoleculeEnsemble | Sequence[MoleculeEnsemble]
"""What `load_runs` takes."""


def load_runs(source: Source, topology: str | Path | None = None) -> list[MoleculeEnsemble]:
    """Reads an ensemble as its independent runs.

    Arguments:
        source: A folder that `equilibra sample` or `equilibra simulate` wrote, a file of frames, `FILE:TOPOLOGY` in one text, or ensembles.
        topology: PDB or SDF file for frames that come without atoms.

    Returns:
        One ensemble for samples or a file, and one for each run of a simulation, all of one molecule.

    Raises:
        InputError: If something is missing, malformed or unfinished.
    """
    if isinstance(source, MoleculeEnsemble):
        return [source]
    if not isinstance(source, str | Path):
        ensembles = list(source)
        if not ensembles or not all(isinstance(ensemble, MoleculeEnsemble) for ensemble in ensembles):
            raise InputError("runs: expected a folder, a file, or a list of at least one ensemble")
        return ensembles
    path = Path(source)
    if isinstance(source, str) and not path.exists() and ":" in source and topology is None:
        # the last colon: a drive's letter comes first
        frames, _, names = source.rpartition(":")
        path, topology = Path(frames), names
    record = path / "run.json"
    if (path / "simulation.json").is_file():
        return _simulation(path)
    if record.is_file() and not (path / "ensemble.json").is_file():
        kind = _read_json(record).get("kind")
        verb = "simulate" if kind == KIND else "sample"
        raise InputError(f"'{path}' holds an unfinished run; repeat its `equilibra {verb}` command to finish it")
    return [load_ensemble(path, topology)]


def same_system(systems: Sequence[MoleculeSystem]) -> MoleculeSystem:
    """Returns the first of some systems, which must all be the same.

    Raises:
        InputError: If they are different molecules or stereoisomers, or have their atoms in different orders.
    """
    first = systems[0]
    for other in systems[1:]:
        if other == first:
            continue
        names = f"'{first.name}' and '{other.name}'"
        one, two = identifier(first), identifier(other)
        if one == two and first.atoms == other.atoms:
            raise InputError(f"{names} are the same molecule with its atoms in a different order; write both with one topology")
        raise InputError(
            f"{names} are different molecules ({one} and {two}); expected two sets of conformations of one molecule"
        )
    return first


def join_runs(runs: Sequence[MoleculeEnsemble]) -> MoleculeEnsemble:
    """Returns the frames of several runs as one ensemble, with the provenance of the first; a single run as it is.

    Raises:
        InputError: If the runs are of different molecules.
    """
    if len(runs) == 1:
        return runs[0]
    system = same_system([run.system for run in runs])
    energies = [run.energies for run in runs if run.energies is not None]
    return MoleculeEnsemble(
        system=system,
        positions=np.concatenate([run.positions for run in runs]),
        log_weights=np.concatenate([run.log_weights for run in runs]),
        rejected=np.concatenate([run.rejected for run in runs]),
        rejected_reasons=tuple(reason for run in runs for reason in run.rejected_reasons),
        energies=np.concatenate(energies) if len(energies) == len(runs) else None,
        provenance={key: value for key, value in runs[0].provenance.items() if key != "run"} | {"runs": len(runs)},
    )


def _simulation(folder: Path) -> list[MoleculeEnsemble]:
    description = _read_json(folder / "simulation.json")
    needed = {"schema_version", "name", "system", "temperature", "frames", "trajectories", "forces", "force_field"}
    missing = sorted(needed - set(description))
    if missing or description["schema_version"] != SIMULATION_VERSION:
        problem = f"lacks {', '.join(missing)}" if missing else f"is of version {description['schema_version']}"
        raise InputError(
            f"'{folder / 'simulation.json'}' {problem}; expected the file of version {SIMULATION_VERSION} that simulate writes"
        )
    system = dataclasses.replace(molecule_system(folder / "topology.pdb"), name=description["name"])
    if system.digest != description["system"]:
        raise InputError(f"'{folder / 'topology.pdb'}' is not the molecule that simulation.json names; the folder was changed")
    ensembles = []
    for run, (name, forces, frames) in enumerate(
        zip(description["trajectories"], description["forces"], description["frames"], strict=True)
    ):
        positions, _ = read_frames(folder / name, system.topology)
        if len(positions) != frames:
            raise InputError(
                f"'{folder / name}' has {len(positions)} frames, but simulation.json says {frames}; the folder is incomplete"
            )
        energies = None
        if (folder / forces).is_file():
            with np.load(folder / forces, allow_pickle=False) as arrays:
                energies = arrays["energies"]
        provenance = {
            "simulation": folder.name,
            "run": run,
            "force_field": description["force_field"],
            "constraints": description.get("constraints"),
            "temperature_k": description["temperature"],
            "frame_interval_ps": description.get("frame_interval"),
            "seed": description.get("seed"),
        }
        ensembles.append(MoleculeEnsemble(system=system, positions=positions, energies=energies, provenance=provenance))
    return ensembles


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' is not a JSON file that can be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"'{path}' holds no description of a run; expected a JSON object")
    return values
