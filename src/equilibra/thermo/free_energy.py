r"""Free energies of weighted samples: log Z, its bracket, differences and populations of states.

With log-weights :math:`\log w = -u - \log q` of model samples, also along a path, :math:`\mathbb{E}_q[w] = Z`. By Jensen's inequality

.. math:: \mathrm{ELBO} = \mathbb{E}_q[\log w] \le \log Z \le \mathbb{E}_\pi[\log w] = \mathrm{EUBO},

where the upper bound needs samples of the target; with both, Bennett's acceptance ratio is the estimate of least variance.

References:
    | Efficient estimation of free energy differences from Monte Carlo data
    | (Bennett, 1976), https://doi.org/10.1016/0021-9991(76)90078-4
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.thermo.estimate import Estimate, check_confidence
from equilibra.thermo.mbar import quiet_pymbar
from equilibra.thermo.samples import FloatArray, IntArray, check_log_weights, check_mask, check_thermal_energy, weights_or_equal
from equilibra.thermo.statistics import block_owner, clopper_pearson, resampled_sums
from equilibra.thermo.weights import USABLE_ESS, effective_sample_size

Blocks = int | Sequence[IntArray] | None
"""None for independent samples; the length of contiguous blocks of one series; or the blocks (`statistics.contiguous_blocks`)."""


def log_z(
    log_weights: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 1000,
    *,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Estimate:
    r"""Returns :math:`\log Z = \log \frac1n \sum_i w_i` with a bootstrap error.

    Arguments:
        log_weights: :math:`\log w = -u - \log q` of model samples, absolute, shape (n).
        rng: The only source of randomness.
        resamples: The number of resamples.
        blocks: What is resampled whole, for particles that depend on each other, e.g. the families left by a resampling step.
        confidence: The coverage of the interval.

    Raises:
        InputError: As for `check_log_weights` and `resampled_counts`.
    """
    array = check_log_weights(log_weights)
    top = float(array.max())
    columns = np.stack([np.exp(array - top), np.ones(len(array))], axis=1)
    sums = resampled_sums(columns, rng, resamples, blocks=blocks)
    value = top + math.log(float(columns[:, 0].mean()))
    with np.errstate(divide="ignore"):
        values = top + np.log(sums[:, 0] / sums[:, 1])
    return Estimate.from_resamples(value, values, len(array), confidence=confidence)


def log_z_error(log_weights: ArrayLike) -> float:
    r"""Returns the analytic standard error :math:`\sqrt{(1/\mathrm{ESS} - 1)/n}` of log Z, ESS as a fraction, for independent samples."""
    ess = effective_sample_size(log_weights)
    return math.sqrt(max(1.0 / ess.fraction - 1.0, 0.0) / ess.n)


@dataclass(frozen=True)
class Bracket:
    """A log Z between its bounds."""

    elbo: Estimate
    """The lower bound, the mean log-weight of model samples; minus infinity if the energy forbids one of them."""
    log_z: Estimate
    """The estimate from both sets by Bennett's acceptance ratio."""
    eubo: Estimate
    """The upper bound, the mean log-weight of samples of the target."""
    overlap: float
    """The effective number of samples that decide log Z, on the side with fewer; below ten its error bar cannot be trusted, as its note says."""

    @property
    def width(self) -> float:
        """The distance between the bounds in nats: the divergence of model from target plus the reverse one."""
        return self.eubo.value - self.elbo.value

    def __str__(self) -> str:
        return f"ELBO {self.elbo} ≤ log Z {self.log_z} ≤ EUBO {self.eubo}"


