"""What a set of samples must be: a non-empty, finite array; runs of them; log-weights and masks that go with them."""

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


def check_log_weights(log_weights: ArrayLike, *, name: str = "log-weights") -> FloatArray:
    """Returns log-weights as an array of float64 after checking that they can be used.

    A log-weight of minus infinity is a sample without weight, which is allowed; NaN and plus infinity are not.

    Arguments:
        log_weights: One number for each sample, shape (n). Never written to.
        name: What they are called in an error.

    Raises:
        ShapeError: If there is more than one axis.
        InputError: If there is none, one is NaN or +inf, or no sample has any weight.
    """
    array = np.asarray(log_weights, dtype=np.float64)
    if array.ndim != 1:
        raise ShapeError(name, array.shape, "one number for each sample, (n)")
    if len(array) == 0:
        raise InputError(f"{name}: got none, expected at least one")
    broken = np.isnan(array) | np.isposinf(array)
    if broken.any():
        raise InputError(
            f"{name}: {int(broken.sum())} of {len(array)} are NaN or +inf, the first at index {int(np.argmax(broken))}; "
            "give a sample that the energy forbids the log-weight -inf, and look for the cause of the others"
        )
    if np.isneginf(array).all():
        raise InputError(f"{name}: all {len(array)} are -inf, so no sample has any weight; the samples do not reach the target")
    return array


def weights_or_equal(log_weights: ArrayLike | None, n: int) -> FloatArray:
    """Returns the log-weights of `n` samples, checked; zeros if None, which means samples of the target itself.

    Raises:
        ShapeError: If the number of log-weights is not `n`.
        InputError: As for `check_log_weights`.
    """
    array = check_log_weights(np.zeros(n) if log_weights is None else log_weights)
    if len(array) != n:
        raise ShapeError("log-weights", array.shape, f"({n}), one for each sample")
    return array


def check_mask(name: str, mask: ArrayLike, n: int) -> BoolArray:
    """Returns a mask of `n` samples as booleans.

    Raises:
        ShapeError: If its shape is not (n).
        InputError: If it holds anything but booleans.
    """
    array = np.asarray(mask)
    if array.shape != (n,):
        raise ShapeError(name, array.shape, f"({n}), true or false for each sample")
    if array.dtype != np.bool_:
        raise InputError(f"{name}: got {array.dtype} values, expected true or false for each sample, e.g. `phi < 0`")
    return array


def check_thermal_energy(kt: float) -> float:
    """Returns kT after checking that it is a positive number.

    Raises:
        InputError: If it is not.
    """
    if not (kt > 0.0 and np.isfinite(kt)):
        raise InputError(f"temperature: got kT = {kt}, expected a positive number in the unit of the energy")
    return float(kt)
