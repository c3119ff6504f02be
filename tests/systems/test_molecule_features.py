"""Features of molecules: right values, equal for symmetric atoms, and independent of the order of the atoms."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from equilibra.errors import InputError
from equilibra.systems.chemical_graph import MAX_PATH
from equilibra.systems.molecule import NODE_VOCABULARY, PAIR_VOCABULARY, featurise, molecule_system

MOLECULES = [
    "ACE-ALA-NME",
    "ACE-TRP-PRO-NME",
    "ALA-THR-ILE",
    "c1ccc2[nH]ccc2c1",
    "C/C(Cl)=C(/F)C[C@@H](O)C#N",
    "C[C@@H]1CC[C@H]2[C@@H]1CCC2",
    "C[S@](=O)CC",
    "O[C@H](C(=O)O)[C@@H](O)C(=O)O",
    "C[C@H]([C@H](F)Cl)[C@@H](F)Cl",
    "C[N+](C)(C)CC(=O)[O-]",
]


def permuted(mol, order):
    return Chem.RenumberAtoms(mol, [int(i) for i in order])


@pytest.mark.parametrize("source", MOLECULES)
def test_features_go_along_with_a_permutation_of_the_atoms(source):
    system = molecule_system(source)
    rng = np.random.default_rng(0)
    for _ in range(3):
        order = rng.permutation(system.atoms)
        new_index = np.argsort(order)
        features = featurise(permuted(system.mol, order))
        for name, value in system.features.node.items():
            expected = value[order]
            if name == "chiral_neighbours":
                centre = (system.features.node["chiral_sign"] != 0)[order]
                expected = torch.where(centre[:, None], torch.from_numpy(new_index)[expected], 0)
            assert torch.equal(features.node[name], expected), name
        for name, value in system.features.pair.items():
            assert torch.equal(features.pair[name], value[order][:, order]), name


def handedness(system_mol, features, atoms):
    """Each centre of some atoms with its neighbours and sign, whatever the order of the three."""
    place = {atom: index for index, atom in enumerate(atoms)}
    found = {}
    for atom in atoms:
        sign = float(features.node["chiral_sign"][atom])
        if sign:
            three = [place[i] for i in features.node["chiral_neighbours"][atom].tolist()]
            swaps = sum(three[a] > three[b] for a in range(3) for b in range(a + 1, 3))
            found[place[atom]] = (tuple(sorted(three)), sign * (-1) ** swaps)
    return found


def same_up_to_symmetry(first, second):
    """Tells whether some mapping of the heavy atoms of one molecule on the other takes its handedness along."""
    a, b = (Chem.RemoveHs(mol) for mol in (first, second))
    heavy = [[atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1] for mol in (first, second)]
    features = featurise(first), featurise(second)
    want = handedness(first, features[0], heavy[0])
    maps = b.GetSubstructMatches(a, useChirality=False, uniquify=False)
    return any(handedness(second, features[1], [heavy[1][i] for i in m]) == want for m in maps)


CIS, TRANS = "C[C@H]1CC[C@@H](C)CC1", "C[C@H]1CC[C@H](C)CC1"


@pytest.mark.parametrize("smiles", [CIS, TRANS])
def test_ring_dependent_centres_follow_the_atoms_up_to_a_symmetry(smiles):
    """Cis or trans is what the two centres say together; which of two mirrored atoms comes first is a convention."""
    system = molecule_system(smiles)
    rng = np.random.default_rng(1)
    assert len(system.stereo_signs) == 2
    for _ in range(5):
        assert same_up_to_symmetry(system.mol, permuted(system.mol, rng.permutation(system.atoms)))


def test_cis_and_trans_rings_have_different_features():
    cis, trans = molecule_system(CIS), molecule_system(TRANS)
    assert not same_up_to_symmetry(cis.mol, trans.mol)


@pytest.mark.parametrize("source", MOLECULES)
def test_every_value_fits_its_vocabulary(source):
    features = molecule_system(source).features
    assert {*NODE_VOCABULARY, "chiral_neighbours", "chiral_sign"} == set(features.node)
    assert set(PAIR_VOCABULARY) == set(features.pair)
    assert not features.graph
    for scope, vocabulary in ((features.node, NODE_VOCABULARY), (features.pair, PAIR_VOCABULARY)):
        for name, size in vocabulary.items():
            assert scope[name].dtype == torch.int64
            assert 0 <= int(scope[name].min()) <= int(scope[name].max()) < size
    assert features.node["chiral_sign"].dtype == torch.float32
    for value in features.pair.values():
        assert torch.equal(value, value.T)
        assert not value.diagonal().any()


def test_atoms_of_indole_have_the_values_of_their_chemistry():
    system = molecule_system("c1ccc2[nH]ccc2c1")
    node, pair = system.features.node, system.features.pair
    nitrogen = 4
    got = {name: int(node[name][nitrogen]) for name in NODE_VOCABULARY}
    assert got == {
        "element": 7, "degree": 3, "formal_charge": 8, "aromatic": 1, "ring": 5, "hybridisation": 3, "hydrogens": 1, "chirality": 0,
    }  # fmt: skip
    assert int(node["ring"][0]) == 6
    assert int(pair["bond"][3, 4]) == 4
    assert int(pair["same_ring"][4, 6]) == 1
    assert int(pair["same_ring"][4, 0]) == 0
    assert int(pair["path"][4, 0]) == 4


def test_charges_and_bonds_of_betaine():
    system = molecule_system("C[N+](C)(C)CC(=O)[O-]")
    node, pair = system.features.node, system.features.pair
    assert node["formal_charge"][[1, 6, 7]].tolist() == [9, 8, 7]
    assert [int(pair["bond"][5, other]) for other in (4, 6, 7)] == [1, 2, 1]
    assert int(node["hydrogens"][0]) == 3


def test_symmetric_atoms_cannot_be_told_apart():
    system = molecule_system("ACE-ALA-NME")
    ranks = Chem.CanonicalRankAtoms(system.mol, breakTies=False)
    node, pair = system.features.node, system.features.pair
    classes = [[i for i, rank in enumerate(ranks) if rank == wanted] for wanted in set(ranks)]
    methyls = [members for members in classes if len(members) == 3]
    assert len(methyls) == 3
    for members in methyls:
        for name in NODE_VOCABULARY:
            assert len({int(node[name][i]) for i in members}) == 1
        for name in PAIR_VOCABULARY:
            rows = {tuple(sorted(pair[name][i].tolist())) for i in members}
            assert len(rows) == 1


def test_paths_are_capped_and_distances_of_the_graph():
    system = molecule_system("CCCCCCCCCCCCCC")
    path = system.features.pair["path"]
    assert int(path[0, 10]) == MAX_PATH
    assert int(path[0, 11]) == int(path[0, 13]) == MAX_PATH + 1
    exact = torch.from_numpy(Chem.GetDistanceMatrix(system.mol))
    assert torch.equal(path, exact.clamp(max=MAX_PATH + 1).long())


@pytest.mark.parametrize(("smiles", "relation"), [("F/C=C/Cl", 2), ("F/C=C\\Cl", 1)])
def test_double_bonds_label_the_pairs_across(smiles, relation):
    system = molecule_system(smiles)
    stereo = system.features.pair["stereo"]
    hydrogens = [i for i, atom in enumerate(system.mol.GetAtoms()) if atom.GetAtomicNum() == 1]
    assert int(stereo[0, 3]) == relation
    assert int(stereo[hydrogens[0], hydrogens[1]]) == relation
    assert int(stereo[0, hydrogens[1]]) == int(stereo[3, hydrogens[0]]) == 3 - relation
    assert int((stereo > 0).sum()) == 8


def test_rings_and_symmetric_double_bonds_have_no_label():
    for smiles in ("C1CCC=CC1", "C=CC", "CC(=O)NC"):
        assert not molecule_system(smiles).features.pair["stereo"].any()


def test_isomers_differ_in_chirality_alone():
    left, right = (molecule_system(s).features for s in ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"))
    different = {name for name in left.node if not torch.equal(left.node[name], right.node[name])}
    assert different == {"chirality", "chiral_sign"}
    assert torch.equal(left.node["chiral_sign"], -right.node["chiral_sign"])


def test_elements_beyond_the_vocabulary_are_refused():
    mol = Chem.MolFromSmiles("[Md]", sanitize=False)
    Chem.SanitizeMol(mol)
    mol.AddConformer(Chem.Conformer(1))
    with pytest.raises(InputError, match=r"got element Md \(101\), expected 1 to 100"):
        featurise(mol)


def test_featurising_again_and_again_neither_slows_down_nor_changes_the_molecule():
    system = molecule_system(CIS)
    before = system.mol.ToBinary(int(Chem.PropertyPickleOptions.AllProps))
    for _ in range(30):
        featurise(system.mol)
    assert system.mol.ToBinary(int(Chem.PropertyPickleOptions.AllProps)) == before
