r"""Spaces: the geometry of a field, and everything a process has to know about it.

On every Space the noise is Brownian motion with the variance :math:`\sigma^2` per axis at small times, so that one set of equations
serves all of them, with :math:`s` the Riemannian score and :math:`\exp` the retraction:

.. math::
    \text{probability flow:}\quad & dx = -\tfrac12 \, d(\sigma^2) \, s \\
    \text{reverse diffusion:}\quad & dx = -d(\sigma^2) \, s + \sqrt{-d(\sigma^2)} \, z \quad (d\sigma^2 < 0)

Tangent vectors are arrays: the displacement itself on flat Spaces, a global-frame axis-angle vector on SO(3): :math:`R \to \mathrm{Exp}(v) R`.
Denoisers speak of the **displacement** :math:`\delta = \sigma^2 s`; on a flat Space it is :math:`\hat x_0 - x`, with the posterior mean
:math:`\hat x_0` (Tweedie's formula).

A field has the shape (batch, items, *event) or (batch, *event); all items of a batch element share its noise level.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from equilibra.errors import SpaceError
from equilibra.geometry import igso3, lattice, mean_free, so3, torus
from equilibra.geometry.great_arc import slerp


@dataclass(frozen=True)
class Preconditioning:
    r"""How a network's output F becomes a displacement: :math:`\delta = c_{shift}\, x + c_{out}\, F(c_{in}\, x)`.

    With x relative to the centre of the prior (`Space.about_centre`). Each has the shape (batch,), or (batch, 1, axes) where the axes of a point differ in kind.
    """

    c_in: Tensor
    c_shift: Tensor
    c_out: Tensor


def expand(value: Tensor, like: Tensor) -> Tensor:
    """Returns a per-batch tensor (batch,) with trailing axes, so that it broadcasts against `like` (batch, ...)."""
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim))


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Returns x with the padded items (mask false, shape (batch, items)) set to zero."""
    return x if mask is None else x * expand(mask, x).to(x.dtype)


