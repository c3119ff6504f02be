r"""DPM-Solver++(2M): a two-step solver of the probability flow with one call per step.

With :math:`h = \ln\sigma - \ln\sigma'` and :math:`r = h_{prev}/h`, the posterior mean is extrapolated linearly in :math:`\ln \sigma`,

.. math:: \tilde x_0 = \big(1 + \tfrac{1}{2r}\big) \hat x_0 - \tfrac{1}{2r} \hat x_0^{prev}, \qquad x' = x + (1 - \sigma'/\sigma)(\tilde x_0 - x).

Relative to the present point :math:`\hat x_0 - x = \delta` and :math:`\hat x_0^{prev} - x = \delta_{prev} - u_{prev}`, with the step u taken
last. So nothing but tangent vectors is needed, and the same rule is of second order on the torus and on SO(3), where u and delta are parallel
to leading order. Reference: Lu et al. (2022), https://arxiv.org/abs/2211.01095, algorithm 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, times
from equilibra.state.state import State


@dataclass(frozen=True, eq=False)
class Past:
    """What a two-step rule keeps of a step.

    Attributes:
        level: Level that the step began at.
        displacements: Displacements there.
        steps: Tangent vectors that were taken.
    """

    level: Level
    displacements: Mapping[str, Tensor]
    steps: Mapping[str, Tensor]

    def rows(self, index: Tensor) -> "Past":
        """Returns the past of some batch elements."""
        return Past(
            self.level,
            {name: value[index] for name, value in self.displacements.items()},
            {name: value[index] for name, value in self.steps.items()},
        )


def extrapolate(displacements: Mapping[str, Tensor], level: Level, target: Level, past: Past | None) -> Mapping[str, Tensor]:
    """Returns the displacements to the extrapolated posterior mean; see the module. Without a past, and to the clean end, those that are given."""
    if past is None or target.clean:
        return displacements
    result = {}
    for name, delta in displacements.items():
        here, there = level.sigma[name], target.sigma[name]
        r = math.log(past.level.sigma[name] / here) / math.log(here / there)
        result[name] = (1.0 + 0.5 / r) * delta - (0.5 / r) * (past.displacements[name] - past.steps[name])
    return result


@dataclass(frozen=True)
class DPMSolver2M(Sampler):
    """DPM-Solver++(2M): order 2, one call per step; first-order at the first step and at the step to the clean end."""

    order: ClassVar[int] = 2

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 1

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        displacements = denoiser(state, times(level, state)).displacements
        extrapolated = extrapolate(displacements, level, target, memory)
        steps = {
            name: target.finish * (1.0 - target.sigma[name] / level.sigma[name]) * delta for name, delta in extrapolated.items()
        }
        return denoiser.process.retract(state, steps), Past(level, displacements, steps)
