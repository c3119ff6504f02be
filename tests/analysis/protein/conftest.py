import os
import warnings
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("EQUILIBRA_SHARED_DATA", "shared")) / "protein"


@pytest.fixture(scope="session")
def shared_data():
    if not DATA.exists():
        pytest.skip("needs reference trajectories: set EQUILIBRA_SHARED_DATA")
    return DATA


@pytest.fixture(scope="session")
def trpcage(shared_data):
    """Trajectory of Trp-cage and its native structure."""
    import mdtraj

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        native = mdtraj.load(str(shared_data / "trpcage" / "trp_cage.pdb"))
        return mdtraj.load(str(shared_data / "trpcage" / "trp_cage.xtc"), top=native.topology), native


def place(a, b, c, length, angle, torsion):
    """The next atom of a chain (…, 3) by its bond length, angle and torsion."""
    bc = (c - b) / np.linalg.norm(c - b, axis=-1, keepdims=True)
    n = np.cross(b - a, bc)
    n = n / np.linalg.norm(n, axis=-1, keepdims=True)
    axes = np.stack([bc, np.cross(n, bc), n], axis=-1)
    local = [
        -length * np.cos(angle) * np.ones_like(torsion),
        length * np.sin(angle) * np.cos(torsion),
        length * np.sin(angle) * np.sin(torsion),
    ]
    return c + (axes @ np.stack(local, axis=-1)[..., None])[..., 0]


@pytest.fixture(scope="session")
def chain_of():
    """Builds backbones (frames, residues, 3, 3) in Å from φ, ψ (frames, residues) in rad, with mean bonds and angles of crystals."""

    def build(phi, psi, omega=np.pi):
        phi, psi = np.broadcast_arrays(np.asarray(phi, dtype=float), np.asarray(psi, dtype=float))
        frames, length = phi.shape
        one = np.ones(frames)
        n, ca = np.zeros((frames, 3)), np.tile([1.459, 0.0, 0.0], (frames, 1))
        c = ca + 1.525 * np.tile([np.cos(np.pi - np.deg2rad(111.0)), np.sin(np.pi - np.deg2rad(111.0)), 0.0], (frames, 1))
        atoms = [n, ca, c]
        for i in range(1, length):
            a, b, last = atoms[-3:]
            new_n = place(a, b, last, 1.336, np.deg2rad(117.2), psi[:, i - 1])
            new_ca = place(b, last, new_n, 1.459, np.deg2rad(121.7), omega * one)
            atoms += [new_n, new_ca, place(last, new_n, new_ca, 1.525, np.deg2rad(111.0), phi[:, i])]
        return np.stack(atoms, axis=1).reshape(frames, length, 3, 3)

    return build


@pytest.fixture(scope="session")
def helix(chain_of):
    """An ideal α-helix of 30 residues, one frame."""
    return chain_of(np.full((1, 30), np.deg2rad(-63.0)), np.deg2rad(-42.0))


@pytest.fixture(scope="session")
def moved():
    """Turns and shifts each frame (frames, …, 3) at random."""
    from scipy.spatial.transform import Rotation

    def move(x, seed):
        rng = np.random.default_rng(seed)
        turns = Rotation.random(len(x), rng=rng).as_matrix()
        shifts = 20 * rng.standard_normal((len(x), 3))
        return np.einsum("fij,f...j->f...i", turns, x) + shifts.reshape(len(x), *(1,) * (x.ndim - 2), 3)

    return move
