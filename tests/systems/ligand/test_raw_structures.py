"""Structure files as they come: crops of entries of the PDB, and the oddities of programs that write such files. Numbers of atoms are counted in the files."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_pocket import pocket_pdb

from equilibra.energies.docking import read_receptor
from equilibra.energies.docking.receptor import type_receptor
from equilibra.energies.docking.structure_file import read_structure_atoms
from equilibra.errors import InputError
from equilibra.systems.ligand.files import receptor_pdb
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.pocket import box_of_residues
from equilibra.systems.ligand.receptor import read_receptor_file
from equilibra.systems.ligand.residues import kinds_of

STRUCTURES = Path(__file__).parent / "structures"
LIGAND = "CC(=O)NC"


def words(ready):
    return " | ".join((*ready.notes, *ready.warnings))


def line(
    name="CA",
    residue="GLY",
    chain="A",
    number="   1 ",
    x=(0.0, 0.0, 0.0),
    *,
    location=" ",
    occupancy=1.0,
    element=" C",
    segment="    ",
):
    """A line of a PDB file; the residue's number has five columns, with the insertion code."""
    place = "".join(f"{value:8.3f}" for value in x)
    return f"ATOM      1 {f' {name}':<4s}{location}{residue:>3s} {chain}{number}   {place}{occupancy:6.2f}  0.00      {segment}{element}"


def structure(folder, *lines, name="raw.pdb"):
    path = folder / name
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def test_two_kinds_of_side_chain_in_one_place():
    ready = read_receptor_file(STRUCTURES / "1ejg.pdb")
    names = list(dict.fromkeys(map(str, ready.receptor.atoms.residues)))
    assert names == [
        f"A:{name}" for name in ("PRO19", "GLY20", "THR21", "PRO22", "GLU23", "ALA24", "LEU25", "CYS26", "ALA27", "THR28")
    ]
    assert "A:PRO22 (A PRO, not B SER, C SER)" in words(ready)
    assert "A:LEU25 (A LEU, not B ILE, C ILE)" in words(ready)
    assert "lack" not in words(ready)
    assert "break" not in words(ready)
    assert len(ready.receptor.heavy) == 7 + 4 + 7 + 7 + 9 + 5 + 8 + 6 + 5 + 7


def test_the_most_occupied_of_three_residues_in_an_mmcif_file():
    ready = read_receptor_file(STRUCTURES / "3jqh.cif")
    atoms = ready.receptor.atoms
    assert len(atoms.elements) == 185
    assert {residue.name for residue in atoms.residues if residue.number == "15"} == {"ARG"}
    assert sum(residue.number == "15" for residue in atoms.residues) == 11
    assert "A:ARG15 (A ARG, not B GLN, C GLU)" in words(ready)
    assert "21 waters, left out" in words(ready)
    assert "23 residues in 1 chain (A)" in words(ready)


def test_inserted_residues_a_metal_and_a_ligand_that_is_bonded_to_the_receptor():
    path = STRUCTURES / "1gbt.cif.gz"
    whole = read_receptor_file(path)
    assert len(whole.receptor.atoms.elements) == 248
    assert "4 residues with insertion codes: A:ARG65A, A:TYR184A, A:LYS188A, A:GLN221A" in words(whole)
    assert "metals kept: 1 Ca" in words(whole)
    (system,) = ligand_systems(LigandInput(receptor=path, ligand=LIGAND, reference="GBS", conformers=1))
    told = " | ".join((*system.notes, *system.warnings))
    assert "left out A:GBS704: the reference ligand" in told
    assert "A:GBS704:CD of the molecule that was left out is bonded to A:SER195:OG of the receptor" in told
    assert len(system.receptor.atoms.elements) == 248 - sum(residue.name == "GBS" for residue in whole.receptor.atoms.residues)
    by_residue = box_of_residues(whole.receptor, ["A:184A"])
    assert not np.allclose(by_residue.centre, box_of_residues(whole.receptor, ["A:221A"]).centre)


