"""Weights of known distributions: effective sizes, tails and verdicts."""

import math

import numpy as np
import pytest

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.reweighting import refuse_if_untrusted, reweighted
from equilibra.thermo.weights import (
    diagnose,
    effective_sample_size,
    forward_effective_fraction,
    lineage_log_weights,
    normalised,
    pareto_k,
    smoothed,
    trimmed,
)


def test_lognormal_weights_have_the_known_effective_fraction():
    rng = np.random.default_rng(0)
    s, n = 0.8, 200_000
    found = effective_sample_size(s * rng.standard_normal(n))
    # delta method: the relative variance of sum(w)^2 / sum(w^2)
    moment = [math.exp(0.5 * (k * s) ** 2) for k in range(5)]
    variance = (
        4 * (moment[2] / moment[1] ** 2 - 1) + moment[4] / moment[2] ** 2 - 1 - 4 * (moment[3] / (moment[1] * moment[2]) - 1)
    )
    assert found.fraction == pytest.approx(math.exp(-(s**2)), rel=4 * math.sqrt(variance / n))
    assert found.n == n
    assert f"of {n} (" in str(found)


def test_ends_of_the_effective_size():
    assert effective_sample_size(np.full(7, 3.0)).value == pytest.approx(7.0)
    assert effective_sample_size([0.0, -800.0, -900.0]).value == pytest.approx(1.0)
    assert effective_sample_size([0.0, -np.inf, 0.0]).value == pytest.approx(2.0)
    np.testing.assert_allclose(normalised([math.log(3.0), 0.0]), [0.75, 0.25])


def test_relatives_count_as_one():
    log_weights = np.log([1.0, 2.0, 3.0, 4.0]) + 700.0
    found = lineage_log_weights(log_weights, [7, 2, 7, 2])
    np.testing.assert_allclose(found, np.log([6.0, 4.0]) + 700.0, rtol=1e-15)
    np.testing.assert_allclose(lineage_log_weights(log_weights, np.arange(4)), log_weights, rtol=1e-15)
    assert effective_sample_size(lineage_log_weights(np.zeros(12), np.repeat([0, 1, 2], 4))).value == pytest.approx(3.0)
    np.testing.assert_array_equal(lineage_log_weights([0.0, -np.inf], [1, 0]), [-np.inf, 0.0])


def test_forward_fraction_sees_a_missing_state_and_the_reverse_one_does_not():
    rng = np.random.default_rng(1)
    # target: half N(-4, 1), half N(4, 1); the model knows the left one alone
    log_normal = lambda x, m: -0.5 * (x - m) ** 2 - 0.5 * math.log(2 * math.pi)  # noqa: E731

    def log_weights(x):
        return np.logaddexp(log_normal(x, -4), log_normal(x, 4)) + math.log(0.5) - log_normal(x, -4)

    model = rng.standard_normal(4000) - 4
    target = rng.standard_normal(4000) + np.where(rng.random(4000) < 0.5, -4, 4)
    assert effective_sample_size(log_weights(model)).fraction > 0.9
    assert forward_effective_fraction(log_weights(target), 0.0) < 1e-6


def test_forward_fraction_equals_the_reverse_one_of_a_model_that_covers():
    rng = np.random.default_rng(2)
    # target N(0, 1), model N(0, s): both fractions are Z^2 / E_q[w^2]
    s, n = 1.5, 100_000
    log_weights = lambda x: -0.5 * x**2 + 0.5 * (x / s) ** 2 + math.log(s * math.sqrt(2 * math.pi))  # noqa: E731
    log_z = 0.5 * math.log(2 * math.pi)
    exact = math.sqrt(2 - 1 / s**2) / s
    assert forward_effective_fraction(log_weights(rng.standard_normal(n)), log_z) == pytest.approx(exact, rel=0.01)
    assert effective_sample_size(log_weights(s * rng.standard_normal(n))).fraction == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("k", [0.3, 0.6, 1.0])
def test_pareto_tails_are_recognised(k):
    rng = np.random.default_rng(3)
    n, repeats = 10_000, 12
    found = [pareto_k(k * rng.exponential(size=n)) for _ in range(repeats)]  # w = U^-k
    tail = 3 * math.sqrt(n)
    # the prior of ten observations at 0.5 draws the fit inwards
    expected = (tail * k + 5) / (tail + 10)
    assert abs(np.mean(found) - expected) < 4 * (1 + k) / math.sqrt(tail * repeats)


def test_bounded_and_lognormal_weights_have_light_tails():
    rng = np.random.default_rng(4)
    assert pareto_k(np.log(rng.random(5000))) < 0.0
    assert pareto_k(0.5 * rng.standard_normal(5000)) < 0.5


