r"""Time-InfoNCE: telling the noise level of a sample from its log-densities.

A sample x noised to one of K levels comes from level j with the probability :math:`q_{\sigma_j}(x) / \sum_k q_{\sigma_k}(x)`. The cross-entropy of that
classification is least where the densities are right **relative to each other**: it fixes how the normalisation changes with the noise, by
forward passes alone. References: BoltzNCE (2025); theory of noise-contrastive estimation, van den Oord et al. (2018),
https://arxiv.org/abs/1807.03748.
"""

import math

import torch
from torch import Generator, Tensor

from equilibra.diffusion.fokker_planck import repeated
from equilibra.diffusion.objectives.semigroup import LogDensity
from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State


def time_info_nce(
    log_density: LogDensity,
    process: Process,
    state: State,
    features: Features,
    *,
    candidates: int,
    spread: float,
    generator: Generator,
) -> Tensor:
    r"""Returns the cross-entropy (batch,), in nats; :math:`\ln K` is chance.

    The candidates of a sample are scattered about a common level, itself uniform in :math:`\ln \sigma`: they are exchangeable, so that the first may
    be the true one. Levels that differ by much more than :math:`1/\sqrt{D_{eff}}` in :math:`\ln \sigma` are told apart by the norm of x alone, and
    teach nothing.

    Arguments:
        log_density: What is trained.
        process: Forward process.
        state: Clean States.
        features: Features of the batch.
        candidates: Number K of levels per sample.
        spread: Scatter of the candidates in :math:`\ln \sigma`, in units of :math:`1/\sqrt{D_{eff}}`.
        generator: Source of levels and noise.

    Raises:
        ConfigError: If there are fewer than two candidates, or the spread is not positive.
    """
    if candidates < 2 or not spread > 0.0:
        raise ConfigError(f"info-nce: got {candidates} candidates, spread {spread}; expected at least 2 and a positive number")
    batch, device = state.batch_size, state.device
    schedule = process.fields[process.reference].schedule
    low, high = math.log(schedule.sigma_min), math.log(schedule.sigma_max)
    centre = low + (high - low) * torch.rand(1, batch, generator=generator, dtype=torch.float64, device=device)
    scatter = torch.randn(candidates, batch, generator=generator, dtype=torch.float64, device=device)
    level = centre + spread / torch.sqrt(process.degrees(state).double()) * scatter
    t = process.time(torch.exp(level.clamp(low, high))).clamp(process.t_min, 1.0).to(state.dtype)
    noisy = process.noise(state, t[0], generator=generator)
    values = log_density(State.cat([noisy] * candidates), t.flatten(), repeated(features, batch, candidates))
    return -torch.log_softmax(values.reshape(candidates, batch), dim=0)[0]
