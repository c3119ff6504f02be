"""Free energies against closed forms, and error bars that hold what they promise."""

import logging
import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import bar, difference, log_z, log_z_error, populations
from equilibra.thermo.mbar import mbar_log_z, quiet_pymbar
from equilibra.thermo.statistics import clopper_pearson, contiguous_blocks

LOG_2PI = math.log(2 * math.pi)


class Gaussians:
    """Model N(0, s²) and target exp(-x²/2 + c): log Z = c + ½ log 2π."""

    def __init__(self, s=1.3, c=3.0):
        self.s, self.c, self.log_z = s, c, c + 0.5 * LOG_2PI

    def log_weights(self, x):
        return self.c - 0.5 * x**2 + 0.5 * (x / self.s) ** 2 + math.log(self.s) + 0.5 * LOG_2PI


def coverage(estimates, exact):
    return np.mean([estimate.low <= exact <= estimate.high for estimate in estimates])


def autoregression(frames, rho, rng):
    from scipy.signal import lfilter

    noise = np.sqrt(1 - rho**2) * rng.standard_normal(frames)
    noise[0] = rng.standard_normal()
    return lfilter([1.0], [1.0, -rho], noise)


def test_log_z_of_a_gaussian_and_its_interval():
    rng = np.random.default_rng(0)
    system = Gaussians()
    found = [log_z(system.log_weights(system.s * rng.standard_normal(300)), rng, 300) for _ in range(400)]
    assert 0.90 <= coverage(found, system.log_z) <= 0.99
    values = np.asarray([estimate.value for estimate in found])
    assert np.mean([estimate.error for estimate in found]) == pytest.approx(values.std(), rel=0.15)
    assert abs(values.mean() - system.log_z) < 4 * values.std() / 20


def test_log_z_of_lognormal_weights_has_the_analytic_error():
    rng = np.random.default_rng(1)
    log_weights = 0.7 * rng.standard_normal(5000)
    found = log_z(log_weights, rng)
    assert abs(found.z_score(0.245)) < 4
    assert found.error == pytest.approx(log_z_error(log_weights), rel=0.1)
    shifted = log_z(rng.permutation(log_weights) - 2000.0, rng)
    assert shifted.value == pytest.approx(found.value - 2000.0, abs=1e-9)
    # samples that the energy forbids count in the mean
    half = log_z(np.concatenate([log_weights, np.full(5000, -np.inf)]), rng)
    assert half.value == pytest.approx(found.value - math.log(2.0))


def test_bar_is_the_solution_of_bennetts_equation_with_the_right_sign():
    rng = np.random.default_rng(2)
    system = Gaussians(s=0.7)
    model = system.log_weights(system.s * rng.standard_normal(800))
    reference = system.log_weights(rng.standard_normal(500))
    m = math.log(500 / 800)
    exact = brentq(lambda z: expit(model - z + m).sum() - expit(-(reference - z + m)).sum(), -50, 50, xtol=1e-12)
    found = bar(model, reference)
    assert found.log_z.value == pytest.approx(exact, abs=1e-8)
    assert abs(found.log_z.z_score(system.log_z)) < 4
    # ELBO = log Z - KL(model, target)
    kl = 0.5 * (system.s**2 - 1) - math.log(system.s)
    assert abs(found.elbo.z_score(system.log_z - kl)) < 4
    reverse = 0.5 * (1 / system.s**2 - 1) + math.log(system.s)
    assert abs(found.eubo.z_score(system.log_z + reverse)) < 4
    assert found.elbo.value < found.log_z.value < found.eubo.value
    assert found.width == pytest.approx(kl + reverse, abs=0.15)
    assert str(found).startswith("ELBO ")


def test_bar_interval_covers():
    rng = np.random.default_rng(3)
    system = Gaussians(s=1.4)
    found = [
        bar(system.log_weights(system.s * rng.standard_normal(100)), system.log_weights(rng.standard_normal(60))).log_z
        for _ in range(400)
    ]
    assert 0.90 <= coverage(found, system.log_z) <= 0.99


def test_bar_of_special_sets():
    rng = np.random.default_rng(4)
    constant = bar(np.full(5, 2.5), np.full(3, 2.5)).log_z
    assert (constant.value, constant.error) == (2.5, 0.0)
    # log Z = 0, where a relative tolerance means nothing
    system = Gaussians(s=1.2, c=-0.5 * LOG_2PI)
    x = system.s * rng.standard_normal(1000)
    model, reference = system.log_weights(x), system.log_weights(rng.standard_normal(1000))
    assert abs(bar(model, reference).log_z.z_score(0.0)) < 4
    # a target on x > 0 alone forbids half of the model's samples
    forbidden = bar(np.where(x > 0, model, -np.inf), reference)
    assert abs(forbidden.log_z.z_score(math.log(0.5))) < 4
    assert forbidden.elbo.value == -math.inf
    assert "forbidden" in forbidden.elbo.note
    assert forbidden.log_z.note == ""
    # Gaussian work of variance 80: bounds 40 nats away on either side
    poor = bar(rng.normal(-40, math.sqrt(80), 200), rng.normal(40, math.sqrt(80), 200))
    assert poor.overlap < 10
    assert "hardly overlap" in poor.log_z.note
    with pytest.raises(InputError, match="same system"):
        bar(model, [0.0, -np.inf])
    with pytest.raises(InputError, match="overlap"):
        bar(np.linspace(-3000, -2000, 20), np.linspace(2000, 3000, 20))


