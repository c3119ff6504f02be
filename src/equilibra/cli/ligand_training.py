"""What `train` does for ligands: complexes that `--data` names, or ligands and their pockets with `--energy`, or both."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equilibra.cli import ligand_input as ligands
from equilibra.cli import protein_training as proteins
from equilibra.cli import training as options
from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import complain, say, table
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.ligand.inputs import LigandInput
    from equilibra.systems.ligand.network import StateKind
    from equilibra.systems.ligand.system import LigandSystem
    from equilibra.systems.model import Model
    from equilibra.train.config import TrainConfig

SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")
"""Sizes of the network that `--network` may change."""

OTHERS = (
    "trajectory",
    "topology",
    "forces",
    "use_forces",
    "minutes",
    *(name for name in proteins.OWN if name != "data"),
)
"""Options of `train` that belong to molecules and proteins, by the names of their parameters."""

LADDER = ("objective", "rounds", "rungs", "top_temperature", "walkers", "sweeps", "start_from")
"""Options of a training from an energy alone."""

_SHOWN = 20


def run_ligand(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of ligands from random weights."""
    for option in options.typed(ctx, OTHERS):
        raise InputError(f"train: {option} has no meaning for ligands; leave it out")
    name = given["name"] if options.typed(ctx, ("name",)) else "ligand"

    from equilibra.systems.ligand.network import STATES

    state = given["state"]
    one_of("state", state, STATES)
    if given["energy"] is not None:
        if state != "torsional":
            raise InputError(
                f"--state: got '{state}' with --energy; a docking score knows shift, turn and torsions only, and does not hold the bonds of a ligand together. Learn positions from "
                "complexes or their dynamics with --data alone, or leave --state out"
            )
        _from_energy(ctx, given, config, sizes, name)
        return
    of_pocket = (name for name in ligands.OWN if name != "keep_geometry")
    for option in options.typed(ctx, (*LADDER, "temperature", "data_share", *of_pocket)):
        raise InputError(
            f"train: {option} has a meaning for ligands with --energy only; leave it out, or give an energy such as vina"
        )
    if given["source"] is not None:
        raise InputError(
            f"train: got '{given['source']}' after the domain; from complexes a model is learned that --data names, or give --energy vina"
        )
    if not given["data"]:
        raise InputError(
            "train: got no data of ligands; name tables (CSV) or folders of complexes with --data, or with --energy vina a receptor and a ligand, or a table or folder of complexes"
        )
    sources = ligands.data_of(ctx, given)
    out, config = _ready(ctx, given, config, state)

    from equilibra.train.ligand import LigandSources, train_ligand

    read = LigandSources.read(sources)
    ligands.tell_data(ctx, read)
    model = options.watch(
        ctx,
        out,
        config,
        lambda shown: train_ligand(read, out, config, name=name, state=state, network=sizes, progress=shown),
    )
    say(ctx, model.card.summary)
    ligands.tell_complexes(ctx, read, out)


def tune_ligand(ctx: typer.Context, model: Model, given: dict[str, Any], config: TrainConfig) -> None:
    """Trains a model of ligands further on complexes."""
    from equilibra.systems.ligand.network import state_of
    from equilibra.train.ligand import LigandSources, fine_tune_ligand

    for option in options.typed(ctx, (name for name in OTHERS if name in given)):
        raise InputError(f"fine-tune: {option} has no meaning for ligands; leave it out")
    if not given["data"]:
        raise InputError("fine-tune: got no data of ligands; name tables (CSV) or folders of complexes with --data")
    sources = ligands.data_of(ctx, given)
    out, config = _ready(ctx, given, config, state_of(model.process))
    read = LigandSources.read(sources)
    ligands.tell_data(ctx, read)
    made = options.watch(
        ctx, out, config, lambda shown: fine_tune_ligand(model, read, out, config, name=given["name"], progress=shown)
    )
    say(ctx, made.card.summary)
    ligands.tell_complexes(ctx, read, out)


