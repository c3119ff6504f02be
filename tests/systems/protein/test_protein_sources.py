"""What proteins are read from: FASTA, PDB and mmCIF files, mdtraj objects and lists; and which residues of a file count."""

import gzip
import logging

import mdtraj
import numpy as np
import pytest
import structure_text
from structure_text import backbone, chain_lines, rich_structure

from equilibra.errors import InputError
from equilibra.systems.protein.sources import backbone_indices, common_structures, protein_system, protein_systems, structure


@pytest.fixture
def rich(tmp_path):
    text, wanted = rich_structure()
    (tmp_path / "rich.pdb").write_text(text)
    return tmp_path / "rich.pdb", wanted


def written(path, sequence, numbers=None, *, xyz=None, chain="A"):
    path.write_text(chain_lines(sequence, chain, backbone(sequence) if xyz is None else xyz, numbers) + "END\n")
    return path


def test_fasta_with_many_records(tmp_path):
    path = tmp_path / "many.fasta"
    path.write_text(">one first protein\nGAVL\nKKPP*\n\n>two\nGAB\n>three|x\r\nGAV:LKA\n>four\n>five\nGG\n")
    errors = []
    systems = protein_systems(path, on_error=errors.append)
    assert [(system.name, system.text) for system in systems] == [("one", "GAVLKKPP"), ("three|x", "GAV:LKA")]
    assert [str(error).split(": ", 1)[0] for error in errors] == [f"'{path}' record {n}" for n in (2, 4, 5)]
    assert "unknown residue 'B' at position 3" in str(errors[0])
    assert "no sequence" in str(errors[1])
    assert "got 2 residues" in str(errors[2])
    with pytest.raises(InputError, match="holds 5 proteins, expected one; use `protein_systems`"):
        protein_system(path)


def test_records_left_out_are_logged(tmp_path, caplog):
    (tmp_path / "x.fa").write_text(">one\nGAV\n>two\nGAZ\n")
    with caplog.at_level(logging.WARNING):
        assert len(protein_systems(tmp_path / "x.fa")) == 1
    assert "record 2: two: unknown residue 'Z'" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no record"),
        ("\n\n", "holds no record"),
        ("GAVL\n", "is no FASTA file: it begins with 'GAVL'"),
        (">x\nGAB\n", "unknown residue 'B'"),
    ],
)
def test_bad_fasta(tmp_path, text, message):
    (tmp_path / "x.fasta").write_text(text)
    with pytest.raises(InputError, match=message):
        protein_systems(tmp_path / "x.fasta")


def test_fasta_text_and_lists(tmp_path):
    assert protein_system(">a b\nGAVL").name == "a"
    (tmp_path / "x.fasta").write_text(">one\nGAV\n>two\nGAL\n")
    errors = []
    systems = protein_systems(["KKK", tmp_path / "x.fasta", "GAB", protein_system("VVV")], on_error=errors.append)
    assert [system.sequence for system in systems] == ["KKK", "GAV", "GAL", "VVV"]
    assert str(errors[0]).startswith("protein 3 of the list: GAB: unknown residue")


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.doc").write_text("hello")
    (tmp_path / "y.fasta").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "z.pdb").write_text("HELLO\n")
    (tmp_path / "w.cif").write_text("HELLO\n")
    for path, message in [
        (tmp_path, "is a folder; expected one that ends in .fasta"),
        (tmp_path / "x.doc", "unknown kind of file; expected one that ends in .fasta"),
        (tmp_path / "y.fasta", "cannot be read as text"),
        (tmp_path / "z.pdb", "is not a well-formed structure file: no ATOM"),
        (tmp_path / "w.cif", "is not a well-formed structure file"),
    ]:
        with pytest.raises(InputError, match=message.replace(".", r"\.")):
            protein_system(path)