def test_pymbar_is_quiet_and_its_logger_put_back(caplog):
    logger = logging.getLogger("pymbar")
    before = logger.level
    with quiet_pymbar():
        assert logger.level == logging.ERROR
    assert logger.level == before
    bar([0.0, 1.0, 2.0], [0.5, 1.5, 2.5])
    assert not caplog.records


def weighted_states(rng, n):
    """Target: a share of 0.2 in B; model: 0.5. ΔF = -log(0.2 / 0.8), with noise in the weights."""
    in_b = rng.random(n) < 0.5
    return np.where(in_b, math.log(0.2), math.log(0.8)) + 0.5 * rng.standard_normal(n), ~in_b, in_b


def test_difference_of_weighted_states_and_its_interval():
    rng = np.random.default_rng(5)
    exact = math.log(4.0)
    found = [difference(*weighted_states(rng, 300), rng, resamples=300) for _ in range(400)]
    assert 0.90 <= coverage(found, exact) <= 0.99
    values = np.asarray([estimate.value for estimate in found])
    assert np.mean([estimate.error for estimate in found]) == pytest.approx(values.std(), rel=0.15)


def test_difference_of_unweighted_states_covers_and_is_binomial():
    rng = np.random.default_rng(6)
    p = 0.1
    exact = -0.025 * math.log(p / (1 - p))
    found = []
    for _ in range(400):
        in_b = rng.random(200) < p
        found.append(difference(None, ~in_b, in_b, rng, kt=0.025))
    assert 0.90 <= coverage(found, exact) <= 0.99
    low, high = clopper_pearson(int(in_b.sum()), 200)
    assert found[-1].low == pytest.approx(-0.025 * math.log(high / (1 - high)))
    assert found[-1].high == pytest.approx(-0.025 * math.log(low / (1 - low)))


def test_difference_is_antisymmetric_and_blind_to_order_and_constant():
    rng = np.random.default_rng(7)
    log_weights, a, b = weighted_states(rng, 500)
    order = rng.permutation(500)
    first = difference(log_weights, a, b, np.random.default_rng(0), kt=2.0)
    second = difference(log_weights, b, a, np.random.default_rng(0), kt=2.0)
    assert second.value == pytest.approx(-first.value)
    assert (second.low, second.high) == (pytest.approx(-first.high), pytest.approx(-first.low))
    assert difference(log_weights[order] + 900, a[order], b[order], rng, kt=2.0).value == pytest.approx(first.value)


def test_blocks_widen_the_interval_of_a_slow_series():
    rng = np.random.default_rng(8)
    found, naive = [], []
    for _ in range(60):
        x = autoregression(4000, 0.95, rng)
        found.append(difference(None, x < 0, x > 0, rng, blocks=200, resamples=200))
        naive.append(difference(None, x < 0, x > 0, rng))
    spread = np.std([estimate.value for estimate in found])
    assert np.mean([estimate.error for estimate in found]) == pytest.approx(spread, rel=0.35)
    assert np.mean([estimate.error for estimate in naive]) < 0.5 * spread
    # blocks cut from two runs
    blocks = contiguous_blocks([2500, 1500], 200)
    assert difference(None, x < 0, x > 0, rng, blocks=blocks).value == pytest.approx(found[-1].value)


def test_an_empty_state_is_a_bound_in_words():
    rng = np.random.default_rng(9)
    n = 100
    found = difference(None, np.ones(n, bool), np.zeros(n, bool), rng)
    # rule of three: no success in n trials
    p = 1 - 0.05 ** (1 / n)
    assert found.value == math.inf
    assert found.low == pytest.approx(-math.log(p / (1 - p)))
    assert clopper_pearson(0, n, confidence=0.9)[1] == pytest.approx(p)
    assert "no sample with weight is in state B" in found.note
    assert "one-sided 95 %" in found.note
    assert str(found) == f"> {found.low:.3g}"
    mirrored = difference(None, np.zeros(n, bool), np.ones(n, bool), rng)
    assert (mirrored.value, mirrored.high) == (-math.inf, pytest.approx(-found.low))
    # weights and blocks leave fewer independent samples, so a weaker bound
    uneven = difference(np.linspace(0, 8, n), np.ones(n, bool), np.zeros(n, bool), rng)
    assert uneven.low < found.low - 1
    slow = difference(None, np.ones(n, bool), np.zeros(n, bool), rng, blocks=20)
    assert slow.low == pytest.approx(-math.log((1 - 0.05**0.2) / 0.05**0.2))
    # samples without weight are none
    forbidden = difference(np.where(np.arange(n) < 50, 0.0, -np.inf), np.arange(n) < 50, np.arange(n) >= 50, rng)
    assert forbidden.value == math.inf


