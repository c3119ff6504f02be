"""Parts of a report that are the same for every domain: the weights of samples and the checks they passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.report.elements import Cell, CellLike, Element, Facts, Figure, Table, Text, Tone
from equilibra.report.weight_plot import weight_plot

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable


@dataclass(frozen=True)
class ValidityRow:
    """One check of every sample.

    Attributes:
        check: What was checked.
        passed: How many samples passed.
        total: How many were checked.
        note: The criterion, or what the failures were.
    """

    check: str
    passed: int
    total: int
    note: str = ""


def check_rows(rows: Sequence[ValidityRow]) -> None:
    """Raises an `InputError` if more samples passed a check than were checked."""
    for row in rows:
        if not 0 <= row.passed <= row.total:
            raise InputError(f"validity '{row.check}': got {row.passed} passed of {row.total}, expected at most all")


def percent(passed: int, total: int) -> str:
    """Returns a share in per cent that never rounds a failure away: 9,999 of 10,000 is 99.99 %, and only all is 100 %."""
    if total == 0:
        return "–"
    if passed == total:
        return "100 %"
    digits = max(1, min(4, int(np.ceil(np.log10(total))) - 2))
    return f"{min(100.0 * passed / total, 100.0 - 10.0**-digits):.{digits}f} %"


def share(population: float) -> str:
    """Returns a share of an ensemble in per cent."""
    return "< 0.1 %" if 0.0 < population < 0.0005 else f"{100.0 * population:.1f} %"


def weight_elements(log_weights: ArrayLike | None, verdict: str, facts: Mapping[str, object]) -> list[Element]:
    """Returns what is known of the weights: whether they can be trusted, numbers, and a plot; nothing where nothing is known.

    Arguments:
        log_weights: Logarithm of each weight, with shape (frames), or None.
        verdict: Whether the weights can be trusted, in a sentence.
        facts: What else is known, label -> value.
    """
    elements: list[Element] = [Text(verdict)] if verdict else []
    if facts:
        elements.append(Facts(facts))
    if log_weights is not None:
        caption = (
            "Left: samples by the logarithm of their weight. Right: the share of all weight in the largest weights; grey: equal weights. All "
            "distributions, populations and averages below are weighted."
        )
        alt = f"Histogram of log-weights, and the running sum of the weights in descending order. {verdict}"
        elements.append(Figure(weight_plot(log_weights), caption, alt))
    return elements


def validity_elements(rows: Sequence[ValidityRow]) -> list[Element]:
    """Returns the table of the checks; nothing where there are none."""
    if not rows:
        return []
    cells: list[list[CellLike]] = []
    for row in rows:
        failed = row.total - row.passed
        tone: Tone = "good" if failed == 0 else ("warn" if failed <= 0.01 * row.total else "bad")
        cells.append([row.check, Cell(percent(row.passed, row.total), tone), row.passed, failed, row.note])
    caption = "Every sample as the model made it, before any filter."
    return [Table(["check", "passed (%)", "passed", "failed", "criterion"], cells, caption)]


def evaluation_elements(table: EvaluationTable | None, caption: str) -> list[Element]:
    """Returns an evaluation as a table with floors and baselines, and the definition of every metric; nothing where there is none.

    Arguments:
        table: The evaluation, or None.
        caption: What floors and baselines are.
    """
    if table is None:
        return []
    rows: list[list[CellLike]] = [
        [
            row.metric if row.unit == "1" else f"{row.metric} ({row.unit})",
            significant(row.value),
            significant(row.error),
            significant(row.reference),
            significant(row.floor),
            significant(row.baseline),
            row.n,
        ]
        for row in table.rows
    ]
    head = ["metric", "value", "error", "reference", "floor", "baseline", "N"]
    return [Table(head, rows, caption), Facts({row.metric: row.definition for row in table.rows})]


def card_elements(limits: str) -> list[Element]:
    """Returns what a model's card says that it is not good for; nothing where it says nothing."""
    return [Text(limits)] if limits.strip() else []


def provenance_elements(provenance: Mapping[str, object]) -> list[Element]:
    """Returns what made an ensemble; nothing where nothing is known."""
    return [Facts(provenance)] if provenance else []


def significant(value: float | None) -> float | None:
    """Returns a number with three digits; None where there is none, or none that is finite."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.3g}")


def reference_name(reference: Any, label: str | None) -> str:
    """Returns what a reference is called: its label, or the name of its file or folder."""
    return label or (Path(reference).name if isinstance(reference, str | Path) else "reference")
