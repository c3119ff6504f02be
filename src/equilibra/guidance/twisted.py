r"""Twisted sequential Monte Carlo: samples of the wanted distribution itself, with weights.

A population follows the reverse diffusion of a model (SDE-DPM-Solver++), steered by the gradient of a twist :math:`h_k` (`guidance.twist`). From one noise level to the next the noise of
the step is drawn about the steered mean, and the weight takes back what the steering added:

.. math::
    \ln W \mathrel{+}= \ln h_{k-1}(x_{k-1}) - \ln h_k(x_k) + \ln \frac{N(v; m, \sigma_\uparrow^2)}{N(v; \tilde m, \sigma_\uparrow^2)},
    \qquad x_{k-1} = \exp_{x_k}(v)

with the model's mean m and the steered one; at the top W is :math:`h_K`, at the clean end :math:`h_0` is the likelihood itself. So the weighted population is the
**model's reverse diffusion times the likelihood**, whatever the twist; that needs no density on a curved Space, since the weights belong to the tangent
vectors v. The mean of W estimates the share of the model's samples that fulfil the wish. A population that degenerates is resampled, and weights are kept.

Properties without a gradient have a twist of their own: their likelihood at the denoised estimate, to a power that grows from 0 to 1 along the levels.

References: Wu et al. (2023), https://arxiv.org/abs/2306.17775; Del Moral, Doucet and Jasra (2006), https://doi.org/10.1111/j.1467-9868.2006.00553.x
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.space import expand
from equilibra.energies.resampling import resample_groups
from equilibra.errors import DivergenceError, InputError
from equilibra.guidance.guide import Guide
from equilibra.guidance.twist import Twist, log_likelihood, twist_at
from equilibra.sampling.dpm_solver import Past, extrapolate
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import times
from equilibra.sampling.sde_dpm_solver import drift_and_noise
from equilibra.state.state import State


@dataclass(frozen=True, eq=False)
class GuidedPopulation:
    r"""Weighted samples of a model's distribution times a likelihood.

    Attributes:
        state: Clean States.
        log_weights: :math:`\ln W` (n,) in float64; the mean of W estimates the average likelihood of the model's samples.
        values: Value (n,) of each guide's property, in the order of the guides.
        ancestors: Which of the samples at the top each one descends from (n,). Relatives are not independent.
        resampled: How often the population was resampled.
    """

    state: State
    log_weights: Tensor
    values: tuple[Tensor, ...]
    ancestors: Tensor
    resampled: int

    @property
    def log_evidence(self) -> float:
        """Estimate of the log of the average likelihood."""
        return float(torch.logsumexp(self.log_weights, 0)) - math.log(len(self.log_weights))


def draw_guided(
    denoiser: Denoiser,
    like: State,
    levels: Sequence[Level],
    guides: Sequence[Guide],
    *,
    generator: Generator,
    resample_below: float = 0.5,
    steer: bool = True,
    external_every: int = 10,
    at_once: int | None = None,
    progress: Callable[[int, State], None] = lambda step, state: None,
) -> GuidedPopulation:
    """Draws a population from the model times the likelihood of the guides.

    Arguments:
        denoiser: Source of scores; differentiable in the State, where a guide is.
        like: Gives the size of the population, shapes, masks and fixed fields.
        levels: Noise levels, descending.
        guides: Guides.
        generator: The only source of randomness.
        resample_below: Share of the effective size below which the population is resampled.
        steer: Add the gradients of the twist; without, weights alone steer.
        external_every: Properties without a gradient are computed at every so many levels, and at the clean end.
        at_once: Samples whose gradients are held in memory at once; None for all.
        progress: Called after each step with its number and the State.

    Raises:
        InputError: If there is no guide, a number is out of range, or a property is not fit.
        EquilibraError: If a property, or its gradient, is not a number.
        DivergenceError: If all weights vanish.
    """
    n = like.batch_size
    if not guides or n < 2 or not 0.0 <= resample_below <= 1.0 or external_every < 1:
        raise InputError(
            f"guided sampling: got {len(guides)} guides, {n} samples, resample_below {resample_below} and external_every {external_every}; expected at least one "
            "guide, two samples, a share between 0 and 1 and a positive number"
        )
    process = denoiser.process
    external = [guide for guide in guides if not guide.property.differentiable]
    with torch.no_grad():
        state = process.prior(like, generator=generator, t=levels[0].t)
        ancestors = torch.arange(n, device=like.device)
        log_w = torch.zeros(n, dtype=torch.float64, device=like.device)
        # the log-twist that the weights hold, of properties with a gradient and of those without
        inside, outside = torch.zeros_like(log_w), torch.zeros_like(log_w)
        rounds, last = 0, len(levels) - 1
        past: Past | None = None
        for number, (level, target) in enumerate(itertools.pairwise(levels)):
            twist = twist_at(denoiser, state, times(level, state), guides, at_once=at_once)
            log_w = log_w - inside - outside
            if external and number and number % external_every == 0:
                power = (number / last) ** 2
                found = power * log_likelihood(external, process.retract(state, twist.displacements))[0]
                outside = torch.where(torch.isfinite(found), found, outside)
            # where a property cannot be evaluated on the way nothing new is known, and the twist stays what it was: the weights allow of any twist
            inside = torch.where(torch.isnan(twist.log_twist), inside, twist.log_twist)
            log_w = log_w + inside + outside
            # before a step without noise copies would stay copies to the end
            noisy = any(drift_and_noise(level, target, name)[1] > 0.0 for name in process.moving)
            log_w, index, poor = _resampled(log_w, resample_below if noisy else 0.0, generator, number)
            if poor:
                rounds += 1
                state, twist = state[index], twist.rows(index)
                inside, outside, ancestors = inside[index], outside[index], ancestors[index]
                denoiser, past = denoiser.rows(index), past.rows(index) if past is not None else None
            state, log_ratio, past = _step(denoiser, state, twist, level, target, past, steer, generator)
            log_w = log_w + log_ratio
            progress(number + 1, state)
        exact, values = log_likelihood(guides, state)
        log_w = log_w + exact - inside - outside
        if not bool(torch.isfinite(log_w).any()):
            raise DivergenceError(
                "guided sampling: no sample has a finite weight; the wish is out of the model's reach, widen it"
            )
        return GuidedPopulation(state, log_w, values, ancestors, rounds)


def _step(
    denoiser: Denoiser,
    state: State,
    twist: Twist,
    level: Level,
    target: Level,
    past: Past | None,
    steer: bool,
    generator: Generator,
) -> tuple[State, Tensor, Past]:
    """Takes one step of SDE-DPM-Solver++(2M) about the steered mean; returns the log-ratio (batch,) of the model's noise to the steered one, too."""
    process = denoiser.process
    log_ratio = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
    means = extrapolate(twist.displacements, level, target, past)
    steps = {}
    for name, delta in means.items():
        space, x, mask = process.fields[name].space, state.fields[name], state.mask(name)
        drift, up = drift_and_noise(level, target, name)
        steps[name] = drift * delta
        if up == 0.0:
            continue
        noise = space.tangent_noise(x, mask, generator=generator)
        steps[name] = steps[name] + up * noise
        if steer:
            shift = drift * twist.pull[name]
            # a pull beyond the step's own noise and drift is no diffusion any more; the weights make any length exact
            own = up * torch.sqrt(space.degrees(x, mask)) + torch.sqrt(space.inner(drift * delta, drift * delta))
            length = torch.sqrt(space.inner(shift, shift))
            shift = shift * expand((own / length.clamp(min=1e-30)).clamp(max=1.0), shift)
            steps[name] = steps[name] + shift
            wide = shift.double()
            log_ratio = log_ratio - space.inner(noise.double(), wide) / up - 0.5 * space.inner(wide, wide) / up**2
    return process.clean(process.retract(state, steps)), log_ratio, Past(level, twist.displacements, steps)


def _resampled(log_w: Tensor, below: float, generator: Generator, number: int) -> tuple[Tensor, Tensor, int]:
    if not bool(torch.isfinite(log_w).any()):
        raise DivergenceError(
            f"guided sampling: after {number} steps no sample has a finite weight; widen the wish or weaken the guide"
        )
    fresh, index, poor = resample_groups(log_w[None], below, generator=generator)
    return fresh[0], index, poor
