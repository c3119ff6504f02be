"""The Sampler: a rule for one step between two noise levels; the integration loop exists once, here."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import DivergenceError
from equilibra.sampling.grid import Level
from equilibra.state.state import State


class Sampler(ABC):
    """Abstract rule of one step.

    Attributes:
        order: Order of convergence of the probability-flow solution (deterministic samplers), or weak order (stochastic ones).
        evaluations: Denoiser calls of a step that does not end at the clean level.
    """

    order: ClassVar[int]

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Denoiser calls of a step that does not end at the clean level."""

    @abstractmethod
    def step(
        self, denoiser: Denoiser, state: State, level: Level, target: Level, *, memory: Any, generator: Generator
    ) -> tuple[State, Any]:
        """Takes one step from `level` to `target`.

        Arguments:
            denoiser: Source of scores.
            state: State at `level`.
            level: Present noise level; never the clean one.
            target: Next noise level; larger noise for an encoding step.
            memory: What the previous step returned; None at the first.
            generator: The only source of randomness.

        Returns:
            The State at `target`, and the memory for the next step.
        """

    def calls(self, levels: Sequence[Level]) -> int:
        """Returns the number of denoiser calls for a grid."""
        return sum(1 if target.clean else self.evaluations for target in levels[1:])


def integrate(
    sampler: Sampler,
    denoiser: Denoiser,
    state: State,
    levels: Sequence[Level],
    *,
    generator: Generator,
    progress: Callable[[int, State], None] = lambda step, state: None,
) -> State:
    """Integrates a State along the levels of a grid.

    Arguments:
        sampler: Rule of one step.
        denoiser: Source of scores.
        state: State at the first level, for example drawn by `Process.prior`.
        levels: Noise levels in the order of the visit.
        generator: The only source of randomness.
        progress: Called after each step with its number and the State.

    Raises:
        DivergenceError: If a coordinate leaves the finite numbers.
    """
    memory = None
    with torch.no_grad():
        for number, (level, target) in enumerate(itertools.pairwise(levels)):
            state, memory = sampler.step(denoiser, state, level, target, memory=memory, generator=generator)
            state = denoiser.process.clean(state)
            progress(number + 1, state)
    for name, value in state.fields.items():
        if not torch.isfinite(value).all():
            raise DivergenceError(f"sampling diverged: field '{name}' has values that are not finite; use more steps")
    return state


def draw(
    sampler: Sampler,
    denoiser: Denoiser,
    like: State,
    levels: Sequence[Level],
    *,
    generator: Generator,
    progress: Callable[[int, State], None] = lambda step, state: None,
) -> State:
    """Draws one sample for each batch element: prior at the first level, then `integrate`. `like` gives shapes, masks and fixed fields."""
    start = denoiser.process.prior(like, generator=generator, t=levels[0].t)
    return integrate(sampler, denoiser, start, levels, generator=generator, progress=progress)


def times(level: Level, state: State) -> Tensor:
    """Returns the time of a level for each batch element, with shape (batch,)."""
    return torch.full((state.batch_size,), level.t, dtype=state.dtype, device=state.device)
