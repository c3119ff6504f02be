r"""Lennard-Jones and Coulomb energies of all pairs, with whatever exceptions.

.. math:: E = \sum_{i<j} \frac{A_{ij}}{r_{ij}^{12}} - \frac{B_{ij}}{r_{ij}^6} + \frac{k\,q_{ij}}{r_{ij}}

A pair that is excluded has zeros, one with its own parameters has them: exceptions cost nothing. All terms are computed for both orders of a pair,
as (atoms, atoms, batch): sums over partners are then plain reductions, without a scatter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairGeometry:
    """Differences and distances of all ordered pairs; an atom is at distance 1 Å from itself where a distance is divided by.

    Attributes:
        difference: The three components of :math:`x_i - x_j`, each (atoms, atoms, batch) in Å; one by one they stay in the cache.
        square: Squared distances (atoms, atoms, batch) in Å², zero on the diagonal.
        distance: Distances (atoms, atoms, batch) in Å, one on the diagonal.
        inverse: Their inverses in 1/Å.
        inverse_square: The squares of these in 1/Å².
    """

    difference: tuple[Tensor, Tensor, Tensor]
    square: Tensor
    distance: Tensor
    inverse: Tensor
    inverse_square: Tensor

    @classmethod
    def of(cls, x: Tensor, identity: Tensor) -> PairGeometry:
        """Computes the geometry at positions (3, atoms, batch); `identity` is the unit matrix (atoms, atoms, 1)."""
        dx, dy, dz = (along.unsqueeze(1) - along.unsqueeze(0) for along in x.unbind(0))
        square = torch.addcmul(torch.addcmul(dx * dx, dy, dy), dz, dz)
        apart = square + identity
        inverse = apart.rsqrt()
        return cls((dx, dy, dz), square, apart * inverse, inverse, inverse * inverse)

    def gradient(self, weight: Tensor) -> Tensor:
        r"""Returns the gradient :math:`\sum_j w_{ij} (x_i - x_j)` (3, atoms, batch) of weights (atoms, atoms, batch)."""
        return torch.stack([(along * weight).sum(1) for along in self.difference])


@dataclass(frozen=True)
class Nonbonded:
    """Lennard-Jones and Coulomb energies.

    Attributes:
        repulsion: A (atoms, atoms, 1) in eV Å^12, symmetric, zero on the diagonal, like the others.
        dispersion: B (atoms, atoms, 1) in eV Å^6.
        charges: k q (atoms, atoms, 1) in eV Å.
    """

    repulsion: Tensor
    dispersion: Tensor
    charges: Tensor

    def __call__(self, pairs: PairGeometry) -> tuple[Tensor, Tensor]:
        """Evaluates all pairs.

        Returns:
            Energies (batch,) in eV, and the weights w (atoms, atoms, batch) in eV/Å² of the gradient; see `PairGeometry`.
        """
        sixth = pairs.inverse_square * pairs.inverse_square * pairs.inverse_square
        coulomb = self.charges * pairs.inverse
        repulsion = self.repulsion * sixth
        energy = torch.addcmul(coulomb, repulsion - self.dispersion, sixth)
        # dE/dr / r = -(12 A/r^12 - 6 B/r^6 + kq/r) / r^2
        weight = torch.addcmul(coulomb, 12.0 * repulsion - 6.0 * self.dispersion, sixth) * -pairs.inverse_square
        return 0.5 * energy.sum((0, 1)), weight
