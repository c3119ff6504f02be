"""What `train` does for adsorbates: one model of many slabs and adsorbates, from an energy or from trajectories."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equilibra.cli import adsorbate_input as adsorbates
from equilibra.cli import training as options
from equilibra.cli.checks import at_least, one_of, present, writable
from equilibra.cli.console import bar, say
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.model import Model
    from equilibra.train.adsorbate import AdsorbateEntry
    from equilibra.train.config import TrainConfig
    from equilibra.train.energy import EnergyProgress

SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")
"""Sizes of the network that `--network` may change."""

_LADDER = {"rounds": "rounds", "rungs": "rungs", "walkers": "columns", "sweeps": "sweeps"}
_OBJECTIVES = ("tsm", "anneal")
_OWN = ("noise_median", "noise_width", "precision")
_OTHERS = ("topology", "forces", "minutes", "features", "feature_dropout", "crop", "budget", "plain_data")


def run_adsorbate(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Trains a model of adsorbates.

    Raises:
        InputError: If an option has no meaning here, or there is nothing to learn from.
    """
    for option in options.typed(ctx, _OTHERS):
        raise InputError(f"train: {option} has no meaning for adsorbates; leave it out")
    out, energy, data = Path(given["out"]), given["energy"], given["data"] or []
    if (energy is None) == (not data):
        raise InputError(
            "train: expected either --energy (emt, chgnet, sevennet, an ASE calculator, FILE.py:FUNCTION) with slabs and adsorbates, or trajectories with --data"
        )
    if not given["temperature"] > 0:
        raise InputError(f"--temperature: got {given['temperature']}, expected a positive number in K")
    writable(out)

    import torch

    from equilibra.memory import keep_freed_memory
    from equilibra.train.adsorbate_energy import DEFAULT

    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    own = {name: getattr(DEFAULT, name) for name in _OWN if not options.typed(ctx, (name,))}
    config = dataclasses.replace(config, compile=False, **own)
    name = given["name"] if options.typed(ctx, ("name",)) else "adsorbate"
    if energy is None:
        _from_data(ctx, given, config, sizes, name, out)
    else:
        _from_energy(ctx, given, config, sizes, name, out)


def _from_data(
    ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int], name: str, out: Path
) -> None:
    from equilibra.train.adsorbate import train_adsorbate

    for option in options.typed(ctx, (*_LADDER, "objective", "top_temperature", "start_from", *adsorbates.OWN)):
        raise InputError(f"train: {option} has a meaning with --energy only; leave it out")
    entries = entries_of(given["data"])
    temperature = given["temperature"] if options.typed(ctx, ("temperature",)) else None
    model = options.watch(
        ctx,
        out,
        config,
        lambda shown: train_adsorbate(entries, out, config, name=name, temperature=temperature, network=sizes, progress=shown),
    )
    say(ctx, model.card.summary)


def tune_adsorbate(ctx: typer.Context, model: Model, given: dict[str, Any], config: TrainConfig) -> None:
    """Trains a model of adsorbates further.

    Raises:
        InputError: If an option has no meaning here, or there are no data.
    """
    for option in options.typed(ctx, ("trajectory", "energy", "snapshots", "average", *_OTHERS)):
        raise InputError(f"fine-tune: {option} has no meaning for adsorbates, which are learned from --data; leave it out")
    out = Path(given["out"])
    entries = entries_of(given["data"] or ())
    if not entries:
        raise InputError("fine-tune: got no data of adsorbates; name trajectories with --data, such as --data md.traj")
    writable(out)

    from equilibra.train.adsorbate import TUNING, fine_tune_adsorbate

    own = {name: getattr(TUNING, name) for name in _OWN if not options.typed(ctx, (name,))}
    config = dataclasses.replace(config, compile=False, **own)
    name, kelvin = given["name"], given["temperature"]
    made = options.watch(
        ctx,
        out,
        config,
        lambda shown: fine_tune_adsorbate(model, entries, out, config, name=name, temperature=kelvin, progress=shown),
    )
    say(ctx, made.card.summary)


def entries_of(texts: Sequence[str]) -> list[AdsorbateEntry]:
    """Reads the sets of trajectories of `--data`, each `PATH[@WEIGHT]`.

    Raises:
        InputError: If a file is missing, or a weight is not positive.
    """
    from equilibra.train.adsorbate import AdsorbateEntry

    entries = []
    for text in texts:
        where, weight = options.weight_of(text)
        present(Path(where))
        entries.append(AdsorbateEntry(data=Path(where), weight=weight))
    return entries


def _from_energy(
    ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int], name: str, out: Path
) -> None:
    from equilibra.systems.adsorbate.system import AdsorbateSystem
    from equilibra.systems.domain import domain
    from equilibra.train.adsorbate_energy import LADDER, train_adsorbate_on_energy

    typed = options.typed(ctx, ("objective",))
    one_of("objective", given["objective"] if typed else "tsm", _OBJECTIVES)
    changes = {field: given[option] for option, field in _LADDER.items() if options.typed(ctx, (option,))}
    for option, field in _LADDER.items():
        at_least(f"--{option}", changes.get(field), 1)
    temperature, top = given["temperature"], given["top_temperature"]
    if top is not None:
        if not top > temperature:
            raise InputError(f"--top-temperature: got {top:g} K, expected more than the lowest, {temperature:g} K")
        changes["hottest"] = top / temperature
    if typed:
        changes["objective"] = given["objective"]
    sources = adsorbates.sources_of([given["source"]] if given["source"] else None, given)
    systems: list[AdsorbateSystem] = [system for source in sources for system in domain("adsorbate").systems(source)]
    say(
        ctx,
        f"{len(systems)} system(s): {', '.join(system.name for system in systems[:6])}{', ...' if len(systems) > 6 else ''}",
    )

    from equilibra.systems.model import load

    weights = None if given["start_from"] is None else load(given["start_from"])
    network = options.sizes_of(weights, (*SIZES, "cutoff"), sizes)
    with bar(ctx, "training", 1.0) as shown:

        def progress(state: EnergyProgress) -> None:
            note = f"{state.doing}, {state.calls:,} energy calls"
            if state.loss is not None:
                note += f", step {state.step:,}/{state.steps:,} loss {state.loss:.4f}"
            if state.ess is not None:
                note += f", mean ESS {100 * state.ess:.1f} %"
            shown.update(state.step, total=state.steps, note=note)

        model = train_adsorbate_on_energy(
            systems,
            out,
            given["energy"],
            dataclasses.replace(LADDER, **changes),
            config,
            name=name,
            temperature=temperature,
            network=network,
            weights=weights,
            progress=progress,
        )
    say(ctx, model.card.data)
    say(ctx, f"'{model.name}', {model.parameters():,} weights, in '{out / 'model'}'")
    say(ctx, f"what the walkers themselves know, at {temperature:g} K: {out / 'walkers'}")
    say(ctx, f"sample it: equilibra sample adsorbate '{systems[0].name}' --model {out / 'model'} --energy {given['energy']}")
