"""What a report shows of the relaxation of all-atom structures, read from the table that it leaves."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from equilibra.errors import InputError
from equilibra.report.protein_data import RelaxationSummary
from equilibra.systems.protein.all_atom_ensemble import COLUMNS, REPORT

_WORDS = {
    "relaxed": "relaxed",
    "suspect": "relaxed, but something is still wrong",
    "failed": "could not be relaxed",
}


def read_relaxation(path: str | Path | None, folder: Path | None, frames: int) -> RelaxationSummary | None:
    """Reads the table of a relaxation.

    Arguments:
        path: The table, or None.
        folder: Where to look for one if it is not given; one of another number of conformations is left out.
        frames: Number of conformations.

    Returns:
        The summary, or None where there is no table.

    Raises:
        InputError: If the given table cannot be read or is of another number of conformations.
    """
    if path is None:
        found = None if folder is None else folder / REPORT
        if found is None or not found.is_file():
            return None
        rows = _rows(found)
        return _summary(rows) if len(rows) == frames else None
    rows = _rows(Path(path))
    if len(rows) != frames:
        raise InputError(
            f"'{path}' is of {len(rows)} conformations, but the ensemble has {frames}; give the table of this ensemble"
        )
    return _summary(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"'{path}' is no table of a relaxation that can be read: {error}") from error
    missing = sorted(set(COLUMNS) - set(rows[0] if rows else ()))
    if missing:
        raise InputError(
            f"'{path}' lacks the columns {', '.join(missing)}; expected a '{REPORT}' that all-atom structures come with"
        )
    return rows


def _summary(rows: list[dict[str, str]]) -> RelaxationSummary:
    status = np.array([row["status"] for row in rows])
    done = [row for row in rows if row["status"] != "failed"]

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in done])

    facts: dict[str, object] = {
        words: f"{int((status == name).sum()):,} of {len(rows):,}" for name, words in _WORDS.items() if (status == name).any()
    }
    facts["side chains by"] = dict(Counter(row["engine"] for row in rows))
    if done:
        moved, furthest = column("ca_rmsd"), column("heavy_max")
        facts["C-alpha atoms moved by"] = f"{np.median(moved):.2f} Å (median RMSD), {moved.max():.2f} Å at most"
        facts["largest displacement of a heavy atom"] = f"{np.median(furthest):.2f} Å (median), {furthest.max():.2f} Å at most"
        before, after = column("clashes_before"), column("clashes_after")
        facts["clashes of heavy atoms"] = f"{before.mean():.2f} a conformation before, {after.mean():.2f} after"
        energies = column("energy_before"), column("energy_after")
        facts["energy (median)"] = f"{np.median(energies[0]):.3g} eV before, {np.median(energies[1]):.3g} eV after"
        for name, words in (
            ("inverted", "with a stereocentre of the wrong hand"),
            ("stretched", "with a bond that is far off"),
        ):
            facts[f"conformations {words}"] = int((column(name) > 0).sum())
    reasons = Counter(row["reason"] for row in rows if row["reason"])
    return RelaxationSummary(
        facts=facts,
        moved=column("ca_rmsd"),
        clashes=np.stack([column("clashes_before"), column("clashes_after")], axis=1),
        reasons=dict(reasons.most_common(5)),
    )
