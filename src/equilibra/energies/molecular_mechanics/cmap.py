r"""Correction maps of two dihedral angles (CMAP): periodic bicubic splines.

A map holds energies on a grid of n x n angles :math:`\phi_i = 2\pi i/n`, :math:`\psi_j = 2\pi j/n`. Its derivatives at the grid points are those of
periodic natural cubic splines along each row and each column, the mixed derivative that of splines through the first derivatives. In each cell,
with :math:`a, b \in [0, 1)` the position in it,

.. math:: E = \sum_{k,l=0}^{3} C_{kl}\, a^k b^l

is the polynomial with these values and derivatives at the four corners.

References:
    | Extending the treatment of backbone energetics in protein force fields (Mackerell, Feig & Brooks, 2004)
    | https://doi.org/10.1002/jcc.20065
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equilibra.energies.molecular_mechanics.torsions import Dihedrals

# rows: coefficients of 1, a, a^2, a^3; columns: value at 0, value at 1, derivative at 0, derivative at 1
_HERMITE = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [-3.0, 3.0, -2.0, -1.0], [2.0, -2.0, 1.0, 1.0]])


def spline_coefficients(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the coefficients of a map.

    Arguments:
        grid: Energies (n, n), the first axis along the first angle.

    Returns:
        Coefficients (4, 4, n, n): powers of the two positions in a cell, then the cell.
    """
    size = len(grid)
    identity = np.eye(size)
    following, preceding = np.roll(identity, 1, axis=1), np.roll(identity, -1, axis=1)
    # derivatives m of a periodic cubic spline with unit steps: m[i-1] + 4 m[i] + m[i+1] = 3 (f[i+1] - f[i-1])
    derive = np.linalg.solve(4.0 * identity + following + preceding, 3.0 * (following - preceding))
    along_first, along_second = derive @ grid, grid @ derive.T
    # (value or derivative along the first angle) x (the same along the second) at a grid point
    knots = np.array([[grid, along_second], [along_first, derive @ along_second]])
    corners = np.empty((4, 4, size, size))
    for p, q, i, j in np.ndindex(2, 2, 2, 2):
        corners[2 * p + i, 2 * q + j] = np.roll(knots[p, q], (-i, -j), axis=(0, 1))
    return np.einsum("kp,lq,pqij->klij", _HERMITE, _HERMITE, corners)


@dataclass(frozen=True)
class CorrectionMaps:
    """Correction maps of pairs of dihedral angles.

    Attributes:
        atoms: Indices (8, pairs): four atoms of the first dihedral angle and four of the second.
        sizes: Grid points (pairs, 1) along each angle of the pair's map, as floating-point numbers.
        starts: Where the cells of the pair's map begin (pairs, 1) in `coefficients`.
        coefficients: Coefficients (4, 4, cells) of all maps in eV, the cells of a map in the order of its first angle.
    """

    atoms: Tensor
    sizes: Tensor
    starts: Tensor
    coefficients: Tensor

    def _place(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the cell along one angle (pairs, batch) and the position in it."""
        place = angle * (self.sizes / (2.0 * math.pi))
        place = place - self.sizes * torch.floor(place / self.sizes)
        # rounding may give the whole period, and an angle that is not a number must not become an index
        cell = torch.minimum(torch.nan_to_num(torch.floor(place.detach())), self.sizes - 1.0)
        return cell.long(), place - cell

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates the maps; see `BondedTerm`."""
        pairs = self.atoms.shape[1]
        both = Dihedrals.of(x, torch.cat((self.atoms[:4], self.atoms[4:]), 1))
        angle = both.angle
        (row, a), (column, b) = self._place(angle[:pairs]), self._place(angle[pairs:])
        cell = self.starts + row * self.sizes.long() + column
        table = self.coefficients.index_select(2, cell.flatten()).unflatten(2, cell.shape)
        zero = torch.zeros_like(a)
        value, by_first, by_second = zero, zero, zero
        for power in (3, 2, 1, 0):
            c0, c1, c2, c3 = table[power].unbind(0)
            along = c0 + b * (c1 + b * (c2 + b * c3))
            slope = c1 + b * (2.0 * c2 + b * (3.0 * c3))
            by_first = by_first * a + value
            value = value * a + along
            by_second = by_second * a + slope
        slopes = torch.cat((by_first, by_second)) * torch.cat((self.sizes, self.sizes)) / (2.0 * math.pi)
        # from (atom, angle, pair) to the order of `atoms`: (angle, atom, pair)
        gradient = both.gradient(slopes).unflatten(1, (4, 2, pairs)).transpose(1, 2).flatten(1, 3)
        return value.sum(0), gradient
