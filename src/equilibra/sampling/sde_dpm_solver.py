r"""SDE-DPM-Solver++(2M): a two-step solver of the reverse diffusion with one call per step.

With the extrapolated displacement :math:`\tilde\delta` of `dpm_solver`,

.. math:: x' = \exp_x\big[(1 - \sigma'^2/\sigma^2)\, \tilde\delta + \sigma' \sqrt{1 - \sigma'^2/\sigma^2}\; z\big].

Ancestral sampling (`sde`) takes the present posterior mean for the whole step, which leaves a Gaussian of 200 steps 2 % too narrow; this rule needs a fourth of the steps.
Reference: Lu et al. (2022), https://arxiv.org/abs/2211.01095, appendix B.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator

from equilibra.diffusion.denoiser import Denoiser
from equilibra.sampling.dpm_solver import Past, extrapolate
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, times
from equilibra.state.state import State


@dataclass(frozen=True)
class SDEDPMSolver2M(Sampler):
    """SDE-DPM-Solver++(2M): one call per step; a step of the reverse diffusion at first, and to the clean end."""

    order: ClassVar[int] = 2

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 1

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        displacements = denoiser(state, times(level, state)).displacements
        extrapolated = extrapolate(displacements, level, target, memory)
        rules = {name: drift_and_noise(level, target, name) for name in extrapolated}
        noise = denoiser.process.tangent_noise(state, {name: width for name, (_, width) in rules.items()}, generator=generator)
        steps = {name: rules[name][0] * delta + noise.get(name, 0.0) for name, delta in extrapolated.items()}
        return denoiser.process.retract(state, steps), Past(level, displacements, steps)


def drift_and_noise(level: Level, target: Level, name: str) -> tuple[float, float]:
    """Returns the share of the displacement that a step of the reverse diffusion takes, and the width of its noise."""
    here, there = level.sigma[name], target.sigma[name]
    share = max(1.0 - (there / here) ** 2, 0.0)
    return target.finish * share, there * math.sqrt(share)
