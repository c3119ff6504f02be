r"""The probability flow in log-noise, with the points where its divergence is needed.

With :math:`\ell` the logarithm of the reference field's noise and :math:`c_f = d \ln \sigma_f / d\ell` of each field,

.. math:: \frac{dx_f}{d\ell} = -c_f\, \delta_f(x), \qquad \frac{d \ln p}{d\ell} = \sum_f c_f\, \mathrm{div}_f\, \delta_f.

A step is taken in the chart of the retraction at its start, where the fourth-order rule keeps its order on SO(3) (Munthe-Kaas's method).
The mid-point of a step is that of the cubic Hermite curve through its ends, of the same order, and costs no denoiser call.
References: Munthe-Kaas (1998); Hairer, Lubich and Wanner, *Geometric Numerical Integration*, IV.8
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError
from equilibra.sampling.grid import GridConfig, Level, noise_grid
from equilibra.state.state import State

Solver = Literal["rk4", "heun"]
Velocity = Mapping[str, Tensor]


@dataclass(frozen=True)
class Node:
    """A point of a trajectory.

    Attributes:
        level: Logarithm of the reference field's noise.
        state: State there.
    """

    level: float
    state: State


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass along the flow found.

    Attributes:
        integral: The integral over the increasing level (probes, batch).
        error: Its expected error, and that of the trajectory (batch,).
        end: State at the end.
        calls: Denoiser calls of all batch elements together, those inside traces counted once for each direction.
    """

    integral: Tensor
    error: Tensor
    end: State
    calls: int


def log_levels(process: Process, levels: Sequence[Level] | None, steps: int) -> list[float]:
    """Returns ln sigma of the reference field from the smallest to the largest noise.

    Arguments:
        process: Forward process.
        levels: A noise grid, in either order; its clean end is left out. None for uniform steps over the whole range of the process.
        steps: Number of steps where no grid is given.

    Raises:
        ConfigError: If the grid has fewer than two noisy levels.
    """
    if levels is None:
        levels = noise_grid(process, GridConfig(steps=steps, spacing="log", end="noisy"))
    sigmas = sorted(level.sigma[process.reference] for level in levels if not level.clean)
    if len(set(sigmas)) != len(sigmas) or len(sigmas) < 2:
        raise ConfigError(f"levels: got {len(sigmas)} noisy levels, expected at least 2, all different")
    return torch.tensor(sigmas, dtype=torch.float64).log().tolist()


def time_at(process: Process, level: float) -> float:
    """Returns the time at which the reference field has the noise exp(level)."""
    return float(process.time(torch.tensor(level, dtype=torch.float64).exp()).clamp(max=1.0))


def rates(process: Process, level: float) -> dict[str, float]:
    r"""Returns :math:`c_f = d\ln\sigma_f / d\ell` of each moving field; 1 for the reference."""
    if len(process.moving) == 1:
        return {process.reference: 1.0}
    with torch.enable_grad():
        t = torch.tensor(time_at(process, level), dtype=torch.float64, requires_grad=True)
        slopes = {
            name: float(torch.autograd.grad(torch.log(process.fields[name].schedule.sigma(t)), t)[0]) for name in process.moving
        }
    return {name: slope / slopes[process.reference] for name, slope in slopes.items()}


