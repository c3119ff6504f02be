"""Types, rotatable bonds and moving pairs of ligands; types of receptors from files."""

import gzip
import io

import numpy as np
import openmm.app
import pytest
import torch
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdDistGeom, rdMolTransforms
from small_pocket import POCKET, molecule

from equilibra.energies.docking import (
    Box,
    DockingEnergy,
    docking_ligand,
    ligand_positions,
    read_receptor,
    receptor_pdbqt,
    rotatable_bonds,
)
from equilibra.errors import InputError


@pytest.mark.parametrize(
    ("smiles", "types"),
    [
        ("CCO", "C_H C_P O_DA"),
        ("COC", "C_P O_A C_P"),
        ("CC(C)=O", "C_H C_P C_H O_A"),
        ("c1ccncc1", "C_H C_H C_P N_A C_P C_H"),
        ("c1cc[nH]c1", "C_H C_H C_P N_D C_P"),
        ("Cn1cccc1", "C_P N_P C_P C_H C_H C_P"),
        ("Nc1ccccc1", "N_D C_P C_H C_H C_H C_H C_H"),
        ("CN", "C_P N_DA"),
        ("CN(C)C", "C_P N_A C_P C_P"),
        ("C[NH3+]", "C_P N_D"),
        ("C[N+](C)(C)C", "C_P N_P C_P C_P C_P"),
        ("CC(N)=O", "C_H C_P N_D O_A"),
        ("CC(=O)N(C)C", "C_H C_P O_A N_P C_P C_P"),
        ("CS(N)(=O)=O", "C_P S_P N_DA O_A O_A"),
        ("CC#N", "C_H C_P N_A"),
        ("C[N+](=O)[O-]", "C_P N_P O_A O_A"),
        ("CC(=O)[O-]", "C_H C_P O_A O_A"),
        ("CSC(F)(Cl)C(Br)I", "C_P S_P C_P F_H Cl_H C_P Br_H I_H"),
        ("CP(C)C", "C_P P_P C_P C_P"),
        ("C[Si](C)(C)C", "C_P Si C_P C_P C_P"),
        ("C[Se]C", "C_P S_P C_P"),
        ("CNN=NC", "C_P N_D N_A N_A C_P"),
    ],
)
def test_types_of_ligands(smiles, types):
    assert docking_ligand(molecule(smiles)).types == tuple(types.split())
    # hydrogens that are no atoms count as well
    assert docking_ligand(Chem.MolFromSmiles(smiles)).types == tuple(types.split())


@pytest.mark.parametrize(
    ("smiles", "bonds", "n_rot"),
    [
        ("CCCC", {(1, 2)}, 1.0),
        ("c1ccccc1-c1ccccc1", {(5, 6)}, 1.0),
        ("CCO", {(1, 2)}, 0.5),
        ("OCCO", {(0, 1), (1, 2), (2, 3)}, 2.0),
        ("FC(F)(F)CC", {(1, 4)}, 1.0),
        ("CCNC(C)=O", {(1, 2)}, 1.0),
        ("CCN(CC)C(C)=O", {(1, 2), (2, 3)}, 2.0),
        ("CCN(C)C(C)=O", {(1, 2), (2, 4)}, 2.0),
        ("CCC#CCC", {(2, 3)}, 1.0),
        ("CCC#N", set(), 0.0),
        ("CC(C)C#C", set(), 0.0),
        ("C1CCCCCCC1", set(), 0.0),
        ("CCOCC", {(1, 2), (2, 3)}, 2.0),
        ("CCC(N)=N", {(1, 2)}, 1.0),
    ],
)
def test_rotatable_bonds(smiles, bonds, n_rot):
    assert set(rotatable_bonds(molecule(smiles))) == bonds
    assert docking_ligand(molecule(smiles)).n_rot == n_rot


