r"""Means of observables over weighted samples, and the virial that shows whether a set of samples is one of equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import Blocks
from equilibra.thermo.samples import FloatArray, check_samples, weights_or_equal
from equilibra.thermo.statistics import resampled_sums


def mean(
    values: ArrayLike,
    log_weights: ArrayLike | None,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Estimate:
    r"""Returns the mean :math:`\sum_i w_i f_i / \sum_i w_i` of an observable with a bootstrap error.

    Arguments:
        values: The observable of each sample, shape (n); anything where the weight is zero.
        log_weights: Log-weights up to a constant, shape (n); None for samples of the target itself.
        rng: The only source of randomness.
        resamples: The number of resamples.
        blocks: As for `free_energy.difference`.
        confidence: The coverage of the interval.

    Raises:
        ShapeError: If arrays do not fit.
        InputError: If a value with weight is not finite.
    """
    array, weights, _ = weighted("observable", values, log_weights)
    centre = float((weights * array).sum() / weights.sum())
    sums = resampled_sums(np.stack([weights, weights * (array - centre)], axis=1), rng, resamples, blocks=blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = centre + sums[:, 1] / sums[:, 0]
    return Estimate.from_resamples(centre, resampled, len(array), confidence=confidence)


@dataclass(frozen=True)
class VirialCheck:
    r"""The virial :math:`\langle x \cdot \nabla u \rangle` of a set of samples; equipartition makes it the number of degrees of freedom."""

    virial: Estimate
    """The mean of -x · f."""
    expected: int
    """The true dimension, (N - 1) d for particles without a fixed frame."""

    @property
    def relative_error(self) -> float:
        """The virial divided by its expected value, less one."""
        return self.virial.value / self.expected - 1.0

    @property
    def z_score(self) -> float:
        """The deviation in standard errors."""
        return self.virial.z_score(self.expected)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        word = "agrees with" if abs(self.z_score) < 4.0 else "deviates from"
        return f"The virial {self.virial} {word} the {self.expected} degrees of freedom ({100 * self.relative_error:+.2f} %)."


def virial(
    x: ArrayLike,
    force: ArrayLike,
    rng: np.random.Generator,
    *,
    log_weights: ArrayLike | None = None,
    invariant: bool = True,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> VirialCheck:
    r"""Checks equipartition, :math:`\langle x \cdot \nabla u \rangle = D_\mathrm{eff}`, of samples with their forces.

    Use it on every reference set before trusting it.

    Arguments:
        x: Positions, shape (n, items, axes).
        force: Reduced forces -du/dx in the inverse unit of length, same shape.
        rng: As for `mean`, as are the others.
        log_weights: Log-weights up to a constant, shape (n).
        invariant: Whether the energy is translation invariant: positions are then centred and items - 1 particles count.
        resamples: The number of resamples.
        blocks: What is resampled whole.
        confidence: The coverage of the interval.

    Raises:
        ShapeError: If arrays do not fit.
        InputError: If a number is not finite.
    """
    positions = check_samples("positions", x, ndim=3)
    forces = check_samples("forces", force, ndim=3)
    if forces.shape != positions.shape:
        raise ShapeError("forces", forces.shape, f"{positions.shape}, that of the positions")
    items, axes = positions.shape[1:]
    if invariant:
        if items < 2:
            raise InputError(
                "virial: one particle without a fixed frame has no degree of freedom; set invariant=False for a fixed one"
            )
        positions = positions - positions.mean(axis=1, keepdims=True)
    values = -(positions * forces).sum(axis=(1, 2))
    found = mean(values, log_weights, rng, resamples=resamples, blocks=blocks, confidence=confidence)
    return VirialCheck(found, (items - 1 if invariant else items) * axes)


def weighted(name: str, values: ArrayLike, log_weights: ArrayLike | None) -> tuple[FloatArray, FloatArray, float]:
    """Returns values, weights with a largest of one, and the log-weight of the largest; values without weight become zero.

    Arguments:
        name: What the values are called in an error.
        values: One number for each sample, shape (n).
        log_weights: Log-weights with shape (n), or None for equal ones.

    Raises:
        ShapeError: If arrays do not fit.
        InputError: If a value with weight is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ShapeError(name, array.shape, "one number for each sample, (n)")
    if len(array) == 0:
        raise InputError(f"{name}: got no samples, expected at least one")
    logs = weights_or_equal(log_weights, len(array))
    array = np.where(np.isneginf(logs), 0.0, array)
    if not np.isfinite(array).all():
        bad = int(np.argmin(np.isfinite(array)))
        raise InputError(
            f"{name}: sample {bad} has weight but the value {array[bad]}; give it the log-weight -inf to leave it out"
        )
    top = float(logs.max())
    return array, np.exp(logs - top), top
