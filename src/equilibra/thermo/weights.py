r"""Importance weights, and whether they can be trusted.

Samples of a density q stand for the target :math:`\pi = e^{-u}/Z` with weights :math:`w_i \propto e^{-u(x_i)}/q(x_i)`. The fewer samples
carry the weight, the less they are worth. Two numbers say how much: Kish's effective sample size

.. math:: \mathrm{ESS} = \frac{(\sum_i w_i)^2}{\sum_i w_i^2},

and the shape k of a generalised Pareto distribution fitted to the largest weights: the weights have moments below 1/k only, so that above
k = 0.5 their variance, and above k = 1 their mean, does not exist. Neither sees a state that no sample is in; samples of the target do
(`forward_effective_fraction`).

References:
    | Survey Sampling (Kish, 1965)
    | Pareto Smoothed Importance Sampling (Vehtari et al., 2015), https://arxiv.org/abs/1507.02646
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.thermo.samples import BoolArray, FloatArray, check_log_weights

Verdict = Literal["good", "usable", "not to be trusted"]

GOOD_K, USABLE_K = 0.5, 0.7
"""Up to 0.5 errors shrink as they should; above 0.7 neither an estimate nor its error bar can be relied on."""
GOOD_ESS, USABLE_ESS = 100.0, 10.0
"""Error bars from fewer than 100 effective samples are rough; fewer than ten samples are no estimate."""
MINIMUM_TAIL = 25
"""The number of weights below which the tail, a fifth of them, holds fewer than five: no shape can be fitted."""


class EffectiveSampleSize(NamedTuple):
    """Kish's effective sample size, with the number of samples it is of: a fraction of 16 samples says nothing."""

    value: float
    n: int

    @property
    def fraction(self) -> float:
        """The share of the samples that is effective, 1/n to 1."""
        return self.value / self.n

    def __str__(self) -> str:
        return f"{self.value:.0f} of {self.n} ({100 * self.fraction:.1f} %)"


def normalised(log_weights: ArrayLike) -> FloatArray:
    """Returns the weights with sum 1, shape (n)."""
    array = check_log_weights(log_weights)
    weights = np.exp(array - array.max())
    return weights / weights.sum()


def effective_sample_size(log_weights: ArrayLike) -> EffectiveSampleSize:
    r"""Returns Kish's effective sample size :math:`(\sum w)^2 / \sum w^2` and the number of samples n.

    Arguments:
        log_weights: Log-weights with shape (n), up to a constant.
    """
    weights = normalised(log_weights)
    return EffectiveSampleSize(1.0 / float((weights**2).sum()), len(weights))


def lineage_log_weights(log_weights: ArrayLike, ancestors: ArrayLike) -> FloatArray:
    r"""Returns one log-weight for each lineage: the log of the summed weights of all samples that share an ancestor, shape (lineages).

    Their effective size is a lower bound of what resampled samples are worth, as moves make relatives independent again.

    Arguments:
        log_weights: Log-weights with shape (n).
        ancestors: Which first sample each one descends from, any labels, shape (n).

    Raises:
        InputError: If there is not one ancestor for each weight, or as for `check_log_weights`.
    """
    array, labels = check_log_weights(log_weights), np.asarray(ancestors)
    if labels.shape != array.shape:
        raise InputError(f"ancestors: got the shape {labels.shape}, expected {array.shape}, one for each log-weight")
    _, member = np.unique(labels, return_inverse=True)
    top = array.max()
    summed = np.bincount(member, weights=np.exp(array - top))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(summed) + top)


