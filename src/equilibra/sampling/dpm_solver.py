r"""DPM-Solver++(2M): a two-step solver of the probability flow with one call per step.

With :math:`h = \ln\sigma - \ln\sigma'` and :math:`r = h_{prev}/h`, the posterior mean is extrapolated linearly in :math:`\ln \sigma`,

.. math:: \tilde x_0 = \big(1 + \tfrac{1}{2r}\big) \hat x_0 - \tfrac{1}{2r} \hat x_0^{prev}, \qquad x' = x + (1 - \sigma'/\sigma)(\tilde x_0 - x).

Relative to the present point :math:`\hat x_0 - x = \delta` and :math:`\hat x_0^{prev} - x = \delta_{prev} - u_{prev}`, with the step u taken
last. So nothing but tangent vectors is needed, and the same rule is of second order on the torus and on SO(3), where u and delta are parallel
to leading order. Reference: Lu et al. (2022), https://arxiv.org/abs/2211.01095, algorithm 2.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator

from equilibra.diffusion.denoiser import Denoiser
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, move, times
from equilibra.state.state import State


@dataclass(frozen=True)
class DPMSolver2M(Sampler):
    """DPM-Solver++(2M): order 2, one call per step; first-order at the first step and at the step to the clean end."""

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 1

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        displacements = denoiser(state, times(level, state)).displacements
        steps = {}
        for name, delta in displacements.items():
            here, there = level.sigma[name], target.sigma[name]
            extrapolated = delta
            if memory is not None and not target.clean:
                previous_level, previous_delta, previous_step = memory
                r = math.log(previous_level.sigma[name] / here) / math.log(here / there)
                extrapolated = (1.0 + 0.5 / r) * delta - (0.5 / r) * (previous_delta[name] - previous_step[name])
            steps[name] = target.finish * (1.0 - there / here) * extrapolated
        return move(denoiser, state, steps), (level, displacements, steps)
