r"""The Fokker-Planck equation of log-densities and of scores, as residuals of any denoiser.

In the rescaled variable every linear process is Brownian motion, and on every Space, with :math:`\kappa_b = \tfrac12\, d\sigma_b^2/dt` of the
fields b that share the time,

.. math::
    \partial_t \ln p &= \sum_b \kappa_b \left( \mathrm{div}_b\, s_b + |s_b|^2 \right) \\
    \partial_t s_a &= \nabla_a \sum_b \kappa_b \left( \mathrm{div}_b\, s_b + |s_b|^2 \right)

(the second is the gradient of the first, and couples the fields). For one field both say :math:`\partial_{\sigma^2} \ln p = \tfrac12
(\mathrm{div}\, s + |s|^2)`. Variance-preserving processes obey the same equations: their drift is what the rescaling takes away.

Derivatives in space are taken along the retraction, at a zero tangent vector: :math:`g(\exp_x(v))` at v = 0. On SO(3) that is the derivative
along the right-invariant fields in which the components of the score are given; they commute with the time, and have no divergence of
their own, so that the same lines serve all Spaces.

What is called a denoiser here is called with (state, t, features) and returns a `Prediction`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from equilibra.diffusion.conservative import PotentialPrediction, zero_tangent
from equilibra.diffusion.denoiser import Prediction
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import expand
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State

DenoiserFunction = Callable[[State, Tensor, Features], Prediction]
"""A denoiser as training sees it."""

Blocks = Literal["joint", "separate"]
"""Whether the score equation couples the fields, as it should, or keeps only a field's own terms, as eqs. (A14) and (A19) of DiG do."""

Probes = Mapping[str, Tensor]
"""One tangent vector per moving field, with E[p p^T] the identity of the tangent space."""


def noise_rates(process: Process, t: Tensor) -> dict[str, Tensor]:
    r"""Returns :math:`\kappa_b = \tfrac12\, d\sigma_b^2/dt` of each moving field at the times t, with shape (batch,)."""
    with torch.enable_grad():
        time = t.detach().double().requires_grad_(True)
        rates = {}
        for name in process.moving:
            variance = 0.5 * process.sigma(name, time) ** 2
            rates[name] = torch.autograd.grad(variance.sum(), time)[0].to(t.dtype)
    return rates


def level_rate(process: Process, t: Tensor) -> Tensor:
    r"""Returns :math:`d \ln \sigma / dt` of the reference field at the times t, with shape (batch,)."""
    name = process.reference
    return noise_rates(process, t)[name] / process.sigma(name, t.detach()) ** 2


def repeated(features: Features, batch: int, times: int) -> Features:
    """Returns the features of `times` copies of a batch of the given size, one after the other."""
    assert features.mask is not None
    return features.rows(torch.arange(batch, device=features.mask.device).repeat(times))


def rademacher_probes(process: Process, state: State, *, generator: Generator) -> Probes:
    """Draws signs, projected on the tangent spaces: the probes with the least variance among products."""
    probes = {}
    for name in process.moving:
        space = process.fields[name].space
        shape = zero_tangent(space, state.fields[name])
        signs = torch.randint(0, 2, shape.shape, generator=generator, device=shape.device).to(shape.dtype) * 2.0 - 1.0
        probes[name] = space.project(signs, state.mask(name))
    return probes


def sphere_probes(process: Process, state: State, *, generator: Generator) -> Probes:
    r"""Draws uniform directions of length :math:`\sqrt{D_{eff}}`: exact for a divergence that is the same in all directions."""
    probes = {}
    for name in process.moving:
        space, x, mask = process.fields[name].space, state.fields[name], state.mask(name)
        z = space.tangent_noise(x, mask, generator=generator)
        length = torch.sqrt(space.degrees(x, mask) / space.inner(z, z).clamp(min=torch.finfo(z.dtype).tiny))
        probes[name] = expand(length, z) * z
    return probes