def test_a_state_with_one_heavy_sample_says_so():
    rng = np.random.default_rng(10)
    in_b = np.arange(200) == 0
    found = difference(np.where(in_b, 1.0, 0.0), ~in_b, in_b, rng)
    assert math.isfinite(found.value)
    assert found.high == math.inf
    assert "resamples the quantity is not finite" in found.note


def test_populations():
    rng = np.random.default_rng(11)
    in_b = rng.random(400) < 0.3
    found = populations(None, {"A": ~in_b, "B": in_b, "none": np.zeros(400, bool), "all": np.ones(400, bool)}, rng)
    assert found["B"].value == pytest.approx(in_b.mean())
    assert (found["B"].low, found["B"].high) == clopper_pearson(in_b.sum(), 400)
    assert found["A"].value + found["B"].value == pytest.approx(1.0)
    assert (found["none"].value, found["none"].low) == (0.0, 0.0)
    assert found["none"].high == pytest.approx(1 - 0.05 ** (1 / 400))
    assert found["all"].low == pytest.approx(0.05 ** (1 / 400))
    assert "no sample is in state none" in found["none"].note
    log_weights, a, b = weighted_states(rng, 2000)
    weighted = populations(log_weights, {"a": a, "b": b}, rng)
    assert abs(weighted["b"].z_score(0.2)) < 4
    assert weighted["a"].value + weighted["b"].value == pytest.approx(1.0)
    assert weighted["a"].error == pytest.approx(weighted["b"].error)


def test_mbar_of_harmonic_oscillators_at_several_temperatures():
    rng = np.random.default_rng(12)
    betas, counts = np.asarray([0.5, 0.8, 1.0, 1.6]), [400, 300, 0, 300]
    x = np.concatenate([rng.standard_normal((n, 3)) / math.sqrt(beta) for beta, n in zip(betas, counts, strict=True)])
    energies = 0.5 * (x**2).sum(axis=1)
    found = mbar_log_z(betas[:, None] * energies, counts)
    exact = -1.5 * np.log(betas / betas[0])
    assert found.log_z[0].value == 0.0
    for estimate, value in zip(found.log_z[1:], exact[1:], strict=True):
        assert abs(estimate.z_score(value)) < 4
    # any other temperature from the pooled samples, and the given ones again
    other = log_z(found.log_weights(1.2 * energies), rng)
    assert abs(other.z_score(-1.5 * math.log(1.2 / 0.5))) < 4
    for beta, estimate in zip(betas, found.log_z, strict=True):
        assert log_z(found.log_weights(beta * energies), rng, 2).value == pytest.approx(estimate.value, abs=1e-6)
    apart = np.concatenate([energies[:400], 1e4 + energies[400:]])
    with pytest.raises(InputError, match="do not overlap"):
        mbar_log_z(np.stack([apart, 1e4 - apart]), [400, 600])
    with pytest.raises(InputError, match="add up"):
        mbar_log_z(betas[:, None] * energies, [1, 2, 3, 4])
    with pytest.raises(ShapeError, match="one for each pooled sample"):
        found.log_weights(energies[:5])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rng, t: difference(None, t, t, rng), "in both A and B"),
        (lambda rng, t: difference(None, ~t, ~t, rng), "none of 5 samples"),
        (lambda rng, t: difference(None, t, ~t, rng, kt=0.0), "kT = 0"),
        (lambda rng, t: difference(None, t.astype(int), ~t, rng), "true or false"),
        (lambda rng, t: difference(np.zeros(4), t, ~t, rng), "one for each sample"),
        (lambda rng, t: difference(None, t, ~t[:3], rng), "state B"),
        (lambda rng, t: populations(None, {}, rng), "no states"),
        (lambda rng, t: log_z(np.zeros(5), rng, 1), "resamples = 1"),
        (lambda rng, t: log_z(np.zeros(5), rng, confidence=1.0), "confidence = 1.0"),
        (lambda rng, t: clopper_pearson(6, 5), "6 of 5"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call(np.random.default_rng(0), np.ones(5, dtype=bool))


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (0.3141, 0.0412, "0.31 ± 0.04"),
        (0.3141, 0.0142, "0.314 ± 0.014"),
        (-4.6912, 0.0996, "-4.69 ± 0.10"),
        (0.3141, 0.0199, "0.31 ± 0.02"),
        (29.668, 0.004, "29.668 ± 0.004"),
        (1234.5, 52.0, "1230 ± 50"),
        (2.5, 0.0, "2.5"),
    ],
)
def test_estimates_print_with_the_digits_that_count(value, error, words):
    assert str(Estimate.normal(value, error, 10)) == words


def test_estimates_in_another_unit():
    found = Estimate(2.0, 0.5, 1.0, 4.0, 7).scaled(-2.0)
    assert (found.value, found.error, found.low, found.high, found.n) == (-4.0, 1.0, -8.0, -2.0, 7)
    assert Estimate.normal(0.0, 1.0, 5).high == pytest.approx(1.959964, abs=1e-6)
