"""The table of an evaluation: every number with its error, noise floor, baseline and sample size."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from equilibra.errors import ConfigError, unknown_key_message

SCHEMA_VERSION = 1
"""The version of the JSON form."""

_SIDES = {
    "runs": "groups of different runs",
    "halves": "contiguous halves of the only run",
    "parts": "disjoint random parts of the reference",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One metric of an ensemble against a reference; numbers that do not apply are NaN."""

    metric: str
    """The name."""
    value: float
    """The metric of the ensemble."""
    error: float
    """The standard error of the value, by bootstrap over the ensemble; for a share of 0 or 1 the far end of its 68 % Clopper-Pearson interval."""
    floor: float
    """What two independent draws of the reference give at the same N; for an observable, their mean absolute difference."""
    floor_std: float
    """The standard deviation of the floor over repeats."""
    baseline: float
    """What the baseline named in the definition gives at the same N."""
    n: int
    """The number of samples N on each side."""
    unit: str
    """The unit; `1` for pure numbers."""
    definition: str
    """What was computed, exactly, and what the baseline is."""
    reference: float = math.nan
    """For an observable: its value in the reference."""
    reference_error: float = math.nan
    """For a population: the reference's standard error, corrected for correlation."""


@dataclass(frozen=True, kw_only=True)
class EvaluationTable:
    """The metrics of one ensemble against one reference."""

    rows: tuple[EvaluationRow, ...]
    """The metrics."""
    molecule: str
    """What was compared, e.g. `22 atoms, ACE-ALA-NME`."""
    ensemble_frames: int
    """The number of frames of the ensemble."""
    reference_frames: tuple[int, ...]
    """The number of frames of each run of the reference."""
    split: str
    """How the floor splits the reference: `runs`, `halves` (contiguous ones of the only run) or `parts` (disjoint random ones)."""
    notes: tuple[str, ...] = ()
    """What a reader must know, in words, such as what could not be computed."""

    def __getitem__(self, metric: str) -> EvaluationRow:
        """Returns the row of a metric.

        Raises:
            ConfigError: If there is no such metric; the nearest name is given.
        """
        for row in self.rows:
            if row.metric == metric:
                return row
        raise ConfigError(unknown_key_message("metric", metric, (row.metric for row in self.rows)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the table as plain dictionaries and lists; numbers that are not finite become None."""
        table = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        table["rows"] = [{key: _plain(value) for key, value in dataclasses.asdict(row).items()} for row in self.rows]
        table["reference_frames"] = list(self.reference_frames)
        return table

    def to_json(self) -> str:
        """Returns the table as a JSON text; numbers that are not finite become null."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Returns the table as aligned text for people, with the definitions below."""
        head = ("metric", "value", "error", "reference", "floor", "baseline", "N", "unit")
        lines: list[tuple[str, ...]] = [head]
        for row in self.rows:
            numbers = (row.value, row.error, row.reference, row.floor, row.baseline)
            lines.append((row.metric, *map(_short, numbers), str(row.n), row.unit))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        left = {0, len(head) - 1}
        body = [
            "  ".join(
                cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        body.insert(1, "-" * max(map(len, body)))
        sides = _SIDES.get(self.split, _SIDES["halves"])
        frames = " + ".join(map(str, self.reference_frames))
        title = f"{self.molecule}: {self.ensemble_frames} frames against a reference of {frames}; floors between {sides}"
        notes = [f"{row.metric}: {row.definition}" for row in self.rows]
        return "\n".join([title, "", *body, "", *notes, *self.notes]) + "\n"


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
