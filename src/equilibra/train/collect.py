r"""Collecting conformations for a training round: parallel tempering, into which the model proposes its own samples.

A sample of the model comes with the weight w of the path that made it (`density.path_weights`). It replaces a walker x of the lowest rung with the probability

.. math:: \min\{1, w(x') / w(x)\},

where w(x) is the weight of a reverse path drawn from x. Drawing that path anew and this test both leave :math:`e^{-u(x)}` times the law of its noise paths
invariant, so that the frames are samples of the Boltzmann distribution however bad the model is: a bad one is only never accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels, reverse_weights
from equilibra.diffusion.denoiser import Denoiser
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.ladder_state import LadderState
from equilibra.energies.parallel_tempering import ParallelTempering
from equilibra.energies.walkers import Walkers, evaluate
from equilibra.sampling.grid import Level
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
    r"""The model judged by path weights, at the temperature of the lowest rung.

    Attributes:
        log_w_model: Log-weights (M,) of samples of the model.
        log_w_walkers: Log-weights (M,) of reverse paths from walkers.
        x: The model's samples (M, items, axes).
        u: Their reduced energies (M,).
    """

    log_w_model: Tensor
    log_w_walkers: Tensor
    x: Tensor
    u: Tensor

    @property
    def ess(self) -> float:
        """Kish's effective share of the model's samples."""
        log_w = self.log_w_model - self.log_w_model.max()
        return float(torch.exp(2.0 * torch.logsumexp(log_w, 0) - torch.logsumexp(2.0 * log_w, 0))) / len(log_w)

    @property
    def elbo(self) -> float:
        """Mean log-weight of the model's samples: at most log Z."""
        return float(self.log_w_model.mean())

    @property
    def eubo(self) -> float:
        """Mean log-weight of the walkers' reverse paths: at least log Z, where the walkers are at equilibrium."""
        return float(self.log_w_walkers.mean())


def run_sweeps(
    engine: ParallelTempering, state: LadderState, *, sweeps: int, every: int, generator: Generator
) -> tuple[Frames, LadderState]:
    """Runs parallel tempering and keeps all rungs of every `every`-th sweep."""
    kept = []
    last = state
    for last in engine.run(state, sweeps=sweeps, every=every, generator=generator):
        kept.append((last.x, last.u, last.force))
    x, u, force = (torch.cat([frame[part] for frame in kept], dim=1) for part in range(3))
    return Frames(x, u, force), last


class Proposer:
    """Lets a model propose samples to the walkers of the lowest rung, and judges it on the way.

    Arguments:
        denoiser: Denoiser of the system at the temperature of the lowest rung.
        levels: Noise levels of the paths, descending.
        reduced: Reduced energy of that temperature.
        field: Name of the position field.
    """

    def __init__(self, denoiser: Denoiser, levels: list[Level], reduced: ReducedEnergy, *, field: str = "pos") -> None:
        self.denoiser, self.levels, self.reduced, self.field = denoiser, levels, reduced, field

    def _u(self, state: State) -> Tensor:
        return evaluate(state.fields[self.field], self.reduced).u

    def judge(self, x: Tensor, *, samples: int, generator: Generator) -> PathCheck:
        """Draws weighted samples of the model, and reverse paths from walkers.

        Arguments:
            x: Walkers (W, items, axes).
            samples: Number of samples and of reverse paths; walkers are used again where there are fewer.
            generator: The only source of randomness.
        """
        walkers = State({self.field: x[torch.arange(samples, device=x.device) % len(x)].float()})
        kernels = path_kernels(self.denoiser.process, self.levels)
        kernels = fit_variances(self.denoiser, walkers, kernels, generator=generator)
        back = reverse_weights(self.denoiser, walkers, kernels, self._u, generator=generator)
        drawn = draw_weighted(self.denoiser, walkers, kernels, self._u, generator=generator)
        return PathCheck(drawn.log_weights, back.log_weights, drawn.state.fields[self.field], drawn.reduced_energy)

    def propose(self, state: LadderState, check: PathCheck, *, generator: Generator) -> tuple[LadderState, float]:
        """Replaces walkers of the lowest rung by samples of the model where their weights say so.

        Arguments:
            state: The ladder.
            check: What `judge` made of this model and the walkers of this state; of its samples, as many as there are columns are used.
            generator: The only source of randomness.

        Returns:
            The ladder, and the accepted share.
        """
        columns = min(state.u.shape[1], len(check.u))
        ratio = check.log_w_model[:columns] - check.log_w_walkers[:columns]
        uniform = torch.rand(columns, generator=generator, dtype=ratio.dtype, device=ratio.device)
        accepted = torch.log(uniform) < ratio
        new = evaluate(check.x[:columns].to(state.walkers.x.dtype), self.reduced)
        parts = []
        for name in ("x", "u", "force"):
            old = getattr(state.walkers, name).clone()
            wide = accepted.reshape(-1, *(1,) * (old.ndim - 1))
            old[:columns] = torch.where(wide, getattr(new, name), old[:columns])
            parts.append(old)
        return replace(state, walkers=Walkers(*parts)), float(accepted.double().mean())
