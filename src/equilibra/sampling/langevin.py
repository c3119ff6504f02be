r"""Langevin corrector: steps at fixed noise that leave the noised distribution invariant to first order.

.. math:: x \leftarrow \exp_x\big[\eta\, \delta + \sqrt{2\eta}\, \sigma z\big], \qquad \eta \text{ fixed},

i.e. an unadjusted Langevin step of size :math:`\eta \sigma^2`. A size that depends on the present score would not leave the distribution
invariant. Reference: Song et al. (2021), algorithm 4, with a fixed step.
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
class LangevinCorrected(Sampler):
    """Follows each step of another sampler by Langevin steps at the new noise level.

    Attributes:
        inner: The sampler that changes the noise level.
        corrections: Langevin steps per level.
        step_size: Step in units of sigma squared; 0.05-0.2 is usual.
    """

    inner: Sampler
    corrections: int = 1
    step_size: float = 0.1
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.corrections < 1 or not 0.0 < self.step_size < 1.0:
            raise ConfigError(
                f"LangevinCorrected: got {self.corrections} corrections of size {self.step_size}; expected at least 1, size from 0 to 1"
            )

    @property
    def evaluations(self) -> int:  # noqa: D102
        return self.inner.evaluations + self.corrections

    def step(  # noqa: D102
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        state, _ = self.inner.step(denoiser, state, level, target, memory=None, generator=generator)
        if target.clean:
            return state, None
        for _ in range(self.corrections):
            displacements = denoiser(state, times(target, state)).displacements
            widths = {name: math.sqrt(2.0 * self.step_size) * target.sigma[name] for name in displacements}
            noise = denoiser.process.tangent_noise(state, widths, generator=generator)
            steps = {name: self.step_size * delta + noise[name] for name, delta in displacements.items()}
            state = denoiser.process.clean(denoiser.process.retract(state, steps))
        return state, None
