r"""Log-density from denoising errors alone (the I-MMSE identity), on flat Spaces: no divergence and no trajectory.

Against a Gaussian reference :math:`g = N(0, \sigma_d^2)` with the denoiser :math:`\hat g(z) = z\, \sigma_d^2/(\sigma^2 + \sigma_d^2)`, pointwise in x,

.. math::
    \ln p(x) = \ln g(x) + \sum_f \int \frac{d \ln \sigma_f}{\sigma_f^2}\, \mathrm E_\varepsilon \big[ |x - \hat g(z)|^2 - |x - \hat x_0(z)|^2 \big]_f,
    \qquad z = x + \sigma \varepsilon

Both errors see the same noise, which takes away most of the variance at small noise; every level has noise of its own, so that the
errors of the levels average out. The stretches beyond the grid follow from the
integrand's limits, proportional to :math:`\sigma^2` below and to :math:`\sigma^{-2}` above. For an imperfect denoiser the mean over the data is a lower
bound of the mean log-likelihood. References: Guo, Shamai and Verdú (2005); Kong et al. (2023), https://arxiv.org/abs/2302.03792
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.density.path_weights import require_flat
from equilibra.density.trajectory import log_levels, quadrature, rates, time_at
from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import ConfigError
from equilibra.sampling.grid import Level
from equilibra.state.state import State


@dataclass(frozen=True, eq=False)
class DenoisingDensity:
    """Log-densities of a batch of clean States.

    Attributes:
        log_density: ln p (batch,), in float64.
        error: Standard error (batch,) over the pairs of noises. Large where a State has several modes around it.
    """

    log_density: Tensor
    error: Tensor


def denoising_log_density(
    denoiser: Denoiser,
    state: State,
    levels: Sequence[Level] | None = None,
    *,
    generator: Generator,
    steps: int = 100,
    draws: int = 32,
    rows: int = 2048,
) -> DenoisingDensity:
    """Estimates the log-density of clean States from denoising errors.

    Arguments:
        denoiser: Source of posterior means.
        state: Clean States, in the rescaled variable.
        levels: A noise grid; by default `steps` steps over the full range of the process.
        generator: The only source of randomness.
        steps: Number of steps where no grid is given.
        draws: Noises of each State, an even number of at least 4; they come in pairs of opposite sign.
        rows: Largest number of noised States given to the denoiser at once.

    Raises:
        SpaceError: If a moving field is not flat.
        ConfigError: If the number of draws is odd or too small.
    """
    process = denoiser.process
    require_flat(process, "density from denoising errors")
    if draws < 4 or draws % 2:
        raise ConfigError(f"draws: got {draws}, expected an even number of at least 4")
    grid = log_levels(process, levels, steps)
    chunk = max(1, min(draws // 2, rows // (2 * state.batch_size)))
    integrals = []
    with torch.no_grad():
        for start in range(0, draws // 2, chunk):
            pairs = min(chunk, draws // 2 - start)
            index = torch.arange(state.batch_size, device=state.device).repeat(2 * pairs)
            many, copies = denoiser.rows(index), state[index]
            values = torch.stack([_integrand(many, copies, level, generator) for level in grid])
            # a pair is one draw
            values = values.unflatten(1, (2, pairs, state.batch_size)).mean(1)
            integral, _ = quadrature(values, grid, "heun")
            integrals.append(integral + 0.5 * (values[0] + values[-1]))
    found = torch.cat(integrals)
    reference = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
    for name in process.moving:
        field, x = process.fields[name], state.fields[name].double()
        zero = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
        reference = reference + field.space.log_prior(x, zero, field.data_scale, state.mask(name))
    return DenoisingDensity(reference + found.mean(0), found.std(0) / len(found) ** 0.5)


def _integrand(denoiser: Denoiser, state: State, level: float, generator: Generator) -> Tensor:
    """Returns the integrand over the logarithm of the reference noise for each row, in float64; the second half has minus the noise of the first."""
    process = denoiser.process
    t = torch.full((state.batch_size,), time_at(process, level), dtype=state.dtype, device=state.device)
    rate = rates(process, level)
    sigma = {name: float(process.sigma(name, t[:1].double())) for name in rate}
    raised = {}
    for name in rate:
        first = state[: state.batch_size // 2]
        half = process.fields[name].space.tangent_noise(first.fields[name], first.mask(name), generator=generator)
        raised[name] = state.fields[name] + sigma[name] * torch.cat([half, -half])
    noised = state.replace(**raised)
    displacements = denoiser(noised, t).displacements
    total = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
    for name, c in rate.items():
        field, mask = process.fields[name], state.mask(name)
        past, clean = noised.fields[name].double(), state.fields[name].double()
        shrink = field.data_scale**2 / (field.data_scale**2 + sigma[name] ** 2)
        own = field.space.project(clean - past - displacements[name].double(), mask)
        reference = field.space.project(clean - shrink * past, mask)
        gain = field.space.inner(reference - own, reference + own)
        total = total + c / sigma[name] ** 2 * gain
    return total
