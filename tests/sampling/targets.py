"""Targets of the sampler tests: a mixture of finite width on every Space, with closed forms of the moments that are compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.diffusion.schedule import Schedule, VarianceExploding, VarianceLinear, VarianceSigmoid
from equilibra.diffusion.space import CentredEuclidean, Euclidean, SymmetricMatrices, Torus
from equilibra.geometry import lattice, so3
from equilibra.state.state import State
from equilibra.testing import (
    AnalyticDistribution,
    GaussianMixture,
    IGSO3Mixture,
    RelativeTorusMixture,
    SlabMixture,
    WrappedNormalMixture,
)

WEIGHTS = torch.tensor([0.7, 0.3], dtype=torch.float64)
LINEAR = ("euclidean", "centred", "symmetric")
CURVED = ("so3", "torus", "relative", "slab")
SCHEDULES: dict[str, Schedule] = {
    "exploding": VarianceExploding(sigma_min=0.01, sigma_max=30.0),
    "linear": VarianceLinear(scale=1.5),
    "sigmoid": VarianceSigmoid(scale=1.5, steps=500),
}
CURVED_SCHEDULES: dict[str, Schedule] = {
    "so3": VarianceExploding(sigma_min=0.02, sigma_max=3.0),
    "torus": VarianceExploding(sigma_min=0.02, sigma_max=7.0),
    "relative": VarianceExploding(sigma_min=0.003, sigma_max=1.0),
    "slab": VarianceExploding(sigma_min=0.003, sigma_max=1.2),
}


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Target:
    """A distribution, the functions of its samples that are averaged, and their exact averages."""

    distribution: AnalyticDistribution
    statistics: Callable[[State], Tensor]
    expected: Tensor

    def z_scores(self, state: State) -> Tensor:
        """Returns deviations of the averages in units of their own standard errors."""
        values = self.statistics(state)
        error = values.std(0) / math.sqrt(len(values))
        return (values.mean(0) - self.expected) / error


def gaussian_moments(distribution: AnalyticDistribution) -> tuple[Callable[[State], Tensor], Tensor]:
    laws = distribution.components["x"]

    def statistics(state: State) -> Tensor:
        c = laws.coordinates(state.fields["x"])
        return torch.cat([c, c**2], dim=1)

    w = distribution.weights[:, None]
    return statistics, torch.cat([(w * laws.means).sum(0), (w * (laws.means**2 + laws.variances)).sum(0)])


def harmonics(v: Tensor, mean: Tensor, variance: Tensor, period: float) -> tuple[Tensor, Tensor]:
    """Returns cos and sin of the first harmonic, and their averages under a wrapped normal mixture."""
    k = 2.0 * math.pi / period
    decay = torch.exp(-0.5 * k**2 * variance)
    expected = torch.cat([(WEIGHTS[:, None] * decay * f(k * mean)).sum(0) for f in (torch.cos, torch.sin)])
    return torch.cat([torch.cos(k * v), torch.sin(k * v)], dim=1), expected


def make(space: str, schedule: Schedule) -> Target:
    if space in LINEAR:
        if space == "euclidean":
            d = GaussianMixture(
                WEIGHTS, tensor([[0.9, -0.6], [-2.1, 1.4]]), tensor([[0.5, 0.8], [0.4, 1.0]]), schedule=schedule
            )
        elif space == "centred":
            means = tensor([[[0.6, 0.0], [0.0, 0.6], [-0.6, -0.6]], [[-1.4, 0.0], [0.0, -1.4], [1.4, 1.4]]])
            d = GaussianMixture(WEIGHTS, means, tensor([0.5, 0.7]), schedule=schedule, space=CentredEuclidean())
        else:
            means = lattice.from_vector(tensor([[0.6, 0.3, 0, 0.3, 0, 0], [-1.4, -0.7, 0, -0.7, 0, 0]]))
            d = GaussianMixture(WEIGHTS, means, tensor([0.5, 0.6]), schedule=schedule, space=SymmetricMatrices())
        return Target(d, *gaussian_moments(d))
    if space == "so3":
        means, stds = so3.exp(tensor([[0.0, 0.0, 0.0], [0.9, 1.5, -0.6]])), tensor([0.4, 0.3])
        expected = torch.einsum("k,k,kij->ij", WEIGHTS, torch.exp(-(stds**2)), means).flatten()
        return Target(IGSO3Mixture(WEIGHTS, means, stds, schedule=schedule), lambda s: s.fields["x"].flatten(1), expected)
    if space == "torus":
        period = 2.0 * math.pi
        means, stds = tensor([[-1.1, 3.0], [1.0, 0.8]]), tensor([[0.3, 0.6], [0.5, 0.3]])
        _, expected = harmonics(means, means, stds**2, period)
        return Target(
            WrappedNormalMixture(WEIGHTS, means, stds, schedule=schedule, space=Torus(period=period)),
            lambda s: harmonics(s.fields["x"], means, stds**2, period)[0],
            expected,
        )
    if space == "relative":
        means, stds = tensor([[0.2, 0.45], [-0.3, 0.1]]), tensor([0.06, 0.09])
        variance = (stds**2)[:, None].expand(2, 2)
        _, expected = harmonics(means, means, variance, 1.0)
        return Target(
            RelativeTorusMixture(WEIGHTS, means, stds, schedule=schedule),
            lambda s: harmonics(s.fields["x"][:, 1] - s.fields["x"][:, 0], means, variance, 1.0)[0],
            expected,
        )
    means, stds = tensor([[[0.2, 0.45, 0.3]], [[-0.3, 0.1, -0.7]]]), tensor([[[0.06, 0.06, 0.2]], [[0.08, 0.1, 0.3]]])
    plane, variance = means[:, 0, :2], stds[:, 0, :2] ** 2
    _, expected = harmonics(plane, plane, variance, 1.0)
    height = torch.stack([(WEIGHTS * means[:, 0, 2]).sum(), (WEIGHTS * (means[:, 0, 2] ** 2 + stds[:, 0, 2] ** 2)).sum()])

    def statistics(state: State) -> Tensor:
        x = state.fields["x"][:, 0]
        return torch.cat([harmonics(x[:, :2], plane, variance, 1.0)[0], x[:, 2:], x[:, 2:] ** 2], dim=1)

    return Target(SlabMixture(WEIGHTS, means, stds, schedule=schedule), statistics, torch.cat([expected, height]))


ALLOWED = [(space, schedule) for space in LINEAR for schedule in SCHEDULES] + [(space, "exploding") for space in CURVED]


def schedule_of(space: str, name: str) -> Schedule:
    return SCHEDULES[name] if space in LINEAR else CURVED_SCHEDULES[space]


def euclidean_1d(means: list[float], stds: list[float], weights: list[float], schedule: Schedule) -> GaussianMixture:
    """A mixture on the line, as a field of one axis."""
    return GaussianMixture(tensor(weights), tensor(means)[:, None], tensor(stds), schedule=schedule, space=Euclidean())
