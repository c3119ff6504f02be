"""Entropy, heat capacity, observables and the virial against closed forms."""

import math

import numpy as np
import pytest

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.entropy import consistency, entropy, heat_capacity
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import log_z
from equilibra.thermo.observables import mean, virial

LOG_2PI = math.log(2 * math.pi)


def gaussian(rng, n, s=1.3, d=2):
    """Samples of N(0, s²) in d dimensions, u = |x|²/2 and their log-weights."""
    x = s * rng.standard_normal((n, d))
    u = 0.5 * (x**2).sum(axis=1)
    return x, u, -u + u / s**2 + d * (math.log(s) + 0.5 * LOG_2PI)


def test_entropy_and_heat_capacity_of_a_gaussian_and_their_intervals():
    rng = np.random.default_rng(0)
    exact = 1.0 + LOG_2PI  # S/k of two dimensions; C/k = 1
    found, heat = [], []
    for _ in range(400):
        _, u, log_weights = gaussian(rng, 400)
        found.append(entropy(u, log_weights, rng, resamples=200))
        heat.append(heat_capacity(u, log_weights, rng, resamples=200))
    assert 0.90 <= np.mean([e.low <= exact <= e.high for e in found]) <= 0.99
    values = np.asarray([e.value for e in found])
    assert np.mean([e.error for e in found]) == pytest.approx(values.std(), rel=0.15)
    values = np.asarray([e.value for e in heat])
    # a variance from some 300 effective samples is low by about 1/300
    assert abs(values.mean() - 1.0) < 4 * values.std() / 20 + 0.01
    assert np.mean([e.error for e in heat]) == pytest.approx(values.std(), rel=0.25)


def test_quartic_well_of_known_log_z_and_entropy():
    rng = np.random.default_rng(1)
    s, n = math.sqrt(2.0), 40_000
    x = s * rng.standard_normal(n)
    u = 0.25 * x**4 - x**2
    log_weights = -u + 0.5 * (x / s) ** 2 + math.log(s) + 0.5 * LOG_2PI
    assert abs(log_z(log_weights, rng, 200).z_score(2.026500)) < 4
    assert abs(entropy(u, log_weights, rng, resamples=200).z_score(1.443754)) < 4


def test_entropy_pairs_its_two_parts():
    rng = np.random.default_rng(2)
    _, u, log_weights = gaussian(rng, 3000)
    found = entropy(u, log_weights, rng)
    alone = math.hypot(mean(u, log_weights, rng).error, log_z(log_weights, rng).error)
    values = [entropy(*gaussian(rng, 3000)[1:], rng, resamples=2).value for _ in range(200)]
    assert found.error == pytest.approx(np.std(values), rel=0.25)
    assert abs(found.error - alone) > 0.1 * alone


def test_heavy_and_forbidden_samples():
    rng = np.random.default_rng(3)
    _, u, log_weights = gaussian(rng, 500)
    order = rng.permutation(500)
    first = entropy(u, log_weights, rng, resamples=2)
    # a zero of energy moves u and log Z in opposite directions, and the entropy not at all
    assert entropy(u[order] + 800.0, log_weights[order] - 800.0, rng, resamples=2).value == pytest.approx(first.value)
    energies = np.concatenate([u, [np.inf]])
    forbidden = entropy(energies, np.concatenate([log_weights, [-np.inf]]), rng, resamples=2)
    assert forbidden.value == pytest.approx(first.value + math.log(500 / 501))
    assert heat_capacity(u + 1e6, log_weights, rng, resamples=2).value == pytest.approx(
        heat_capacity(u, log_weights, rng, resamples=2).value, rel=1e-6
    )


def test_weighted_means_and_blocks():
    rng = np.random.default_rng(4)
    x, _, log_weights = gaussian(rng, 5000)
    found = mean(x[:, 0] ** 2, log_weights, rng)
    assert abs(found.z_score(1.0)) < 4
    plain = mean(x[:, 0], None, rng)
    assert plain.value == pytest.approx(x[:, 0].mean())
    assert plain.error == pytest.approx(x[:, 0].std() / math.sqrt(5000), rel=0.1)
    slow = mean(np.repeat(x[:250, 0], 20), None, rng, blocks=20)
    assert slow.error == pytest.approx(x[:250, 0].std() / math.sqrt(250), rel=0.1)


