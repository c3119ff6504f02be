"""A denoiser that is steered: the score of the wanted distribution by Bayes' rule, with a guessed likelihood at noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.space import expand
from equilibra.guidance.guide import Guide
from equilibra.guidance.twist import twist_at
from equilibra.state.state import State

MOST = 3.0
"""Longest pull, in units of the noise and the displacement of the denoiser together: a property that is steep at a noisy State, such as the density of a collapsing cell, would throw it out of
all that the network knows."""


class GuidedDenoiser(Denoiser):
    r"""Adds :math:`\sigma^2 \nabla \ln h_t(x)` to a denoiser's displacements, on all fields; any sampler takes it.

    .. math:: s_t(x \mid c) = s_t(x) + \nabla \ln h_t(x), \qquad h_t(x) \approx \mathrm E[p(c \mid x_0) \mid x_t = x]

    What a sampler draws with it is a guess of the wanted distribution, without weights; `guidance.twisted` draws the distribution itself.
    Reference: Zheng et al. (2023), https://arxiv.org/abs/2306.05445, eq. (8).

    Arguments:
        inner: The denoiser.
        guides: At least one guide with a differentiable property; others are left out.
        broaden: See `twist.twist_at`.
        at_once: Batch elements whose gradients are held in memory at once; None for all.
    """

    def __init__(self, inner: Denoiser, guides: Sequence[Guide], *, broaden: bool = True, at_once: int | None = None) -> None:
        self.inner, self.guides, self.broaden, self.at_once = inner, tuple(guides), broaden, at_once
        self.process = inner.process

    def __call__(self, state: State, t: Tensor) -> Prediction:  # noqa: D102
        twist = twist_at(self.inner, state, t, self.guides, broaden=self.broaden, at_once=self.at_once)
        with torch.no_grad():
            found = {}
            for name, value in twist.displacements.items():
                pull, space, mask = twist.pull[name], self.process.fields[name].space, state.mask(name)
                noise = self.process.sigma(name, t) * torch.sqrt(space.degrees(state.fields[name], mask))
                most = MOST * (noise + torch.sqrt(space.inner(value, value)))
                length = torch.sqrt(space.inner(pull, pull))
                found[name] = value + pull * expand((most / length.clamp(min=1e-30)).clamp(max=1.0).to(pull.dtype), pull)
            return Prediction(found)

    def rows(self, index: slice | Tensor) -> GuidedDenoiser:  # noqa: D102
        return GuidedDenoiser(self.inner.rows(index), self.guides, broaden=self.broaden, at_once=self.at_once)
