"""Collective variables against closed forms and mdtraj; the names that are understood, and those that are not."""

import mdtraj
import numpy as np
import pytest

from equilibra.analysis.collective_variables import (
    collective_variable,
    full_name,
    radius_of_gyration,
)
from equilibra.analysis.geometry_statistics import bond_angles, bond_lengths
from equilibra.errors import InputError, ShapeError

TORSIONS = {"phi ALA2": (0, 1, 2, 3), "psi ALA2": (1, 2, 3, 4), "psi GLY3": (2, 3, 4, 5)}


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(7, 6, 3))


def test_values_agree_with_mdtraj(x):
    # mdtraj keeps single precision
    single = x.astype(np.float32)
    top = mdtraj.Topology()
    residue = top.add_residue("X", top.add_chain())
    for _ in range(6):
        top.add_atom("C", mdtraj.element.carbon, residue)
    frames = mdtraj.Trajectory(single, top)
    for name, expected in (
        ("distance:1,4", mdtraj.compute_distances(frames, [[0, 3]], periodic=False)[:, 0]),
        ("angle:2,1,5", mdtraj.compute_angles(frames, [[1, 0, 4]], periodic=False)[:, 0]),
        ("dihedral:1,2,3,4", mdtraj.compute_dihedrals(frames, [[0, 1, 2, 3]], periodic=False)[:, 0]),
        ("phi", mdtraj.compute_dihedrals(frames, [[0, 1, 2, 3]], periodic=False)[:, 0]),
        ("rg", mdtraj.compute_rg(frames)),
    ):
        found = collective_variable(name, single, TORSIONS)
        np.testing.assert_allclose(found.values, expected, atol=2e-5, err_msg=name)


def test_units_periods_and_names(x):
    found = {name: collective_variable(name, x, TORSIONS) for name in ("phi", "angle:1,2,3", " distance: 1, 2", "rg")}
    assert [v.name for v in found.values()] == ["phi ALA2", "angle:1,2,3", "distance:1,2", "rg"]
    assert [v.unit for v in found.values()] == ["rad", "rad", "Å", "Å"]
    assert [v.period for v in found.values()] == [2 * np.pi, None, None, None]


def test_closed_forms_keep_their_digits_at_the_ends():
    line = np.array([[[0.0, 0, 0], [1.0, 0, 0], [2.0, 1e-9, 0]]])
    assert bond_angles(line, [[0, 1, 2]])[0, 0] == pytest.approx(np.pi - 1e-9, abs=1e-15)
    assert bond_lengths(line, [[0, 1]])[0, 0] == 1.0
    pair = np.array([[[0.0, 0, 0], [4.0, 0, 0]]])
    assert radius_of_gyration(pair)[0] == pytest.approx(2.0)
    # reduced mass: sqrt(m1 m2) / (m1 + m2) of the distance
    assert radius_of_gyration(pair, [1.0, 3.0])[0] == pytest.approx(4.0 * np.sqrt(3.0) / 4.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chi", "unknown collective variable 'chi' (known: phi ALA2, psi ALA2, psi GLY3, distance:i,j"),
        ("psi", "has 2 of them, psi ALA2, psi GLY3; give the full name"),
        ("distance:1,2,3", "got 3 atoms, expected 2"),
        ("distance:0,2", "no atom 0; the molecule's atoms are 1 to 6"),
        ("angle:1,2,7", "no atom 7"),
        ("dihedral:1,2,3,3", "an atom is given twice"),
        ("distance:a,b", "unknown collective variable"),
    ],
)
def test_what_cannot_be_computed_is_named(x, name, words):
    with pytest.raises(InputError) as caught:
        collective_variable(name, x, TORSIONS)
    assert words in str(caught.value)


def test_broken_positions_and_masses_are_refused(x):
    with pytest.raises(ShapeError, match="conformations"):
        collective_variable("rg", x[0], TORSIONS)
    broken = x.copy()
    broken[3, 2, 0] = np.nan
    with pytest.raises(InputError, match="sample 3"):
        collective_variable("distance:1,3", broken, TORSIONS)
    with pytest.raises(InputError, match="positive"):
        radius_of_gyration(x, np.zeros(6))
    with pytest.raises(ShapeError, match="masses"):
        radius_of_gyration(x, np.ones(5))


def test_a_full_name_wins_over_its_first_word():
    assert full_name("PSI gly3", TORSIONS) == "psi GLY3"
    assert full_name("torsion C1-C2-C3-O4", ["torsion C1-C2-C3-O4"]) == "torsion C1-C2-C3-O4"
