"""One pass along the flow with a trace at every node of a grid, by Simpson's or the trapezoidal rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.density.differentiation import Mode, Tangents
from equilibra.density.trace import Divergence, Trace
from equilibra.density.trajectory import Pass, ProbabilityFlow, Solver, quadrature, rates, time_at
from equilibra.diffusion.denoiser import Denoiser
from equilibra.state.state import State


@dataclass(frozen=True)
class _Run:
    """One pass: the integral (probes, batch) fine and coarse, and the State at its end."""

    fine: Tensor
    coarse: Tensor
    end: State
    calls: int


def integrate_on_grid(
    denoiser: Denoiser,
    state: State,
    grid: Sequence[float],
    *,
    solver: Solver,
    halving: bool,
    trace: Trace,
    probes: Tangents | None,
    mode: Mode,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Pass:
    """Integrates the divergence along the flow with all nodes of a grid.

    Arguments:
        denoiser: Source of displacements.
        state: State at the first level.
        grid: Logarithms of the reference noise, monotone.
        solver: Rule of the trajectory and of the integral.
        halving: The error comes from a second pass with half the steps, in which the trajectory differs too; else from every second node.
        trace: Divergences.
        probes: Hutchinson's probes (probes, batch, ...); None for the exact trace.
        mode: Differentiation that is known to work.
        progress: Called with the share of the work that is done.
    """
    process, rising = denoiser.process, grid[0] < grid[-1]
    runs, grids = [], [list(grid), _halved(grid)] if halving else [list(grid)]
    for number, levels in enumerate(grids, start=1):
        runs.append(_run(denoiser, state, levels, solver, trace, probes, mode))
        progress(sum(map(len, grids[:number])) / sum(map(len, grids)))
    first, last = runs[0], runs[-1]
    error = first.fine - (last.fine if halving else last.coarse)
    if rising:
        t = time_at(process, max(grid))
        error = error - process.log_prior(first.end, t=t) + process.log_prior(last.end, t=t)
    calls = state.batch_size * sum(run.calls for run in runs)
    return Pass(first.fine, error.mean(0).abs(), first.end, calls)


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
