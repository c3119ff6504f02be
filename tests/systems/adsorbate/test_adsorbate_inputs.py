"""What a user may name: slabs, adsorbates, both together; what is refused, and the sentence that says why."""

import re
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from ase.io import write

from equilibra.errors import InputError
from equilibra.systems.adsorbate.energy import adsorbate_energy, whole_atoms
from equilibra.systems.adsorbate.names import OTHER_NAMES, SMILES
from equilibra.systems.adsorbate.sites import Sites
from equilibra.systems.adsorbate.slab import read_slab
from equilibra.systems.adsorbate.sources import adsorbate_systems
from equilibra.systems.adsorbate.species import read_adsorbate
from equilibra.systems.adsorbate.system import AdsorbateSystem, adsorbate_values, slab_values, system_of_values


def test_every_name_has_the_atoms_that_it_spells():
    for name in SMILES:
        spelt = Counter()
        for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", name.replace("(CH3)2", "CH3CH3")):
            spelt[symbol] += int(count or 1)
        item = read_adsorbate(name)
        assert Counter(chemical_symbols[z] for z in item.numbers) == spelt, name
        # in one piece, of sensible bonds
        assert len(item.bonds) >= len(item) - 1
        lengths = [np.linalg.norm(item.positions[i] - item.positions[j]) for i, j in item.bonds]
        assert min(lengths) > 0.6, name
        assert max(lengths) < 1.9, name
    assert set(OTHER_NAMES.values()) <= set(SMILES)


@pytest.mark.parametrize(("text", "atoms"), [("*CO", 2), ("*CH2*O", 4), ("O", 1), ("N2H", 3), ("smiles:CCO", 9)])
def test_adsorbates_by_name(text, atoms):
    assert len(read_adsorbate(text)) == atoms


def test_a_name_is_never_a_smiles():
    assert sorted(read_adsorbate("CO").numbers.tolist()) == [6, 8]
    assert len(read_adsorbate("smiles:CO")) == 6  # methanol


