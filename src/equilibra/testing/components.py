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

from equilibra.diffusion.space import CentredEuclidean, Euclidean, Fixed, Space, SymmetricMatrices
from equilibra.errors import ShapeError, SpaceError
from equilibra.geometry import lattice
from equilibra.geometry.mean_free import helmert
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


def column(sigma: Tensor, ndim: int) -> Tensor:
    """Returns sigma (batch,) with `ndim` trailing axes."""
    return sigma.reshape(-1, *(1,) * ndim)


def spread(stds: Tensor, shape: torch.Size) -> Tensor:
    """Returns widths given per component, or per component and axis, in the full shape (K, ...)."""
    if stds.ndim > 1 and stds.shape != shape:
        raise ShapeError("stds", tuple(stds.shape), f"({shape[0]},) or {tuple(shape)}")
    return stds.reshape(stds.shape + (1,) * (len(shape) - stds.ndim)).expand(shape)


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
            self.variances = spread(stds.double(), self.means.shape) ** 2
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
        return z, self.variances.to(x) + column(sigma, 2) ** 2

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        z, variance = self._deviation(x, sigma)
        return -0.5 * (z**2 / variance + torch.log(2.0 * math.pi * variance)).sum(-1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        z, variance = self._deviation(x, sigma)
        v = -(column(sigma, 2) ** 2) * z / variance
        if self.axes is not None:
            v = torch.einsum("kij,bkj->bki", self.axes.to(x), v)
        return self.assemble(v)


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
