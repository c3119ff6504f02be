"""Floors, baselines and occupied bins."""

import numpy as np
import pytest

from equilibra.analysis.baseline import cartesian_gaussian, wrapped_gaussian
from equilibra.analysis.coverage import bin_coverage, coverage_curve
from equilibra.analysis.floor import analytic_floor, draw_pair, floor, largest_draw
from equilibra.errors import InputError


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
