"""Molecules from names, SMILES and files, judged by RDKit."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdmolops

from equilibra.errors import InputError
from equilibra.geometry.internal_coordinates import dihedrals, signed_volumes
from equilibra.systems.molecule import featurise, molecule_system, molecule_systems
from equilibra.systems.molecule.files import write_frames

SMILES = [
    "CCO",
    "c1ccc2[nH]ccc2c1",
    "C[N+](C)(C)CC(=O)[O-]",
    "F/C=C/CCO",
    "F/C=C\\CCO",
    "C[C@H](N)C(=O)O",
    "C[C@@H](N)C(=O)O",
    "C[C@H]1CC[C@@H](C)CC1",
    "C[C@H]1CC[C@H](C)CC1",
    "O[C@H](C(=O)O)[C@@H](O)C(=O)O",
    "C[S@](=O)CC",
    "C/C(Cl)=C(/F)C[C@@H](O)C#N",
    "C[C@@H]1CC[C@H]2[C@@H]1CCC2",
    "C[C@H]([C@H](F)Cl)[C@@H](F)Cl",
]
PEPTIDES = {
    "ACE-ALA-NME": "CNC(=O)[C@H](C)NC(C)=O",
    "ACE-TRP-NME": "CNC(=O)[C@H](Cc1c[nH]c2ccccc12)NC(C)=O",
    "ACE-PRO-NME": "CNC(=O)[C@@H]1CCCN1C(C)=O",
    "ALA-GLY-SER": "C[C@H]([NH3+])C(=O)NCC(=O)N[C@@H](CO)C(=O)[O-]",
    "ACE-ARG-ASP-NME": "CNC(=O)[C@H](CC(=O)[O-])NC(=O)[C@H](CCCNC(N)=[NH2+])NC(C)=O",
    "ACE-HIS-MET-ILE-NME": "CC[C@H](C)[C@H](NC(=O)[C@H](CCSC)NC(=O)[C@H](Cc1cnc[nH]1)NC(C)=O)C(=O)NC",
}


def canonical(smiles):
    return Chem.CanonSmiles(smiles)


def smiles_of(system):
    return canonical(Chem.MolToSmiles(Chem.RemoveHs(system.mol)))


def labels_from_coordinates(mol):
    """CIP labels that RDKit finds from the coordinates alone."""
    copy = Chem.Mol(mol)
    Chem.RemoveStereochemistry(copy)
    Chem.AssignStereochemistryFrom3D(copy)
    rdmolops.AssignStereochemistry(copy, cleanIt=True, force=True)
    return {atom.GetIdx(): atom.GetProp("_CIPCode") for atom in copy.GetAtoms() if atom.HasProp("_CIPCode")}


@pytest.mark.parametrize("smiles", SMILES)
def test_smiles_become_the_same_molecule_with_the_same_stereochemistry(smiles):
    system = molecule_system(smiles)
    assert smiles_of(system) == canonical(smiles)
    mol = Chem.Mol(system.mol)
    Chem.RemoveStereochemistry(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    assert canonical(Chem.MolToSmiles(Chem.RemoveHs(mol))) == canonical(smiles)
    assert system.topology.n_atoms == system.atoms == len(system)
    assert system.topology.n_bonds == mol.GetNumBonds()
    np.testing.assert_array_equal(np.sign(signed_volumes(system.reference, system.stereo_centres)), system.stereo_signs)
    np.testing.assert_array_equal(np.sign(np.cos(dihedrals(system.reference, system.double_bonds))), system.double_bond_signs)


@pytest.mark.parametrize(("name", "smiles"), PEPTIDES.items())
def test_peptides_have_the_right_bonds_charges_and_l_centres(name, smiles):
    system = molecule_system(name)
    assert smiles_of(system) == canonical(smiles)
    assert [residue.name for residue in system.topology.residues] == name.split("-")
    assert set(labels_from_coordinates(system.mol).values()) <= {"S"} or "ILE" in name
    assert system.name == name


def test_alanine_dipeptide_is_described_in_full():
    system = molecule_system("ACE-ALA-NME")
    assert (system.atoms, len(system.stereo_centres), len(system.double_bonds)) == (22, 1, 0)
    carbonyls = [bond for bond in system.mol.GetBonds() if bond.GetBondTypeAsDouble() == 2.0]
    names = [atom.name for atom in system.topology.atoms]
    assert sorted((names[b.GetBeginAtomIdx()], names[b.GetEndAtomIdx()]) for b in carbonyls) == [("C", "O"), ("C", "O")]
    centre = system.stereo_centres[0]
    assert names[centre[0]] == "CA"
    assert {names[i] for i in centre[1:]} == {"N", "C", "CB"}
    assert "ACE-ALA-NME" in repr(system)


def test_bond_orders_agree_with_rdkits_residue_templates(tmp_path):
    system = molecule_system("ACE-ARG-ASN-GLN-TYR-PHE-TRP-NME")
    write_frames(tmp_path / "peptide.pdb", system.reference[None], system)
    judge = Chem.MolFromPDBFile(str(tmp_path / "peptide.pdb"), removeHs=False, sanitize=False)
    names = [(atom.residue.name, atom.name) for atom in system.topology.atoms]
    for bond in judge.GetBonds():
        pair = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        if names[pair[0]][0] == "ACE" and {names[i][1] for i in pair} == {"C", "O"}:
            continue  # RDKit's templates do not know the caps
        mine = system.mol.GetBondBetweenAtoms(*pair)
        assert mine is not None
        # aromatic rings have two Kekulé forms, and a guanidinium's double bond may be on either nitrogen
        if not mine.GetIsAromatic() and names[pair[0]][1] != "CZ":
            assert mine.GetBondTypeAsDouble() == bond.GetBondTypeAsDouble(), (names[pair[0]], names[pair[1]])


def test_mirror_images_are_different_systems():
    left, right = molecule_system("C[C@H](N)C(=O)O"), molecule_system("C[C@@H](N)C(=O)O")
    assert labels_from_coordinates(left.mol) != labels_from_coordinates(right.mol)
    np.testing.assert_array_equal(left.stereo_centres, right.stereo_centres)
    np.testing.assert_array_equal(left.stereo_signs, -right.stereo_signs)
    assert left != right
    assert left == molecule_system("C[C@H](N)C(=O)O")
    assert hash(left) == hash(molecule_system("C[C@H](N)C(=O)O"))


def test_d_alanine_in_a_pdb_is_read_from_its_coordinates(tmp_path):
    system = molecule_system("ACE-ALA-NME")
    mirrored = system.reference * [-1.0, 1.0, 1.0]
    write_frames(tmp_path / "d.pdb", mirrored[None], system)
    other = molecule_system(tmp_path / "d.pdb")
    assert set(labels_from_coordinates(system.mol).values()) == {"S"}
    assert set(labels_from_coordinates(other.mol).values()) == {"R"}
    np.testing.assert_array_equal(other.stereo_signs, -system.stereo_signs)
    assert other != system
    assert int(other.features.node["chirality"].max()) != int(system.features.node["chirality"].max())


def test_a_pdb_of_a_peptide_gives_the_system_of_its_name(tmp_path):
    folder = tmp_path / "a folder with spaces"
    system = molecule_system("ACE-SER-PRO-NME")
    write_frames(folder / "my peptide.pdb", system.reference[None], system)
    other = molecule_system(str(folder / "my peptide.pdb"))
    assert other == system
    assert other.name == "my peptide"


def test_a_pdb_of_an_unknown_residue_gets_its_bond_orders_from_the_coordinates(tmp_path):
    system = molecule_system("O=C(O)c1ccccc1")
    write_frames(tmp_path / "ligand.pdb", system.reference[None], system)
    assert smiles_of(molecule_system(tmp_path / "ligand.pdb")) == canonical("O=C(O)c1ccccc1")


def test_an_sdf_of_a_molecule_gives_the_system_of_its_smiles(tmp_path):
    system = molecule_system("C[C@H](N)C(=O)O")
    write_frames(tmp_path / "one.sdf", system.reference[None], system)
    other = molecule_system(tmp_path / "one.sdf")
    assert other == system
    assert other.name == system.name


def test_an_rdkit_molecule_is_taken_and_left_alone():
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)N"))
    system = molecule_system(mol)
    assert smiles_of(system) == canonical("CC(N)=O")
    assert mol.GetNumConformers() == 0
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    np.testing.assert_allclose(molecule_system(mol).reference, mol.GetConformer().GetPositions())


def test_a_smiles_that_looks_like_a_peptide_is_still_a_smiles():
    assert smiles_of(molecule_system("CCC-CCO")) == canonical("CCCCCO")


def test_several_records_are_read_and_a_bad_one_does_not_sink_the_others(tmp_path, caplog):
    first, second = molecule_system("CCO"), molecule_system("CC(=O)N")
    blocks = [Chem.MolToMolBlock(first.mol), "broken\n\n\n  nonsense\n", Chem.MolToMolBlock(second.mol)]
    (tmp_path / "three.sdf").write_text("$$$$\n".join(blocks) + "$$$$\n")
    problems = []
    systems = molecule_systems(tmp_path / "three.sdf", on_error=problems.append)
    assert systems == [first, second]
    assert [system.name for system in systems] == ["three-1", "three-3"]
    assert len(problems) == 1
    assert "record 2: malformed" in str(problems[0])
    molecule_systems(tmp_path / "three.sdf")
    assert "record 2: malformed" in caplog.text
    with pytest.raises(InputError, match="holds 3 molecules, expected one"):
        molecule_system(tmp_path / "three.sdf")


def test_a_file_of_smiles_is_read_line_by_line(tmp_path):
    (tmp_path / "many.smi").write_text("# comment\nCCO ethanol\n\nCC(N)C(=O)O alanine\nc1ccccc1\n")
    problems = []
    systems = molecule_systems(tmp_path / "many.smi", on_error=problems.append)
    assert [system.name for system in systems] == ["ethanol", "c1ccccc1"]
    assert "line 4" in str(problems[0])
    assert "stereochemistry is not specified at centre C2" in str(problems[0])


def test_the_same_smiles_gives_the_same_reference():
    np.testing.assert_array_equal(molecule_system("CCCCO").reference, molecule_system("CCCCO").reference)


def test_the_arrays_of_a_system_cannot_be_written_to():
    system = molecule_system("C[C@H](N)C(=O)O")
    for array in (system.reference, system.stereo_centres, system.stereo_signs, system.double_bonds):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_featurise_alone_gives_the_features_of_the_system():
    system = molecule_system("F/C=C/CCO")
    features = featurise(system.mol)
    assert all((features.node[name] == value).all() for name, value in system.features.node.items())
    assert all((features.pair[name] == value).all() for name, value in system.features.pair.items())
