"""Ensembles of one or several runs, for any domain: what a user names, read as one ensemble for each independent run, and joined."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.ensemble import Ensemble

E = TypeVar("E", bound=Ensemble)


def read_runs(
    source: str | Path | E | Sequence[E],
    topology: str | Path | None,
    ensemble: type[E],
    load: Callable[[Path, str | Path | None], E],
    simulation: Callable[[Path], list[E]] | None = None,
) -> list[E]:
    """Reads an ensemble as its independent runs.

    Arguments:
        source: A folder, a file of frames, `FILE:TOPOLOGY` in one text, or ensembles.
        topology: File with the atoms, for frames that come without.
        ensemble: Kind of the ensembles.
        load: Reads one ensemble from a folder or file, with its topology.
        simulation: Reads the runs of a folder that holds a simulation; None for a domain that has none.

    Raises:
        InputError: If something is missing, malformed or unfinished.
    """
    if isinstance(source, ensemble):
        return [source]
    if not isinstance(source, str | Path):
        given: list[E] = list(cast("Sequence[E]", source))
        if not given or not all(isinstance(item, ensemble) for item in given):
            raise InputError("runs: expected a folder, a file, or a list of at least one ensemble")
        return given
    path = Path(source)
    if isinstance(source, str) and not path.exists() and ":" in source and topology is None:
        # the last colon: a drive's letter comes first
        frames, _, names = source.rpartition(":")
        path, topology = Path(frames), names
    record = path / "run.json"
    if simulation is not None and (path / "simulation.json").is_file():
        return simulation(path)
    if record.is_file() and not (path / "ensemble.json").is_file():
        verb = "simulate" if str(read_json(record).get("kind")).startswith("simulation ") else "sample"
        raise InputError(f"'{path}' holds an unfinished run; repeat its `equilibra {verb}` command to finish it")
    return [load(path, topology)]


def joined(runs: Sequence[E], same_system: Callable[[Sequence[Any]], Any]) -> E:
    """Returns the frames of several runs as one ensemble, with the provenance of the first; a single run as it is.

    Arguments:
        runs: The runs, at least one.
        same_system: Returns the one system of all runs, and raises `InputError` if they are of different ones.
    """
    if len(runs) == 1:
        return runs[0]
    system = same_system([run.system for run in runs])
    energies = [run.energies for run in runs if run.energies is not None]
    return type(runs[0])(
        system=system,
        positions=np.concatenate([run.positions for run in runs]),
        log_weights=np.concatenate([run.log_weights for run in runs]),
        rejected=np.concatenate([run.rejected for run in runs]),
        rejected_reasons=tuple(reason for run in runs for reason in run.rejected_reasons),
        energies=np.concatenate(energies) if len(energies) == len(runs) else None,
        provenance={key: value for key, value in runs[0].provenance.items() if key != "run"} | {"runs": len(runs)},
    )


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object that describes a run.

    Raises:
        InputError: If the file cannot be read or holds no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' is not a JSON file that can be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"'{path}' holds no description of a run; expected a JSON object")
    return values
