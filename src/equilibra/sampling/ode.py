r"""Probability-flow solvers of one-step type: Euler and Heun.

In the rescaled variable :math:`dx/d\sigma = -\delta / \sigma` with the displacement :math:`\delta = \sigma^2 s`. Euler's rule is then

.. math:: x' = \exp_x\big[(1 - \sigma'/\sigma)\, \delta\big],

which is DDIM. Heun's rule averages the slopes at both ends, on SO(3) in the Lie algebra of the first point, where the neglected commutator
is of third order in the step. References: Song et al. (2021); Karras et al. (2022), algorithm 1.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator

from equilibra.diffusion.denoiser import Denoiser
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, times
from equilibra.state.state import State


@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's rule (DDIM): order 1, one call per step."""

    order: ClassVar[int] = 1

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 1

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        prediction = denoiser(state, times(level, state))
        steps = {n: target.finish * (1.0 - target.sigma[n] / level.sigma[n]) * d for n, d in prediction.displacements.items()}
        return denoiser.process.retract(state, steps), None


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's rule: order 2, two calls per step; the step to the clean end is Euler's."""

    order: ClassVar[int] = 2

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 2

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        first = denoiser(state, times(level, state)).displacements
        trial = denoiser.process.retract(
            state, {n: target.finish * (1.0 - target.sigma[n] / level.sigma[n]) * d for n, d in first.items()}
        )
        if target.clean:
            return trial, None
        second = denoiser(trial, times(target, trial)).displacements
        steps = {
            n: 0.5 * (level.sigma[n] - target.sigma[n]) * (first[n] / level.sigma[n] + second[n] / target.sigma[n])
            for n in first
        }
        return denoiser.process.retract(state, steps), None
