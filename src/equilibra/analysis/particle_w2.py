r"""W2 between two sets of arrangements of identical particles: of energies, of pair distances, and of the arrangements themselves.

.. math:: W_2^2 = \min_{\pi} \sum_{ij} \pi_{ij}\, D(x_i, y_j)^2

All are roots, and all are positive between two perfect samples: quote them with N, the method and the floor (`particle_evaluation`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples, subsample
from equilibra.analysis.symmetry_distance import Method, Progress, squared_distances
from equilibra.analysis.transport import exact_transport, w2_1d
from equilibra.errors import InputError


def energy_w2(u_a: ArrayLike, u_b: ArrayLike) -> float:
    """Returns W2 between two samples of energies, in their unit (kT for reduced energies); quantile coupling for unequal sizes.

    Particles on top of each other have an infinite energy. They are not filtered: W2 is then infinite.

    Arguments:
        u_a: Energies with shape (n).
        u_b: Energies with shape (m).

    Raises:
        InputError: If a sample is empty, or an energy is NaN or minus infinity.
    """
    samples = [np.asarray(u, dtype=np.float64) for u in (u_a, u_b)]
    for name, u in zip(("first", "second"), samples, strict=True):
        if np.isnan(u).any() or np.isneginf(u).any():
            raise InputError(f"{name} energies: some are NaN or minus infinity; look for the cause, no distance is defined")
    if any(np.isposinf(u).any() for u in samples):
        return float("inf")
    return w2_1d(*samples)


def pair_distances(x: ArrayLike) -> FloatArray:
    """Returns the distances of all pairs of particles (n, pairs), pairs i < j in lexical order, of positions (n, items, axes)."""
    positions = check_samples("positions", x, ndim=3)
    if positions.shape[1] < 2:
        raise InputError(f"pair distances: got {positions.shape[1]} particle, expected at least 2")
    i, j = np.triu_indices(positions.shape[1], 1)
    return np.asarray(np.sqrt(((positions[:, i] - positions[:, j]) ** 2).sum(axis=-1)))


def distance_w2(x_a: ArrayLike, x_b: ArrayLike) -> float:
    """Returns W2 between the pair distances of two samples, all pairs of all conformations pooled.

    Arguments:
        x_a: Positions with shape (n, items, axes).
        x_b: Positions with shape (m, items, axes), in the same unit.

    Returns:
        The distance, in the unit of the positions.
    """
    return w2_1d(pair_distances(x_a).ravel(), pair_distances(x_b).ravel())


def geometric_w2(
    x_a: ArrayLike,
    x_b: ArrayLike,
    *,
    rng: np.random.Generator,
    method: Method = "hungarian-kabsch",
    n: int = 2000,
    progress: Progress = lambda fraction: None,
) -> float:
    """Returns W2 between two samples of arrangements for the distance up to translation, rotation, reflection and permutation.

    Arguments:
        x_a: Positions with shape (samples, items, axes).
        x_b: Positions with shape (samples, items, axes), in the same unit.
        rng: Chooses the subsets.
        method: As for `squared_distances`; published numbers use `exact` for DW4 and `hungarian-kabsch` for Lennard-Jones clusters.
        n: The number of samples taken from each side, without replacement; all of a smaller set. W2 falls with n.
        progress: Told the finished fraction of the distances.

    Returns:
        The distance, in the unit of the positions (not divided by the number of particles).

    Raises:
        ShapeError: If the particles or axes of both differ.
        InputError: If a sample is empty or not finite, or too large for the method.
    """
    first = subsample(check_samples("first arrangements", x_a, ndim=3), n, rng)
    second = subsample(check_samples("second arrangements", x_b, ndim=3), n, rng)
    return float(np.sqrt(exact_transport(squared_distances(first, second, method=method, progress=progress))))
