"""Random subsets, atom indices and angles shared by all metrics; the checks of samples themselves are those of `thermo.samples`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.samples import BoolArray, FloatArray, IntArray, as_runs, check_runs, check_samples

__all__ = [
    "BoolArray",
    "FloatArray",
    "IntArray",
    "as_runs",
    "check_indices",
    "check_runs",
    "check_samples",
    "frame_shares",
    "subsample",
    "wrap_angles",
]


def check_indices(name: str, indices: ArrayLike, *, columns: int, n_atoms: int | None = None) -> IntArray:
    """Returns rows of atom indices, e.g. bonds (B, 2) or torsions (T, 4); an empty list gives shape (0, columns).

    Raises:
        ShapeError: If the rows have another length.
        InputError: If an index lies outside the molecule.
    """
    array = np.asarray(indices, dtype=np.int64)
    if array.size == 0:
        return np.zeros((0, columns), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ShapeError(name, array.shape, f"(rows, {columns})")
    if n_atoms is not None and (array.min() < 0 or array.max() >= n_atoms):
        raise InputError(
            f"{name}: atom indices run from {array.min()} to {array.max()}, but there are {n_atoms} atoms (0 to {n_atoms - 1})"
        )
    return array


def frame_shares(weights: ArrayLike | None, count: int) -> FloatArray:
    """Returns the share of each of `count` frames in an average: weights divided by their sum, or equal shares for None.

    Raises:
        ShapeError: If there is not one weight for each frame.
        InputError: If a weight is negative or not finite, or all are zero.
    """
    if weights is None:
        return np.full(count, 1.0 / count)
    array = check_samples("weights", weights, ndim=1)
    if len(array) != count:
        raise ShapeError("weights", array.shape, f"({count}), one for each frame")
    if (array < 0).any() or not array.sum() > 0:
        raise InputError(
            "weights: got a negative weight or only zeros, expected a positive sum of weights that are not negative"
        )
    return np.asarray(array / array.sum())


def subsample(samples: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Draws `n` of the samples without replacement; all of them, in their order, if there are no more than `n`.

    Raises:
        InputError: If `n` is below one.
    """
    if n < 1:
        raise InputError(f"subsample: got n = {n}, expected at least 1")
    if len(samples) <= n:
        return samples
    return samples[rng.choice(len(samples), size=n, replace=False)]


def wrap_angles(angles: ArrayLike) -> FloatArray:
    """Returns angles in radians moved by full turns into [-π, π)."""
    return np.mod(np.asarray(angles, dtype=np.float64) + np.pi, 2 * np.pi) - np.pi
