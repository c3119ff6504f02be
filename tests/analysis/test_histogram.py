import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm

from equilibra.analysis.floor import analytic_floor
from equilibra.analysis.histogram import (
    histogram_1d,
    histogram_2d,
    jensen_shannon,
    js_distance,
    kl_divergence,
    outlier_fraction,
    total_variation,
)
from equilibra.errors import ConfigError, InputError, ShapeError

LIMITS = (-8.0, 9.0)


def cells(mean, bins=400):
    return np.diff(norm.cdf(np.linspace(*LIMITS, bins + 1), loc=mean))


def test_divergences_of_gaussians_against_quadrature():
    p, q = norm(0.0).pdf, norm(1.5).pdf

    def jsd(x):
        m = 0.5 * (p(x) + q(x))
        return 0.5 * p(x) * np.log(p(x) / m) + 0.5 * q(x) * np.log(q(x) / m)

    exact, _ = quad(jsd, *LIMITS)
    assert jensen_shannon(cells(0.0), cells(1.5)) == pytest.approx(exact / np.log(2), rel=1e-3)
    assert js_distance(cells(0.0), cells(1.5)) == pytest.approx(np.sqrt(exact), rel=1e-3)
    assert total_variation(cells(0.0), cells(1.5)) == pytest.approx(2 * norm.cdf(0.75) - 1, rel=1e-3)
    # KL of equal-width Gaussians is half the squared shift
    width = (LIMITS[1] - LIMITS[0]) / 400
    assert kl_divergence(cells(0.0), cells(1.5), epsilon=0.0, cell=width) == pytest.approx(1.125, rel=1e-3)


def test_conventions_against_scipy():
    rng = np.random.default_rng(0)
    p, q = rng.random(50), rng.random(50)
    assert js_distance(p, q) == pytest.approx(jensenshannon(p, q))
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert jensen_shannon([1, 0], [0, 1]) == pytest.approx(1.0)
    assert js_distance([1, 0], [0, 1]) == pytest.approx(np.sqrt(np.log(2)))
    assert jensen_shannon(p, p) == 0.0
    assert total_variation([1, 0], [0, 1]) == 1.0


def test_kl_epsilon_acts_on_densities():
    value = kl_divergence([0.5, 0.5], [1.0, 0.0], epsilon=1e-10, cell=0.1)
    assert value == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(5.0 / 1e-10), rel=1e-6)


def test_floors_of_filled_bins():
    rng = np.random.default_rng(1)
    bins, n, repeats = 50, 5000, 200
    draws = [(rng.multinomial(n, np.full(bins, 1 / bins)), rng.multinomial(n, np.full(bins, 1 / bins))) for _ in range(repeats)]
    cases = {"jsd": (js_distance, 2), "kl": (lambda p, q: kl_divergence(p, q), 1), "tv": (total_variation, 1)}
    for kind, (metric, power) in cases.items():
        values = np.asarray([metric(p, q) ** power for p, q in draws])
        z = (values.mean() - analytic_floor(kind, bins, n)) / (values.std(ddof=1) / np.sqrt(repeats))
        # the formulas are leading orders in 1/n: allow their own 2 %
        assert abs(z) < 4 or values.mean() == pytest.approx(analytic_floor(kind, bins, n), rel=0.02)


def test_histogram_counts_and_weights():
    p = histogram_1d([0.1, 0.2, 0.9, 1.0], bins=2, limits=(0, 1))
    np.testing.assert_allclose(p, [0.5, 0.5])
    p = histogram_1d([0.1, 0.9], bins=2, limits=(0, 1), weights=[3, 1])
    np.testing.assert_allclose(p, [0.75, 0.25])
    grid = histogram_2d([[0.1, 0.9]], bins=2, limits=((0, 1), (0, 1)))
    np.testing.assert_allclose(grid, [[0, 1], [0, 0]])


def test_outside_the_range():
    samples = [0.5, 1.5, 2.5, 0.6]
    with pytest.raises(InputError, match="2 of 4 samples lie outside"):
        histogram_1d(samples, bins=2, limits=(0, 1))
    np.testing.assert_allclose(histogram_1d(samples, bins=2, limits=(0, 1), outside="clip"), [0, 1])
    np.testing.assert_allclose(histogram_1d([0.1, 0.6, 5], bins=2, limits=(0, 1), outside="drop"), [0.5, 0.5])
    assert outlier_fraction([[0.5], [1.5], [2.0], [0.0]], ((0.0, 1.0),)) == 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: histogram_1d([], bins=2, limits=(0, 1)), "no samples"),
        (lambda: histogram_1d([np.nan], bins=2, limits=(0, 1)), "sample 0 holds NaN"),
        (lambda: histogram_1d([5.0], bins=2, limits=(0, 1), outside="drop"), "no mass"),
        (lambda: histogram_1d([0.5], bins=2, limits=(0, 1), weights=[0.0]), "no mass"),
        (lambda: histogram_1d([0.5], bins=2, limits=(0, 1), weights=[-1.0]), "non-negative"),
        (lambda: jensen_shannon([0, 0], [1, 1]), "all bins are empty"),
        (lambda: jensen_shannon([], []), "no bins"),
        (lambda: total_variation([1, -1], [1, 1]), "not negative"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_bad_shapes_and_settings():
    with pytest.raises(ShapeError):
        jensen_shannon([1, 1], [1, 1, 1])
    with pytest.raises(ShapeError):
        histogram_2d([[1, 2, 3]], bins=2, limits=((0, 1), (0, 1)))
    with pytest.raises(ConfigError):
        histogram_1d([0.5], bins=0, limits=(0, 1))
    with pytest.raises(ConfigError):
        kl_divergence([1], [1], epsilon=-1)
