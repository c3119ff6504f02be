r"""Churn: a little fresh noise before each step of another sampler.

.. math:: \hat\sigma = \sigma (1 + \gamma), \qquad \hat x \sim K(x;\, \hat\sigma^2 - \sigma^2), \qquad \text{then one step } \hat\sigma \to \sigma'

with the heat kernel K of the Space, so that the law at :math:`\hat\sigma` is exact. Fresh noise forgets the errors of earlier steps.
Reference: Karras et al. (2022), algorithm 2.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator

from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import ConfigError
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler
from equilibra.state.state import State


@dataclass(frozen=True)
class Churn(Sampler):
    r"""Adds noise before each step of a one-step sampler.

    Attributes:
        inner: The sampler that takes the steps; it must keep no memory between steps.
        gamma: Relative increase of sigma before a step.
        noise_scale: Width of the fresh noise in units of the exact one. 1 is unbiased. It is the one temperature-like knob that samplers have:
            values below 1 narrow and above 1 widen the samples, but the result is **not** the Boltzmann distribution at another temperature.
    """

    inner: Sampler
    gamma: float = 0.2
    noise_scale: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.gamma > 0.0 or not self.noise_scale > 0.0:
            raise ConfigError(f"Churn: got gamma {self.gamma}, noise_scale {self.noise_scale}; expected positive numbers")

    @property
    def evaluations(self) -> int:  # noqa: D102
        return self.inner.evaluations

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        process = denoiser.process
        reference = process.reference
        ceiling = process.fields[reference].schedule.sigma_max
        raised = min(level.sigma[reference] * (1.0 + self.gamma), ceiling)
        if raised > level.sigma[reference]:
            t = float(process.time(torch.tensor(raised, dtype=torch.float64)))
            hot = Level(t, {n: float(process.sigma(n, torch.tensor(t, dtype=torch.float64))) for n in process.moving})
            noisy = {}
            for name in process.moving:
                width = self.noise_scale * (max(hot.sigma[name] ** 2 - level.sigma[name] ** 2, 0.0)) ** 0.5
                sigma = torch.full((state.batch_size,), width, dtype=state.dtype, device=state.device)
                field = state.fields[name]
                noisy[name] = process.fields[name].space.perturb(field, sigma, state.mask(name), generator=generator)
            state, level = state.replace(**noisy), hot
        state, _ = self.inner.step(denoiser, state, level, target, memory=None, generator=generator)
        return state, None
