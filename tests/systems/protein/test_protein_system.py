"""The protein's System: residues, chains, gaps, the written atoms and their topology, and the features of a network."""

import numpy as np
import pytest
import torch

from equilibra.errors import InputError, ShapeError
from equilibra.systems.protein.alphabet import ALPHABET, MODIFIED, THREE_LETTER, letter_of, residue_ids
from equilibra.systems.protein.featurise import NODE_VOCABULARY, OTHER_CHAIN, PAIR_VOCABULARY, featurise
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.protein.system import ProteinSystem, default_chain_ids

TRP_CAGE = "NLYIQWLKDGGPSSGRPPPS"


def gapped(numbers=(5, 6, 7, 10, 11), name="gapped"):
    return ProteinSystem.of_chains(["GAVLK"], name=name, numbers=[np.array(numbers)])


def test_the_alphabet():
    assert ALPHABET == "ARNDCQEGHILKMFPSTWYVX"
    assert len(set(ALPHABET)) == 21
    assert [letter_of(name) for name in ("ALA", "mse", "HSD", "CYX", "NGLY", "CHIE", "HOH", "CA", "UNK")] == [
        *"AMHCGH",
        None,
        None,
        None,
    ]
    assert all(parent in THREE_LETTER.values() for parent in MODIFIED.values())
    assert residue_ids("AVX").tolist() == [0, 19, 20]


def test_a_sequence_is_one_chain_numbered_from_one():
    system = protein_system(TRP_CAGE.lower())
    assert (system.name, system.sequence, system.chain_ids, system.length) == (TRP_CAGE, TRP_CAGE, ("A",), 20)
    assert system.residue_numbers.tolist() == list(range(1, 21))
    assert not system.breaks.any()
    assert system.atoms == 5 * 20 - 3


