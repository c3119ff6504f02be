r"""How many independent samples a series holds, and error bars that know it.

The statistical inefficiency of a stationary series with normalised autocorrelation :math:`C(t)` and length :math:`N` is

.. math:: g = 1 + 2 \sum_{t \ge 1} \left(1 - \frac{t}{N}\right) C(t),

so that :math:`N` correlated frames are worth :math:`N / g` independent ones. Neighbouring frames of molecular dynamics are nearly
copies: an error bar that treats them as independent is too small by :math:`\sqrt g`.

References:
    | Use of the weighted histogram analysis method for the analysis of simulated and parallel tempering simulations
    | (Chodera et al., 2007), https://doi.org/10.1021/ct0502864
    | The use of confidence or fiducial limits illustrated in the case of the binomial
    | (Clopper and Pearson, 1934), https://doi.org/10.1093/biomet/26.4.404
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.samples import FloatArray, IntArray, as_runs, check_runs, check_samples


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


def bootstrap(
    statistic: Callable[[FloatArray], float],
    samples: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 1000,
    *,
    confidence: float = 0.95,
) -> Estimate:
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
) -> Estimate:
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
    _check_resamples(resamples)
    blocks = contiguous_blocks([len(run) for run in arrays], block)
    joined = np.concatenate(arrays)
    values = np.empty(resamples)
    for index in range(resamples):
        values[index] = statistic(joined[resample_blocks(blocks, rng)])
    return Estimate.from_resamples(float(statistic(joined)), values, len(joined), confidence=confidence)


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


def resampled_frames(n: int, families: Sequence[IntArray] | None, rng: np.random.Generator) -> IntArray:
    """Draws a bootstrap resample of n frames: one by one, or by whole families where frames are relatives, such as those of one Markov chain.

    Arguments:
        n: Number of frames.
        families: Indices of the frames of each family; None where all are independent.
        rng: The only source of randomness.
    """
    return np.asarray(rng.integers(n, size=n)) if families is None else resample_blocks(list(families), rng)


def random_halves(n: int, families: Sequence[IntArray] | None, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Draws two disjoint halves of n frames: of frames, or of whole families; of one family they are its beginning and its end. Arguments as for `resampled_frames`."""
    if families is None:
        one, two = np.array_split(rng.permutation(n), 2)
    elif len(families) == 1:
        one, two = np.array_split(families[0], 2)
    else:
        order = rng.permutation(len(families))
        one, two = (np.concatenate([families[i] for i in part]) for part in np.array_split(order, 2))
    return one, two


def first_of_families(families: Sequence[IntArray] | None, size: int) -> list[IntArray] | None:
    """Returns the families of the first frames alone, without those that have none of them."""
    if families is None:
        return None
    cut = [family[family < size] for family in families]
    return [family for family in cut if len(family)]


def resampled_counts(
    n: int, rng: np.random.Generator, resamples: int = 1000, *, blocks: int | Sequence[IntArray] | None = None
) -> Iterator[IntArray]:
    """Yields, for each resample, how many times it holds each of `n` samples.

    One resample used for several quantities keeps their errors paired.

    Arguments:
        n: The number of samples.
        rng: The only source of randomness.
        resamples: The number of resamples.
        blocks: None if the samples are independent. Else what is drawn whole: the length of contiguous blocks of one series, or
            the blocks themselves (`contiguous_blocks`).

    Raises:
        InputError: If there are fewer than two resamples, or the blocks do not hold every sample once.
    """
    _check_resamples(resamples)
    owner, units = block_owner(n, blocks)
    for _ in range(resamples):
        yield np.bincount(rng.integers(units, size=units), minlength=units)[owner]


def resampled_sums(
    columns: FloatArray, rng: np.random.Generator, resamples: int = 1000, *, blocks: int | Sequence[IntArray] | None = None
) -> FloatArray:
    """Returns the sums of columns over resampled samples: every ratio of weighted means and its error follow from these.

    Arguments:
        columns: Numbers with shape (n, m), e.g. the columns w and w·u.
        rng: As for `resampled_counts`, as are `resamples` and `blocks`.
        resamples: The number of resamples.
        blocks: What is drawn whole.

    Returns:
        Sums with shape (resamples, m); those of one row belong to one resample.
    """
    _check_resamples(resamples)
    owner, units = block_owner(len(columns), blocks)
    totals = np.stack([np.bincount(owner, weights=column, minlength=units) for column in columns.T], axis=1)
    sums = np.empty((resamples, columns.shape[1]))
    chunk = max(1, 2**20 // units)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        draws = rng.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(draws.ravel(), minlength=size * units).reshape(size, units)
        sums[start : start + size] = counts @ totals
    return sums


def clopper_pearson(successes: float, trials: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the Clopper-Pearson interval of a proportion; fractional counts (effective samples) are allowed.

    Raises:
        InputError: If the counts are not 0 ≤ successes ≤ trials, trials > 0, or the confidence is not between 0 and 1.
    """
    from scipy.stats import beta

    if not (0 <= successes <= trials and trials > 0 and 0 < confidence < 1):
        raise InputError(
            f"Clopper-Pearson: got {successes} of {trials} at confidence {confidence}; expected 0 <= successes <= trials"
        )
    tail = 0.5 * (1 - confidence)
    failures = trials - successes
    low = float(beta.ppf(tail, successes, failures + 1)) if successes > 0 else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, failures)) if failures > 0 else 1.0
    return low, high


def block_owner(n: int, blocks: int | Sequence[IntArray] | None) -> tuple[IntArray, int]:
    """Returns the number of the block that each sample belongs to, shape (n), and the number of blocks.

    Raises:
        InputError: If the blocks do not hold every sample once, or there is only one.
    """
    if blocks is None:
        return np.arange(n), n
    cut = contiguous_blocks([n], int(blocks)) if isinstance(blocks, int | np.integer) else list(blocks)
    if len(cut) < 2:
        raise InputError(f"blocks: one block of {n} samples has no spread; give shorter blocks or more runs")
    owner = np.full(n, -1, dtype=np.int64)
    held = np.concatenate(cut)
    if len(held) == n and held.min() >= 0 and held.max() < n:
        owner[held] = np.repeat(np.arange(len(cut)), [len(block) for block in cut])
    if (owner < 0).any():
        raise InputError(f"blocks: expected blocks that hold every sample once, {n} in all; got {len(held)}")
    return owner, len(cut)


def _check_resamples(resamples: int) -> None:
    if resamples < 2:
        raise InputError(f"bootstrap: got resamples = {resamples}, expected at least 2")


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