def _from_energy(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int], name: str) -> None:
    from equilibra.systems.ligand.energy import ENERGIES
    from equilibra.train.ligand_energy import KNOWN_SHARE, LIGAND, OBJECTIVES, train_ligand_on_energy

    one_of("energy", given["energy"], ENERGIES)
    one_of("objective", given["objective"], OBJECTIVES)
    share = given["data_share"]
    if share is not None and not given["data"]:
        raise InputError("--data-share: has a meaning with --data only; name complexes to learn from, or leave it out")
    if share is not None and not 0.0 < share < 1.0:
        raise InputError(f"--data-share: got {share:g}, expected a number between 0 and 1")
    sources = ligands.data_of(ctx, given)
    if given["source"] is None:
        raise InputError(
            "train: expected a receptor and a ligand, as in `equilibra train ligand receptor.pdb ligand.sdf --energy vina -o runs/mine/`, or a table or folder of complexes"
        )
    for option in ("rounds", "rungs", "walkers", "sweeps"):
        at_least(f"--{option}", given[option], 1)
    temperature, top = given["temperature"], given["top_temperature"]
    if not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    if top is not None and not top > temperature:
        raise InputError(f"--top-temperature: got {top:g} K, expected more than the lowest, {temperature:g} K")
    chosen = {key: given[key] for key in ("objective", "rounds", "rungs", "sweeps") if options.typed(ctx, (key,))}
    if "sweeps" in chosen:
        # of a short round every sweep is kept
        chosen["every"] = min(LIGAND.every, given["sweeps"])
    if options.typed(ctx, ("walkers",)):
        chosen["columns"] = given["walkers"]
    if top is not None:
        chosen["hottest"] = top / temperature
    ladder = dataclasses.replace(LIGAND, **chosen)
    named = [given["source"], *([given["ligand"]] if given["ligand"] is not None else [])]
    complexes = ligands.inputs_of(named, given)
    out, config = _ready(ctx, given, config, "torsional")
    systems = _systems_of(ctx, complexes)

    from equilibra.systems.model import load
    from equilibra.train.ligand import LigandSources

    known = LigandSources.read(sources) if sources else ()
    if isinstance(known, LigandSources):
        ligands.tell_data(ctx, known)

    weights = None if given["start_from"] is None else load(given["start_from"])
    sizes = options.sizes_of(weights, SIZES, sizes)
    several = len(systems) > 1 or bool(given["data"])
    options.watch_energy(
        ctx,
        out,
        [*named, *ligands.repeated(given)],
        given["energy"],
        lambda progress: train_ligand_on_energy(
            systems,
            out,
            given["energy"],
            ladder,
            config,
            name=name,
            temperature=temperature,
            network=sizes,
            weights=weights,
            known=known,
            known_share=KNOWN_SHARE if share is None else share,
            progress=progress,
        ),
    )
    if isinstance(known, LigandSources):
        ligands.tell_complexes(ctx, known, out)
    if several:
        rows = [
            (row["number"], row["name"], f"{100 * float(row['ess'] or 0.0):.1f} %", _short(row["elbo"]), _short(row["eubo"]))
            for row in csv.DictReader((out / "systems.csv").open(encoding="utf-8"))
        ]
        table(ctx, ("number", "system", "ESS", "log Z at least", "at most"), rows[:_SHOWN])
        if len(rows) > _SHOWN:
            say(ctx, f"and {len(rows) - _SHOWN} more: '{out / 'systems.csv'}'")


def _short(number: str) -> str:
    return f"{float(number):.2f}" if number else "-"


def _systems_of(ctx: typer.Context, complexes: Sequence[LigandInput]) -> list[LigandSystem]:
    """Reads the systems of a training; of several records bad ones are told and left out.

    Raises:
        InputError: If nothing can be read.
    """
    from equilibra.systems.ligand.inputs import ligand_systems

    problems: list[InputError] = []
    found: list[LigandSystem] = []
    for each in complexes:
        try:
            found += ligand_systems(each, on_error=problems.append)
        except InputError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    for problem in problems:
        complain(f"left out: {problem}")
    for system in found:
        ligands.tell(ctx, system)
    if len(found) > 1:
        say(ctx, f"{len(found)} systems: {', '.join(system.name for system in found[:6])}{', ...' if len(found) > 6 else ''}")
    return found


def _ready(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, state: StateKind) -> tuple[Path, TrainConfig]:
    """Returns the run folder, and the configuration with the defaults of a state of ligands where none is named."""
    import torch

    from equilibra.memory import keep_freed_memory
    from equilibra.train.ligand import DEFAULTS

    out = Path(given["out"])
    writable(out)
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    own = {
        key: getattr(DEFAULTS[state], key)
        for key in ("noise_median", "noise_width", "batch_size", "precision")
        if not options.typed(ctx, (key,))
    }
    return out, dataclasses.replace(config, **own, compile=False)
