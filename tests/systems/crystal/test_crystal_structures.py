import numpy as np
import pytest
import torch
from known_crystals import conventional_diamond, diamond, graphite, other_description, rock_salt, triclinic

from equilibra.errors import InputError
from equilibra.geometry.average_distances import average_minimum_distances
from equilibra.systems.crystal.ensemble import CrystalEnsemble, state_of
from equilibra.systems.crystal.formula import formula_of, parse_formula
from equilibra.systems.crystal.runs import join_runs, load_runs
from equilibra.systems.crystal.sources import crystal_systems
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.symmetry import symbol
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.crystal.validity import check


def distances(structure, count=20):
    return average_minimum_distances(torch.tensor(structure.frac), torch.tensor(structure.cell), count).numpy()


def test_formulas_are_read_and_written():
    assert parse_formula("C8") == (6,) * 8
    assert parse_formula("NaCl") == parse_formula("ClNa") == (11, 17)
    assert parse_formula("Si2O4") == (8, 8, 8, 8, 14, 14)
    assert parse_formula("CCH2C") == (1, 1, 6, 6, 6)
    assert formula_of(parse_formula("Si2O4")) == "O4Si2"


@pytest.mark.parametrize("text", ["", "c8", "C0", "C08", "8C", "Xx2", "C 8", "C8)", "Lr2", "C1001", "C-8", "C²"])
def test_impossible_formulas_are_refused(text):
    with pytest.raises(InputError, match=r"C8, NaCl or Si2O4"):
        parse_formula(text)


def test_a_system_is_its_composition():
    salt = CrystalSystem.of_formula("NaCl")
    assert salt == CrystalSystem.of([17, 11]) == crystal_systems("ClNa")[0] != CrystalSystem.of_formula("Na2Cl2")
    assert salt.features.pair["same"].tolist() == [[0, 2], [2, 0]]
    assert (salt.atoms, salt.formula, salt.name) == (2, "NaCl", "NaCl")
    with pytest.raises(InputError, match="atomic numbers"):
        CrystalSystem.of([])
    with pytest.raises(InputError, match="expected a formula such as C8"):
        crystal_systems(8.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": np.zeros((3, 3))}, "volume 0 Å³"),
        ({"cell": np.full((3, 3), np.nan)}, "cell are not finite"),
        ({"frac": np.full((2, 3), np.inf)}, "coordinates are not finite"),
        ({"numbers": np.array([6, 0])}, "atomic number outside"),
        ({"numbers": np.array([6, 101])}, "atomic number outside"),
        ({"frac": np.zeros((3, 3))}, r"expected \(n,\)"),
    ],
)
def test_what_is_no_structure_is_refused(change, words):
    known = diamond()
    parts = {"numbers": known.numbers, "frac": known.frac, "cell": known.cell, **change}
    with pytest.raises(InputError, match=words):
        Structure(**parts)


@pytest.mark.parametrize("structure", [diamond(), graphite(), rock_salt(), triclinic(), triclinic(7, 3)])
def test_the_canonical_cell_describes_the_same_crystal(structure):
    canonical = structure.canonical()
    assert np.allclose(canonical.cell, canonical.cell.T)
    assert np.linalg.eigvalsh(canonical.cell).min() > 0
    assert canonical.volume == pytest.approx(structure.volume)
    assert np.allclose(distances(canonical), distances(structure), atol=1e-6)
    # not its mirror image: signed volumes of the first atoms with their cells
    assert np.linalg.det(structure.niggli().cell) > 0


@pytest.mark.parametrize("seed", range(5))
def test_any_description_of_a_crystal_has_one_canonical_cell(seed):
    known = triclinic(4, seed)
    ours, other = known.canonical().cell, other_description(known, seed).canonical().cell
    lengths = [np.sort(np.linalg.norm(cell, axis=1)) for cell in (ours, other)]
    assert np.allclose(*lengths, atol=1e-6)
    assert np.allclose(np.linalg.eigvalsh(ours), np.linalg.eigvalsh(other), atol=1e-6)


def test_average_distances_do_not_depend_on_the_cell():
    assert np.allclose(distances(diamond()), distances(conventional_diamond()), atol=1e-9)
    bond = 3.567 * 3**0.5 / 4
    assert np.allclose(distances(diamond())[:4], bond)
    assert np.allclose(distances(diamond())[4:16], 3.567 / 2**0.5)


