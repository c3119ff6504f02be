r"""How many independent samples a series holds, and error bars that know it.

The statistical inefficiency of a stationary series with normalised autocorrelation :math:`C(t)` and length :math:`N` is

.. math:: g = 1 + 2 \sum_{t \ge 1} \left(1 - \frac{t}{N}\right) C(t),

so that :math:`N` correlated frames are worth :math:`N / g` independent ones. Neighbouring frames of molecular dynamics are nearly
copies: an error bar that treats them as independent is too small by :math:`\sqrt g`.

References:
    | Use of the weighted histogram analysis method for the analysis of simulated and parallel tempering simulations
    | (Chodera et al., 2007), https://doi.org/10.1021/ct0502864
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, IntArray, as_runs, check_runs, check_samples
from equilibra.errors import InputError


def statistical_inefficiency(series: ArrayLike | Sequence[ArrayLike], *, minimum_lag: int = 3) -> float:
    """Returns the statistical inefficiency g of one series or of several of the same process.

    Several series are centred on their common mean, so that differences between runs count as slow motion, which they are. The sum
    ends at the first lag beyond `minimum_lag` where the autocorrelation is not positive. A series of vectors, e.g. (cos, sin) of
    angles, is correlated by its scalar product.

    Arguments:
        series: Numbers with shape (frames), vectors with shape (frames, d), or a list of such runs.
        minimum_lag: The sum does not end before this lag, in frames.

    Returns:
        The inefficiency g ≥ 1, in frames.

    Raises:
        InputError: If a series is empty or not finite, or if nothing moves.
    """
    runs = as_runs("series", series, ndim=(1, 2))
    mean = np.concatenate(runs).mean(axis=0)
    centred = [run - mean for run in runs]
    total = sum(len(run) for run in runs)
    variance = sum(float((run**2).sum()) for run in centred) / total
    scale = max(float(np.abs(mean).max()), 1.0)
    if variance <= (1e-12 * scale) ** 2:
        raise InputError(
            "statistical inefficiency: the series is constant, its correlation is undefined; give a series that moves"
        )
    longest = max(len(run) for run in runs)
    sums, counts = np.zeros(longest), np.zeros(longest)
    for run in centred:
        sums[: len(run)] += _autocovariance_sums(run)
        counts[: len(run)] += np.arange(len(run), 0, -1)
    correlation = sums / counts / variance
    mean_length = total / len(runs)
    inefficiency = 1.0
    for lag in range(1, longest - 1):
        if correlation[lag] <= 0 and lag > minimum_lag:
            break
        inefficiency += 2.0 * float(correlation[lag]) * max(1.0 - lag / mean_length, 0.0)
    return max(inefficiency, 1.0)


def relaxation_time(series: ArrayLike | Sequence[ArrayLike], interval: float) -> float:
    r"""Returns the integrated relaxation time :math:`\tau = (g - 1)\, \Delta t / 2` of a series.

    For an exponential decay that the frames resolve it is the decay time; two frames count as independent when :math:`2 \tau` apart.

    Arguments:
        series: As for `statistical_inefficiency`.
        interval: The time :math:`\Delta t` between frames, in the unit wanted.

    Raises:
        InputError: If the interval is not positive, or as for `statistical_inefficiency`.
    """
    if not interval > 0:
        raise InputError(f"relaxation time: got an interval of {interval}, expected a positive time")
    return 0.5 * (statistical_inefficiency(series) - 1.0) * interval


@dataclass(frozen=True, kw_only=True)
class BootstrapEstimate:
    """A statistic of the samples and its spread over resampled copies of them."""

    value: float
    """The statistic of the samples themselves."""
    error: float
    """The standard deviation over resamples."""
    low: float
    """The lower end of the percentile interval."""
    high: float
    """The upper end of the percentile interval."""
    resamples: int
    """The number of resamples."""
    block: int
    """The length of the blocks in frames; 1 for independent samples."""


def bootstrap(
    statistic: Callable[[FloatArray], float],
    samples: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 1000,
    *,
    confidence: float = 0.95,
) -> BootstrapEstimate:
    """Estimates the error of a statistic of independent samples by resampling them with replacement.

    Arguments:
        statistic: A function of an array of samples.
        samples: Independent samples, the first axis counts them.
        rng: The only source of randomness.
        resamples: The number of resamples.
        confidence: The coverage of the percentile interval.

    Raises:
        InputError: If there are no samples, or `resamples` or `confidence` is out of range.
    """
    return block_bootstrap(statistic, [check_samples("bootstrap", samples)], 1, rng, resamples, confidence=confidence)


def block_bootstrap(
    statistic: Callable[[FloatArray], float],
    runs: ArrayLike | Sequence[ArrayLike],
    block: int,
    rng: np.random.Generator,
    resamples: int = 1000,
    *,
    confidence: float = 0.95,
) -> BootstrapEstimate:
    """Estimates the error of a statistic of correlated series by resampling contiguous blocks with replacement.

    Blocks are cut from each run separately and drawn from all runs together. They should be several relaxation times long.

    Arguments:
        statistic: A function of an array of samples.
        runs: One series or a list of runs, in order of time.
        block: The length of a block in frames.
        rng: The only source of randomness.
        resamples: The number of resamples.
        confidence: The coverage of the percentile interval.

    Raises:
        InputError: If there are no samples, or a number is out of range.
    """
    arrays = _joined_runs(runs)
    if resamples < 2 or not 0 < confidence < 1:
        raise InputError(f"bootstrap: got resamples = {resamples}, confidence = {confidence}; expected at least 2, and 0 to 1")
    blocks = contiguous_blocks([len(run) for run in arrays], block)
    joined = np.concatenate(arrays)
    values = np.empty(resamples)
    for index in range(resamples):
        values[index] = statistic(joined[resample_blocks(blocks, rng)])
    low, high = np.quantile(values, [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence])
    return BootstrapEstimate(
        value=float(statistic(joined)),
        error=float(values.std(ddof=1)),
        low=float(low),
        high=float(high),
        resamples=resamples,
        block=block,
    )


def contiguous_blocks(lengths: Sequence[int], block: int) -> list[IntArray]:
    """Cuts runs of the given lengths into contiguous blocks and returns their frames' indices in the joined series.

    A run's remainder shorter than `block` becomes a block of its own, so that every frame belongs to one block.

    Raises:
        InputError: If `block` is below one or longer than the longest run.
    """
    if block < 1 or block > max(lengths):
        raise InputError(f"blocks: got a length of {block} frames, expected 1 to {max(lengths)}, the length of the longest run")
    blocks, start = [], 0
    for length in lengths:
        blocks += [np.arange(start + i, start + min(i + block, length), dtype=np.int64) for i in range(0, length, block)]
        start += length
    return blocks


def resample_blocks(blocks: list[IntArray], rng: np.random.Generator) -> IntArray:
    """Draws as many blocks as there are, with replacement, and returns their frames' indices."""
    choice = rng.integers(len(blocks), size=len(blocks))
    return np.concatenate([blocks[index] for index in choice])


def _autocovariance_sums(centred: FloatArray) -> FloatArray:
    """Σ_i x_i · x_{i+t} for all lags t, by zero-padded Fourier transform."""
    columns = centred.reshape(len(centred), -1)
    size = 1 << (2 * len(columns) - 1).bit_length()
    spectrum = np.fft.rfft(columns, n=size, axis=0)
    return np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=1), n=size)[: len(columns)]


def _joined_runs(runs: ArrayLike | Sequence[ArrayLike]) -> list[FloatArray]:
    # a list of numbers is one series; a list of arrays is several runs
    if isinstance(runs, (list, tuple)) and len(runs) > 0 and np.ndim(runs[0]) > 0:
        return check_runs("runs", runs)
    return [check_samples("runs", np.asarray(runs))]