def test_a_haem_is_a_molecule_with_a_metal_and_can_be_the_reference():
    path = STRUCTURES / "19hc.pdb"
    ready = read_receptor_file(path)
    assert "other molecules kept as part of the receptor: A:HEM301, A:HEM302, A:HEM303" in words(ready)
    assert "metals kept: 3 Fe" in words(ready)
    assert "1 residue with atoms of occupancy zero, which were modelled without being seen: A:ILE14" in words(ready)
    assert "A:SER58 (A, not B)" in words(ready)
    atoms = ready.receptor.atoms
    types = dict(zip(map(ready.receptor.label, range(len(ready.receptor.types))), ready.receptor.types, strict=True))
    assert {types[f"A:HEM301:{name}"] for name in ("NA", "NB", "NC", "ND", "O1A", "O2D")} == {"N_A", "O_A"}
    assert types["A:HEM301:FE"] == "Met_D"
    (system,) = ligand_systems(LigandInput(receptor=path, ligand=LIGAND, reference="A:HEM301", conformers=1))
    assert len(system.receptor.atoms.elements) == len(atoms.elements) - 43
    assert sum("is bonded to A:CYS" in warning for warning in system.warnings) == 2
    (system,) = ligand_systems(LigandInput(receptor=path, ligand=LIGAND, reference="HEM", conformers=1))
    assert any("the first 'HEM' of 3; name another in full, such as A:HEM302" in note for note in system.notes)


def test_nucleotides_are_typed_by_name_as_their_hydrogens_type_them():
    whole = read_receptor_file(STRUCTURES / "1lcd.pdb")
    assert "2 models, of which the first was read" in words(whole)
    assert "8 nucleotides kept as part of the receptor: B:DT4, B:DG5, B:DT6, B:DG7 and 4 more" in words(whole)
    assert "3 residues in 1 chain (A)" in words(whole)
    atoms = whole.receptor.atoms
    heavy = type_receptor(atoms.some(whole.receptor.heavy.tolist()))
    chain = [i for i, atom in enumerate(whole.receptor.heavy.tolist()) if atoms.residues[atom].chain == "B"]
    assert {name for i in chain for name in [atoms.residues[int(whole.receptor.heavy[i])].name]} == {"DA", "DC", "DG", "DT"}
    # the hydroxyl at the end of the crop, where something follows in the entry, has no hydrogen
    assert {whole.receptor.label(i) for i in chain if heavy.types[i] != whole.receptor.types[i]} <= {"B:DT4:O5'"}


def test_a_gap_and_an_element_without_a_type():
    path = STRUCTURES / "1bhl.pdb"
    whole = read_receptor_file(path)
    assert any("no type for A:CAS65:AS (As): left out; a box within 8 Å of it is refused" in one for one in whole.warnings)
    with pytest.raises(
        InputError, match=r"1bhl\.pdb': receptor, near the ligand: the docking score has no type for A:CAS65:AS \(As\)"
    ) as raised:
        ligand_systems(LigandInput(receptor=path, ligand=LIGAND, residues=["A:65"], conformers=1))
    assert "\n" not in str(raised.value)
    # the carbon of the cysteine's arsenic is no carbon among carbons: nor is any next to sulphur
    types = dict(zip(map(whole.receptor.label, range(len(whole.receptor.types))), whole.receptor.types, strict=True))
    assert types["A:CAS65:AS"] == ""
    assert types["A:CAS65:CE1"] == types["A:CAS65:CE2"] == "C_P"
    kinds = kinds_of(read_structure_atoms(path))
    assert [str(residue) for residue in kinds.modified] == ["A:CAS65"]
    assert [(one.number, two.number) for one, two in kinds.breaks] == [("70", "136"), ("137", "154")]


def test_elements_come_from_names_where_columns_are_empty(tmp_path):
    rows = [text[:76].rstrip() for text in (STRUCTURES / "19hc.pdb").read_text().splitlines()[:-1]]
    told = read_structure_atoms(STRUCTURES / "19hc.pdb")
    guessed = read_structure_atoms(structure(tmp_path, *rows))
    assert guessed.elements == told.elements
    assert any(f"elements of {len(rows)} atoms were found by their names" in note for note in guessed.notes)
    # names at the left, and the line numbers of old files
    ion = "HETATM    1 CA    CA A   1       0.000   0.000   0.000  1.00  0.00      1ABC1234"
    alpha = "ATOM      1 CA   GLY A   2       9.000   0.000   0.000  1.00  0.00      1ABC1235"
    assert read_structure_atoms(structure(tmp_path, ion, alpha)).elements == ("Ca", "C")


