import mdtraj
import numpy as np
import pytest

from equilibra.analysis.torsions import (
    dihedrals,
    pair_jsd,
    peptide_torsions,
    rotatable_quadruples,
    rotatable_torsions,
    torsion_jsd,
)
from equilibra.errors import InputError, ShapeError
from equilibra.systems.molecule.peptide import build_peptide


def molecule(symbols, bonds, orders=None):
    topology = mdtraj.Topology()
    residue = topology.add_residue("LIG", topology.add_chain())
    atoms = [topology.add_atom(f"{s}", mdtraj.element.get_by_symbol(s), residue) for s in symbols]
    for k, (i, j) in enumerate(bonds):
        topology.add_bond(atoms[i], atoms[j], order=None if orders is None else orders[k])
    return topology


def test_dihedrals_against_mdtraj(perturbed):
    trajectory = perturbed(30, 1, spread=3.0)
    rows = np.random.default_rng(0).permuted(np.tile(np.arange(22), (40, 1)), axis=1)[:, :4]
    ours = dihedrals(trajectory.xyz, rows)
    theirs = mdtraj.compute_dihedrals(trajectory, rows, periodic=False)
    np.testing.assert_allclose(np.cos(ours - theirs), 1.0, atol=1e-5)


def test_slices_do_not_change_dihedrals():
    x = np.random.default_rng(1).standard_normal((7000, 40, 3))
    rows = [[0, 1, 2, 3], [4, 5, 6, 7]]
    np.testing.assert_array_equal(dihedrals(x, rows)[-5:], dihedrals(x[-5:], rows))


def test_reflection_changes_the_sign():
    x = np.random.default_rng(2).standard_normal((4, 4, 3))
    np.testing.assert_allclose(dihedrals(-x, [[0, 1, 2, 3]]), -dihedrals(x, [[0, 1, 2, 3]]), atol=1e-12)


def test_torsions_of_capped_alanine(perturbed):
    torsions = peptide_torsions(perturbed(200, 2, phi=-1.0, psi=2.0, spread=0.05, width=0.0))
    kinds = [name.split(" ")[0] for name in torsions.names]
    assert kinds == ["phi", "psi", "omega", "omega"]
    np.testing.assert_allclose(torsions.angles[:, :2].mean(axis=0), [-1.0, 2.0], atol=0.02)
    assert (np.abs(torsions.angles[:, 2:]) > 2.9).all()
    assert torsions.select(("omega",)).angles.shape == (200, 2)


def test_side_chains_and_their_names():
    topology, positions = build_peptide("ACE-LEU-VAL-NME")
    xyz = np.asarray([[v.x, v.y, v.z] for v in positions])[None]
    torsions = peptide_torsions(mdtraj.Trajectory(xyz, mdtraj.Topology.from_openmm(topology)))
    kinds = [name.split(" ")[0] for name in torsions.names]
    assert kinds == ["phi"] * 2 + ["psi"] * 2 + ["omega"] * 3 + ["chi1"] * 2 + ["chi2"]
    assert [name.split(" ")[1][:3] for name in torsions.names[-3:]] == ["LEU", "VAL", "LEU"]


def test_rotatable_bonds_of_butane_like_chains():
    chain = molecule("CCCCO", [(0, 1), (1, 2), (2, 3), (3, 4)])
    names, rows = rotatable_quadruples(chain)
    assert rows.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert names == ["torsion C1-C2-C3-C4", "torsion C2-C3-C4-O5"]
    double = molecule("CCCCO", [(0, 1), (1, 2), (2, 3), (3, 4)], orders=[1, 2, 1, 1])
    assert rotatable_quadruples(double)[1].tolist() == [[1, 2, 3, 4]]
    alkyne = molecule("CCCCCC", [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], orders=[1, 1, 3, 1, 1])
    assert len(rotatable_quadruples(alkyne)[1]) == 0


def test_rings_are_not_rotatable_but_their_links_are():
    ring = [(k, (k + 1) % 6) for k in range(6)]
    other = [(6 + k, 6 + (k + 1) % 6) for k in range(6)]
    biphenyl = molecule("C" * 12, [*ring, *other, (0, 6)])
    assert rotatable_quadruples(biphenyl)[1].tolist() == [[1, 0, 6, 7]]


def test_heaviest_neighbour_spans_the_torsion(alanine):
    torsions = rotatable_torsions(alanine)
    numbers = [atom.element.number for atom in alanine.topology.atoms]
    assert len(torsions.names) == 4  # two amide bonds, N-CA and CA-C
    assert all(numbers[i] > 1 for i in torsions.quadruples.ravel())


def test_torsion_jsd_of_each_marginal():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-np.pi, np.pi, (5000, 2)), rng.uniform(-np.pi, np.pi, (5000, 2))
    b[:, 1] = 0.0
    found = torsion_jsd(a, b)
    # floor √((K - 1) / 4n) of 100 filled bins
    assert found[0] == pytest.approx(np.sqrt(99 / 20000), rel=0.3)
    assert found[1] > 0.7
    assert pair_jsd(a, a) == 0.0
    assert pair_jsd([[0, 0]], [[2, 2]]) == pytest.approx(np.sqrt(np.log(2)))


def test_bad_input(alanine):
    with pytest.raises(InputError, match="0 to 21"):
        dihedrals(alanine.xyz, [[0, 1, 2, 22]])
    with pytest.raises(ShapeError):
        dihedrals(alanine.xyz[:0], [[0, 1, 2, 3]])
    with pytest.raises(InputError, match="NaN"):
        dihedrals(np.full((1, 4, 3), np.nan), [[0, 1, 2, 3]])
    with pytest.raises(InputError, match="no bonds"):
        rotatable_quadruples(molecule("CC", []))
    with pytest.raises(ShapeError):
        pair_jsd(np.zeros((3, 3)), np.zeros((3, 3)))
