"""RMSDs of poses over symmetries against RDKit's, best-of-k against enumeration, and populations of modes."""

import itertools

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolAlign

from equilibra.analysis.poses import best_of, centred_rmsd, mode_populations, success_of, total_variation
from equilibra.errors import InputError
from equilibra.geometry.symmetric_rmsd import leader_clusters, symmetric_rmsd
from equilibra.systems.ligand.symmetry import automorphisms, corresponding


@pytest.fixture(scope="module")
def pair():
    """Two poses of a molecule with two symmetric rings, not superposed."""
    mol = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1CC(=O)Nc1ccc(C)cc1"))
    AllChem.EmbedMultipleConfs(mol, 2, randomSeed=1)
    heavy = Chem.RemoveHs(mol)
    return heavy, np.stack([conformer.GetPositions() for conformer in heavy.GetConformers()])


def test_symmetric_rmsd_is_that_of_rdkit(pair):
    mol, x = pair
    ours = symmetric_rmsd(x[:1], x[1], automorphisms(mol))[0]
    theirs = rdMolAlign.CalcRMS(Chem.Mol(mol, confId=0), Chem.Mol(mol, confId=1))
    assert ours == pytest.approx(theirs, abs=1e-6)
    plain = np.sqrt(((x[0] - x[1]) ** 2).sum(1).mean())
    assert ours <= plain + 1e-12


def test_a_ring_that_is_turned_over_is_in_the_same_place(pair):
    mol, x = pair
    permutations = automorphisms(mol)
    assert len(permutations) == 4
    for permutation in permutations:
        assert symmetric_rmsd(x[:1, permutation], x[0], permutations)[0] < 1e-9
    shifted = x[:1] + 1.0
    assert symmetric_rmsd(shifted, x[0], permutations)[0] == pytest.approx(3**0.5)
    assert centred_rmsd(shifted, x[0], permutations)[0] < 1e-9


def test_the_same_molecule_in_another_order(pair):
    mol, x = pair
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms())
    other = Chem.RenumberAtoms(mol, order.tolist())
    match = corresponding(mol, other, "other")
    back = other.GetConformer(int(other.GetConformers()[0].GetId())).GetPositions()[match]
    assert symmetric_rmsd(back[None], x[0], automorphisms(mol))[0] < 1e-9
    with pytest.raises(InputError, match="expected the same molecule"):
        corresponding(mol, Chem.MolFromSmiles("CCO"), "other")


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_best_of_k_is_the_mean_over_all_choices(k):
    r = np.array([3.1, 0.7, 2.2, 5.0, 1.9, 2.2])
    choices = list(itertools.combinations(r, k))
    assert best_of(r, k) == pytest.approx(np.mean([min(c) for c in choices]))
    assert success_of(r, k) == pytest.approx(np.mean([min(c) <= 2.0 for c in choices]))


def test_clusters_and_populations():
    identity = np.arange(2)[None]
    centres = np.array([0.0, 5.0, 5.5, 0.3, 20.0])
    x = np.zeros((5, 2, 3))
    x[:, :, 0] = centres[:, None]
    found = leader_clusters(x, np.array([1, 0, 2, 3, 4]), identity, 1.0)
    assert found.tolist() == [1, 0, 0, 1, 2]
    weights = np.array([0.1, 0.2, 0.3, 0.3, 0.1])
    populations = mode_populations(x, weights, x[[1, 0]], identity, 1.0)
    assert np.allclose(populations, [0.5, 0.4, 0.1])
    assert total_variation(populations, [0.5, 0.4, 0.1]) == pytest.approx(0.0)
    assert total_variation([1.0, 0.0], [0.0, 1.0]) == 1.0
