"""Populations and differences of states: exact numbers, honest errors, and refusals."""

import math

import numpy as np
import pytest

from equilibra.analysis.collective_variables import CollectiveVariable
from equilibra.analysis.state_free_energies import moving, sample_set, spans, state_free_energies
from equilibra.errors import InputError
from equilibra.thermo.statistics import clopper_pearson


def masks(a, b, rest=0):
    """Masks of a samples in A, b in B and the rest in none."""
    place = np.repeat([0, 1, 2], [a, b, rest])
    return {"A": place == 0, "B": place == 1}


def test_independent_samples_have_binomial_intervals():
    samples = sample_set(1000, log_weights=np.full(1000, 3.7))
    assert (samples.kind, samples.effective, samples.diagnosis) == ("independent", 1000.0, None)
    states, (difference,) = state_free_energies(masks(700, 200, 100), samples, np.random.default_rng(0), kt_kj_per_mol=2.5)
    assert [(s.population.value, s.count) for s in states] == [(0.7, 700), (0.2, 200)]
    assert (states[0].population.low, states[0].population.high) == pytest.approx(clopper_pearson(700, 1000))
    assert difference.kt.value == pytest.approx(math.log(3.5))
    assert difference.kj_per_mol.value == pytest.approx(2.5 * math.log(3.5))
    assert (difference.start, difference.end) == ("A", "B")


def test_weights_are_honoured():
    log_weights = np.repeat([0.0, math.log(3.0)], [600, 400]) + 5.0
    samples = sample_set(1000, log_weights=log_weights)
    assert samples.kind == "weighted"
    assert samples.effective == pytest.approx(1800.0**2 / (600 + 9 * 400))
    states, (difference,) = state_free_energies(masks(600, 400), samples, np.random.default_rng(0))
    assert states[1].population.value == pytest.approx(1200 / 1800)
    assert difference.kt.value == pytest.approx(-math.log(2.0))
    # the ratio's error over resamples of 1000: that of the counts, as weights are constant in each state
    assert difference.kt.error == pytest.approx(math.sqrt(1 / 600 + 1 / 400), rel=0.1)
    assert difference.kj_per_mol is None


def test_untrusted_weights_are_refused_unless_allowed():
    log_weights = np.random.default_rng(0).normal(size=500) * 6
    with pytest.raises(InputError, match="not to be trusted"):
        sample_set(500, log_weights=log_weights)
    allowed = sample_set(500, log_weights=log_weights, allow_untrusted=True)
    assert not allowed.diagnosis.trusted


def two_state_series(n, stay, seed):
    """A chain that stays in its state, one of two equal ones, with the given probability."""
    flips = np.random.default_rng(seed).random(n) > stay
    return np.cumsum(flips) % 2 == 0


