r"""Metropolis-adjusted Hamiltonian moves of a batch of walkers.

With fresh momenta :math:`p \sim N(0, m/\beta)` a walker follows L leapfrog steps of :math:`H = u(x) + \sum_i p_i^2/2m_i`, and the end point is accepted with

.. math:: \min\{1, \exp[-\beta (H' - H)]\},

which leaves :math:`\exp(-\beta u)` invariant whatever the step size is.

One leapfrog step is MALA, the Metropolis-adjusted Langevin algorithm, with the time step :math:`h = \varepsilon^2/2`: for unit mass and
:math:`\beta = 1` the proposal is :math:`x + h f(x) + \sqrt{2h}\, z`, and the two acceptance probabilities are the same number.

References:
    | MCMC using Hamiltonian dynamics (Neal, 2011)
    | https://arxiv.org/abs/1206.1901
    | Optimal scaling of discrete approximations to Langevin diffusions (Roberts & Rosenthal, 1998)
    | https://doi.org/10.1111/1467-9868.00123
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.momenta import draw_momenta, item_masses, kinetic
from equilibra.energies.step_adaptation import StepAdaptation
from equilibra.energies.walkers import Walkers, evaluate, per_walker, select
from equilibra.errors import InputError


@dataclass(frozen=True, eq=False)
class HamiltonianMoves:
    r"""Metropolis-adjusted Hamiltonian moves; `leapfrog` = 1 is MALA.

    Attributes:
        step: Step size :math:`\varepsilon`, one for all walkers or one each (n,). A step moves item i by about :math:`\varepsilon/\sqrt{m_i \beta}`.
        leapfrog: Leapfrog steps of a trajectory, each one energy call.
        masses: Masses (items,) in any unit; ones by default. Sensible masses are large where the energy is stiff.
        target_acceptance: What `adapt` aims at; None for 0.574 with one leapfrog step and 0.75 with more.
        jitter: The step of each trajectory is drawn evenly within this fraction around `step`, which breaks resonances and keeps the target.
    """

    step: float | Tensor
    leapfrog: int = 1
    masses: Tensor | None = None
    target_acceptance: float | None = None
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.step) > 0).all()):
            raise InputError(f"step: got {self.step}, expected a positive number")
        if self.leapfrog < 1:
            raise InputError(f"leapfrog: got {self.leapfrog}, expected at least 1 step")
        if not 0.0 <= self.jitter < 1.0:
            raise InputError(f"jitter: got {self.jitter}, expected a fraction in [0, 1)")
        if not 0.0 < self.aim < 1.0:
            raise InputError(f"target_acceptance: got {self.target_acceptance}, expected a number between 0 and 1")

    @property
    def aim(self) -> float:
        """The acceptance that `adapt` aims at."""
        if self.target_acceptance is not None:
            return self.target_acceptance
        return 0.574 if self.leapfrog == 1 else 0.75

    def with_step(self, step: float | Tensor) -> HamiltonianMoves:
        """Returns the same moves with another step size."""
        return replace(self, step=step)

    def __call__(
        self,
        walkers: Walkers,
        reduced: ReducedEnergy,
        *,
        generator: Generator,
        beta: float | Tensor | None = None,
        moves: int = 1,
    ) -> tuple[Walkers, Tensor]:
        r"""Moves every walker.

        Arguments:
            walkers: Where they are, evaluated with `reduced`.
            reduced: The reduced energy u; each move costs `leapfrog` calls per walker.
            generator: The only source of randomness.
            beta: The target of walker i is :math:`\exp(-\beta_i u)`: one number for all, one each (n,), or None for 1.
            moves: Number of moves.

        Returns:
            The new walkers, and each walker's mean acceptance probability (n,). A proposal whose energy is not finite is rejected; a walker that
            starts at an infinite energy takes its first finite proposal.
        """
        inverse = per_walker(beta, walkers.x, "beta")
        masses = item_masses(self.masses, walkers.x)
        total = torch.zeros_like(walkers.u)
        for _ in range(moves):
            proposal, probability = self._propose(walkers, reduced, inverse, masses, generator)
            uniform = torch.rand(len(walkers), generator=generator, dtype=walkers.u.dtype, device=walkers.u.device)
            walkers = select(uniform < probability, proposal, walkers)
            total += probability
        return walkers, total / max(moves, 1)

    def _propose(
        self, start: Walkers, reduced: ReducedEnergy, beta: Tensor, masses: Tensor, generator: Generator
    ) -> tuple[Walkers, Tensor]:
        step = per_walker(self.step, start.x, "step")
        if self.jitter > 0.0:
            uniform = torch.rand(len(start), generator=generator, dtype=step.dtype, device=step.device)
            step = step * (1.0 + self.jitter * (2.0 * uniform - 1.0))
        step = step[:, None, None]
        p = draw_momenta(start.x, masses, beta, drift_free=reduced.energy.invariant, generator=generator)
        before = start.u + kinetic(p, masses)
        now, alive = start, torch.ones_like(beta, dtype=torch.bool)
        p = p + 0.5 * step * start.force
        for index in range(self.leapfrog):
            x = now.x + step * p / masses
            inside = torch.isfinite(x).flatten(1).all(1)
            now = evaluate(torch.where(inside[:, None, None], x, start.x), reduced)
            alive = alive & inside & torch.isfinite(now.u)  # a trajectory through an infinite energy is not reversible
            p = p + (0.5 if index == self.leapfrog - 1 else 1.0) * step * now.force
        log_ratio = beta * (before - now.u - kinetic(p, masses))
        alive = alive & ~torch.isnan(log_ratio)
        return now, torch.where(alive, log_ratio.clamp(max=0.0).exp(), 0.0)

    def adapt(
        self,
        walkers: Walkers,
        reduced: ReducedEnergy,
        *,
        generator: Generator,
        beta: float | Tensor | None = None,
        rounds: int = 50,
        groups: int = 1,
    ) -> tuple[HamiltonianMoves, Walkers]:
        """Finds the step size that gives the wanted acceptance, by moving the walkers. These moves are burn-in: do not average over them.

        Arguments:
            walkers: Where to start.
            reduced: The reduced energy.
            generator: The only source of randomness.
            beta: As for a move.
            rounds: Number of moves; 50 suffice for hundreds of walkers from a start that is wrong by 10^4, single walkers need some hundreds.
            groups: The walkers are this many consecutive groups of equal size, each with a step of its own.

        Returns:
            Moves with the adapted step, fixed from here on, and the walkers where they have come to.

        Raises:
            InputError: If the walkers cannot be cut into the groups.
            DivergenceError: If no step size is accepted.
        """
        if groups < 1 or len(walkers) % groups:
            raise InputError(f"adapt: got {len(walkers)} walkers in {groups} groups, expected groups of equal size")
        each = len(walkers) // groups
        start = per_walker(self.step, walkers.x, "step").reshape(groups, each)[:, 0]
        adaptation = StepAdaptation(start, self.aim)
        for _ in range(rounds):
            moves = self.with_step(adaptation.step.repeat_interleave(each).to(walkers.u))
            walkers, acceptance = moves(walkers, reduced, generator=generator, beta=beta)
            adaptation.update(acceptance.reshape(groups, each).mean(1))
        settled = adaptation.settled.to(walkers.u)
        return self.with_step(float(settled[0]) if groups == 1 else settled.repeat_interleave(each)), walkers
