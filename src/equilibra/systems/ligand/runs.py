"""Ensembles of poses as the commands take them: folders of samples, or of the walkers of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equilibra.errors import InputError
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.system import LigandSystem
from equilibra.systems.runs import joined, read_runs, the_same

Source = str | Path | LigandEnsemble | Sequence[LigandEnsemble]
"""What `load_runs` takes."""


def load_runs(source: Source, topology: str | Path | None = None) -> list[LigandEnsemble]:
    """Reads an ensemble: a folder that `equilibra sample` wrote, or the walkers of a training, or ensembles.

    Arguments:
        source: What to read.
        topology: Has no meaning: poses tell their atoms.

    Raises:
        InputError: If something is missing, malformed or unfinished.
    """
    return read_runs(source, topology, LigandEnsemble, _load, _simulation)


def same_system(systems: Sequence[LigandSystem]) -> LigandSystem:
    """Returns the first of some systems, which must all be one ligand in one pocket.

    Raises:
        InputError: If they are not.
    """
    return the_same(systems, "different ligands, pockets or boxes")


def join_runs(runs: Sequence[LigandEnsemble]) -> LigandEnsemble:
    """Returns the poses of several runs as one ensemble, with the provenance of the first; a single run as it is.

    Raises:
        InputError: If the runs are of different systems.
    """
    return joined(runs, same_system)


def _load(path: Path, topology: str | Path | None) -> LigandEnsemble:
    if topology is not None:
        raise InputError(f"'{path}': poses tell their atoms; leave the topology '{topology}' out")
    if not (path / "ensemble.json").is_file():
        raise InputError(f"'{path}' is no folder of poses; expected one that `equilibra sample ligand` wrote")
    return LigandEnsemble.read(path)


def _simulation(path: Path) -> list[LigandEnsemble]:
    raise InputError(f"'{path}' holds a simulation, which is of molecules or proteins; expected poses of a ligand")
