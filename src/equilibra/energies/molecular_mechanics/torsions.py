r"""Dihedral angles and the terms that depend on them alone: Fourier series, Ryckaert-Bellemans polynomials, harmonic impropers.

A periodic torsion :math:`k[1 + \cos(n\phi - \phi_0)]` is a combination of :math:`\cos n\phi = T_n(c)` and :math:`\sin n\phi = s\,U_{n-1}(c)` with
:math:`c = \cos\phi` and :math:`s = \sin\phi`; a Ryckaert-Bellemans torsion is a polynomial in :math:`\cos(\phi - \pi) = -c`. So all torsions of the
same four atoms are one function

.. math:: E = P(c) + s\,R(c), \qquad \partial E/\partial\phi = -s\,P'(c) + c\,R(c) - s^2 R'(c)

of two polynomials, and no angle has to be computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.energies.molecular_mechanics.bonded import corners, dot


@dataclass(frozen=True)
class Dihedrals:
    r"""Dihedral angles of four atoms each, with what their gradient needs.

    For bonds :math:`b_1, b_2, b_3`, normals :math:`u = b_1 \times b_2` and :math:`v = b_2 \times b_3`:

    .. math::
        \cos\phi = \frac{u \cdot v}{|u||v|}, \quad \sin\phi = \frac{|b_2|\, b_1 \cdot v}{|u||v|}, \quad
        \frac{\partial\phi}{\partial x_1} = -\frac{|b_2|}{u^2} u, \quad \frac{\partial\phi}{\partial x_4} = \frac{|b_2|}{v^2} v

    and, with :math:`\tau_k = b_k \cdot b_2 / b_2^2`, :math:`\partial\phi/\partial x_2 = -(1 + \tau_1)\,\partial\phi/\partial x_1 +
    \tau_3\,\partial\phi/\partial x_4`; the four of them add up to zero.

    Attributes:
        cosine: :math:`\cos\phi` (groups, batch).
        sine: :math:`\sin\phi` (groups, batch).
        first: :math:`\partial\phi/\partial x_1` (3, groups, batch), in 1/Å.
        last: :math:`\partial\phi/\partial x_4` (3, groups, batch), in 1/Å.
        lean_first: :math:`\tau_1` (groups, batch).
        lean_last: :math:`\tau_3` (groups, batch).
    """

    cosine: Tensor
    sine: Tensor
    first: Tensor
    last: Tensor
    lean_first: Tensor
    lean_last: Tensor

    @classmethod
    def of(cls, x: Tensor, atoms: Tensor) -> Dihedrals:
        """Computes the dihedral angles of atoms (4, groups) at positions (3, atoms, batch)."""
        x1, x2, x3, x4 = corners(x, atoms)
        b1, b2, b3 = x2 - x1, x3 - x2, x4 - x3
        u, v = torch.linalg.cross(b1, b2, dim=0), torch.linalg.cross(b2, b3, dim=0)
        uu, vv, axis = dot(u, u), dot(v, v), dot(b2, b2)
        length = axis.sqrt()
        norm = (uu * vv).rsqrt()
        return cls(
            cosine=dot(u, v) * norm,
            sine=dot(b1, v) * (length * norm),
            first=u * (-length / uu),
            last=v * (length / vv),
            lean_first=dot(b1, b2) / axis,
            lean_last=dot(b3, b2) / axis,
        )

    @property
    def angle(self) -> Tensor:
        """Dihedral angles in (-pi, pi], (groups, batch)."""
        return torch.atan2(self.sine, self.cosine)

    def gradient(self, slope: Tensor) -> Tensor:
        """Returns the gradient (3, 4 * groups, batch) of an energy with the derivatives `slope` (groups, batch) in eV/rad."""
        first, last = self.first * slope, self.last * slope
        third = first * self.lean_first - last * (1.0 + self.lean_last)
        return torch.cat((first, -(first + third + last), third, last), 1)


def _polynomial(coefficients: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the polynomials with coefficients (degree + 1, groups, 1), constant first, and their derivatives, by Horner's rule."""
    value, slope = coefficients[-1] * torch.ones_like(c), torch.zeros_like(c)
    for coefficient in coefficients[:-1].flip(0).unbind(0):
        slope = torch.addcmul(value, slope, c)
        value = torch.addcmul(coefficient, value, c)
    return value, slope


@dataclass(frozen=True)
class Torsions:
    r"""All periodic and Ryckaert-Bellemans torsions: :math:`E = P(\cos\phi) + \sin\phi\,R(\cos\phi)`.

    Attributes:
        atoms: Indices (4, torsions), each group of four atoms once.
        even: Coefficients of P (degree + 1, torsions, 1) in eV, constant first.
        odd: Coefficients of R (degree + 1, torsions, 1) in eV; no rows where every phase is 0 or pi.
    """

    atoms: Tensor
    even: Tensor
    odd: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates the torsions; see `BondedTerm`."""
        dihedrals = Dihedrals.of(x, self.atoms)
        c, s = dihedrals.cosine, dihedrals.sine
        energy, derivative = _polynomial(self.even, c)
        slope = -s * derivative
        if self.odd.shape[0]:
            value, derivative = _polynomial(self.odd, c)
            energy = energy + s * value
            slope = slope + c * value - s * s * derivative
        return energy.sum(0), dihedrals.gradient(slope)


@dataclass(frozen=True)
class HarmonicImpropers:
    r"""CHARMM's impropers: :math:`E = k (\phi - \phi_0)^2`, with :math:`\phi` in (-pi, pi].

    Attributes:
        atoms: Indices (4, impropers).
        angle: Rest angles :math:`\phi_0` (impropers, 1) in radians.
        stiffness: Force constants k (impropers, 1) in eV/rad².
        periodic: Whether the difference is taken into [-pi, pi]; OpenMM's older files do without, which matters far from rest only.
    """

    atoms: Tensor
    angle: Tensor
    stiffness: Tensor
    periodic: bool

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates the impropers; see `BondedTerm`."""
        dihedrals = Dihedrals.of(x, self.atoms)
        difference = dihedrals.angle - self.angle
        if self.periodic:
            difference = difference - 2.0 * math.pi * torch.round(difference / (2.0 * math.pi))
        moment = self.stiffness * difference
        return (moment * difference).sum(0), dihedrals.gradient(2.0 * moment)
