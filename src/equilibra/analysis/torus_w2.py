r"""W2 between two samples of angles on the flat torus.

.. math:: d(x, y)^2 = \sum_k \min(|x_k - y_k|,\ 2\pi - |x_k - y_k|)^2

The value falls with the sample size (0.19 at n = 250 to 0.08 at n = 4000 for two perfect samples of alanine dipeptide), so n
belongs to every quoted number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples, subsample
from equilibra.analysis.transport import exact_transport


def torus_cost(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Returns the squared torus distance of every pair, in rad².

    Arguments:
        a: Angles in radians, with shape (n, angles); any number of full turns.
        b: Angles in radians, with shape (m, angles).

    Returns:
        The costs, with shape (n, m).
    """
    first = check_samples("first angles", a, ndim=2)
    second = check_samples("second angles", b, ndim=2, last=first.shape[1])
    cost = np.zeros((len(first), len(second)))
    for column in range(first.shape[1]):
        gap = np.mod(np.abs(first[:, column, None] - second[None, :, column]), 2 * np.pi)
        cost += np.minimum(gap, 2 * np.pi - gap) ** 2
    return cost


def torus_w2(a: ArrayLike, b: ArrayLike, *, rng: np.random.Generator, n: int = 2000) -> float:
    """Returns W2 between two samples of angles, by exact transport.

    Arguments:
        a: Angles in radians, with shape (samples, angles).
        b: Angles in radians, with shape (samples, angles).
        rng: Chooses the subsets.
        n: The number of samples taken from each side, without replacement; all of a smaller set.

    Returns:
        The distance in radians (the root is taken).

    Raises:
        InputError: If a sample is empty or not finite.
    """
    first = subsample(check_samples("first angles", a, ndim=2), n, rng)
    second = subsample(check_samples("second angles", b, ndim=2), n, rng)
    return float(np.sqrt(exact_transport(torus_cost(first, second))))
