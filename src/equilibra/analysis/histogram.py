r"""Histograms on fixed ranges and the divergences between them.

The Jensen-Shannon divergence of two histograms :math:`p, q` with the mixture :math:`m = (p + q) / 2` is

.. math:: \mathrm{JSD}(p, q) = \tfrac12 \mathrm{KL}(p \| m) + \tfrac12 \mathrm{KL}(q \| m).

Two conventions are in use and their numbers cannot share a column: `jensen_shannon` is the *divergence in bits* (0 to 1) and
`js_distance` the *square root of the divergence in nats* (0 to 0.833), which SciPy and several papers print.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.thermo.divergence import jensen_shannon_nats

Outside = Literal["raise", "clip", "drop"]


def histogram_1d(
    samples: ArrayLike,
    *,
    bins: int,
    limits: tuple[float, float],
    weights: ArrayLike | None = None,
    outside: Outside = "raise",
) -> FloatArray:
    """Counts samples in equal bins of a fixed range and returns probabilities.

    Arguments:
        samples: The samples, with shape (n).
        bins: The number of bins.
        limits: The range, both ends included.
        weights: Non-negative weights of the samples, with shape (n); equal if not given.
        outside: What happens to samples outside the range: an error, counted in the edge bin, or left out.

    Returns:
        The probabilities, with shape (bins); their sum is 1.

    Raises:
        InputError: If there are no samples, some lie outside and `outside` is "raise", or no mass is left.
    """
    values = check_samples("histogram", samples, ndim=1)[:, None]
    return _histogram(values, bins, [limits], weights, outside)


def histogram_2d(
    samples: ArrayLike,
    *,
    bins: int | tuple[int, int],
    limits: tuple[tuple[float, float], tuple[float, float]],
    weights: ArrayLike | None = None,
    outside: Outside = "raise",
) -> FloatArray:
    """Counts pairs in equal cells of a fixed rectangle and returns probabilities.

    Arguments:
        samples: The pairs, with shape (n, 2).
        bins: The number of bins of both axes, or of each.
        limits: The range of each axis, ends included.
        weights: Non-negative weights of the samples, with shape (n); equal if not given.
        outside: What happens to samples outside the rectangle: an error, counted in the edge cell, or left out.

    Returns:
        The probabilities, with shape (bins, bins), first axis first; their sum is 1.

    Raises:
        InputError: As for `histogram_1d`.
    """
    values = check_samples("histogram", samples, ndim=2, last=2)
    return _histogram(values, bins, list(limits), weights, outside)


def outlier_fraction(samples: ArrayLike, limits: tuple[tuple[float, float], ...]) -> float:
    """Returns the fraction of samples (n, d) that lie outside the box `limits` in at least one of the d axes."""
    values = check_samples("samples", samples, ndim=2, last=len(limits))
    low, high = np.asarray(limits, dtype=np.float64).T
    return float(((values < low) | (values > high)).any(axis=1).mean())


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Returns the Jensen-Shannon divergence of two histograms in bits, between 0 and 1.

    Arguments:
        p: Non-negative masses of any shape; normalised here.
        q: Masses of the same shape.

    Raises:
        InputError: If the shapes differ, a mass is negative or not finite, or a histogram is empty.
    """
    return jensen_shannon_nats(*_pair(p, q)) / float(np.log(2.0))


def js_distance(p: ArrayLike, q: ArrayLike) -> float:
    """Returns the square root of the Jensen-Shannon divergence in nats, a distance between 0 and √ln 2 = 0.833.

    Arguments and errors are those of `jensen_shannon`.
    """
    return float(np.sqrt(jensen_shannon_nats(*_pair(p, q))))


def total_variation(p: ArrayLike, q: ArrayLike) -> float:
    """Returns the total variation ½ Σ |p - q| of two histograms, between 0 and 1; arguments as for `jensen_shannon`."""
    p_array, q_array = _pair(p, q)
    return float(0.5 * np.abs(p_array - q_array).sum())


def kl_divergence(p: ArrayLike, q: ArrayLike, *, epsilon: float = 1e-10, cell: float = 1.0) -> float:
    r"""Returns the regularised Kullback-Leibler divergence of two histograms in nats.

    .. math:: \sum_i \rho_i \ln \frac{\rho_i + \epsilon}{\sigma_i + \epsilon}\, A, \qquad \rho_i = p_i / A,\ \sigma_i = q_i / A

    Empty bins of `q` cost about :math:`p \ln(1/\epsilon)` each: print this number only beside its noise floor, and prefer
    `jensen_shannon` or `total_variation`.

    Arguments:
        p: The reference's masses; normalised here.
        q: The samples' masses of the same shape.
        epsilon: The regulariser :math:`\epsilon`, a density.
        cell: The size :math:`A` of a cell, in the units of the histogram's axes multiplied; 1 means that
            `epsilon` is compared with probabilities.

    Raises:
        ConfigError: If `epsilon` is negative or `cell` not positive.
        InputError: As for `jensen_shannon`.
    """
    if epsilon < 0 or cell <= 0:
        raise ConfigError(f"kl_divergence: got epsilon = {epsilon}, cell = {cell}; expected epsilon >= 0 and cell > 0")
    rho, sigma = (masses / cell for masses in _pair(p, q))
    filled = rho > 0
    with np.errstate(divide="ignore"):
        terms = rho[filled] * (np.log(rho[filled] + epsilon) - np.log(sigma[filled] + epsilon))
    return float(terms.sum() * cell)


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[FloatArray, FloatArray]:
    p_array, q_array = _normalised("p", p), _normalised("q", q)
    if p_array.shape != q_array.shape:
        raise ShapeError("q", q_array.shape, f"{p_array.shape}, the shape of p")
    return p_array, q_array


def _normalised(name: str, masses: ArrayLike) -> FloatArray:
    array = np.asarray(masses, dtype=np.float64)
    if array.size == 0:
        raise InputError(f"histogram {name}: got no bins, expected at least one")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"histogram {name}: masses must be finite and not negative")
    total = array.sum()
    if total <= 0:
        raise InputError(f"histogram {name}: all bins are empty; check the range and the number of samples")
    return np.asarray(array / total)


def _histogram(
    values: FloatArray,
    bins: int | tuple[int, int],
    limits: list[tuple[float, float]],
    weights: ArrayLike | None,
    outside: Outside,
) -> FloatArray:
    counts = (bins,) * len(limits) if isinstance(bins, int) else tuple(bins)
    if any(count < 1 for count in counts) or any(not low < high for low, high in limits):
        raise ConfigError(f"histogram: got bins = {counts}, limits = {limits}; expected at least one bin and low < high")
    mass = np.ones(len(values)) if weights is None else check_samples("weights", weights, ndim=1)
    if mass.shape != (len(values),) or (mass < 0).any():
        raise InputError(f"weights: got shape {mass.shape}, expected {len(values)} non-negative numbers, one for each sample")
    low, high = np.asarray(limits, dtype=np.float64).T
    inside = ((values >= low) & (values <= high)).all(axis=1)
    if not inside.all():
        if outside == "raise":
            raise InputError(
                f"histogram: {int((~inside).sum())} of {len(values)} samples lie outside {limits}; "
                "widen the range, or say outside='clip' or 'drop'"
            )
        if outside == "clip":
            values = np.clip(values, low, high)
        else:
            values, mass = values[inside], mass[inside]
    total = mass.sum()
    if total <= 0:
        raise InputError(f"histogram: no mass inside {limits}; check the range, the weights and the number of samples")
    table, _ = np.histogramdd(values, bins=counts, range=limits, weights=mass)
    return np.asarray(table / total)
