r"""Discrete path weights: unbiased log Z of any model with any number of steps.

A chain of Gaussian kernels :math:`p(x_{k-1} \mid x_k)` leads from the prior :math:`p_K` through the levels :math:`\sigma_K > \dots > \sigma_1`
to the clean state :math:`x_0`; the forward kernels :math:`q(x_k \mid x_{k-1}) = N(x_{k-1}, \sigma_k^2 - \sigma_{k-1}^2)`, :math:`\sigma_0 = 0`, lead back:

.. math::
    \ln w = -u(x_0) + \sum_k \ln q(x_k \mid x_{k-1}) - \ln p_K(x_K) - \sum_k \ln p(x_{k-1} \mid x_k), \qquad \mathrm E[w] = Z

without divergence and without discretisation bias. On SO(3) and on a torus all kernels are heat kernels, of which the density is known (`Space.log_kernel`): IGSO(3) and wrapped
normal laws, about means that are reached by the exponential map. On a plane with a lattice (`diffusion.slab.Slab`) the same holds in its cover: q and p are invariant under translations of a
whole path by the lattice, so that a path with :math:`x_0` in the cell is one with :math:`x_K` in the cell, and the prior is uniform in it. The mean of a reverse kernel is :math:`x_k + (1 - \sigma_{k-1}^2/\sigma_k^2)\, \delta(x_k)`; its variance is free:

=============  ==============================================================================
posterior      :math:`v = \sigma_{k-1}^2 (\sigma_k^2 - \sigma_{k-1}^2)/\sigma_k^2`, exact for a point mass
forward        :math:`\sigma_k^2 - \sigma_{k-1}^2`
fitted         :math:`v + (1 - \sigma_{k-1}^2/\sigma_k^2)^2\, \mathrm E|x_0 - \hat x_0|^2/D_{eff}`, the best isotropic one
=============  ==============================================================================

:math:`\mathrm E_{model} \ln w \le \ln Z \le \mathrm E_\pi \ln w`, the second over reference samples that are noised forward.
References: Doucet et al. (2022); Bao et al. (2022), https://arxiv.org/abs/2201.06503; He et al. (2025), https://arxiv.org/abs/2504.11516
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import Space
from equilibra.errors import ConfigError, DivergenceError, ShapeError, SpaceError
from equilibra.sampling.grid import Level
from equilibra.state.state import State

Variance = Literal["posterior", "forward"]
Energy = Callable[[State], Tensor]


@dataclass(frozen=True, eq=False)
class PathKernels:
    """The Gaussian chain of a model.

    Attributes:
        times: Times of the levels, from the smallest noise to the largest (K,).
        sigmas: Noise of each moving field at the levels.
        variances: For each moving field the variances of the reverse kernels; entry k is that of the kernel from level k + 1 down, entry 0
            that of the last one, from the smallest noise to the clean state.
        prior: Variance of each moving field at the largest noise; in a periodic plane, where the prior is uniform, it has no effect.
    """

    times: Sequence[float]
    sigmas: Mapping[str, Sequence[float]]
    variances: Mapping[str, Sequence[float]]
    prior: Mapping[str, float]

    @property
    def steps(self) -> int:
        """Number K of kernels, and of denoiser calls per path."""
        return len(self.times)

    def below(self, name: str, k: int) -> float:
        """Returns the noise of a field one level below k; zero below the lowest."""
        return self.sigmas[name][k - 1] if k else 0.0

    def scaled(self, **prior: float) -> "PathKernels":
        """Returns the chain with other prior variances of the named fields."""
        return replace(self, prior={**self.prior, **prior})


@dataclass(frozen=True, eq=False)
class PathSample:
    r"""Paths and their weights.

    Attributes:
        state: Clean ends :math:`x_0` of the paths.
        log_weights: :math:`\ln w` (batch,) in float64.
        reduced_energy: :math:`u(x_0)` (batch,); :math:`\ln w + u` serves any other energy of the same paths.
        steps: Denoiser calls per path.
    """

    state: State
    log_weights: Tensor
    reduced_energy: Tensor
    steps: int


@dataclass(frozen=True)
class Bound:
    """A bound of log Z and its standard error, over independent paths."""

    value: float
    error: float


def path_kernels(process: Process, levels: Sequence[Level], *, variance: Variance = "posterior") -> PathKernels:
    r"""Builds the chain on a noise grid.

    The last kernel would have no width by the formula of a point mass; it gets :math:`\sigma_1^2 \sigma_d^2/(\sigma_1^2 + \sigma_d^2)`, the posterior variance of Gaussian
    data, or :math:`\sigma_1^2` (`forward`). Better are fitted variances, `fit_variances`.

    Arguments:
        process: Forward process.
        levels: Noisy levels in either order; a clean end is left out, as the chain always has one.
        variance: Which variances; see the module.

    Raises:
        SpaceError: If the density of the noise of a moving field is not known.
        ConfigError: If no noisy level is given or the choice of variance is unknown.
    """
    if variance not in get_args(Variance):
        raise ConfigError(f"path variance: got '{variance}', expected one of {', '.join(get_args(Variance))}")
    require_kernels(process)
    noisy = sorted((level for level in levels if not level.clean), key=lambda level: level.t)
    if not noisy:
        raise ConfigError("path weights: got no noisy level, expected at least one")
    sigmas = {name: [level.sigma[name] for level in noisy] for name in process.moving}
    variances, prior = {}, {}
    for name, sigma in sigmas.items():
        data = process.fields[name].data_scale ** 2
        if variance == "forward":
            variances[name] = [s**2 - low**2 for low, s in zip([0.0, *sigma[:-1]], sigma, strict=True)]
        else:
            last = sigma[0] ** 2 * data / (sigma[0] ** 2 + data)
            variances[name] = [last] + [_bridge(low, s) for low, s in itertools.pairwise(sigma)]
        prior[name] = sigma[-1] ** 2 + data
    return PathKernels([level.t for level in noisy], sigmas, variances, prior)


def _bridge(low: float, high: float) -> float:
    """Returns the variance of the noise level `low` given the clean state and the level `high`."""
    return low**2 * (high**2 - low**2) / high**2


def require_kernels(process: Process) -> None:
    """Raises `SpaceError` if the density of the noise of a moving field is not known."""
    unknown = [name for name in process.moving if not process.fields[name].space.has_kernel]
    if unknown:
        kind = type(process.fields[unknown[0]].space).__name__
        raise SpaceError(
            f"path weights: the noise of the field '{unknown[0]}' on {kind} has no density of its own; use density.flow.log_density there"
        )


def require_flat(process: Process, what: str) -> None:
    """Raises `SpaceError` if a moving field is not flat."""
    curved = [name for name in process.moving if not process.fields[name].space.flat]
    if curved:
        kind = type(process.fields[curved[0]].space).__name__
        raise SpaceError(
            f"{what}: the field '{curved[0]}' is on {kind}, expected flat fields; use density.flow.log_density there"
        )


def fit_variances(denoiser: Denoiser, states: State, kernels: PathKernels, *, generator: Generator) -> PathKernels:
    """Fits the isotropic variances of a chain to data.

    Arguments:
        denoiser: Source of posterior means.
        states: Clean states of the target, or of a model that is close to it; they are noised once to each level. Any choice leaves log Z unbiased.
        kernels: A chain on the levels wanted.
        generator: The only source of randomness.

    Returns:
        The chain with the variances that are best for these states.
    """
    process = denoiser.process
    require_kernels(process)
    variances: dict[str, list[float]] = {name: [] for name in process.moving}
    with torch.no_grad():
        for k, time in enumerate(kernels.times):
            t = _times(time, states)
            noised = process.noise(states, t, generator=generator)
            found = denoiser(noised, t).displacements
            for name, past in variances.items():
                space, mask = process.fields[name].space, states.mask(name)
                guess = space.retract(noised.fields[name], found[name])
                error = space.project(space.kernel_log(guess, states.fields[name]), mask).double()
                mmse = float(space.inner(error, error).sum() / space.degrees(states.fields[name], mask).double().sum())
                high, low = kernels.sigmas[name][k], kernels.below(name, k)
                past.append(_bridge(low, high) + (1.0 - low**2 / high**2) ** 2 * mmse)
    return replace(kernels, variances=variances)


def draw_weighted(
    denoiser: Denoiser,
    like: State,
    kernels: PathKernels,
    reduced_energy: Energy,
    *,
    generator: Generator,
    progress: Callable[[int], None] = lambda step: None,
) -> PathSample:
    """Draws one path per batch element from the prior down to a clean state, with its weight.

    Arguments:
        denoiser: Source of scores.
        like: Gives shapes, masks and fixed fields.
        kernels: The chain; see `path_kernels` and `fit_variances`.
        reduced_energy: u (batch,) of clean States; infinite energies give the weight zero.
        generator: The only source of randomness.
        progress: Called with the number of finished steps.

    Raises:
        SpaceError: If the density of the noise of a moving field is not known.
        DivergenceError: If a weight or an energy is not a number.
    """
    process = denoiser.process
    require_kernels(process)
    with torch.no_grad():
        state, log_prior = draw_prior(process, kernels, like, generator=generator)
        log_ratio = -log_prior
        for k in reversed(range(kernels.steps)):
            state, gain = draw_kernel(denoiser, kernels, state, k, generator=generator)
            log_ratio = log_ratio + gain
            progress(kernels.steps - k)
        return _weighted(state, log_ratio, reduced_energy, kernels.steps)


def draw_prior(process: Process, kernels: PathKernels, like: State, *, generator: Generator) -> tuple[State, Tensor]:
    """Draws the upper ends of paths.

    Arguments:
        process: Forward process.
        kernels: The chain.
        like: Gives shapes, masks and fixed fields.
        generator: The only source of randomness.

    Returns:
        States at the largest noise, and their log-density (batch,) under the chain's prior, in float64.
    """
    start = {
        name: space.prior(like.fields[name], _widths(kernels, name, like), 0.0, like.mask(name), generator=generator)
        for name, space in _spaces(process)
    }
    state = like.replace(**start)
    return state, _log_prior(process, kernels, state)


def draw_kernel(
    denoiser: Denoiser, kernels: PathKernels, upper: State, k: int, *, generator: Generator
) -> tuple[State, Tensor]:
    r"""Draws one step of paths: :math:`x` one level below :math:`x'` from the reverse kernel :math:`p(x \mid x')`.

    Arguments:
        denoiser: Source of scores.
        kernels: The chain.
        upper: States :math:`x'` at the noise level k.
        k: The level, from 0 for the smallest noise.
        generator: The only source of randomness.

    Returns:
        The States :math:`x`, clean for k = 0, and :math:`\ln q(x' \mid x) - \ln p(x \mid x')` (batch,) in float64.
    """
    process = denoiser.process
    means = _reverse_means(denoiser, kernels, upper, k)
    drawn = {
        name: _drawn(space, means[name], kernels.variances[name][k], upper.mask(name), generator)
        for name, space in _spaces(process)
    }
    lower = upper.replace(**drawn)
    return lower, _log_kernel_ratio(process, kernels, lower, upper, means, k)


def reverse_weights(
    denoiser: Denoiser,
    states: State,
    kernels: PathKernels,
    reduced_energy: Energy,
    *,
    generator: Generator,
    progress: Callable[[int], None] = lambda step: None,
) -> PathSample:
    """Noises reference samples forward and returns the same weights along those paths, for EUBO, forward ESS and BAR.

    Arguments:
        denoiser: Source of scores.
        states: Clean samples of the Boltzmann distribution of the energy.
        kernels: The chain, the same as for `draw_weighted`.
        reduced_energy: u (batch,) of clean States.
        generator: The only source of randomness.
        progress: Called with the number of finished steps.

    Raises:
        SpaceError: If the density of the noise of a moving field is not known.
        DivergenceError: If a weight or an energy is not a number.
    """
    process = denoiser.process
    require_kernels(process)
    with torch.no_grad():
        state = states
        log_ratio = torch.zeros(states.batch_size, dtype=torch.float64, device=states.device)
        for k in range(kernels.steps):
            raised = {}
            for name, space in _spaces(process):
                gain = kernels.sigmas[name][k] ** 2 - kernels.below(name, k) ** 2
                raised[name] = _drawn(space, state.fields[name], gain, state.mask(name), generator)
            upper = state.replace(**raised)
            means = _reverse_means(denoiser, kernels, upper, k)
            log_ratio = log_ratio + _log_kernel_ratio(process, kernels, state, upper, means, k)
            state = upper
            progress(k + 1)
        log_ratio = log_ratio - _log_prior(process, kernels, state)
        return _weighted(states, log_ratio, reduced_energy, kernels.steps)


def elbo(sample: PathSample) -> Bound:
    """Returns the lower bound of log Z: the mean log-weight of paths that the model drew."""
    return _mean(sample)


def eubo(reference: PathSample) -> Bound:
    """Returns the upper bound of log Z: the mean log-weight of noised reference samples, which must be independent for its error."""
    return _mean(reference)


def _mean(sample: PathSample) -> Bound:
    w = sample.log_weights
    return Bound(float(w.mean()), float(w.std() / math.sqrt(len(w))) if len(w) > 1 else math.inf)


def _spaces(process: Process) -> list[tuple[str, Space]]:
    return [(name, process.fields[name].space) for name in process.moving]


def _times(t: float, state: State) -> Tensor:
    return torch.full((state.batch_size,), t, dtype=state.dtype, device=state.device)


def _reverse_means(denoiser: Denoiser, kernels: PathKernels, state: State, k: int) -> dict[str, Tensor]:
    """Returns the means of the reverse kernel from the level k to the one below, by field."""
    displacements = denoiser(state, _times(kernels.times[k], state)).displacements
    share = {name: 1.0 - (kernels.below(name, k) / kernels.sigmas[name][k]) ** 2 for name in denoiser.process.moving}
    steps = {name: c * displacements[name] for name, c in share.items()}
    return dict(denoiser.process.retract(state, steps).fields)


def _drawn(space: Space, centre: Tensor, variance: float, mask: Tensor | None, generator: Generator) -> Tensor:
    """Draws from the heat kernels of points with one variance per axis."""
    width = torch.full((len(centre),), math.sqrt(variance), dtype=centre.dtype, device=centre.device)
    return space.perturb(centre, width, mask, generator=generator)


def _log_prior(process: Process, kernels: PathKernels, state: State) -> Tensor:
    """Returns the log-density (batch,) of States at the largest noise under the chain's prior, in float64."""
    state = state.to(dtype=torch.float64)
    parts = [
        space.log_prior(state.fields[name], _widths(kernels, name, state), 0.0, state.mask(name))
        for name, space in _spaces(process)
    ]
    return torch.stack(parts).sum(0)


