r"""Clusters of identical particles with pair potentials: DW4, LJ13, LJ55.

.. math:: u(x) = \sum_{i<j} v(|x_i - x_j|) + \tfrac k2 \sum_i |x_i - x_c|^2

Energies are never capped: particles on top of each other have the energy +inf in Lennard-Jones clusters. Forces are never NaN: where
:math:`dv/d(r^2)` overflows it is the largest number of the dtype divided by four times the number of particles, so that sums stay finite.

Derivatives exist twice. `energy` is plain torch and differentiable as often as one likes; `energy_and_force` uses the closed form, three
times faster.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equilibra.energies.analytic.solved import check_positions
from equilibra.energies.energy import Energy
from equilibra.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Measured constants of a system at kT = 1, with standard errors; see `SolvedEnergy` for the measure.

    Attributes:
        log_z: ln Z.
        log_z_error: Its standard error.
        mean_energy: Mean of u.
        mean_energy_error: Its standard error.
        entropy: S/k = ln Z + mean energy, the lowest NLL of any model.
        entropy_error: Its standard error.
        source: How the numbers were measured.
    """

    log_z: float
    log_z_error: float
    mean_energy: float
    mean_energy_error: float
    entropy: float
    entropy_error: float
    source: str


DW4_REFERENCE = Reference(
    log_z=29.668,
    log_z_error=0.004,
    mean_energy=-22.542,
    mean_energy_error=0.008,
    entropy=7.126,
    entropy_error=0.009,
    source="annealed importance sampling; independent repeats 29.665 +- 0.006 and 29.673 +- 0.007; virial 6.03 +- 0.26 of 6",
)

LJ13_REFERENCE = Reference(
    log_z=59.880,
    log_z_error=0.020,
    mean_energy=-43.06,
    mean_energy_error=0.05,
    entropy=16.82,
    entropy_error=0.05,
    source="soft-core annealed importance sampling both ways with BAR, prefactor 2, 2000 chains; virial 36.00 +- 0.59 of 36",
)


class _LimitedGradient(torch.autograd.Function):
    """The identity, whose gradient is limited to finite numbers."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, limit: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.limit = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(-ctx.limit, ctx.limit), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, limit: None) -> Tensor:
        return tangent.view_as(tangent)


class PairCluster(Energy):
    """Abstract cluster of identical particles.

    Arguments:
        items: Number of particles, at least two.
        axes: Dimension of space.
        trap: Spring constant k of every particle to the common centre.
        name: What it is called.
        reference: Known constants, if there are any.
    """

    def __init__(self, items: int, axes: int, *, trap: float, name: str, reference: Reference | None) -> None:
        if items < 2 or axes < 1:
            raise InputError(f"{name}: got {items} particles in {axes} dimensions, expected at least 2 in at least 1")
        if not 0.0 <= trap < float("inf"):
            raise InputError(f"{name}: got a trap of {trap}, expected a number that is not negative")
        self.items, self.axes, self.name = items, axes, name
        self.trap = float(trap)
        self.reference = reference
        first, second = torch.triu_indices(items, items, 1)
        unit = torch.eye(items, dtype=torch.float64)
        self._incidence = unit[first] - unit[second]

    @abstractmethod
    def pair(self, square: Tensor) -> Tensor:
        """Returns the energy v of pairs at the squared distances r^2, elementwise."""

    @abstractmethod
    def pair_slope(self, square: Tensor) -> Tensor:
        """Returns dv/d(r^2), elementwise."""

    def _separations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean-free positions (axes, items, batch) and separations (axes, pairs, batch): the batch last, for vector units."""
        check_positions(self, x)
        y = x.permute(2, 1, 0).contiguous()
        return y - y.mean(1, keepdim=True), self._incidence.to(x) @ y

    def _limit(self, x: Tensor) -> float:
        return torch.finfo(x.dtype).max / (4 * self.items)

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        centred, delta = self._separations(x)
        square = _LimitedGradient.apply(delta.square().sum(0), self._limit(x))
        u = self.pair(square).sum(0)
        return u + 0.5 * self.trap * centred.square().sum((0, 1)) if self.trap else u

    @torch.no_grad()
    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        centred, delta = self._separations(x)
        square = delta.square().sum(0)
        u = self.pair(square).sum(0)
        limit = self._limit(x)
        slope = self.pair_slope(square).clamp_(-limit, limit)
        force = self._incidence.to(x).T @ delta.mul_(slope.mul_(-2.0))
        if self.trap:
            u = u + 0.5 * self.trap * centred.square().sum((0, 1))
            force = force - self.trap * centred
        return u, force.permute(2, 1, 0).contiguous()


