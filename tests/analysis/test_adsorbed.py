"""Adsorbed structures against each other: the same number on both sides, and chains that are no independent samples."""

import dataclasses

import numpy as np
import pytest

from equilibra.analysis.adsorbate import Adsorbed, evaluate_adsorbates
from equilibra.analysis.histogram import jensen_shannon


def structures(sites, seed=0):
    rng = np.random.default_rng(seed)
    sites = np.asarray(sites)
    plane = np.stack([(sites == "fcc") * 0.5 + 0.2 * rng.random(len(sites)), rng.random(len(sites))], axis=-1)[:, None]
    return Adsorbed(sites, plane, np.full(len(sites), 1.0 / len(sites)))


def rows_of(samples, reference, **options):
    table = evaluate_adsorbates(
        samples, reference, structures(["fcc", "hcp"] * 200), bins=(4, 4), name="test", rng=np.random.default_rng(1), **options
    )
    return {row.metric: row for row in table.rows}


@pytest.fixture(scope="module")
def chains():
    """Eight walkers of 100 frames, each of which stays at one site: what they know of populations is eight draws."""
    at = np.array(["fcc", "hcp", "fcc", "fcc", "hcp", "fcc", "hcp", "hcp"])
    families = [np.arange(100) * 8 + k for k in range(8)]
    return dataclasses.replace(structures(np.tile(at, 100)), families=families)


def test_the_floor_of_chains_is_that_of_whole_chains(chains):
    samples = structures(np.random.default_rng(2).choice(["fcc", "hcp"], 400))
    alone = rows_of(samples, dataclasses.replace(chains, families=None), repeats=40)["TV(sites)"]
    whole = rows_of(samples, chains, repeats=40)["TV(sites)"]
    # two fair halves of 400 frames differ by 0.8 x sqrt(2 x 0.25/400) = 0.028, two of four walkers by 0.28
    assert alone.floor < 0.05
    assert whole.floor > 0.15
    assert whole.value == alone.value < 0.1


def test_the_error_of_chains_is_that_of_whole_chains(chains):
    reference = structures(["fcc", "hcp"] * 400)
    independent = rows_of(dataclasses.replace(chains, families=None), reference, repeats=40)["TV(sites)"]
    assert rows_of(chains, reference, repeats=40)["TV(sites)"].error > 3.0 * independent.error


def test_both_sides_have_the_same_number_of_structures():
    samples = structures(["fcc"] * 100 + ["hcp"] * 900)
    row = rows_of(samples, structures(["fcc", "hcp"] * 100))["TV(sites)"]
    assert row.n == 100
    assert row.value == pytest.approx(0.5)  # the first hundred are all at one site


def test_the_divergence_of_numbers_near_zero():
    assert jensen_shannon(np.array([1.0, 5e-324]), np.array([1.0, 0.0])) == pytest.approx(0.0)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