def test_checks_see_images_and_cells():
    short = Structure(numbers=np.array([6]), frac=np.zeros((1, 3)), cell=np.diag([0.45, 5.0, 5.0]))
    good, close = diamond(), triclinic(2, 0)
    frac = close.frac.copy()
    frac[1] = frac[0] + [0.05, 0.0, 1.0]
    close = Structure(numbers=close.numbers, frac=frac, cell=close.cell)
    assert check(short.positions[None], short.cell[None]).reasons(0)[0].startswith("distances: atom 1 is 0.45 Å")
    cells = np.stack([good.cell, close.cell, -good.cell, np.full((3, 3), np.nan)])
    positions = np.stack([good.positions, close.positions, good.positions, good.positions])
    found = check(positions, cells)
    assert found.valid.tolist() == [True, False, False, False]
    assert "Å from another atom" in found.reasons(1)[0]
    assert found.reasons(2)[0].startswith("cell: the cell has the volume -")
    assert found.reasons(3)[0].startswith("finite: row 3")
    with pytest.raises(InputError, match="cells"):
        check(positions, None)


def test_an_ensemble_is_written_and_read(tmp_path):
    near = Structure(numbers=np.array([6, 6]), frac=np.array([[0, 0, 0], [0.01] * 3]), cell=diamond().cell)
    ensemble = CrystalEnsemble.of([diamond(energy=-9.0), diamond(3.6, energy=-8.9), near], provenance={"model": "none"})
    assert len(ensemble) == 2
    assert ensemble.rejected_cells.shape == (1, 3, 3)
    assert ensemble.space_groups.tolist() == [227, 227]
    assert symbol(227) == "Fd-3m"
    assert ensemble.densities[0] == pytest.approx(3.515, abs=0.005)
    ensemble = CrystalEnsemble.of([diamond(energy=-9.0), diamond(3.6, energy=-8.9)], provenance={"model": "none"})
    assert ensemble.energies == pytest.approx([-18.0, -17.8])
    for formats in (("extxyz", "cif.zip"), ("npz",)):
        folder = ensemble.save(tmp_path / formats[0], formats=formats)
        again = CrystalEnsemble.read(folder)
        assert np.allclose(again.cells, ensemble.cells, atol=1e-6)
        assert np.allclose(again.positions, ensemble.positions, atol=1e-6)
        assert again.energies == pytest.approx(ensemble.energies)
        assert not (folder / "topology.pdb").exists()
    assert "space_group" in (folder / "samples.csv").read_text().splitlines()[0]
    frac, cell = (state_of(again.structures()).fields[name] for name in ("frac", "cell"))
    assert frac.shape == (2, 2, 3)
    assert torch.allclose(torch.linalg.det(cell * 2 ** (1 / 3)), torch.tensor(again.volumes))
    with pytest.raises(InputError, match="one composition"):
        CrystalEnsemble.of([diamond(), rock_salt()])


def test_runs_are_joined_with_their_cells(tmp_path):
    near = Structure(numbers=np.array([6, 6]), frac=np.array([[0, 0, 0], [0.01] * 3]), cell=diamond().cell)
    first, second = CrystalEnsemble.of([diamond(), near]), CrystalEnsemble.of([diamond(3.6), diamond(3.7)])
    (read,) = load_runs(first.save(tmp_path / "first", formats=("npz",)))
    both = join_runs([read, second])
    assert np.allclose(both.volumes, [3.567**3 / 4, 3.6**3 / 4, 3.7**3 / 4])
    assert both.rejected_cells.shape == (1, 3, 3)
    with pytest.raises(InputError, match="different compositions"):
        join_runs([first, CrystalEnsemble.of([rock_salt()])])
    with pytest.raises(InputError, match="leave the topology"):
        load_runs(tmp_path / "first", "a.pdb")


def test_rejected_structures_come_back_with_their_cells(tmp_path):
    near = Structure(numbers=np.array([6, 6]), frac=np.array([[0, 0, 0], [0.01] * 3]), cell=diamond().cell)
    ensemble = CrystalEnsemble.of([diamond(), near])
    again = CrystalEnsemble.read(ensemble.save(tmp_path, formats=("extxyz",)))
    assert np.allclose(again.rejected_cells, ensemble.rejected_cells, atol=1e-6)
    assert again.rejected_reasons == ensemble.rejected_reasons
