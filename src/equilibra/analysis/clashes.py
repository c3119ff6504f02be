"""Clashes: pairs of atoms without a close bond between them that come nearer than a fraction of their van der Waals radii.

Only pairs at least four bonds apart count: nearer ones are held by bonds, angles and torsions. Hydrogen bonds bring a hydrogen to
0.65 of the sum of the radii, and thermal contacts nearer, so pairs with a hydrogen have a threshold of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import BoolArray, FloatArray, IntArray, check_indices, check_samples
from equilibra.errors import ConfigError, InputError, ShapeError

VAN_DER_WAALS: dict[int, float] = {
    1: 1.20, 2: 1.40, 3: 1.82, 5: 1.92, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 11: 2.27, 12: 1.73, 14: 2.10, 15: 1.80, 16: 1.80,
    17: 1.75, 18: 1.88, 19: 2.75, 20: 2.31, 28: 1.63, 29: 1.40, 30: 1.39, 31: 1.87, 33: 1.85, 34: 1.90, 35: 1.85, 36: 2.02,
    53: 1.98,
}  # fmt: skip
"""Van der Waals radii in Å by atomic number (Bondi 1964; B and Ca: Mantina et al. 2009)."""


@dataclass(frozen=True, kw_only=True)
class Clashes:
    """The clashes of an ensemble."""

    pairs: IntArray
    """The pairs of atoms that were looked at, with shape (pairs, 2)."""
    counts: IntArray
    """The number of clashing pairs of each frame, with shape (frames)."""
    closest: FloatArray
    """The smallest distance over the sum of radii in each frame, with shape (frames); infinite if there are no pairs."""

    @property
    def frames(self) -> BoolArray:
        """Whether a frame has a clash, with shape (frames)."""
        return np.asarray(self.counts > 0)

    @property
    def fraction(self) -> float:
        """The share of frames with at least one clash."""
        return float(self.frames.mean())


def find_clashes(
    positions: ArrayLike,
    bonds: ArrayLike,
    atomic_numbers: Sequence[int] | IntArray,
    *,
    fraction: float = 0.7,
    hydrogen_fraction: float = 0.55,
) -> Clashes:
    """Finds the clashes of every frame.

    Arguments:
        positions: The coordinates, with shape (frames, atoms, 3), in Å.
        bonds: The bonded pairs, with shape (bonds, 2).
        atomic_numbers: The elements, with shape (atoms).
        fraction: Two heavy atoms clash below this fraction of the sum of their radii.
        hydrogen_fraction: A pair with a hydrogen clashes below this fraction; 0 leaves hydrogens out.

    Raises:
        ConfigError: If a fraction is not between 0 and 1.
        InputError: If the ensemble is empty or not finite, or the radius of an element is unknown.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    numbers = np.asarray(atomic_numbers, dtype=np.int64)
    if numbers.shape != (x.shape[1],):
        raise ShapeError("atomic_numbers", numbers.shape, f"({x.shape[1]},)")
    if not (0 < fraction <= 1 and 0 <= hydrogen_fraction <= 1):
        raise ConfigError(f"clashes: got fractions {fraction} and {hydrogen_fraction}, expected numbers between 0 and 1")
    unknown = sorted(set(numbers.tolist()) - set(VAN_DER_WAALS))
    if unknown:
        raise InputError(f"clashes: no van der Waals radius is known for atomic numbers {unknown}")
    pairs = nonbonded_pairs(bonds, x.shape[1])
    if hydrogen_fraction == 0:
        pairs = pairs[(numbers[pairs] > 1).all(axis=1)]
    radii = np.asarray([VAN_DER_WAALS[number] for number in numbers.tolist()])
    sums = radii[pairs].sum(axis=1)
    limit = np.where((numbers[pairs] > 1).all(axis=1), fraction, hydrogen_fraction)
    counts, closest = np.zeros(len(x), dtype=np.int64), np.full(len(x), np.inf)
    if len(pairs):
        # about 30 MB of distances at a time
        step = max(1, 1_000_000 // len(pairs))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            ratio = np.linalg.norm(part[:, pairs[:, 0]] - part[:, pairs[:, 1]], axis=-1) / sums
            counts[start : start + step] = (ratio < limit).sum(axis=1)
            closest[start : start + step] = ratio.min(axis=1)
    return Clashes(pairs=pairs, counts=counts, closest=closest)


def nonbonded_pairs(bonds: ArrayLike, n_atoms: int, *, separation: int = 4) -> IntArray:
    """Returns the pairs i < j, with shape (pairs, 2), that are at least `separation` bonds apart or not connected at all."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    rows = check_indices("bonds", bonds, columns=2, n_atoms=n_atoms)
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(n_atoms, n_atoms))
    distance = shortest_path(graph.tocsr(), directed=False, unweighted=True)
    first, second = np.nonzero(np.triu(distance >= separation, k=1))
    return np.stack([first, second], axis=1).astype(np.int64)