def log_density_rate(prediction: Prediction, t: Tensor) -> Tensor:
    r"""Returns :math:`\partial_t \ln q` (batch,) of a prediction made at times t that require a gradient; it can be differentiated again.

    Raises:
        ConfigError: If the denoiser gives no log-density.
    """
    if isinstance(prediction, PotentialPrediction) and prediction.rate is not None:
        return prediction.rate
    if prediction.log_density is None:
        raise ConfigError(
            "Fokker-Planck residual of a log-density: the denoiser gives none; use a conservative denoiser (an energy head)"
        )
    (rate,) = torch.autograd.grad(prediction.log_density.sum(), t, create_graph=True)
    return rate


def _own_terms(
    denoiser: DenoiserFunction,
    process: Process,
    state: State,
    t: Tensor,
    features: Features,
    probes: Sequence[Probes],
) -> tuple[dict[str, Tensor], dict[str, Tensor], Prediction]:
    """Returns kappa (div s + |s|^2) of each field, the first tangent vectors that they depend on, and the prediction."""
    spaces = {name: process.fields[name].space for name in process.moving}
    rates = noise_rates(process, t)
    first = {name: zero_tangent(space, state.fields[name]) for name, space in spaces.items()}
    here = process.retract(state, first)
    second = {name: zero_tangent(space, state.fields[name]) for name, space in spaces.items()}
    prediction = denoiser(process.retract(here, second), t, features)
    terms = {}
    for name, space in spaces.items():
        score = prediction.score(name, process.sigma(name, t))
        divergence = torch.zeros_like(t)
        for probe in probes:
            (along,) = torch.autograd.grad(space.inner(score, probe[name]).sum(), second[name], create_graph=True)
            divergence = divergence + space.inner(along, probe[name]) / len(probes)
        terms[name] = rates[name] * (divergence + space.inner(score, score))
    return terms, first, prediction


def log_density_residual(
    denoiser: DenoiserFunction, process: Process, state: State, t: Tensor, features: Features, probes: Sequence[Probes]
) -> Tensor:
    r"""Returns :math:`\sum_b \kappa_b (\mathrm{div}_b s_b + |s_b|^2) - \partial_t \ln q` (batch,), by automatic differentiation.

    For checks and reports; `weak_residuals` is cheaper in training.

    Arguments:
        denoiser: Gives scores and log-densities.
        process: Forward process.
        state: States in the rescaled variable.
        t: Times (batch,).
        features: Features of the batch.
        probes: Whose mean of p . J p stands for the divergence.

    Raises:
        ConfigError: If the denoiser gives no log-density.
    """
    with torch.enable_grad():
        time = t.detach().requires_grad_(True)
        terms, _, prediction = _own_terms(denoiser, process, state, time, features, probes)
        return torch.stack(list(terms.values())).sum(0) - log_density_rate(prediction, time)


def transported_scores(
    denoiser: DenoiserFunction,
    process: Process,
    state: State,
    t: Tensor,
    features: Features,
    probes: Sequence[Probes],
    *,
    blocks: Blocks = "joint",
) -> dict[str, Tensor]:
    r"""Returns the right-hand side of the score equation, :math:`\nabla_a \sum_b \kappa_b (\mathrm{div}_b s_b + |s_b|^2)`, for each field a.

    Arguments:
        denoiser: Gives scores, three times differentiable where it is trained.
        process: Forward process.
        state: States in the rescaled variable.
        t: Times (batch,).
        features: Features of the batch.
        probes: Whose mean of p . J p stands for the divergence.
        blocks: `joint` for the sum over all fields, `separate` for b = a alone.
    """
    with torch.enable_grad():
        terms, first, _ = _own_terms(denoiser, process, state, t.detach(), features, probes)
        names = list(first)
        if blocks == "joint":
            total = torch.stack(list(terms.values())).sum()
            gradients = torch.autograd.grad(total, [first[name] for name in names], create_graph=True)
        else:
            gradients = tuple(torch.autograd.grad(terms[n].sum(), first[n], create_graph=True)[0] for n in names)
    spaces = {name: process.fields[name].space for name in names}
    return {name: spaces[name].project(g, state.mask(name)) for name, g in zip(names, gradients, strict=True)}