def test_virial_of_a_mean_free_harmonic_cluster():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3000, 4, 3))
    centred = x - x.mean(axis=1, keepdims=True)
    before = x.copy()
    found = virial(x + 50.0, -centred, rng)
    np.testing.assert_array_equal(x, before)
    assert found.expected == 9
    assert abs(found.z_score) < 4
    assert "agrees with" in found.sentence
    # a fixed frame has all twelve
    fixed = virial(x, -x, rng, invariant=False)
    assert fixed.expected == 12
    assert abs(fixed.z_score) < 4
    # samples at twice the temperature
    hot = virial(math.sqrt(2.0) * x, -math.sqrt(2.0) * centred, rng)
    assert hot.relative_error == pytest.approx(1.0, abs=0.05)
    assert "deviates from" in hot.sentence


def ladder(rng, betas, n=2000, d=3):
    """Exact samples of a harmonic system with log Z = -d/2 log β: independent estimates at each temperature."""
    means, logs = [], []
    for beta in betas:
        u = 0.5 * (rng.standard_normal((n, d)) ** 2).sum(axis=1)
        means.append(mean(u, None, rng, resamples=100))
        logs.append(Estimate.normal(-0.5 * d * math.log(beta) + 0.01 * rng.standard_normal(), 0.01, n))
    return logs, means


def test_consistency_of_a_harmonic_ladder():
    rng = np.random.default_rng(6)
    betas = np.geomspace(0.3, 2.0, 6)
    logs, means = ladder(rng, betas)
    found = consistency(betas, logs, means)
    assert found.gap[0] == 0.0
    assert (np.abs(found.gap[1:]) < 4 * np.hypot(found.error, found.quadrature)[1:]).all()
    assert "agree with" in found.sentence
    # mean energies that ignore the temperature's zero-point are found out
    wrong = [Estimate.normal(each.value + 0.2, each.error, each.n) for each in means]
    worse = consistency(betas, logs, wrong)
    assert worse.gap[-1] == pytest.approx(found.gap[-1] + 0.2 * math.log(2.0 / 0.3), abs=1e-6)
    assert worse.worst > 4
    assert "contradict" in worse.sentence


def test_consistency_integrates_a_curved_energy_with_an_honest_error():
    # u = β(k x²/2) + a constant energy: <u> = 1/2 + β e, log Z = -1/2 log β - β e
    betas = np.geomspace(0.5, 2.0, 5)
    logs = [Estimate.normal(-0.5 * math.log(beta) - 3 * beta, 1e-6, 1) for beta in betas]
    means = [Estimate.normal(0.5 + 3 * beta, 1e-6, 1) for beta in betas]
    found = consistency(betas, logs, means)
    assert (np.abs(found.gap) <= found.quadrature + 1e-4).all()
    assert np.abs(found.gap).max() < 1e-3
    assert 1e-3 < found.quadrature.max() < 0.1


def test_consistency_covers():
    rng = np.random.default_rng(7)
    betas = np.geomspace(0.5, 1.5, 3)
    scores = []
    for _ in range(150):
        found = consistency(betas, *ladder(rng, betas, n=300))
        scores.append(found.gap[-1] / found.error[-1])
    assert np.std(scores) == pytest.approx(1.0, abs=4 / math.sqrt(2 * 150))
    assert abs(np.mean(scores)) < 4 / math.sqrt(150)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: entropy([np.nan, 0.0], [0.0, 0.0], rng), InputError, "sample 0 has weight but the value nan"),
        (lambda rng: entropy([0.0], [0.0, 0.0], rng), ShapeError, "one for each sample"),
        (lambda rng: mean([], None, rng), InputError, "no samples"),
        (lambda rng: virial(np.zeros((3, 1, 3)), np.zeros((3, 1, 3)), rng), InputError, "one particle"),
        (lambda rng: virial(np.zeros((3, 2, 3)), np.zeros((3, 2, 2)), rng), ShapeError, "that of the positions"),
        (lambda rng: consistency([2.0, 1.0], *[[Estimate.normal(0.0, 1.0, 1)] * 2] * 2), InputError, "rising"),
        (lambda rng: consistency([1.0], *[[Estimate.normal(0.0, 1.0, 1)] * 2] * 2), ShapeError, "as many"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(np.random.default_rng(0))
