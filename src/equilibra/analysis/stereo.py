r"""Stereochemistry of coordinates: tetrahedral centres, cis and trans peptide bonds, E and Z double bonds.

A centre is a row of four atoms :math:`(a, b, c, d)`: either the central atom and three of its neighbours, or its four neighbours. Its
handedness is the sign of the normalised signed volume

.. math:: v = \hat u_b \cdot (\hat u_c \times \hat u_d), \qquad \hat u_k = (x_k - x_a) / \|x_k - x_a\|,

which is ±0.77 for an ideal centre with its central atom first and ±0.71 for four neighbours. A mirror image changes its sign. The
share of right centres is measured before any frame is removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import BoolArray, FloatArray, IntArray, check_indices, check_samples
from equilibra.analysis.torsions import dihedrals
from equilibra.errors import InputError, ShapeError
from equilibra.geometry import internal_coordinates

FLAT = 0.1
"""Below this absolute normalised volume a centre is flat: neither hand."""


@dataclass(frozen=True, kw_only=True)
class StereoCheck:
    """Which stereo-elements of which frames are as expected."""

    right: BoolArray
    """Whether an element of a frame is right, with shape (frames, elements)."""

    @property
    def frames(self) -> BoolArray:
        """Whether all elements of a frame are right, with shape (frames)."""
        return np.asarray(self.right.all(axis=1))

    @property
    def fraction(self) -> float:
        """The share of frames that are right."""
        return float(self.frames.mean())

    @property
    def elements(self) -> FloatArray:
        """The share of frames in which each element is right, with shape (elements)."""
        return np.asarray(self.right.mean(axis=0))


def signed_volumes(positions: ArrayLike, centres: ArrayLike) -> FloatArray:
    """Returns the normalised signed volumes of tetrahedral centres.

    Arguments:
        positions: The coordinates, with shape (frames, atoms, 3).
        centres: Four atoms for each centre, with shape (centres, 4).

    Returns:
        The volumes between -1 and 1, with shape (frames, centres); 0 where atoms coincide.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    rows = check_indices("centres", centres, columns=4, n_atoms=x.shape[1])
    return np.nan_to_num(internal_coordinates.signed_volumes(x, rows))


def check_stereocentres(positions: ArrayLike, centres: ArrayLike, signs: ArrayLike) -> StereoCheck:
    """Checks the handedness of tetrahedral centres in every frame; a flat centre (|v| < 0.1) is wrong.

    Arguments:
        positions: The coordinates, with shape (frames, atoms, 3).
        centres: Four atoms for each centre, with shape (centres, 4).
        signs: The expected signs, -1 or 1, with shape (centres).

    Raises:
        InputError: If a sign is neither -1 nor 1, a coordinate is not finite, or an index is out of range.
    """
    volumes = signed_volumes(positions, centres)
    return StereoCheck(right=volumes * _signs(signs, volumes.shape[1]) >= FLAT)


def check_double_bonds(positions: ArrayLike, quadruples: ArrayLike, signs: ArrayLike) -> StereoCheck:
    """Checks the side of double bonds in every frame.

    Arguments:
        positions: The coordinates, with shape (frames, atoms, 3).
        quadruples: The bond's two atoms between the substituents of higher rank, with shape (bonds, 4).
        signs: 1 for Z (cis, torsion below 90°) and -1 for E (trans), with shape (bonds).

    Raises:
        InputError: As for `check_stereocentres`.
    """
    cosines = np.cos(dihedrals(positions, quadruples))
    return StereoCheck(right=cosines * _signs(signs, cosines.shape[1]) > 0)


def cis_fraction(omega: ArrayLike) -> float:
    """Returns the share of cis peptide bonds (|ω| < 90°) among angles ω in radians of any shape.

    Raises:
        InputError: If there are no angles or one is not finite.
    """
    angles = check_samples("omega", omega)
    if angles.size == 0:
        raise InputError("omega: got no angles, expected at least one")
    return float((np.cos(angles) > 0).mean())


def find_stereocentres(topology: Any) -> IntArray:
    """Finds the tetrahedral stereo-centres of a bonded topology.

    A centre has four neighbours that differ in the molecular graph: in their element or, step by step outwards, in what they are
    bonded to. Centres that differ only by the handedness of their substituents are not found, nor those of invertible nitrogen.

    Arguments:
        topology: An mdtraj `Topology` with bonds.

    Returns:
        The four neighbours of each centre in ascending order, with shape (centres, 4).
    """
    neighbours: list[list[int]] = [[] for _ in range(topology.n_atoms)]
    for first, second in topology.bonds:
        neighbours[first.index].append(second.index)
        neighbours[second.index].append(first.index)
    colours = [atom.element.number for atom in topology.atoms]
    for _ in range(topology.n_atoms):
        keys = [(colours[i], tuple(sorted(colours[j] for j in neighbours[i]))) for i in range(topology.n_atoms)]
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        finer = [ranks[key] for key in keys]
        stable = len(set(finer)) == len(set(colours))
        colours = finer
        if stable:
            break
    rows = [sorted(near) for near in neighbours if len(near) == 4 and len({colours[i] for i in near}) == 4]
    return check_indices("centres", rows, columns=4)


def majority_signs(positions: ArrayLike, centres: ArrayLike) -> IntArray:
    """Returns the sign, -1 or 1, that most frames of a reference show at each centre, with shape (centres)."""
    votes = np.sign(signed_volumes(positions, centres)).sum(axis=0)
    return np.where(votes >= 0, 1, -1).astype(np.int64)


def _signs(signs: ArrayLike, count: int) -> IntArray:
    array = np.asarray(signs, dtype=np.int64)
    if array.shape != (count,):
        raise ShapeError("signs", array.shape, f"({count},)")
    if not np.isin(array, (-1, 1)).all():
        raise InputError("signs: expected -1 or 1 for every stereo-element")
    return array
