"""All heavy atoms and hydrogens: the topology, the hands of stereocentres, and what engines leave alone."""

import importlib.util

import numpy as np
import pytest
import torch

from equilibra.errors import EquilibraError, InputError, MissingDependencyError, ShapeError
from equilibra.geometry import so3
from equilibra.systems.protein.all_atom import ENGINES, side_chain_engine
from equilibra.systems.protein.frames import atom5_of, extended_frames, written_atoms
from equilibra.systems.protein.peptides import all_atom_protein
from equilibra.systems.protein.relax import Relaxer
from equilibra.systems.protein.system import ProteinSystem


def backbone_of(system, seed=0, width=0.0):
    """An extended backbone (L, 5, 3) with some noise."""
    trans, rot = extended_frames(system)
    rng = np.random.default_rng(seed)
    trans = trans + width * torch.from_numpy(rng.normal(size=trans.shape))
    return atom5_of(written_atoms(trans.numpy(), rot.numpy(), system), system)[0].astype(np.float64)


@pytest.fixture(scope="module")
def system():
    """All amino acids, in two chains, the first with a gap."""
    numbers = [np.array([1, 2, 3, 4, 5, 9, 10, 11, 12, 13]), np.arange(1, 11)]
    return ProteinSystem.of_chains(["GAVLIPFYWS", "TCMNQDEKRH"], name="twenty", numbers=numbers)


@pytest.fixture(scope="module")
def protein(system):
    return all_atom_protein(system)


def test_pieces_are_chains_with_ends_of_their_own(system, protein):
    assert "".join(residue.name for residue in protein.topology.residues())[:9] == "GLYALAVAL"
    chains = [(chain.id, len(list(chain.residues()))) for chain in protein.topology.chains()]
    assert chains == [("A", 5), ("A", 5), ("B", 10)]
    assert [int(residue.id) for residue in protein.topology.residues()] == system.residue_numbers.tolist()
    starts, ends = protein.index("H2") >= 0, protein.index("OXT") >= 0
    assert np.flatnonzero(starts & (protein.index("H3") >= 0)).tolist() == [0, 5, 10]
    assert np.flatnonzero(ends).tolist() == [4, 9, 19]
    assert (protein.index("HE2")[19] >= 0, protein.index("HD1")[19]) == (True, -1)
    assert protein.backbone.min() >= 0
    assert protein.mdtraj_topology.n_atoms == protein.atoms


@pytest.mark.parametrize("engine", ["pdbfixer", "rigid"])
def test_engines_keep_the_backbone_and_every_stereocentre_is_natural(system, protein, engine):
    backbone = backbone_of(system, width=0.05)
    made = side_chain_engine(engine, protein)(backbone, seed=3)
    np.testing.assert_allclose(made[protein.backbone], backbone[:, :4], atol=1e-9)
    cb = protein.index("CB")
    np.testing.assert_allclose(made[cb[cb >= 0]], backbone[cb >= 0, 4], atol=1e-9)
    np.testing.assert_array_equal(made, side_chain_engine(engine, protein)(backbone, seed=3))
    labels = cip_labels(protein, made)
    assert len(labels) == 21  # 19 C-alphas, and the C-betas of isoleucine and threonine
    cysteine, threonine = protein.sequence.index("C"), protein.sequence.index("T")
    assert {key for key, label in labels.items() if label == "R"} == {(cysteine, "CA"), (threonine, "CB")}


def cip_labels(protein, positions):
    """Labels by residue and atom, from RDKit; the orders of bonds do not matter to any of them."""
    from rdkit import Chem

    mol = Chem.RWMol()
    atoms = list(protein.topology.atoms())
    for atom in atoms:
        added = Chem.Atom(atom.element.symbol)
        added.SetNoImplicit(True)
        mol.AddAtom(added)
    for a, b in protein.bonds.tolist():
        mol.AddBond(a, b, Chem.BondType.SINGLE)
    conformer = Chem.Conformer(protein.atoms)
    conformer.SetPositions(np.ascontiguousarray(positions))
    mol.AddConformer(conformer)
    mol.UpdatePropertyCache(strict=False)
    Chem.AssignStereochemistryFrom3D(mol)
    return {
        (atoms[atom.GetIdx()].residue.index, atoms[atom.GetIdx()].name): atom.GetProp("_CIPCode")
        for atom in mol.GetAtoms()
        if atom.HasProp("_CIPCode")
    }