def test_the_mean_occupancy_decides_and_what_a_location_lacks_comes_from_the_next(tmp_path):
    rows = [
        line("CB", "SER", location="A", occupancy=0.6),
        line("CB", "SER", x=(0, 0, 1), location="B", occupancy=0.4),
        line("OG", "SER", x=(0, 0, 2), location="B", occupancy=0.4, element=" O"),
        line("HG", "SER", x=(0, 0, 3), location="B", occupancy=0.4, element=" H"),
        # the first location without a letter, and a water that has its number by chance
        line("CB", "ALA", number="   2 ", x=(9, 0, 0), occupancy=0.3),
        line("CB", "ALA", number="   2 ", x=(9, 0, 1), location="B", occupancy=0.7),
        line("O", "HOH", number="   2 ", x=(5, 0, 0), element=" O"),
    ]
    atoms = read_structure_atoms(structure(tmp_path, *rows))
    assert atoms.positions[:, [0, 2]].tolist() == [[0, 0], [0, 2], [0, 3], [9, 1], [5, 0]]
    assert [str(each) for each in atoms.alternates] == ["A:SER1 (A, not B)", "A:ALA2 (B, not blank)"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (["MODEL        1"], ["MODEL        2"], "2 models, of which the first was read"),  # no ENDMDL
        (["MODEL        1"], ["ENDMDL", "MODEL        2"], "2 models, of which the first was read"),
        ([], ["END"], "1 atoms after the END in line 2 were left out"),
        (["TER"], ["TER"], ""),
    ],
)
def test_where_a_model_ends(tmp_path, before, after, said):
    path = structure(tmp_path, *before, line(), *after, line(x=(9.0, 0, 0), number="   2 "))
    atoms = read_structure_atoms(path)
    assert len(atoms.elements) == (1 if said else 2)
    told = " | ".join((*atoms.notes, *atoms.warnings))
    assert re.sub(r"line \d+", "line 2", told).startswith(said) if said else not told


def test_serial_and_residue_numbers_that_ran_out_of_columns(tmp_path):
    rows = [
        line(number=" 999 "),
        line(number="A000 ", x=(4, 0, 0)).replace("ATOM      1", "ATOM  *****"),
        line(number="  -3A", x=(8, 0, 0)).replace("ATOM      1", "ATOM  186a0"),
    ]
    atoms = read_structure_atoms(structure(tmp_path, *rows))
    assert [residue.number for residue in atoms.residues] == ["999", "10000", "-3A"]
    again = receptor_pdb(type_receptor(atoms))
    assert read_structure_atoms(structure(tmp_path, again)).residues == atoms.residues


def test_long_names_of_chains_and_residues_survive_in_files(tmp_path):
    lines = gzip.decompress((STRUCTURES / "1gbt.cif.gz").read_bytes()).decode().splitlines()
    tags = [text for text in lines if text.startswith("_atom_site.")]
    rows = [text.split() for text in lines if text.startswith(("ATOM", "HETATM"))]
    chain = tags.index("_atom_site.auth_asym_id")
    twice = [" ".join([*row[:chain], name, *row[chain + 1 :]]) for name in ("AA", "AB") for row in rows]
    path = tmp_path / "long.cif"
    path.write_text("\n".join(["data_long", "loop_", *tags, *twice, "#", ""]))
    atoms = read_structure_atoms(path)
    assert {residue.chain for residue in atoms.residues} == {"AA", "AB"}
    text = receptor_pdb(type_receptor(atoms))
    assert "CHAIN AA IS WRITTEN AS A" in text
    back = read_structure_atoms(structure(tmp_path, text))
    assert len(back.elements) == len(atoms.elements)
    assert {residue.chain for residue in back.residues} == {"A", "B"}
    assert np.allclose(back.positions, atoms.positions, atol=1e-3)
    # residues with four letters, and chains with two, share a column
    rows = [
        line("O", "TIP", number="   1 ", element=" O").replace("TIP A", "TIP3A"),
        line("C1", "POP", number="   2 ", x=(5, 0, 0)).replace("POP A", "POPCA"),
        line("CA", "GLY", number="   3 ", x=(9, 0, 0)).replace("GLY A", "GLYAB"),
        line("CA", "HIS", number="   4 ", x=(9, 5, 0)).replace("HIS A", "HISEA"),
    ]
    names = read_structure_atoms(structure(tmp_path, *rows)).residues
    assert [(residue.chain, residue.name) for residue in names] == [("A", "TIP3"), ("A", "POPC"), ("AB", "GLY"), ("A", "HIS")]


