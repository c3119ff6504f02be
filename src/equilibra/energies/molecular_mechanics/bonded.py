r"""Harmonic bonds and angles, and the contract of all terms between fixed groups of atoms.

.. math:: E = \sum_\text{bonds} \tfrac{k}{2} (r - r_0)^2 + \sum_\text{angles} \tfrac{k}{2} (\theta - \theta_0)^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class BondedTerm(Protocol):
    """Energy of many groups of k atoms each.

    Attributes:
        atoms: Indices (k, groups) of the atoms.
    """

    @property
    def atoms(self) -> Tensor:
        """Indices (k, groups) of the atoms."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates the term.

        Arguments:
            x: Positions (3, atoms, batch) in Å.

        Returns:
            Energies (batch,) in eV, and the gradient of each group with respect to each of its atoms, (3, k * groups, batch) in eV/Å, in the
            order of `atoms.flatten()`.
        """


def corners(x: Tensor, atoms: Tensor) -> tuple[Tensor, ...]:
    """Returns the positions (3, groups, batch) of the first, second, ... atoms (k, groups) of all groups."""
    return x.index_select(1, atoms.flatten()).unflatten(1, (atoms.shape[0], atoms.shape[1])).unbind(1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Returns the scalar products of vectors (3, groups, batch)."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


@dataclass(frozen=True)
class HarmonicBonds:
    r"""Harmonic bonds, Urey-Bradley terms included: :math:`E = \frac{k}{2}(r - r_0)^2`.

    Attributes:
        atoms: Indices (2, bonds).
        length: Rest lengths :math:`r_0` (bonds, 1) in Å.
        stiffness: Force constants k (bonds, 1) in eV/Å².
    """

    atoms: Tensor
    length: Tensor
    stiffness: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates the bonds; see `BondedTerm`."""
        first, second = corners(x, self.atoms)
        bond = first - second
        r = dot(bond, bond).sqrt()
        stretch = r - self.length
        tension = self.stiffness * stretch
        gradient = bond * (tension / r)
        return 0.5 * (tension * stretch).sum(0), torch.cat((gradient, -gradient), 1)


@dataclass(frozen=True)
class HarmonicAngles:
    r"""Harmonic angles: :math:`E = \frac{k}{2}(\theta - \theta_0)^2`, with :math:`\theta = \operatorname{atan2}(|a \times b|, a \cdot b)`.

    For the arms a and b from the middle atom, with :math:`p = a \times b`, the gradient at their ends is

    .. math:: \partial\theta/\partial a = \frac{a \times p}{a^2 |p|}, \qquad \partial\theta/\partial b = \frac{p \times b}{b^2 |p|}

    Attributes:
        atoms: Indices (3, angles), the middle atom second.
        angle: Rest angles :math:`\theta_0` (angles, 1) in radians.
        stiffness: Force constants k (angles, 1) in eV/rad².
    """

    atoms: Tensor
    angle: Tensor
    stiffness: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates the angles; see `BondedTerm`."""
        first, middle, last = corners(x, self.atoms)
        a, b = first - middle, last - middle
        aa, bb, ab = dot(a, a), dot(b, b), dot(a, b)
        p = torch.linalg.cross(a, b, dim=0)
        # a straight angle has no direction to bend in: the smallest number instead of zero keeps its gradient finite
        length = dot(p, p).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        bend = torch.atan2(length, ab) - self.angle
        moment = self.stiffness * bend
        # a x (a x b) = a (a.b) - b (a.a), and the same with the arms exchanged
        scale = moment / length
        at_first = a * (scale * ab / aa) - b * scale
        at_last = b * (scale * ab / bb) - a * scale
        return 0.5 * (moment * bend).sum(0), torch.cat((at_first, -(at_first + at_last), at_last), 1)
