"""Occupied-bin coverage: how much of the reference's populated region the samples reach, and how much of theirs is populated.

Both sets mark the occupied cells of a common grid. With TP the cells marked by both, FN by the reference only, FP by the samples only
and TN by neither, recall ("coverage") is TP/(TP+FN), precision TP/(TP+FP), accuracy (TP+TN)/all. The scores grow with the number of
samples, so they are reported against it.

References:
    | Towards Predicting Equilibrium Distributions for Molecular Systems with Deep Learning (Zheng et al., 2023), A.7
    | https://arxiv.org/abs/2306.05445
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.histogram import histogram_2d
from equilibra.analysis.samples import check_samples, subsample
from equilibra.errors import InputError

Limits = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class BinCoverage:
    """Scores of the samples' occupied cells against the reference's."""

    recall: float
    """The share of the reference's cells that the samples occupy: the coverage."""
    precision: float
    """The share of the samples' cells that the reference occupies."""
    f1: float
    """The harmonic mean of recall and precision."""
    accuracy: float
    """The share of all cells on which both agree."""
    n: int
    """The number of samples."""


def bin_coverage(reference: ArrayLike, samples: ArrayLike, *, limits: Limits | None = None, bins: int = 50) -> BinCoverage:
    """Returns the occupied-bin scores of samples in the plane, on a common grid.

    Arguments:
        reference: Points of the reference, with shape (n, 2): torsions in radians, or slow coordinates.
        samples: Points of the samples, with shape (m, 2).
        limits: The grid's range; by default the reference's own. Samples outside it are counted in the edge cells.
        bins: The number of bins of each axis.

    Raises:
        InputError: If a set is empty or not finite, or the reference has no extent and no limits are given.
    """
    target = check_samples("reference", reference, ndim=2, last=2)
    got = check_samples("samples", samples, ndim=2, last=2)
    if limits is None:
        low, high = target.min(axis=0), target.max(axis=0)
        if not (low < high).all():
            raise InputError("bin coverage: the reference has no extent in one axis; give the limits of the grid")
        limits = ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))
    wanted = histogram_2d(target, bins=bins, limits=limits, outside="clip") > 0
    reached = histogram_2d(got, bins=bins, limits=limits, outside="clip") > 0
    both = int((wanted & reached).sum())
    recall, precision = both / int(wanted.sum()), both / int(reached.sum())
    f1 = 2 * recall * precision / (recall + precision) if both else 0.0
    return BinCoverage(recall=recall, precision=precision, f1=f1, accuracy=float((wanted == reached).mean()), n=len(got))


def coverage_curve(
    reference: ArrayLike,
    samples: ArrayLike,
    *,
    rng: np.random.Generator,
    sizes: Sequence[int] = (100, 1000, 10000),
    limits: Limits | None = None,
    bins: int = 50,
) -> list[BinCoverage]:
    """Returns `bin_coverage` for growing random subsets of the samples; sizes beyond the number of samples are left out."""
    got = check_samples("samples", samples, ndim=2, last=2)
    kept = [size for size in sizes if size <= len(got)]
    return [bin_coverage(reference, subsample(got, size, rng), limits=limits, bins=bins) for size in kept]
