"""Scores against AutoDock Vina itself: golden numbers, and its Python wheel on real poses where it is installed.

The data are protein-ligand benchmark structures that are not part of the repository: set EQUILIBRA_SHARED_DATA to the folder that holds `ligand/fep`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem, RDLogger
from rdkit.Chem import rdDistGeom
from scipy.stats import spearmanr
from small_pocket import bent, molecule

from equilibra.energies.docking import Box, DockingEnergy, VinaProgram, docking_ligand, ligand_positions, read_receptor
from equilibra.energies.docking.atom_types import type_parameters
from equilibra.energies.docking.terms import pair_terms
from equilibra.errors import InputError

DATA = Path(os.environ.get("EQUILIBRA_SHARED_DATA", "shared")) / "ligand" / "fep"
# total, inter, intra by AutoDock Vina 1.2.7
GOLDEN = [(-2.304, -3.179, 0.451), (-3.833, -4.730, -0.376), (-2.997, -3.786, -0.231)]
COMPLEXES = [
    ("jacs_set", "tyk2"), ("jacs_set", "thrombin_core"), ("jacs_set", "bace"), ("merck", "cmet"), ("merck", "hif2a_automap"),
    ("merck", "cdk8_5cei_new_helix_loop_extra"), ("fragments", "frag_mup1"), ("gpcrs", "p2y1_ortho_sub"),
    ("bayer_macrocycles", "ftase_extraligs_custcore_stereo"), ("waterset", "urokinase"),
]  # fmt: skip
LIGANDS_EACH = 4


@pytest.mark.parametrize("number", [0, 1, 2])
def test_golden_scores(number, pocket, ligands, box):
    mol = ligands[number]
    score = DockingEnergy(pocket, docking_ligand(mol), box).score(ligand_positions(mol))
    assert torch.stack(score).squeeze(1).tolist() == pytest.approx(GOLDEN[number], abs=0.005)


def test_the_program_gives_the_golden_scores(pocket, ligands, box):
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    program = VinaProgram(pocket, box)
    for mol, golden in zip(ligands, GOLDEN, strict=True):
        program.load(mol)
        assert torch.stack(program.score()).squeeze(1).tolist() == pytest.approx(golden, abs=0.0015)
    with pytest.raises(InputError, match="outside the box"):
        VinaProgram(pocket, Box((0.0, 0.0, 0.0), (6.0, 6.0, 6.0))).load(ligands[0])


@pytest.mark.parametrize(
    "smiles",
    [
        "CCC#CC(C)O",
        "OCC#N",
        "CCN(C)C(=O)CC",
        "CCN(CC)C(=O)CC",
        "NC(=N)NCCC(N)C(=O)O",
        "C#CCNC(=O)c1ccccc1",
        "FC(F)(F)COc1ccc(S)cc1",
        "CCS(=O)(=O)NC1CC1",
        "CC(C)=NOC",
    ],
)
def test_types_and_rotatable_bonds_are_those_of_meeko(smiles, pocket):
    """Through Vina: a wrong type or bond changes one of its numbers."""
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    mol = molecule(smiles)
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    # in PDBQT, positions have three digits
    beside = np.array([9.0, 0.0, 2.0])
    mol.GetConformer().SetPositions(np.round(mol.GetConformer().GetPositions() + beside, 3))
    box = Box((0.0, 0.0, 0.0), (40.0, 40.0, 40.0))
    program = VinaProgram(pocket, box)
    program.load(mol)
    total, inter, intra = (float(each) for each in program.score())
    ligand, x = docking_ligand(mol), ligand_positions(mol)
    expected = rounded_inter(pocket, ligand, x)
    assert expected == pytest.approx(inter, abs=0.002)
    assert abs(inter) > 0.5  # one half of a bond more or less would show
    assert total == pytest.approx(expected / (1 + 0.05846 * ligand.n_rot), abs=0.002)
    assert float(DockingEnergy(pocket, ligand, box).score(x).intra) == pytest.approx(intra, abs=0.01)


def rounded_inter(receptor, ligand, x):
    """The intermolecular energy with squared distances rounded to Vina's tables: the mean of the two ends of steps of 1/32 Å²."""
    heavy = x[0, ligand.heavy]
    square = (heavy[:, None] - receptor.positions[None]).square().sum(-1)
    a, b = type_parameters(ligand.types)[:, :, None], type_parameters(receptor.types)[:, None, :]
    bonding = (a[2] * b[3] + a[3] * b[2]).clamp_max(1.0)
    parameters = [value.expand_as(square) for value in (a[0] + b[0], a[1] * b[1], bonding)]
    step = torch.floor(32 * square)
    ends = [pair_terms(((step + end) / 32).sqrt(), *parameters)[0] for end in (0, 1)]
    return float(bent((sum(ends) / 2 * (square < 64)).sum(1)).sum())


def test_agreement_with_the_program_on_real_poses():
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    if not DATA.exists():
        pytest.skip("needs protein-ligand structures: set EQUILIBRA_SHARED_DATA")
    RDLogger.DisableLog("rdApp.*")
    ours, theirs, rounded, small_rings = [], [], [], []
    for folder, name in COMPLEXES:
        mols = [
            mol for mol in Chem.SDMolSupplier(str(DATA / folder / f"{name}_ligands.sdf"), removeHs=False) if mol is not None
        ]
        mols = mols[:: max(1, len(mols) // LIGANDS_EACH)][:LIGANDS_EACH]
        receptor = read_receptor(DATA / folder / f"{name}_protein.pdb")
        box = Box.around(torch.cat([ligand_positions(mol)[0] for mol in mols]))
        program = VinaProgram(receptor, box)
        for mol in mols:
            # in PDBQT, positions have three digits
            ligand, x = docking_ligand(mol), torch.tensor(np.char.mod("%.3f", ligand_positions(mol)).astype(float))
            program.load(mol)
            theirs.append(torch.cat(program.score()))
            ours.append(torch.cat(DockingEnergy(receptor, ligand, box).score(x)))
            rounded.append(rounded_inter(receptor, ligand, x))
            small_rings.append(any(len(ring) < 5 for ring in mol.GetRingInfo().AtomRings()))
    ours, theirs, rounded = torch.stack(ours), torch.stack(theirs), torch.tensor(rounded, dtype=torch.float64)
    error = (ours - theirs).abs()
    assert len(ours) >= 40
    # with Vina's rounding of distances nothing but its three digits remains
    assert float((rounded - theirs[:, 1]).abs().max()) < 0.001
    # the rounding costs most where atoms clash
    assert float(error[:, 0].max()) < 0.05
    assert int((theirs[:, 0] < 0).sum()) >= 30
    assert float(error[theirs[:, 0] < 0, 1].max()) < 0.05
    # Vina counts some pairs across rings of three and four atoms that are three bonds apart
    assert float(error[~torch.tensor(small_rings), 2].max()) < 0.05
    assert spearmanr(ours[:, 0], theirs[:, 0]).statistic > 0.99
