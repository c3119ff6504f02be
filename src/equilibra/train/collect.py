r"""Collecting conformations for a training round: parallel tempering, into which the model proposes its own samples.

A sample of the model comes with the weight w of the path that made it (`density.path_weights`). It replaces a walker x of its rung with the probability

.. math:: \min\{1, w(x') / w(x)\},

where w(x) is the weight of a reverse path drawn from x. Drawing that path anew and this test both leave :math:`e^{-u(x)}` times the law of its noise paths
invariant, so that a given model, however bad it is, leaves the Boltzmann distribution as it is: a bad one is only never accepted. The model and the widths of
its kernels come from frames of earlier sweeps, never from the walkers that they are asked about.

Where only some conformations belong to the system (those of the right stereoisomer, say), proposals that do not are refused, and walkers that do not are
left alone, which is in balance too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels, reverse_weights
from equilibra.diffusion.denoiser import Denoiser
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.ladder_state import LadderState
from equilibra.energies.parallel_tempering import ParallelTempering
from equilibra.energies.resampling import effective_size
from equilibra.energies.walkers import Walkers, evaluate, select
from equilibra.sampling.grid import Level
from equilibra.state.packing import Packing, SingleField
from equilibra.state.state import State


@dataclass(frozen=True, eq=False)
class Frames:
    """What a round collected.

    Attributes:
        x: Positions (K, F, items, axes), walker after walker of each kept sweep.
        u: Energies (K, F), reduced at the temperature of the first rung.
        force: Forces in the shape of the positions, reduced likewise.
    """

    x: Tensor
    u: Tensor
    force: Tensor


@dataclass(frozen=True, eq=False)
class PathCheck:
    r"""The model judged by path weights, at the temperature of one rung.

    Attributes:
        log_w_model: Log-weights (M,) of samples of the model; -inf for those that do not belong to the system, or have an infinite energy.
        log_w_walkers: Log-weights (M,) of reverse paths from walkers; +inf for walkers that do not belong to the system, which stay where they are.
        proposals: The model's M samples, evaluated.
    """

    log_w_model: Tensor
    log_w_walkers: Tensor
    proposals: Walkers

    @property
    def ess(self) -> float:
        """Kish's effective share of the model's samples; zero if none has a weight."""
        if not torch.isfinite(self.log_w_model.max()):
            return 0.0
        return effective_size(self.log_w_model) / len(self.log_w_model)

    @property
    def elbo(self) -> float:
        """Lower bound of log Z: mean log-weight of the samples that have one, plus the logarithm of their share; -inf if none has."""
        good = self.log_w_model[torch.isfinite(self.log_w_model)]
        return float(good.mean()) + math.log(len(good) / len(self.log_w_model)) if len(good) else -math.inf

    @property
    def eubo(self) -> float:
        """Mean log-weight of the walkers' reverse paths: at least log Z, where the walkers are at equilibrium."""
        good = self.log_w_walkers[torch.isfinite(self.log_w_walkers)]
        return float(good.mean()) if len(good) else math.inf


def run_sweeps(
    engine: ParallelTempering, state: LadderState, *, sweeps: int, every: int, generator: Generator
) -> tuple[Frames, LadderState]:
    """Runs parallel tempering and keeps all rungs of every `every`-th sweep; at least one sweep has to be kept."""
    kept = []
    last = state
    for last in engine.run(state, sweeps=sweeps, every=every, generator=generator):
        kept.append((last.x, last.u, last.force))
    x, u, force = (torch.cat([frame[part] for frame in kept], dim=1) for part in range(3))
    return Frames(x, u, force), last


class Proposer:
    """Lets a model propose samples to the walkers of a rung, and judges it on the way.

    Arguments:
        denoiser: Denoiser of the system at the temperature of the rung.
        levels: Noise levels of the paths, descending.
        reduced: Reduced energy at the temperature of the lowest rung.
        rung: Which rung.
        beta: Its inverse temperature relative to the lowest; the target is exp(-beta u).
        field: Name of the position field.
        accept: Tells which conformations (n, items, axes) belong to the system; all by default.
        packing: What the arrays of walkers are as States; by default positions, the field of that name.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        levels: list[Level],
        reduced: ReducedEnergy,
        *,
        rung: int = 0,
        beta: float = 1.0,
        field: str = "pos",
        accept: Callable[[Tensor], Tensor] | None = None,
        packing: Packing | None = None,
    ) -> None:
        self.denoiser, self.levels, self.reduced, self.rung, self.beta = denoiser, levels, reduced, rung, beta
        self.accept = accept
        self.packing = SingleField(field) if packing is None else packing

    def _foreign(self, x: Tensor) -> Tensor:
        """Returns which conformations (n,) do not belong to the system."""
        return torch.zeros(len(x), dtype=torch.bool, device=x.device) if self.accept is None else ~self.accept(x)

    def judge(self, walkers: Walkers, frames: Tensor, *, samples: int, generator: Generator) -> PathCheck:
        """Draws weighted samples of the model, and reverse paths from walkers. Each sample costs one energy call, the walkers none.

        Arguments:
            walkers: Walkers of the rung, at equilibrium.
            frames: Conformations (n, items, axes) to fit the widths of the kernels to: earlier ones than the walkers, or the weights are biased.
            samples: Number of samples and of reverse paths; walkers are used again where there are fewer.
            generator: The only source of randomness.

        Raises:
            DivergenceError: If a weight is not a number.
        """
        chosen = walkers[torch.arange(samples, device=walkers.x.device) % len(walkers)]
        drawn: list[Walkers] = []

        def energy_of_drawn(state: State) -> Tensor:
            found = evaluate(self.packing.array(state).to(walkers.x.dtype), self.reduced)
            drawn.append(replace(found, u=torch.where(self._foreign(found.x), torch.inf, found.u)))
            return self.beta * drawn[-1].u

        kernels = path_kernels(self.denoiser.process, self.levels)
        kernels = fit_variances(self.denoiser, self.packing.state(frames.float()), kernels, generator=generator)
        state = self.packing.state(chosen.x.float())
        back = reverse_weights(self.denoiser, state, kernels, lambda state: self.beta * chosen.u, generator=generator)
        made = draw_weighted(self.denoiser, state, kernels, energy_of_drawn, generator=generator)
        log_w_walkers = torch.where(self._foreign(chosen.x), torch.inf, back.log_weights)
        return PathCheck(made.log_weights, log_w_walkers, drawn[-1])

    def propose(self, state: LadderState, check: PathCheck, *, generator: Generator) -> tuple[LadderState, float]:
        """Replaces walkers of the rung by samples of the model where their weights say so.

        Arguments:
            state: The ladder.
            check: What `judge` made of this model and the walkers of this state; of its samples, as many as there are columns are used.
            generator: The only source of randomness.

        Returns:
            The ladder, and the accepted share.
        """
        columns = min(state.u.shape[1], len(check.proposals))
        ratio = check.log_w_model[:columns] - check.log_w_walkers[:columns]
        uniform = torch.rand(columns, generator=generator, dtype=ratio.dtype, device=ratio.device)
        accepted = torch.log(uniform) < ratio
        first = self.rung * state.u.shape[1]
        own = slice(first, first + columns)
        chosen = select(accepted, check.proposals[:columns], state.walkers[own])
        parts = []
        for name in ("x", "u", "force"):
            parts.append(getattr(state.walkers, name).clone())
            parts[-1][own] = getattr(chosen, name)
        return replace(state, walkers=Walkers(*parts)), float(accepted.double().mean())
