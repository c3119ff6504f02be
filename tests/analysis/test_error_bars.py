"""Statistical inefficiency, bootstraps, floors, baselines and occupied bins."""

import numpy as np
import pytest
from scipy.stats import norm

from equilibra.analysis.baseline import cartesian_gaussian, wrapped_gaussian
from equilibra.analysis.coverage import bin_coverage, coverage_curve
from equilibra.analysis.floor import analytic_floor, draw_pair, floor, largest_draw
from equilibra.analysis.statistics import (
    block_bootstrap,
    bootstrap,
    contiguous_blocks,
    relaxation_time,
    statistical_inefficiency,
)
from equilibra.errors import InputError


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


def test_floor_of_independent_runs():
    rng = np.random.default_rng(6)
    runs = [rng.standard_normal(500) for _ in range(4)]
    found = floor(lambda a, b: abs(float(a.mean() - b.mean())), runs, 200, rng, repeats=200)
    assert found.split == "runs"
    # half-normal mean of the difference of two means of 200
    expected = np.sqrt(2 / 200) * np.sqrt(2 / np.pi)
    assert found.mean == pytest.approx(expected, rel=0.35)
    assert found.n == 200
    assert found.std > 0


def test_floor_does_not_hide_slow_motion():
    rng = np.random.default_rng(7)

    def gap(a, b):
        return abs(float(a.mean() - b.mean()))

    stuck = [rng.standard_normal(400) + shift for shift in (-3.0, 3.0)]
    assert floor(gap, stuck, 100, rng).mean > 5.5
    halves = floor(gap, [np.concatenate(stuck)], 100, rng)
    assert halves.split == "halves"
    assert halves.mean > 5.5


def test_draws_share_no_run():
    rng = np.random.default_rng(8)
    lengths = [10, 20, 30, 40, 50]
    owner = np.repeat(np.arange(5), lengths)
    for _ in range(20):
        first, second = draw_pair(lengths, 30, rng)
        assert not set(owner[first]) & set(owner[second])
        assert len(set(first.tolist())) == len(first) == 30
    first, second = draw_pair([11], 5, rng)
    assert first.max() < 5 <= second.min()
    assert largest_draw(lengths) == 30
    assert largest_draw([11]) == 5


def test_wrapped_gaussian_keeps_moments_across_the_cut():
    rng = np.random.default_rng(9)
    cov = np.asarray([[0.09, 0.05], [0.05, 0.16]])
    given = rng.multivariate_normal([np.pi, -3.0], cov, size=3000)
    drawn = wrapped_gaussian(given, 20000, rng)
    assert (np.abs(drawn) <= np.pi).all()
    centred = np.mod(drawn - [np.pi, -3.0] + np.pi, 2 * np.pi) - np.pi
    np.testing.assert_allclose(np.cov(centred.T), np.cov(given.T), atol=4 * 0.16 * np.sqrt(2 / 20000))
    np.testing.assert_allclose(centred.mean(0), (given - [np.pi, -3.0]).mean(0), atol=4 * 0.4 / np.sqrt(20000) + 1e-3)


def test_cartesian_gaussian_keeps_superposed_moments():
    rng = np.random.default_rng(10)
    base = 3 * rng.standard_normal((5, 3))
    frames = base + 0.1 * rng.standard_normal((400, 5, 3))
    drawn = cartesian_gaussian(frames, 5000, rng)
    lengths, wanted = (np.linalg.norm(x[:, 0] - x[:, 1], axis=-1) for x in (drawn, frames))
    assert lengths.mean() == pytest.approx(wanted.mean(), abs=0.02)
    assert lengths.std() == pytest.approx(wanted.std(), rel=0.1)


def test_occupied_bins():
    reference = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1]]
    samples = [[0.1, 0.2], [0.2, 0.1], [0.1, 0.9]]
    found = bin_coverage(reference, samples, limits=((0, 1), (0, 1)), bins=2)
    assert (found.recall, found.precision) == (pytest.approx(1 / 3), 0.5)
    assert found.f1 == pytest.approx(0.4)
    assert found.accuracy == 0.25
    assert bin_coverage(reference, [[0.1, 0.9]], limits=((0, 1), (0, 1)), bins=2).f1 == 0.0


def test_coverage_grows_with_samples():
    rng = np.random.default_rng(11)
    reference, samples = rng.random((5000, 2)), rng.random((1500, 2))
    curve = coverage_curve(reference, samples, rng=rng, sizes=(100, 1000, 10000), bins=20)
    assert [score.n for score in curve] == [100, 1000]
    # occupied cells of 400 after n uniform draws
    assert curve[0].recall == pytest.approx(1 - np.exp(-100 / 400), abs=0.08)
    assert curve[1].recall == pytest.approx(1 - np.exp(-1000 / 400), abs=0.08)


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
        (lambda rng: floor(lambda a, b: 0.0, [np.ones(10), np.ones(4)], 5, rng), "at most 4 frames"),
        (lambda rng: floor(lambda a, b: 0.0, [], 5, rng), "no runs"),
        (lambda rng: floor(lambda a, b: 0.0, [np.ones(10)], 0, rng), "n = 0"),
        (lambda rng: analytic_floor("w2", 3, 3), "'w2'"),
        (lambda rng: bin_coverage(np.zeros((3, 2)), np.zeros((3, 2))), "no extent"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call(np.random.default_rng(0))
