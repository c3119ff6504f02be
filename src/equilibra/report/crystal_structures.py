"""Unit cells as the viewer draws them: PDB texts with the cell, and the images of atoms that lie on its faces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

_FACE = 0.05  # of a lattice vector: atoms so near to a face are shown on the opposite one too


def cell_pdb(frac: np.ndarray, cell: np.ndarray, numbers: Sequence[int]) -> str:
    """Returns one crystal as PDB text, turned so that the first lattice vector is along x and the second in the plane of x and y.

    Arguments:
        frac: Fractional coordinates (N, 3).
        cell: Lattice vectors as rows (3, 3), in Å, right-handed.
        numbers: Atomic numbers (N,).
    """
    from ase.cell import Cell
    from ase.data import chemical_symbols

    parameters = Cell(cell).cellpar()
    upright = np.asarray(Cell.fromcellpar(parameters))
    lines = [
        "CRYST1"
        + "".join(f"{x:9.3f}" for x in parameters[:3])
        + "".join(f"{x:7.2f}" for x in parameters[3:])
        + " P 1           1"
    ]
    inside = frac - np.floor(frac)
    shown = [
        (number, (x + shift) @ upright)
        for number, x in zip(numbers, inside, strict=True)
        for shift in itertools.product((-1, 0, 1), repeat=3)
        if (x + shift > -_FACE).all() and (x + shift < 1 + _FACE).all()
    ]
    for serial, (number, position) in enumerate(shown, start=1):
        symbol = chemical_symbols[number]
        lines.append(
            f"HETATM{serial % 100_000:5d} {symbol:>2s}   CRY A   1    "
            + "".join(f"{x:8.3f}" for x in position)
            + f"  1.00  0.00          {symbol:>2s}"
        )
    return "\n".join([*lines, "END", ""])