def test_written_atoms_and_topology():
    system = protein_system("GAX:GVKL")
    names = [atom.name for atom in system.topology.atoms]
    assert (
        names
        == ["N", "CA", "C", "O"] + ["N", "CA", "C", "O", "CB"] * 2 + ["N", "CA", "C", "O"] + ["N", "CA", "C", "O", "CB"] * 3
    )
    assert [residue.name for residue in system.topology.residues] == ["GLY", "ALA", "UNK", "GLY", "VAL", "LYS", "LEU"]
    assert [chain.chain_id for chain in system.topology.chains] == ["A", "B"]
    atom5 = np.arange(2 * 7 * 5 * 3, dtype=np.float64).reshape(2, 7, 5, 3)
    written = system.written(atom5)
    assert written.shape == (2, system.atoms, 3)
    assert torch.equal(system.written(torch.from_numpy(atom5)), torch.from_numpy(written))
    back = written[:, system.atom_index]
    assert np.array_equal(back[:, system.atom_mask], atom5[:, system.atom_mask])
    assert (system.atom_index[~system.atom_mask] == -1).all()
    assert (~system.atom_mask).sum() == 2
    for residue in system.topology.residues:
        assert all(system.atom_slots[atom.index] // 5 == residue.index for atom in residue.atoms)


def test_bonds_stop_at_breaks():
    system = ProteinSystem.of_chains(["AAAAA", "AAA"], name="x", numbers=[np.array([5, 6, 7, 10, 11]), np.array([12, 13, 14])])
    assert system.breaks.tolist() == [False, False, True, False, True, False, False]
    bonds = {(a.residue.index, b.residue.index) for a, b in system.topology.bonds if {a.name, b.name} == {"C", "N"}}
    assert bonds == {(0, 1), (1, 2), (3, 4), (5, 6), (6, 7)}
    assert system.topology.n_bonds == 8 * 4 + 5
    assert system.label(3) == "A:ALA10"
    assert system.text == "AAAAA:AAA"


def test_long_names_of_chains_leave_the_column_of_a_file_to_numbers():
    system = ProteinSystem.of_chains(["AAA", "AAA"], name="x", chain_ids=["AA", "AB"])
    assert [chain.chain_id for chain in system.topology.chains] == [None, None]
    assert default_chain_ids(28)[24:] == ["Y", "Z", "AA", "AB"]


def test_equality_is_that_of_residues_chains_gaps_and_features():
    system = gapped()
    assert system == gapped((105, 106, 107, 110, 111), "another name")
    assert hash(system) == hash(gapped(name="another name"))
    assert system != gapped((5, 6, 7, 9, 10))
    assert system != gapped((5, 6, 7, 8, 9))
    assert protein_system("GAVLKA") != protein_system("GAV:LKA")
    assert protein_system("GAVLKA") != protein_system("GAVLKV")
    extra = np.ones((5, 2))
    conditioned = system.with_extra(extra, None, provider="p", content="1")
    assert conditioned != system
    assert conditioned == system.with_extra(extra, None, provider="p", content="1")
    assert conditioned != system.with_extra(extra, None, provider="p", content="2")
    assert system != "GAVLK"
    assert len(system) == 5
    assert "provider='p'" in repr(conditioned)


def test_arrays_cannot_be_written_to():
    system = protein_system("GAV")
    with pytest.raises(ValueError, match="read-only"):
        system.residue_numbers[0] = 7


def test_features():
    system = ProteinSystem.of_chains(["GAV", "KL"], name="x", numbers=[np.array([3, 4, 60]), np.array([4, 5])])
    features = system.features
    assert features.node["residue"].tolist() == [7, 0, 19, 11, 10]
    offset = features.pair["offset"]
    assert offset.dtype == torch.uint8
    assert offset.tolist()[0] == [32, 33, 64, OTHER_CHAIN, OTHER_CHAIN]
    assert offset.tolist()[2] == [0, 0, 32, OTHER_CHAIN, OTHER_CHAIN]
    assert offset.tolist()[4] == [OTHER_CHAIN] * 3 + [31, 32]
    assert NODE_VOCABULARY == {"residue": 21}
    assert PAIR_VOCABULARY == {"offset": 66}
    assert set(features.node) == {"residue"}
    assert set(features.pair) == {"offset"}


def test_extra_features_are_copied_as_single_precision():
    node, pair = np.ones((3, 4), dtype=np.float16), np.ones((3, 3, 2))
    features = featurise("GAV", np.zeros(3, dtype=int), np.arange(3), node, pair)
    assert features.node["extra"].dtype == features.pair["extra"].dtype == torch.float32
    assert features.pair["extra"].shape == (3, 3, 2)
    node[:] = 0
    pair[:] = 0
    assert features.node["extra"].min() == features.pair["extra"].min() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chain_index": np.zeros(2)}, r"chain_index: got shape \(2,\), expected \(3,\)"),
        ({"node_extra": np.zeros((4, 5))}, r"node_extra: got shape \(4, 5\), expected \(3, width\)"),
        ({"pair_extra": np.zeros((3, 2, 5))}, r"pair_extra: got shape \(3, 2, 5\), expected \(3, 3, width\)"),
        ({"pair_extra": np.zeros((3, 3))}, r"pair_extra: got shape \(3, 3\)"),
    ],
)
def test_features_of_another_length(arguments, message):
    plain = {"chain_index": np.zeros(3, dtype=int), "residue_numbers": np.arange(3)}
    with pytest.raises(ShapeError, match=message):
        featurise("GAV", **{**plain, **arguments})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("NLYB", "NLYB: unknown residue 'B' at position 4; write D or N; allowed are the letters ARNDCQEGHILKMFPSTWYV, X for"),
        ("GAU", "'U' at position 3; write C for selenocysteine"),
        ("GAV:L1K", "chain 2: unknown residue '1' at position 2"),
        ("ACE-ALA-NME", "unknown residue '-' at position 4"),
        ("GAV::LKA", "chain 2: the chain is empty"),
        ("GA", "got 2 residues, expected at least 3"),
        ("", "got an empty text, expected a sequence"),
        ([], "got an empty list"),
        (7, "got int, expected a sequence of one-letter codes"),
        ("nowhere.fasta", "no such file: 'nowhere.fasta'"),
        ("nowhere.pdb", "no such file: 'nowhere.pdb'"),
        ("folder/nowhere", "no such file: 'folder/nowhere'"),
        ("notes.txt", "no such file: 'notes.txt'"),
    ],
)
def test_bad_sources(source, message):
    with pytest.raises(InputError, match=message) as caught:
        protein_system(source)
    assert caught.value.exit_code == 2
