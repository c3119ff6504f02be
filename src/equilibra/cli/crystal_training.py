"""What `train` does for crystals: the sets of structures that `--data` names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equilibra.cli import training as options
from equilibra.cli.checks import present, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.train.config import TrainConfig
    from equilibra.train.crystal import CrystalEntry

SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")
"""Sizes of the network that `--network` may change."""


def run_crystal(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of crystals from random weights."""
    out = Path(given["out"])
    entries = entries_of(given["data"] or ())
    writable(out)

    from equilibra.memory import keep_freed_memory
    from equilibra.train.crystal import DEFAULT, train_crystal

    keep_freed_memory()
    own = {key: getattr(DEFAULT, key) for key in ("noise_median", "noise_width") if not options.typed(ctx, (key,))}
    config = dataclasses.replace(config, **own)
    name = given["name"] if options.typed(ctx, ("name",)) else "crystal"
    model = options.watch(
        ctx, out, config, lambda shown: train_crystal(entries, out, config, name=name, network=sizes, progress=shown)
    )
    say(ctx, model.card.summary)


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
