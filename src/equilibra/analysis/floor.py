"""Noise floors: what a metric gives for two perfect samples of the same size.

No score means anything without it: most distances between histograms or samples are positive even if both come from the same
distribution, and fall with their size. A floor compares two *independent* draws from the reference. Random halves of one trajectory
share every slow motion and hide a factor of 5 to 10; so several runs are split as wholes, and a single run into its contiguous halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, IntArray, check_runs
from equilibra.errors import InputError

Split = Literal["runs", "halves"]

Metric = Callable[[FloatArray, FloatArray], float]
"""A function of two sets of samples."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The value of a metric between two independent draws of the reference."""

    mean: float
    """The mean over repeats."""
    std: float
    """The standard deviation over repeats; repeats share the reference's frames, so it is a lower bound of the spread."""
    n: int
    """The number of samples in each draw."""
    repeats: int
    """The number of pairs of draws."""
    split: Split
    """Whether the two sides are different runs, or contiguous halves of a single one."""


def floor(metric: Metric, reference_runs: Sequence[ArrayLike], n: int, rng: np.random.Generator, repeats: int = 10) -> Floor:
    """Measures the noise floor of a metric at `n` samples.

    With two or more runs, each repeat deals the runs at random into two groups of equal number (a run left over joins the second) and
    draws n frames of each; with a single run, the two sides are its contiguous halves.

    Arguments:
        metric: A function of two arrays of samples.
        reference_runs: Independent runs of the reference, the first axis of each counts frames.
        n: The number of samples in each draw.
        rng: The only source of randomness.
        repeats: The number of pairs of draws.

    Raises:
        InputError: If the runs are empty or not finite, or one side cannot hold `n` frames (see `largest_draw`).
    """
    runs = check_runs("reference", reference_runs)
    if n < 1 or repeats < 1:
        raise InputError(f"floor: got n = {n}, repeats = {repeats}; expected at least 1 of each")
    largest = largest_draw([len(run) for run in runs])
    if n > largest:
        raise InputError(f"floor: the reference holds at most {largest} frames on each side of a split, but n is {n}; lower n")
    joined, lengths = np.concatenate(runs), [len(run) for run in runs]
    pairs = [draw_pair(lengths, n, rng) for _ in range(repeats)]
    values = [metric(joined[first], joined[second]) for first, second in pairs]
    spread = float(np.std(values, ddof=1)) if repeats > 1 else float("nan")
    return Floor(mean=float(np.mean(values)), std=spread, n=n, repeats=repeats, split=split_kind(len(runs)))


def split_kind(n_runs: int) -> Split:
    """Tells how a reference of so many runs is split: into different runs, or into halves of the only one."""
    return "runs" if n_runs > 1 else "halves"


def largest_draw(lengths: Sequence[int]) -> int:
    """Returns how many frames either side of every split holds: the shortest runs of half the number, or half of a single run."""
    if len(lengths) == 1:
        return lengths[0] // 2
    return sum(sorted(lengths)[: len(lengths) // 2])


def draw_pair(lengths: Sequence[int], n: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Draws the frames of two independent samples of a reference, as indices into its joined runs.

    Arguments:
        lengths: The number of frames of each run.
        n: The number of frames on each side; all of a side that has no more.
        rng: The only source of randomness.

    Returns:
        The frames of the two sides, which share no run, or come from different halves of the only run.
    """
    starts = np.cumsum([0, *lengths])
    if len(lengths) == 1:
        cuts = [0, lengths[0] // 2, lengths[0]]
        sides = [np.arange(cuts[0], cuts[1]), np.arange(cuts[1], cuts[2])]
    else:
        order = rng.permutation(len(lengths))
        groups = order[: len(order) // 2], order[len(order) // 2 :]
        sides = [np.concatenate([np.arange(starts[run], starts[run + 1]) for run in group]) for group in groups]
    first, second = (rng.choice(side, size=min(n, len(side)), replace=False) for side in sides)
    return first, second


def analytic_floor(kind: Literal["jsd", "kl", "tv"], bins: int, n: int) -> float:
    r"""Returns the expected value between two samples of size n in K well-filled bins.

    JSD :math:`(K - 1) / 4n` (nats), KL :math:`(K - 1) / n` (nats), total variation :math:`\sqrt{K / \pi n}`. Valid for many samples
    in each bin; with empty bins the true floor of the regularised KL is far higher.

    Raises:
        InputError: If the kind is unknown, or a number is below one.
    """
    if bins < 1 or n < 1:
        raise InputError(f"analytic floor: got bins = {bins}, n = {n}; expected at least 1 of each")
    formulas = {"jsd": (bins - 1) / (4 * n), "kl": (bins - 1) / n, "tv": float(np.sqrt(bins / (np.pi * n)))}
    if kind not in formulas:
        raise InputError(f"analytic floor: got kind '{kind}', expected one of {', '.join(formulas)}")
    return formulas[kind]
