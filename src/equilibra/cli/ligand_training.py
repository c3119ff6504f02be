"""What `train` does for ligands: complexes that `--data` names, or one ligand and its pocket with `--energy`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equilibra.cli import ligand_input as ligands
from equilibra.cli import protein_training as proteins
from equilibra.cli import training as options
from equilibra.cli.checks import at_least, one_of, present, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.model import Model
    from equilibra.train.config import TrainConfig

SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")
"""Sizes of the network that `--network` may change."""

OTHERS = (
    "trajectory",
    "topology",
    "forces",
    "stride",
    "skip",
    "use_forces",
    "minutes",
    *(name for name in proteins.OWN if name != "data"),
)
"""Options of `train` that belong to molecules and proteins, by the names of their parameters."""

LADDER = ("objective", "rounds", "rungs", "top_temperature", "walkers", "sweeps", "start_from")
"""Options of a training from an energy alone."""


def run_ligand(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of ligands from random weights."""
    for option in options.typed(ctx, OTHERS):
        raise InputError(f"train: {option} has no meaning for ligands; leave it out")
    name = given["name"] if options.typed(ctx, ("name",)) else "ligand"
    if given["energy"] is not None:
        _from_energy(ctx, given, config, sizes, name)
        return
    for option in options.typed(ctx, (*LADDER, "temperature", *ligands.OWN)):
        raise InputError(
            f"train: {option} has a meaning for ligands with --energy only; leave it out, or give an energy such as vina"
        )
    if given["source"] is not None:
        raise InputError(
            f"train: got '{given['source']}' after the domain; from complexes a model is learned that --data names, or give --energy vina"
        )
    sources = given["data"] or []
    if not sources:
        raise InputError(
            "train: got no data of ligands; name tables (CSV) or folders of complexes with --data, or a receptor, a ligand and --energy vina"
        )
    for source in sources:
        present(Path(source))
    out, config = _ready(ctx, given, config)

    from equilibra.train.ligand import train_ligand

    model = options.watch(
        ctx, out, config, lambda shown: train_ligand(sources, out, config, name=name, network=sizes, progress=shown)
    )
    say(ctx, model.card.summary)


def tune_ligand(ctx: typer.Context, model: Model, given: dict[str, Any], config: TrainConfig) -> None:
    """Trains a model of ligands further on complexes."""
    from equilibra.train.ligand import fine_tune_ligand

    for option in options.typed(ctx, (name for name in OTHERS if name in given)):
        raise InputError(f"fine-tune: {option} has no meaning for ligands; leave it out")
    sources = given["data"] or []
    if not sources:
        raise InputError("fine-tune: got no data of ligands; name tables (CSV) or folders of complexes with --data")
    for source in sources:
        present(Path(source))
    out, config = _ready(ctx, given, config)
    made = options.watch(
        ctx, out, config, lambda shown: fine_tune_ligand(model, sources, out, config, name=given["name"], progress=shown)
    )
    say(ctx, made.card.summary)


def _from_energy(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int], name: str) -> None:
    from equilibra.systems.ligand.energy import ENERGIES
    from equilibra.train.ligand_energy import LIGAND, OBJECTIVES, train_ligand_on_energy

    one_of("energy", given["energy"], ENERGIES)
    one_of("objective", given["objective"], OBJECTIVES)
    if given["data"]:
        raise InputError("--data: has no meaning with --energy for ligands; a model is learned from one or the other")
    if given["source"] is None or given["ligand"] is None:
        raise InputError(
            "train: expected a receptor and a ligand, as in `equilibra train ligand receptor.pdb ligand.sdf --energy vina -o runs/mine/`"
        )
    for option in ("rounds", "rungs", "walkers", "sweeps"):
        at_least(f"--{option}", given[option], 1)
    temperature, top = given["temperature"], given["top_temperature"]
    if not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    if top is not None and not top > temperature:
        raise InputError(f"--top-temperature: got {top:g} K, expected more than the lowest, {temperature:g} K")
    chosen = {key: given[key] for key in ("objective", "rounds", "rungs", "sweeps") if options.typed(ctx, (key,))}
    if options.typed(ctx, ("walkers",)):
        chosen["columns"] = given["walkers"]
    if top is not None:
        chosen["hottest"] = top / temperature
    ladder = dataclasses.replace(LIGAND, **chosen)
    if ladder.sweeps < ladder.every:
        ladder = dataclasses.replace(ladder, every=1)
    complexes = ligands.inputs_of([given["source"], given["ligand"]], given)
    out, config = _ready(ctx, given, config)

    from equilibra.systems.ligand.inputs import ligand_systems
    from equilibra.systems.model import load

    systems = ligand_systems(complexes[0])
    if len(systems) != 1:
        raise InputError(f"'{given['ligand']}' holds {len(systems)} ligands, expected one; train them one by one")
    ligands.tell(ctx, systems[0])
    weights = None if given["start_from"] is None else load(given["start_from"])
    options.watch_energy(
        ctx,
        out,
        [given["source"], given["ligand"], *ligands.repeated(given)],
        given["energy"],
        lambda progress: train_ligand_on_energy(
            systems[0],
            out,
            given["energy"],
            ladder,
            config,
            name=name,
            temperature=temperature,
            network=sizes,
            weights=weights,
            progress=progress,
        ),
    )


def _ready(ctx: typer.Context, given: dict[str, Any], config: TrainConfig) -> tuple[Path, TrainConfig]:
    """Returns the run folder, and the configuration with the defaults of ligands where none is named."""
    import torch

    from equilibra.memory import keep_freed_memory
    from equilibra.train.ligand import DEFAULT

    out = Path(given["out"])
    writable(out)
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    own = {
        key: getattr(DEFAULT, key)
        for key in ("noise_median", "noise_width", "batch_size", "precision")
        if not options.typed(ctx, (key,))
    }
    return out, dataclasses.replace(config, **own, compile=False)
