"""Hydrogens on heavy atoms: each group is turned from the built structure onto the atoms around it."""

from __future__ import annotations

import numpy as np

from equilibra.errors import ShapeError
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray

_MOST = 4
"""Most heavy atoms that orient a group of hydrogens."""


class Hydrogens:
    r"""Places the hydrogens of a protein, with the right hand and ideal bonds wherever the heavy atoms have the right hand.

    The bonds of a heavy atom to its heavy neighbours, or, where it has one only, the directions to that one and its neighbours, are fitted by the
    rotation of least squares of the unit vectors, and the hydrogens of the built structure are turned by it.

    Arguments:
        protein: The all-atom form of the protein.
    """

    def __init__(self, protein: AllAtomProtein) -> None:
        self.protein = protein
        around: list[list[int]] = [[] for _ in range(protein.atoms)]
        for a, b in protein.bonds.tolist():
            around[a].append(b)
            around[b].append(a)
        hydrogens = np.flatnonzero(~protein.heavy)
        parents = [around[atom][0] for atom in hydrogens]
        self._hydrogens = hydrogens
        self._parents = np.unique(parents)
        self._group = np.searchsorted(self._parents, parents)
        guides = np.tile(self._parents[:, None], (1, _MOST))
        for row, parent in enumerate(self._parents):
            near = [atom for atom in around[parent] if protein.heavy[atom]]
            if len(near) == 1:
                near += [atom for atom in around[near[0]] if protein.heavy[atom] and atom != parent]
            guides[row, : len(near)] = near
        # the parent itself stands for none: its direction is zero
        self._guides = guides
        reference = protein.reference
        self._directions = self._units(reference)
        self._arms = reference[hydrogens] - reference[parents]

    def __call__(self, heavy: FloatArray) -> FloatArray:
        """Returns all atoms (A, 3) in the order of `protein.topology` from the heavy ones (H, 3), in Å.

        Raises:
            ShapeError: If the number of heavy atoms differs.
        """
        if heavy.shape != (int(self.protein.heavy.sum()), 3):
            raise ShapeError("heavy atoms", heavy.shape, (int(self.protein.heavy.sum()), 3))
        positions = np.zeros((self.protein.atoms, 3))
        positions[self.protein.heavy] = heavy
        left, _, right = np.linalg.svd(np.einsum("gki,gkj->gij", self._units(positions), self._directions))
        sign = np.linalg.det(left @ right)
        left[:, :, 2] *= sign[:, None]
        rotations = left @ right
        turned = np.einsum("gij,gj->gi", rotations[self._group], self._arms)
        positions[self._hydrogens] = positions[self._parents[self._group]] + turned
        return positions

    def _units(self, positions: FloatArray) -> FloatArray:
        vectors = positions[self._guides] - positions[self._parents][:, None]
        lengths = np.sqrt((vectors**2).sum(-1, keepdims=True))
        units: FloatArray = vectors / np.where(lengths > 0.0, lengths, 1.0)
        return units
