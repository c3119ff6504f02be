"""What a set of samples must be: a non-empty, finite array; checks and random subsets shared by all metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.errors import InputError, ShapeError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def check_samples(name: str, samples: ArrayLike, *, ndim: int | None = None, last: int | None = None) -> FloatArray:
    """Returns samples as an array of float64 after checking that they are non-empty, finite and of the stated shape.

    Arguments:
        name: What the samples are called in an error.
        samples: The samples; the first axis counts them. Never written to.
        ndim: The number of axes wanted, if any.
        last: The length of the last axis wanted, if any.

    Raises:
        ShapeError: If the number of axes or the last axis differ.
        InputError: If there is no sample, or a value is NaN or infinite.
    """
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim == 0 or (ndim is not None and array.ndim != ndim):
        raise ShapeError(name, array.shape, f"an array of {ndim or 'at least 1'} axes")
    if last is not None and array.shape[-1] != last:
        raise ShapeError(name, array.shape, f"a last axis of length {last}")
    if array.shape[0] == 0:
        raise InputError(f"{name}: got no samples, expected at least one")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        raise InputError(
            f"{name}: sample {bad} holds NaN or infinity; remove broken samples and state how many before measuring"
        )
    return array


def check_runs(name: str, runs: Sequence[ArrayLike]) -> list[FloatArray]:
    """Returns runs (a list of sample arrays with equal trailing axes) as arrays of float64.

    Raises:
        InputError: If there is no run, a run is empty or not finite.
        ShapeError: If the runs' trailing axes differ.
    """
    if len(runs) == 0:
        raise InputError(f"{name}: got no runs, expected at least one")
    arrays = [check_samples(f"{name}, run {index}", run) for index, run in enumerate(runs)]
    for index, array in enumerate(arrays):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ShapeError(f"{name}, run {index}", array.shape, f"(frames, {', '.join(map(str, arrays[0].shape[1:]))})")
    return arrays


def as_runs(name: str, samples: ArrayLike | Sequence[ArrayLike], *, ndim: int | tuple[int, ...]) -> list[FloatArray]:
    """Returns one array of samples, or a list of runs of them, as a list of runs.

    Arguments:
        name: What the samples are called in an error.
        samples: An array with `ndim` axes, or a list of such arrays.
        ndim: The number of axes of one run, or the possible numbers.
    """
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if isinstance(samples, (list, tuple)) and len(samples) > 0 and np.ndim(samples[0]) >= min(allowed):
        runs = check_runs(name, samples)
    else:
        runs = [check_samples(name, np.asarray(samples))]
    if runs[0].ndim not in allowed:
        raise ShapeError(name, runs[0].shape, f"an array of {' or '.join(map(str, allowed))} axes for each run")
    return runs


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
