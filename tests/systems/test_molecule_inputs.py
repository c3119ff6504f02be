"""Inputs that cannot be used: the messages say what came, what was expected and what to do."""

import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor

from equilibra.errors import InputError
from equilibra.systems.molecule import molecule_system, molecule_systems
from equilibra.systems.molecule.files import write_frames


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ACE-ALX-NME", "peptide 'ACE-ALX-NME': unknown residue 'ALX'; did you mean"),
        ("ALA-ACE", "ACE is allowed only first"),
        ("ALA", "a single amino acid needs caps"),
        ("CCC(", "neither a file, nor a peptide's name .* nor a valid SMILES"),
        ("C(C)(C)(C)(C)C", "Explicit valence for atom # 0 C, 5, is greater than permitted"),
        ("n1cccc1", "Can't kekulize"),
        ("CC(N)C(=O)O", "stereochemistry is not specified at centre C2"),
        ("CC=CC(F)Cl", "not specified at centre C4, double bond C2=C3"),
        ("CC1CCC(C)CC1", "not specified at centre C2, centre C5"),
        ("[Na+].[Cl-]", "2 separate fragments"),
        ("CC(=O)O.CN", "2 separate fragments"),
        ("[He]", "got 1 atom, expected at least 2"),
        ("*CC", "dummy atom"),
        ("", "empty text"),
        ("nowhere.pdb", "no such file: 'nowhere.pdb'"),
        ("nowhere.sdf", "no such file"),
        (7, "got int, expected a peptide's name"),
    ],
)
def test_bad_sources(source, message):
    with pytest.raises(InputError, match=message) as caught:
        molecule_system(source)
    assert caught.value.exit_code == 2


def test_a_folder_and_an_unknown_suffix(tmp_path):
    with pytest.raises(InputError, match="is a folder; expected a file"):
        molecule_system(tmp_path)
    (tmp_path / "x.doc").write_text("hello")
    with pytest.raises(InputError, match=r"unknown kind of file; expected one that ends in \.sdf"):
        molecule_system(tmp_path / "x.doc")


def test_binary_and_empty_files(tmp_path):
    (tmp_path / "x.sdf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        molecule_system(tmp_path / "x.sdf")
    (tmp_path / "y.sdf").write_text("\n")
    with pytest.raises(InputError, match="holds no record"):
        molecule_system(tmp_path / "y.sdf")
    (tmp_path / "z.smi").write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no SMILES"):
        molecule_systems(tmp_path / "z.smi")


@pytest.mark.parametrize("text", ["", "HELLO WORLD\n", "ATOM      1  N   ALA A   x\n"])
def test_malformed_pdb(tmp_path, text):
    (tmp_path / "bad.pdb").write_text(text)
    with pytest.raises(InputError, match="is not a well-formed PDB file"):
        molecule_system(tmp_path / "bad.pdb")


def _pdb_lines(tmp_path, name):
    system = molecule_system(name)
    write_frames(tmp_path / "good.pdb", system.reference[None], system)
    return (tmp_path / "good.pdb").read_text().splitlines(keepends=True)


def test_a_pdb_without_hydrogens(tmp_path):
    lines = _pdb_lines(tmp_path, "ACE-ALA-NME")
    (tmp_path / "bare.pdb").write_text("".join(line for line in lines if line[76:78].strip() != "H"))
    with pytest.raises(InputError, match="no hydrogen atoms; every atom is needed"):
        molecule_system(tmp_path / "bare.pdb")


@pytest.mark.parametrize("atom", ["HA", "HB1", "H"])
def test_a_pdb_that_lacks_one_hydrogen(tmp_path, atom):
    lines = _pdb_lines(tmp_path, "ACE-ALA-NME")
    kept = [line for line in lines if not (line[12:16].strip() == atom and line[17:20] == "ALA")]
    assert len(kept) == len(lines) - 1
    (tmp_path / "one.pdb").write_text("".join(kept))
    with pytest.raises(InputError, match=r"of residue ALA2 has . bonds.*hydrogens are missing"):
        molecule_system(tmp_path / "one.pdb")


def test_a_pdb_of_two_molecules(tmp_path):
    lines = _pdb_lines(tmp_path, "ACE-ALA-NME")
    water = [
        "HETATM   23  O   HOH B   4      20.000  20.000  20.000  1.00  0.00           O\n",
        "HETATM   24  H1  HOH B   4      20.960  20.000  20.000  1.00  0.00           H\n",
        "HETATM   25  H2  HOH B   4      19.760  20.930  20.000  1.00  0.00           H\n",
    ]
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM", "TER"))]
    (tmp_path / "wet.pdb").write_text("".join([*atoms, *water, "END\n"]))
    with pytest.raises(InputError, match="2 separate fragments, expected one molecule; remove salts, waters"):
        molecule_system(tmp_path / "wet.pdb")


def test_an_sdf_without_hydrogens_or_with_a_drawing(tmp_path):
    system = molecule_system("CCO")
    (tmp_path / "bare.sdf").write_text(Chem.MolToMolBlock(Chem.RemoveHs(system.mol)))
    with pytest.raises(InputError, match="6 hydrogens are missing"):
        molecule_system(tmp_path / "bare.sdf")
    drawing = Chem.MolFromSmiles("CCO")
    rdDepictor.Compute2DCoords(drawing)
    (tmp_path / "flat.sdf").write_text(Chem.MolToMolBlock(drawing))
    with pytest.raises(InputError, match="coordinates are two-dimensional"):
        molecule_system(tmp_path / "flat.sdf")


def test_when_every_record_is_bad_the_errors_are_listed(tmp_path):
    (tmp_path / "bad.sdf").write_text("a\n\n\nx\n$$$$\nb\n\n\ny\n$$$$\n")
    with pytest.raises(InputError, match=r"record 1: malformed.*record 2: malformed"):
        molecule_systems(tmp_path / "bad.sdf")


def test_a_record_with_impossible_chemistry_is_named(tmp_path):
    block = Chem.MolToMolBlock(molecule_system("CC").mol).replace("  1  2  1  0", "  1  2  3  0")
    (tmp_path / "bad.sdf").write_text(block + "$$$$\n")
    with pytest.raises(InputError, match="record 1: bad: the chemistry does not add up"):
        molecule_system(tmp_path / "bad.sdf")