def test_chains_without_a_name_and_copies_under_one_name_are_told_apart(tmp_path):
    segments = [line(chain=" ", segment="PROA"), line(chain=" ", segment="PROB", x=(9, 0, 0))]
    assert [residue.chain for residue in read_structure_atoms(structure(tmp_path, *segments)).residues] == ["PROA", "PROB"]
    copies = [
        line(),
        line("CA", "ALA", number="   2 ", x=(4, 0, 0)),
        line(x=(9, 0, 0)),
        line("CA", "ALA", number="   2 ", x=(9, 4, 0)),
    ]
    atoms = read_structure_atoms(structure(tmp_path, *copies))
    assert [str(residue) for residue in atoms.residues] == ["A:GLY1", "A:ALA2", "A#2:GLY1", "A#2:ALA2"]
    assert any("A as A#2" in note for note in atoms.notes)
    # the same atom again is none
    again = read_structure_atoms(structure(tmp_path, line(), line(x=(0.1, 0, 0))))
    assert len(again.elements) == 1
    assert "1 atoms are there twice" in again.warnings[0]
    # atoms that a program did not number
    unnumbered = [line("C", "UNL", x=(1.5 * i, 0, 0)) for i in range(3)]
    assert len(read_structure_atoms(structure(tmp_path, *unnumbered)).elements) == 3


def test_dummy_atoms_and_deuterium(tmp_path):
    rows = [line(), line("N", "DUM", x=(20, 0, 0), number="   9 ", element=" N"), line("D1", x=(1, 0, 0), element=" D")]
    atoms = read_structure_atoms(structure(tmp_path, *rows))
    assert atoms.elements == ("C", "H")
    assert "1 dummy atoms (DUM), which mark a membrane, were left out" in atoms.notes


def test_a_modified_residue_is_no_ligand_and_a_free_amino_acid_is_one(tmp_path):
    def residue(name, number, x, last=False, kind="ATOM"):
        atoms = [("N", 0.0), ("CA", 1.45), ("C", 2.9), *([("OXT", 4.1)] if last else [])]
        return [line(atom, name, number=f"{number:4d} ", x=(x + at, 0, 0), element=f" {atom[0]}") for atom, at in atoms]

    rows = [
        *residue("GLY", 1, 0.0),
        *residue("CSO", 2, 4.2),
        *residue("ALA", 3, 8.4, last=True),
        *residue("GLU", 9, 30.0, last=True),
    ]
    atoms = read_structure_atoms(structure(tmp_path, *rows))
    kinds = kinds_of(atoms)
    assert [str(each) for each in kinds.modified] == ["A:CSO2"]
    assert [str(each) for each in kinds.others] == ["A:GLU9"]
    assert kinds.breaks == ()
    receptor = read_receptor(tmp_path / "raw.pdb")
    types = dict(zip(map(receptor.label, range(len(receptor.types))), receptor.types, strict=True))
    assert types["A:CSO2:N"] == "N_D"  # that of a peptide bond


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line()[:50]], r"raw\.pdb' line 1: got '' for the coordinates, expected a number in columns 31 to 54"),
        ([line(), line().replace("   0.000", "     nan", 1)], r"line 2: got 'nan' for the coordinates"),
        ([line(number="  x1 ")], r"line 1: got 'x1' for the residue's number, expected a whole number in columns 23 to 26"),
        ([line(number=f"{i:4d} ", x=(4.0 * i, 0, 0)) for i in range(9)], r"has only C-alpha atoms of 9 of its 9 amino acids"),
        ([line("O", "HOH", element=" O")], "nothing but water"),
        (
            [
                line("C1", "LIG", chain, x=(2.0 * i, 0.1 * k, 0), number=f"{i:4d} ")
                for k, chain in enumerate("AB")
                for i in range(20)
            ],
            r"20 pairs of heavy atoms on top of each other, such as A:LIG0:C1 and B:LIG0:C1; expected one structure",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path, lines, said):
    with pytest.raises(InputError, match=said) as raised:
        read_receptor_file(structure(tmp_path, *lines))
    assert "raw.pdb" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.pdb.gz", b"no gzip", "Not a gzipped file"),
        ("a.pdb.gz", gzip.compress(b"ATOM", mtime=0)[:12] + b"damaged damaged damaged", "cannot be read"),
        ("a.pdb.bz2", b"", r"expected a file that ends in \.pdb, \.ent, \.cif, \.mmcif, or these with \.gz"),
        ("a.cif", b"data_a\nloop_\n_atom_site.Cartn_x\n1.0\n", "lacks or spoils '_atom_site.Cartn_y'"),
        ("a.cif", b"data_a\n_atom_site.Cartn_x 1\ndata_b\n_atom_site.Cartn_x 1\n", "several structures"),
        ("a.cif", b"", "lacks or spoils"),
    ],
)
def test_files_that_are_no_structures(tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=said) as raised:
        read_receptor_file(path)
    assert name in str(raised.value)


