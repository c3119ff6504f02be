"""Weights of populations of walkers: effective size and systematic resampling."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def effective_size(log_weights: Tensor) -> float:
    r"""Returns Kish's effective sample size :math:`(\sum_i w_i)^2 / \sum_i w_i^2` of log-weights (n,)."""
    return float((2.0 * torch.logsumexp(log_weights, -1) - torch.logsumexp(2.0 * log_weights, -1)).exp())


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
