"""The models in the package: complete cards, sound weights, and samples that agree with the reference beside them."""

import numpy as np
import pytest

import equilibra
from equilibra.systems.molecule.reference import bond_pairs, model_reference

NAMES = equilibra.shipped()


@pytest.fixture(scope="module")
def model():
    return equilibra.load("molecule-ala2")


@pytest.fixture(scope="module")
def ensemble(model):
    return model.sample("ACE-ALA-NME", n=450, seed=3)


def test_there_is_a_model():
    assert "molecule-ala2" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_everything(name):
    card = equilibra.load(name).card
    for entry in ("summary", "data", "licence", "recipe", "cost", "good_for", "not_good_for"):
        assert getattr(card, entry).strip(), f"{name}: the card has no {entry}"
    assert card.figures


def test_stereochemistry_and_validity_before_any_filter(ensemble):
    table = {name: (passed, total) for name, passed, total in ensemble.validity_table()}
    assert table["stereo"][0] == table["stereo"][1]
    passed, total = table["all"]
    assert passed / total > 0.97


def test_bond_lengths_agree_with_the_reference(model, ensemble):
    reference = model_reference(model.name, ensemble.system)
    pairs = bond_pairs(ensemble.system)
    x = ensemble.positions.astype(np.float64)
    lengths = np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1)
    # 450 samples of a bond of 0.03 Å width: standard error 0.0014 Å; the model's own error is allowed 0.005 Å
    assert np.abs(lengths.mean(0) - reference.bond_mean).max() < 0.005 + 4 * 0.0015
    assert np.abs(np.mean(lengths.std(0, ddof=1) / reference.bond_std) - 1.0) < 0.1


@pytest.mark.parametrize(
    ("basin", "where"),
    [
        ("alpha-R", lambda phi, psi: (phi < 0) & (psi > -2.0) & (psi < 1.0)),
        ("phi > 0", lambda phi, psi: (phi > 0) & (phi < 2.0)),
    ],
)
def test_populations_agree_with_the_reference(model, ensemble, basin, where):
    reference = model_reference(model.name, ensemble.system).torsions
    share, expected = (where(t["phi ALA2"], t["psi ALA2"]).mean() for t in (ensemble.torsions(), reference))
    # the reference's own error, from runs of 20 and 12 ns, is about a fifth of the population for phi > 0 and 0.01 for alpha-R
    error = np.hypot(np.sqrt(expected * (1 - expected) / len(ensemble)), 0.2 * expected if basin == "phi > 0" else 0.01)
    assert abs(share - expected) < 4 * error


def test_bonds_widen_as_the_square_root_of_the_temperature(model):
    widths = []
    for temperature in (300.0, 600.0):
        ensemble = model.sample("ACE-ALA-NME", n=300, seed=5, temperature=temperature)
        table = {name: (passed, total) for name, passed, total in ensemble.validity_table()}
        assert table["all"][0] / table["all"][1] > 0.97
        pairs = bond_pairs(ensemble.system)
        x = ensemble.positions.astype(np.float64)
        widths.append(np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1).std(0, ddof=1))
    # harmonic bonds: each width has a relative error of 4 %, their mean over 21 bonds 1 %; the model's own error is allowed 5 %
    assert abs(np.mean(widths[1] / widths[0]) / np.sqrt(2.0) - 1.0) < 0.05 + 4 * 0.02