def test_a_structure_with_everything(rich, caplog):
    path, wanted = rich
    with caplog.at_level(logging.WARNING):
        system, n, ca, c = structure(path)
    assert system.text == "GAMASVWX:ACD"
    assert system.name == "rich"
    assert system.chain_ids == ("A", "B")
    # the insertion moves what follows by one, the two missing residues leave a gap of three
    assert system.residue_numbers.tolist() == [10, 11, 12, 13, 14, 17, 18, 19, 1, 2, 3]
    assert np.flatnonzero(system.breaks).tolist() == [4, 7]
    assert np.abs(np.stack([n, ca, c], axis=1) - wanted).max() < 2e-3
    assert "A:LEU15 (no N)" in caplog.text
    assert protein_system(path) == system
    assert protein_system(path, chains="B").text == "ACD"
    with pytest.raises(InputError, match="got the chains C, expected some of its protein chains A, B"):
        protein_system(path, chains=["A", "C"])


def test_compressed_and_mmcif_files_are_the_same(rich, tmp_path):
    from Bio.PDB import MMCIFIO, PDBParser

    path, wanted = rich
    compressed = tmp_path / "again.pdb.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    assert protein_system(compressed) == protein_system(path)
    assert protein_system(compressed).name == "again"
    writer = MMCIFIO()
    writer.set_structure(PDBParser(QUIET=True).get_structure("", path))
    writer.save(str(tmp_path / "rich.cif"))
    system, n, ca, c = structure(tmp_path / "rich.cif")
    assert system == protein_system(path)
    assert system.residue_numbers.tolist() == protein_system(path).residue_numbers.tolist()
    assert np.abs(np.stack([n, ca, c], axis=1) - wanted).max() < 2e-3


def test_bonds_are_told_by_distance_and_not_by_numbers(tmp_path):
    far = backbone("GAVLK")
    far[3:] += 5.0
    system = protein_system(written(tmp_path / "far.pdb", "GAVLK", xyz=far))
    assert system.residue_numbers.tolist() == [1, 2, 3, 5, 6]
    system = protein_system(written(tmp_path / "jump.pdb", "GAVLK", [1, 2, 900, 901, 902]))
    assert system.residue_numbers.tolist() == [1, 2, 3, 4, 5]
    system = protein_system(written(tmp_path / "negative.pdb", "GAVLK", [-2, -1, 0, 1, 2]))
    assert system.residue_numbers.tolist() == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize("numbers", [(1, 2, 3, 4, 5), (1, 2, 5, 6, 7), (-2, -1, 0, 1, 2), (9998, 9999, 10000, 10001, 10002)])
def test_a_system_is_read_back_from_its_topology(tmp_path, numbers):
    from equilibra.systems.protein.system import ProteinSystem

    system = ProteinSystem.of_chains(["GAVLK", "AXG"], name="x", numbers=[np.array(numbers), np.array([7, 8, 9])])
    assert protein_system(system.topology) == system
    mdtraj.Trajectory(np.zeros((1, system.atoms, 3)), system.topology).save_pdb(str(tmp_path / "topology.pdb"))
    assert protein_system(mdtraj.load_topology(str(tmp_path / "topology.pdb"))) == system


def test_mdtraj_objects(rich, tmp_path):
    path, wanted = rich
    (tmp_path / "first.pdb").write_text(path.read_text().split("ENDMDL")[0] + "ENDMDL\n")
    trajectory = mdtraj.load(str(tmp_path / "first.pdb"))
    _, n, ca, c = structure(trajectory, protein_system(path))
    assert np.abs(np.stack([n, ca, c], axis=1) - wanted)[[0, 1, 2, 3, 4, 5, 8, 9, 10]].max() < 2e-3
    indices = backbone_indices(trajectory.topology)
    rows = [i for i, index in enumerate(indices) if trajectory.topology.atom(index[0]).residue.chain.index == 1][:3]
    assert np.abs(trajectory.xyz[0, indices[rows]] * 10 - wanted[-3:]).max() < 2e-3
    assert [trajectory.topology.atom(i).name for i in indices[0]] == ["N", "CA", "C"]
    assert protein_system(trajectory).name == "protein"


