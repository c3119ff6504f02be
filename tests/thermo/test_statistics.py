"""Statistical inefficiency and bootstraps of independent and correlated samples."""

import numpy as np
import pytest
from scipy.stats import norm

from equilibra.errors import InputError
from equilibra.thermo.statistics import (
    block_bootstrap,
    bootstrap,
    contiguous_blocks,
    relaxation_time,
    resampled_counts,
    resampled_sums,
    statistical_inefficiency,
)


def autoregression(frames, rho, rng):
    from scipy.signal import lfilter

    noise = np.sqrt(1 - rho**2) * rng.standard_normal(frames)
    noise[0] = rng.standard_normal()
    return lfilter([1.0], [1.0, -rho], noise)


def test_inefficiency_of_an_autoregression():
    rng = np.random.default_rng(0)
    rho = 0.9
    exact = (1 + rho) / (1 - rho)
    values = [statistical_inefficiency(autoregression(20000, rho, rng)) for _ in range(20)]
    # truncation at the first zero of the autocorrelation costs a few per cent
    assert np.mean(values) == pytest.approx(exact, rel=0.1)
    assert statistical_inefficiency(rng.standard_normal(20000)) == pytest.approx(1.0, abs=0.1)


def test_inefficiency_equals_the_direct_sum():
    rng = np.random.default_rng(1)
    x = autoregression(300, 0.7, rng)
    centred, n = x - x.mean(), len(x)
    g = 1.0
    for t in range(1, n - 1):
        c = (centred[: n - t] * centred[t:]).sum() / ((n - t) * centred.var())
        if c <= 0 and t > 3:
            break
        g += 2 * c * (1 - t / n)
    assert statistical_inefficiency(x) == pytest.approx(max(g, 1.0), rel=1e-9)


def test_runs_with_different_means_are_slow():
    rng = np.random.default_rng(2)
    runs = [rng.standard_normal(500) + shift for shift in (-5.0, 5.0)]
    assert statistical_inefficiency(runs) > 100
    assert statistical_inefficiency(runs[0]) < 2


def test_vectors_and_relaxation_time():
    rng = np.random.default_rng(3)
    tau, interval = 25.0, 0.5
    rho = np.exp(-interval / tau)
    series = np.stack([autoregression(60000, rho, rng) for _ in range(3)], axis=1)
    assert relaxation_time(series, interval) == pytest.approx(tau, rel=0.25)


def test_bootstrap_error_of_a_mean():
    rng = np.random.default_rng(4)
    x = rng.standard_normal(2000)
    found = bootstrap(lambda s: float(s.mean()), x, rng, resamples=1000)
    assert found.value == pytest.approx(x.mean())
    assert found.error == pytest.approx(x.std() / np.sqrt(2000), rel=4 / np.sqrt(2 * 1000))
    assert found.high - found.low == pytest.approx(2 * norm.ppf(0.975) * found.error, rel=0.1)


def test_blocks_see_correlation():
    rng = np.random.default_rng(5)
    rho, frames = 0.95, 20000
    runs = [autoregression(frames // 2, rho, rng) for _ in range(2)]
    exact = np.sqrt((1 + rho) / (1 - rho) / frames)
    iid = bootstrap(lambda s: float(s.mean()), np.concatenate(runs), rng, resamples=200)
    blocks = block_bootstrap(lambda s: float(s.mean()), runs, 400, rng, resamples=200)
    assert blocks.error == pytest.approx(exact, rel=0.4)
    assert iid.error < 0.3 * exact


def test_blocks_stay_inside_runs_and_hold_every_frame():
    blocks = contiguous_blocks([5, 3], 2)
    assert [block.tolist() for block in blocks] == [[0, 1], [2, 3], [4], [5, 6], [7]]


def test_resampled_sums_are_those_of_the_blocks():
    rng = np.random.default_rng(12)
    columns = rng.standard_normal((90, 2))
    blocks = contiguous_blocks([50, 40], 7)
    sums = resampled_sums(columns, np.random.default_rng(0), 50, blocks=blocks)
    for index, counts in enumerate(resampled_counts(90, np.random.default_rng(0), 50, blocks=blocks)):
        np.testing.assert_allclose(sums[index], counts @ columns, rtol=1e-10, atol=1e-10)
        assert all(len(set(counts[block].tolist())) == 1 for block in blocks)


def test_resampled_sums_have_the_variance_of_a_sum():
    rng = np.random.default_rng(13)
    column = rng.standard_normal((400, 1))
    sums = resampled_sums(column, rng, 4000)[:, 0]
    assert sums.std() == pytest.approx(np.sqrt(400) * column.std(), rel=4 / np.sqrt(2 * 4000))
    assert abs(sums.mean() - column.sum()) < 4 * sums.std() / np.sqrt(4000)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rng: statistical_inefficiency(np.ones(10)), "constant"),
        (lambda rng: statistical_inefficiency([]), "no samples"),
        (lambda rng: statistical_inefficiency([1.0, np.nan]), "NaN"),
        (lambda rng: relaxation_time([1.0, 2.0], 0.0), "positive time"),
        (lambda rng: bootstrap(np.mean, [], rng), "no samples"),
        (lambda rng: bootstrap(np.mean, [1.0], rng, resamples=1), "resamples = 1"),
        (lambda rng: block_bootstrap(np.mean, [np.ones(5)], 9, rng), "9 frames, expected 1 to 5"),
        (lambda rng: resampled_sums(np.ones((5, 1)), rng, 1), "resamples = 1"),
        (lambda rng: resampled_sums(np.ones((5, 1)), rng, blocks=[np.arange(4), np.arange(1)]), "every sample once"),
        (lambda rng: resampled_sums(np.ones((5, 1)), rng, blocks=5), "one block"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call(np.random.default_rng(0))
