r"""The five terms of the Vina scoring function for one pair of atoms, and their slopes.

With the surface distance :math:`d = r - R_i - R_j` of two atoms at most 8 Å apart, in kcal/mol:

.. math::

    e = w_1 e^{-(d/0.5)^2} + w_2 e^{-((d-3)/2)^2} + w_3 \min(d, 0)^2
        + w_4\, h_{ij} \operatorname{clip}(1.5 - d, 0, 1) + w_5\, b_{ij} \operatorname{clip}(-d/0.7, 0, 1)

where :math:`h_{ij}` is 1 if both atoms are hydrophobic and :math:`b_{ij}` is 1 if one donates and the other accepts a hydrogen bond. The energy is
continuous but for a step of at most 0.005 kcal/mol at 8 Å. Its slope is continuous but for the kinks of the last two terms, which are piecewise
linear: at d = 0.5 and 1.5 Å, and at d = -0.7 and 0 Å. At contact all of it is finite: the repulsion of two carbons on top of each other is
12 kcal/mol.

References:
    | AutoDock Vina: Improving the speed and accuracy of docking with a new scoring function, efficient optimization, and multithreading (Trott and
      Olson, 2010), https://doi.org/10.1002/jcc.21334
"""

from __future__ import annotations

import torch
from torch import Tensor

GAUSS1, GAUSS2, REPULSION, HYDROPHOBIC, HYDROGEN_BOND = -0.035579, -0.005156, 0.840245, -0.035069, -0.587439
"""Weights of the five terms in kcal/mol (the repulsion: kcal/mol/Å²)."""

ROTATABLE = 0.05846
"""Weight of the number of rotatable bonds."""

CUTOFF = 8.0
"""Distance in Å from which on two atoms do not interact."""

_LEAST_SQUARE = 1e-12


def distances(difference: Tensor) -> Tensor:
    """Returns the lengths of differences (..., 3, pairs) with shape (..., pairs); atoms on top of each other have a derivative, of zero."""
    x, y, z = difference.unbind(-2)
    return torch.addcmul(torch.addcmul(x * x, y, y), z, z).clamp_min(_LEAST_SQUARE).sqrt()


def pair_terms(
    distance: Tensor, contact: Tensor, hydrophobic: Tensor, bonding: Tensor, *, slopes: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Computes energies and slopes of pairs.

    Arguments:
        distance: Distances of the centres in Å, with shape (..., pairs).
        contact: Sums of the radii in Å, of the same shape, like the others.
        hydrophobic: Whether both atoms are hydrophobic, 0 or 1.
        bonding: Whether they can form a hydrogen bond, 0 or 1.
        slopes: Whether slopes are wanted.

    Returns:
        Energies in kcal/mol and, if wanted, their derivatives by the distance in kcal/mol/Å, each with shape (..., pairs).
    """
    d = distance - contact
    apart = distance >= CUTOFF
    square = d * d
    near = GAUSS1 * torch.exp(-4.0 * square)
    shifted = d - 3.0
    far = GAUSS2 * torch.exp(-0.25 * (shifted * shifted))
    overlap = d.clamp_max(0.0)
    touch = HYDROPHOBIC * hydrophobic
    bond = (HYDROGEN_BOND / -0.7) * bonding
    energy = torch.addcmul(near + far, overlap, overlap, value=REPULSION)
    energy = torch.addcmul(energy, touch, (1.5 - d).clamp(0.0, 1.0))
    energy = torch.addcmul(energy, bond, overlap.clamp_min(-0.7)).masked_fill(apart, 0.0)
    if not slopes:
        return energy, None
    slope = torch.addcmul(2.0 * REPULSION * overlap, d, near, value=-8.0)
    slope = torch.addcmul(slope, shifted, far, value=-0.5)
    slope = slope - touch.masked_fill((d <= 0.5) | (d >= 1.5), 0.0) + bond.masked_fill((d <= -0.7) | (d >= 0.0), 0.0)
    return energy, slope.masked_fill(apart, 0.0)
