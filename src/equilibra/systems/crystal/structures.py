r"""Crystal structures: what is in one cell, and the one cell among all equivalent ones that a model learns.

A cell matrix A has the lattice vectors as rows; positions are :math:`x = f A`. A structure becomes a State by Niggli reduction, which chooses the
cell, and by the polar form :math:`A = L Q` (`geometry.lattice`), which removes the orientation. The field `cell` is :math:`L / n^{1/3}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from equilibra.errors import InputError
from equilibra.geometry.lattice import polar
from equilibra.systems.crystal.formula import HEAVIEST, formula_of

SMALLEST_VOLUME = 0.1
"""Cells below this volume, in Å³, are no cells."""

DALTON_PER_CUBIC_ANGSTROM = 1.66053906892
"""Density of 1 u/Å³, in g/cm³ (CODATA 2022)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """One crystal structure. Immutable.

    Attributes:
        numbers: Atomic numbers (n,).
        frac: Fractional coordinates (n, 3).
        cell: Lattice vectors as rows (3, 3), in Å.
        name: What a file calls it; may be empty.
        energy: Potential energy per atom, in eV, or None.
        values: Finite numbers that a file gives for it, by the names that the file has for them: a band gap, for example.

    Raises:
        InputError: If an array has another shape or a value that is not finite, an element is unknown, or the cell has no volume.
    """

    numbers: np.ndarray
    frac: np.ndarray
    cell: np.ndarray
    name: str = ""
    energy: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = np.asarray(self.numbers)
        frac, cell = (np.array(value, dtype=np.float64) for value in (self.frac, self.cell))
        where = self.name or "structure"
        if numbers.ndim != 1 or not len(numbers) or frac.shape != (len(numbers), 3) or cell.shape != (3, 3):
            raise InputError(
                f"{where}: got {numbers.shape} atomic numbers, {frac.shape} coordinates and a cell {cell.shape}; expected (n,), (n, 3) and (3, 3), n > 0"
            )
        if not np.isfinite(cell).all() or not np.isfinite(frac).all():
            raise InputError(f"{where}: the {'cell' if not np.isfinite(cell).all() else 'coordinates'} are not finite numbers")
        if numbers.dtype.kind not in "iu" or numbers.min() < 1 or numbers.max() > HEAVIEST:
            raise InputError(f"{where}: got an atomic number outside 1 to {HEAVIEST}; expected known elements")
        volume = float(abs(np.linalg.det(cell)))
        if not volume >= SMALLEST_VOLUME:
            raise InputError(f"{where}: the cell has the volume {volume:.3g} Å³, expected at least {SMALLEST_VOLUME} Å³")
        if self.energy is not None and not np.isfinite(self.energy):
            raise InputError(f"{where}: the energy is not a finite number")
        for name, value in (("numbers", numbers.astype(np.int64)), ("frac", frac), ("cell", cell)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        known = {name: float(value) for name, value in self.values.items() if np.isfinite(value)}
        object.__setattr__(self, "values", MappingProxyType(known))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def formula(self) -> str:
        """What is in the cell."""
        return formula_of(self.numbers.tolist())

    @property
    def volume(self) -> float:
        """Volume of the cell, in Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def density(self) -> float:
        """Mass density, in g/cm³."""
        return float(densities(self.numbers, self.cell[None])[0])

    @property
    def positions(self) -> np.ndarray:
        """Cartesian positions (n, 3), in Å."""
        return np.asarray(self.frac @ self.cell)

    def right_handed(self) -> Self:
        """Returns the same crystal with right-handed lattice vectors: of a left-handed cell all three are inverted."""
        return self if np.linalg.det(self.cell) > 0 else replace(self, cell=-self.cell, frac=-self.frac)

    def niggli(self) -> Self:
        """Returns the same crystal in its Niggli cell, right-handed, with coordinates in [0, 1).

        Raises:
            InputError: If the cell cannot be reduced.
        """
        import spglib

        reduced = spglib.niggli_reduce(self.cell)
        if reduced is None:
            raise InputError(f"{self.name or 'structure'}: the cell cannot be reduced to its Niggli form")
        reduced = np.asarray(reduced, dtype=np.float64)
        same = replace(self, cell=reduced, frac=self.positions @ np.linalg.inv(reduced)).right_handed()
        return replace(same, frac=same.frac - np.floor(same.frac))

    def upright(self) -> Self:
        """Returns the crystal turned so that its cell is symmetric and positive definite, the gauge of a State; right-handed."""
        same = self.right_handed()
        return replace(same, cell=polar(torch.from_numpy(same.cell.copy()))[0].numpy())

    def ordered(self) -> Self:
        """Returns the structure with its atoms in the order of their atomic numbers."""
        order = np.argsort(self.numbers, kind="stable")
        return replace(self, numbers=self.numbers[order], frac=self.frac[order])

    def canonical(self) -> Self:
        """Returns the crystal as a model learns it: in its Niggli cell, upright, atoms in the order of their atomic numbers."""
        return self.niggli().upright().ordered()


def fields_of(structures: Sequence[Structure]) -> tuple[Tensor, Tensor]:
    """Returns canonical structures of one composition as fields `frac` (F, n, 3) and `cell` (F, 3, 3), in float64."""
    n = len(structures[0])
    frac = torch.from_numpy(np.stack([structure.frac for structure in structures]))
    cell = torch.from_numpy(np.stack([structure.cell for structure in structures]))
    return frac - torch.floor(frac + 0.5), cell / n ** (1 / 3)


def cells_of(cell: np.ndarray, atoms: int) -> np.ndarray:
    """Returns cells (..., 3, 3) in Å for a field `cell` of crystals with so many atoms."""
    return np.asarray(cell) * atoms ** (1 / 3)


def densities(numbers: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns mass densities (F,) in g/cm³ of cells (F, 3, 3) in Å that hold atoms of these numbers."""
    from ase.data import atomic_masses

    mass = float(np.asarray(atomic_masses)[np.asarray(numbers)].sum())
    return np.asarray(DALTON_PER_CUBIC_ANGSTROM * mass / np.abs(np.linalg.det(np.asarray(cells, dtype=np.float64))))
