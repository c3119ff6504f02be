r"""Log-density by the probability flow, and samples that come with theirs.

.. math::
    \ln p_{\sigma_{min}}(x) = \ln p_{prior}(x_{\sigma_{max}}) - \int_{\ln \sigma_{min}}^{\ln \sigma_{max}} \sum_f c_f\, \mathrm{div}_f\, \delta_f \, d\ell

along the flow of `trajectory`; on a flat field :math:`-\mathrm{div}\,\delta = D_{eff} - \mathrm{tr}\, \partial \hat x_0/\partial x`. It is the density of the
distribution at the smallest noise: the target convolved with :math:`N(0, \sigma_{min}^2)`, in the rescaled variable x/alpha, with respect to

=========  ==============================================================
flat       the volume of the tangent space, mean-free where it is centred
SO(3)      the Haar measure of total mass one
torus      the volume in the unit of the period (all N points where centred)
=========  ==============================================================

References: Song et al. (2021), https://arxiv.org/abs/2011.13456; Zheng et al. (2023), eq. (6), the same integral over time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from equilibra.density.adaptive import integrate
from equilibra.density.differentiation import Mode, Tangents, differentiation
from equilibra.density.fixed_grid import integrate_on_grid
from equilibra.density.trace import Trace, draw_probes
from equilibra.density.trajectory import Pass, log_levels, time_at
from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError, DivergenceError
from equilibra.sampling.grid import Level
from equilibra.state.state import State

_STEPS = {"adaptive": 2, "rk4": 50, "heun": 200}


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How the flow is integrated.

    The default, `adaptive`, follows the trajectory without traces and takes these only where the integral needs them, for each batch element to the
    tolerance. The others take a trace at every step, and know an error of all elements' nodes from more of the same.

    Attributes:
        solver: `adaptive`; or `rk4`: four denoiser calls and two traces per step, order 4; or `heun`: two calls and one trace, order 2.
        steps: Number of steps, uniform in the logarithm of the noise, where no grid is given; by default 50 of `rk4` and 200 of `heun`. Of
            `adaptive`, the least number of steps of the trajectory, by default twice the number of intervals between its coarsest nodes.
        tolerance: Error in nats up to which `adaptive` refines. A single value is usually better by a factor of 2 to 10.
        spacing: Largest distance in the logarithm of the noise between the coarsest nodes of `adaptive`.
        check: Where the integration error of `rk4` and `heun` comes from; `adaptive` knows its own. `nodes`: the same nodes integrated in pairs of
            steps, which costs nothing and sees the integral only. `halving`: a second run with half the steps, which sees the trajectory as
            well and costs half as much again.
        batch_size: Batch elements treated at once; all by default. Results do not depend on it.
    """

    steps: int | None = None
    solver: Literal["adaptive", "rk4", "heun"] = "adaptive"
    check: Literal["nodes", "halving"] = "halving"
    batch_size: int | None = None
    tolerance: float = 0.01
    spacing: float = 0.55

    def __post_init__(self) -> None:
        if (self.steps is not None and self.steps < 2) or (self.batch_size is not None and self.batch_size < 1):
            raise ConfigError(
                f"flow: got {self.steps} steps, batch size {self.batch_size}; expected at least 2 steps and 1 element"
            )
        if self.solver not in ("adaptive", "rk4", "heun") or self.check not in ("nodes", "halving"):
            raise ConfigError(
                f"flow: got solver '{self.solver}', check '{self.check}'; expected 'adaptive', 'rk4' or 'heun', and 'nodes' or 'halving'"
            )
        if not (self.tolerance > 0.0 and self.spacing > 0.0):
            raise ConfigError(
                f"flow: got the tolerance {self.tolerance} and the spacing {self.spacing}; expected positive numbers"
            )


@dataclass(frozen=True, eq=False)
class FlowDensity:
    """Log-densities of a batch.

    Attributes:
        log_density: ln p (batch,) at the smallest noise, in float64.
        integration_error: Expected error of the trajectory and of the integral (batch,). Of `adaptive`, the root sum of squares over what was left
            out, and the sum over its steps: 95 to 100 of 100 true errors are below it. Of `rk4` and `heun`, the difference to half the
            number of steps: above the error of the value itself where the integral converges.
        trace_error: Standard error of Hutchinson's estimate over its probes (batch,); 0 where the trace is exact. A noise of the
            variance v in ln p shifts a log Z that is made of it by about v/2.
        latent: State at the largest noise.
        network_calls: Denoiser calls per batch element on average, those inside traces counted once for each direction.
    """

    log_density: Tensor
    integration_error: Tensor
    trace_error: Tensor
    latent: State
    network_calls: int


