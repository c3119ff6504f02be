r"""The heat semigroup as a finite-step condition on a log-density: noise averages densities.

.. math:: q_\sigma(x) = \mathrm{E}_\varepsilon\, q_r\big(x + \sqrt{\sigma^2 - r^2}\, \varepsilon\big), \qquad r < \sigma

on every Space, with its own Brownian motion. It carries the normalisation from one noise level to the next by forward passes alone; in the
limit of a small step it is the Fokker-Planck equation. With K samples the logarithm of the mean is biased by
:math:`-\mathrm{Var}(q_r)/(2 K\, q_\sigma^2)`, which is returned: choose the step so that it stays below 0.02.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from equilibra.diffusion.fokker_planck import repeated
from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State

LogDensity = Callable[[State, Tensor, Features], Tensor]
"""Log-density (batch,) of a State at times t (batch,), such as `ConservativeDenoiser.log_density`."""


@torch.no_grad()
def semigroup_target(
    log_density: LogDensity,
    process: Process,
    state: State,
    t: Tensor,
    features: Features,
    *,
    step: Tensor | float,
    samples: int,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    r"""Returns :math:`\ln q_\sigma(x)` (batch,) from the density at less noise, and an estimate of its bias (batch,).

    Arguments:
        log_density: The teacher; no gradient reaches it.
        process: Forward process.
        state: States at the times t, in the rescaled variable.
        t: Times (batch,).
        features: Features of the batch.
        step: Width of the averaging, :math:`\sqrt{\sigma^2 - r^2} / \sigma` of the reference field, between 0 and 1; one, or one per State.
        samples: Number K of points per State.
        generator: Source of the noise.

    Raises:
        ConfigError: If the step is not between 0 and 1, or there are fewer than 2 samples.
    """
    width = torch.as_tensor(step, dtype=t.dtype, device=t.device)
    if not bool(((width > 0.0) & (width < 1.0)).all()) or samples < 2:
        raise ConfigError(f"semigroup: got step {step}, {samples} samples; expected between 0 and 1, and at least 2 samples")
    earlier = process.time(process.sigma(process.reference, t) * torch.sqrt(1.0 - width**2)).clamp(min=process.t_min)
    index = torch.arange(state.batch_size, device=state.device).repeat(samples)
    many = state[index]
    moved = {}
    for name in process.moving:
        now, before = process.sigma(name, t), process.sigma(name, earlier)
        # a zero width is asked for only at the smallest noise, where both times are the same
        own = torch.sqrt((now**2 - before**2).clamp(min=0.0)).clamp(min=1e-6 * process.fields[name].schedule.sigma_min)
        moved[name] = process.fields[name].space.perturb(many.fields[name], own[index], many.mask(name), generator=generator)
    values = log_density(many.replace(**moved), earlier[index], repeated(features, state.batch_size, samples))
    values = values.reshape(samples, state.batch_size)
    mean = torch.logsumexp(values, dim=0) - math.log(samples)
    relative = torch.exp(values - mean)
    return mean, -relative.var(dim=0) / (2.0 * samples)
