"""The files of a small synthetic pocket with three ligands, and random poses in it."""

from pathlib import Path

import torch

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
