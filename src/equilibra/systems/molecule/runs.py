"""Ensembles of one or several runs: a folder of samples, a folder of a simulation, or trajectories with their topology."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.files import read_frames
from equilibra.systems.molecule.load import load_ensemble
from equilibra.systems.molecule.simulate import SCHEMA_VERSION as SIMULATION_VERSION
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system
from equilibra.systems.runs import joined, read_json, read_runs, require_complete, simulation_provenance

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
    return read_runs(source, topology, MoleculeEnsemble, load_ensemble, _simulation)


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
        one, two = first.canonical_smiles, other.canonical_smiles
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
    return joined(runs, same_system)


def _simulation(folder: Path) -> list[MoleculeEnsemble]:
    description = read_json(folder / "simulation.json")
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
        require_complete(folder / name, len(positions), frames)
        energies = None
        if (folder / forces).is_file():
            with np.load(folder / forces, allow_pickle=False) as arrays:
                energies = arrays["energies"]
        provenance = simulation_provenance(folder, description, run)
        ensembles.append(MoleculeEnsemble(system=system, positions=positions, energies=energies, provenance=provenance))
    return ensembles