def _widths(kernels: PathKernels, name: str, like: State) -> Tensor:
    """Returns the width (batch,) of a field's prior."""
    return torch.full((like.batch_size,), math.sqrt(kernels.prior[name]), dtype=like.dtype, device=like.device)


def _log_kernel_ratio(
    process: Process, kernels: PathKernels, lower: State, upper: State, means: Mapping[str, Tensor], k: int
) -> Tensor:
    """Returns ln q(upper given lower) - ln p(lower given upper) of the kernel between the level k and the one below."""
    total = torch.zeros(lower.batch_size, dtype=torch.float64, device=lower.device)
    for name, space in _spaces(process):
        mask, x = lower.mask(name), lower.fields[name]
        gain = kernels.sigmas[name][k] ** 2 - kernels.below(name, k) ** 2
        total = total + space.log_kernel(x, upper.fields[name], gain, mask)
        total = total - space.log_kernel(means[name], x, kernels.variances[name][k], mask)
    return total


def _weighted(state: State, log_ratio: Tensor, reduced_energy: Energy, steps: int) -> PathSample:
    u = reduced_energy(state).double()
    if tuple(u.shape) != (state.batch_size,):
        raise ShapeError("reduced energy of path weights", tuple(u.shape), f"one energy per path, ({state.batch_size},)")
    log_weights = log_ratio - u
    if torch.isnan(log_weights).any():
        first = int(torch.isnan(log_weights).nonzero()[0])
        raise DivergenceError(
            f"path weights: {int(torch.isnan(log_weights).sum())} of {len(u)} weights are not a number, the first at path {first} with "
            f"the energy {float(u[first]):g} kT; check the energy and the model"
        )
    return PathSample(state, log_weights, u, steps)
