"""What `train` and `fine-tune` do for proteins: their options, and the sets of proteins that `--data` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli import training as options
from equilibra.cli.checks import at_least, writable
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.model import Model
    from equilibra.train.config import TrainConfig
    from equilibra.train.protein import ProteinEntry

PANEL = "Proteins"
SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels", "points", "pair_value")
"""Sizes of the network that `--network` may change."""

CROP = 128
BUDGET = 500_000
OWN = ("data", "features", "crop", "budget")
"""Options that belong to proteins, by the names of their parameters."""

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH[:TOPOLOGY][@WEIGHT]",
        help="A set of proteins; repeat it for several. A trajectory with its topology, a structure, an npz file, a file of mdCATH, or a folder: "
        "of structures, of npz files, of a simulation, of samples, or in the layout of ATLAS, mdCATH, cgdms or BioEmu's benchmarks. WEIGHT is the "
        "share of the samples drawn from it, 1 by default.",
        rich_help_panel=PANEL,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Extra features of residues and pairs: none, SINGLE.npy,PAIR.npy, an npz file, a folder of these for many proteins, or esm:WEIGHTS.",
        rich_help_panel=PANEL,
    ),
]
Crop = Annotated[
    int,
    typer.Option(
        "--crop",
        help="Largest number of residues of a training sample; windows of longer proteins. 0: whole.",
        rich_help_panel=PANEL,
    ),
]
Budget = Annotated[
    int,
    typer.Option(
        "--budget",
        help="Largest number of pairs of residues in a batch, which bounds the memory. 0: no bound.",
        rich_help_panel=PANEL,
    ),
]


def run_protein(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of proteins from random weights."""
    common = _common(given)
    kelvin = _kelvin(ctx, given)
    entries = entries_of(given, kelvin)

    from equilibra.train.protein import train_protein

    name = given["name"] if options.typed(ctx, ("name",)) else "protein"
    out = given["out"]
    options.watch(
        ctx,
        out,
        config,
        lambda progress: train_protein(
            entries, out, config, name=name, network=sizes, progress=progress, temperature=kelvin, **common
        ),
    )


def tune_protein(ctx: typer.Context, model: Model, given: dict[str, Any], config: TrainConfig) -> None:
    """Trains a model of proteins further."""
    common = _common(given)
    kelvin = _kelvin(ctx, given)
    entries = entries_of(given, kelvin)

    from equilibra.train.protein import fine_tune_protein

    out = given["out"]
    options.watch(
        ctx,
        out,
        config,
        lambda progress: fine_tune_protein(
            model, entries, out, config, name=given["name"], progress=progress, temperature=kelvin, **common
        ),
    )


def entries_of(given: dict[str, Any], kelvin: float | None) -> list[ProteinEntry]:
    """Returns the sets of proteins that `--data`, or `--trajectory` and `--topology`, name; `kelvin` chooses among the runs of a file.

    Raises:
        InputError: If there is none, or one cannot be used.
    """
    from equilibra.data.trajectory import TrajectoryFiles
    from equilibra.train.protein import ProteinEntry

    stride, skip = given["stride"], given["skip"]
    if given["forces"]:
        raise InputError("--forces: has no meaning for proteins, of which the backbone alone is learned; leave it out")
    entries = [entry_of(text, stride=stride, skip=skip, temperature=kelvin) for text in given["data"] or ()]
    if bool(given["trajectory"]) != (given["topology"] is not None):
        raise InputError("a --trajectory needs its --topology, and the other way round; structures alone are given with --data")
    if given["trajectory"]:
        files = TrajectoryFiles(topology=given["topology"], trajectories=tuple(given["trajectory"]), stride=stride, skip=skip)
        entries.append(ProteinEntry(data=files))
    if not entries:
        raise InputError(
            "got no data of proteins; name some with --data, such as --data my.xtc:my.pdb, or with --trajectory and --topology"
        )
    return entries


def entry_of(text: str, *, stride: int = 1, skip: int = 0, temperature: float | None = None) -> ProteinEntry:
    """Reads `PATH[:TOPOLOGY][@WEIGHT]`.

    Arguments:
        text: The text.
        stride: Every stride-th frame of a trajectory is used.
        skip: Frames left out at the start of each trajectory.
        temperature: Temperature in K of the wanted runs, where a file has several.

    Raises:
        InputError: If a file is missing, or the weight is not positive.
    """
    from equilibra.data.trajectory import TrajectoryFiles
    from equilibra.systems.protein.data.read import ProteinFiles
    from equilibra.train.protein import ProteinEntry

    where, weight = _weight(text)
    path = Path(where)
    if not where.strip():
        raise InputError(f"--data: got '{text}', expected PATH, PATH:TOPOLOGY, or one of these with @WEIGHT after it")
    run = _run(path)
    if run is not None:
        data: Any = TrajectoryFiles(topology=path / "topology.pdb", trajectories=run, stride=stride, skip=skip)
    elif not path.exists() and ":" in where:
        # the last colon: a drive's letter comes first
        frames, _, topology = where.rpartition(":")
        data = TrajectoryFiles(topology=topology, trajectories=(frames,), stride=stride, skip=skip)
    else:
        data = ProteinFiles(path=path, stride=stride, skip=skip)
        if temperature is not None:
            data = replace(data, temperature=round(temperature))
    return ProteinEntry(data=data, weight=weight)


def _weight(text: str) -> tuple[str, float]:
    """Splits a weight off the end of a text; a file of that very name has none."""
    where, mark, number = text.rpartition("@")
    if not mark or Path(text).exists():
        return text, 1.0
    try:
        weight = float(number)
    except ValueError:
        return text, 1.0
    if not 0.0 < weight < float("inf"):
        raise InputError(f"--data: got the weight {number} of '{where}', expected a positive number")
    return where, weight


def _run(path: Path) -> Sequence[Path] | None:
    """Returns the trajectories of a folder that `equilibra simulate` or `equilibra sample` wrote, or None for any other."""
    from equilibra.systems.runs import read_json

    if (path / "simulation.json").is_file():
        names = read_json(path / "simulation.json").get("trajectories")
    elif (path / "ensemble.json").is_file():
        names = read_json(path / "ensemble.json").get("files")
        names = [name for name in names or () if str(name).endswith((".xtc", ".dcd", ".pdb"))][:1]
    else:
        return None
    if not isinstance(names, list) or not names:
        raise InputError(
            f"'{path}' names no trajectory; expected a finished folder of `equilibra simulate` or `equilibra sample`"
        )
    return tuple(path / str(name) for name in names)


def _common(given: dict[str, Any]) -> dict[str, Any]:
    """Checks what both verbs share, and returns the arguments that both functions take."""
    at_least("--crop", given["crop"], 0)
    at_least("--budget", given["budget"], 0)
    writable(given["out"])

    from equilibra.memory import keep_freed_memory
    from equilibra.systems.protein.providers import read_provider

    keep_freed_memory()
    return {"provider": read_provider(given["features"]), "crop": given["crop"] or None, "budget": given["budget"] or None}


def _kelvin(ctx: typer.Context, given: dict[str, Any]) -> float | None:
    """Returns the temperature if the command names it: structures have none."""
    if not options.typed(ctx, ("temperature",)):
        return None
    if not given["temperature"] > 0:
        raise InputError(f"--temperature: got {given['temperature']}, expected a positive number in K")
    return float(given["temperature"])
