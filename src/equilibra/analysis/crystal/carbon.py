"""A stricter check of carbon structures: distances and coordination numbers of covalent carbon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from equilibra.analysis.crystal.crystals import Crystal
from equilibra.geometry.periodic import neighbours

SHORTEST, BOND = 1.0, 1.85
"""No two atoms are closer than the first, and neighbours are within the second, in Å."""

COORDINATION = (1, 4)
"""Fewest and most neighbours of an atom."""


def coordination_numbers(crystal: Crystal) -> np.ndarray:
    """Returns the number of neighbours (n,) of each atom within `BOND`."""
    return _contacts(crystal)[0]


def carbon_like(crystals: Sequence[Crystal]) -> np.ndarray:
    """Tells which structures (F,) have no distance below `SHORTEST`, and 1 to 4 neighbours of every atom within `BOND`."""
    found = np.zeros(len(crystals), dtype=bool)
    for index, crystal in enumerate(crystals):
        counts, shortest = _contacts(crystal)
        found[index] = shortest > SHORTEST and counts.min() >= COORDINATION[0] and counts.max() <= COORDINATION[1]
    return found


def _contacts(crystal: Crystal) -> tuple[np.ndarray, float]:
    frac = torch.tensor(np.asarray(crystal.frac), dtype=torch.float64)
    cell = torch.tensor(np.asarray(crystal.cell), dtype=torch.float64)
    pairs, shifts = neighbours(frac[None], cell[None], BOND)
    i, j = pairs[:, 1], pairs[:, 2]
    r = torch.linalg.vector_norm((frac[j] - frac[i] + shifts) @ cell, dim=-1)
    return torch.bincount(i, minlength=len(frac)).numpy(), float(r.min()) if len(r) else np.inf