def test_files_of_adsorbates(tmp_path):
    path = tmp_path / "water.xyz"
    write(path, molecule("H2O"))
    item = read_adsorbate(path)
    assert item.numbers.tolist() == [8, 1, 1]
    assert item.bonds == ((0, 1), (0, 2))
    two = molecule("H2O") + Atoms("He", [(5.0, 0.0, 0.0)])
    with pytest.raises(InputError, match="2 molecules, expected one"):
        read_adsorbate(two)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COO2", "is no file and none of the"),
        ("Xx", "give a name such as CO"),
        ("smiles:C(((", "no SMILES that can be read"),
        ("smiles:C.C", "2 molecules, expected one"),
    ],
)
def test_unknown_adsorbates_are_errors(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_adsorbate(text)


@pytest.mark.parametrize(
    ("text", "atoms", "labels"),
    [
        ("Pt(111) 1x1x4", 4, {"bridge": 3, "fcc": 1, "hcp": 1, "ontop": 1}),
        ("Cu(100) 2x2x3", 12, {"bridge": 8, "fourfold": 4, "ontop": 4}),
        ("Ru(0001) 2x2x3", 12, {"bridge": 12, "fcc": 4, "hcp": 4, "ontop": 4}),
        ("Ag(110) 1x1x4", 4, {"bridge 1": 1, "bridge 2": 1, "fourfold": 1, "ontop": 1}),
        ("Ni(211) 3x1x4", 12, None),
        (
            "Cu3Au(111) 1x1x3",
            12,
            {
                "bridge Au-Cu": 6,
                "bridge Cu-Cu 1": 3,
                "bridge Cu-Cu 2": 3,
                "fcc Au-Cu-Cu": 3,
                "fcc Cu-Cu-Cu": 1,
                "hcp Au-Cu-Cu": 3,
                "hcp Cu-Cu-Cu": 1,
                "ontop Au": 1,
                "ontop Cu": 3,
            },
        ),
    ],
)
def test_built_slabs_and_their_sites(text, atoms, labels):
    slab, on_it = read_slab(text)
    assert len(slab) == atoms
    assert on_it is None
    if labels is not None:
        assert {site.label: len(site.points) for site in Sites(slab).kinds} == labels


def test_the_lattice_constant_can_be_chosen():
    slab, _ = read_slab("Pt(111) 1x1x2 a=4.0")
    assert np.isclose(np.linalg.norm(slab.cell[0]), 4.0 / np.sqrt(2))


def cube(vacuum):
    slab = bulk("Cu", cubic=True) * (2, 2, 2)
    slab.center(vacuum=vacuum, axis=2)
    return slab


def tilted():
    slab = fcc111("Pt", (2, 2, 3), vacuum=8.0)
    slab.rotate(20, "x", rotate_cell=True)
    return slab


@pytest.mark.parametrize(
    ("slab", "message"),
    [
        (molecule("H2O"), "not periodic along its surface"),
        (cube(0.5), "there is no vacuum"),
        (tilted(), "not perpendicular to z"),
        ("Pt(111)", "no text such as"),
        ("Pt(135) 2x2x2", "expected facets 111, 100, 110, 211 of fcc Pt"),
        ("Xq(111) 2x2x2", "expected a metal, or an alloy"),
        ("NaCl(100) 2x2x2", "expected a metal, or an alloy"),
        ("Pt(111) 0x2x2", "at least one cell"),
    ],
)
def test_bad_slabs(slab, message):
    with pytest.raises(InputError, match=re.escape(message)):
        AdsorbateSystem.of(slab, "O")


def test_what_does_not_go_together():
    with pytest.raises(InputError, match="nothing on it, so no atom could move"):
        adsorbate_systems("Pt(111) 1x1x3")
    with pytest.raises(InputError, match=r"the cell of the slab 2\.4 Å wide; expected a slab with more cells"):
        AdsorbateSystem.of("Pt(111) 1x1x3", "CH3CH3")
    with pytest.raises(InputError, match=r"has no parameters|does not|cover"):
        adsorbate_energy(AdsorbateSystem.of("Fe(110) 2x2x2", "O"), "emt")
    with pytest.raises(InputError, match="expected names such as CO"):
        adsorbate_systems("O,,O@Pt(111) 2x2x2")
    with pytest.raises(InputError, match=r"the name of an ASE calculator, or FILE\.py:FUNCTION"):
        adsorbate_energy(AdsorbateSystem.of("Pt(111) 1x1x2", "O"), "nonsense")
    with pytest.raises(InputError, match=r"no function 'nothing' in 'ase\.build'"):
        adsorbate_energy(AdsorbateSystem.of("Pt(111) 1x1x2", "O"), "ase.build:nothing")
    with pytest.raises(InputError, match="which has get_property"):
        adsorbate_energy(AdsorbateSystem.of("Pt(111) 1x1x2", "O"), "collections:Counter")


@pytest.mark.parametrize("convention", ["open catalyst", "ase"])
def test_an_adsorbate_in_the_file_is_told_by_tags(tmp_path, convention):
    slab = fcc111("Pt", (2, 2, 3), vacuum=9.0)
    slab.set_constraint(FixAtoms([0, 1, 2, 3]))
    add_adsorbate(slab, molecule("CO"), 1.8, "ontop", mol_index=1)
    if convention == "open catalyst":
        slab.set_tags([0] * 8 + [1] * 4 + [2] * 2)
    path = tmp_path / "on.traj"
    write(path, slab)
    (system,) = adsorbate_systems(str(path))
    assert len(system.slab) == 12
    assert system.numbers.tolist() == [8, 6]
    assert np.array_equal(system.slab.positions, slab.positions[:12])
    assert slab_values(system.slab)["fixed"] == [0, 1, 2, 3]


def test_coverage_and_json():
    (system,) = adsorbate_systems("O,O,CO@Pt(111) 2x2x3")
    assert system.atoms == 4
    assert [list(part) for part in system.molecules] == [[0], [1], [2, 3]]
    assert system.bonds == [(2, 3)]
    again = system_of_values(system.name, slab_values(system.slab), [adsorbate_values(item) for item in system.adsorbates])
    assert again == system
    assert again != adsorbate_systems("O,O@Pt(111) 2x2x3")[0]
    atoms = whole_atoms(system, np.zeros((4, 3)))
    assert np.array_equal(atoms.positions[:12], system.slab.positions)


def test_starting_points_touch_nothing():
    system = AdsorbateSystem.of("Ni(211) 3x2x3", ["CO", "H"])
    x = system.placed(20, seed=0)
    assert np.array_equal(x, system.placed(20, seed=0))
    from ase.data import covalent_radii

    for row in x:
        atoms = whole_atoms(system, row + np.array([0.0, 0.0, system.level]))
        gaps = atoms.get_all_distances(mic=True)
        radii = covalent_radii[atoms.numbers]
        touching = gaps < 0.98 * (radii[:, None] + radii)
        mobile = np.arange(len(system.slab), len(atoms))
        inside = touching[np.ix_(mobile, np.arange(len(system.slab)))]
        assert not inside.any()
