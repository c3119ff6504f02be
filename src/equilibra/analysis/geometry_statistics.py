"""Bond lengths and angles of an ensemble against a reference ensemble: shifted means and wrong widths.

A generated ensemble may have the right torsions and still be no equilibrium ensemble: bonds too long by 0.01 Å or vibrating half as
much as they should cost tens of kT. Widths that the reference does not have (constrained bonds) give no ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import BoolArray, FloatArray, IntArray, check_indices, check_samples
from equilibra.errors import InputError, ShapeError

RIGID = 1e-4
"""Below this standard deviation (Å or rad; the precision of trajectory files) a reference coordinate counts as constrained."""


@dataclass(frozen=True, kw_only=True)
class CoordinateComparison:
    """Internal coordinates of one kind (bonds or angles) of an ensemble beside those of a reference."""

    indices: IntArray
    """The atoms, with shape (coordinates, 2) or (coordinates, 3)."""
    heavy: BoolArray
    """Whether all atoms are heavy, with shape (coordinates)."""
    mean_error: FloatArray
    """The mean minus the reference's mean, with shape (coordinates), in Å or rad."""
    std_ratio: FloatArray
    """The standard deviation over the reference's, with shape (coordinates); NaN where the reference is rigid."""

    @property
    def heavy_mean_error(self) -> float:
        """The mean over heavy-atom coordinates of the absolute difference of means, in Å or rad; NaN if there are none."""
        errors = np.abs(self.mean_error[self.heavy])
        return float(errors.mean()) if errors.size else float("nan")

    @property
    def heavy_std_ratio(self) -> float:
        """The mean over heavy-atom coordinates of the ratio of widths; NaN if there are none that move."""
        ratios = self.std_ratio[self.heavy]
        ratios = ratios[np.isfinite(ratios)]
        return float(ratios.mean()) if ratios.size else float("nan")


def bond_lengths(positions: ArrayLike, bonds: ArrayLike) -> FloatArray:
    """Returns the lengths, with shape (frames, bonds), of bonds (bonds, 2) in coordinates (frames, atoms, 3), in their unit."""
    x = check_samples("positions", positions, ndim=3, last=3)
    rows = check_indices("bonds", bonds, columns=2, n_atoms=x.shape[1])
    return np.asarray(np.linalg.norm(x[:, rows[:, 0]] - x[:, rows[:, 1]], axis=-1))


def bond_angles(positions: ArrayLike, triples: ArrayLike) -> FloatArray:
    """Returns the angles in radians, with shape (frames, angles), at the middle atoms of triples (angles, 3)."""
    x = check_samples("positions", positions, ndim=3, last=3)
    rows = check_indices("angles", triples, columns=3, n_atoms=x.shape[1])
    left, right = x[:, rows[:, 0]] - x[:, rows[:, 1]], x[:, rows[:, 2]] - x[:, rows[:, 1]]
    # the arc tangent keeps its precision at 0 and π, where the arc cosine loses it
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(left, right), axis=-1), (left * right).sum(axis=-1)))


def angle_triples(bonds: ArrayLike) -> IntArray:
    """Returns the triples (i, j, k), i < k, with shape (angles, 3), of atoms i and k both bonded to j."""
    rows = check_indices("bonds", bonds, columns=2)
    neighbours: dict[int, set[int]] = {}
    for i, j in rows.tolist():
        neighbours.setdefault(i, set()).add(j)
        neighbours.setdefault(j, set()).add(i)
    found = [[i, j, k] for j in sorted(neighbours) for i in sorted(neighbours[j]) for k in sorted(neighbours[j]) if i < k]
    return check_indices("angles", found, columns=3)


def compare_bonds(
    positions: ArrayLike, reference: ArrayLike, bonds: ArrayLike, atomic_numbers: ArrayLike
) -> CoordinateComparison:
    """Compares the bond lengths of an ensemble with those of a reference.

    Arguments:
        positions: The ensemble, with shape (frames, atoms, 3), in Å.
        reference: The reference, with shape (frames, atoms, 3), in Å.
        bonds: The bonded pairs, with shape (bonds, 2).
        atomic_numbers: The elements, with shape (atoms).

    Raises:
        InputError: If an ensemble is empty or not finite, or an index is out of range.
        ShapeError: If the numbers of atoms differ.
    """
    rows = check_indices("bonds", bonds, columns=2)
    return _compare(bond_lengths(positions, rows), bond_lengths(reference, rows), rows, positions, reference, atomic_numbers)


def compare_angles(
    positions: ArrayLike,
    reference: ArrayLike,
    bonds: ArrayLike,
    atomic_numbers: ArrayLike,
) -> CoordinateComparison:
    """Compares the bond angles (all pairs of bonds that share an atom) of an ensemble with those of a reference, in radians.

    Arguments and errors are those of `compare_bonds`.
    """
    rows = angle_triples(bonds)
    return _compare(bond_angles(positions, rows), bond_angles(reference, rows), rows, positions, reference, atomic_numbers)


def _compare(
    values: FloatArray,
    targets: FloatArray,
    rows: IntArray,
    positions: ArrayLike,
    reference: ArrayLike,
    atomic_numbers: ArrayLike,
) -> CoordinateComparison:
    numbers = np.asarray(atomic_numbers, dtype=np.int64)
    if np.shape(positions)[1] != np.shape(reference)[1] or numbers.shape != (np.shape(positions)[1],):
        raise ShapeError(
            "positions, reference and elements",
            [np.shape(positions), np.shape(reference), numbers.shape],
            "one number of atoms",
        )
    if len(values) < 2 or len(targets) < 2:
        raise InputError(
            f"geometry statistics: got {len(values)} and {len(targets)} frames, expected at least 2 of each for a width"
        )
    width = targets.std(axis=0, ddof=1)
    ratio = np.full(len(rows), np.nan)
    moving = width > RIGID
    ratio[moving] = values.std(axis=0, ddof=1)[moving] / width[moving]
    return CoordinateComparison(
        indices=rows,
        heavy=np.asarray((numbers[rows] > 1).all(axis=1)),
        mean_error=values.mean(axis=0) - targets.mean(axis=0),
        std_ratio=ratio,
    )
