r"""Metropolis-adjusted Hamiltonian moves of walkers that are States on any Spaces.

A walker has fresh momenta :math:`p \sim N(0, m/\beta)` in an orthonormal basis of its tangent space and follows L leapfrog steps

.. math:: p \leftarrow p + \tfrac\varepsilon2 f(x), \qquad x \leftarrow \exp_x(\varepsilon p / m), \qquad p \leftarrow p + \tfrac\varepsilon2 f(x)

with one mass for each field, or for each item of a flat one. On a Lie group with its bi-invariant metric (SO(3), with p in the global frame), on tori and on flat Spaces the drift is a translation of
the group for given p: it keeps the invariant measure, as the kick does, and is undone by -p. So accepting the end with :math:`\min\{1, \exp[-\beta(H' - H)]\}`, :math:`H = u + \sum p^2/2m`, leaves
:math:`\exp(-\beta u)` times the product of the invariant measures as it is, whatever the step.

References:
    | MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from equilibra.diffusion.process import Process
from equilibra.diffusion.space import Fixed
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.walkers import Walkers, evaluate, per_walker, select
from equilibra.errors import InputError
from equilibra.state.packing import Concatenated


@dataclass(frozen=True, eq=False)
class ManifoldMoves:
    r"""Metropolis-adjusted Hamiltonian moves of packed States.

    Attributes:
        process: Tells the Spaces of the fields.
        packing: How States are arrays.
        step: Step size :math:`\varepsilon`, one for all walkers or one each (n,).
        leapfrog: Leapfrog steps of a trajectory, each one energy call.
        masses: Mass of each field, 1 by default.
        jitter: The step of each trajectory is drawn evenly within this fraction around `step`.
        jumps: Probability that before a trajectory one number of the fields in `free` and `choices` is drawn anew, evenly: what crosses barriers of torsions.
        free: Fields on tori that jump, over their period.
        choices: Fixed fields whose numbers are one of 0, 1, ..., with how many there are: they change by jumps alone.
    """

    process: Process
    packing: Concatenated
    step: float | Tensor
    leapfrog: int = 10
    masses: Mapping[str, float] = field(default_factory=dict)
    jitter: float = 0.2
    jumps: float = 0.0
    free: tuple[str, ...] = ()
    choices: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.step) > 0).all()):
            raise InputError(f"step: got {self.step}, expected a positive number")
        if self.leapfrog < 1 or not 0.0 <= self.jitter < 1.0 or not 0.0 <= self.jumps < 1.0:
            raise InputError(
                f"moves: got leapfrog {self.leapfrog}, jitter {self.jitter} and jumps {self.jumps}, expected at least 1 step and fractions in [0, 1)"
            )
        if any(isinstance(self.process.fields[name].space, Fixed) for name in self.packing.moving):
            raise InputError("moves: a fixed field cannot move")
        if not all(value > 0 for value in self.masses.values()):
            raise InputError(f"masses: got {dict(self.masses)}, expected positive numbers")
        if not all(count >= 1 for count in self.choices.values()):
            raise InputError(f"choices: got {dict(self.choices)}, expected at least one each")

    @property
    def aim(self) -> float:
        """The acceptance that step sizes are adapted to."""
        return 0.574 if self.leapfrog == 1 else 0.75

    def with_step(self, step: float | Tensor) -> ManifoldMoves:
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
        """Moves every walker; arguments and results are those of `HamiltonianMoves`. The acceptance is that of trajectories."""
        inverse = per_walker(beta, walkers.x, "beta")
        total = torch.zeros_like(walkers.u)
        for _ in range(moves):
            if self.jumps > 0.0:
                walkers = self._jump(walkers, reduced, inverse, generator)
            proposal, probability = self._propose(walkers, reduced, inverse, generator)
            uniform = torch.rand(len(walkers), generator=generator, dtype=walkers.u.dtype, device=walkers.u.device)
            walkers = select(uniform < probability, proposal, walkers)
            total += probability
        return walkers, total / max(moves, 1)

    def _propose(self, start: Walkers, reduced: ReducedEnergy, beta: Tensor, generator: Generator) -> tuple[Walkers, Tensor]:
        step = per_walker(self.step, start.x, "step")
        if self.jitter > 0.0:
            uniform = torch.rand(len(start), generator=generator, dtype=step.dtype, device=step.device)
            step = step * (1.0 + self.jitter * (2.0 * uniform - 1.0))
        fields = self.packing.split(start.x)
        p = {}
        for name in self.packing.moving:
            noise = self.process.fields[name].space.tangent_noise(fields[name], None, generator=generator)
            p[name] = noise * _wide((self._mass(name) / beta).sqrt(), noise)
        before = start.u + self._kinetic(p)
        now, alive = start, torch.ones_like(beta, dtype=torch.bool)
        p = self._kicked(p, now, 0.5 * step)
        for index in range(self.leapfrog):
            x = self._drifted(now.x, p, step)
            inside = torch.isfinite(x).flatten(1).all(1)
            now = evaluate(torch.where(inside[:, None, None], x, start.x), reduced)
            alive = alive & inside & torch.isfinite(now.u)
            p = self._kicked(p, now, (0.5 if index == self.leapfrog - 1 else 1.0) * step)
        log_ratio = beta * (before - now.u - self._kinetic(p))
        alive = alive & ~torch.isnan(log_ratio)
        return now, torch.where(alive, log_ratio.clamp(max=0.0).exp(), 0.0)

    def _jump(self, walkers: Walkers, reduced: ReducedEnergy, beta: Tensor, generator: Generator) -> Walkers:
        """Draws one number that jumps anew for some walkers; a proposal that is as likely back."""
        n, like = len(walkers), walkers.u
        chosen = torch.rand(n, generator=generator, dtype=like.dtype, device=like.device) < self.jumps
        where = torch.rand(n, generator=generator, dtype=like.dtype, device=like.device)
        value = torch.rand(n, generator=generator, dtype=like.dtype, device=like.device)
        accept = torch.rand(n, generator=generator, dtype=like.dtype, device=like.device)
        fields = self.packing.split(walkers.x)
        # of a single choice there is nothing to draw
        names = (*self.free, *(name for name, count in self.choices.items() if count > 1))
        places = [name for name in names for _ in range(self.packing.sizes[name])]
        if not places or not bool(chosen.any()):
            return walkers
        index = (where * len(places)).long().clamp(max=len(places) - 1)
        flat = torch.cat([fields[name].flatten(1) for name in names], dim=1)

        def of_places(numbers: list[float]) -> Tensor:
            return torch.tensor(numbers, dtype=like.dtype, device=like.device)[index]

        count = of_places([float(self.choices.get(name, 0)) for name in places])
        period = of_places([0.0 if name in self.choices else self.process.fields[name].space.period for name in places])  # type: ignore[attr-defined]
        drawn = torch.where(count > 0, torch.minimum((value * count).floor(), count - 1.0), (value - 0.5) * period)
        moved = flat.scatter(1, index[:, None], drawn[:, None].to(flat.dtype))
        parts = moved.split([self.packing.sizes[name] for name in names], dim=1)
        changed = {name: part.reshape(fields[name].shape) for name, part in zip(names, parts, strict=True)}
        rows = chosen.nonzero()[:, 0]
        tried = evaluate(self.packing.joined({**fields, **changed})[rows], reduced)
        taken = accept[rows] < torch.exp((beta[rows] * (walkers.u[rows] - tried.u)).clamp(max=0.0))
        accepted = rows[taken]
        better = tried[taken]
        return Walkers(
            walkers.x.index_copy(0, accepted, better.x),
            walkers.u.index_copy(0, accepted, better.u),
            walkers.force.index_copy(0, accepted, better.force),
        )

    def _mass(self, name: str) -> float:
        return self.masses.get(name, 1.0)

    def _kinetic(self, p: Mapping[str, Tensor]) -> Tensor:
        parts = [self.process.fields[name].space.inner(value, value) / (2.0 * self._mass(name)) for name, value in p.items()]
        return torch.stack(parts).sum(0)

    def _kicked(self, p: Mapping[str, Tensor], walkers: Walkers, step: Tensor) -> dict[str, Tensor]:
        forces = self.packing.forces(walkers.force)
        return {name: value + _wide(step, value) * forces[name] for name, value in p.items()}

    def _drifted(self, x: Tensor, p: Mapping[str, Tensor], step: Tensor) -> Tensor:
        fields = self.packing.split(x)
        moved = {}
        for name, value in p.items():
            space = self.process.fields[name].space
            moved[name] = space.clean(space.retract(fields[name], _wide(step, value) * value / self._mass(name)), None)
        return self.packing.joined({**fields, **moved})


def _wide(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))
