import csv
import json

import numpy as np
import pytest
from known_crystals import diamond, graphite, poscar, rock_salt, triclinic, write_json

from equilibra.errors import InputError
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.files import ase_structures, cif_text, write_table

KNOWN = [diamond(), graphite(), rock_salt(), triclinic(4, 2)]


def same(found, known):
    assert len(found) == len(known)
    for a, b in zip(found, known, strict=True):
        a, b = a.ordered(), b.ordered()
        assert a.formula == b.formula
        assert a.volume == pytest.approx(b.volume, rel=1e-5)
        # the cell of a CIF is turned: the metric is what stays
        assert np.allclose(a.cell @ a.cell.T, b.cell @ b.cell.T, atol=1e-3)


def pymatgen_json(structure):
    from ase.data import chemical_symbols

    sites = [
        {"species": [{"element": chemical_symbols[z], "occu": 1}], "abc": x.tolist()}
        for z, x in zip(structure.numbers, structure.frac, strict=True)
    ]
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "lattice": {"matrix": structure.cell.tolist()},
        "sites": sites,
    }


def jarvis_json(structure):
    from ase.data import chemical_symbols

    return {
        "jid": structure.name,
        "atoms": {
            "lattice_mat": structure.cell.tolist(),
            "coords": structure.frac.tolist(),
            "elements": [chemical_symbols[z] for z in structure.numbers],
            "cartesian": False,
        },
    }


def test_json_of_every_kind(tmp_path):
    same(read_structures(write_json(tmp_path / "carbon.json.gz", KNOWN)), KNOWN)
    for name, make in (("pymatgen", pymatgen_json), ("jarvis", jarvis_json)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([make(structure) for structure in KNOWN]))
        same(read_structures(path), KNOWN)
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"material_id": "x-1", "structure": pymatgen_json(diamond()), "energy_per_atom": -9.1}))
    (found,) = read_structures(path)
    assert (found.name, found.energy) == ("x-1", -9.1)


def test_tables_as_cdvae_has_them(tmp_path):
    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["", "material_id", "cif", "energy_per_atom"])
        for i, item in enumerate(KNOWN):
            rows.writerow([i, f"id-{i}", cif_text(item.numbers, item.frac, item.right_handed().cell, item.name), -154.0 - i])
    found = read_structures(path)
    same(found, KNOWN)
    assert [item.name for item in found] == [f"id-{i}" for i in range(4)]
    assert [item.energy for item in found] == [-154.0, -155.0, -156.0, -157.0]
    same(read_structures(_written(tmp_path / "again.csv", found)), KNOWN)
    again = read_structures(_written(tmp_path / "again.extxyz", found))
    same(again, KNOWN)
    assert [(item.name, item.energy) for item in again] == [(item.name, item.energy) for item in found]
    path = tmp_path / "poscar.csv"
    path.write_text("id,poscar\n" + "".join(f"{i},{poscar(item)!r}\n".replace("'", "") for i, item in enumerate(KNOWN)))
    same(read_structures(path), KNOWN)


def _written(path, structures):
    write_table(path, structures)
    return path


def test_vasp_extxyz_database_and_cif(tmp_path):
    import ase.db
    import ase.io

    (tmp_path / "POSCAR").write_text(poscar(graphite()))
    same(read_structures(tmp_path / "POSCAR"), [graphite()])
    frames = [atoms for s in KNOWN for atoms in ase_structures(s.positions[None], s.cell[None], s.numbers)]
    with ase.db.connect(tmp_path / "known.db") as database:
        for atoms in frames:
            database.write(atoms)
    same(read_structures(tmp_path / "known.db"), KNOWN)
    ase.io.write(tmp_path / "known.extxyz", frames)
    same(read_structures(tmp_path / "known.extxyz"), KNOWN)
    ase.io.write(tmp_path / "known.cif", frames)
    same(read_structures(tmp_path / "known.cif"), KNOWN)
    assert len(read_structures(tmp_path)) == 13


def test_cartesian_and_scaled_poscar(tmp_path):
    item = triclinic(3, 5)
    scaled = ["x", "2.0", *(" ".join(map(str, row / 2)) for row in item.cell), "C", "3", "Selective", "Cartesian"]
    scaled += [" ".join(map(str, row / 2)) + " T T T" for row in item.positions]
    (tmp_path / "a.vasp").write_text("\n".join(scaled))
    (found,) = read_structures(tmp_path / "a.vasp")
    assert np.allclose(found.positions, item.positions)


def test_bad_records_are_told_and_the_rest_goes_on(tmp_path):
    records = {
        "good": poscar(diamond()),
        "flat": poscar(diamond()).replace("1.7835000000", "0.0000000000"),
        "nan": poscar(diamond()).replace("1.7835000000", "nan"),
        "alien": poscar(diamond()).replace("\nC\n", "\nXq\n"),
        "short": "\n".join(poscar(diamond()).splitlines()[:9]),
        "number": 5,
        "mixed": {**pymatgen_json(diamond()), "sites": [{"species": [{"element": "C", "occu": 0.5}], "abc": [0, 0, 0]}]},
    }
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(records))
    problems = []
    assert [item.name for item in read_structures(path, problems.append)] == ["good"]
    words = ["volume 0 Å³", "not finite", "'Xq'", "expected", "got int", "one element on each site"]
    assert len(problems) == len(words)
    for problem, word, name in zip(problems, words, list(records)[1:], strict=True):
        assert word in str(problem)
        assert f"'mixed.json', '{name}'" in str(problem)
    with pytest.raises(InputError, match="'flat'"):
        read_structures(path)
    path.write_text(json.dumps({"flat": records["flat"]}))
    with pytest.raises(InputError, match="none of its 1 records"):
        read_structures(path, problems.append)


@pytest.mark.parametrize("name", ["data.lmdb", "data.pkl", "data.pt", "data.pickle.gz"])
def test_pickles_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="hold pickles"):
        read_structures(tmp_path / name)


def test_what_is_no_file_of_structures_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "a.json").write_text("{")
    for path, words in (
        ("a.txt", "unknown format"),
        ("a.csv", "columns a, b"),
        ("a.json", "cannot be read"),
        ("none.cif", "no such"),
    ):
        with pytest.raises(InputError, match=words):
            read_structures(tmp_path / path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no file of structures"):
        read_structures(empty)