def forward_effective_fraction(log_weights_reference: ArrayLike, log_z: float) -> float:
    r"""Returns the forward effective fraction :math:`1 / \mathbb{E}_\pi[w / Z]` from samples of the target.

    With enough samples it equals the fraction that Kish's formula gives for the model's own samples. When the model misses a state they
    differ: the model's samples never meet the state, those of the target do, with a huge weight.

    Arguments:
        log_weights_reference: :math:`\log w = -u - \log q` of samples of the target, shape (n).
        log_z: The logarithm of the target's normalisation.

    Raises:
        InputError: If `log_z` is not finite, or as for `check_log_weights`.
    """
    array = check_log_weights(log_weights_reference, name="log-weights of the reference")
    if not math.isfinite(log_z):
        raise InputError(f"log Z: got {log_z}, expected a finite number")
    top = float(array.max())
    return float(np.exp(min(log_z - top - math.log(float(np.exp(array - top).mean())), 700.0)))


def pareto_k(log_weights: ArrayLike) -> float:
    """Returns the fitted Pareto shape k of the largest min(0.2 n, 3 √n) weights.

    Samples without weight are left out. Minus infinity stands for a tail of equal weights, which has no shape and is harmless; NaN for
    fewer than 25 weights, or for ties that defeat the fit.

    Arguments:
        log_weights: Log-weights with shape (n), up to a constant.
    """
    return _pareto_smoothing(check_log_weights(log_weights))[1]


@dataclass(frozen=True, eq=False)
class AlteredWeights:
    """Log-weights that were changed to lower the variance, at the price of a bias, and how much of them was changed."""

    log_weights: FloatArray
    """The changed log-weights, shape (n); a sample that was left out has -inf."""
    changed: BoolArray
    """Which were changed, shape (n)."""
    share: float
    """The share of the total weight that the changed ones held before."""
    how: str
    """What was done, in words, to print next to every number made with these weights."""

    @property
    def fraction(self) -> float:
        """The fraction of the samples whose weight was changed."""
        return float(self.changed.mean())


def smoothed(log_weights: ArrayLike) -> AlteredWeights:
    """Returns Pareto-smoothed log-weights: the largest are replaced by the quantiles of the distribution fitted to them.

    No weight exceeds the largest raw one, and the scale is kept, so that log Z can be estimated from them. A tail that cannot be fitted
    (`pareto_k`) is left as it is.

    Arguments:
        log_weights: Log-weights with shape (n).
    """
    array = check_log_weights(log_weights)
    changed_array, k = _pareto_smoothing(array)
    changed = changed_array != array
    share = float(normalised(array)[changed].sum())
    if not changed.any():
        return AlteredWeights(changed_array, changed, 0.0, "the tail of the weights could not be fitted: nothing was smoothed")
    how = f"Pareto smoothing (k = {k:.2f}) changed {int(changed.sum())} of {len(array)} weights, which held {100 * share:.1f} % of the total"
    return AlteredWeights(changed_array, changed, share, how)


def trimmed(log_weights: ArrayLike, fraction: float = 0.01) -> AlteredWeights:
    """Returns log-weights without the samples of the largest and of the smallest weights.

    Arguments:
        log_weights: Log-weights with shape (n).
        fraction: The fraction left out at either end, 0 to 0.5, rounded down to whole samples.

    Returns:
        Log-weights of the same length, -inf where a sample is left out; `log_weights[~changed]` are the kept ones.

    Raises:
        InputError: If the fraction is out of range.
    """
    array = check_log_weights(log_weights)
    if not 0.0 <= fraction < 0.5:
        raise InputError(f"trimming: got a fraction of {fraction} at either end, expected 0 to 0.5")
    count = math.floor(fraction * len(array))
    order = np.argsort(array, kind="stable")
    changed = np.zeros(len(array), dtype=np.bool_)
    changed[order[:count]] = True
    changed[order[len(array) - count :]] = True
    share = float(normalised(array)[changed].sum())
    how = (
        f"trimming left out {2 * count} of {len(array)} samples, {count} at either end, with {100 * share:.1f} % of the weight"
    )
    return AlteredWeights(check_log_weights(np.where(changed, -np.inf, array)), changed, share, how)


