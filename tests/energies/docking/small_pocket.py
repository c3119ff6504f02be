"""What the tests of docking share: files of a small synthetic pocket, random poses, molecules, and energies of all pairs without lists of neighbours."""

from pathlib import Path

import torch
from rdkit import Chem

from equilibra.energies.docking.atom_types import type_parameters
from equilibra.energies.docking.terms import pair_terms

HERE = Path(__file__).parent
POCKET = HERE / "pocket.pdb"
LIGANDS = HERE / "pocket_ligands.sdf"


def random_poses(x, poses, seed=0, width=6.0):
    """Poses (poses, atoms, 3) of positions (atoms, 3): turned about their centre, which is placed at random."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(poses, 3, 3, generator=generator, dtype=x.dtype))[0]
    turn = q * torch.linalg.det(q)[:, None, None]
    shift = width * (2 * torch.rand(poses, 1, 3, generator=generator, dtype=x.dtype) - 1)
    return (x - x.mean(0)) @ turn + shift


def molecule(smiles):
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def every_pair(x, y, first, second):
    """Pair energies (batch, n, m) in kcal/mol of atoms with types `first` at x (batch, n, 3) and types `second` at y (batch or 1, m, 3)."""
    a, b = type_parameters(first)[:, :, None], type_parameters(second)[:, None, :]
    r = (x[:, :, None] - y[:, None]).norm(dim=-1)
    bonding = (a[2] * b[3] + a[3] * b[2]).clamp_max(1.0)
    return pair_terms(r, *((value).expand_as(r) for value in (a[0] + b[0], a[1] * b[1], bonding)))[0]


def bent(e):
    return torch.where(e > 0, e / (1 + e / 1000.0), e)