def bar(log_weights_model: ArrayLike, log_weights_reference: ArrayLike, *, confidence: float = 0.95) -> Bracket:
    r"""Returns log Z by Bennett's acceptance ratio from samples of both the model and the target, with its bounds.

    It solves :math:`\sum_{\text{model}} g(\log w - \log Z + m) = \sum_{\text{ref}} g(-(\log w - \log Z + m))` with the logistic function g and
    :math:`m = \log(n_{\text{ref}}/n_{\text{model}})`; its error assumes independent samples.

    Arguments:
        log_weights_model: :math:`\log w` of model samples, shape (n); -inf where the energy forbids a sample.
        log_weights_reference: :math:`\log w` of independent samples of the target, shape (m), for path weights along paths noised forward
            from them.
        confidence: The coverage of the intervals.

    Raises:
        InputError: If a reference sample has no weight: it would have to be impossible in the target it was drawn from.
    """
    model = check_log_weights(log_weights_model, name="log-weights of the model")
    reference = check_log_weights(log_weights_reference, name="log-weights of the reference")
    if np.isneginf(reference).any():
        raise InputError(
            f"log-weights of the reference: {int(np.isneginf(reference).sum())} are -inf, but a sample of the target has a finite energy; "
            "is the reference of the same system and energy?"
        )
    n = len(model) + len(reference)
    finite = model[np.isfinite(model)]
    if np.ptp(np.concatenate([finite, reference])) < 1e-12 and len(finite) == len(model):
        value = Estimate.normal(float(reference.mean()), 0.0, n, confidence=confidence)
    else:
        # pymbar's tolerance is relative: shifted, so that the answer is near one. A forbidden sample keeps a weight of zero.
        shift = 0.5 * (_log_mean_exp(model) - _log_mean_exp(-reference)) - 1.0
        forward = -(np.where(np.isfinite(model), model, finite.min() - 700.0) - shift)
        with quiet_pymbar() as pymbar, np.errstate(all="ignore"):
            found = pymbar.bar(forward, reference - shift)
        if found["dDelta_f"] == 0.0 or not math.isfinite(found["dDelta_f"]):
            raise InputError(
                "BAR: the two sets of log-weights do not overlap, so no log Z follows; give more or better samples"
            )
        value = Estimate.normal(shift - float(found["Delta_f"]), float(found["dDelta_f"]), n, confidence=confidence)
    m = math.log(len(reference) / len(model))
    overlap = min(_deciding(model - value.value + m), _deciding(value.value - reference - m))
    if overlap < USABLE_ESS:
        note = f"the two sets hardly overlap: about {max(overlap, 1.0):.0f} samples of one decide, so its error bar cannot be trusted"
        value = replace(value, note=note)
    return Bracket(_mean(model, confidence), value, _mean(reference, confidence), overlap)


