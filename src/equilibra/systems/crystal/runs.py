"""Ensembles of crystals as the commands take them: folders of samples, and files of structures of one composition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equilibra.errors import InputError
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.runs import joined, read_runs, the_same

Source = str | Path | CrystalEnsemble | Sequence[CrystalEnsemble]
"""What `load_runs` takes."""


def load_runs(source: Source, topology: str | Path | None = None) -> list[CrystalEnsemble]:
    """Reads an ensemble: a folder that `equilibra sample` wrote, a file of structures of one composition, or ensembles.

    Arguments:
        source: What to read.
        topology: Has no meaning: structures tell their atoms.

    Raises:
        InputError: If something is missing, malformed or unfinished, or the structures are of several compositions.
    """
    return read_runs(source, topology, CrystalEnsemble, _load, _simulation)


def same_system(systems: Sequence[CrystalSystem]) -> CrystalSystem:
    """Returns the first of some systems, which must all have the same atoms.

    Raises:
        InputError: If they have not.
    """
    return the_same(systems, "of different compositions")


def join_runs(runs: Sequence[CrystalEnsemble]) -> CrystalEnsemble:
    """Returns the structures of several runs as one ensemble, with the provenance of the first; a single run as it is.

    Raises:
        InputError: If the runs are of different compositions.
    """
    return joined(runs, same_system)


def _load(path: Path, topology: str | Path | None) -> CrystalEnsemble:
    if topology is not None:
        raise InputError(f"'{path}': structures of crystals tell their atoms; leave the topology '{topology}' out")
    if (path / "ensemble.json").is_file() or path.suffix == ".npz":
        return CrystalEnsemble.read(path)
    return CrystalEnsemble.of(read_structures(path), provenance={"files": [path.name]})


def _simulation(path: Path) -> list[CrystalEnsemble]:
    raise InputError(f"'{path}' holds a simulation, which is of molecules or proteins; expected samples of crystals")
