"""Results of named checks of many frames, with the reason of each failure. What is checked is a domain's business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Result = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Result of one check of B frames, three arrays (B,): which pass, the item (bond, pair, centre) furthest off, and what was measured there."""


@dataclass(frozen=True, eq=False)
class Validity:
    """Results of the checks of F frames.

    Attributes:
        checks: Names of the checks.
        passed: Boolean (F, checks).
        worst: Index (F, checks) of the item (bond, pair, centre) furthest off.
        values: What was measured there (F, checks): a length in Å, a volume, a cosine.
        describe: For each check, a function (item, value) -> sentence.
    """

    checks: tuple[str, ...]
    passed: np.ndarray
    worst: np.ndarray
    values: np.ndarray
    describe: tuple[Callable[[int, float], str], ...]

    @property
    def valid(self) -> np.ndarray:
        """Mask (F,) of the frames that pass every check."""
        return np.asarray(self.passed.all(axis=1))

    def __len__(self) -> int:
        return int(self.passed.shape[0])

    def table(self) -> list[tuple[str, int, int]]:
        """Returns a row (check, frames that pass, all frames) for each check, and a last row `all` for frames that pass every one."""
        total = len(self)
        rows = [(name, int(self.passed[:, column].sum()), total) for column, name in enumerate(self.checks)]
        return [*rows, ("all", int(self.valid.sum()), total)]

    def reasons(self, frame: int) -> list[str]:
        """Returns a sentence for each check that a frame fails, with the item furthest off; the first alone if that one fails, none for a valid frame.

        The first check of a domain is that the coordinates are finite: without it the others mean nothing.
        """
        failed = [column for column in range(len(self.checks)) if not self.passed[frame, column]]
        return [
            f"{self.checks[column]}: {self.describe[column](int(self.worst[frame, column]), float(self.values[frame, column]))}"
            for column in (failed[:1] if failed[:1] == [0] else failed)
        ]


def judge(
    positions: np.ndarray,
    checks: tuple[str, ...],
    results: Callable[[np.ndarray], Sequence[Result]],
    describe: tuple[Callable[[int, float], str], ...],
    *,
    frames_at_once: int,
) -> Validity:
    """Runs the checks over frames, some at a time.

    Arguments:
        positions: Frames (F, N, 3), in Å.
        checks: Names of the checks.
        results: Gives the result of each check for some frames (B, N, 3), in float64.
        describe: For each check, a function (item, value) -> sentence.
        frames_at_once: Frames given to `results` at once.
    """
    frames = len(positions)
    passed = np.zeros((frames, len(checks)), dtype=bool)
    worst = np.zeros((frames, len(checks)), dtype=np.int64)
    values = np.zeros((frames, len(checks)), dtype=np.float64)
    for start in range(0, frames, frames_at_once):
        block = slice(start, start + frames_at_once)
        for column, (good, item, value) in enumerate(results(positions[block].astype(np.float64))):
            passed[block, column], worst[block, column], values[block, column] = good, item, value
    return Validity(checks, passed, worst, values, describe)


def finite(x: np.ndarray) -> Result:
    """Checks that all coordinates of frames (B, N, 3) are finite; the item is an atom."""
    bad = ~np.isfinite(x).all(axis=-1)
    return ~bad.any(axis=1), bad.argmax(axis=1), np.zeros(len(x))


def within(values: np.ndarray, lower: np.ndarray | float, upper: np.ndarray | float) -> Result:
    """Checks that all values (B, items) are within bounds, each of which is one number or (items,)."""
    if not values.shape[1]:
        return nothing_to_check(values)
    with np.errstate(invalid="ignore", over="ignore"):
        good = np.asarray(((values >= lower) & (values <= upper)).all(axis=1))
        excess = np.maximum(lower - values, values - upper)
    return furthest(good, excess, values)


def furthest(good: np.ndarray, excess: np.ndarray, values: np.ndarray) -> Result:
    """Returns the result of a check by its worst item: `good` (B,), with `excess` and `values` (B, items); what is not a number is the worst."""
    item = np.where(np.isnan(excess), np.inf, excess).argmax(axis=1)
    return good, item, np.take_along_axis(values, item[:, None], axis=1)[:, 0]


def nothing_to_check(x: np.ndarray) -> Result:
    """Returns the result of a check without items for B frames: all pass."""
    return np.ones(len(x), dtype=bool), np.zeros(len(x), dtype=np.int64), np.zeros(len(x))