def difference(
    log_weights: ArrayLike | None,
    in_a: ArrayLike,
    in_b: ArrayLike,
    rng: np.random.Generator,
    kt: float = 1.0,
    *,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> Estimate:
    r"""Returns the free-energy difference :math:`\Delta F = F_B - F_A = -kT \ln(\sum w 1_B / \sum w 1_A)` of two states.

    Both sums are of the same resamples, so errors that they share cancel. Independent samples without weights have a binomial (Clopper-
    Pearson) interval instead. If no sample is in one of the states the value is infinite and the interval's finite end is a one-sided
    bound, from the binomial distribution with as many trials as there are effective samples; the note says so.

    Arguments:
        log_weights: Log-weights up to a constant, shape (n); None for samples of the target itself.
        in_a: Whether each sample is in state A, shape (n).
        in_b: Whether each sample is in state B, shape (n); no sample may be in both.
        rng: The only source of randomness.
        kt: Thermal energy in the unit wanted; 1 gives kT.
        resamples: The number of resamples.
        blocks: What is resampled whole: contiguous blocks, several relaxation times long, for time series.
        confidence: The coverage of the interval.

    Raises:
        InputError: If the states overlap, both are empty, or kT is not positive.
    """
    a = check_mask("state A", in_a, np.size(in_a))
    b = check_mask("state B", in_b, len(a))
    if (a & b).any():
        raise InputError(f"states: {int((a & b).sum())} samples are in both A and B; give states that exclude each other")
    kt = check_thermal_energy(kt)
    array = weights_or_equal(log_weights, len(a))
    weights = np.exp(array - array.max())
    weight_a, weight_b = float(weights[a].sum()), float(weights[b].sum())
    if weight_a == 0.0 and weight_b == 0.0:
        raise InputError(f"states: none of {len(a)} samples is in A or in B; look at the range of the collective variable")
    if weight_a == 0.0 or weight_b == 0.0:
        return _empty(array[a | b], "A" if weight_a == 0.0 else "B", kt, len(a), _units(blocks, a | b), confidence)
    if log_weights is None and blocks is None:
        return _binomial_difference(int(a.sum()), int(b.sum()), kt, len(a), confidence)
    sums = resampled_sums(np.stack([weights * a, weights * b], axis=1), rng, resamples, blocks=blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = -kt * np.log(sums[:, 1] / sums[:, 0])
    return Estimate.from_resamples(-kt * math.log(weight_b / weight_a), values, len(a), confidence=confidence)


def populations(
    log_weights: ArrayLike | None,
    states: Mapping[str, ArrayLike],
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    blocks: Blocks = None,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    r"""Returns the share :math:`\sum w 1_S / \sum w` of the weight that is in each state.

    Independent samples without weights have a Clopper-Pearson interval; others the bootstrap's. A state that no or every sample is in
    has a one-sided bound.

    Arguments:
        log_weights: Log-weights up to a constant, shape (n); None for samples of the target itself.
        states: For each state's name, whether each sample is in it, shape (n). States may overlap.
        rng: As for `difference`, as are the others.
        resamples: The number of resamples.
        blocks: What is resampled whole.
        confidence: The coverage of the intervals.

    Raises:
        InputError: If there is no state or a mask does not fit.
    """
    if not states:
        raise InputError("populations: got no states, expected at least one")
    n = max(np.size(mask) for mask in states.values())
    masks = {name: check_mask(f"state {name}", mask, n) for name, mask in states.items()}
    array = weights_or_equal(log_weights, n)
    weights = np.exp(array - array.max())
    weights /= weights.sum()
    columns = np.stack([weights, *(weights * mask for mask in masks.values())], axis=1)
    independent = log_weights is None and blocks is None
    sums = None if independent else resampled_sums(columns, rng, resamples, blocks=blocks)
    found = {}
    for index, (name, mask) in enumerate(masks.items(), start=1):
        share = float(columns[:, index].sum())
        outside = float((weights * ~mask).sum())
        if share == 0.0 or outside == 0.0:
            effective = min(effective_sample_size(array).value, _units(blocks, np.ones(n, dtype=np.bool_)))
            bound = 1.0 - (1.0 - check_confidence(confidence)) ** (1.0 / effective)
            word = "no sample is" if share == 0.0 else "all samples are"
            note = f"{word} in state {name}; one-sided {100 * confidence:g} % bound for {effective:.0f} effective samples"
            low, high = (0.0, bound) if share == 0.0 else (1.0 - bound, 1.0)
            found[name] = Estimate(float(share > 0.0), bound, low, high, n, note)
        elif sums is None:
            count = int(mask.sum())
            low, high = clopper_pearson(count, n, confidence=confidence)
            found[name] = Estimate(count / n, math.sqrt(count * (n - count) / n**3), low, high, n)
        else:
            found[name] = Estimate.from_resamples(share, sums[:, index] / sums[:, 0], n, confidence=confidence)
    return found


def _binomial_difference(count_a: int, count_b: int, kt: float, n: int, confidence: float) -> Estimate:
    low, high = clopper_pearson(count_b, count_a + count_b, confidence=confidence)
    value = -kt * math.log(count_b / count_a)
    error = kt * math.sqrt(1.0 / count_a + 1.0 / count_b)
    return Estimate(value, error, -kt * math.log(high / (1.0 - high)), -kt * math.log(low / (1.0 - low)), n)


def _empty(held: FloatArray, empty: str, kt: float, n: int, units: float, confidence: float) -> Estimate:
    """The one-sided bound when all samples of the two states, with log-weights `held`, are in the other one."""
    effective = min(effective_sample_size(held).value, units)
    # the chance of seeing none among the effective samples is 1 - confidence
    absent = (1.0 - check_confidence(confidence)) ** (1.0 / effective)
    bound = kt * math.log(absent / (1.0 - absent)) if absent < 1.0 else math.inf
    note = (
        f"no sample with weight is in state {empty}: the value is a one-sided {100 * confidence:g} % bound for {effective:.0f} effective samples; "
        "it presumes that the samples could have reached the state"
    )
    if empty == "B":
        return Estimate(math.inf, math.inf, bound, math.inf, n, note)
    return Estimate(-math.inf, math.inf, -math.inf, -bound, n, note)


def _units(blocks: Blocks, held: np.ndarray) -> float:
    """The number of independent units, samples or blocks, that hold one of the marked samples."""
    owner, _ = block_owner(len(held), blocks)
    return float(len(np.unique(owner[held])))


def _deciding(argument: FloatArray) -> float:
    """Kish's effective number of the logistic function of the arguments: how many samples one side of Bennett's equation rests on."""
    return effective_sample_size(-np.logaddexp(0.0, -argument)).value


def _mean(log_weights: FloatArray, confidence: float) -> Estimate:
    n = len(log_weights)
    if np.isneginf(log_weights).any():
        note = f"{int(np.isneginf(log_weights).sum())} of {n} samples are forbidden by the energy"
        return Estimate(-math.inf, math.inf, -math.inf, -math.inf, n, note)
    error = float(log_weights.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Estimate.normal(float(log_weights.mean()), error, n, confidence=confidence)


def _log_mean_exp(array: FloatArray) -> float:
    top = float(array.max())
    return top + math.log(float(np.exp(array - top).mean()))
