"""What the reports of every domain gather from an ensemble: its weights, its cost, its checks, and the limits of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import EquilibraError
from equilibra.report.sections import ValidityRow
from equilibra.systems.block_weights import finite, in_words, size_in_words, tail_in_words
from equilibra.systems.ensemble import Ensemble

_SHOWN_ELSEWHERE = ("timing", "path_weights", "guidance", "relaxed_sites")


def is_weighted(ensemble: Ensemble) -> bool:
    """Tells whether the weights of an ensemble differ."""
    return bool(np.ptp(ensemble.log_weights) > 0)


def weighting(ensemble: Ensemble) -> tuple[str, dict[str, object]]:
    """Returns whether the weights of an ensemble can be trusted, and what is known of them; nothing where they are equal."""
    from equilibra.thermo.weights import diagnose

    if not is_weighted(ensemble):
        return "", {}
    guidance: Any = ensemble.provenance.get("guidance")
    guided = isinstance(guidance, Mapping) and guidance["corrected"]
    # relatives count as one in the record of guided populations
    record: Mapping[str, Any] = guidance if guided else finite(asdict(diagnose(ensemble.log_weights)))
    facts: dict[str, object] = {"effective sample size": size_in_words(record), "Pareto k": tail_in_words(record)}
    if guided:
        facts["average likelihood of the model's samples, ln"] = in_words(record, "log_evidence")
        facts["drawn"] = (
            f"{record['drawn']:,} in {record['populations']:,} populations, of which {record['rejected']:,} failed the checks: weight zero"
        )
    known: Any = ensemble.provenance.get("path_weights")
    if isinstance(known, Mapping):
        for name, label in (("log_z", "log Z"), ("elbo", "lower bound of log Z")):
            facts[label] = in_words(known, name)
        facts["energy"] = f"{ensemble.provenance['energy']}, {known['energy_calls']:,} calls"
        facts["drawn"] = (
            f"{known['drawn']:,}, of which {known['rejected']:,} failed the checks or have an infinite energy: weight zero"
        )
    return record["sentence"], facts


def cost(ensemble: Ensemble) -> dict[str, object]:
    """Returns the network calls of a sample and the samples per second, as far as the provenance says them."""
    timing: Any = ensemble.provenance.get("timing") or {}
    tiles: dict[str, object] = {}
    if "network_calls" in ensemble.provenance:
        tiles["network calls per sample"] = ensemble.provenance["network_calls"]
    if timing.get("samples_per_second"):
        tiles["samples per second"] = timing["samples_per_second"]
    return tiles


def validity_rows(ensemble: Ensemble, criteria: Mapping[str, str]) -> list[ValidityRow]:
    """Returns the checks of all frames that were drawn, each with its criterion in words."""
    return [ValidityRow(check, good, total, criteria.get(check, "")) for check, good, total in ensemble.validity_table()]


def provenance(ensemble: Ensemble) -> dict[str, object]:
    """Returns the provenance without what the page shows elsewhere."""
    return {key: value for key, value in ensemble.provenance.items() if key not in _SHOWN_ELSEWHERE}


def limits(model: str | Path | None) -> str:
    """Returns the limits in a model's card; nothing if the model is not to be found here."""
    from equilibra.systems.checkpoint import read_description
    from equilibra.systems.model import WEIGHTS

    if model is None:
        return ""
    for folder in (WEIGHTS / str(model), Path(model), Path(model) / "model"):
        if (folder / "model.json").is_file():
            try:
                return str(read_description(folder)["card"].get("not_good_for", ""))
            except EquilibraError:
                return ""
    return ""
