r"""Parallel tempering: a ladder of inverse temperatures :math:`\beta_1 > \dots > \beta_K`, all rungs and walkers in one batch.

A sweep is a few Metropolis-adjusted moves of every walker at its own temperature, then swaps of neighbouring rungs, even and odd pairs in turn, with

.. math:: P = \min\{1, \exp[(\beta_i - \beta_j)(u_i - u_j)]\}.

Both leave :math:`\prod_k \exp(-\beta_k u(x_k))` invariant. Every column of the ladder (one walker per rung) is a chain of its own: columns never mix, so
the spread over columns is an honest error.

References:
    | Replica-exchange molecular dynamics method for protein folding (Sugita & Okamoto, 1999)
    | https://doi.org/10.1016/S0009-2614(99)01123-9
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.ladder_state import LadderState
from equilibra.energies.manifold_moves import ManifoldMoves
from equilibra.energies.step_adaptation import StepAdaptation
from equilibra.energies.walkers import Walkers, evaluate
from equilibra.errors import InputError

Moves = HamiltonianMoves | ManifoldMoves
"""Moves of walkers between swaps: of positions, or of States on any Spaces."""


def geometric_betas(hottest: float, rungs: int) -> tuple[float, ...]:
    r"""Returns the inverse temperatures :math:`\beta_k = T_{max}^{-k/(K-1)}`, from 1 at the temperature of u down to 1/hottest.

    Arguments:
        hottest: Highest temperature in units of that of u, above 1. (For a ladder in K see `replica_exchange.geometric_ladder`.)
        rungs: Number K of rungs, at least 2.

    Raises:
        InputError: If there is no ladder between these.
    """
    if not hottest > 1.0 or rungs < 2:
        raise InputError(
            f"ladder: got {rungs} rungs up to {hottest} times the temperature, expected at least 2 rungs and a factor above 1"
        )
    return tuple(hottest ** (-k / (rungs - 1)) for k in range(rungs))


class ParallelTempering:
    """Parallel tempering of batched walkers.

    Arguments:
        reduced: The reduced energy u.
        betas: Inverse temperatures of the rungs relative to that of u, descending; rung k has the target exp(-betas[k] u).
        walkers_per_rung: Number W of columns.
        moves: Kind of moves, with the step size to start from; `burn_in` gives each rung its own.
        moves_per_sweep: Moves between swaps.

    Raises:
        InputError: If the ladder is empty or does not descend, or a number is not positive.
    """

    def __init__(
        self,
        reduced: ReducedEnergy,
        betas: Sequence[float],
        walkers_per_rung: int,
        moves: Moves,
        *,
        moves_per_sweep: int = 5,
    ) -> None:
        if not betas or min(betas) <= 0.0 or any(b >= a for a, b in itertools.pairwise(betas)):
            raise InputError(f"betas: got {tuple(betas)}, expected positive numbers in descending order")
        if walkers_per_rung < 1 or moves_per_sweep < 1:
            raise InputError(
                f"parallel tempering: got {walkers_per_rung} walkers per rung and {moves_per_sweep} moves per sweep, expected at least 1"
            )
        self.reduced = reduced
        self.betas = tuple(float(beta) for beta in betas)
        self.columns = walkers_per_rung
        self.moves = moves
        self.moves_per_sweep = moves_per_sweep

    @property
    def rungs(self) -> int:
        """Number K of rungs."""
        return len(self.betas)

    def start(self, x: Tensor, *, generator: Generator) -> LadderState:
        """Places walkers on the ladder.

        Arguments:
            x: Conformations (m, items, axes), any number of them: walker i of the K W starts from x[i mod m].
            generator: The source of randomness of the run to come.

        Raises:
            ShapeError: If the conformations do not fit the energy.
            InputError: If an energy or a force is not finite.
        """
        self.reduced.check(x)
        walkers = evaluate(x[torch.arange(self.rungs * self.columns, device=x.device) % len(x)], self.reduced)
        step = torch.as_tensor(self.moves.step, dtype=x.dtype, device=x.device)
        if step.ndim > 0 and step.shape != (self.rungs,):
            raise InputError(
                f"moves: got steps of shape {tuple(step.shape)}, expected one step, or one per rung ({self.rungs},)"
            )
        return LadderState.fresh(walkers, step.expand(self.rungs).clone(), self.columns, generator)

    def burn_in(self, state: LadderState, *, sweeps: int, generator: Generator) -> LadderState:
        """Adapts the step of every rung while the walkers equilibrate, then forgets the statistics.

        Arguments:
            state: Where to start.
            sweeps: Number of sweeps; after each, the steps learn from the acceptance of its moves.
            generator: The only source of randomness.

        Returns:
            A state at sweep 0 with steps that are fixed from here on.

        Raises:
            DivergenceError: If no step size is accepted on some rung.
        """
        adaptation = StepAdaptation(state.steps, self.moves.aim)
        for _ in range(sweeps):
            before = state.accepted_moves
            state = self._sweep(replace(state, steps=adaptation.step.to(state.steps)), generator)
            adaptation.update(state.accepted_moves - before)
        return LadderState.fresh(state.walkers, adaptation.settled.to(state.steps), self.columns, generator)

    def run(self, state: LadderState, *, sweeps: int, every: int = 1, generator: Generator) -> Iterator[LadderState]:
        """Samples all rungs.

        Arguments:
            state: Where to start or go on.
            sweeps: Number of sweeps to do now; those after the last yielded state are lost, so take a multiple of `every`.
            every: A state is yielded whenever its sweep number is a multiple of this, however the run was cut into calls.
            generator: The only source of randomness; `state.generator()` to go on exactly as an uninterrupted run.

        Yields:
            States: their `x`, `u`, `force` are the frames of all rungs, and each is a complete point to go on from.
        """
        if every < 1:
            raise InputError(f"every: got {every}, expected at least 1 sweep")
        for _ in range(sweeps):
            state = self._sweep(state, generator)
            if state.sweep % every == 0:
                yield state

    def _sweep(self, state: LadderState, generator: Generator) -> LadderState:
        beta = torch.tensor(self.betas, dtype=state.walkers.u.dtype, device=state.walkers.u.device)
        moves = self.moves.with_step(state.steps.repeat_interleave(self.columns))
        walkers, acceptance = moves(
            state.walkers,
            self.reduced,
            generator=generator,
            beta=beta.repeat_interleave(self.columns),
            moves=self.moves_per_sweep,
        )
        moved = replace(
            state,
            walkers=walkers,
            sweep=state.sweep + 1,
            accepted_moves=state.accepted_moves + acceptance.double().reshape(self.rungs, self.columns).mean(1),
        )
        swapped = self._swap(moved, beta, generator) if self.rungs > 1 else moved
        return replace(swapped, random=generator.get_state())

    def _swap(self, state: LadderState, beta: Tensor, generator: Generator) -> LadderState:
        """Swaps neighbours (low, low + 1), in each column on its own; `order` says from which rung a walker comes."""
        u = state.u
        low = torch.arange(state.sweep % 2, self.rungs - 1, 2, device=u.device)
        log_ratio = (beta[low] - beta[low + 1])[:, None] * (u[low] - u[low + 1])
        probability = torch.nan_to_num(log_ratio, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).clamp(max=0.0).exp()
        uniform = torch.rand(probability.shape, generator=generator, dtype=u.dtype, device=u.device)
        accepted = uniform < probability
        order = torch.arange(self.rungs, device=u.device)[:, None].repeat(1, self.columns)
        order[low], order[low + 1] = (
            torch.where(accepted, low[:, None] + 1, low[:, None]),
            torch.where(accepted, low[:, None], low[:, None] + 1),
        )
        index = (order * self.columns + torch.arange(self.columns, device=u.device)).flatten()
        replicas, heading = (
            state.replicas.flatten()[index].reshape(order.shape),
            state.heading.flatten()[index].reshape(order.shape),
        )
        heading, finished = _turn(heading)
        attempts, swaps = state.attempts.clone(), state.accepted_swaps.clone()
        attempts[low] += self.columns
        swaps[low] += probability.double().sum(1)
        return replace(
            state,
            walkers=Walkers(*(part[index] for part in (state.walkers.x, state.walkers.u, state.walkers.force))),
            replicas=replicas,
            heading=heading,
            attempts=attempts,
            accepted_swaps=swaps,
            round_trips=state.round_trips + finished,
        )


def _turn(heading: Tensor) -> tuple[Tensor, int]:
    """Marks replicas at the ends: 1 on the way up from the lowest rung, 2 on the way down from the top, 0 neither yet; and counts who came home."""
    heading = heading.clone()
    finished = int((heading[0] == 2).sum())
    heading[0] = 1
    heading[-1] = torch.where(heading[-1] == 1, 2, heading[-1])
    return heading, finished