class DoubleWellParticles(PairCluster):
    r"""Particles with a double well in every pair distance: :math:`v = a (r - r_0)^4 + b (r - r_0)^2`.

    The barrier of a pair is :math:`b^2 / 4a` for negative b. The force of two particles at the same point, whose direction is undefined, is
    zero.

    Arguments:
        items: Number of particles.
        axes: Dimension of space.
        a: Quartic coefficient.
        b: Quadratic coefficient.
        distance: Distance r_0 of the barrier.
        name: What it is called.
        reference: Known constants, if there are any.

    References:
        | Equivariant Flows: Exact Likelihood Generative Learning for Symmetric Densities (Köhler et al., 2020)
        | https://arxiv.org/abs/2006.02425
    """

    def __init__(
        self,
        items: int,
        axes: int = 2,
        *,
        a: float = 0.9,
        b: float = -4.0,
        distance: float = 4.0,
        name: str = "double-well-particles",
        reference: Reference | None = None,
    ) -> None:
        super().__init__(items, axes, trap=0.0, name=name, reference=reference)
        if not a > 0.0:
            raise InputError(f"{name}: got a = {a}, expected a positive number")
        self.a, self.b, self.distance = float(a), float(b), float(distance)

    def pair(self, square: Tensor) -> Tensor:  # noqa: D102
        # the square root of zero has no derivative: such pairs take another branch
        apart = square > 0
        root = torch.where(apart, square, 1.0).sqrt()
        stretch = torch.where(apart, root, 0.0) - self.distance
        q = stretch.square()
        return q * (self.a * q + self.b)

    def pair_slope(self, square: Tensor) -> Tensor:  # noqa: D102
        root = square.sqrt()
        stretch = root - self.distance
        slope = stretch * (2.0 * self.a * stretch.square() + self.b) / root
        return torch.where(square > 0, slope, 0.0)


class LennardJonesCluster(PairCluster):
    r"""Lennard-Jones particles in a harmonic trap: :math:`v = P (r^{-12} - 2 r^{-6})`.

    The minimum of a pair is -P at r = 1. Papers print P inconsistently: P = 2 is the sum over ordered pairs used by most diffusion samplers,
    P = 1 the one of several flow papers. They are different systems.

    Arguments:
        items: Number of particles.
        axes: Dimension of space.
        prefactor: P.
        trap: Spring constant of every particle to the common centre.
        name: What it is called; by default it names the number of particles and P.
        reference: Known constants, if there are any.
    """

    def __init__(
        self,
        items: int,
        axes: int = 3,
        *,
        prefactor: float = 2.0,
        trap: float = 1.0,
        name: str | None = None,
        reference: Reference | None = None,
    ) -> None:
        super().__init__(items, axes, trap=trap, name=name or f"lj{items}-p{prefactor:g}", reference=reference)
        if not prefactor > 0.0:
            raise InputError(f"{self.name}: got a prefactor of {prefactor}, expected a positive number")
        self.prefactor = float(prefactor)

    def pair(self, square: Tensor) -> Tensor:
        """Returns P (s^6 - 2 s^3) with s = r^-2, as s^3 (s^3 - 2): an overlap overflows to +inf instead of inf - inf."""
        s = square.reciprocal()
        s3 = s * s * s
        return self.prefactor * (s3 * (s3 - 2.0))

    def pair_slope(self, square: Tensor) -> Tensor:  # noqa: D102
        s = square.reciprocal()
        s3 = s * s * s
        return -6.0 * self.prefactor * (s3 * (s3 - 1.0)) * s


def dw4() -> DoubleWellParticles:
    """Returns DW4: four particles in the plane, D_eff = 6, with its reference constants."""
    return DoubleWellParticles(4, 2, name="dw4", reference=DW4_REFERENCE)


def lj13() -> LennardJonesCluster:
    """Returns LJ13 with P = 2 and the trap k = 1, D_eff = 36, with its reference constants."""
    return LennardJonesCluster(13, reference=LJ13_REFERENCE)


def lj55() -> LennardJonesCluster:
    """Returns LJ55 with P = 2 and the trap k = 1, D_eff = 162; its constants are not known."""
    return LennardJonesCluster(55)
