"""The shipped model of proteins: the peptides that it knows come out folded, with spread, and valid; other chains are connected; features of another width are refused."""

import numpy as np
import pytest

import equilibra
from equilibra.errors import EquilibraError
from equilibra.systems.protein.providers import ArrayProvider
from equilibra.systems.protein.sources import protein_system

NAME = "protein-mini"
TRP_CAGE, CHIGNOLIN, HEPTAPEPTIDE = "NLYIQWLKDGGPSSGRPPPS", "GYDPETGTWG", "AEAAAKA"


@pytest.fixture(scope="module")
def model():
    return equilibra.load(NAME)


@pytest.fixture(scope="module")
def trp_cage(model):
    return model.sample(TRP_CAGE, n=40, seed=1)


def sizes(ensemble):
    """Radii of gyration of the C-alpha atoms, in Å."""
    return np.sqrt(((ensemble.ca - ensemble.ca.mean(1, keepdims=True)) ** 2).sum(-1).mean(-1))


def test_trp_cage_is_folded(trp_cage):
    torsions = trp_cage.torsions()
    for name in ("phi", "psi"):
        # the helix of residues 3 to 8
        angles = np.degrees(np.stack([value for key, value in torsions.items() if key.startswith(f"{name} ")], axis=1))
        helix = angles[:, 1:7] if name == "phi" else angles[:, 2:8]
        assert np.median(helix) == pytest.approx(-63.0 if name == "phi" else -42.0, abs=10.0)
    # the simulation has 7.0 +- 0.2 Å
    assert abs(np.median(sizes(trp_cage)) - 7.0) < 0.3
    # an ensemble, not one structure
    distances = np.linalg.norm(trp_cage.ca[:, :, None] - trp_cage.ca[:, None], axis=-1)
    assert 0.2 < distances.std(0).mean() < 2.0


def test_nearly_all_samples_of_what_it_knows_pass_the_checks(model, trp_cage):
    # of 1,000 samples 99.6 %, 99.3 % and 96.5 %
    for ensemble in (trp_cage, model.sample(HEPTAPEPTIDE, n=60, seed=1), model.sample(CHIGNOLIN, n=60, seed=1)):
        _, passed, total = ensemble.validity_table()[-1]
        assert passed / total > 0.88


def test_other_chains_are_chains(model):
    ensemble = model.sample("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", n=4, seed=0)
    steps = np.linalg.norm(np.diff(ensemble.ca, axis=1), axis=-1)
    assert np.abs(steps - 3.8).max() < 0.8


def test_features_of_another_width_are_refused(model):
    strange = protein_system(CHIGNOLIN, ArrayProvider(single=np.zeros((10, 5), dtype=np.float32)))
    with pytest.raises(EquilibraError, match="5"):
        model.sample(strange, n=1)
