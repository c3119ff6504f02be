"""Profiles and surfaces against the density they are drawn from."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.profile import profile, surface


def test_profile_of_a_reweighted_gaussian_is_in_its_bands():
    rng = np.random.default_rng(0)
    edges = np.linspace(-2, 2, 9)
    p = np.diff(norm.cdf(edges)) / np.diff(norm.cdf(edges)).sum()
    exact = -np.log(p / np.diff(edges))
    inside, above = [], []
    for _ in range(100):
        x = 1.5 * rng.standard_normal(800)
        found = profile(x, -0.5 * x**2 + 0.5 * (x / 1.5) ** 2, rng, edges=edges, resamples=200)
        # the zero is a constant of each estimate: compare before it is taken off
        weights = np.exp(-0.5 * x**2 * (1 - 1 / 1.5**2))
        held = np.histogram(x, edges, weights=weights)[0]
        zero = (-np.log(held / held.sum() / np.diff(edges))).min()
        inside.append((found.low + zero <= exact) & (exact <= found.high + zero))
        above.append(found.free_energy.min())
    assert 0.90 <= np.mean(inside) <= 0.99
    np.testing.assert_allclose(above, 0.0, atol=1e-12)
    assert found.outside == pytest.approx(2 * norm.cdf(-2), abs=0.05)
    np.testing.assert_allclose(found.centres[0], np.arange(-1.75, 2, 0.5))


def test_angles_are_moved_by_whole_turns():
    rng = np.random.default_rng(1)
    phi = rng.vonmises(2.5, 2.0, size=3000)
    first = profile(phi, None, np.random.default_rng(0), bins=12, period=2 * math.pi, resamples=20)
    turns = 2 * math.pi * rng.integers(-3, 4, size=3000)
    second = profile(phi + turns, None, np.random.default_rng(0), bins=12, period=2 * math.pi, resamples=20)
    np.testing.assert_array_equal(first.counts, second.counts)
    assert first.counts.sum() == 3000
    assert first.outside == 0.0
    assert first.edges[0][0] == pytest.approx(-math.pi)
    shifted = profile(phi, None, rng, edges=np.linspace(0, 2 * math.pi, 13), period=2 * math.pi, resamples=20)
    np.testing.assert_array_equal(np.roll(first.counts, 6), shifted.counts)
    low = profile(phi, None, rng, edges=[0.0, 1.0, 2.0], period=2 * math.pi, resamples=20)
    assert low.outside == pytest.approx(np.mean((phi < 0) | (phi > 2)))


def test_kt_scales_and_empty_bins_hold_nan():
    x = np.asarray([0.1, 0.2, 0.3, 2.5, 2.6, 2.6])
    log_weights = np.asarray([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    found = profile(x, log_weights, np.random.default_rng(0), edges=[0, 1, 2, 4], kt=0.5, resamples=200)
    # the last bin is twice as wide
    np.testing.assert_allclose(found.free_energy, [0.5 * (1.0 - math.log(2.0)), np.nan, 0.0])
    assert np.isnan([found.error[1], found.low[1], found.high[1]]).all()
    assert (found.low[[0, 2]] <= found.free_energy[[0, 2]]).all()
    assert (found.free_energy[[0, 2]] <= found.high[[0, 2]]).all()
    np.testing.assert_array_equal(found.counts, [3, 0, 3])
    single = profile(np.concatenate([np.zeros(100), [1.5]]), None, np.random.default_rng(0), edges=[-1, 1, 2])
    assert single.high[1] == math.inf
    assert math.isfinite(single.error[1])


def test_surface_marginal_is_the_profile():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal(5000), rng.uniform(-1, 1, 5000)
    log_weights = 0.3 * x
    edges = (np.linspace(-1, 1, 6), np.linspace(-1, 1, 4))
    found = surface(x, y, log_weights, np.random.default_rng(0), edges=edges, resamples=20)
    assert found.free_energy.shape == found.error.shape == found.counts.shape == (5, 3)
    marginal = -np.log(np.exp(-found.free_energy).sum(axis=1))
    line = profile(x, log_weights, np.random.default_rng(0), edges=edges[0], resamples=20)
    np.testing.assert_allclose(marginal - marginal.min(), line.free_energy, atol=1e-9)
    assert found.outside == pytest.approx(line.outside)
    assert surface(x, y, None, rng, bins=(4, 7), resamples=5).counts.shape == (4, 7)


def test_blocks_widen_the_bands():
    rng = np.random.default_rng(3)
    x = np.repeat(rng.standard_normal(200), 20)
    edges = [-1.0, 0.0, 1.0]
    slow = profile(x, None, rng, edges=edges, blocks=20, resamples=300)
    fast = profile(x, None, rng, edges=edges, resamples=300)
    np.testing.assert_allclose(slow.error / fast.error, math.sqrt(20), rtol=0.25)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: profile([], None, rng), InputError, "no samples"),
        (lambda rng: profile([np.nan], None, rng), InputError, "NaN"),
        (lambda rng: profile([1.0, 1.0], None, rng), InputError, "moves"),
        (lambda rng: profile([1.0, 2.0], None, rng, bins=0), InputError, "0 bins"),
        (lambda rng: profile([1.0, 2.0], None, rng, edges=[2.0, 1.0]), InputError, "rise"),
        (lambda rng: profile([1.0, 2.0], None, rng, edges=[3.0, 4.0]), InputError, "within the edges"),
        (lambda rng: profile([1.0, 2.0], None, rng, edges=[0.0, 7.0], period=6.0), InputError, "more than the period"),
        (lambda rng: profile([1.0, 2.0], None, rng, period=-1.0), InputError, "positive"),
        (lambda rng: profile([1.0, 2.0], None, rng, kt=-1.0), InputError, "kT"),
        (lambda rng: surface([1.0, 2.0], [1.0], None, rng), ShapeError, "second collective variable"),
        (lambda rng: profile([1.0, 2.0], [0.0], rng), ShapeError, "one for each sample"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(np.random.default_rng(0))
