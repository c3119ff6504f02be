"""Between the frames of a protein and its written atoms: N, CA, C, O and CB of each residue, glycine without CB."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from equilibra.geometry.backbone import ATOMS, IDEAL, backbone_from_frames, frames_from_backbone
from equilibra.geometry.superposition import centre
from equilibra.systems.protein.system import ProteinSystem

CB = ATOMS.index("CB")

_AT_ONCE = 500_000  # residues whose atoms are made at once
_EXTENDED = (math.radians(-120.0), math.radians(130.0), math.pi)  # phi, psi and omega of a strand
_PEPTIDE = (1.329, math.radians(116.2), math.radians(121.7))  # C-N in Å, CA-C-N and C-N-CA (Engh and Huber, 1991)
_APART = 40.0  # Å between the ends of chains that are laid out one after the other


def positions_of(trans: Tensor, rot: Tensor, system: ProteinSystem) -> Tensor:
    """Returns the written atoms (..., atoms, 3) of frames (..., L, 3) and (..., L, 3, 3), in Å; differentiable."""
    breaks = torch.from_numpy(np.array(system.breaks)).to(trans.device)
    written: Tensor = system.written(backbone_from_frames(trans, rot, breaks))
    return written


def atom5_of(positions: np.ndarray, system: ProteinSystem) -> np.ndarray:
    """Returns all five atoms (F, L, 5, 3) of written atoms (F, atoms, 3); the CB that glycine lacks is put where an L residue has it."""
    frames, length = len(positions), system.length
    atoms = np.zeros((frames, length * len(ATOMS), 3), dtype=positions.dtype)
    atoms[:, system.atom_slots] = positions
    atoms = atoms.reshape(frames, length, len(ATOMS), 3)
    glycines = np.flatnonzero(~system.atom_mask[:, CB])
    if len(glycines):
        n, ca, c = np.moveaxis(atoms[:, glycines, :3], 2, 0)
        atoms[:, glycines, CB] = _cb(n, ca, c)
    return atoms


def frames_of(positions: np.ndarray, system: ProteinSystem) -> tuple[np.ndarray, np.ndarray]:
    """Returns the frames of written atoms (F, atoms, 3): mean-free C-alpha positions (F, L, 3) in Å, and rotations (F, L, 3, 3), both float32."""
    length = system.length
    index = system.atom_index[:, :3]
    trans, rot = np.empty((len(positions), length, 3), np.float32), np.empty((len(positions), length, 3, 3), np.float32)
    step = max(1, _AT_ONCE // length)
    for start in range(0, len(positions), step):
        rows = slice(start, start + step)
        n, ca, c = torch.from_numpy(np.asarray(positions[rows], dtype=np.float64)[:, index]).unbind(2)
        t, r = frames_from_backbone(n, ca, c)
        trans[rows], rot[rows] = centre(t).numpy(), r.numpy()
    return trans, rot


def written_atoms(trans: np.ndarray, rot: np.ndarray, system: ProteinSystem) -> np.ndarray:
    """Returns the written atoms (F, atoms, 3), float32, of frames (F, L, 3) and (F, L, 3, 3), some frames at a time."""
    step = max(1, _AT_ONCE // system.length)
    parts = [
        positions_of(
            torch.from_numpy(np.array(trans[k : k + step])), torch.from_numpy(np.array(rot[k : k + step])), system
        ).numpy()
        for k in range(0, len(trans), step)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, system.atoms, 3), np.float32)


def extended_frames(system: ProteinSystem) -> tuple[Tensor, Tensor]:
    """Returns frames (1, L, 3) and (1, L, 3, 3), float64, of fully extended chains beside each other, with room for what is missing in gaps."""
    step, turn = _next_frame()
    trans, rot = [torch.zeros(3, dtype=torch.float64)], [torch.eye(3, dtype=torch.float64)]
    for i in range(1, system.length):
        if system.chain_index[i] != system.chain_index[i - 1]:
            trans.append(trans[0] + _APART * int(system.chain_index[i]) * rot[0][:, 2])
            rot.append(rot[0])
            continue
        t, r = trans[-1], rot[-1]
        for _ in range(int(system.residue_numbers[i] - system.residue_numbers[i - 1])):
            t, r = t + r @ step, r @ turn
        trans.append(t)
        rot.append(r)
    return centre(torch.stack(trans))[None], torch.stack(rot)[None]


def _next_frame() -> tuple[Tensor, Tensor]:
    """Returns position (3,) and rotation (3, 3) of the next residue of an extended chain in the frame of this one."""
    phi, psi, omega = _EXTENDED
    bond, angle_c, angle_n = _PEPTIDE
    n, ca, c = (torch.tensor(IDEAL[name], dtype=torch.float64) for name in ("N", "CA", "C"))
    inner = torch.arccos(torch.nn.functional.cosine_similarity(n - ca, c - ca, dim=0)).item()
    n1 = _placed(n, ca, c, bond, angle_c, psi)
    ca1 = _placed(ca, c, n1, float((n - ca).norm()), angle_n, omega)
    c1 = _placed(c, n1, ca1, float((c - ca).norm()), inner, phi)
    return frames_from_backbone(n1, ca1, c1)


def _placed(a: Tensor, b: Tensor, c: Tensor, length: float, angle: float, torsion: float) -> Tensor:
    """Places an atom bonded to c, at an angle with b and a torsion about b - c."""
    along = torch.nn.functional.normalize(c - b, dim=0)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, along), dim=0)
    side = torch.linalg.cross(normal, along)
    local = torch.tensor([-math.cos(angle), math.sin(angle) * math.cos(torsion), math.sin(angle) * math.sin(torsion)])
    x, y, z = (length * local.double()).unbind()
    return c + x * along + y * side + z * normal


def _cb(n: np.ndarray, ca: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Returns the CB (F, residues, 3) of an L residue in the frame of its backbone."""
    _, rot = frames_from_backbone(*(torch.from_numpy(np.ascontiguousarray(atom, dtype=np.float64)) for atom in (n, ca, c)))
    return np.asarray(ca + rot.numpy() @ np.array(IDEAL["CB"]))
