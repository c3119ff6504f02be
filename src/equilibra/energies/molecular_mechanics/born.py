r"""Generalised-Born solvation: the Born radii of Hawkins, Cramer and Truhlar, with the corrections OBC1, OBC2, GBn and GBn2.

With offset radii :math:`\rho_i` and scaled radii :math:`s_j`, atom j takes from the surroundings of atom i the descreening

.. math::
    H_{ij} = \frac12\Big[\frac1L - \frac1U + \frac14\Big(r - \frac{s_j^2}{r}\Big)\Big(\frac1{U^2} - \frac1{L^2}\Big) + \frac1{2r}\ln\frac LU\Big],
    \quad U = r + s_j,\ L = \max(\rho_i, |r - s_j|)

where :math:`U > \rho_i`, else nothing. GBn and GBn2 add a neck :math:`\nu m_{ij} / [1 + (r - d_{ij})^2 + 0.3 (r - d_{ij})^6]` (lengths in Å) to pairs
closer than :math:`R_i + R_j + 6.8` Å. The sum :math:`I_i = \sum_j H_{ij}` gives the Born radius

.. math:: \frac1{B_i} = \frac1{\rho_i} - \frac1{R_i}\tanh(\alpha\psi - \beta\psi^2 + \gamma\psi^3), \qquad \psi = \rho_i I_i

and these the energies of polarisation and of the surface:

.. math::
    E = -\frac{k\tau}2 \sum_{i,j} \frac{q_i q_j}{\sqrt{r_{ij}^2 + B_i B_j e^{-r_{ij}^2/4 B_i B_j}}}
        + 4\pi\sigma \sum_i (R_i + 1.4)^2 \Big(\frac{R_i}{B_i}\Big)^6, \qquad \tau = \frac1{\epsilon_\text{in}} - \frac1{\epsilon_\text{out}}

References:
    | Exploring protein native states and large-scale conformational changes with a modified generalized Born model (Onufriev, Bashford & Case, 2004)
    | https://doi.org/10.1002/prot.20033
    | Improved generalized Born solvent model parameters for protein simulations (Nguyen, Roe & Simmerling, 2013)
    | https://doi.org/10.1021/ct3010485
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.energies.molecular_mechanics.nonbonded import PairGeometry


@dataclass(frozen=True)
class Neck:
    r"""Necks between atoms that no water fits between (GBn, GBn2).

    Attributes:
        height: :math:`\nu m_{ij}` (atoms, atoms, 1) in 1/Å, zero on the diagonal.
        position: :math:`d_{ij}` (atoms, atoms, 1) in Å.
        reach: Distance (atoms, atoms, 1) in Å beyond which there is none.
    """

    height: Tensor
    position: Tensor
    reach: Tensor

    def __call__(self, pairs: PairGeometry) -> tuple[Tensor, Tensor]:
        """Returns the necks (atoms, atoms, batch) in 1/Å and their derivatives by the distance, in 1/Å²."""
        beyond = pairs.distance - self.position
        square = beyond * beyond
        fourth = square * square
        inverse = 1.0 / (1.0 + square + 0.3 * fourth * square)
        value = (pairs.distance < self.reach) * self.height * inverse
        return value, -value * inverse * beyond * (2.0 + 1.8 * fourth)


@dataclass(frozen=True)
class GeneralisedBorn:
    r"""A generalised-Born model.

    Attributes:
        charges: :math:`-k \tau q_i q_j` (atoms, atoms, 1) in eV Å, the diagonal included.
        offset_radius: :math:`\rho_i` (atoms, 1) in Å.
        radius: :math:`R_i` (atoms, 1) in Å.
        own: :math:`\rho_i` of each ordered pair (atoms, atoms, 1) in Å, and a large number on the diagonal, which shuts it off.
        scaled: :math:`s_j` of each ordered pair (atoms, atoms, 1) in Å, zero on the diagonal.
        alpha: :math:`\alpha` (atoms, 1).
        beta: :math:`\beta` (atoms, 1).
        gamma: :math:`\gamma` (atoms, 1).
        surface: :math:`4\pi\sigma (R_i + 1.4)^2 R_i^6` (atoms, 1) in eV Å^6.
        neck: Necks, if the model has them.
        engulfing: What is done if atom j encloses the whole of atom i, :math:`s_j - r > \rho_i`: `never` if no :math:`s_j` is larger than
            a :math:`\rho_i`, `added` for the missing :math:`1/\rho_i - 1/L`, `ignored` as OpenMM's interpreted forces do.
        negative: Whether some :math:`s_j` is negative, so that the condition :math:`U > \rho_i` has to be asked for.
    """

    charges: Tensor
    offset_radius: Tensor
    radius: Tensor
    own: Tensor
    scaled: Tensor
    alpha: Tensor
    beta: Tensor
    gamma: Tensor
    surface: Tensor
    neck: Neck | None
    engulfing: str
    negative: bool

    def _descreening(self, pairs: PairGeometry) -> tuple[Tensor, Tensor]:
        """Returns H (atoms, atoms, batch) in 1/Å and dH/dr / r in 1/Å³; H does not depend on L and U where these depend on r."""
        r, s = pairs.distance, self.scaled
        # with U no smaller than rho, U = L = rho where the two atoms do not touch, and H vanishes of itself
        outer = torch.maximum(r + s, self.own)
        inner = torch.maximum((r - s).abs(), self.own)
        u, l = 1.0 / outer, 1.0 / inner  # noqa: E741
        difference, total = l - u, l + u
        logarithm = torch.log(inner * u) * pairs.inverse
        ss = s * s
        tail = ss * pairs.inverse
        value = 0.5 * difference * (1.0 - 0.25 * (r - tail) * total) + 0.25 * logarithm
        slope = (-0.125 * (r + tail) * difference * total - 0.25 * logarithm) * pairs.inverse_square
        if self.engulfing != "never":
            engulfed = s - r > self.own
            if self.engulfing == "added":
                value = value + engulfed * (1.0 / self.own - l)
            else:
                slope = slope + engulfed * (l * l * pairs.inverse)
        if self.negative:
            touching = r + s > self.own
            value, slope = value * touching, slope * touching
        if self.neck is not None:
            neck, neck_slope = self.neck(pairs)
            value, slope = value + neck, slope + neck_slope * pairs.inverse
        return value, slope

    def _radii(self, integral: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the Born radii (atoms, batch) in Å and their derivatives by I, in Å²."""
        psi = self.offset_radius * integral
        bend = torch.tanh(psi * (self.alpha + psi * (self.gamma * psi - self.beta)))
        born = 1.0 / (1.0 / self.offset_radius - bend / self.radius)
        inside = self.alpha + psi * (3.0 * self.gamma * psi - 2.0 * self.beta)
        return born, born * born * (1.0 - bend * bend) * inside * (self.offset_radius / self.radius)

    def __call__(self, pairs: PairGeometry) -> tuple[Tensor, Tensor]:
        """Evaluates the model; energies and weights as `Nonbonded` returns them."""
        descreening, descreening_slope = self._descreening(pairs)
        born, born_slope = self._radii(descreening.sum(1))
        product = born.unsqueeze(1) * born.unsqueeze(0)
        exponent = pairs.square / (4.0 * product)
        decay = torch.exp(-exponent)
        smeared = product * decay
        inverse = (pairs.square + smeared).rsqrt()
        polarisation = self.charges * inverse
        # dE/d(f^2) with both orders of the pair, f^2 being what is under the root
        by_square = -0.5 * polarisation * inverse * inverse
        weight = by_square * (2.0 - 0.5 * decay)
        by_radius = (by_square * smeared * (1.0 + exponent)).sum(1) / born
        surface = self.surface * born**-6
        by_integral = (by_radius - 6.0 * surface / born) * born_slope
        through_radii = by_integral.unsqueeze(1) * descreening_slope
        weight = weight + through_radii + through_radii.transpose(0, 1)
        return 0.5 * polarisation.sum((0, 1)) + surface.sum(0), weight
