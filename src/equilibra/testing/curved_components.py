"""The components of analytic mixtures on periodic and curved Spaces; see `components` for the flat ones and for the table of all."""

import math

import torch
from torch import Generator

from equilibra.diffusion.slab import Slab
from equilibra.diffusion.space import SO3, Torus
from equilibra.errors import SpaceError
from equilibra.geometry import igso3, so3, torus
from equilibra.testing.components import Components, GaussianComponents, column, spread
from equilibra.types import Tensor


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
        self.stds = spread(stds.double(), self.means.shape)
        self.shape, self.count = tuple(means.shape[1:]), means.shape[0]

    def mean_squares(self) -> Tensor:  # noqa: D102
        return (self.stds**2).flatten(1).mean(1)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        z = torch.randn(len(labels), *self.shape, generator=generator, dtype=torch.float64)
        return torus.wrap(self.means[labels] + self.stds[labels] * z, period=self.space.period)

    def _deviation(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.check(x)
        width = torch.sqrt(self.stds.to(x) ** 2 + column(sigma, self.means.ndim) ** 2)
        return x[:, None] - self.means.to(x), width

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        return torus.wrapped_normal_log_density(v, width, period=self.space.period).flatten(2).sum(-1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        return column(sigma, v.ndim - 1) ** 2 * torus.wrapped_normal_score(v, width, period=self.space.period)


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
        self.stds = spread(stds.double(), self.separations.shape)
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
        width = torch.sqrt(self.stds.to(x) ** 2 + 2.0 * column(sigma, 2) ** 2)
        return (x[:, 1] - x[:, 0])[:, None] - self.separations.to(x), width

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        uniform = self.shape[1] * math.log(self.space.period)
        return torus.wrapped_normal_log_density(v, width, period=self.space.period).sum(-1) - uniform

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        v, width = self._deviation(x, sigma)
        pull = column(sigma, 2) ** 2 * torus.wrapped_normal_score(v, width, period=self.space.period)
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
        self.taus = 0.5 * spread(stds.double(), self.means.shape[:-2]) ** 2
        self.shape, self.count = tuple(means.shape[1:]), means.shape[0]

    def mean_squares(self) -> Tensor:  # noqa: D102
        return 2.0 * self.taus.reshape(self.count, -1).mean(1)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:  # noqa: D102
        return igso3.sample(self.taus[labels], generator=generator) @ self.means[labels]

    def _deviation(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.check(x)
        tau = self.taus.to(x) + 0.5 * column(sigma, self.taus.ndim) ** 2
        return x[:, None] @ self.means.to(x).transpose(-1, -2), tau

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        turn, tau = self._deviation(x, sigma)
        value = igso3.log_density(so3.angle(turn), tau)
        return value.reshape(*value.shape[:2], -1).sum(-1)

    def displacements(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        turn, tau = self._deviation(x, sigma)
        # the score of the deviation in the global frame is the score at x
        return column(sigma, self.taus.ndim + 1) ** 2 * igso3.score(turn, tau)


class SlabComponents(Components):
    """Wrapped normal laws in a plane with a unit square as its cell, times Gaussians along its normal.

    Arguments:
        means: Centres (K, items, 3): two coordinates in the plane and a height.
        stds: Widths (K,) or (K, items, 3).
    """

    def __init__(self, means: Tensor, stds: Tensor) -> None:
        self.space: Slab = Slab(cell=((1.0, 0.0), (0.0, 1.0)))
        self.means = means.double()
        self.stds = spread(stds.double(), self.means.shape)
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