def test_tails_that_cannot_be_fitted():
    rng = np.random.default_rng(5)
    assert math.isnan(pareto_k(rng.standard_normal(20)))
    assert pareto_k(np.zeros(100)) == -math.inf
    assert math.isnan(pareto_k(np.repeat([0.0, 10.0], [95, 5])))
    zero = np.concatenate([np.full(900, -np.inf), rng.random(100)])
    assert pareto_k(zero) == pareto_k(zero[900:])


def test_nothing_depends_on_the_order_or_the_constant():
    rng = np.random.default_rng(6)
    log_weights = 1.2 * rng.standard_normal(500)
    other = rng.permutation(log_weights) + 700.0
    first, second = diagnose(log_weights), diagnose(other)
    assert second.ess == pytest.approx(first.ess, rel=1e-9)
    assert second.pareto_k == pytest.approx(first.pareto_k, rel=1e-6)
    np.testing.assert_allclose(
        np.sort(smoothed(other).log_weights) - 700.0, np.sort(smoothed(log_weights).log_weights), atol=1e-8
    )


def test_smoothing_lowers_the_variance_and_keeps_scale_and_order():
    rng = np.random.default_rng(7)
    n, repeats = 400, 150
    raw, smooth = [], []
    for _ in range(repeats):
        log_weights = 0.6 * rng.exponential(size=n)
        before = log_weights.copy()
        found = smoothed(log_weights)
        np.testing.assert_array_equal(log_weights, before)
        raw.append(np.exp(log_weights).mean())
        smooth.append(np.exp(found.log_weights).mean())
        assert found.log_weights.max() <= log_weights.max() + 1e-9
        np.testing.assert_array_equal(found.log_weights[~found.changed], log_weights[~found.changed])
    assert np.std(smooth) < np.std(raw)
    assert np.mean(smooth) == pytest.approx(2.5, rel=0.1)
    assert 0.1 < found.fraction <= 60 / n + 1e-9
    assert "changed" in found.how
    flat = smoothed(np.zeros(50))
    assert flat.fraction == 0.0
    assert "nothing was smoothed" in flat.how


def test_trimming_discloses_what_it_left_out():
    log_weights = np.log(np.arange(1.0, 101.0))
    found = trimmed(np.flip(log_weights), 0.02)
    assert sorted(np.flip(np.arange(1, 101))[found.changed].tolist()) == [1, 2, 99, 100]
    assert found.fraction == pytest.approx(0.04)
    assert found.share == pytest.approx((1 + 2 + 99 + 100) / 5050)
    assert np.isneginf(found.log_weights[found.changed]).all()
    assert "4 of 100" in found.how
    assert trimmed(log_weights, 0.0).fraction == 0.0


@pytest.mark.parametrize(
    ("log_weights", "verdict", "words"),
    [
        (np.zeros(1000), "good", "1000 of 1000"),
        (np.zeros(50), "usable", "fewer than 100"),
        (np.zeros(9), "not to be trusted", "fewer than 10 "),
        (np.linspace(0, 30, 1000), "usable", "fewer than 100"),
        (1.5 * np.random.default_rng(0).exponential(size=20_000), "not to be trusted", "huge weights"),
        (0.6 * np.random.default_rng(1).exponential(size=20_000), "usable", "heavy-tailed"),
        (np.repeat([0.0, 1.0], [500, 50]), "usable", "could not be fitted"),
    ],
)
def test_verdicts_in_words(log_weights, verdict, words):
    found = diagnose(log_weights)
    assert found.verdict == verdict
    assert words in found.sentence
    assert f"The weights are {verdict}" in found.sentence
    assert found.trusted == (verdict != "not to be trusted")
    assert found.n == len(log_weights)


def test_untrusted_weights_are_refused_in_words():
    bad = reweighted(np.linspace(0, 3000, 1000))
    with pytest.raises(InputError, match=r"entropy: refused, because .* not to be trusted"):
        bad.require_trust("entropy")
    bad.require_trust("entropy", allow=True)
    good = reweighted(np.zeros(500))
    refuse_if_untrusted(good.diagnosis, "entropy")
    assert good.diagnosis.verdict == "good"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: normalised([]), InputError, "got none"),
        (lambda: normalised([0.0, np.nan, np.inf]), InputError, "2 of 3 are NaN or .inf, the first at index 1"),
        (lambda: normalised([-np.inf, -np.inf]), InputError, "no sample has any weight"),
        (lambda: normalised([[0.0]]), ShapeError, "one number for each sample"),
        (lambda: lineage_log_weights(np.zeros(3), [0, 1]), InputError, r"shape \(2,\), expected \(3,\)"),
        (lambda: trimmed(np.zeros(3), 0.5), InputError, "fraction of 0.5"),
        (lambda: forward_effective_fraction([0.0], np.inf), InputError, "log Z"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
