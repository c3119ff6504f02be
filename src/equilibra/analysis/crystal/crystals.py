"""What the metrics of crystals read: atomic numbers, fractional coordinates and a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import gcd
from typing import Protocol

import numpy as np


class Crystal(Protocol):
    """One crystal structure, ours or any other object with these arrays."""

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers (n,)."""

    @property
    def frac(self) -> np.ndarray:
        """Fractional coordinates (n, 3)."""

    @property
    def cell(self) -> np.ndarray:
        """Lattice vectors as rows (3, 3), in Å."""


def composition(crystal: Crystal) -> tuple[tuple[int, int], ...]:
    """Returns the reduced composition: pairs (atomic number, count) of the smallest formula unit."""
    counts = Counter(int(number) for number in crystal.numbers)
    unit = gcd(*counts.values())
    return tuple(sorted((number, count // unit) for number, count in counts.items()))


def volumes_per_atom(crystals: Sequence[Crystal]) -> np.ndarray:
    """Returns the volume per atom (F,), in Å³."""
    return np.array([abs(float(np.linalg.det(crystal.cell))) / len(crystal.numbers) for crystal in crystals])


def mass_densities(crystals: Sequence[Crystal]) -> np.ndarray:
    """Returns mass densities (F,), in g/cm³."""
    from ase.data import atomic_masses

    mass = np.array([float(np.asarray(atomic_masses)[np.asarray(crystal.numbers)].sum()) for crystal in crystals])
    volume = np.array([abs(float(np.linalg.det(crystal.cell))) for crystal in crystals])
    return np.asarray(1.66053906892 * mass / volume)
