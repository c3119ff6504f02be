"""Ensembles of adsorbates as the commands take them: folders of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equilibra.errors import InputError
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.runs import joined, read_runs, the_same

Source = str | Path | AdsorbateEnsemble | Sequence[AdsorbateEnsemble]
"""What `load_runs` takes."""


def load_runs(source: Source, topology: str | Path | None = None) -> list[AdsorbateEnsemble]:
    """Reads an ensemble: a folder that `equilibra sample adsorbate` wrote, or ensembles.

    Arguments:
        source: What to read.
        topology: Has no meaning: the folder tells the atoms.

    Raises:
        InputError: If something is missing, malformed or unfinished.
    """
    return read_runs(source, topology, AdsorbateEnsemble, _load, _simulation)


def same_system(systems: Sequence[AdsorbateSystem]) -> AdsorbateSystem:
    """Returns the first of some systems, which must all be the same.

    Raises:
        InputError: If they are not.
    """
    return the_same(systems, "different slabs or adsorbates")


def join_runs(runs: Sequence[AdsorbateEnsemble]) -> AdsorbateEnsemble:
    """Returns the structures of several runs as one ensemble, with the provenance of the first; a single run as it is.

    Raises:
        InputError: If the runs are of different systems.
    """
    return joined(runs, same_system)


def _load(path: Path, topology: str | Path | None) -> AdsorbateEnsemble:
    if topology is not None:
        raise InputError(f"'{path}': a folder of adsorbates tells its atoms; leave the topology '{topology}' out")
    return AdsorbateEnsemble.read(path)


def _simulation(path: Path) -> list[AdsorbateEnsemble]:
    raise InputError(f"'{path}' holds a simulation of a molecule or protein; expected samples of an adsorbate")
