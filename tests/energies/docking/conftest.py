"""A small synthetic pocket with three ligands."""

from pathlib import Path

import pytest
import torch
from rdkit import Chem

from equilibra.energies.docking import Box, read_receptor

HERE = Path(__file__).parent
POCKET = HERE / "pocket.pdb"


@pytest.fixture(scope="session")
def pocket():
    return read_receptor(POCKET)


@pytest.fixture(scope="session")
def ligands():
    return list(Chem.SDMolSupplier(str(HERE / "pocket_ligands.sdf"), removeHs=False))


@pytest.fixture(scope="session")
def box():
    return Box((0.0, 0.0, 0.0), (24.0, 26.0, 25.0))


def random_poses(x, poses, seed=0, width=6.0):
    """Poses (poses, atoms, 3) of positions (atoms, 3): turned about their centre, which is placed at random."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(poses, 3, 3, generator=generator, dtype=x.dtype))[0]
    turn = q * torch.linalg.det(q)[:, None, None]
    shift = width * (2 * torch.rand(poses, 1, 3, generator=generator, dtype=x.dtype) - 1)
    return (x - x.mean(0)) @ turn + shift
