r"""Free-energy profiles along one collective variable and surfaces in two.

.. math:: F(\xi) = -kT \ln p(\xi) + c, \qquad p(\xi) \approx \frac{\sum_i w_i\, 1[\xi_i \in \text{bin}]}{\sum_i w_i\, |\text{bin}|},

with the constant c that puts the lowest bin at zero. The error bands are those of :math:`-kT \ln p`, with p normalised over the bins: c is a
number, not an estimate, so the lowest bin has an error too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.estimate import check_confidence
from equilibra.thermo.free_energy import Blocks
from equilibra.thermo.samples import FloatArray, IntArray, check_samples, check_thermal_energy, weights_or_equal
from equilibra.thermo.statistics import resampled_counts


@dataclass(frozen=True, eq=False)
class Profile:
    """A free energy on bins of one or two collective variables, with its error bands. Empty bins hold NaN."""

    edges: tuple[FloatArray, ...]
    """The bins' edges, one array for each variable."""
    free_energy: FloatArray
    """The free energy, zero at its minimum, shape (bins) or (bins of the first, bins of the second)."""
    error: FloatArray
    """The standard error of each bin."""
    low: FloatArray
    """The lower end of each bin's interval."""
    high: FloatArray
    """The upper end; infinite where enough resamples leave the bin empty."""
    counts: IntArray
    """The number of samples in each bin."""
    outside: float
    """The share of the weight that lies outside the edges and is left out."""
    kt: float
    """The thermal energy, in the unit of the free energy."""

    @property
    def centres(self) -> tuple[FloatArray, ...]:
        """The bins' centres, one array for each variable."""
        return tuple(0.5 * (edges[1:] + edges[:-1]) for edges in self.edges)


