r"""Exact optimal transport between two sets of samples, and its closed form on the line.

.. math:: W_2^2 = \min_{\pi} \sum_{ij} \pi_{ij}\, d(x_i, y_j)^2, \qquad \sum_j \pi_{ij} = 1/n,\ \sum_i \pi_{ij} = 1/m
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.errors import DivergenceError


def exact_transport(cost: ArrayLike) -> float:
    """Returns the smallest mean cost of a coupling of two samples with equal weights (network simplex of POT).

    Arguments:
        cost: The cost of every pair, with shape (n, m); squared distances for W2.

    Raises:
        InputError: If the cost is empty or not finite.
        DivergenceError: If the solver does not reach the optimum.
    """
    import ot

    matrix = np.ascontiguousarray(check_samples("transport cost", cost, ndim=2))
    value, log = ot.emd2([], [], matrix, numItermax=100_000_000, log=True)
    if log["warning"] is not None:
        raise DivergenceError(f"optimal transport of {matrix.shape[0]} and {matrix.shape[1]} samples: {log['warning']}")
    return max(float(value), 0.0)


def euclidean_w2(a: ArrayLike, b: ArrayLike) -> float:
    """Returns W2 between two samples of points (n, d) and (m, d) for the Euclidean distance, in the points' unit.

    Raises:
        InputError: If a sample is empty or not finite.
    """
    first = check_samples("first sample", a, ndim=2)
    second = check_samples("second sample", b, ndim=2, last=first.shape[1])
    cost = np.zeros((len(first), len(second)))
    for column in range(first.shape[1]):
        cost += (first[:, column, None] - second[None, :, column]) ** 2
    return float(np.sqrt(exact_transport(cost)))


def w2_1d(a: ArrayLike, b: ArrayLike) -> float:
    r"""Returns W2 between two samples of numbers: sorted pairs, or quantile coupling if the sizes differ.

    .. math:: W_2^2 = \int_0^1 \left(F_a^{-1}(s) - F_b^{-1}(s)\right)^2 ds

    Applied to reduced energies this is the energy-W2, applied to pooled pair distances the distance-W2. The root is taken.

    Raises:
        InputError: If a sample is empty or not finite.
    """
    first, second = _quantiles(a, b)
    return float(np.sqrt(((first[0] - second[0]) ** 2 * first[1]).sum()))


def w1_1d(a: ArrayLike, b: ArrayLike) -> float:
    """Returns W1, the mean absolute difference under the quantile coupling of two samples of numbers."""
    first, second = _quantiles(a, b)
    return float((np.abs(first[0] - second[0]) * first[1]).sum())


def _quantiles(a: ArrayLike, b: ArrayLike) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Both quantile functions on the common steps of the unit interval, with the steps' lengths."""
    first = np.sort(check_samples("first sample", a, ndim=1))
    second = np.sort(check_samples("second sample", b, ndim=1))
    n, m = len(first), len(second)
    # steps in integers of 1/(n m): exact, so that equal levels are one level
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    lengths = np.diff(ends, prepend=0) / (n * m)
    return (first[(ends - 1) // m], lengths), (second[(ends - 1) // n], lengths)
