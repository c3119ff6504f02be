"""Checks of frames: good ones pass, and each way to be wrong is caught and named."""

import time

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms

from equilibra.errors import ShapeError
from equilibra.systems.conformation_checks import CHECKS
from equilibra.systems.molecule import check, molecule_system


def conformers(system, count):
    """Conformations made and relaxed by RDKit."""
    mol = Chem.Mol(system.mol)
    ids = list(rdDistGeom.EmbedMultipleConfs(mol, count, randomSeed=7))
    rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=200)
    return np.array([mol.GetConformer(i).GetPositions() for i in ids])


def failed(validity, frame):
    return [name for column, name in enumerate(CHECKS) if not validity.passed[frame, column]]


@pytest.mark.parametrize(
    "source",
    [
        "ACE-ALA-NME",
        "ACE-PRO-TRP-NME",
        "ALA-GLU-LYS",
        "F/C=C\\CCO",
        "C[C@H]1CC[C@@H](C)CC1",
        "C[S@](=O)CC",
        "CS(=O)(=O)Nc1ccccc1",
        "O[C@H](C(=O)O)[C@@H](O)C(=O)O",
    ],
)
def test_relaxed_conformers_and_the_reference_pass(source):
    system = molecule_system(source)
    validity = check(np.concatenate([conformers(system, 8), system.reference[None]]), system)
    assert validity.valid.all(), [validity.reasons(i) for i in np.flatnonzero(~validity.valid)]
    assert validity.reasons(0) == []
    assert validity.table() == [(name, 9, 9) for name in (*CHECKS, "all")]


@pytest.mark.parametrize("source", ["ACE-ALA-NME", "C[C@H](O)[C@@H](F)CC", "C[S@](=O)CC"])
def test_mirror_images_fail_the_stereo_check_alone(source):
    system = molecule_system(source)
    validity = check(-conformers(system, 3), system)
    assert not validity.valid.any()
    assert all(failed(validity, i) == ["stereo"] for i in range(3))
    assert "has the mirror image of its configuration" in validity.reasons(0)[0]


def test_one_inverted_centre_of_two_is_named():
    system = molecule_system("C[C@H](O)[C@@H](F)CC")
    other = molecule_system("C[C@@H](O)[C@@H](F)CC")
    validity = check(conformers(other, 4), system)
    assert all(failed(validity, i) == ["stereo"] for i in range(len(validity)))
    assert validity.reasons(0) == ["stereo: C2 of LIG1 has the mirror image of its configuration"]


def test_the_wrong_isomer_of_a_double_bond_is_named():
    cis, trans = molecule_system("F/C=C\\CCO"), molecule_system("F/C=C/CCO")
    validity = check(conformers(trans, 3), cis)
    assert all(failed(validity, i) == ["double bonds"] for i in range(3))
    assert validity.reasons(0) == ["double bonds: the double bond C1 of LIG1 - C2 of LIG1 is trans instead of cis"]
    assert check(conformers(cis, 2), trans).reasons(1)[0].endswith("is cis instead of trans")


def test_a_stretched_bond_is_named_with_its_length():
    system = molecule_system("CCO")
    frames = np.repeat(system.reference[None], 2, axis=0)
    direction = frames[1, 2] - frames[1, 1]
    hydroxyl = [2, system.atoms - 1]
    frames[1, hydroxyl] += 0.4 * direction
    validity = check(frames, system)
    assert validity.valid.tolist() == [True, False]
    assert validity.reasons(1)[0].startswith("bonds: bond C2 of LIG1 - O1 of LIG1 is 1.99 Å")
    assert "expected 1.0" in validity.reasons(1)[0]


def test_a_bent_angle_is_named():
    system = molecule_system("CCO")
    mol = Chem.Mol(system.mol)
    rdMolTransforms.SetAngleDeg(mol.GetConformer(), 0, 1, 2, 70.0)
    validity = check(mol.GetConformer().GetPositions()[None], system)
    assert "angles" in failed(validity, 0)
    assert "bonds" not in failed(validity, 0)


def test_a_clash_is_found_where_atoms_are_far_apart_in_the_graph():
    system = molecule_system("CCCCCC")
    mol = Chem.Mol(system.mol)
    for chain in ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), *chain, 0.0)
    validity = check(mol.GetConformer().GetPositions()[None], system)
    assert failed(validity, 0) == ["clash"]
    assert "expected at least" in validity.reasons(0)[0]


def test_numbers_that_are_not_finite_fail_without_warnings():
    system = molecule_system("ACE-ALA-NME")
    frames = np.repeat(system.reference[None], 4, axis=0)
    frames[0, 5] = np.nan
    frames[1, 3, 0] = np.inf
    frames[2] = 0.0
    validity = check(frames, system)
    assert validity.valid.tolist() == [False, False, False, True]
    assert validity.reasons(0) == ["finite: the coordinates of H3 of ACE1 are not finite numbers"]
    assert "finite" not in failed(validity, 2)
    assert {"bonds", "angles", "clash", "stereo"} <= set(failed(validity, 2))
    assert validity.table()[0] == ("finite", 2, 4)


def test_no_frames_and_wrong_shapes():
    system = molecule_system("CCO")
    validity = check(np.zeros((0, 9, 3)), system)
    assert len(validity) == 0
    assert validity.table()[-1] == ("all", 0, 0)
    with pytest.raises(ShapeError, match=r"positions: got shape \(2, 8, 3\), expected \(frames, 9, 3\)"):
        check(np.zeros((2, 8, 3)), system)


def test_ten_thousand_frames_take_about_a_second_and_are_not_written_to():
    system = molecule_system("ACE-ALA-NME")
    rng = np.random.default_rng(0)
    frames = (system.reference + 0.03 * rng.normal(size=(10_000, 22, 3))).astype(np.float32)
    frames.setflags(write=False)
    start = time.process_time()
    validity = check(frames, system)
    assert time.process_time() - start < 10
    assert validity.valid.mean() > 0.9


def test_frames_are_judged_one_by_one_whatever_the_block(monkeypatch):
    system = molecule_system("ACE-ALA-NME")
    rng = np.random.default_rng(1)
    frames = system.reference + 0.1 * rng.normal(size=(50, 22, 3))
    whole = check(frames, system)
    monkeypatch.setattr("equilibra.systems.conformation_checks._PAIRS_AT_ONCE", 1000)
    parts = check(frames, system)
    np.testing.assert_array_equal(whole.passed, parts.passed)
    assert [whole.reasons(i) for i in range(50)] == [parts.reasons(i) for i in range(50)]
    assert 0 < whole.valid.sum() < 50