class Space(ABC):
    """Abstract geometry of a field.

    Attributes:
        linear: True where points are vectors, so that the signal can be scaled (variance-preserving schedules) and averaged.
        flat: True where steps add vectors and the heat kernel is Gaussian, in coordinates that need not be unique.
        event_ndim: Number of trailing axes of one point.
    """

    linear: ClassVar[bool]
    flat: ClassVar[bool] = False
    event_ndim: ClassVar[int]

    @abstractmethod
    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the true dimension D_eff of each batch element, with shape (batch,), as floats."""

    @abstractmethod
    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Returns a standard normal tangent vector at x, in an orthonormal basis of the tangent space."""

    @abstractmethod
    def retract(self, x: Tensor, v: Tensor) -> Tensor:
        """Returns the point reached from x along the tangent vector v (the exponential map)."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the shortest tangent vector at x that leads to y."""

    def kernel_log(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the tangent vector at x that leads to y as the noise kernel sees it: the shortest one, but in a cover that of these very images."""
        return self.log(x, y)

    @abstractmethod
    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:
        """Projects a raw array (a network's output, a force) on the tangent space; padded items become zero."""

    @abstractmethod
    def perturb(self, x0: Tensor, sigma: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Draws from the heat kernel of x0 with the noise sigma (batch,)."""

    @abstractmethod
    def kernel_displacement(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        r"""Returns :math:`\sigma^2 \nabla_x \ln p(x \mid x_0)` of the heat kernel: the target of denoising score matching."""

    @abstractmethod
    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Draws the distribution at the largest noise sigma (batch,) of data with the standard deviation `data_scale` per axis."""

    @abstractmethod
    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:
        """Returns the log-density (batch,) of the distribution that `prior` draws."""

    @abstractmethod
    def preconditioning(self, sigma: Tensor, data_scale: float) -> Preconditioning:
        """Returns coefficients with which the ideal network output has unit variance at every sigma (batch,)."""

    def of_system(self, graph: Mapping[str, Tensor]) -> "Space":
        """Returns the Space of one system, given what is known of the whole of it (`Features.graph`): itself, where all systems share one."""
        return self

    @property
    def has_kernel(self) -> bool:
        """Whether `log_kernel` is the density of what `perturb` draws."""
        return self.flat

    def log_kernel(self, x0: Tensor, x: Tensor, variance: float, mask: Tensor | None) -> Tensor:
        """Returns the log-density (batch,) of the heat kernel of x0 at x, with the given variance per axis, in float64.

        Raises:
            SpaceError: If it is not known on this Space.
        """
        if not self.flat:
            raise SpaceError(f"the density of the noise is not known on {type(self).__name__}")
        v = self.project(x.double() - x0.double(), mask)
        return -0.5 * (self.degrees(v, mask) * math.log(2.0 * math.pi * variance) + self.inner(v, v) / variance)

    def frame_size(self, x: Tensor) -> int:
        """Returns the number of coordinates in the orthonormal frame of the tangent space, those of padded items included."""
        return math.prod(x.shape[1:])

    def from_frame(self, c: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the tangent vectors at x with the orthonormal coordinates c (batch, frame_size); those of padded items count for nothing."""
        return self.project(c.reshape(x.shape), mask)

    def chart_velocity(self, u: Tensor, v: Tensor) -> Tensor:
        """Returns du for which the point retract(x, u) moves along its tangent vector v; both are the same on flat Spaces."""
        return v

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        """Returns the Riemannian inner product of two tangent vectors (padded items zero), with shape (batch,)."""
        return (u * v).flatten(1).sum(1)

    def clean(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Removes rounding drift: projects an array on the Space."""
        return masked(x, mask)

    def about_centre(self, x: Tensor) -> Tensor:
        """Returns points relative to the centre of the prior, as preconditioning takes them: x itself where that is the origin, or there is none."""
        return x

    def interpolate(self, a: Tensor, b: Tensor, fraction: float, mask: Tensor | None) -> Tensor:
        """Returns the latent point between a and b: a geodesic here, a norm-preserving great arc on flat Spaces."""
        return self.clean(self.retract(a, fraction * self.log(a, b)), mask)


def edm_preconditioning(sigma: Tensor, data_scale: float) -> Preconditioning:
    r"""Returns the coefficients of Karras et al. (2022), Table 1, for the displacement.

    .. math:: c_{shift} = c_{skip} - 1 = -\frac{\sigma^2}{\sigma^2 + \sigma_d^2}, \quad
        c_{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad c_{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}

    For Gaussian data of standard deviation :math:`\sigma_d` the ideal F vanishes.
    """
    total = sigma**2 + data_scale**2
    return Preconditioning(c_in=total.rsqrt(), c_shift=-(sigma**2) / total, c_out=sigma * data_scale * total.rsqrt())


@dataclass(frozen=True)
class Euclidean(Space):
    r"""Flat space :math:`\mathbb R^d` per item, in an absolute frame: nothing is projected and :math:`D_{eff} = N d`."""

    linear: ClassVar[bool] = True
    flat: ClassVar[bool] = True
    event_ndim: ClassVar[int] = 1

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        if mask is None:
            return x.new_full((x.shape[0],), math.prod(x.shape[1:]))
        return mask.sum(1).to(x.dtype) * x.shape[-1]

    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return self.project(torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device), mask)

    def retract(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return y - x

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return masked(v, mask)

    def clean(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return self.project(x, mask)

    def perturb(self, x0: Tensor, sigma: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return x0 + expand(sigma, x0) * self.tangent_noise(x0, mask, generator=generator)

    def kernel_displacement(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return x0 - x

    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        r"""Draws the moment-matched prior :math:`N(0, \sigma^2 + \sigma_d^2)`."""
        width = torch.sqrt(sigma**2 + data_scale**2)
        return expand(width, like) * self.tangent_noise(like, mask, generator=generator)

    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        variance, x = sigma**2 + data_scale**2, self.project(x, mask)
        return -0.5 * (self.degrees(x, mask) * torch.log(2.0 * math.pi * variance) + self.inner(x, x) / variance)

    def preconditioning(self, sigma: Tensor, data_scale: float) -> Preconditioning:  # noqa: D102
        return edm_preconditioning(sigma, data_scale)

    def interpolate(self, a: Tensor, b: Tensor, fraction: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        return self.clean(slerp(a, b, fraction), mask)


@dataclass(frozen=True)
class CentredEuclidean(Euclidean):
    r"""Particles with their mean at the origin: :math:`\{x \in \mathbb R^{N d} : \sum_i x_i = 0\}`, :math:`D_{eff} = (N-1) d`.

    Noise, prior, network output and forces are projected by :math:`P = (I_N - \mathbf 1 \mathbf 1^T / N) \otimes I_d`.
    """

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        items = x.new_full((x.shape[0],), x.shape[1]) if mask is None else mask.sum(1).to(x.dtype)
        return (items - 1.0) * x.shape[-1]

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        if mask is None:
            return v - v.mean(1, keepdim=True)
        weights = expand(mask, v).to(v.dtype)
        return (v - (v * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)) * weights

    def frame_size(self, x: Tensor) -> int:  # noqa: D102
        return (x.shape[1] - 1) * x.shape[2]

    def from_frame(self, c: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns vectors from coordinates in the Helmert basis of the particles."""
        return mean_free.from_coordinates(c, x, mask)


@dataclass(frozen=True)
class SymmetricMatrices(Euclidean):
    r"""Symmetric 3 x 3 matrices with the Frobenius metric about a multiple of the identity: the lattice, :math:`D_{eff} = 6`.

    The noise is the Gaussian orthogonal ensemble (diagonal N(0, 1), off-diagonal N(0, 1/2)), the only Gaussian whose law is invariant
    under rotations; see `geometry.lattice` for the density scaling :math:`L = \mu I + s \ell` and for the measure.

    Attributes:
        centre: The prior is centred at this multiple of the identity, in the unit of the field.
    """

    centre: float = 0.0
    event_ndim: ClassVar[int] = 2

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return x.new_full((x.shape[0],), 6.0)

    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return lattice.goe(x.shape[:-2], generator=generator, dtype=x.dtype, device=x.device)

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return 0.5 * (v + v.transpose(-1, -2))

    def about_centre(self, x: Tensor) -> Tensor:  # noqa: D102
        return x - self.centre * torch.eye(3, dtype=x.dtype, device=x.device)

    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Draws the moment-matched prior about the centre."""
        drawn = super().prior(like, sigma, data_scale, mask, generator=generator)
        return drawn + self.centre * torch.eye(3, dtype=like.dtype, device=like.device)

    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        return super().log_prior(self.about_centre(x), sigma, data_scale, mask)

    def frame_size(self, x: Tensor) -> int:  # noqa: D102
        return 6 * math.prod(x.shape[1:-2])

    def from_frame(self, c: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return lattice.from_vector(c.reshape(*x.shape[:-2], 6))

    def interpolate(self, a: Tensor, b: Tensor, fraction: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        path = super().interpolate(self.about_centre(a), self.about_centre(b), fraction, mask)
        return path + self.centre * torch.eye(3, dtype=path.dtype, device=path.device)


@dataclass(frozen=True)
class SO3(Space):
    """Rotations, one 3 x 3 matrix per item, with isotropic Gaussian (IGSO(3)) noise; D_eff = 3 per rotation, Haar measure of mass 1."""

    linear: ClassVar[bool] = False
    event_ndim: ClassVar[int] = 2

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        if mask is None:
            return x.new_full((x.shape[0],), 3.0 * math.prod(x.shape[1:-2]))
        return 3.0 * mask.sum(1).to(x.dtype)

    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return self.project(torch.randn(x.shape[:-1], generator=generator, dtype=x.dtype, device=x.device), mask)

    def retract(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return so3.exp(v) @ x

    def log(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return so3.log(y @ x.transpose(-1, -2))

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return masked(v, mask)

    def clean(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Re-orthonormalises by one Newton step of the polar decomposition; padded items become the identity."""
        x = 1.5 * x - 0.5 * x @ x.transpose(-1, -2) @ x
        if mask is None:
            return x
        return torch.where(expand(mask, x), x, torch.eye(3, dtype=x.dtype, device=x.device))

    def perturb(self, x0: Tensor, sigma: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        tau = (0.5 * expand(sigma, x0[..., 0, 0]) ** 2).expand(x0.shape[:-2])
        return self.clean(igso3.sample(tau, generator=generator) @ x0, mask)

    def kernel_displacement(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        tau = (0.5 * expand(sigma, x0[..., 0, 0]) ** 2).expand(x0.shape[:-2])
        return expand(sigma, x[..., 0]) ** 2 * igso3.score(x @ x0.transpose(-1, -2), tau)

    @property
    def has_kernel(self) -> bool:  # noqa: D102
        return True

    def log_kernel(self, x0: Tensor, x: Tensor, variance: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        angle = so3.angle(x.double() @ x0.double().transpose(-1, -2))
        density = igso3.log_density(angle, torch.full_like(angle, 0.5 * variance))
        density = density if mask is None else masked(density[..., None], mask)
        return density.reshape(len(density), -1).sum(1)

    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Draws uniform rotations; the largest noise must be wide enough for that to hold (sigma = 2.3, DiG's 1.65 in convention A, leaves 1e-4 nat per rotation)."""
        return self.clean(so3.uniform(like.shape[:-2], generator=generator, dtype=like.dtype, device=like.device), mask)

    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        return x.new_zeros(x.shape[0])

    def frame_size(self, x: Tensor) -> int:  # noqa: D102
        return 3 * math.prod(x.shape[1:-2])

    def from_frame(self, c: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return masked(c.reshape(x.shape[:-1]), mask)

    def chart_velocity(self, u: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return so3.exp_inverse_differential(u, v)

    def preconditioning(self, sigma: Tensor, data_scale: float) -> Preconditioning:  # noqa: D102
        # with zero shift the target is sigma^2 s of the kernel, of variance sigma^4 E|s|^2 / 3 per axis
        scale = sigma**2 * torch.sqrt(igso3.mean_squared_score(0.5 * sigma**2) / 3.0)
        return Preconditioning(c_in=torch.ones_like(sigma), c_shift=torch.zeros_like(sigma), c_out=scale.to(sigma.dtype))


@dataclass(frozen=True)
class Torus(Space):
    r"""Flat torus: each component has the given period; wrapped-normal noise.

    Attributes:
        period: 1 for fractional coordinates, :math:`2\pi` for torsions.
        centred: True where the origin is arbitrary (a crystal): scores, targets and noise have zero mean over the items. The torus's own
            translation group has finite volume, so that the density is that of an origin-independent law.
    """

    period: float = 1.0
    centred: bool = False
    linear: ClassVar[bool] = False
    event_ndim: ClassVar[int] = 1

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        items = x.new_full((x.shape[0],), math.prod(x.shape[1:-1])) if mask is None else mask.sum(1).to(x.dtype)
        return (items - 1.0 if self.centred else items) * x.shape[-1]

    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return self.project(torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device), mask)

    def retract(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return torus.wrap(x + v, period=self.period)

    def log(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return torus.difference(x, y, period=self.period)

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return CentredEuclidean().project(v, mask) if self.centred else masked(v, mask)

    def clean(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return masked(torus.wrap(x, period=self.period), mask)

    def perturb(self, x0: Tensor, sigma: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        # the mean of the noise over the items stays: it moves the arbitrary origin, and keeps the kernel a product
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        return self.clean(x0 + expand(sigma, x0) * noise, mask)

    def kernel_displacement(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        wide = expand(sigma, x0)
        return wide**2 * torus.wrapped_normal_score(self.log(x0, x), wide.expand(x0.shape), period=self.period)

    @property
    def has_kernel(self) -> bool:
        """True but for a centred torus, whose noise moves the origin, too."""
        return not self.centred

    def log_kernel(self, x0: Tensor, x: Tensor, variance: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        density = torus.wrapped_normal_log_density(x.double() - x0.double(), math.sqrt(variance), period=self.period)
        return masked(density, mask).flatten(1).sum(1)

    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Draws uniform points."""
        uniform = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.clean((uniform - 0.5) * self.period, mask)

    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        return -math.log(self.period) * Euclidean().degrees(x, mask)

    def frame_size(self, x: Tensor) -> int:  # noqa: D102
        return CentredEuclidean().frame_size(x) if self.centred else super().frame_size(x)

    def from_frame(self, c: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return CentredEuclidean().from_frame(c, x, mask) if self.centred else super().from_frame(c, x, mask)

    def preconditioning(self, sigma: Tensor, data_scale: float) -> Preconditioning:  # noqa: D102
        scale = sigma**2 * torch.sqrt(torus.mean_squared_score(sigma, period=self.period))
        return Preconditioning(c_in=torch.ones_like(sigma), c_shift=torch.zeros_like(sigma), c_out=scale.to(sigma.dtype))


@dataclass(frozen=True)
class Fixed(Space):
    """A field that never moves: it comes back bit-identical."""

    linear: ClassVar[bool] = True
    flat: ClassVar[bool] = True
    event_ndim: ClassVar[int] = 1

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return x.new_zeros(x.shape[0])

    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return torch.zeros_like(x)

    def retract(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return x

    def log(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros_like(x)

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return torch.zeros_like(v)

    def clean(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return x

    def perturb(self, x0: Tensor, sigma: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return x0

    def kernel_displacement(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros_like(x)

    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Returns the field itself."""
        return like

    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        return x.new_zeros(x.shape[0])

    def preconditioning(self, sigma: Tensor, data_scale: float) -> Preconditioning:  # noqa: D102
        zero = torch.zeros_like(sigma)
        return Preconditioning(c_in=torch.ones_like(sigma), c_shift=zero, c_out=zero)

    def interpolate(self, a: Tensor, b: Tensor, fraction: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        return a


def require_linear(space: Space, what: str) -> None:
    """Raises `SpaceError` if an operation that needs vectors is asked of a curved or periodic Space."""
    if not space.linear:
        raise SpaceError(
            f"{what} needs a linear Space; got {type(space).__name__}. Use a variance-exploding schedule or another option there."
        )
