r"""Entropy and heat capacity of weighted samples, and the identities that tie them to log Z.

.. math:: S/k = \langle u \rangle + \log Z, \qquad C/k = \operatorname{Var}(u), \qquad
          \frac{\mathrm{d} \log Z}{\mathrm{d} \ln \beta} = -\langle u \rangle_\beta,

with the reduced energy :math:`u = \beta E`. The entropy is that of the configurations, relative to the measure that log Z is taken on; it equals
the mean negative log-likelihood of true samples, so no model has a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import Blocks
from equilibra.thermo.observables import weighted
from equilibra.thermo.samples import FloatArray, check_log_weights, check_samples
from equilibra.thermo.statistics import resampled_sums


def entropy(
    u: ArrayLike,
    log_weights: ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Estimate:
    r"""Returns :math:`S/k = \langle u \rangle_w + \log Z`, both from the same weights and the same resamples.

    Arguments:
        u: Reduced energies, shape (n); anything where the weight is zero.
        log_weights: Absolute log-weights :math:`-u - \log q`, shape (n).
        rng: The only source of randomness.
        resamples: The number of resamples.
        blocks: As for `free_energy.log_z`.
        confidence: The coverage of the interval.

    Raises:
        ShapeError: If arrays do not fit.
        InputError: If an energy with weight is not finite, or as for `check_log_weights`.
    """
    values, weights, top = weighted("reduced energies", u, check_log_weights(log_weights))
    n = len(values)
    columns = np.stack([weights, weights * values, np.ones(n)], axis=1)

    def statistic(sums: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums[..., 1] / sums[..., 0] + top + np.log(sums[..., 0] / sums[..., 2])

    resampled = statistic(resampled_sums(columns, rng, resamples, blocks=blocks))
    return Estimate.from_resamples(float(statistic(columns.sum(axis=0))), resampled, n, confidence=confidence)


def heat_capacity(
    u: ArrayLike,
    log_weights: ArrayLike | None,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Estimate:
    r"""Returns the configurational heat capacity :math:`C/k = \langle u^2 \rangle_w - \langle u \rangle_w^2 = \beta^2 \operatorname{Var}(E)`.

    Arguments:
        u: Reduced energies, shape (n).
        log_weights: Log-weights up to a constant, shape (n); None for samples of the target itself.
        rng: As for `entropy`, as are the others.
        resamples: The number of resamples.
        blocks: What is resampled whole.
        confidence: The coverage of the interval.

    Raises:
        ShapeError: If arrays do not fit.
        InputError: If an energy with weight is not finite.
    """
    values, weights, _ = weighted("reduced energies", u, log_weights)
    centred = values - float((weights * values).sum() / weights.sum())
    columns = np.stack([weights, weights * centred, weights * centred**2], axis=1)

    def statistic(sums: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums[..., 2] / sums[..., 0] - (sums[..., 1] / sums[..., 0]) ** 2

    resampled = statistic(resampled_sums(columns, rng, resamples, blocks=blocks))
    return Estimate.from_resamples(float(statistic(columns.sum(axis=0))), resampled, len(values), confidence=confidence)


@dataclass(frozen=True, eq=False)
class Consistency:
    """Two routes to log Z over a ladder of temperatures: as estimated, and integrated from the mean energies."""

    betas: FloatArray
    """Inverse temperatures, shape (K)."""
    difference: FloatArray
    r"""The estimates :math:`\log Z(\beta_k) - \log Z(\beta_0)`."""
    integral: FloatArray
    r"""The same from :math:`-\int \langle u \rangle\, \mathrm{d} \ln \beta`."""
    error: FloatArray
    """The standard error of `difference - integral`."""
    quadrature: FloatArray
    """The error of the integration itself, judged by the trapezoidal rule on the same nodes; zero for two temperatures, where it is unknown."""

    @property
    def gap(self) -> FloatArray:
        """The disagreement in nats, shape (K); zero at the first temperature by definition."""
        return self.difference - self.integral

    @property
    def worst(self) -> float:
        """The largest disagreement in units of statistical and integration error together."""
        total = np.hypot(self.error, self.quadrature)[1:]
        return float(np.max(np.abs(self.gap[1:]) / np.maximum(total, 1e-300)))

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        at = 1 + int(np.argmax(np.abs(self.gap[1:])))
        word = "agree with" if self.worst < 4.0 else "contradict"
        return (
            f"The free energies {word} the mean energies: over {len(self.betas)} temperatures the largest gap is {self.gap[at]:+.3g} ± "
            f"{math.hypot(self.error[at], self.quadrature[at]):.2g} nats, at β = {self.betas[at]:.4g}."
        )


def consistency(betas: ArrayLike, log_z: Sequence[Estimate], mean_u: Sequence[Estimate]) -> Consistency:
    r"""Checks :math:`\mathrm{d} \log Z / \mathrm{d} \ln \beta = -\langle u \rangle_\beta` over a ladder of temperatures.

    The mean reduced energy is integrated over :math:`\ln \beta` by a cubic spline; for a harmonic system it is constant and the integral exact.

    Arguments:
        betas: Rising inverse temperatures, shape (K), at least two.
        log_z: The estimated log Z at each, independent of each other; a common constant cancels.
        mean_u: The mean reduced energy :math:`\beta_k \langle E \rangle_{\beta_k}` at each, independent.

    Raises:
        ShapeError: If the three do not have the same length.
        InputError: If the inverse temperatures are not positive and rising.
    """
    array = check_samples("inverse temperatures", betas, ndim=1)
    if not (len(array) == len(log_z) == len(mean_u)):
        raise ShapeError(
            "temperature ladder", (len(array), len(log_z), len(mean_u)), "as many temperatures as log Z and mean energies"
        )
    if len(array) < 2 or not (array[0] > 0.0 and (np.diff(array) > 0.0).all()):
        raise InputError("temperature ladder: expected at least two positive, rising inverse temperatures")
    from scipy.interpolate import CubicSpline

    nodes = np.log(array)
    means = np.asarray([estimate.value for estimate in mean_u])
    # the integral is linear in the means: row k of the matrix holds the weights of the integral up to temperature k
    matrix = CubicSpline(nodes, np.eye(len(nodes)), axis=0).antiderivative()(nodes)
    steps = 0.5 * np.diff(nodes) * (means[1:] + means[:-1])
    trapezoid = -np.concatenate([[0.0], np.cumsum(steps)])
    integral = -(matrix @ means)
    values = np.asarray([estimate.value for estimate in log_z])
    z_errors = np.asarray([estimate.error for estimate in log_z])
    variance = z_errors**2 + z_errors[0] ** 2 + matrix**2 @ np.asarray([estimate.error for estimate in mean_u]) ** 2
    variance[0] = 0.0
    return Consistency(array, values - values[0], integral, np.sqrt(variance), np.abs(integral - trapezoid))
