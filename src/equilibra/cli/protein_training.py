"""What `train` and `fine-tune` do for proteins: their options, and the sets of proteins that `--data` names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli import training as options
from equilibra.cli.checks import at_least, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.model import Model
    from equilibra.train.config import TrainConfig
    from equilibra.train.protein import ProteinEntry
    from equilibra.train.protein_energy import ProteinEnergy

PANEL = "Proteins"
SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels", "points", "pair_value")
"""Sizes of the network that `--network` may change."""

CROP = 128
BUDGET = 500_000
WITH_ENERGY = ("plain_data", "snapshots", "average")
"""Options of a training with an energy, by the names of their parameters."""

OWN = ("data", "features", "feature_dropout", "allow_missing_features", "crop", "budget", *WITH_ENERGY)
"""Options that belong to proteins."""

SNAPSHOTS, AVERAGE = 100, 50
TEMPERATURE = 300.0
"""Temperature of an energy in K where none is given."""

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH[:TOPOLOGY][@WEIGHT]",
        help="A set of proteins; repeat it for several. A trajectory with its topology, a structure, an npz file, a file of mdCATH, or a folder: "
        "of structures, of npz files, of a simulation, of samples, or in the layout of ATLAS, mdCATH, cgdms or BioEmu's benchmarks. Of crystals: CIF, "
        "POSCAR, extxyz, ASE database, JSON or CSV files of structures, or a folder of these. Of adsorbates: files of frames (traj, extxyz), databases of the "
        "Open Catalyst data (lmdb, aselmdb), or a folder of these. WEIGHT is the share of the samples drawn from it, 1 by "
        "default.",
        rich_help_panel=PANEL,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Extra features of residues and pairs: none, SINGLE.npy,PAIR.npy, an npz file, a folder of these for many proteins, esm:WEIGHTS, or structure:PATH of known structures.",
        rich_help_panel=PANEL,
    ),
]
FeatureDropout = Annotated[
    float,
    typer.Option(
        "--feature-dropout",
        metavar="P",
        help="Leave out the features of a sample with this probability: the model can then be used with and without them.",
        rich_help_panel=PANEL,
    ),
]
AllowMissingFeatures = Annotated[
    bool,
    typer.Option(
        "--allow-missing-features",
        help="Take proteins that the folder of --features lacks without features, and say which; so does --feature-dropout.",
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
Energy = Annotated[
    str | None,
    typer.Option(
        "--energy",
        help="A force field such as amber14-obc2: mean forces on snapshots of short dynamics and the physics-informed loss join the data.",
        rich_help_panel=PANEL,
    ),
]
PlainData = Annotated[
    list[str] | None,
    typer.Option(
        "--plain-data",
        metavar="PATH[:TOPOLOGY][@WEIGHT]",
        help="With --energy: as --data, a set that stays data alone, without forces.",
        rich_help_panel=PANEL,
    ),
]
Snapshots = Annotated[int, typer.Option("--snapshots", help="With --energy: snapshots of each protein.", rich_help_panel=PANEL)]
Average = Annotated[
    int,
    typer.Option(
        "--average",
        help="With --energy: conformations that the force of a snapshot is averaged over, its frames held. 1: its own force.",
        rich_help_panel=PANEL,
    ),
]


def run_protein(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of proteins from random weights."""
    common = _common(given)
    kelvin = _kelvin(ctx, given)
    common["energy"] = energy_of(ctx, given, kelvin)
    entries = entries_of(given, kelvin)

    from equilibra.train.protein import train_protein

    name = given["name"] if options.typed(ctx, ("name",)) else "protein"
    out = given["out"]
    _watch(
        ctx,
        out,
        config,
        lambda shown: train_protein(
            entries,
            out,
            config,
            name=name,
            network=sizes,
            progress=shown,
            collecting=shown.collecting,
            temperature=kelvin,
            **common,
        ),
    )


