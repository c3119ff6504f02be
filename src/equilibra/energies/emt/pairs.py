r"""Pairs of effective medium theory: what atoms give to each other's density, and their pair energies, over all images.

.. math::
    \sigma_{1,i} = \sum_j \chi_{ij}\, e^{-\eta_{2,j} (r_{ij} - \beta s_{0,j})}\, \theta(r_{ij}), \qquad
    \sigma_{2,i} = \sum_j \chi_{ij}\, e^{-\kappa_j (r_{ij}/\beta - s_{0,j})}\, \theta(r_{ij}), \qquad \chi_{ij} = n_{0,j}/n_{0,i}, \qquad
    E_{\text{pair}} = -\sum_i \frac{V_{0,i}}{2 \gamma_{2,i}}\, \sigma_{2,i}
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.energies.emt.images import Images
from equilibra.energies.emt.parameters import BETA, AtomParameters, Cutoff

_SQUARE = 1e-24
"""Added to squared distances in Å²: atoms on top of each other have no force on each other instead of not a number."""


@dataclass(frozen=True)
class Decay:
    r"""A function :math:`e^{c - k r}` of the distance, with constants that broadcast over (rows, images, columns, batch)."""

    offset: Tensor
    rate: Tensor

    def __call__(self, r: Tensor) -> Tensor:
        """Returns the values at distances in Å."""
        return torch.exp(self.offset - self.rate * r)


@dataclass(frozen=True)
class Pairs:
    """All pairs of rows and columns at some positions, with tables (rows, images, columns, batch).

    Attributes:
        difference: The three components of the vectors from the column's image to the row, each a table in Å.
        inverse: Inverse distances in 1/Å.
        slope: Logarithmic derivative of θ in 1/Å.
        row_density: What the column gives to the row's σ1.
        column_density: What the row gives to the column's σ1.
        row_energy: Share of the row's σ2 in minus the pair energy, in eV.
        column_energy: Share of the column's.
        energy: Minus the pair energy: the sum of both.
    """

    difference: tuple[Tensor, Tensor, Tensor]
    inverse: Tensor
    slope: Tensor
    row_density: Tensor
    column_density: Tensor
    row_energy: Tensor
    column_energy: Tensor
    energy: Tensor


@dataclass(frozen=True)
class PairFunctions:
    """Functions of the distance for all pairs of rows and columns.

    Attributes:
        images: The images of the columns.
        cutoff: The cut-off.
        extra: Added to squared distances (rows, images, columns, 1) in Å²: it takes each atom out of its own reach.
        row_density, column_density, row_energy, column_energy: The functions behind the tables of `Pairs`.
    """

    images: Images
    cutoff: Cutoff
    extra: Tensor
    row_density: Decay
    column_density: Decay
    row_energy: Decay
    column_energy: Decay

    @classmethod
    def of(cls, rows: AtomParameters, columns: AtomParameters, same: Tensor, images: Images, cutoff: Cutoff) -> PairFunctions:
        """Returns the functions of some atoms with others; `same` (rows, columns) tells where both are one atom."""
        extra = torch.full((same.shape[0], len(images.translations), same.shape[1], 1), _SQUARE, dtype=torch.float64)
        extra[:, images.zero, :, 0] += same.double() * (2.0 * cutoff.end) ** 2
        i, j = rows[:, None, None, None], columns[None, None, :, None]
        chi = torch.log(j.n0 / i.n0)
        return cls(
            images,
            cutoff,
            extra,
            Decay(chi + j.eta2 * BETA * j.s0, j.eta2),
            Decay(i.eta2 * BETA * i.s0 - chi, i.eta2),
            Decay(torch.log(0.5 * i.v0 / i.gamma2) + chi + j.kappa * j.s0, j.kappa / BETA),
            Decay(torch.log(0.5 * j.v0 / j.gamma2) - chi + i.kappa * i.s0, i.kappa / BETA),
        )

    def __call__(self, rows: Tensor, columns: Tensor) -> Pairs:
        """Returns the tables at positions (3, rows, batch) and (3, columns, batch) in Å."""
        nearest = self.images.wrap(rows.unsqueeze(2) - columns.unsqueeze(1))
        moved = nearest.unsqueeze(2) + self.images.translations.T[:, None, :, None, None]
        dx, dy, dz = moved.unbind(0)
        square = torch.addcmul(torch.addcmul(torch.addcmul(self.extra, dx, dx), dy, dy), dz, dz)
        inverse = square.rsqrt()
        r = square * inverse
        smooth = self.cutoff.theta(r)
        theta = smooth * (r < self.cutoff.end).to(r.dtype)
        row_energy, column_energy = self.row_energy(r) * theta, self.column_energy(r) * theta
        return Pairs(
            (dx, dy, dz),
            inverse,
            self.cutoff.steepness * (smooth - 1.0),
            self.row_density(r) * theta,
            self.column_density(r) * theta,
            row_energy,
            column_energy,
            row_energy + column_energy,
        )

    def gradient(self, pairs: Pairs, row_slope: Tensor, column_slope: Tensor) -> Tensor:
        r"""Returns the derivatives of the energy by the positions of the rows (3, rows, batch) in eV/Å.

        Arguments:
            pairs: The tables.
            row_slope: :math:`\partial E/\partial \sigma_1` of the rows (rows, batch), in eV.
            column_slope: That of the columns (columns, batch).
        """
        row = row_slope[:, None, None] * pairs.row_density
        column = column_slope[None, None] * pairs.column_density
        decays = row * self.row_density.rate + column * self.column_density.rate
        decays = decays - pairs.row_energy * self.row_energy.rate - pairs.column_energy * self.column_energy.rate
        # every function is a decay times θ: its derivative by the distance is (slope of θ - rate of the decay) times itself
        weight = ((row + column - pairs.energy) * pairs.slope - decays) * pairs.inverse
        return torch.stack([(along * weight).sum((1, 2)) for along in pairs.difference])
