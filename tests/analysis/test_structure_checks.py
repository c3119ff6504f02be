"""Bonds, angles, stereo-centres, clashes and RMSDs."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from equilibra.analysis.clashes import find_clashes, nonbonded_pairs
from equilibra.analysis.geometry_statistics import angle_triples, bond_angles, bond_lengths, compare_angles, compare_bonds
from equilibra.analysis.rmsd_coverage import rmsd_coverage
from equilibra.analysis.stereo import (
    check_double_bonds,
    check_stereocentres,
    cis_fraction,
    find_stereocentres,
    majority_signs,
    signed_volumes,
)
from equilibra.analysis.superposition import rmsd_matrix, superpose
from equilibra.errors import ConfigError, InputError, ShapeError


def bonds_of(trajectory):
    return np.asarray([[a.index, b.index] for a, b in trajectory.topology.bonds])


def numbers_of(trajectory):
    return [atom.element.number for atom in trajectory.topology.atoms]


def water(lengths, angles):
    lengths, angles = np.broadcast_arrays(lengths, angles)
    zero = np.zeros_like(lengths)
    first = np.stack([lengths, zero, zero], axis=-1)
    second = np.stack([lengths * np.cos(angles), lengths * np.sin(angles), zero], axis=-1)
    return np.stack([first, np.zeros_like(first), second], axis=1)


def test_lengths_and_angles_of_known_coordinates():
    x = water(np.asarray([1.0, 1.5]), np.asarray([1.2, 3.0]))
    np.testing.assert_allclose(bond_lengths(x, [[0, 1], [1, 2]]), [[1, 1], [1.5, 1.5]])
    np.testing.assert_allclose(bond_angles(x, [[0, 1, 2]])[:, 0], [1.2, 3.0])
    assert angle_triples([[0, 1], [1, 2], [1, 3]]).tolist() == [[0, 1, 2], [0, 1, 3], [2, 1, 3]]


def test_comparison_finds_shift_and_width():
    rng = np.random.default_rng(0)
    n = 20000
    reference = water(rng.normal(1.40, 0.02, n), rng.normal(1.9, 0.05, n))
    samples = water(rng.normal(1.41, 0.03, n), rng.normal(1.85, 0.05, n))
    bonds = compare_bonds(samples, reference, [[0, 1], [1, 2]], [6, 8, 6])
    assert bonds.heavy_mean_error == pytest.approx(0.01, abs=4 * 0.036 / np.sqrt(n))
    assert bonds.heavy_std_ratio == pytest.approx(1.5, rel=4 / np.sqrt(n))
    angles = compare_angles(samples, reference, [[0, 1], [1, 2]], [6, 8, 6])
    assert angles.mean_error[0] == pytest.approx(-0.05, abs=4 * 0.07 / np.sqrt(n))
    assert angles.heavy_std_ratio == pytest.approx(1.0, rel=4 / np.sqrt(n))


def test_constrained_and_hydrogen_bonds_do_not_count():
    rng = np.random.default_rng(1)
    x = water(np.full(50, 1.0), rng.normal(1.9, 0.05, 50))
    y = water(rng.normal(1.0, 0.1, 50), rng.normal(1.9, 0.05, 50))
    found = compare_bonds(y, x, [[0, 1], [1, 2]], [6, 8, 1])
    assert found.heavy.tolist() == [True, False]
    assert np.isnan(found.std_ratio).all()
    assert np.isnan(found.heavy_std_ratio)
    none = compare_bonds(y, x, [[0, 1]], [1, 8, 1])
    assert np.isnan(none.heavy_mean_error)


TETRAHEDRON = np.asarray([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float)


def test_signed_volume_of_the_ideal_centre():
    centre_first = signed_volumes(TETRAHEDRON[None], [[0, 1, 2, 3]])[0, 0]
    neighbours = signed_volumes(TETRAHEDRON[None], [[4, 1, 2, 3]])[0, 0]
    assert abs(centre_first) == pytest.approx(4 / (3 * np.sqrt(3)))
    assert abs(neighbours) == pytest.approx(1 / np.sqrt(2))
    # the centre and the neighbour that it hides see the other three in the same sense
    assert np.sign(centre_first) == np.sign(neighbours)
    assert signed_volumes(-TETRAHEDRON[None], [[0, 1, 2, 3]])[0, 0] == pytest.approx(-centre_first)
    turned = Rotation.random(rng=np.random.default_rng(0)).apply(TETRAHEDRON) * 3 + 5
    assert signed_volumes(turned[None], [[0, 1, 2, 3]])[0, 0] == pytest.approx(centre_first)


def test_mirror_images_and_flat_centres_are_wrong(perturbed):
    trajectory = perturbed(10, 3)
    centres = find_stereocentres(trajectory.topology)
    assert len(centres) == 1
    names = {trajectory.topology.atom(int(i)).name for i in centres[0]}
    assert names == {"N", "C", "CB", "HA"}
    signs = majority_signs(trajectory.xyz, centres)
    x = trajectory.xyz.copy()
    assert check_stereocentres(x, centres, signs).fraction == 1.0
    x[:3] *= -1
    found = check_stereocentres(x, centres, signs)
    assert found.frames.tolist() == [False] * 3 + [True] * 7
    assert found.fraction == pytest.approx(0.7)
    np.testing.assert_allclose(found.elements, [0.7])
    x[5, :, 2] = 0.0
    assert not check_stereocentres(x, centres, signs).frames[5]


def test_l_alanine_has_the_hand_of_rdkit(alanine):
    from rdkit import Chem

    # CORN rule: seen from the hydrogen, CO, R, N read clockwise
    index = {atom.name: atom.index for atom in alanine.topology.residue(1).atoms}
    row = [[index[name] for name in ("HA", "C", "CB", "N")]]
    sign = np.sign(signed_volumes(alanine.xyz, row))[0, 0]
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)N[C@@H](C)C(=O)NC"))
    from rdkit.Chem import AllChem

    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    match = mol.GetSubstructMatch(Chem.MolFromSmarts("[H][CX4](C(=O)N)([CH3])N"))
    hydrogen, carbonyl, methyl, nitrogen = match[0], match[2], match[5], match[6]
    theirs = np.sign(signed_volumes(mol.GetConformer().GetPositions()[None], [[hydrogen, carbonyl, methyl, nitrogen]]))[0, 0]
    assert sign == theirs


def test_double_bonds_and_peptide_bonds():
    cis = [[1.0, 1, 0], [0, 0, 0], [0, 0, 2], [1, 1, 2]]
    trans = [[1.0, 1, 0], [0, 0, 0], [0, 0, 2], [-1, -1, 2]]
    x = np.asarray([cis, trans])
    assert check_double_bonds(x, [[0, 1, 2, 3]], [1]).frames.tolist() == [True, False]
    assert check_double_bonds(x, [[0, 1, 2, 3]], [-1]).frames.tolist() == [False, True]
    assert cis_fraction([[0.2, 3.1], [-3.0, 3.0]]) == 0.25


def test_separation_of_pairs():
    chain = [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert nonbonded_pairs(chain, 5).tolist() == [[0, 4]]
    assert nonbonded_pairs(chain, 6).tolist() == [[0, 4], [0, 5], [1, 5], [2, 5], [3, 5], [4, 5]]


def test_clashes_of_heavy_atoms_and_hydrogens():
    # two pairs that are not connected: C...C and C...H
    x = np.zeros((3, 2, 3))
    x[:, 1, 0] = [2.3, 2.45, 4.0]
    carbon = find_clashes(x, [], [6, 6])
    assert carbon.frames.tolist() == [True, False, False]
    np.testing.assert_allclose(carbon.closest, x[:, 1, 0] / 3.4)
    assert carbon.fraction == pytest.approx(1 / 3)
    x[:, 1, 0] = [1.5, 1.7, 4.0]
    assert find_clashes(x, [], [6, 1]).counts.tolist() == [1, 0, 0]
    assert find_clashes(x, [], [6, 1], hydrogen_fraction=0.0).counts.tolist() == [0, 0, 0]
    assert find_clashes(x, [(0, 1)], [6, 1]).counts.tolist() == [0, 0, 0]


def test_a_sound_peptide_has_no_clash_and_a_collapsed_one_has(perturbed):
    trajectory = perturbed(20, 4, spread=0.2)
    bonds, numbers = bonds_of(trajectory), numbers_of(trajectory)
    assert find_clashes(trajectory.xyz * 10, bonds, numbers).fraction == 0.0
    assert find_clashes(trajectory.xyz * 3, bonds, numbers).fraction == 1.0


def test_rmsd_of_rotated_copies_is_zero_and_of_mirror_images_is_not():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 6, 3))
    moved = np.stack([Rotation.random(rng=rng).apply(frame) + rng.standard_normal(3) for frame in x])
    np.testing.assert_allclose(np.diag(rmsd_matrix(x, moved)), 0.0, atol=1e-6)
    assert (np.diag(rmsd_matrix(x, -x)) > 0.1).all()


def test_rmsd_against_scipy_and_superpose():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((3, 7, 3)), rng.standard_normal((5, 7, 3))
    found = rmsd_matrix(a, b)
    for i in range(3):
        for j in range(5):
            _, distance = Rotation.align_vectors(a[i] - a[i].mean(0), b[j] - b[j].mean(0))
            assert found[i, j] == pytest.approx(distance / np.sqrt(7), rel=1e-6)
    placed = superpose(b, a[0])
    np.testing.assert_allclose(np.sqrt(((placed - a[0]) ** 2).sum((1, 2)) / 7), found[0], rtol=1e-9)


def test_coverage_and_matching():
    rng = np.random.default_rng(7)
    reference = 3 * rng.standard_normal((3, 5, 3))
    samples = np.stack([reference[0] + 0.01, reference[0] - 1.0, 3 * rng.standard_normal((5, 3))])
    found = rmsd_coverage(reference, samples, delta=0.2)
    assert found.coverage_recall == pytest.approx(1 / 3)
    assert found.coverage_precision == pytest.approx(2 / 3)
    matrix = rmsd_matrix(reference, samples)
    assert found.matching_recall == pytest.approx(matrix.min(1).mean())
    assert found.matching_precision == pytest.approx(matrix.min(0).mean())


def test_symmetry_is_taken_out_of_the_rmsd():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((1, 4, 3))
    swapped = x[:, [0, 1, 3, 2]]
    assert rmsd_coverage(x, swapped).matching_recall > 0.1
    assert rmsd_coverage(x, swapped, automorphisms=[[0, 1, 2, 3], [0, 1, 3, 2]]).matching_recall == pytest.approx(0.0, abs=1e-6)


def test_inputs_are_not_written_to(alanine):
    x = alanine.xyz.astype(np.float64)
    x.flags.writeable = False
    superpose(x, x[0])
    rmsd_coverage(x, x)
    find_clashes(x, bonds_of(alanine), numbers_of(alanine))
    compare_bonds(np.repeat(x, 2, 0), np.repeat(x, 2, 0), bonds_of(alanine), numbers_of(alanine))
    assert x.shape == (1, 22, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: find_clashes(x, [], [6, 0]), InputError, r"atomic numbers \[0\]"),
        (lambda x: find_clashes(x, [], [6]), ShapeError, "atomic_numbers"),
        (lambda x: find_clashes(x, [], [6, 6], fraction=2), ConfigError, "between 0 and 1"),
        (lambda x: find_clashes(x, [(0, 2)], [6, 6]), InputError, "there are 2 atoms"),
        (lambda x: compare_bonds(x[:1], x, [(0, 1)], [6, 6]), InputError, "at least 2"),
        (lambda x: compare_bonds(x, x, [(0, 1)], [6]), ShapeError, "one number of atoms"),
        (lambda x: rmsd_coverage(x, x, delta=0), InputError, "delta"),
        (lambda x: rmsd_coverage(x, x, automorphisms=[[0, 0]]), InputError, "permutation"),
        (lambda x: rmsd_matrix(x, np.zeros((1, 3, 3))), ShapeError, "second"),
        (lambda x: check_stereocentres(np.zeros((1, 5, 3)), [[0, 1, 2, 3]], [0]), InputError, "-1 or 1"),
        (lambda x: check_stereocentres(np.zeros((1, 5, 3)), [[0, 1, 2, 3]], [1, 1]), ShapeError, "signs"),
        (lambda x: cis_fraction([]), InputError, "no samples"),
        (lambda x: superpose(x, np.zeros((3, 3))), ShapeError, "target"),
        (lambda x: bond_lengths(np.full((1, 2, 3), np.inf), [(0, 1)]), InputError, "infinity"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros((3, 2, 3)))
