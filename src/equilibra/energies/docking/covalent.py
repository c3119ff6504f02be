"""Bonds of a structure from its distances, as Vina finds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from equilibra.energies.docking.atom_types import covalent_radius

_ALLOWANCE = 1.1


def covalent_neighbours(elements: Sequence[str], positions: NDArray[np.float64]) -> list[list[int]]:
    """Returns the bonded neighbours of each atom.

    Two atoms are bonded if they are closer than 1.1 times the sum of their covalent radii, and no third atom is closer to both of them than they are to each
    other: a metal is bonded to the oxygen in front of it, not to the carbon behind.

    Arguments:
        elements: Symbols.
        positions: Positions (atoms, 3) in Å.
    """
    from scipy.spatial import KDTree

    radii = np.array([covalent_radius(element) for element in elements])
    # no third atom that matters is farther away than the bond that it would prevent
    reach = _ALLOWANCE * 2 * radii.max(initial=0.0)
    pairs = KDTree(positions).query_pairs(reach, output_type="ndarray")
    length = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    close = length < _ALLOWANCE * radii[pairs].sum(1)
    near: list[dict[int, float]] = [{} for _ in elements]
    for (i, j), distance in zip(pairs.tolist(), length.tolist(), strict=True):
        near[i][j] = near[j][i] = distance
    neighbours: list[list[int]] = [[] for _ in elements]
    for (i, j), distance in zip(pairs[close].tolist(), length[close].tolist(), strict=True):
        if not any(other < distance and near[k].get(j, distance) < distance for k, other in near[i].items()):
            neighbours[i].append(j)
            neighbours[j].append(i)
    return neighbours