@pytest.mark.parametrize("engine", [None, "rigid"])
def test_hydrogens_are_where_they_belong(system, protein, engine):
    x = protein.reference if engine is None else side_chain_engine(engine, protein)(backbone_of(system))
    around = [[] for _ in range(protein.atoms)]
    for a, b in protein.bonds.tolist():
        around[a].append(b)
        around[b].append(a)
    for hydrogen in np.flatnonzero(~protein.heavy):
        (parent,) = around[hydrogen]
        bond = x[hydrogen] - x[parent]
        assert 0.9 < np.linalg.norm(bond) < 1.4
        for other in around[parent]:
            if other != hydrogen:
                arm = x[other] - x[parent]
                cosine = bond @ arm / np.linalg.norm(bond) / np.linalg.norm(arm)
                assert np.cos(np.radians(140.0)) < cosine < np.cos(np.radians(85.0)), (
                    protein.names[hydrogen],
                    protein.names[other],
                )


def test_the_rigid_engine_turns_with_the_backbone(system, protein):
    backbone = backbone_of(system, width=0.1)
    turn = so3.exp(torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)).numpy()
    engine = side_chain_engine("rigid", protein)
    np.testing.assert_allclose(engine(backbone @ turn.T + 5.0), engine(backbone) @ turn.T + 5.0, atol=1e-9)


def test_disulfides_are_bonded_where_they_are_named():
    system = ProteinSystem.of_chains(["GCAHCG"], name="cystine")
    free, bonded = all_atom_protein(system), all_atom_protein(system, disulfides=[(4, 1)])
    assert (free.disulfides, bonded.disulfides) == ((), ((1, 4),))
    assert free.atoms == bonded.atoms + 2
    pair = tuple(bonded.index("SG")[[1, 4]])
    assert pair in {tuple(sorted(bond)) for bond in bonded.bonds.tolist()}
    assert bonded.index("HG")[[1, 4]].tolist() == [-1, -1]
    for wrong in ([(1, 2)], [(1, 1)], [(1, 9)]):
        with pytest.raises(InputError, match=r"pairs of different cysteines among \[1, 4\]"):
            all_atom_protein(system, disulfides=wrong)


def test_proteins_without_an_all_atom_form_are_refused(protein, monkeypatch):
    with pytest.raises(InputError, match="A:UNK2 has no all-atom form"):
        all_atom_protein(ProteinSystem.of_chains(["AXA"], name="unknown"))
    gap = ProteinSystem.of_chains(["AAAG"], name="gap", numbers=[np.array([1, 2, 3, 9])])
    with pytest.raises(InputError, match="A:GLY9 is bonded to no other"):
        all_atom_protein(gap)
    with pytest.raises(InputError, match="unknown side-chain engine 'pdbfix'; did you mean 'pdbfixer'"):
        side_chain_engine("pdbfix", protein)
    engine = side_chain_engine("rigid", protein)
    with pytest.raises(ShapeError, match="backbone"):
        engine(np.zeros((3, 5, 3)))
    with pytest.raises(EquilibraError, match="not finite"):
        engine(np.full((20, 5, 3), np.nan))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("tmol", "pdbfixer") else found(name))
    for name in ("tmol", "pdbfixer"):
        with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
            ENGINES[name](protein)


@pytest.mark.slow
def test_tmol_packs_side_chains_and_keeps_the_backbone(system, protein):
    pytest.importorskip("tmol", reason="side chains by tmol are tested where it is installed")
    backbone = backbone_of(system, width=0.05)
    engine = side_chain_engine("tmol", protein)
    built = engine(backbone, seed=3)
    np.testing.assert_array_equal(engine(backbone, seed=3), built)
    np.testing.assert_allclose(built[protein.backbone], backbone[:, :4], atol=1e-3)
    done = Relaxer(protein)(built)
    assert (done.status, done.clashes_before, done.inverted) == ("relaxed", 0, 0)
