"""Weights of populations of walkers: effective size and systematic resampling."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def effective_size(log_weights: Tensor) -> float:
    r"""Returns Kish's effective sample size :math:`(\sum_i w_i)^2 / \sum_i w_i^2` of log-weights (n,)."""
    return float((2.0 * torch.logsumexp(log_weights, -1) - torch.logsumexp(2.0 * log_weights, -1)).exp())


def conditional_effective_fraction(log_w: Tensor, log_v: Tensor) -> float:
    r"""Returns the conditional effective fraction :math:`(\sum_i W_i v_i)^2 / \sum_i W_i v_i^2` of incremental weights v.

    It is 1 where all increments are equal, whatever the weights W before them; 0 where all vanish.

    Arguments:
        log_w: Log-weights (groups, m) before the increment; every group counts the same, whatever its sum.
        log_v: Log-increments (groups m,).

    References:
        | Toward automatic model comparison: an adaptive sequential Monte Carlo approach (Zhou, Johansen & Aston, 2016)
        | https://arxiv.org/abs/1303.3123
    """
    log_share = torch.log_softmax(log_w, 1).flatten() - math.log(len(log_w))
    fraction = 2.0 * torch.logsumexp(log_share + log_v, 0) - torch.logsumexp(log_share + 2.0 * log_v, 0)
    return float(torch.nan_to_num(fraction.exp(), nan=0.0))


def systematic_indices(log_weights: Tensor, *, generator: Generator) -> Tensor:
    r"""Draws n indices by systematic resampling: index i appears :math:`\lfloor n W_i \rfloor` or :math:`\lceil n W_i \rceil` times.

    Arguments:
        log_weights: Log-weights (..., n) of independent populations.
        generator: The only source of randomness, one uniform number per population.

    Returns:
        Ascending indices (..., n) within each population.
    """
    n = log_weights.shape[-1]
    cumulative = torch.softmax(log_weights.double(), -1).cumsum(-1)
    uniform = torch.rand(*log_weights.shape[:-1], 1, generator=generator, dtype=torch.float64, device=log_weights.device)
    points = (uniform + torch.arange(n, dtype=torch.float64, device=log_weights.device)) / n
    # the last sum is 1 only up to rounding, and a point beyond it belongs to the last walker that has a weight
    return torch.searchsorted(cumulative / cumulative[..., -1:], points.clamp(max=1.0 - 1e-15), right=True).clamp(max=n - 1)


def resample_groups(log_w: Tensor, below: float, *, generator: Generator) -> tuple[Tensor, Tensor, int]:
    """Resamples the groups whose effective fraction is too low, each within itself.

    Arguments:
        log_w: Log-weights (groups, m).
        below: Effective fraction below which a group is resampled.
        generator: The only source of randomness.

    Returns:
        New log-weights (groups, m), level in the groups that were resampled and with the same mean weight; which of the groups m walkers each one
        continues (groups m,); and the number of groups that were resampled.
    """
    groups, m = log_w.shape
    fraction = (2.0 * torch.logsumexp(log_w, 1) - torch.logsumexp(2.0 * log_w, 1)).exp() / m
    poor = fraction < below
    drawn = systematic_indices(log_w, generator=generator)
    index = torch.where(poor[:, None], drawn, torch.arange(m, device=log_w.device))
    mean = torch.logsumexp(log_w, 1, keepdim=True) - math.log(m)
    offset = m * torch.arange(groups, device=log_w.device)[:, None]
    return torch.where(poor[:, None], mean, log_w), (index + offset).flatten(), int(poor.sum())
