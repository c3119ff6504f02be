r"""Reverse diffusion: the stochastic sampler, and the family between it and the probability flow.

For a stochasticity :math:`\eta \in [0, 1]` and levels :math:`\sigma' < \sigma`

.. math::
    \sigma_\uparrow^2 = \eta^2 \sigma'^2 (1 - \sigma'^2/\sigma^2), \quad \sigma_\downarrow^2 = \sigma'^2 - \sigma_\uparrow^2, \quad
    x' = \exp_x\big[(1 - \sigma_\downarrow/\sigma)\, \delta + \sigma_\uparrow z\big].

:math:`\eta = 1` is ancestral sampling, exact for a point mass, whose drift is :math:`(\sigma^2 - \sigma'^2) s`: DiG's reverse Langevin
equation (3) in the rescaled variable. :math:`\eta = 0` is Euler's rule of the flow. Every eta has the same marginals in the limit of small
steps. The noise belongs to the full drift: a sampler that keeps the drift and drops the noise collapses the distribution.
References: Anderson (1982); Ho et al. (2020); Song et al. (2021), "DDIM"; Zheng et al. (2023), eq. (3).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator

from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import ConfigError
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, times
from equilibra.state.state import State


@dataclass(frozen=True)
class ReverseDiffusion(Sampler):
    """Ancestral sampling of the reverse diffusion: weak order 1, one call per step.

    Attributes:
        eta: Stochasticity from 0 (probability flow) to 1 (reverse diffusion).
    """

    eta: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise ConfigError(f"eta: got {self.eta}, expected a number from 0 to 1")

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 1

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        displacements = denoiser(state, times(level, state)).displacements
        steps, widths = {}, {}
        for name, delta in displacements.items():
            here, there = level.sigma[name], target.sigma[name]
            widths[name] = self.eta * there * math.sqrt(max(1.0 - (there / here) ** 2, 0.0))
            down = math.sqrt(max(there**2 - widths[name] ** 2, 0.0))
            steps[name] = target.finish * (1.0 - down / here) * delta
        noise = denoiser.process.tangent_noise(state, widths, generator=generator)
        return denoiser.process.retract(state, {n: step + noise.get(n, 0.0) for n, step in steps.items()}), None
