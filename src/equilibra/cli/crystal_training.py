"""What `train` does for crystals: the sets of structures that `--data` names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli import protein_training as proteins
from equilibra.cli import training as options
from equilibra.cli.checks import present, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.model import Model
    from equilibra.train.config import TrainConfig
    from equilibra.train.crystal import CrystalEntry

SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels", "image_cutoff")
"""Sizes of the network that `--network` may change."""

PANEL = "Crystals"
LABEL_DROPOUT = 0.1
LABELS = ("label", "label_dropout")
"""Options that belong to crystals, by the names of their parameters."""

Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="COLUMN",
        help="A number of each structure that the network is told, energy_per_atom or a column of the files such as band_gap, so that `sample --label` can "
        "ask for a value; repeat it for several. Structures without a value are learned from, too.",
        rich_help_panel=PANEL,
    ),
]
LabelDropout = Annotated[
    float,
    typer.Option(
        "--label-dropout",
        help="With --label, share of the training that is told none: the model without labels is learned from it.",
        rich_help_panel=PANEL,
    ),
]

OTHERS = (
    "energy",
    "trajectory",
    "topology",
    "forces",
    "stride",
    "skip",
    "temperature",
    "use_forces",
    *(name for name in proteins.OWN if name != "data"),
)
"""Options of `train` and `fine-tune` that belong to molecules and proteins, by the names of their parameters."""


def run_crystal(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of crystals from random weights."""
    refuse_others(ctx, "train")
    out, entries, config = _ready(ctx, given, config)

    from equilibra.train.crystal import train_crystal

    labels = tuple(given["label"] or ())
    if not labels and options.typed(ctx, ("label_dropout",)):
        raise InputError("--label-dropout: has an effect with --label only; name a label, or leave it out")
    name = given["name"] if options.typed(ctx, ("name",)) else "crystal"
    how: dict[str, Any] = {"name": name, "network": sizes, "labels": labels, "label_dropout": given["label_dropout"]}
    model = options.watch(ctx, out, config, lambda shown: train_crystal(entries, out, config, progress=shown, **how))
    say(ctx, model.card.summary)
    for label in model.scope.labels:
        words = (
            f"label {label.name}: {label.low:g} to {label.high:g}, mean {label.mean:.3g}, known of {100 * label.share:.0f} %"
        )
        say(ctx, f"{words}; ask for a value with --label {label.name}={label.mean:.3g}")


def tune_crystal(ctx: typer.Context, model: Model, given: dict[str, Any], config: TrainConfig) -> None:
    """Trains a model of crystals further."""
    refuse_others(ctx, "fine-tune")
    out, entries, config = _ready(ctx, given, config)

    from equilibra.train.crystal import fine_tune_crystal

    made = options.watch(
        ctx, out, config, lambda shown: fine_tune_crystal(model, entries, out, config, name=given["name"], progress=shown)
    )
    say(ctx, made.card.summary)


def refuse_others(ctx: typer.Context, verb: str) -> None:
    """Refuses options that belong to molecules and proteins.

    Raises:
        InputError: If one was given.
    """
    for option in options.typed(ctx, OTHERS):
        raise InputError(f"{verb}: {option} has no meaning for crystals, which are learned from structures; leave it out")


def _ready(ctx: typer.Context, given: dict[str, Any], config: TrainConfig) -> tuple[Path, list[CrystalEntry], TrainConfig]:
    """Returns the run folder, the sets of structures, and the configuration with the noise of crystals where none is named."""
    out = Path(given["out"])
    entries = entries_of(given["data"] or ())
    writable(out)

    from equilibra.memory import keep_freed_memory
    from equilibra.train.crystal import DEFAULT

    keep_freed_memory()
    own = {key: getattr(DEFAULT, key) for key in ("noise_median", "noise_width") if not options.typed(ctx, (key,))}
    return out, entries, dataclasses.replace(config, **own)


def entries_of(texts: list[str] | tuple[str, ...]) -> list[CrystalEntry]:
    """Reads the sets of structures of `--data`, each `PATH[@WEIGHT]`.

    Raises:
        InputError: If there is none, a file is missing, or a weight is not positive.
    """
    from equilibra.train.crystal import CrystalEntry

    entries = []
    for text in texts:
        where, weight = options.weight_of(text)
        present(Path(where))
        entries.append(CrystalEntry(data=Path(where), weight=weight))
    if not entries:
        raise InputError(
            "got no data of crystals; name files of structures with --data, such as --data train.csv or --data cifs/"
        )
    return entries