def profile(
    cv: ArrayLike,
    log_weights: ArrayLike | None,
    rng: np.random.Generator,
    *,
    bins: int = 50,
    edges: ArrayLike | None = None,
    period: float | None = None,
    kt: float = 1.0,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Profile:
    r"""Returns the free-energy profile along a collective variable.

    Arguments:
        cv: The variable's values, shape (n).
        log_weights: Log-weights up to a constant, shape (n); None for samples of the target itself.
        rng: The only source of randomness.
        bins: The number of equal bins over the values' range, or over the period, if no edges are given.
        edges: Rising edges of the bins, shape (bins + 1).
        period: The variable's period, :math:`2\pi` for angles. Values are moved by whole periods to above the first edge; without edges
            the bins go from minus to plus half a period.
        kt: Thermal energy in the unit wanted; 1 gives kT.
        resamples: The number of resamples.
        blocks: As for `free_energy.difference`.
        confidence: The coverage of each bin's interval.

    Raises:
        InputError: If a value is not finite, the edges do not rise, or no weight lies within them.
        ShapeError: If arrays do not fit.
    """
    values = check_samples("collective variable", cv, ndim=1)
    return _histogram(
        [values], log_weights, rng, [bins], [edges], [period], kt, resamples=resamples, blocks=blocks, confidence=confidence
    )


def surface(
    cv_x: ArrayLike,
    cv_y: ArrayLike,
    log_weights: ArrayLike | None,
    rng: np.random.Generator,
    *,
    bins: tuple[int, int] = (50, 50),
    edges: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    period: tuple[float | None, float | None] = (None, None),
    kt: float = 1.0,
    resamples: int = 200,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Profile:
    """Returns the free-energy surface in two collective variables; the first is the first axis of its arrays.

    Arguments:
        cv_x: The first variable's values, shape (n).
        cv_y: The second variable's values, shape (n).
        log_weights: As for `profile`, as are the others; `bins`, `edges` and `period` hold one entry for each variable.
        rng: The only source of randomness.
        bins: The numbers of bins.
        edges: The bins' edges, or None.
        period: The periods, or None.
        kt: Thermal energy in the unit wanted.
        resamples: The number of resamples.
        blocks: What is resampled whole.
        confidence: The coverage of each bin's interval.

    Raises:
        InputError: As for `profile`.
        ShapeError: If arrays do not fit.
    """
    x = check_samples("first collective variable", cv_x, ndim=1)
    y = check_samples("second collective variable", cv_y, ndim=1)
    if len(x) != len(y):
        raise ShapeError("second collective variable", y.shape, f"({len(x)}), one value for each of the first")
    return _histogram(
        [x, y], log_weights, rng, bins, edges, period, kt, resamples=resamples, blocks=blocks, confidence=confidence
    )


def _histogram(
    variables: list[FloatArray],
    log_weights: ArrayLike | None,
    rng: np.random.Generator,
    bins: Sequence[int],
    edges: Sequence[ArrayLike | None],
    period: Sequence[float | None],
    kt: float,
    *,
    resamples: int,
    blocks: Blocks,
    confidence: float,
) -> Profile:
    kt = check_thermal_energy(kt)
    tail = 0.5 - 0.5 * check_confidence(confidence)
    n = len(variables[0])
    array = weights_or_equal(log_weights, n)
    weights = np.exp(array - array.max())
    used = [_edges(*each) for each in zip(variables, bins, edges, period, strict=True)]
    shape = tuple(len(each) - 1 for each in used)
    flat, inside = np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.bool_)
    for values, each, turn in zip(variables, used, period, strict=True):
        index, held = _bin(values, each, turn)
        flat = flat * (len(each) - 1) + index
        inside &= held
    size = int(np.prod(shape))
    kept, at = weights * inside, np.where(inside, flat, 0)
    if not kept.sum() > 0.0:
        raise InputError(
            "free-energy profile: no sample with weight lies within the edges; look at the variable's unit and range"
        )
    volume = np.diff(used[0]) if len(used) == 1 else np.outer(np.diff(used[0]), np.diff(used[1]))
    log_volume = np.log(volume).ravel()

    def minus_log_density(multiplicity: FloatArray) -> FloatArray:
        held = np.bincount(at, weights=multiplicity, minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            return log_volume - np.log(held / held.sum())

    surprise = minus_log_density(kept)
    counts = np.bincount(flat[inside], minlength=size)
    filled = np.isfinite(surprise)
    resampled = np.stack(
        [minus_log_density(kept * times)[filled] for times in resampled_counts(n, rng, resamples, blocks=blocks)]
    )
    resampled = resampled[~np.isnan(resampled).any(axis=1)]  # a resample may hold no weight within the edges at all
    zero = surprise[filled].min()
    error, low, high = (np.full(size, np.nan) for _ in range(3))
    finite = np.isfinite(resampled)
    number = finite.sum(axis=0)
    mean = np.where(finite, resampled, 0.0).sum(axis=0) / np.maximum(number, 1)
    squares = (np.where(finite, resampled - mean, 0.0) ** 2).sum(axis=0)
    error[filled] = np.where(number > 1, np.sqrt(squares / np.maximum(number - 1, 1)), np.inf)
    low[filled] = np.quantile(resampled, tail, axis=0, method="lower") - zero
    high[filled] = np.quantile(resampled, 1.0 - tail, axis=0, method="higher") - zero
    free = np.where(filled, surprise - zero, np.nan)
    return Profile(
        edges=tuple(used),
        free_energy=kt * free.reshape(shape),
        error=kt * error.reshape(shape),
        low=kt * low.reshape(shape),
        high=kt * high.reshape(shape),
        counts=counts.reshape(shape),
        outside=1.0 - float(kept.sum() / weights.sum()),
        kt=kt,
    )


def _edges(values: FloatArray, bins: int, edges: ArrayLike | None, period: float | None) -> FloatArray:
    if period is not None and not (period > 0.0 and np.isfinite(period)):
        raise InputError(f"collective variable: got a period of {period}, expected a positive number")
    if edges is None:
        if bins < 1:
            raise InputError(f"free-energy profile: got {bins} bins, expected at least 1")
        low, high = (-0.5 * period, 0.5 * period) if period is not None else (float(values.min()), float(values.max()))
        if not high > low:
            raise InputError(f"collective variable: all values are {low}; a profile needs a variable that moves")
        return np.linspace(low, high, bins + 1)
    array = np.array(edges, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ShapeError("edges", array.shape, "(bins + 1), at least two")
    if not (np.isfinite(array).all() and (np.diff(array) > 0.0).all()):
        raise InputError("edges: expected finite numbers that rise")
    if period is not None and array[-1] - array[0] > period * (1.0 + 1e-9):
        raise InputError(f"edges: they span {array[-1] - array[0]:.6g}, more than the period {period:.6g}")
    return array


def _bin(values: FloatArray, edges: FloatArray, period: float | None) -> tuple[IntArray, np.ndarray]:
    """The bin of each value, and whether it lies within the edges; the last bin holds its upper edge."""
    moved = values if period is None else edges[0] + np.mod(values - edges[0], period)
    index = np.searchsorted(edges, moved, side="right") - 1
    if period is not None and np.isclose(edges[-1] - edges[0], period):
        return np.clip(index, 0, len(edges) - 2), np.ones(len(values), dtype=np.bool_)
    inside = (moved >= edges[0]) & (moved <= edges[-1])
    return np.clip(index, 0, len(edges) - 2), inside
