"""How good poses are: distances from known ones in the frame of the receptor, best-of-k curves, and populations of modes against a reference."""

from __future__ import annotations

import numpy as np

from equilibra.geometry.symmetric_rmsd import symmetric_rmsd

SUCCESS = 2.0
"""A pose within so many Å of the known one is right, as docking programs are judged."""


def centred_rmsd(x: np.ndarray, y: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Computes symmetric RMSDs (F,) of poses (F, n, 3) whose middles are moved onto that of the known pose (n, 3) first, as the release of DiG does: placement does not count."""
    return symmetric_rmsd(x - x.mean(axis=1, keepdims=True), y - y.mean(axis=0), permutations)


def best_of(rmsd: np.ndarray, k: int) -> float:
    r"""Computes the expected smallest RMSD among k poses drawn from n without replacement.

    .. math:: \mathrm E[\min] = \sum_i r_{(i)} \binom{n - i}{k - 1} / \binom{n}{k}

    Arguments:
        rmsd: RMSDs (n,), of equally likely poses.
        k: Number of poses, at most n.
    """
    ordered, n = np.sort(rmsd), len(rmsd)
    # the probability that the smallest is the ith: none of the i - 1 smaller ones is drawn
    left = np.ones(n)
    for i in range(1, n):
        left[i] = left[i - 1] * max(n - k - i + 1, 0) / (n - i + 1)
    probability = left - np.append(left[1:], 0.0)
    return float((probability * ordered).sum())


def success_of(rmsd: np.ndarray, k: int, within: float = SUCCESS) -> float:
    """Computes the probability that one of k poses drawn from n without replacement is within a distance of the known one."""
    n, wrong = len(rmsd), int((rmsd > within).sum())
    missed = 1.0
    for i in range(k):
        missed *= max(wrong - i, 0) / (n - i)
    return 1.0 - missed


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Computes half of the sum of differences of two sets of populations."""
    return 0.5 * float(np.abs(np.asarray(p) - np.asarray(q)).sum())


def mode_populations(
    x: np.ndarray, weights: np.ndarray, leaders: np.ndarray, permutations: np.ndarray, radius: float
) -> np.ndarray:
    """Returns the population of each mode (M + 1,), the last that of poses of none: a pose is of the nearest leader within the radius.

    Arguments:
        x: Poses (F, n, 3).
        weights: Weights (F,), which sum to one.
        leaders: A pose (M, n, 3) of each mode.
        permutations: Automorphisms (P, n).
        radius: In the unit of length of the poses.
    """
    distance = np.stack([symmetric_rmsd(x, leader, permutations) for leader in leaders], axis=1)
    nearest = np.where(distance.min(axis=1) <= radius, distance.argmin(axis=1), len(leaders))
    return np.bincount(nearest, weights=weights, minlength=len(leaders) + 1)
