r"""A trajectory of the probability flow without traces, by steps of fifth order, and what its error does to a log-density.

The steps are those of Dormand and Prince, with six denoiser calls each, in the chart of the retraction. A step that misses the flow by e ends on another
trajectory, whose log-density there is another. With a score s that is the gradient of the log-density, the value at the start is therefore wrong by

.. math:: \sum_i s(x_i, \sigma_i) \cdot e_i

to first order, over all steps, the change of the prior and of the integral included: no trace is needed to know it. The difference of the fifth to
the embedded fourth order stands for e, of which it is an upper estimate; the terms are added by their size.
References: Dormand and Prince (1980), https://doi.org/10.1016/0771-050X(80)90013-3; Hairer, Nørsett and Wanner, *Solving Ordinary Differential Equations I*, II.5
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from equilibra.density.trajectory import ProbabilityFlow, Velocity, rates, time_at
from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.state.state import State

_POSITIONS = (0.2, 0.3, 0.8, 8 / 9, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
_FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_DIFFERENCE = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Fifth minus fourth order; the last stage is the velocity at the end."""

_CALLS = 6


@dataclass(frozen=True, eq=False)
class Path:
    """Points of a trajectory.

    Attributes:
        levels: Logarithm of the reference noise at each of the n + 1 points, monotone and uniform.
        states: State at each point.
        velocities: dx/dl of each moving field there.
        error: What the steps' errors may change the log-density by (batch,), in nats.
        calls: Denoiser calls per batch element.
    """

    levels: Sequence[float]
    states: Sequence[State]
    velocities: Sequence[Velocity]
    error: Tensor
    calls: int

    def __getitem__(self, index: Tensor) -> Self:
        """Returns the path of some batch elements."""
        velocities = [{name: v[index] for name, v in velocity.items()} for velocity in self.velocities]
        return type(self)(self.levels, [state[index] for state in self.states], velocities, self.error[index], self.calls)

    def points(self) -> State:
        """Returns the States of all points as one batch, point by point."""
        return State.cat(list(self.states))

    def scaled(self, process: Process) -> Tensor:
        r"""Returns :math:`q = \delta/\sigma` of all moving fields (points, batch, coordinates), in float64."""
        found = []
        for level, velocity in zip(self.levels, self.velocities, strict=True):
            sigma = _sigmas(process, level)
            parts = [-v.double().flatten(1) / (rates(process, level)[name] * sigma[name]) for name, v in velocity.items()]
            found.append(torch.cat(parts, dim=1))
        return torch.stack(found)

    def densified(self, denoiser: Denoiser) -> Self:
        """Returns the path with the mid-points of the cubic Hermite curves through its points, at a denoiser call each."""
        flow = ProbabilityFlow(denoiser, "rk4")
        levels, states, velocities = [self.levels[0]], [self.states[0]], [self.velocities[0]]
        spaces = {name: denoiser.process.fields[name].space for name in denoiser.process.moving}
        for i, (here, there) in enumerate(itertools.pairwise(self.levels)):
            h, first = there - here, self.states[i]
            u = {name: space.log(first.fields[name], self.states[i + 1].fields[name]) for name, space in spaces.items()}
            end = flow.pull(u, self.velocities[i + 1])
            half = {name: 0.5 * u[name] + 0.125 * h * (self.velocities[i][name] - end[name]) for name in u}
            middle, level = denoiser.process.clean(flow.at(first, half)), 0.5 * (here + there)
            levels += [level, there]
            states += [middle, self.states[i + 1]]
            velocities += [flow.velocity(middle, level), self.velocities[i + 1]]
        return type(self)(levels, states, velocities, self.error, self.calls + len(self.levels) - 1)


def follow(denoiser: Denoiser, state: State, levels: Sequence[float]) -> Path:
    """Follows the probability flow.

    Arguments:
        denoiser: Source of displacements.
        state: State at the first level.
        levels: Logarithms of the reference noise, uniform, in either order.

    Returns:
        The path through these levels.
    """
    flow, process = ProbabilityFlow(denoiser, "rk4"), denoiser.process
    states, velocities = [state], [flow.velocity(state, levels[0])]
    error = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
    for here, there in itertools.pairwise(levels):
        h, stages = there - here, [velocities[-1]]
        for position, coefficients in zip(_POSITIONS, _STAGES, strict=True):
            stages.append(flow.stage(states[-1], _combined(stages, coefficients, h), here + position * h))
        u = _combined(stages, _FIFTH, h)
        target = process.clean(flow.at(states[-1], u))
        following = flow.velocity(target, there)
        stages.append(flow.pull(u, following))
        missed = _combined(stages, _DIFFERENCE, h)
        rate, sigma = rates(process, there), _sigmas(process, there)
        for name, e in missed.items():
            displacement = following[name].double() / -rate[name]
            error = error + process.fields[name].space.inner(displacement, e.double()).abs() / sigma[name] ** 2
        states.append(target)
        velocities.append(following)
    return Path(list(levels), states, velocities, error, _CALLS * (len(levels) - 1) + 1)


def _combined(stages: Sequence[Velocity], coefficients: Sequence[float], h: float) -> dict[str, Tensor]:
    pairs = [(h * c, stage) for c, stage in zip(coefficients, stages, strict=True) if c != 0.0]
    return {name: torch.stack([c * stage[name] for c, stage in pairs]).sum(0) for name in stages[0]}


def _sigmas(process: Process, level: float) -> dict[str, float]:
    """Returns the noise of each moving field where the reference has the noise exp(level)."""
    t = torch.tensor(time_at(process, level), dtype=torch.float64)
    return {name: float(process.sigma(name, t)) for name in process.moving}
