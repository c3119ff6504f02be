"""Ensembles of proteins of one or several runs: a folder of samples, a folder of a simulation, or trajectories with their topology."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.load import load_ensemble
from equilibra.systems.protein.system import ProteinSystem
from equilibra.systems.runs import joined, read_json, read_runs, require_complete, simulation_provenance

Source = str | Path | ProteinEnsemble | Sequence[ProteinEnsemble]
"""What `load_runs` takes."""


def load_runs(source: Source, topology: str | Path | None = None) -> list[ProteinEnsemble]:
    """Reads an ensemble as its independent runs.

    Arguments:
        source: A folder that `equilibra sample` or `equilibra simulate` wrote, a file of frames, `FILE:TOPOLOGY` in one text, or ensembles.
        topology: PDB file, or another topology, for frames that come without atoms.

    Returns:
        One ensemble for samples or a file, and one for each run of a simulation, all of one protein.

    Raises:
        InputError: If something is missing, malformed or unfinished.
    """
    return read_runs(source, topology, ProteinEnsemble, load_ensemble, _simulation)


def same_system(systems: Sequence[ProteinSystem]) -> ProteinSystem:
    """Returns the first of some systems, which must all have the same residues, chains and gaps; features of providers may differ.

    Raises:
        InputError: If they are different proteins.
    """
    first = systems[0]
    for other in systems[1:]:
        if other.sequence != first.sequence or other.chains != first.chains:
            raise InputError(f"'{first.name}' and '{other.name}' are different proteins: {_difference(first, other)}")
        if not np.array_equal(first.breaks, other.breaks):
            where = int(np.flatnonzero(first.breaks != other.breaks)[0])
            raise InputError(
                f"'{first.name}' and '{other.name}' have gaps in different places: only one of them has a peptide bond after {first.label(where)}"
            )
    return first


def join_runs(runs: Sequence[ProteinEnsemble]) -> ProteinEnsemble:
    """Returns the frames of several runs as one ensemble, with the provenance of the first; a single run as it is.

    Raises:
        InputError: If the runs are of different proteins.
    """
    return joined(runs, same_system)


def _difference(first: ProteinSystem, other: ProteinSystem) -> str:
    if len(first.chains) != len(other.chains):
        return f"they have {len(first.chains)} and {len(other.chains)} chains"
    if first.length != other.length:
        return f"they have {first.length} and {other.length} residues; both sets must have the same ones"
    where = next((i for i, (a, b) in enumerate(zip(first.sequence, other.sequence, strict=True)) if a != b), None)
    if where is None:
        return "their chains are divided differently"
    return f"residue {where + 1} is {first.label(where)} in one and {other.label(where)} in the other"


def read_simulation(folder: Path) -> tuple[dict[str, Any], dict[Path, int]]:
    """Reads the description of a simulation, and which trajectories it has, with the number of frames of each.

    Raises:
        InputError: If `simulation.json` is missing or malformed.
    """
    description = read_json(folder / "simulation.json")
    names, frames = description.get("trajectories"), description.get("frames")
    if not isinstance(names, list) or not isinstance(frames, list) or not names or len(names) != len(frames):
        raise InputError(f"'{folder / 'simulation.json'}' names no trajectories with their numbers of frames")
    return description, {folder / str(name): count for name, count in zip(names, frames, strict=True)}


def _simulation(folder: Path) -> list[ProteinEnsemble]:
    description, trajectories = read_simulation(folder)
    ensembles = []
    for run, (path, count) in enumerate(trajectories.items()):
        provenance = simulation_provenance(folder, description, run)
        ensemble = load_ensemble(path, folder / "topology.pdb", provenance=provenance)
        require_complete(path, len(ensemble), count)
        ensembles.append(ensemble)
    return ensembles