def test_a_trajectory_across_the_edge_of_its_cell(tmp_path):
    xyz = backbone("GAVLK")
    trajectory = mdtraj.load(str(written(tmp_path / "x.pdb", "GAVLK", xyz=xyz)))
    trajectory.unitcell_lengths, trajectory.unitcell_angles = np.full((1, 3), 4.0), np.full((1, 3), 90.0)
    trajectory.xyz[0, 9:] += np.array([4.0, 0.0, -4.0])
    assert not protein_system(trajectory).breaks.any()


def test_structures_without_a_protein(tmp_path):
    water = structure_text.line("O", "HOH", "A", 1, (0, 0, 0), record="HETATM")
    (tmp_path / "water.pdb").write_text(water)
    with pytest.raises(InputError, match=r"holds no protein residues \(found HOH\)"):
        protein_system(tmp_path / "water.pdb")
    traces = "".join(structure_text.line("CA", "ALA", "A", i, (3.8 * i, 0, 0)) for i in range(1, 5))
    (tmp_path / "trace.pdb").write_text(traces)
    with pytest.raises(InputError, match=r"no residue has N, CA and C \(4 amino acids lack C, N\)"):
        protein_system(tmp_path / "trace.pdb")
    with pytest.raises(InputError, match="no residue has N, CA and C"):
        backbone_indices(mdtraj.load_topology(str(tmp_path / "trace.pdb")))
    with pytest.raises(InputError, match="got 2 residues, expected at least 3"):
        protein_system(written(tmp_path / "short.pdb", "GA"))
    with pytest.raises(InputError, match="structure: got 'GAVLK', expected a file that ends in"):
        structure("GAVLK")


def test_a_structure_of_a_given_system(tmp_path):
    longer = written(tmp_path / "longer.pdb", "KKGAVLKK", range(21, 29))
    system = protein_system("GAVL")
    found = structure(longer, system)
    assert found.system is system
    assert np.abs(found.ca - backbone("KKGAVLKK")[2:6, 1]).max() < 1e-3
    with pytest.raises(InputError, match=r"does not hold the 4 residues of 'GAVK' \(chain A\); its chains: A with 8 residues"):
        structure(longer, protein_system("GAVK"))
    with pytest.raises(InputError, match=r"A:VAL3 \(V\) is L there, and 1 more differ"):
        structure(written(tmp_path / "other.pdb", "GALV"), system)
    with pytest.raises(InputError, match="holds fewer chains"):
        structure(longer, protein_system("GAVL:GAVL"))


def test_numbers_go_before_letters(tmp_path):
    from equilibra.systems.protein.system import ProteinSystem

    path = written(tmp_path / "x.pdb", "AAAAAAA", range(1, 8))
    system = ProteinSystem.of_chains(["AAA"], name="end", numbers=[np.array([5, 6, 7])])
    assert np.abs(structure(path, system).ca - backbone("AAAAAAA")[4:, 1]).max() < 1e-3


def test_two_states_on_their_common_residues(tmp_path, caplog):
    sequence = "GAVLKPWSTYRMDE"
    xyz = backbone(sequence)
    first = written(tmp_path / "one.pdb", sequence[1:], range(2, 15), xyz=xyz[1:])
    # the second lacks the end and a loop, is numbered otherwise and has a mutation
    kept = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12]
    second = written(
        tmp_path / "two.pdb", "".join(sequence[i] if i != 9 else "F" for i in kept), [i + 101 for i in kept], xyz=xyz[kept]
    )
    with caplog.at_level(logging.WARNING):
        one, two = common_structures([first, second])
    assert one.system is two.system
    assert one.system.name == "one-two"
    assert one.system.sequence == "AVLWSTYRMD"
    assert one.system.residue_numbers.tolist() == [2, 3, 4, 7, 8, 9, 10, 11, 12, 13]
    assert np.abs(one.ca - two.ca).max() < 1e-3
    assert "those of the first are taken: A:TYR10" in caplog.text
    with pytest.raises(InputError, match="are not of one protein"):
        common_structures([first, written(tmp_path / "three.pdb", "KKKKKKKKKKKK")])
    with pytest.raises(InputError, match="expected at least two"):
        common_structures([first])
