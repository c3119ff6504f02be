r"""Band gaps by GFN1-xTB, through tblite: a semi-empirical judge that shares nothing with the networks and with tight binding.

tblite knows periodic systems at :math:`\Gamma` alone, so a cell is repeated until its own k-points cover the Brillouin zone: N repeats along a vector fold the
N points :math:`k = 0, 1/N, \dots` of its reciprocal vector to :math:`\Gamma`. Two vectors of equal length at 60 or 120 degrees get a multiple of three, which holds
the corner K where layers of hexagons have their gap. The gap is that between the levels of these points: an upper bound that comes down with more repeats.

References:
    | Grimme, Bannwarth and Shushkov (2017), https://doi.org/10.1021/acs.jctc.7b00118
    | tblite, https://github.com/tblite/tblite
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from equilibra.errors import InputError, MissingDependencyError

EXTENT = 7.0
"""Length, in Å, that a cell is repeated to along each vector by default."""

HEAVIEST = 86
"""Largest atomic number that GFN1-xTB has parameters for."""

_BOHR = 0.529177210903
"""In Å (CODATA 2018)."""
_HARTREE = 27.211386245988
"""In eV (CODATA 2018)."""
_SAME = 0.01  # relative difference of lengths, and of the cosine of angles, that still counts as hexagonal

Repeats = tuple[int, int, int]


def repeats_for(cell: np.ndarray, extent: float = EXTENT) -> Repeats:
    """Returns how often a cell (3, 3), rows in Å, is repeated along each vector to be at least `extent` long, hexagonal pairs by multiples of three."""
    lengths = np.linalg.norm(cell, axis=1)
    counts = [max(1, math.ceil(extent / length - 1e-9)) for length in lengths]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cosine = float(cell[i] @ cell[j] / (lengths[i] * lengths[j]))
        if abs(lengths[i] / lengths[j] - 1.0) < _SAME and abs(abs(cosine) - 0.5) < _SAME:
            counts[i], counts[j] = (-(-counts[k] // 3) * 3 for k in (i, j))
    return counts[0], counts[1], counts[2]


def xtb_band_gap(numbers: np.ndarray, frac: np.ndarray, cell: np.ndarray, *, repeats: Repeats | None = None) -> float:
    """Computes the band gap of one crystal by GFN1-xTB.

    Arguments:
        numbers: Atomic numbers (n,).
        frac: Fractional coordinates (n, 3).
        cell: Lattice vectors as rows (3, 3), in Å.
        repeats: How often the cell is repeated along each vector; by default that of `repeats_for`.

    Returns:
        The gap, in eV; nan where the self-consistent field does not converge. Zero for metals.

    Raises:
        InputError: If an element has no parameters.
        MissingDependencyError: If tblite is not installed.
    """
    require_tblite("a band gap by xtb")
    if int(np.max(numbers)) > HEAVIEST:
        raise InputError(
            f"band gap by xtb: got the atomic number {int(np.max(numbers))}, expected elements up to {HEAVIEST} (radon)"
        )
    from tblite.interface import Calculator

    counts = repeats_for(np.asarray(cell)) if repeats is None else repeats
    shifts = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), -1).reshape(-1, 3)
    positions = ((np.asarray(frac)[None] + shifts[:, None]) @ cell).reshape(-1, 3)
    lattice = np.asarray(cell) * np.array(counts)[:, None]
    try:
        calculator = Calculator(
            "GFN1-xTB",
            np.tile(np.asarray(numbers), len(shifts)),
            positions / _BOHR,
            lattice=lattice / _BOHR,
            periodic=np.array([True, True, True]),
        )
        calculator.set("verbosity", 0)
        found: Any = calculator.singlepoint()
    except RuntimeError:
        # what tblite raises where the field does not converge, or atoms lie on each other
        return math.nan
    levels, filled = np.asarray(found.get("orbital-energies")), np.asarray(found.get("orbital-occupations"))
    return _gap(levels, filled)


def require_tblite(what: str) -> None:
    """Raises `MissingDependencyError` if tblite is not installed.

    Arguments:
        what: What needs it, the subject of the sentence.
    """
    import importlib.util

    if importlib.util.find_spec("tblite") is None:
        raise MissingDependencyError(f"{what} needs tblite; install it with: pip install 'equilibra[xtb]'")


def _gap(levels: np.ndarray, filled: np.ndarray) -> float:
    """Returns the gap in eV of levels in Hartree; those that hold more than one electron are filled."""
    order = np.argsort(levels, kind="stable")
    levels, occupied = levels[order], round(float(filled.sum())) // 2
    if not 0 < occupied < len(levels):
        return math.nan
    return max(0.0, _HARTREE * float(levels[occupied] - levels[occupied - 1]))
