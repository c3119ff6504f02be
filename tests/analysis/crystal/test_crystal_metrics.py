import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "systems" / "crystal"))
from known_crystals import conventional_diamond, diamond, graphite, other_description, rock_salt, triclinic

from equilibra.analysis.crystal.carbon import carbon_like, coordination_numbers
from equilibra.analysis.crystal.coverage import coverage
from equilibra.analysis.crystal.crystals import composition, mass_densities, volumes_per_atom
from equilibra.analysis.crystal.distributions import density_wasserstein, wasserstein
from equilibra.analysis.crystal.duplicates import duplicate_groups, originality
from equilibra.analysis.crystal.recall import recall
from equilibra.errors import ConfigError, InputError


def test_densities():
    assert mass_densities([diamond(), conventional_diamond(), graphite()]) == pytest.approx([3.516, 3.516, 2.268], abs=2e-3)
    assert volumes_per_atom([diamond()]) == pytest.approx([3.567**3 / 8])
    assert composition(rock_salt()) == ((11, 1), (17, 1))


def test_wasserstein_of_shifted_numbers_is_the_shift():
    x = np.random.default_rng(0).normal(size=500)
    assert wasserstein(x, x + 0.3) == pytest.approx(0.3)
    assert density_wasserstein([diamond()], [diamond(), conventional_diamond()]) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(InputError, match="at least one"):
        wasserstein([], x)
    with pytest.raises(InputError, match="all finite"):
        wasserstein([np.nan], x)


def test_carbon_has_covalent_neighbours():
    assert coordination_numbers(diamond()).tolist() == [4, 4]
    assert coordination_numbers(graphite()).tolist() == [3] * 4
    assert carbon_like([diamond(), graphite(), diamond(2.5), diamond(6.0)]).tolist() == [True, True, False, False]


def test_duplicates_are_found_in_any_description():
    pytest.importorskip("pymatgen")
    crystals = [
        diamond(),
        triclinic(5, 1),
        conventional_diamond(),
        graphite(),
        other_description(triclinic(5, 1), 4),
        rock_salt(),
    ]
    assert duplicate_groups(crystals).tolist() == [0, 1, 0, 3, 1, 5]
    found = originality(crystals, [graphite()])
    assert (found.unique, found.novel, found.unique_and_novel, found.n) == pytest.approx((4 / 6, 5 / 6, 3 / 6, 6))
    assert np.isnan(originality(crystals).novel)


def test_recall_counts_what_is_not_found_as_the_tolerance():
    pytest.importorskip("pymatgen")
    found = recall([conventional_diamond(), rock_salt()], [diamond(3.6), rock_salt(), graphite(2.461, 12.0)])
    assert found.metre == pytest.approx(2 / 3)
    assert found.rms[:2] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found.crmse == pytest.approx(0.5 / 3)
    with pytest.raises(InputError, match="at least one of each"):
        recall([], [diamond()])


def test_coverage_of_known_fingerprints():
    reference = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    samples = np.array([[0.1, 0.0], [1.0, 0.15], [3.0, 0.0], [0.0, 0.05]])
    found = coverage(samples, reference, drawn=5)
    assert (found.recall, found.precision) == pytest.approx((2 / 3, 3 / 5))
    assert found.structure_recall == pytest.approx((0.05 + 0.15 + 2.0) / 3)
    # a composition that is too far uncovers a sample that is near in structure
    kinds = np.zeros((4, 1))
    kinds[1] = 9.0
    found = coverage(samples, reference, kinds, np.zeros((3, 1)))
    assert (found.recall, found.precision) == pytest.approx((2 / 3, 2 / 4))
    with pytest.raises(InputError, match="one side only"):
        coverage(samples, reference, kinds)
    with pytest.raises(InputError, match="not finite"):
        coverage(samples * np.nan, reference)


def test_tolerances_are_positive():
    from equilibra.analysis.crystal.matching import Tolerances

    with pytest.raises(ConfigError, match="site = 0"):
        Tolerances(site=0.0)


def test_an_evaluation_puts_every_number_beside_its_floor_and_memory():
    pytest.importorskip("pymatgen")
    from equilibra.analysis.crystal.evaluate import evaluate_crystals

    rng = np.random.default_rng(0)
    reference = [diamond(a) for a in rng.normal(3.6, 0.02, 6)] + [graphite(2.46, c) for c in rng.normal(6.7, 0.1, 6)]
    samples = [diamond(a) for a in rng.normal(3.6, 0.02, 8)]
    energies = np.zeros(8), np.ones(12)
    table = evaluate_crystals(samples, reference, rng=rng, training=reference, drawn=10, energies=energies, repeats=3)
    assert table["valid"].value == pytest.approx(0.8)
    assert table["W(energy)"].value == pytest.approx(1.0)
    # the half that is graphite is missed: by its difference in density
    assert table["W(density)"].value == pytest.approx(0.5 * (3.42 - 2.27), abs=0.35)
    assert table["W(density)"].floor < 0.5
    assert table["carbon-like"].value == 1.0
    assert table["unique"].value < 1.0
    assert table["novel"].value == 0.0
    assert 0.0 < table["METRe"].value < 1.0
    assert table["METRe"].baseline > 0.0
    assert "StructureMatcher" in table.to_text()
    with pytest.raises(InputError, match="expected at least 2 and 4"):
        evaluate_crystals(samples, reference[:3], rng=rng)
    with pytest.raises(ConfigError, match="match_n"):
        evaluate_crystals(samples, reference, rng=rng, match_n=0)
