"""Internal coordinates of NumPy arrays of positions: dihedral angles and signed volumes, for checks and statistics.

`geometry.chirality` has the differentiable signed volume of tensors.
"""

from __future__ import annotations

import numpy as np


def signed_volumes(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    r"""Computes the normalised signed volume at every centre, between -1 and 1.

    .. math:: v = (\hat r_1 \times \hat r_2) \cdot \hat r_3

    Arguments:
        positions: Positions with shape (..., atoms, 3), in any unit of length.
        centres: Indices (C, 4): the centre and three neighbours.

    Returns:
        The volumes (..., C), dimensionless; NaN where two atoms coincide.
    """
    arms = positions[..., centres[:, 1:], :] - positions[..., centres[:, :1], :]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        arms = arms / np.linalg.norm(arms, axis=-1, keepdims=True)
        return np.einsum("...i,...i->...", np.cross(arms[..., 0, :], arms[..., 1, :]), arms[..., 2, :])


def dihedrals(positions: np.ndarray, quadruples: np.ndarray) -> np.ndarray:
    """Computes dihedral angles by the IUPAC convention (0 for cis, positive for a clockwise turn of the far bond).

    Arguments:
        positions: Positions with shape (..., atoms, 3), in any unit of length.
        quadruples: Indices (T, 4) of four atoms in a chain.

    Returns:
        The angles (..., T), in rad, between -pi and pi.
    """
    a, b, c, d = np.moveaxis(positions[..., quadruples, :], -2, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        b1, b2, b3 = b - a, c - b, d - c
        n1, n2 = np.cross(b1, b2), np.cross(b2, b3)
        sine = np.einsum("...i,...i->...", b1, n2) * np.linalg.norm(b2, axis=-1)
        return np.arctan2(sine, np.einsum("...i,...i->...", n1, n2))