def test_remarks_in_other_encodings_are_no_obstacle(tmp_path):
    path = tmp_path / "latin.pdb"
    path.write_bytes("REMARK  resolution 1.8 Å\n".encode("latin-1") + line().encode() + b"\r\nEND\r\n")
    assert read_structure_atoms(path).elements == ("C",)


def test_a_residue_without_its_chain_is_refused_where_several_have_it(tmp_path):
    second = [
        text[:21] + "B" + text[22:30] + f"{float(text[30:38]) + 40:8.3f}" + text[38:] for text in pocket_pdb().splitlines()[:-1]
    ]
    path = structure(tmp_path, *pocket_pdb().splitlines()[:-1], *second)
    receptor = read_receptor_file(path).receptor
    with pytest.raises(InputError, match="'ALA2' is in the chains A, B; name one of them, such as A:ALA2"):
        box_of_residues(receptor, ["ALA2"])
    assert abs(box_of_residues(receptor, ["B:ALA2"]).centre[0] - box_of_residues(receptor, ["A:2"]).centre[0] - 40) < 1e-6


def test_oxygens_without_hydrogens_are_told_by_their_bonds(tmp_path):
    def group(number, *atoms):
        return [
            line(name, "LIG", number=f"{number:4d} ", x=(20.0 * number + x, y, 0), element=f" {name[0]}")
            for name, x, y in atoms
        ]

    rows = [
        *group(1, ("C1", 0, 0), ("O1", 1.43, 0)),  # an alcohol
        *group(2, ("C1", 0, 0), ("O1", 1.22, 0)),  # a ketone
        *group(3, ("C1", 0, 0), ("O1", 1.25, 0), ("O2", -0.6, 1.1)),  # an acid
        *group(4, ("S1", 0, 0), ("O1", 1.5, 0)),  # a sulfate
        *group(5, ("C1", 0, 0), ("O1", 1.4, 0), ("C2", 2.1, 1.2)),  # an ether
        *group(6, ("C1", 0, 0), ("N1", 1.4, 0)),  # unknown
    ]
    receptor = read_receptor(structure(tmp_path, *rows))
    types = {receptor.label(i): name for i, name in enumerate(receptor.types) if receptor.label(i)[-2] in "NO"}
    assert types == {
        "A:LIG1:O1": "O_DA",
        "A:LIG2:O1": "O_A",
        "A:LIG3:O1": "O_A",
        "A:LIG3:O2": "O_A",
        "A:LIG4:O1": "O_A",
        "A:LIG5:O1": "O_A",
        "A:LIG6:N1": "",
    }
    assert "nothing tells which nitrogens or oxygens of A:LIG6 carry hydrogens" in words(
        read_receptor_file(tmp_path / "raw.pdb")
    )
    assert receptor.positions.dtype == torch.float64
