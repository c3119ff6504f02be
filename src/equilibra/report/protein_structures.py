"""Backbones of a protein as the 3-D view takes them: superposed, turned along the axes, and as PDB text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.samples import FloatArray
from equilibra.analysis.superposition import superpose

if TYPE_CHECKING:
    from equilibra.systems.protein.system import ProteinSystem

SHOWN = ("N", "CA", "C", "O")
"""Atoms of a residue that are shown."""

_BYTES = 81  # of a line of a PDB file
_CHAINS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def structure_bytes(system: ProteinSystem) -> int:
    """Returns about how many bytes the PDB text of a backbone has."""
    return system.length * len(SHOWN) * _BYTES


def laid_out(positions: np.ndarray, target: FloatArray, system: ProteinSystem) -> FloatArray:
    """Returns backbones superposed on a target by their C-alpha atoms, all turned so that the target's longest side lies along x.

    Arguments:
        positions: Conformations (frames, atoms, 3) of the written atoms, in Å.
        target: C-alpha positions (residues, 3), in Å.
        system: The protein.

    Returns:
        Positions (frames, 4 residues, 3) of N, CA, C and O of each residue, in Å, the target's centre at the origin.
    """
    atoms = system.atom_index[:, : len(SHOWN)].ravel()
    alphas = np.arange(1, len(atoms), len(SHOWN))
    centred = target - target.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    moved = _superposed(np.asarray(positions, dtype=np.float64)[:, atoms], centred, alphas)
    return np.asarray(moved @ axes.T)


def backbone_pdb(positions: FloatArray, system: ProteinSystem) -> str:
    """Returns the atoms N, CA, C and O (4 residues, 3) of one conformation, in Å, in PDB format; the chains are called A, B, ..."""
    from equilibra.systems.protein.alphabet import THREE_LETTER

    lines = []
    for row, (x, y, z) in enumerate(positions):
        residue, slot = divmod(row, len(SHOWN))
        chain = int(system.chain_index[residue])
        number = int(system.residue_numbers[residue]) % 10_000
        name = THREE_LETTER[system.sequence[residue]]
        if slot == 0 and residue and system.chain_index[residue - 1] != chain:
            lines.append("TER")
        lines.append(
            f"ATOM  {(row + 1) % 100_000:5d}  {SHOWN[slot]:<3} {name:>3} {_CHAINS[chain % len(_CHAINS)]}{number:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {SHOWN[slot][0]:>2}"
        )
    return "\n".join([*lines, "END"]) + "\n"


def _superposed(atoms: FloatArray, target: FloatArray, alphas: np.ndarray) -> FloatArray:
    """Moves all atoms (frames, atoms, 3) by what lays their C-alpha atoms over the target (residues, 3)."""
    whole = np.zeros((atoms.shape[1], 3))
    whole[alphas] = target
    return superpose(atoms, whole, fit=alphas)
