r"""Annealed importance sampling with resampling: weighted samples of a target, and its log Z, from its energy alone.

A population follows the levels :math:`0 = \lambda_0 < \dots < \lambda_K = 1` of a path. At each level

.. math:: \log w \mathrel{+}= u_{\lambda_{k-1}}(x) - u_{\lambda_k}(x),

then, where the effective sample size fell below half, systematic resampling, then moves that leave :math:`\exp(-u_{\lambda_k})` invariant. The next
level is the farthest one whose increments v keep the conditional effective sample size
:math:`(\sum_i W_i v_i)^2 / \sum_i W_i v_i^2` at the wanted fraction.

References:
    | Annealed importance sampling (Neal, 2001)
    | https://arxiv.org/abs/physics/9803008
    | Sequential Monte Carlo samplers (Del Moral, Doucet & Jasra, 2006)
    | https://doi.org/10.1111/j.1467-9868.2006.00553.x
    | Toward automatic model comparison: an adaptive sequential Monte Carlo approach (Zhou, Johansen & Aston, 2016)
    | https://arxiv.org/abs/1303.3123
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.energies.annealing_path import AnnealingPath, GaussianReference, GeometricPath, Profile, require_same_space
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.resampling import conditional_effective_fraction, effective_size, resample_groups
from equilibra.energies.step_adaptation import StepAdaptation
from equilibra.energies.walkers import evaluate
from equilibra.errors import DivergenceError, InputError

Progress = Callable[[float, float], None]
"""Told lambda and the effective fraction after each level."""


@dataclass(frozen=True)
class AnnealingSchedule:
    """What an adaptive run settled on.

    Attributes:
        lambdas: Levels after 0, ascending to 1.
        steps: Step size of the moves at each level.
    """

    lambdas: tuple[float, ...]
    steps: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class AnnealedPopulation:
    r"""Weighted samples of a target, in `groups` consecutive groups of equal size that never exchanged walkers.

    Attributes:
        x: Positions (n, items, axes).
        u: Reduced energies of the target (n,).
        force: Forces of the target (n, items, axes).
        log_weights: Log-weights (n,), normalised so that the mean of exp(log_weights) is Z.
        log_z: Log of the partition function, :math:`\log \frac1G \sum_g Z_g`.
        log_z_error: Standard error from the spread of the groups; a t-value with groups - 1 degrees of freedom turns it into an interval.
        log_z_groups: Estimate of each group (groups,).
        calls: Energy calls spent.
        schedule: Levels and steps; given to another run it makes that run's Z unbiased.
        acceptance: Mean acceptance of the moves at each level.
        resamplings: How often a group was resampled.
        ess: Kish's effective sample size of the final weights. Walkers that share an ancestor count as independent here: log_z_error does not do that.
    """

    x: Tensor
    u: Tensor
    force: Tensor
    log_weights: Tensor
    log_z: float
    log_z_error: float
    log_z_groups: Tensor
    calls: int
    schedule: AnnealingSchedule
    acceptance: tuple[float, ...]
    resamplings: int
    ess: float

    @property
    def lambdas(self) -> tuple[float, ...]:
        """Levels after 0, ascending to 1."""
        return self.schedule.lambdas


def anneal(
    reference: GaussianReference,
    target: ReducedEnergy,
    n: int,
    *,
    moves: HamiltonianMoves,
    generator: Generator,
    moves_per_level: int = 3,
    path: AnnealingPath | None = None,
    groups: int = 8,
    conditional_ess: float = 0.9,
    resample_below: float = 0.5,
    schedule: AnnealingSchedule | None = None,
    max_levels: int = 10_000,
    dtype: torch.dtype = torch.float64,
    progress: Progress = lambda level, effective: None,
) -> AnnealedPopulation:
    """Anneals samples of a Gaussian to a target.

    Arguments:
        reference: Where to start; about as wide as the target.
        target: The reduced energy.
        n: Number of walkers, a multiple of `groups`.
        moves: Kind of moves, with the step to start from. Without a schedule the step follows the target acceptance of the moves from level to level.
        generator: The only source of randomness.
        moves_per_level: Moves of every walker at each level.
        path: From the reference to the target; the geometric path by default.
        groups: Independent populations, at least 2, whose spread is the error of log Z. They share levels and steps.
        conditional_ess: Fraction that each increment keeps; closer to 1 means more levels.
        resample_below: A group is resampled when its effective fraction is lower.
        schedule: Levels and steps fixed beforehand. The estimate of Z is then exactly unbiased; adaptive levels make a bias of order 1/n.
        max_levels: Give up after so many levels.
        dtype: Precision of the walkers.
        progress: Told lambda and the effective fraction after each level.

    Returns:
        The population.

    Raises:
        InputError: If an option is out of range, or the path does not join the reference to the target.
        DivergenceError: If all weights of a group vanish, or lambda = 1 is not reached.
    """
    _check(n, groups, moves_per_level, conditional_ess, resample_below, schedule)
    require_same_space(reference, target)
    path = GeometricPath(reference, target) if path is None else path
    counters = {id(counter): counter for counter in (path.counter, target.counter)}.values()
    calls = sum(counter.count for counter in counters)
    gaussian = ReducedEnergy(reference)
    walkers = evaluate(reference.sample(n, generator=generator, dtype=dtype), gaussian)
    if schedule is None:  # the reference costs no calls of the target
        moves, walkers = moves.adapt(walkers, gaussian, generator=generator)
    adaptation = StepAdaptation(torch.as_tensor(moves.step, dtype=torch.float64).flatten()[:1], moves.aim, least_gain=0.5)
    log_w = walkers.u.new_full((groups, n // groups), reference.log_z)
    lambdas: list[float] = []
    steps: list[float] = []
    acceptance: list[float] = []
    level, resamplings = 0.0, 0
    while level < 1.0:
        if len(lambdas) == max_levels:
            raise DivergenceError(
                f"annealing: lambda is {level:g} after {max_levels} levels; use a wider reference, or a soft-core path"
            )
        profile = path.profile(walkers, level)
        if level == 0.0:
            _require_end(profile(0.0), walkers.u, "at lambda = 0", "the reference")
        last = level - lambdas[-2] if len(lambdas) > 1 else level
        new = (
            _next_level(profile, walkers.u, log_w, level, last, conditional_ess)
            if schedule is None
            else schedule.lambdas[len(lambdas)]
        )
        log_w = log_w + _increments(walkers.u, profile(new)).reshape(log_w.shape)
        if not bool(torch.isfinite(log_w).any(1).all()):
            raise DivergenceError(
                f"annealing: all weights of a group vanished at lambda = {new:g}; use more walkers per group or a soft-core path"
            )
        walkers, level = path.advance(walkers, level, new), new
        log_w, index, resampled = resample_groups(log_w, resample_below, generator=generator)
        if resampled:
            walkers, resamplings = walkers[index], resamplings + resampled
        step = float(adaptation.step) if schedule is None else schedule.steps[len(lambdas)]
        walkers, accepted = moves.with_step(step)(walkers, path.at(level), generator=generator, moves=moves_per_level)
        lambdas.append(level)
        steps.append(step)
        acceptance.append(float(accepted.mean()))
        if schedule is None and moves_per_level > 0:
            adaptation.update(accepted.mean().reshape(1).cpu())
        progress(level, effective_size(log_w.flatten()) / n)
    final = evaluate(walkers.x, target)
    _require_end(walkers.u, final.u, "at lambda = 1", f"the energy '{target.energy.name}'")
    log_z, error, log_z_groups = _combine(log_w)
    return AnnealedPopulation(
        x=final.x,
        u=final.u,
        force=final.force,
        log_weights=log_w.flatten(),
        log_z=log_z,
        log_z_error=error,
        log_z_groups=log_z_groups,
        calls=sum(counter.count for counter in counters) - calls,
        schedule=AnnealingSchedule(tuple(lambdas), tuple(steps)),
        acceptance=tuple(acceptance),
        resamplings=resamplings,
        ess=effective_size(log_w.flatten()),
    )


def _increments(before: Tensor, after: Tensor) -> Tensor:
    increments = before - after
    return torch.where(torch.isfinite(after) & torch.isfinite(increments), increments, -torch.inf)


def _next_level(profile: Profile, u: Tensor, log_w: Tensor, level: float, last: float, wanted: float) -> float:
    """Finds the farthest level that keeps the wanted conditional effective fraction, by doubling and bisection from the last increment."""

    def fraction(new: float) -> float:
        return conditional_effective_fraction(log_w, _increments(u, profile(new)))

    enough, low, width = wanted + 0.2 * (1.0 - wanted), level, last or 1e-3
    high = min(1.0, level + width)
    while (value := fraction(high)) >= wanted:
        if value <= enough or high == 1.0:
            return high
        low, width = high, 2.0 * width
        high = min(1.0, high + width)
    for _ in range(60):
        middle = 0.5 * (low + high)
        value = fraction(middle)
        if value >= wanted:
            low = middle
            if value <= enough:
                break
        else:
            high = middle
        if high - level < 1e-12:  # conformations of infinite energy: their weight vanishes however short the increment is
            return high
    return low if low > level else high


def _combine(log_w: Tensor) -> tuple[float, float, Tensor]:
    """Mean of the groups' Z and its standard error, as log Z, error of log Z, and the groups' log Z."""
    groups, m = log_w.shape
    log_z_groups = torch.logsumexp(log_w, 1) - math.log(m)
    log_z = float(torch.logsumexp(log_z_groups, 0) - math.log(groups))
    relative = (log_z_groups - log_z).exp()
    return log_z, float(relative.std() / math.sqrt(groups)), log_z_groups


def _require_end(got: Tensor, expected: Tensor, where: str, name: str) -> None:
    """Refuses a path that does not end where it should."""
    both = torch.isfinite(got) & torch.isfinite(expected)
    tolerance = 10.0 * math.sqrt(torch.finfo(got.dtype).eps)
    if bool(((got - expected).abs()[both] > tolerance * (1.0 + expected.abs()[both])).any()):
        worst = float((got - expected).abs()[both].max())
        raise InputError(
            f"annealing path {where}: its energies differ from those of {name} by up to {worst:g} kT, expected the same energies"
        )


def _check(n: int, groups: int, moves: int, ess: float, below: float, schedule: AnnealingSchedule | None) -> None:
    if groups < 2 or n < 2 * groups or n % groups:
        raise InputError(
            f"annealing: got {n} walkers in {groups} groups, expected at least 2 groups of equal size, with 2 walkers or more each"
        )
    if moves < 0:
        raise InputError(f"moves_per_level: got {moves}, expected a number that is not negative")
    if not 0.0 < ess < 1.0 or not 0.0 <= below <= 1.0:
        raise InputError(f"annealing: got conditional_ess {ess} and resample_below {below}, expected fractions")
    if schedule is not None:
        path = (0.0, *schedule.lambdas)
        if len(schedule.steps) != len(schedule.lambdas) or path[-1] != 1.0 or any(b <= a for a, b in itertools.pairwise(path)):
            raise InputError("schedule: expected levels that ascend from above 0 to exactly 1, and a step for each")