def log_density(
    denoiser: Denoiser,
    state: State,
    levels: Sequence[Level] | None = None,
    *,
    generator: Generator,
    config: FlowConfig | None = None,
    trace: Trace | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> FlowDensity:
    """Computes the log-density of States under a model.

    Arguments:
        denoiser: Source of scores, for the whole batch or for any.
        state: States at the smallest noise, in the rescaled variable.
        levels: A noise grid, of which `adaptive` uses the two ends; the full range of the process in `config.steps` steps by default.
        generator: Draws Hutchinson's probes, and the direction in which derivatives are verified.
        config: Integration; see `FlowConfig`.
        trace: Divergences; exact up to 100 degrees of freedom by default.
        progress: Called with the share of the work that is done.

    Raises:
        DivergenceError: If a log-density is not finite.
        EquilibraError: If the denoiser cannot be differentiated.
    """
    config, trace = config or FlowConfig(), trace or Trace()
    grid = _grid(denoiser.process, levels, config)
    density, _ = _integrate(denoiser, state, grid, config, trace, generator, progress)
    return density


def sample_with_density(
    denoiser: Denoiser,
    like: State,
    levels: Sequence[Level] | None = None,
    *,
    generator: Generator,
    config: FlowConfig | None = None,
    trace: Trace | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[State, FlowDensity]:
    """Draws one sample per batch element with its log-density, in one pass from the prior down.

    Arguments:
        denoiser: Source of scores.
        like: Gives shapes, masks and fixed fields.
        levels: As for `log_density`.
        generator: The only source of randomness.
        config: As for `log_density`.
        trace: As for `log_density`.
        progress: As for `log_density`.

    Returns:
        Samples at the smallest noise, and what `log_density` says of them up to the integration error.
    """
    config, trace = config or FlowConfig(), trace or Trace()
    grid = _grid(denoiser.process, levels, config)[::-1]
    latent = denoiser.process.prior(like, generator=generator, t=time_at(denoiser.process, grid[0]))
    density, samples = _integrate(denoiser, latent, grid, config, trace, generator, progress)
    return samples, density


def signal_log_density(process: Process, log_density: Tensor, state: State, t: float) -> Tensor:
    r"""Returns the log-density (batch,) of :math:`\alpha_t x` from that of the rescaled variable x.

    .. math:: \ln p(\alpha x) = \ln p(x) - \sum_f D_f \ln \alpha_f

    Nothing changes for variance-exploding fields, and little at the smallest noise of the others.
    """
    time = torch.full((state.batch_size,), t, dtype=torch.float64, device=state.device)
    for name in process.moving:
        field = process.fields[name]
        degrees = field.space.degrees(state.fields[name], state.mask(name)).double()
        log_density = log_density - degrees * torch.log(field.schedule.alpha(time))
    return log_density


def _integrate(
    denoiser: Denoiser,
    state: State,
    grid: Sequence[float],
    config: FlowConfig,
    trace: Trace,
    generator: Generator,
    progress: Callable[[float], None],
) -> tuple[FlowDensity, State]:
    """Follows the flow along a grid in either direction; returns the density at its low end and the State at its end."""
    process, rising = denoiser.process, grid[0] < grid[-1]
    with torch.no_grad():
        probes = draw_probes(denoiser, state, trace, generator=generator)
        mode = _verified_mode(denoiser, state, grid, trace, generator)
        result = _in_parts(denoiser, state, grid, config, trace, probes, mode, progress)
    latent = result.end if rising else state
    prior = process.log_prior(latent, t=time_at(process, max(grid)))
    values = prior - result.integral
    log_p = values.mean(0)
    if not torch.isfinite(log_p).all():
        raise DivergenceError(
            f"log-density: {int((~torch.isfinite(log_p)).sum())} of {state.batch_size} values are not finite; use more steps"
        )
    spread = torch.zeros_like(log_p) if probes is None else values.std(0) / len(values) ** 0.5
    return FlowDensity(log_p, result.error, spread, latent, -(-result.calls // state.batch_size)), result.end


def _in_parts(
    denoiser: Denoiser,
    state: State,
    grid: Sequence[float],
    config: FlowConfig,
    trace: Trace,
    probes: Tangents | None,
    mode: Mode,
    progress: Callable[[float], None],
) -> Pass:
    passes, size = [], config.batch_size or state.batch_size
    for start in range(0, state.batch_size, size):
        rows = slice(start, start + size)
        bound, part = denoiser.rows(rows), state[rows]
        some = None if probes is None else {name: v[:, rows] for name, v in probes.items()}
        share, before = part.batch_size / state.batch_size, start / state.batch_size

        def reported(fraction: float, share: float = share, before: float = before) -> None:
            progress(before + share * fraction)

        if config.solver == "adaptive":
            found = integrate(
                bound,
                part,
                (grid[0], grid[-1]),
                spacing=config.spacing,
                steps=config.steps or 0,
                tolerance=config.tolerance,
                trace=trace,
                probes=some,
                mode=mode,
                progress=reported,
            )
        else:
            found = integrate_on_grid(
                bound,
                part,
                grid,
                solver=config.solver,
                halving=config.check == "halving",
                trace=trace,
                probes=some,
                mode=mode,
                progress=reported,
            )
        passes.append(found)
    return Pass(
        torch.cat([p.integral for p in passes], dim=1),
        torch.cat([p.error for p in passes]),
        State.cat([p.end for p in passes]),
        sum(p.calls for p in passes),
    )


def _grid(process: Process, levels: Sequence[Level] | None, config: FlowConfig) -> list[float]:
    """Returns the levels of the reference noise in rising order."""
    return log_levels(process, levels, config.steps or _STEPS[config.solver])


def _verified_mode(denoiser: Denoiser, state: State, grid: Sequence[float], trace: Trace, generator: Generator) -> Mode:
    """Chooses the differentiation at the noise nearest to the width of the data."""
    process = denoiser.process
    width = float(torch.tensor(process.fields[process.reference].data_scale, dtype=torch.float64).log())
    level = min(max(width, min(grid)), max(grid))
    t = torch.full((state.batch_size,), time_at(process, level), dtype=state.dtype, device=state.device)
    return differentiation(denoiser, state, t, trace.mode, generator=generator)
