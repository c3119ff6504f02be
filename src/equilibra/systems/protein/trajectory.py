"""Backbones of trajectories of all atoms, as mdtraj reads them: the written atoms of the protein are taken, and chains cut by a periodic box made whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from equilibra.data.some_atoms import SMALLEST_CELL, read_atoms
from equilibra.errors import InputError
from equilibra.systems.protein.data.backbones import broken_residues
from equilibra.systems.protein.frames import frames_of, written_atoms
from equilibra.systems.protein.structures import backbone_indices
from equilibra.systems.protein.system import ATOMS, ProteinSystem

_TORN_RESIDUE, _TORN_CHAIN = 4.0, 6.0  # Å from C-alpha: to the other atoms, and to the next one


def read_backbones(path: Path, source: Any, system: ProteinSystem) -> np.ndarray:
    """Reads the frames of a protein from a trajectory of all atoms.

    Arguments:
        path: The trajectory.
        source: Its atoms, from `first_frame`; for a file of `OWN_ATOMS` from the file itself.
        system: The protein, made of `source`.

    Returns:
        Positions (F, atoms, 3) of the written atoms, float32, in Å. O and CB that the file lacks are placed by the frame of their residue.

    Raises:
        InputError: If the file is missing or malformed, or has other atoms, or the same number in another order.
    """
    topology = getattr(source, "topology", source)
    atoms = _slots(source, topology)
    slots, cells = _read(path, topology, atoms)
    if cells is not None:
        slots = _whole(slots, cells, system)
    torn = broken_residues(slots[:, :, :3])
    if 2 * torn.any(axis=1).sum() > len(torn):
        worst = system.label(int(torn.sum(axis=0).argmax()))
        raise InputError(
            f"'{path}': most frames have impossible bonds within residues (such as {worst}), so that the atoms are not those of the topology; give the "
            "topology that it was written with"
        )
    return filled(slots, system)


def filled(slots: np.ndarray, system: ProteinSystem) -> np.ndarray:
    """Returns the written atoms (F, atoms, 3), float32, of all five (F, L, 5, 3), with O and CB placed where they are NaN in the first frame."""
    positions = system.written(slots).astype(np.float32)
    missing = system.written(np.isnan(slots[:1]))[0, :, 0] & (system.atom_slots % len(ATOMS) > 2)
    if missing.any():
        placed = written_atoms(*frames_of(positions, system), system)
        alphas = system.atom_index[:, 1]
        # frames are about the mean
        placed += (positions[:, alphas] - placed[:, alphas]).mean(axis=1, keepdims=True)
        positions[:, missing] = placed[:, missing]
    return np.asarray(positions)


def _slots(source: Any, topology: Any) -> np.ndarray:
    """Returns the indices (L, 5) of N, CA, C, O and CB in a topology, -1 where an atom is missing."""
    backbone = backbone_indices(source)
    slots = np.full((len(backbone), len(ATOMS)), -1, dtype=np.int64)
    slots[:, :3] = backbone
    for i, ca in enumerate(backbone[:, 1].tolist()):
        others = {atom.name: atom.index for atom in topology.atom(ca).residue.atoms}
        slots[i, 3:] = [others.get(name, -1) for name in ATOMS[3:]]
    return slots


def _read(path: Path, topology: Any, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns positions (F, L, 5, 3), float32, in Å, NaN for missing atoms, and periodic cells (F, 3, 3), or None."""
    there = slots >= 0
    # readers want ascending indices
    order, back = np.unique(slots[there], return_inverse=True)
    positions, cells = read_atoms(path, topology, order)
    x = np.full((len(positions), *slots.shape, 3), np.nan, dtype=np.float32)
    x[:, there] = positions[:, back]
    return x, cells


def _whole(x: np.ndarray, cells: np.ndarray, system: ProteinSystem) -> np.ndarray:
    """Moves atoms (F, L, 5, 3) by vectors of the periodic cells (F, 3, 3) so that residues and chains hang together, in frames where they do not."""
    ca = x[:, :, 1]
    apart = np.linalg.norm(np.diff(ca, axis=1), axis=-1)[:, ~system.breaks]
    with np.errstate(invalid="ignore"):
        torn = (np.linalg.norm(x - ca[:, :, None], axis=-1) > _TORN_RESIDUE).any(axis=(1, 2)) | (apart > _TORN_CHAIN).any(
            axis=1
        )
    usable = np.isfinite(cells).all(axis=(1, 2)) & (np.linalg.norm(cells, axis=2).min(axis=1) > SMALLEST_CELL)
    rows = np.flatnonzero(torn & usable)
    if not len(rows):
        return x
    part, cell = x[rows].astype(np.float64), cells[rows]
    inverse = np.linalg.inv(cell)
    steps = np.diff(part[:, :, 1], axis=1, prepend=part[:, :1, 1])
    # every chain starts where it is
    steps[:, np.flatnonzero(np.diff(system.chain_index)) + 1] = 0.0
    along = np.cumsum(np.round(steps @ inverse), axis=1)
    begin = np.searchsorted(system.chain_index, system.chain_index)
    along = along - along[:, begin]
    offsets = part - part[:, :, 1:2]
    offsets = offsets - np.round(np.einsum("flai,fij->flaj", offsets, inverse)) @ cell[:, None]
    x = x.copy()
    x[rows] = (part[:, :, 1] - along @ cell)[:, :, None] + offsets
    return x