def score_rates(
    denoiser: DenoiserFunction, process: Process, state: State, t: Tensor, features: Features, *, step: float
) -> dict[str, Tensor]:
    r"""Returns :math:`\partial_t s` of each field at fixed x, by a central difference.

    Arguments:
        denoiser: Gives scores.
        process: Forward process.
        state: States in the rescaled variable.
        t: Times (batch,); at the ends of the range the difference becomes one-sided.
        features: Features of the batch.
        step: Half-width of the difference in :math:`\ln \sigma` of the reference field.
    """
    width = step / level_rate(process, t)
    earlier, later = (t - width).clamp(min=process.t_min), (t + width).clamp(max=1.0)
    prediction = denoiser(State.cat([state, state]), torch.cat([earlier, later]), repeated(features, state.batch_size, 2))
    rates = {}
    for name in process.moving:
        below, above = prediction.score(name, process.sigma(name, torch.cat([earlier, later]))).chunk(2)
        rates[name] = (above - below) / expand(later - earlier, above)
    return rates


def weak_residuals(
    denoiser: DenoiserFunction,
    process: Process,
    state: State,
    t: Tensor,
    features: Features,
    *,
    size: float,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    r"""Returns two estimates (batch,) of the residual of :math:`\ln q` per unit of :math:`\ln \sigma`, with independent probes.

    .. math::
        R(x; p) = \sum_b \frac{\kappa_b}{\dot\ell} \left[ \frac{p_b \cdot \left( s_b(\exp_x \eta p) - s_b(x) \right)}{\eta_b} + |s_b|^2 \right]
                  - \frac{\partial_t \ln q}{\dot\ell}, \qquad \eta_b = \text{size} \cdot \sigma_b

    for one field :math:`\sigma^2(\mathrm{div}\, s + |s|^2) - \partial_\ell \ln q`. Given x the two are independent, and each has the mean of the
    residual up to :math:`O(\eta^2)`: their **product** is an estimate of its square without the variance of the probes, which a single
    squared estimate is dominated by. Only first derivatives of the score are ever taken, in training: three evaluations in one batch.

    Reference: Plainer et al. (2025), https://arxiv.org/abs/2506.17139.

    Arguments:
        denoiser: Gives scores and log-densities.
        process: Forward process.
        state: States in the rescaled variable.
        t: Times (batch,).
        features: Features of the batch.
        size: Length of a probe's step per degree of freedom, in units of sigma; 1e-2 in single precision, 1e-4 in double.
        generator: Source of the probes.

    Raises:
        ConfigError: If the denoiser gives no log-density.

    Note:
        The published residual takes the symmetric difference about x and all other terms at x + v, which needs four evaluations. The forward
        difference from a common x has the same mean to this order.
    """
    probes = [sphere_probes(process, state, generator=generator) for _ in range(2)]
    points = [state]
    for probe in probes:
        steps = {name: expand(size * process.sigma(name, t), v) * v for name, v in probe.items()}
        points.append(process.retract(state, steps))
    with torch.enable_grad():
        times = torch.cat([t.detach()] * 3).requires_grad_(True)
        prediction = denoiser(State.cat(points), times, repeated(features, state.batch_size, 3))
        rate = log_density_rate(prediction, times).chunk(3)[0]
    kappas, level = noise_rates(process, t), level_rate(process, t)
    residuals = [-rate / level, -rate / level]
    for name in process.moving:
        space, sigma = process.fields[name].space, process.sigma(name, t.detach())
        here, *there = prediction.score(name, sigma.repeat(3)).chunk(3)
        for k, score in enumerate(there):
            divergence = space.inner(probes[k][name], score - here) / (size * sigma)
            residuals[k] = residuals[k] + kappas[name] / level * (divergence + space.inner(here, here))
    return residuals[0], residuals[1]
