r"""Annealing of a model's paths to the target, for path weights that are too uneven: sequential Monte Carlo on the space of paths.

A path :math:`x_{0:K}` that a model draws has the weight w for the target (`density.path_weights`). The distributions

.. math:: \pi_\lambda(x_{0:K}) \propto p_\theta(x_{0:K})\, w(x_{0:K})^\lambda, \qquad 0 \le \lambda \le 1,

lead from the model to the target, whose :math:`x_0` are samples of the Boltzmann distribution. A population of paths follows them: at each level

1. :math:`\ln W \mathrel{+}= (\lambda' - \lambda) \ln w`, with the farthest :math:`\lambda'` that keeps the wanted conditional effective size;
2. systematic resampling where the effective size fell below half;
3. moves that leave :math:`\pi_{\lambda'}` invariant: the lower part of a path is drawn again by the model from the state at a noise level, and accepted with the probability
   :math:`\min(1, (w'/w)^{\lambda'})`. Near the clean end they repair stiff coordinates, from high noise they change the basin.

Weights of paths and draws of kernels are all that is needed: fields may be on any Spaces whose noise has a density, such as R^n, SO(3), tori and products of them.

The mean of W is an estimate of Z: unbiased for levels fixed beforehand, with a bias of the order of one over the size of the population for adaptive ones. It needs energies, no forces.

References: Del Moral, Doucet and Jasra (2006), https://doi.org/10.1111/j.1467-9868.2006.00553.x; Wu et al. (2023), https://arxiv.org/abs/2306.17775
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.density.path_weights import (
    Energy,
    PathKernels,
    draw_kernel,
    draw_prior,
    require_kernels,
)
from equilibra.diffusion.denoiser import Denoiser
from equilibra.energies.resampling import conditional_effective_fraction, resample_groups
from equilibra.errors import DivergenceError, InputError
from equilibra.state.state import State

MOST_LEVELS = 200
"""A population that needs more values of lambda has lost its way."""


@dataclass(frozen=True, eq=False)
class PathPopulation:
    r"""Weighted samples of a target, from one population of paths.

    Attributes:
        state: Clean ends of the paths.
        log_weights: :math:`\ln W` (n,) in float64; the mean of W is the estimate of Z.
        reduced_energy: u (n,) of the clean ends.
        ancestors: Which of the paths that were drawn first each one descends from (n,). Relatives are not independent.
        lambdas: Values of lambda after 0, ascending to 1.
        acceptance: Accepted share of the moves after each of them.
        calls: Denoiser calls per path.
    """

    state: State
    log_weights: Tensor
    reduced_energy: Tensor
    ancestors: Tensor
    lambdas: tuple[float, ...]
    acceptance: tuple[float, ...]
    calls: int

    @property
    def log_z(self) -> float:
        """Estimate of the log of the partition function."""
        return float(torch.logsumexp(self.log_weights, 0)) - math.log(len(self.log_weights))


def anneal_paths(
    denoiser: Denoiser,
    like: State,
    kernels: PathKernels,
    reduced_energy: Energy,
    *,
    generator: Generator,
    moves: int = 2,
    conditional_ess: float = 0.9,
    resample_below: float = 0.5,
    lambdas: Sequence[float] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> PathPopulation:
    """Draws a population of paths from a model and anneals it to a target.

    Arguments:
        denoiser: Source of scores.
        like: Gives the size of the population, shapes, masks and fixed fields.
        kernels: The chain; see `path_kernels` and `fit_variances`.
        reduced_energy: u (batch,) of clean States; infinite energies give the weight zero.
        generator: The only source of randomness.
        moves: Moves of every path after each value of lambda.
        conditional_ess: Share of the effective size that each increment of lambda keeps; closer to 1 means more of them.
        resample_below: Share of the effective size below which the population is resampled.
        lambdas: Values after 0, ascending to 1, fixed beforehand; by default they are found on the way.
        progress: Told how far it is: lambda, from 0 to 1; and -1 to 0 while the first paths are drawn.

    Raises:
        InputError: If an option is out of range.
        SpaceError: If the density of the noise of a moving field is not known.
        DivergenceError: If all weights vanish, an energy is not a number, or lambda = 1 is not reached.
    """
    require_kernels(denoiser.process)
    n = like.batch_size
    if n < 2 or moves < 0 or not 0.0 < conditional_ess < 1.0 or not 0.0 <= resample_below <= 1.0:
        raise InputError(
            f"annealing of paths: got {n} paths, {moves} moves, conditional_ess {conditional_ess} and resample_below {resample_below}; expected at "
            "least 2 paths, moves that are not negative, and shares between 0 and 1"
        )
    if lambdas is not None and (
        not lambdas or lambdas[-1] != 1.0 or any(b <= a for a, b in zip([0.0, *lambdas], lambdas, strict=False))
    ):
        raise InputError(f"lambdas: got {list(lambdas)}, expected values that ascend from above 0 to exactly 1")
    with torch.no_grad():
        paths = _Paths.draw(denoiser, like, kernels, reduced_energy, generator, progress)
        ancestors = torch.arange(n, device=like.device)
        log_w = torch.zeros(1, n, dtype=torch.float64, device=like.device)
        level, highest = 0.0, 1.0
        seen: list[float] = []
        accepted: list[float] = []
        while level < 1.0:
            if len(seen) == MOST_LEVELS:
                raise DivergenceError(
                    f"annealing of paths: lambda is {level:g} after {MOST_LEVELS} values; the model is too far from the target, train it longer"
                )
            weights = paths.log_weights
            if not bool((torch.isfinite(weights) & torch.isfinite(log_w[0])).any()):
                raise DivergenceError(
                    f"annealing of paths: at lambda = {level:g} no path of {n} has a finite energy; use a larger population, or train the model longer"
                )
            new = _next_lambda(log_w, weights, level, conditional_ess) if lambdas is None else lambdas[len(seen)]
            log_w = log_w + (new - level) * weights
            level = new
            log_w, index, resampled = resample_groups(log_w, resample_below, generator=generator)
            if resampled:
                paths, ancestors = paths.rows(index), ancestors[index]
            share = []
            for _ in range(moves):
                length = max(
                    1, math.ceil(highest * kernels.steps * float(torch.rand((), generator=generator, device=like.device)))
                )
                share.append(paths.refresh(length, level, generator))
                # longer parts of a path are drawn again as long as they are accepted
                highest = min(1.0, highest * (1.25 if share[-1] > 0.4 else 0.8 if share[-1] < 0.2 else 1.0))
            seen.append(level)
            accepted.append(sum(share) / len(share) if share else math.nan)
            progress(level)
        return PathPopulation(
            paths.nodes[0], log_w[0], paths.u, ancestors, tuple(seen), tuple(accepted), kernels.steps + paths.refreshed
        )


class _Paths:
    """Whole paths: `nodes[0]` is clean, `nodes[k + 1]` at the noise level k; `terms[k]` the log-ratio (n,) of the kernel between the two."""

    def __init__(
        self,
        denoiser: Denoiser,
        kernels: PathKernels,
        reduced_energy: Energy,
        nodes: list[State],
        terms: list[Tensor],
        log_prior: Tensor,
        u: Tensor,
    ) -> None:
        self.denoiser, self.kernels, self.reduced_energy = denoiser, kernels, reduced_energy
        self.nodes, self.terms, self.log_prior, self.u = nodes, terms, log_prior, u
        self.refreshed = 0

    @classmethod
    def draw(
        cls,
        denoiser: Denoiser,
        like: State,
        kernels: PathKernels,
        reduced_energy: Energy,
        generator: Generator,
        progress: Callable[[float], None],
    ) -> "_Paths":
        top, log_prior = draw_prior(denoiser.process, kernels, like, generator=generator)
        # the nodes below the top are drawn in the next line
        nodes, terms = [top] * (kernels.steps + 1), [log_prior] * kernels.steps
        made = cls(denoiser, kernels, reduced_energy, nodes, terms, log_prior, log_prior)
        made.nodes, made.terms, made.u = made._drawn(kernels.steps, generator, progress)
        return made

    @property
    def log_weights(self) -> Tensor:
        """Log-weights (n,) of the paths for the target."""
        return torch.stack(self.terms).sum(0) - self.log_prior - self.u

    def _drawn(
        self, length: int, generator: Generator, progress: Callable[[float], None] = lambda share: None
    ) -> tuple[list[State], list[Tensor], Tensor]:
        """Draws the lowest `length` kernels of every path again; returns the new nodes and terms of all levels, and the new energies."""
        nodes, terms = list(self.nodes), list(self.terms)
        for k in reversed(range(length)):
            nodes[k], terms[k] = draw_kernel(self.denoiser, self.kernels, nodes[k + 1], k, generator=generator)
            progress(-k / self.kernels.steps)
        u = self.reduced_energy(nodes[0]).double()
        if torch.isnan(u).any():
            raise DivergenceError(
                f"annealing of paths: {int(torch.isnan(u).sum())} of {len(u)} energies are not a number; check the energy and the model"
            )
        return nodes, terms, u

    def rows(self, index: Tensor) -> "_Paths":
        """Returns the chosen paths."""
        chosen = _Paths(
            self.denoiser.rows(index),
            self.kernels,
            self.reduced_energy,
            [node[index] for node in self.nodes],
            [term[index] for term in self.terms],
            self.log_prior[index],
            self.u[index],
        )
        chosen.refreshed = self.refreshed
        return chosen

    def refresh(self, length: int, level: float, generator: Generator) -> float:
        """Moves every path by drawing its lowest kernels again; returns the accepted share."""
        nodes, terms, u = self._drawn(length, generator)
        self.refreshed += length
        gain = torch.stack(terms[:length]).sum(0) - u - torch.stack(self.terms[:length]).sum(0) + self.u
        # from a path of weight zero every move is accepted; to one, none
        gain = torch.where(torch.isposinf(u), -torch.inf, torch.where(torch.isposinf(self.u), torch.inf, gain))
        uniform = torch.rand(len(u), generator=generator, dtype=torch.float64, device=u.device)
        taken = torch.log(uniform) < level * gain
        for k in range(length):
            self.nodes[k] = _mixed(taken, nodes[k], self.nodes[k])
            self.terms[k] = torch.where(taken, terms[k], self.terms[k])
        self.u = torch.where(taken, u, self.u)
        return float(taken.double().mean())


def _mixed(taken: Tensor, new: State, old: State) -> State:
    """Returns the rows of one State where `taken` (n,), else of the other."""
    return old.replace(
        **{
            name: torch.where(taken.reshape(-1, *[1] * (value.ndim - 1)), new.fields[name], value)
            for name, value in old.fields.items()
        }
    )


def _next_lambda(log_w: Tensor, weights: Tensor, level: float, wanted: float) -> float:
    """Finds the farthest level whose increments keep the wanted conditional effective fraction, by bisection."""
    # paths of weight zero drop out at the first increment, however short
    weights = torch.where(torch.isfinite(weights), weights, -torch.inf)

    def kept(new: float) -> float:
        return conditional_effective_fraction(log_w, (new - level) * weights)

    if kept(1.0) >= wanted:
        return 1.0
    least = kept(level + 1e-9)
    target = min(wanted, 0.999 * least)
    low, high = level, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) >= target else (low, middle)
        if high - low < 1e-4 * (high - level):
            break
    return low if low > level else high
