"""Checks of a protein's frames: each defect is found, named and located, and gaps and chains are respected."""

import numpy as np
import pytest
from extended_protein import SEQUENCE, atoms, extended, system
from scipy.spatial.distance import cdist

from equilibra.errors import ShapeError
from equilibra.systems.protein import validity
from equilibra.systems.protein.frames import atom5_of, frames_of, written_atoms
from equilibra.systems.protein.validity import CHECKS, check, cis_share


def failed(result, frame=0):
    return [name for column, name in enumerate(CHECKS) if not result.passed[frame, column]]


def test_an_extended_chain_passes_and_its_frames_come_back():
    protein = system(f"{SEQUENCE}:GAG")
    x = atoms(protein, 3, trans=0.02, rot=0.01)
    result = check(x, protein)
    assert result.table() == [(name, 3, 3) for name in (*CHECKS, "all")]
    trans, rot = frames_of(x, protein)
    expected, turns = extended(protein, 3, trans=0.02, rot=0.01)
    np.testing.assert_allclose(trans, expected - expected.mean(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(rot, turns, atol=1e-5)
    assert atom5_of(x, protein).shape == (3, 15, 5, 3)
    np.testing.assert_allclose(
        written_atoms(trans, rot, protein), x - (x[:, protein.atom_index[:, 1]]).mean(1)[:, None], atol=1e-4
    )


def test_every_defect_is_found_and_named():
    protein = system()
    x = np.repeat(atoms(protein), 6, axis=0)
    index = protein.atom_index
    x[0, index[3, 2]] = np.nan
    x[1, index[6, 0] :] += [0.0, 0.0, 9.0]
    x[2, index[4, 4]] = 2 * x[2, index[4, 1]] - x[2, index[4, 4]]
    x[3, index[9, 3]] = x[3, index[1, 3]] + [0.3, 0.0, 0.0]
    x[4, index[9, :4]] += x[4, index[2, 1]] - x[4, index[9, 1]] + [1.0, 0.0, 0.0]
    result = check(x, protein)
    assert failed(result, 0)[0] == "finite"
    assert result.reasons(0) == ["finite: the coordinates of C of A:PRO4 are not finite numbers"]
    assert set(failed(result, 1)) >= {"chain", "peptide bonds"}
    assert result.reasons(1)[0].startswith("chain: distance of the C-alpha atoms of A:THR6 - A:GLY7 is ")
    assert result.reasons(1)[0].endswith(" Å, expected 2.5 to 4.5 Å")
    assert result.reasons(2) == ["chirality: A:GLU5 is a D residue, expected L"]
    assert result.reasons(3) == ["clash: two atoms of A:TYR2 - A:GLY10 are 0.30 Å apart, expected at least 1.0 Å"]
    assert (
        "C-alpha distances: distance of the C-alpha atoms of A:ASP3 - A:GLY10 is 1.00 Å, expected at least 3.0 Å"
        in result.reasons(4)
    )
    assert result.valid.tolist() == [False] * 5 + [True]


def test_peptide_geometry_is_judged_by_angles_and_planes():
    protein = system()
    trans, rot = extended(protein, 2)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    rot[1, 5] = rot[1, 5] @ turn  # about N - CA: the angle and the bond stay, the torsion turns by a quarter
    result = check(written_atoms(trans, rot, protein), protein)
    assert failed(result, 0) == []
    assert "peptide planes" in failed(result, 1) or "peptide angles" in failed(result, 1)
    assert cis_share(np.array([0.1, 3.1, -3.1, -0.2])) == pytest.approx(0.5)
    assert np.isnan(cis_share(np.zeros(0)))


def test_gaps_and_chains_have_no_bonds_between_them():
    from equilibra.systems.protein.system import ProteinSystem

    whole = system("AAAAAAAA")
    gap = ProteinSystem.of_chains(["AAAAAAAA"], name="gap", numbers=[np.array([1, 2, 3, 4, 9, 10, 11, 12])])
    chains = system("AAAA:AAAA")
    x = atoms(whole)
    x[:, whole.atom_index[4, 0] :] += [0.0, 0.0, 12.0]
    assert failed(check(x, whole)) != []
    for protein in (gap, chains):
        assert failed(check(x, protein)) == []
    # neighbours in two chains are not neighbours
    close = atoms(whole)
    assert failed(check(close, chains)) == []
    close[:, whole.atom_index[4, 0] :] += 0.45 * (close[:, whole.atom_index[3, 1]] - close[:, whole.atom_index[4, 1]])[:, None]
    assert "C-alpha distances" in failed(check(close, chains))


def test_clashes_are_those_of_all_pairs_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(3)
    protein = system("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 40)))
    q = np.linalg.qr(rng.normal(size=(12, 40, 3, 3)))[0]
    q[..., 0] *= np.linalg.det(q)[..., None]
    x = written_atoms(rng.normal(size=(12, 40, 3)) * 9.0, q, protein)
    result = check(x, protein)
    residue = protein.atom_slots // 5
    apart = residue[None, :] - residue[:, None] > 2
    ca = protein.atom_index[:, 1]
    for frame in range(12):
        every = cdist(x[frame].astype(float), x[frame].astype(float))
        alphas = every[np.ix_(ca, ca)][np.triu_indices(40, k=3)]
        assert result.passed[frame, CHECKS.index("clash")] == (every[apart].min() >= 1.0)
        if every[apart].min() < 4.0:
            assert result.values[frame, CHECKS.index("clash")] == pytest.approx(every[apart].min(), abs=1e-5)
        assert result.values[frame, CHECKS.index("C-alpha distances")] == pytest.approx(alphas.min(), abs=1e-5)
    assert 0 < result.passed[:, CHECKS.index("clash")].sum() < 12
    monkeypatch.setattr(validity, "_PAIRS_AT_ONCE", 1000)
    monkeypatch.setattr(validity, "_CONTACTS_AT_ONCE", 7)
    again = check(x, protein)
    np.testing.assert_array_equal(again.passed, result.passed)
    assert [again.reasons(i) for i in range(12)] == [result.reasons(i) for i in range(12)]


def test_frames_of_another_protein_are_refused():
    with pytest.raises(ShapeError, match="positions"):
        check(np.zeros((1, 7, 3)), system())