def test_errors_of_a_time_series_know_its_memory():
    n, stay = 20_000, 0.98
    correlation = 2 * stay - 1
    inefficiency = (1 + correlation) / (1 - correlation)
    values, errors, blocks = [], [], []
    for seed in range(12):
        inside = two_state_series(n, stay, seed)
        samples = sample_set(n, lengths=[n // 2, n // 2], series={"x": inside * 1.0})
        assert samples.kind == "time series"
        blocks.append(samples.block)
        assert "estimated from the statistical inefficiency of x" in samples.sentence
        states, _ = state_free_energies({"A": inside, "B": ~inside}, samples, np.random.default_rng(0), resamples=300)
        values.append(states[0].population.value)
        errors.append(states[0].population.error)
    assert np.mean(blocks) == pytest.approx(5 * inefficiency, rel=0.4)
    expected = math.sqrt(0.25 * inefficiency / n)
    assert np.mean(errors) == pytest.approx(expected, rel=0.15)
    # 12 values: their spread is known within 21 %
    assert np.std(values, ddof=1) == pytest.approx(expected, rel=0.8)
    assert abs(np.mean(values) - 0.5) < 4 * expected / math.sqrt(12)


def test_a_series_that_hardly_moves_is_warned_of():
    n = 400
    slow = np.arange(n) > 250
    samples = sample_set(n, lengths=[n], series={"x": slow * 1.0})
    assert "cannot be relied on" in samples.warning
    shuffled = np.random.default_rng(1).permutation(slow)
    fast = sample_set(n, lengths=[n], series={"x": shuffled * 1.0, "still": np.ones(n)})
    assert (fast.kind, fast.block, fast.warning) == ("independent", 1, "")
    given = sample_set(n, lengths=[n], series={"x": slow * 1.0}, block=20)
    assert "20 contiguous blocks of 20 frames (as given)" in given.sentence


@pytest.mark.parametrize("block", [0, 6])
def test_blocks_out_of_range_are_refused(block):
    with pytest.raises(InputError, match="expected 1 to 5"):
        sample_set(10, lengths=[10], series={}, block=block)


def test_overlapping_and_empty_states_are_words():
    samples = sample_set(100)
    a = np.arange(100) < 60
    with pytest.raises(InputError, match="'A' and 'B' overlap: 10 of 100 conformations"):
        state_free_energies({"A": a, "B": np.arange(100) >= 50}, samples, np.random.default_rng(0))
    none = np.zeros(100, dtype=bool)
    with pytest.raises(InputError, match="none of 100 conformations is in 'B' or 'C'"):
        state_free_energies({"B": none, "C": none}, samples, np.random.default_rng(0))
    states, differences = state_free_energies({"A": a, "phi>0": none}, samples, np.random.default_rng(0), kt_kj_per_mol=2.5)
    assert states[1].population.value == 0.0
    assert "no sample is in 'phi>0'" in states[1].population.note
    assert math.isinf(differences[0].kt.value)
    assert "is in 'phi>0'" in differences[0].kt.note
    # 95 % of not seeing a share p among 60 samples
    share = 1 - 0.05 ** (1 / 60)
    assert differences[0].kt.low == pytest.approx(math.log((1 - share) / share))
    assert differences[0].kj_per_mol.low == pytest.approx(2.5 * differences[0].kt.low)


def test_two_empty_states_beside_a_full_one_say_nothing():
    full, none = np.ones(10, dtype=bool), np.zeros(10, dtype=bool)
    _, differences = state_free_energies({"B": none, "C": none, "A": full}, sample_set(10), np.random.default_rng(0))
    assert math.isnan(differences[0].kt.value)
    assert "nothing can be said" in differences[0].kt.note
    assert differences[1].kt.value == -math.inf


def test_spans_and_moving():
    grid = np.linspace(0.0, 1.0, 11)
    assert spans((grid < 0.25) | (grid > 0.75), grid) == ((0.0, pytest.approx(0.2)), (pytest.approx(0.8), 1.0))
    assert spans(grid > 2, grid) == ()
    angle = CollectiveVariable("phi", np.array([0.0, np.pi / 2]), "rad", 2 * np.pi)
    np.testing.assert_allclose(moving(angle), [[1.0, 0.0], [0.0, 1.0]], atol=1e-15)


def test_a_weighted_state_that_rests_on_a_few_samples_is_refused():
    rng = np.random.default_rng(0)
    log_weights = rng.normal(scale=0.3, size=500)
    rare = np.zeros(500, dtype=bool)
    rare[:3] = True
    samples = sample_set(500, log_weights=log_weights)
    with pytest.raises(
        InputError, match=r"state 'rare': refused, because its weight rests on [23]\.\d effective samples \(3 conf"
    ):
        state_free_energies({"common": ~rare, "rare": rare}, samples, rng)
    (common, found), _ = state_free_energies({"common": ~rare, "rare": rare}, samples, rng, allow_untrusted=True)
    assert found.count == 3
    assert 2.0 < found.effective <= 3.0
    assert 400 < common.effective < 497
