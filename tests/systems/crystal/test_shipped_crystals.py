"""The shipped model of carbon crystals: valid structures at the densities of its training, guides and its label, what it refuses, and scores that do not depend on the description of a crystal."""

import numpy as np
import pytest
from known_crystals import CHANGES, conventional_diamond, invariants

import equilibra
from equilibra.analysis.crystal.carbon import carbon_like, coordination_numbers
from equilibra.errors import InputError

NAME = "crystal-carbon24"


@pytest.fixture(scope="module")
def model():
    return equilibra.load(NAME)


@pytest.fixture(scope="module")
def ensemble(model):
    return model.sample("C8", n=60, seed=3)


def test_samples_are_valid_crystals_of_carbon(ensemble):
    _, passed, total = ensemble.validity_table()[-1]
    assert passed / total > 0.97
    structures = ensemble.structures()
    # of 1,000 structures of all sizes 84 % were carbon-like
    assert carbon_like(structures).mean() > 0.65
    counts = np.concatenate([coordination_numbers(structure) for structure in structures])
    assert np.isin(counts, (3, 4)).mean() > 0.7


def test_densities_are_those_of_the_training(ensemble):
    # the training's cells of eight atoms have 2.88 +- 0.25 g/cm3, those of the model are spread wider
    assert abs(ensemble.densities.mean() - 2.88) < 0.05 + 4 * 0.45 / np.sqrt(len(ensemble))
    assert 0.2 < ensemble.densities.std() < 0.7


def test_a_guide_moves_the_density(model):
    # cells of six atoms have 2.93 +- 0.28 g/cm3; a Gaussian of that width, tilted by the wish, has the mean 3.44 and the deviation 0.09
    ensemble = model.sample("C6", n=60, seed=1, guides=["density=3.5+-0.1"])
    # one population comes down to a family or two, so that its mean has an error of nearly that deviation
    assert abs(ensemble.weights @ ensemble.densities - 3.44) < 0.25
    guess = model.sample("C6", n=40, seed=1, guides=["density=3.5+-0.1"], corrected=False)
    # without weights it stops half way
    assert 3.1 < guess.densities.mean() < 3.44


def test_it_can_be_asked_for_a_gap(model):
    (label,) = model.scope.labels
    assert label.name == "band-gap:tight-binding"
    ensemble = model.sample("C6", n=10, seed=1, labels={label.name: 3.0})
    assert ensemble.provenance["labels"] == {label.name: 3.0}


def test_what_it_has_not_seen_is_refused(model):
    with pytest.raises(InputError, match="SiC: has Si, but the model"):
        model.sample("SiC", n=1)
    with pytest.raises(InputError, match="was trained on C10"):
        model.sample("C64", n=1)


@pytest.mark.parametrize("change", CHANGES)
def test_scores_are_those_of_the_crystal(change):
    model = equilibra.load(NAME)
    model.denoiser.double()
    known = conventional_diamond()
    for t in (0.2, 0.6):
        first, second = invariants(model, known, t), invariants(model, CHANGES[change](known), t)
        assert float((first - second).abs().max() / first.abs().max()) < 1e-4
