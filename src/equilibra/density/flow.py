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

from equilibra.density.trace import Divergence, Mode, Tangents, Trace, differentiation, draw_probes
from equilibra.density.trajectory import ProbabilityFlow, Solver, log_levels, quadrature, rates, time_at
from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError, DivergenceError
from equilibra.sampling.grid import Level
from equilibra.state.state import State


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """How the flow is integrated.

    Attributes:
        steps: Number of steps, uniform in the logarithm of the noise, where no grid is given.
        solver: `rk4`: four denoiser calls and two traces per step, order 4. `heun`: two calls and one trace, order 2.
        check: Where the integration error comes from. `nodes`: the same nodes integrated in pairs of steps, which costs nothing and sees the
            integral only. `halving`: a second run with half the steps, which sees the trajectory as well and costs half as much again.
        batch_size: Batch elements treated at once; all by default. Results do not depend on it.
    """

    steps: int = 50
    solver: Solver = "rk4"
    check: Literal["nodes", "halving"] = "halving"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 2 or (self.batch_size is not None and self.batch_size < 1):
            raise ConfigError(
                f"flow: got {self.steps} steps, batch size {self.batch_size}; expected at least 2 steps and 1 element"
            )
        if self.solver not in ("rk4", "heun") or self.check not in ("nodes", "halving"):
            raise ConfigError(
                f"flow: got solver '{self.solver}', check '{self.check}'; expected 'rk4' or 'heun', 'nodes' or 'halving'"
            )


@dataclass(frozen=True, eq=False)
class FlowDensity:
    """Log-densities of a batch.

    Attributes:
        log_density: ln p (batch,) at the smallest noise, in float64.
        integration_error: Difference to half the number of steps (batch,): above the error of the value itself where the integral converges.
        trace_error: Standard error of Hutchinson's estimate over its probes (batch,); 0 where the trace is exact. A noise of the
            variance v in ln p shifts a log Z that is made of it by about v/2.
        latent: State at the largest noise.
        network_calls: Denoiser calls per batch element, those inside traces counted once for each direction.
    """

    log_density: Tensor
    integration_error: Tensor
    trace_error: Tensor
    latent: State
    network_calls: int


@dataclass(frozen=True)
class _Run:
    """One pass of one part of a batch: the integral (probes, batch) fine and coarse, and the State at its end."""

    fine: Tensor
    coarse: Tensor
    end: State
    calls: int


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
        levels: A noise grid; the full range of the process in `config.steps` steps by default.
        generator: Draws Hutchinson's probes, and the direction in which derivatives are verified.
        config: Integration; see `FlowConfig`.
        trace: Divergences; exact up to 100 degrees of freedom by default.
        progress: Called with the share of the work that is done.

    Raises:
        DivergenceError: If a log-density is not finite.
        EquilibraError: If the denoiser cannot be differentiated.
    """
    config, trace = config or FlowConfig(), trace or Trace()
    grid = log_levels(denoiser.process, levels, config.steps)
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
    grid = log_levels(denoiser.process, levels, config.steps)[::-1]
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
    batch = state.batch_size
    grids = [grid, _halved(grid)] if config.check == "halving" else [grid]
    size = config.batch_size or batch
    total = -(-batch // size) * sum(len(g) for g in grids)
    with torch.no_grad():
        probes = draw_probes(denoiser, state, trace, generator=generator)
        mode = _verified_mode(denoiser, state, grid, trace, generator)
        runs: list[list[_Run]] = [[] for _ in grids]
        done = 0
        for start in range(0, batch, size):
            rows = slice(start, start + size)
            part, some = state[rows], None if probes is None else {name: v[:, rows] for name, v in probes.items()}
            for number, levels in enumerate(grids):
                runs[number].append(_run(denoiser.rows(rows), part, levels, config.solver, trace, some, mode))
                done += len(levels)
                progress(done / total)
    end = State.cat([run.end for run in runs[0]])
    latent = end if rising else state
    prior = process.log_prior(latent, t=time_at(process, max(grid)))
    values = prior - torch.cat([run.fine for run in runs[0]], dim=1)
    if config.check == "halving":
        latents = State.cat([run.end for run in runs[1]]) if rising else state
        coarse = process.log_prior(latents, t=time_at(process, max(grid))) - torch.cat([run.fine for run in runs[1]], dim=1)
    else:
        coarse = prior - torch.cat([run.coarse for run in runs[0]], dim=1)
    log_p = values.mean(0)
    if not torch.isfinite(log_p).all():
        raise DivergenceError(
            f"log-density: {int((~torch.isfinite(log_p)).sum())} of {batch} values are not finite; use more steps"
        )
    spread = torch.zeros_like(log_p) if probes is None else values.std(0) / len(values) ** 0.5
    calls = sum(group[0].calls for group in runs)
    return FlowDensity(log_p, (log_p - coarse.mean(0)).abs(), spread, latent, calls), end


def _run(
    denoiser: Denoiser, state: State, grid: Sequence[float], solver: Solver, trace: Trace, probes: Tangents | None, mode: Mode
) -> _Run:
    flow = ProbabilityFlow(denoiser, solver)
    divergence = Divergence(denoiser, state, trace, probes, mode)
    values, positions = [], []
    for node in flow.nodes(state, grid):
        t = torch.full((state.batch_size,), time_at(denoiser.process, node.level), dtype=state.dtype, device=state.device)
        found = divergence(node.state, t)
        values.append(torch.stack([c * found[name] for name, c in rates(denoiser.process, node.level).items()]).sum(0))
        positions.append(node.level)
        last = node.state
    fine, coarse = quadrature(torch.stack(values), positions, solver)
    calls = (len(grid) - 1) * (4 if solver == "rk4" else 2) + 1 + divergence.directions(state) * len(positions)
    return _Run(fine, coarse, last, calls)


def _halved(grid: Sequence[float]) -> list[float]:
    """Returns every second level of a grid, both ends included."""
    return [*grid[:-1:2], grid[-1]]


def _verified_mode(denoiser: Denoiser, state: State, grid: Sequence[float], trace: Trace, generator: Generator) -> Mode:
    """Chooses the differentiation at the noise nearest to the width of the data."""
    process = denoiser.process
    width = float(torch.tensor(process.fields[process.reference].data_scale, dtype=torch.float64).log())
    level = min(max(width, min(grid)), max(grid))
    t = torch.full((state.batch_size,), time_at(process, level), dtype=state.dtype, device=state.device)
    return differentiation(denoiser, state, t, trace.mode, generator=generator)
