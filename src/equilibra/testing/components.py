r"""The components of analytic mixtures: for one field, K laws that keep their form under the heat flow of their Space.

======================  =======================================================================
Space                   component k, noised to :math:`\sigma`
======================  =======================================================================
flat (three kinds)      :math:`N(m_k, C_k + \sigma^2 I)` in orthonormal coordinates of the tangent space
torus                   wrapped normal of variance :math:`s_k^2 + \sigma^2` per axis
SO(3)                   IGSO(3) of heat time :math:`(s_k^2 + \sigma^2)/2` about :math:`M_k`
slab                    wrapped normal in the plane, Gaussian along the normal
======================  =======================================================================

All are in the rescaled variable, hence valid for every schedule. Parameters are held in float64 and follow the dtype and the device of the
points they are asked about.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator

from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Fixed, Slab, Space, SymmetricMatrices, Torus
from equilibra.errors import ShapeError, SpaceError
from equilibra.geometry import igso3, lattice, so3, torus
from equilibra.types import Float, Int, Tensor


class Components(ABC):
    """Abstract: the laws of one field, one for each label of a mixture.

    Attributes:
        space: Geometry of the field.
        shape: Axes of the field after the batch.
        count: Number K of laws; a single law serves every label.
    """

    space: Space
    shape: tuple[int, ...]
    count: int

    @abstractmethod
    def mean_squares(self) -> Float[Tensor, " components"]:
        """Returns the mean square per axis of each law, about the origin on flat Spaces and about its centre on others."""

    @abstractmethod
    def sample(self, labels: Int[Tensor, " n"], *, generator: Generator) -> Float[Tensor, "n ..."]:
        """Draws one clean point for each label, in float64."""

    @abstractmethod
    def log_density(self, x: Float[Tensor, "batch ..."], sigma: Float[Tensor, " batch"]) -> Float[Tensor, "batch components"]:
        """Returns the log-density of every law noised to sigma, which may be zero."""

    @abstractmethod
    def displacements(
        self, x: Float[Tensor, "batch ..."], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch components ..."]:
        r"""Returns :math:`\sigma^2 \nabla \ln p_k` of every law noised to sigma, as tangent vectors at x."""

    def check(self, x: Tensor) -> None:
        """Raises `ShapeError` if x is not a batch of points of this field."""
        if tuple(x.shape[1:]) != self.shape:
            raise ShapeError(type(self).__name__, tuple(x.shape), f"(batch, {', '.join(map(str, self.shape))})")


def _column(sigma: Tensor, ndim: int) -> Tensor:
    """Returns sigma (batch,) with `ndim` trailing axes."""
    return sigma.reshape(-1, *(1,) * ndim)


def _spread(stds: Tensor, shape: torch.Size) -> Tensor:
    """Returns widths given per component, or per component and axis, in the full shape (K, ...)."""
    if stds.ndim > 1 and stds.shape != shape:
        raise ShapeError("stds", tuple(stds.shape), f"({shape[0]},) or {tuple(shape)}")
    return stds.reshape(stds.shape + (1,) * (len(shape) - stds.ndim)).expand(shape)


def helmert(n: int) -> Float[Tensor, "m n"]:
    """Returns an orthonormal basis (n - 1, n) of the vectors whose entries sum to zero, in float64."""
    i = torch.arange(1, n, dtype=torch.float64)[:, None]
    j = torch.arange(n, dtype=torch.float64)[None, :]
    return torch.where(j < i, 1.0, torch.where(j == i, -i, 0.0)) / torch.sqrt(i * (i + 1.0))


class GaussianComponents(Components):
    """Gaussians on a flat Space, in orthonormal coordinates of its tangent space.

    The coordinates are the array itself in row-major order on Euclidean fields, a Helmert basis of the particles on centred ones and
    `geometry.lattice.to_vector` on symmetric matrices; there are D_eff of them.

    Arguments:
        means: Centres in the field's own shape, (K, ...).
        stds: Widths (K,), or (K, D_eff) along the coordinates.
        covariances: Instead of widths, matrices (K, D_eff, D_eff) in the coordinates.
        space: A flat Space.

    Raises:
        SpaceError: If the Space is not flat.
        ShapeError: If neither or both of `stds` and `covariances` are given.
    """

    def __init__(
        self, means: Tensor, stds: Tensor | None = None, *, covariances: Tensor | None = None, space: Euclidean | None = None
    ) -> None:
        self.space: Euclidean = Euclidean() if space is None else space
        if not isinstance(self.space, Euclidean):
            raise SpaceError(f"GaussianComponents: got {type(self.space).__name__}, expected a flat Space")
        self.shape = tuple(means.shape[1:])
        self.count = means.shape[0]
        self._basis = helmert(self.shape[0]) if isinstance(self.space, CentredEuclidean) else None
        self.means = self.coordinates(means.double())
        if (stds is None) == (covariances is None):
            raise ShapeError("GaussianComponents", "both or neither of stds and covariances", "one of them")
        if stds is not None:
            self.variances = _spread(stds.double(), self.means.shape) ** 2
            self.axes: Tensor | None = None
        else:
            assert covariances is not None
            self.variances, self.axes = torch.linalg.eigh(covariances.double())

    def coordinates(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch degrees"]:
        """Returns orthonormal coordinates of points or tangent vectors."""
        if isinstance(self.space, SymmetricMatrices):
            return lattice.to_vector(x)
        if self._basis is not None:
            x = torch.einsum("mn,bnd->bmd", self._basis.to(x), x)
        return x.flatten(1)

    def assemble(self, coordinates: Float[Tensor, "... degrees"]) -> Float[Tensor, "..."]:
        """Returns points or tangent vectors in the shape of the field: the inverse of `coordinates`, with any leading axes."""
        if isinstance(self.space, SymmetricMatrices):
            return lattice.from_vector(coordinates)
        if self._basis is None:
            return coordinates.unflatten(-1, self.shape)
        reduced = coordinates.unflatten(-1, (self.shape[0] - 1, self.shape[1]))
        return torch.einsum("mn,...md->...nd", self._basis.to(coordinates), reduced)

    def mean_squares(self) -> Tensor:  # noqa: D102
        return (self.means**2 + self.variances).mean(1)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        z = torch.randn(len(labels), self.means.shape[1], generator=generator, dtype=torch.float64)
        z = z * self.variances[labels].sqrt()
        if self.axes is not None:
            z = torch.einsum("nij,nj->ni", self.axes[labels], z)
        return self.assemble(self.means[labels] + z)

    def _deviation(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Returns deviations from the means along the principal axes, and the noised variances there."""
        self.check(x)
        z = self.coordinates(x)[:, None] - self.means.to(x)
        if self.axes is not None:
            z = torch.einsum("kij,bki->bkj", self.axes.to(x), z)
        return z, self.variances.to(x) + _column(sigma, 2) ** 2

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        z, variance = self._deviation(x, sigma)
        return -0.5 * (z**2 / variance + torch.log(2.0 * math.pi * variance)).sum(-1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        z, variance = self._deviation(x, sigma)
        v = -(_column(sigma, 2) ** 2) * z / variance
        if self.axes is not None:
            v = torch.einsum("kij,bkj->bki", self.axes.to(x), v)
        return self.assemble(v)


class WrappedNormalComponents(Components):
    """Products of wrapped normal laws on the torus.

    Arguments:
        means: Centres (K, ...), in the unit of the period.
        stds: Widths (K,) or (K, ...) before wrapping.
        space: The torus, of any period, not centred: these laws know the origin; see `RelativeTorusComponents`.
    """

    def __init__(self, means: Tensor, stds: Tensor, *, space: Torus | None = None) -> None:
        self.space: Torus = Torus() if space is None else space
        if self.space.centred:
            raise SpaceError(
                "WrappedNormalComponents: got a centred torus, where the origin is arbitrary; use RelativeTorusComponents"
            )
        self.means = means.double()
        self.stds = _spread(stds.double(), self.means.shape)
        self.shape, self.count = tuple(means.shape[1:]), means.shape[0]

    def mean_squares(self) -> Tensor:  # noqa: D102
        return (self.stds**2).flatten(1).mean(1)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        z = torch.randn(len(labels), *self.shape, generator=generator, dtype=torch.float64)
        return torus.wrap(self.means[labels] + self.stds[labels] * z, period=self.space.period)

    def _deviation(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.check(x)
        width = torch.sqrt(self.stds.to(x) ** 2 + _column(sigma, self.means.ndim) ** 2)
        return x[:, None] - self.means.to(x), width

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        return torus.wrapped_normal_log_density(v, width, period=self.space.period).flatten(2).sum(-1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        return _column(sigma, v.ndim - 1) ** 2 * torus.wrapped_normal_score(v, width, period=self.space.period)


class RelativeTorusComponents(Components):
    """Two points on a centred torus: their separation is wrapped normal and their common origin uniform.

    Arguments:
        separations: Centres (K, d) of the second point minus the first.
        stds: Widths (K,) or (K, d) of the separation.
        space: A centred torus.
    """

    def __init__(self, separations: Tensor, stds: Tensor, *, space: Torus | None = None) -> None:
        self.space: Torus = Torus(centred=True) if space is None else space
        if not self.space.centred:
            raise SpaceError("RelativeTorusComponents: got a torus with an origin, expected Torus(centred=True)")
        self.separations = separations.double()
        self.stds = _spread(stds.double(), self.separations.shape)
        self.shape, self.count = (2, separations.shape[1]), separations.shape[0]

    def mean_squares(self) -> Tensor:  # noqa: D102
        return 0.5 * (self.stds**2).mean(1)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        first = self.space.period * torch.rand(len(labels), self.shape[1], generator=generator, dtype=torch.float64)
        z = torch.randn(first.shape, generator=generator, dtype=torch.float64)
        second = first + self.separations[labels] + self.stds[labels] * z
        return torus.wrap(torch.stack([first, second], dim=1), period=self.space.period)

    def _deviation(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.check(x)
        # both points are noised, so that the separation gains twice the variance
        width = torch.sqrt(self.stds.to(x) ** 2 + 2.0 * _column(sigma, 2) ** 2)
        return (x[:, 1] - x[:, 0])[:, None] - self.separations.to(x), width

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        uniform = self.shape[1] * math.log(self.space.period)
        return torus.wrapped_normal_log_density(v, width, period=self.space.period).sum(-1) - uniform

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        pull = _column(sigma, 2) ** 2 * torus.wrapped_normal_score(v, width, period=self.space.period)
        return torch.stack([-pull, pull], dim=2)


class IGSO3Components(Components):
    r"""Products of isotropic Gaussians on SO(3), of finite width; densities with respect to the Haar measure of mass one.

    Arguments:
        means: Centres (K, 3, 3) or (K, items, 3, 3).
        stds: Small-noise standard deviations per axis (K,) or (K, items), in radians; the heat time is half the square.
    """

    def __init__(self, means: Tensor, stds: Tensor) -> None:
        self.space: SO3 = SO3()
        self.means = means.double()
        self.taus = 0.5 * _spread(stds.double(), self.means.shape[:-2]) ** 2
        self.shape, self.count = tuple(means.shape[1:]), means.shape[0]

    def mean_squares(self) -> Tensor:  # noqa: D102
        return 2.0 * self.taus.reshape(self.count, -1).mean(1)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        return igso3.sample(self.taus[labels], generator=generator) @ self.means[labels]

    def _deviation(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.check(x)
        tau = self.taus.to(x) + 0.5 * _column(sigma, self.taus.ndim) ** 2
        return x[:, None] @ self.means.to(x).transpose(-1, -2), tau

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        turn, tau = self._deviation(x, sigma)
        value = igso3.log_density(so3.angle(turn), tau)
        return value.reshape(*value.shape[:2], -1).sum(-1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        turn, tau = self._deviation(x, sigma)
        # the score of the deviation in the global frame is the score at x
        return _column(sigma, self.taus.ndim + 1) ** 2 * igso3.score(turn, tau)


class SlabComponents(Components):
    """Wrapped normal laws in the plane of a slab, times Gaussians along its normal.

    Arguments:
        means: Centres (K, items, 3): two fractional coordinates and a height.
        stds: Widths (K,) or (K, items, 3).
    """

    def __init__(self, means: Tensor, stds: Tensor) -> None:
        self.space: Slab = Slab()
        self.means = means.double()
        self.stds = _spread(stds.double(), self.means.shape)
        self.shape, self.count = tuple(means.shape[1:]), means.shape[0]
        self._plane = WrappedNormalComponents(self.means[..., :2], self.stds[..., :2])
        self._height = GaussianComponents(self.means[..., 2:], self.stds[..., 2:].flatten(1))

    def mean_squares(self) -> Tensor:  # noqa: D102
        # the prior of the plane is uniform: the scale matters for heights only
        return self._height.mean_squares()

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        plane = self._plane.sample(labels, generator=generator)
        return torch.cat([plane, self._height.sample(labels, generator=generator)], dim=-1)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        self.check(x)
        return self._plane.log_density(x[..., :2], sigma) + self._height.log_density(x[..., 2:], sigma)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        self.check(x)
        plane = self._plane.displacements(x[..., :2], sigma)
        return torch.cat([plane, self._height.displacements(x[..., 2:], sigma)], dim=-1)


class FixedComponents(Components):
    """A field that never moves, the same for every label.

    Arguments:
        value: Its value, without batch axis.
    """

    def __init__(self, value: Tensor) -> None:
        self.space: Fixed = Fixed()
        self.value = value
        self.shape, self.count = tuple(value.shape), 1

    def mean_squares(self) -> Tensor:  # noqa: D102
        return torch.ones(1, dtype=torch.float64)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        return self.value.expand(len(labels), *self.shape).clone()

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return x.new_zeros(x.shape[0], 1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return torch.zeros_like(x)[:, None]