@pytest.mark.parametrize(
    "smiles",
    ["CCOCC(=O)NCc1ccccc1", "OC(CCN)C1CC1C(F)(F)F", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CCN(C)C(=O)C1CCN(CC1)S(=O)(=O)c1ccncc1"],
)
def test_pairs_are_those_whose_distance_changes_when_bonds_turn(smiles):
    mol = molecule(smiles)
    rdDistGeom.EmbedMolecule(mol, randomSeed=2)
    ligand = docking_ligand(mol)
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(6):
        conformer = Chem.Mol(mol).GetConformer()
        for j, k in ligand.rotatable:
            dihedral = beyond(mol, j, k), j, k, beyond(mol, k, j)
            rdMolTransforms.SetDihedralDeg(conformer, *dihedral, float(rng.uniform(-180, 180)))
        x = conformer.GetPositions()[ligand.heavy.numpy()]
        seen.append(np.linalg.norm(x[:, None] - x[None], axis=2))
    moves = np.ptp(np.stack(seen), axis=0) > 1e-6
    heavy = ligand.heavy.numpy()
    apart = Chem.GetDistanceMatrix(mol)[np.ix_(heavy, heavy)] > 3
    expected = np.stack(np.nonzero(np.triu(moves & apart)))
    assert np.array_equal(ligand.pairs.numpy(), expected)


def beyond(mol, atom, other):
    return next(each.GetIdx() for each in mol.GetAtomWithIdx(atom).GetNeighbors() if each.GetIdx() != other)


def test_bonds_that_rotate_can_be_given():
    mol = molecule("CCCCCC")
    assert docking_ligand(mol, rotatable=[]).pairs.shape == (2, 0)
    ligand = docking_ligand(mol, rotatable=[(2, 3)])
    assert ligand.n_rot == 1.0
    assert ligand.pairs.T.tolist() == [[0, 4], [0, 5], [1, 5]]
    with pytest.raises(InputError, match=r"\(0, 2\) is no bond"):
        docking_ligand(mol, rotatable=[(0, 2)])


@pytest.mark.parametrize(
    ("mol", "message"),
    [
        (None, "expected an RDKit molecule"),
        (Chem.MolFromSmiles("CC(=O)[O-].[Na+]"), "2 fragments of 4, 1 atoms"),
        (Chem.MolFromSmiles("C[As](C)C"), r"no type for atom 1 \(As\)"),
        (Chem.MolFromSmiles("*CC"), r"no type for atom 0 \(\*\)"),
        (Chem.MolFromSmiles("[H][H]"), "no heavy atom"),
    ],
)
def test_ligands_that_cannot_be_typed(mol, message):
    with pytest.raises(InputError, match=message):
        docking_ligand(mol)


def test_positions_of_ligands():
    mol = molecule("CCO")
    with pytest.raises(InputError, match="no 3-D coordinates"):
        ligand_positions(mol)
    flat = Chem.MolFromSmiles("CCO")
    rdDepictor.Compute2DCoords(flat)
    with pytest.raises(InputError, match="flat drawing"):
        ligand_positions(flat)
    rdDistGeom.EmbedMultipleConfs(mol, 3, randomSeed=0)
    x = ligand_positions(mol)
    assert x.shape == (3, 9, 3)
    assert np.array_equal(x[1].numpy(), mol.GetConformers()[1].GetPositions())
    mol.GetConformer().SetAtomPosition(0, [np.nan, 0.0, 0.0])
    with pytest.raises(InputError, match="not finite"):
        ligand_positions(mol)


# --- receptors -----------------------------------------------------------------------------------------------------------------------------------


def types_of(receptor):
    return {
        f"{receptor.atoms.residues[i].name}:{receptor.atoms.names[i]}": t
        for i, t in zip(receptor.heavy.tolist(), receptor.types, strict=True)
    }


def test_types_of_a_receptor_with_hydrogens(pocket):
    types = types_of(pocket)
    expected = {
        "HIS:ND1": "N_A", "HIS:NE2": "N_D", "HIS:CG": "C_P", "SER:N": "N_D", "SER:OG": "O_DA", "SER:CB": "C_P", "ASP:OD1": "O_A", "ASP:OD2": "O_DA",
        "TRP:NE1": "N_D", "TRP:CZ2": "C_H", "LYS:NZ": "N_DA", "LYS:CE": "C_P", "LYS:CD": "C_H", "MET:SD": "S_P", "MET:CG": "C_P", "PHE:CZ": "C_H", "TYR:OH": "O_DA",
        "CYS:SG": "S_P", "ASN:ND2": "N_D", "ASN:O": "O_A", "ZN:ZN": "Met_D", "NA:NA": "Met_D", "CL:CL": "Cl_H", "HOH:O": "O_DA",
    }  # fmt: skip
    assert {name: types[name] for name in expected} == expected


def test_types_without_hydrogens_come_from_names(pocket, tmp_path):
    path = tmp_path / "heavy.pdb"
    lines = (line for line in POCKET.read_text().splitlines() if line[76:78].strip() != "H")
    path.write_text("\n".join(lines))
    bare, full = types_of(read_receptor(path)), types_of(pocket)
    assert {name: (full[name], t) for name, t in bare.items() if full[name] != t} == {
        "HIS:N": ("N_DA", "N_D"),  # the neutral end of the chain
        "HIS:ND1": ("N_A", "N_DA"),
        "HIS:NE2": ("N_D", "N_DA"),
        "ASP:OD2": ("O_DA", "O_A"),
        "GLU:OE2": ("O_DA", "O_A"),
        "LYS:NZ": ("N_DA", "N_D"),
        "ARG:NH1": ("N_DA", "N_D"),
        "ASN:OXT": ("O_DA", "O_A"),
    }


ATOMS = """\
HETATM    1  C1  LIG A   1       0.000   0.000   0.000  1.00  0.00           C
HETATM    2  N1  LIG A   1       1.430   0.000   0.000  1.00  0.00           N
"""


def written(tmp_path, text, name="receptor.pdb"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_cofactor_without_hydrogens_is_refused_only_near_the_ligand(tmp_path):
    mol = molecule("CCO")
    rdDistGeom.EmbedMolecule(mol, randomSeed=0)
    protein = "ATOM      3  CA  GLY A   2      30.000   0.000   0.000  1.00  0.00           C\n"
    receptor = read_receptor(written(tmp_path, ATOMS + protein))
    assert receptor.types == ("C_P", "", "C_H")
    with pytest.raises(InputError, match=r"whether A:LIG1:N1, near the ligand, carry hydrogens"):
        DockingEnergy(receptor, docking_ligand(mol), Box((0.0, 0.0, 5.0), (8.0, 8.0, 8.0)))
    far = DockingEnergy(receptor, docking_ligand(mol), Box((34.0, 0.0, 0.0), (8.0, 8.0, 8.0)))
    x = ligand_positions(mol) + torch.tensor([36.0, 0.0, 0.0])
    assert float(far.score(x).inter) < 0
    # in a file with hydrogens their absence is meant
    hydrogen = "ATOM      4  HA2 GLY A   2      30.000   1.090   0.000  1.00  0.00           H\n"
    assert read_receptor(written(tmp_path, ATOMS + protein + hydrogen)).types == ("C_P", "N_A", "C_H")
    with pytest.raises(InputError, match="A:LIG1:N1 has no hydrogen"):
        receptor_pdbqt(receptor)


def test_metals_bind_what_is_in_front_of_them(tmp_path):
    text = """\
ATOM      1  CG  ASP A   1       0.000   0.000   0.000  1.00  0.00           C
ATOM      2  OD1 ASP A   1       1.250   0.000   0.000  1.00  0.00           O
HETATM    3 ZN    ZN A   2       2.100   1.300   0.000  1.00  0.00          ZN
ATOM      4  CA  GLY A   3       9.000   0.000   0.000  1.00  0.00           C
ATOM      5  HA2 GLY A   3       9.000   1.090   0.000  1.00  0.00           H
HETATM    6 CA    CA A   4      11.600   0.000   0.000  1.00  0.00          CA
"""
    # the zinc is 2.5 Å from carbon, the calcium 2.6 Å: but only the latter sees it
    assert read_receptor(written(tmp_path, text)).types == ("C_P", "O_A", "Met_D", "C_P", "Met_D")


def test_alternate_locations_models_and_insertion_codes(tmp_path):
    text = """\
MODEL        1
ATOM      1  N   SER A  10A      0.000   0.000   0.000  1.00  0.00           N
ATOM      2  CA ASER A  10A      1.450   0.000   0.000  0.40  0.00           C
ATOM      3  CA BSER A  10A      0.000   1.450   0.000  0.60  0.00           C
ATOM      4  C   SER A  10       0.000   0.000   9.000  1.00  0.00           C
ENDMDL
MODEL        2
ATOM      1  N   SER A  10A      5.000   0.000   0.000  1.00  0.00           N
ENDMDL
"""
    receptor = read_receptor(written(tmp_path, text))
    assert receptor.positions.tolist() == [[0.0, 0.0, 0.0], [0.0, 1.45, 0.0], [0.0, 0.0, 9.0]]
    assert [receptor.label(i) for i in range(3)] == ["A:SER10A:N", "A:SER10A:CA", "A:SER10:C"]


def test_mmcif_and_gzip_say_the_same(pocket, tmp_path):
    source = openmm.app.PDBFile(str(POCKET))
    cif = io.StringIO()
    openmm.app.PDBxFile.writeFile(source.topology, source.positions, cif)
    receptor = read_receptor(written(tmp_path, cif.getvalue(), "receptor.cif"))
    assert receptor.types == pocket.types
    assert torch.allclose(receptor.positions, pocket.positions, atol=1e-3)
    packed = tmp_path / "receptor.pdb.gz"
    packed.write_bytes(gzip.compress(POCKET.read_bytes()))
    assert read_receptor(packed).types == pocket.types


def test_waters_can_be_left_out(pocket):
    dry = read_receptor(POCKET, waters=False)
    assert len(dry.types) == len(pocket.types) - 2
    assert not any(residue.name == "HOH" for residue in dry.atoms.residues)


def test_pdbqt_has_polar_hydrogens_and_columns(pocket):
    lines = receptor_pdbqt(pocket).splitlines()
    kinds = [line[77:79].strip() for line in lines]
    assert {kind: kinds.count(kind) for kind in ("HD", "NA", "SA", "Zn", "Na", "Cl")} == {
        "HD": 33,
        "NA": 4,
        "SA": 2,
        "Zn": 1,
        "Na": 1,
        "Cl": 1,
    }
    assert "H" not in kinds
    assert [float(lines[0][i : i + 8]) for i in (30, 38, 46)] == pocket.positions[0].tolist()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "receptor.pdb", "has no atoms"),
        ("ATOM      1  H   GLY A   1       0.000   0.000   0.000  1.00  0.00           H\n", "receptor.pdb", "no heavy atom"),
        (
            "HETATM    1 XX   UNK A   1       0.000   0.000   0.000  1.00  0.00          Q9\n",
            "receptor.pdb",
            "line 1: got the element symbol 'Q9'",
        ),
        ("data_x\n", "receptor.cif", "cannot be read as mmCIF"),
        ("", "receptor.mol2", "expected a file that ends in .pdb"),
    ],
)
def test_receptors_that_cannot_be_read(text, name, message, tmp_path):
    with rdBase.BlockLogs(), pytest.raises(InputError, match=message):
        read_receptor(written(tmp_path, text, name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pdb"):
        read_receptor(tmp_path / "nowhere.pdb")