@dataclass(frozen=True)
class Diagnosis:
    """Whether a set of weights can be trusted."""

    n: int
    """The number of samples."""
    ess: float
    """Kish's effective sample size."""
    ess_fraction: float
    """The effective sample size divided by n."""
    pareto_k: float
    """The Pareto shape of the largest weights; see `pareto_k` for NaN and -inf."""
    verdict: Verdict
    """Good: k ≤ 0.5 and at least 100 effective samples. Not to be trusted: k > 0.7 or fewer than 10. Usable: between."""
    sentence: str
    """The same in words."""

    @property
    def trusted(self) -> bool:
        """Whether the verdict is at least usable."""
        return self.verdict != "not to be trusted"


def diagnose(log_weights: ArrayLike) -> Diagnosis:
    """Returns the verdict on a set of weights, with its reasons.

    Weights are good with k ≤ 0.5 and at least 100 effective samples, not to be trusted with k > 0.7 or fewer than 10 effective samples,
    and usable with care in between. Where k cannot be fitted they are usable at best.

    Arguments:
        log_weights: Log-weights with shape (n), up to a constant.
    """
    array = check_log_weights(log_weights)
    ess = effective_sample_size(array)
    k = pareto_k(array)
    reasons = []
    if ess.value < USABLE_ESS:
        reasons.append(f"fewer than {USABLE_ESS:.0f} samples carry the weight")
    elif ess.value < GOOD_ESS:
        reasons.append(f"fewer than {GOOD_ESS:.0f} samples carry the weight, so error bars are rough")
    if k > USABLE_K:
        reasons.append(f"a few huge weights decide (Pareto k above {USABLE_K})")
    elif k > GOOD_K:
        reasons.append(f"the largest weights are heavy-tailed (Pareto k above {GOOD_K})")
    elif math.isnan(k):
        reasons.append("the tail of the weights could not be fitted")
    verdict: Verdict = "usable" if reasons else "good"
    if ess.value < USABLE_ESS or k > USABLE_K:
        verdict = "not to be trusted"
    shape = "" if not math.isfinite(k) else f", Pareto k {k:.2f}"
    because = f": {'; '.join(reasons)}" if reasons else ""
    sentence = f"The weights are {verdict}{because}. Effective sample size {ess}{shape}."
    return Diagnosis(ess.n, ess.value, ess.fraction, k, verdict, sentence)


def _pareto_smoothing(array: FloatArray) -> tuple[FloatArray, float]:
    """Smoothed log-weights on the scale of the given ones, and k; the given ones where nothing can be fitted."""
    held = np.flatnonzero(np.isfinite(array))
    finite = array[held]
    n = len(finite)
    if n < MINIMUM_TAIL:
        return array, math.nan
    tail = int(n / 5 if n <= 225 else 3 * math.sqrt(n))
    order = np.sort(finite)
    if order[-1] - order[-tail] <= 1e-12 * max(1.0, abs(float(order[-1]))):
        return array, -math.inf
    # the fit starts from the tail's lower quartile, which ties with the cutoff or underflow make zero
    quartile = order[n - tail + int(tail / 4 + 0.5) - 1]
    if not np.exp(quartile - order[-1]) > np.exp(order[-tail - 1] - order[-1]):
        return array, math.nan

    from arviz_stats.base import array_stats

    with np.errstate(all="ignore"):  # underflow of small weights is harmless; a fit that fails is not finite
        values, shape = array_stats.psislw(-finite)
    k = float(shape)
    if not math.isfinite(k):
        return array, math.nan
    # what comes back is normalised; the smallest weight is not part of the tail and tells the constant
    smallest = int(np.argmin(finite))
    result = array.copy()
    in_tail = finite > order[-tail - 1]
    new = np.asarray(values, dtype=np.float64) + (finite[smallest] - values[smallest])
    result[held[in_tail]] = new[in_tail]
    return result, k
