"""Samples that a model's own sampler draws once per run, with a key of their own, to fit to: widths of kernels, tolerances of guides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.process import Process
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import State
from equilibra.state.randomness import generator_for

_SAMPLES_STREAM = 0x50415448  # no block has such a number
_FEWEST_VALID = 20  # fewer valid samples say less than all samples do


def own_calls(process: Process, sampler: SamplerConfig) -> int:
    """Returns the denoiser calls of `own_samples`."""
    return sampler.make().calls(noise_grid(process, sampler.grid))


def own_samples(
    denoiser: Denoiser, like: State, sampler: SamplerConfig, valid: Callable[[State], np.ndarray], seed: int
) -> State:
    """Draws samples of a model: one for each batch element of `like`, less those that fail the checks, unless hardly any passes.

    Arguments:
        denoiser: Source of scores for the system.
        like: Gives the number of samples, shapes and fixed fields.
        sampler: The model's own sampler.
        valid: Tells which samples of a State pass the checks.
        seed: Seed of the run; the same one gives the same samples.
    """
    levels = noise_grid(denoiser.process, sampler.grid)
    generator = generator_for(seed, _SAMPLES_STREAM, device=like.device)
    states = draw(sampler.make(), denoiser, like, levels, generator=generator)
    good = valid(states)
    return states[torch.from_numpy(np.flatnonzero(good))] if good.sum() >= _FEWEST_VALID else states


class Counted(Denoiser):
    """A denoiser that says how often it was called."""

    def __init__(self, inner: Denoiser, tell: Callable[[int], None]) -> None:
        self.inner, self.tell, self.process, self.calls = inner, tell, inner.process, 0

    def __call__(self, state: State, t: Tensor) -> Prediction:  # noqa: D102
        self.calls += 1
        self.tell(self.calls)
        return self.inner(state, t)
