import mdtraj
import numpy as np
import pytest
from scipy.stats import binomtest

from equilibra.analysis.ramachandran import (
    STATES,
    free_energy_surface,
    population,
    ramachandran_jsd,
    ramachandran_pairs,
    ramachandran_tv,
)
from equilibra.errors import ConfigError, InputError
from equilibra.thermo.statistics import clopper_pearson
from equilibra.units import thermal_energy


def test_pairs_of_a_peptide(perturbed):
    trajectory = perturbed(20, 0)
    (pair,) = ramachandran_pairs(trajectory)
    assert pair.names == ("phi ALA2", "psi ALA2") or pair.names == ("phi ALA1", "psi ALA1")
    np.testing.assert_allclose(pair.angles[:, 0], mdtraj.compute_phi(trajectory, periodic=False)[1][:, 0], atol=1e-5)
    np.testing.assert_allclose(pair.angles[:, 1], mdtraj.compute_psi(trajectory, periodic=False)[1][:, 0], atol=1e-5)
    assert [trajectory.topology.atom(i).name for i in pair.phi_atoms] == ["C", "N", "CA", "C"]
    assert [trajectory.topology.atom(i).name for i in pair.psi_atoms] == ["N", "CA", "C", "N"]


def test_divergence_does_not_see_full_turns():
    rng = np.random.default_rng(0)
    x = rng.uniform(-np.pi, np.pi, (500, 2))
    assert ramachandran_jsd(x, x + 2 * np.pi * np.asarray([1, -3])) == pytest.approx(0.0, abs=1e-12)
    assert ramachandran_tv(x, x) == 0.0
    assert ramachandran_jsd([[0.0, 0.0]], [[1.0, 1.0]]) == pytest.approx(1.0)
    # the largest float32 below the circle's end, which exceeds π in double precision
    assert ramachandran_jsd(np.full((1, 2), np.float32(np.pi)), np.full((1, 2), -np.pi)) == 0.0


def test_free_energy_of_a_two_level_surface():
    rng = np.random.default_rng(1)
    n = 40000
    deep = rng.random(n) < 0.8
    phi = np.where(deep, rng.uniform(-np.pi, 0, n), rng.uniform(0, np.pi, n))
    surface = free_energy_surface(phi, rng.uniform(-np.pi, np.pi, n), bins=2, temperature=300.0)
    difference = surface.kt[1].mean() - surface.kt[0].mean()
    assert difference == pytest.approx(np.log(4), abs=4 * np.sqrt(1 / (0.8 * 0.2 * n)))
    assert surface.kt.min() == 0.0
    np.testing.assert_allclose(surface.ev, surface.kt * thermal_energy(300.0))
    assert surface.edges[0] == -np.pi


def test_free_energy_is_infinite_where_empty_and_takes_weights():
    surface = free_energy_surface([-1.0, 1.0], [-1.0, 1.0], bins=2, weights=[1.0, np.e])
    np.testing.assert_allclose(np.diag(surface.kt), [1.0, 0.0])
    assert np.isinf(surface.kt[0, 1])
    assert surface.masked.count() == 2


def test_states_are_a_partition():
    angles = np.random.default_rng(2).uniform(-np.pi, np.pi, (1000, 2))
    inside = np.stack([state(angles[:, 0], angles[:, 1]) for state in STATES.values()])
    assert (inside.sum(axis=0) == 1).all()
    assert STATES["phi>0"](np.asarray([1.0, 2.5, -0.1]), np.zeros(3)).tolist() == [True, False, False]


def test_population_and_interval_against_scipy():
    phi_psi = np.zeros((50, 2))
    phi_psi[:7, 0] = 1.0
    phi_psi[7:, 0] = -1.0
    found = population(phi_psi, "phi>0")
    exact = binomtest(7, 50).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.value == 0.14
    assert found.error == pytest.approx(np.sqrt(0.14 * 0.86 / 50))
    assert found.free_energy_kt == pytest.approx(-np.log(0.14 / 0.86))
    assert found.free_energy_error_kt == pytest.approx(found.error / (0.14 * 0.86))
    custom = population(phi_psi, lambda phi, psi: phi < 0)
    assert custom.value == pytest.approx(0.86)


def test_error_of_a_correlated_population_is_honest():
    rng = np.random.default_rng(3)
    flip, frames = 0.05, 4000
    values, errors, naive = [], [], []
    for _ in range(60):
        state = np.cumsum(rng.random(frames) < flip) % 2
        angles = np.stack([np.where(state == 0, -1.0, 1.0), np.zeros(frames)], axis=1)
        values.append(population(angles, "phi>0").value)
        errors.append(population(angles, "phi>0", correlated=True).error)
        naive.append(population(angles, "phi>0").error)
    # the spread of 60 values is known to 9 %
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.35)
    assert np.mean(naive) < 0.5 * np.std(values, ddof=1)


def test_a_basin_never_seen_counts_runs():
    runs = [np.full((1000, 2), -1.0) for _ in range(3)]
    found = population(runs, "phi>0", correlated=True)
    assert found.n_effective == 3
    assert found.value == 0.0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 3))
    assert found.free_energy_kt == np.inf
    assert found.free_energy_error_kt == np.inf


def test_bad_input():
    with pytest.raises(ConfigError, match="did you mean 'phi>0'"):
        population(np.zeros((3, 2)), "phi>")
    with pytest.raises(InputError, match="no samples"):
        population(np.zeros((0, 2)), "phi>0")
    with pytest.raises(InputError, match="got 2 and 3"):
        free_energy_surface([0, 0], [0, 0, 0])
    with pytest.raises(ConfigError, match="temperature"):
        free_energy_surface([0], [0], temperature=0.0)
    with pytest.raises(InputError, match="5 of 3"):
        clopper_pearson(5, 3)
