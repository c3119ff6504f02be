"""Ensembles of one or several runs, for any domain: what a user names, read as one ensemble for each independent run, and joined."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from equilibra.errors import InputError
from equilibra.state.system import System
from equilibra.systems.ensemble import Ensemble

E = TypeVar("E", bound=Ensemble)
S = TypeVar("S", bound=System)

_CELLS = ("cells", "rejected_cells")
_VERBS = {"simulation": "simulate", "samples": "sample"}  # by the kind in `run.json`


def read_runs(
    source: str | Path | E | Sequence[E],
    topology: str | Path | None,
    ensemble: type[E],
    load: Callable[[Path, str | Path | None], E],
    simulation: Callable[[Path], list[E]],
) -> list[E]:
    """Reads an ensemble as its independent runs.

    Arguments:
        source: A folder, a file of frames, `FILE:TOPOLOGY` in one text, or ensembles.
        topology: File with the atoms, for frames that come without.
        ensemble: Kind of the ensembles.
        load: Reads one ensemble from a folder or file, with its topology.
        simulation: Reads the runs of a folder that holds a simulation.

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
    return simulation(path) if finished_run(path) == "simulation" else [load(path, topology)]


def finished_run(path: Path) -> Literal["simulation", "samples"] | None:
    """Tells what a folder holds: runs of `equilibra simulate`, an ensemble such as `equilibra sample` writes, or None for anything else.

    Raises:
        InputError: If the run in it is unfinished.
    """
    record = path / "run.json"
    if (path / "simulation.json").is_file():
        return "simulation"
    if (path / "ensemble.json").is_file():
        return "samples"
    verb = _VERBS.get(str(read_json(record).get("kind")).partition(" of ")[0]) if record.is_file() else None
    if verb is not None:
        raise InputError(f"'{path}' holds an unfinished run; repeat its `equilibra {verb}` command to finish it")
    return None


def require_complete(path: Path, frames: int, expected: int) -> None:
    """Raises `InputError` if a trajectory of a simulation has another number of frames than its `simulation.json` says."""
    if frames != expected:
        raise InputError(f"'{path}' has {frames} frames, but simulation.json says {expected}; the folder is incomplete")


def the_same(systems: Sequence[S], what: str) -> S:
    """Returns the first of some systems, which must all be equal.

    Arguments:
        systems: The systems, at least one.
        what: What two of them are that are not, for the message: "of different compositions".

    Raises:
        InputError: If they are not.
    """
    for other in systems[1:]:
        if other != systems[0]:
            raise InputError(f"'{systems[0].name}' and '{other.name}' are {what}; take one at a time")
    return systems[0]


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
    starts = np.cumsum([0, *(0 if run.blocks is None else 1 + run.blocks.max(initial=-1) for run in runs)])
    blocks = [run.blocks + start for run, start in zip(runs, starts, strict=False) if run.blocks is not None]
    cells: dict[str, Any] = {}
    if runs[0].periodic:
        cells = {name: np.concatenate([getattr(run, name) for run in runs]) for name in _CELLS}
    named = [name for name in runs[0].values if all(name in run.values for run in runs)]
    return type(runs[0])(
        system=system,
        positions=np.concatenate([run.positions for run in runs]),
        log_weights=np.concatenate([run.log_weights for run in runs]),
        rejected=np.concatenate([run.rejected for run in runs]),
        rejected_reasons=tuple(reason for run in runs for reason in run.rejected_reasons),
        **cells,
        blocks=np.concatenate(blocks) if len(blocks) == len(runs) else None,
        energies=np.concatenate(energies) if len(energies) == len(runs) else None,
        values={name: np.concatenate([run.values[name] for run in runs]) for name in named},
        provenance={key: value for key, value in runs[0].provenance.items() if key != "run"} | {"runs": len(runs)},
    )


def simulation_provenance(folder: Path, description: Mapping[str, Any], run: int) -> dict[str, Any]:
    """Returns where the frames of one run of a simulation come from, as the provenance of an ensemble; what the description lacks is None.

    Arguments:
        folder: Folder of the simulation.
        description: Its `simulation.json`.
        run: Number of the run, counted from 0.
    """
    return {
        "simulation": folder.name,
        "run": run,
        "force_field": description.get("force_field"),
        "constraints": description.get("constraints"),
        "temperature_k": description.get("temperature"),
        "frame_interval_ps": description.get("frame_interval"),
        "seed": description.get("seed"),
    }


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