class ProbabilityFlow:
    """The flow of one denoiser, for one batch.

    Arguments:
        denoiser: Source of displacements.
        solver: `rk4`, of order 4 with four calls per step, or `heun`, of order 2 with two.
    """

    def __init__(self, denoiser: Denoiser, solver: Solver) -> None:
        if solver not in get_args(Solver):
            raise ConfigError(f"solver: got '{solver}', expected one of {', '.join(get_args(Solver))}")
        self.denoiser, self.process, self.solver = denoiser, denoiser.process, solver

    def velocity(self, state: State, level: float) -> Velocity:
        """Returns dx/dl of each moving field, a tangent vector at the State."""
        rate = rates(self.process, level)
        t = torch.full((state.batch_size,), time_at(self.process, level), dtype=state.dtype, device=state.device)
        displacements = self.denoiser(state, t).displacements
        return {name: -c * displacements[name] for name, c in rate.items()}

    def nodes(self, state: State, levels: Sequence[float]) -> Iterator[Node]:
        """Yields the points of the trajectory from a State at the first level, with the mid-point of each step if the solver is `rk4`."""
        slope = self.velocity(state, levels[0])
        yield Node(levels[0], state)
        for here, there in itertools.pairwise(levels):
            h = there - here
            u = self._rk4(state, slope, here, h) if self.solver == "rk4" else self._heun(state, slope, here, h)
            target = self.process.clean(self.at(state, u))
            following = self.velocity(target, there)
            if self.solver == "rk4":
                end = self.pull(u, following)
                middle = {name: 0.5 * u[name] + 0.125 * h * (slope[name] - end[name]) for name in u}
                yield Node(here + 0.5 * h, self.process.clean(self.at(state, middle)))
            yield Node(there, target)
            state, slope = target, following

    def at(self, state: State, u: Velocity) -> State:
        """Returns the State at the point u of the chart around a State."""
        fields = self.process.fields
        return state.replace(**{name: fields[name].space.retract(state.fields[name], v) for name, v in u.items()})

    def pull(self, u: Velocity, v: Velocity) -> dict[str, Tensor]:
        """Returns velocities at the point u of the chart as velocities of its coordinates."""
        return {name: self.process.fields[name].space.chart_velocity(u[name], v[name]) for name in u}

    def stage(self, state: State, u: Velocity, level: float) -> dict[str, Tensor]:
        """Returns the velocity of the chart's coordinates at the point u."""
        return self.pull(u, self.velocity(self.at(state, u), level))

    def _rk4(self, state: State, k1: Velocity, level: float, h: float) -> dict[str, Tensor]:
        k2 = self.stage(state, {name: 0.5 * h * k for name, k in k1.items()}, level + 0.5 * h)
        k3 = self.stage(state, {name: 0.5 * h * k for name, k in k2.items()}, level + 0.5 * h)
        k4 = self.stage(state, {name: h * k for name, k in k3.items()}, level + h)
        return {name: h / 6.0 * (k1[name] + 2.0 * k2[name] + 2.0 * k3[name] + k4[name]) for name in k1}

    def _heun(self, state: State, k1: Velocity, level: float, h: float) -> dict[str, Tensor]:
        k2 = self.stage(state, {name: h * k for name, k in k1.items()}, level + h)
        return {name: 0.5 * h * (k1[name] + k2[name]) for name in k1}


def quadrature(values: Tensor, levels: Sequence[float], solver: Solver) -> tuple[Tensor, Tensor]:
    r"""Integrates over the nodes of a trajectory, and again over half as many steps.

    Simpson's rule on the two ends and the mid-point of each step (`rk4`), or the trapezoidal rule (`heun`). The coarse value applies the
    same rule to pairs of steps; where their number is odd, the last step counts as fine in both.

    Arguments:
        values: The integrand at the nodes (nodes, ...), in float64.
        levels: The position of each node, monotone.
        solver: Decides the rule.

    Returns:
        The fine and the coarse integral over the increasing level.
    """
    x = torch.tensor(list(levels), dtype=torch.float64, device=values.device)
    if x[0] > x[-1]:
        x, values = x.flip(0), values.flip(0)
    rule, stride = (_simpson, 2) if solver == "rk4" else (_trapezoid, 1)
    whole = (len(x) - 1) // (2 * stride) * 2 * stride
    fine, head = rule(values, x), rule(values[: whole + 1], x[: whole + 1])
    # the coarse rule sees every second node
    return fine, fine - head + rule(values[: whole + 1 : 2], x[: whole + 1 : 2])


def _trapezoid(values: Tensor, x: Tensor) -> Tensor:
    h = (x[1:] - x[:-1]).reshape(-1, *(1,) * (values.ndim - 1))
    return (0.5 * h * (values[1:] + values[:-1])).sum(0)


def _simpson(values: Tensor, x: Tensor) -> Tensor:
    """Integrates the parabolas through each three nodes, which need not be equidistant."""
    a, b = (h.reshape(-1, *(1,) * (values.ndim - 1)) for h in (x[1::2] - x[:-1:2], x[2::2] - x[1::2]))
    total = a + b
    first, middle, last = 2.0 - b / a, total**2 / (a * b), 2.0 - a / b
    return (total / 6.0 * (first * values[:-1:2] + middle * values[1::2] + last * values[2::2])).sum(0)