def tune_protein(ctx: typer.Context, model: Model, given: dict[str, Any], config: TrainConfig) -> None:
    """Trains a model of proteins further."""
    common = _common(given)
    kelvin = _kelvin(ctx, given)
    common["energy"] = energy_of(ctx, given, kelvin)
    entries = entries_of(given, kelvin)

    from equilibra.train.protein import fine_tune_protein

    out = given["out"]
    _watch(
        ctx,
        out,
        config,
        lambda shown: fine_tune_protein(
            model,
            entries,
            out,
            config,
            name=given["name"],
            progress=shown,
            collecting=shown.collecting,
            temperature=kelvin,
            **common,
        ),
    )


def _watch(ctx: typer.Context, out: Path, config: TrainConfig, train: Callable[[options.TrainingBar], Model]) -> None:
    """Runs a training with its progress bar, and prints what the model was trained on."""
    model = options.watch(ctx, out, config, train)
    say(ctx, model.card.summary)


def energy_of(ctx: typer.Context, given: dict[str, Any], kelvin: float | None) -> ProteinEnergy | None:
    """Returns how forces enter the training, or None without `--energy`.

    Raises:
        InputError: If there is no such force field, or an option is out of range or has no meaning.
    """
    if given["energy"] is None:
        for option in options.typed(ctx, (*WITH_ENERGY, "objective")):
            raise InputError(f"{option} has a meaning for proteins with --energy only; leave it out, or name a force field")
        return None
    if options.typed(ctx, ("objective",)) and given["objective"] != "pidp":
        raise InputError(
            f"--objective: got '{given['objective']}', but proteins with an energy are trained by pidp; leave it out"
        )
    at_least("--snapshots", given["snapshots"], 1)
    at_least("--average", given["average"], 1)

    from equilibra.systems.protein.mean_forces import FrameForceConfig
    from equilibra.train.protein_energy import ProteinEnergy

    forces = FrameForceConfig(
        force_field=given["energy"],
        temperature=TEMPERATURE if kelvin is None else kelvin,
        snapshots=given["snapshots"],
        average=given["average"],
        seed=given["seed"],
    )
    return ProteinEnergy(forces=forces)


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
    for text in given["plain_data"] or ():
        entries.append(replace(entry_of(text, stride=stride, skip=skip, temperature=kelvin), plain=True))
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

    where, weight = options.weight_of(text)
    path = Path(where)
    if not where.strip():
        raise InputError(f"--data: got '{text}', expected PATH, PATH:TOPOLOGY, or one of these with @WEIGHT after it")
    if not path.exists() and ":" in where:
        # the last colon: a drive's letter comes first
        frames, _, topology = where.rpartition(":")
        data: Any = TrajectoryFiles(topology=topology, trajectories=(frames,), stride=stride, skip=skip)
    else:
        data = ProteinFiles(path=path, stride=stride, skip=skip)
        if temperature is not None:
            data = replace(data, temperature=round(temperature))
    return ProteinEntry(data=data, weight=weight)


def _common(given: dict[str, Any]) -> dict[str, Any]:
    """Checks what both verbs share, and returns the arguments that both functions take."""
    at_least("--crop", given["crop"], 0)
    at_least("--budget", given["budget"], 0)
    writable(given["out"])

    from equilibra.memory import keep_freed_memory
    from equilibra.systems.protein.named_provider import read_provider

    keep_freed_memory()
    return {
        "provider": read_provider(given["features"]),
        "feature_dropout": given["feature_dropout"],
        "allow_missing_features": given["allow_missing_features"],
        "crop": given["crop"] or None,
        "budget": given["budget"] or None,
    }


def _kelvin(ctx: typer.Context, given: dict[str, Any]) -> float | None:
    """Returns the temperature if the command names it: structures have none."""
    if not options.typed(ctx, ("temperature",)):
        return None
    if not given["temperature"] > 0:
        raise InputError(f"--temperature: got {given['temperature']}, expected a positive number in K")
    return float(given["temperature"])
