"""What is said of a model of ligands that was trained from an energy: its card, and a table of how well it knows each system."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from equilibra.systems.card import Card
from equilibra.systems.ligand.system import LigandSystem
from equilibra.train.energy import ess_words, log_z_words, unjudged_words

_SHOWN = 3


def energy_card(
    systems: Sequence[LigandSystem],
    energy: str,
    temperatures: tuple[float, float],
    calls: int,
    last: Sequence[Mapping[str, Any]],
    known: str = "",
) -> Card:
    """Makes the card of a model.

    Arguments:
        systems: What it was trained on.
        energy: Name of the energy.
        temperatures: Lowest and highest temperature, in K.
        calls: Energy calls of the training.
        last: For each system what the last round found: `ess`, `path_samples`, `elbo` and `eubo`.
        known: Which known complexes it was trained on, too, in words.
    """
    low, high = temperatures
    span = f"{low:g} K" if high == low else f"{low:g} to {high:g} K"
    besides = f", and on {known}" if known else ""
    other = f", and {known}" if known else ""
    if len(systems) == 1 and not known:
        return Card(
            summary=f"{systems[0].name} in its pocket, trained from the energy '{energy}' at {span} with {calls:,} energy calls.",
            not_good_for="Any other ligand, pocket or energy. Binding modes that the parallel tempering of its training did not reach are missing.",
            data=f"Own samples of the energy. At the end the ESS of {last[0]['path_samples']} samples was {ess_words(last[0])}, and log Z {_log_z(last[0])} at {low:g} K."
            f"{unjudged_words(last)}",
        )
    names = ", ".join(system.name for system in systems[:_SHOWN])
    more = f" and {len(systems) - _SHOWN} more" if len(systems) > _SHOWN else ""
    shares = [100.0 * float(entry["ess"] or 0.0) for entry in last]
    return Card(
        summary=f"{names}{more} in their pockets, trained from the energy '{energy}' at {span} with {calls:,} energy calls{besides}.",
        not_good_for="Affinities; receptors that change their shape with the ligand; covalent ligands. Binding modes that the parallel tempering of its training did not reach are "
        "missing. Of other ligands and pockets nothing is known: the weights of their samples say how far they are from the energy's distribution.",
        data=f"Own samples of the energy{other}. At the end the ESS of {last[0]['path_samples']} samples of each system was {min(shares):.1f} to {max(shares):.1f} %, in the mean "
        f"{sum(shares) / len(shares):.1f} %, at {low:g} K.{unjudged_words(last)}",
        figures={
            f"{number:03d} {system.name}": f"ESS {ess_words(entry)}, log Z {_log_z(entry)}"
            for number, (system, entry) in enumerate(zip(systems, last, strict=True))
        },
    )


def systems_table(systems: Sequence[LigandSystem], last: Sequence[Mapping[str, Any]]) -> str:
    """Returns as CSV text which system has which number, and what the last round found.

    Columns besides: the effective share of the model's samples, both bounds of log Z, empty where not known, and the share of its proposals that the walkers took.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["number", "name", "torsions", "ess", "elbo", "eubo", "accepted", "energy_calls"])
    for number, (system, entry) in enumerate(zip(systems, last, strict=True)):
        found = (entry.get(name) for name in ("ess", "elbo", "eubo", "accepted"))
        shown = ("" if value is None else f"{value:.4f}" for value in found)
        rows.writerow([f"{number:03d}", system.name, len(system.torsions.axes), *shown, entry["calls_judged"]])
    return text.getvalue()


def _log_z(entry: Mapping[str, Any]) -> str:
    return log_z_words(entry["elbo"], entry["eubo"])
