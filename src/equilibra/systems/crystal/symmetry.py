"""Space groups of structures (spglib)."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = 0.1
"""Distance, in Å, within which atoms count as equivalent: samples are not relaxed to the last digit."""


def space_groups(frac: np.ndarray, cells: np.ndarray, numbers: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Returns the numbers (F,) of the space groups of structures, from 1 to 230; 0 where none is found, as for atoms on top of each other.

    Arguments:
        frac: Fractional coordinates (F, N, 3).
        cells: Cells (F, 3, 3), in Å.
        numbers: Atomic numbers (N,).
        tolerance: Distance within which atoms are equivalent, in Å.

    References:
        | Spglib: a software library for crystal symmetry search (Togo et al., 2024), https://doi.org/10.1080/27660400.2024.2384822
    """
    import spglib

    found = np.zeros(len(frac), dtype=np.int64)
    for index, (x, cell) in enumerate(zip(frac, cells, strict=True)):
        if not np.isfinite(x).all() or not np.isfinite(cell).all():
            continue
        try:
            crystal: Any = (cell, x, numbers)  # arrays do as well as the sequences that it declares
            dataset = spglib.get_symmetry_dataset(crystal, symprec=tolerance)
        except spglib.error.SpglibError:
            continue
        found[index] = 0 if dataset is None else dataset.number
    return found


def symbol(number: int) -> str:
    """Returns the international symbol of a space group by its number, from 1 to 230."""
    import spglib

    # several settings of one group share its number: the first is the standard one
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        if kind is not None and kind.number == number:
            return str(kind.international_short)
    return ""
