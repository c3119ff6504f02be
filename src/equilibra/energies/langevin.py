r"""Langevin dynamics of a batch of walkers with the BAOAB splitting, for trajectories in time.

.. math::
    B:\; p \leftarrow p + \tfrac{h}{2} f(x) \qquad A:\; x \leftarrow x + \tfrac{h}{2} p/m \qquad
    O:\; p \leftarrow e^{-\gamma h} p + \sqrt{(1 - e^{-2\gamma h})\, m/\beta}\; z

in the order B A O A B, one energy call a step. The discretisation is biased: averages over positions are wrong by :math:`O(h^2)` (exact only in
harmonic wells), those over momenta too. There is no Metropolis test, so use `HamiltonianMoves` for ensembles that have to be exact.

Units follow from the energy: with u = E/kT in units of kT, masses in amu and positions in Å, time is in :math:`Å \sqrt{amu/kT}`
(63.3 fs at 300 K). All inverse temperatures share this clock.

References:
    | Rational construction of stochastic numerical methods for molecular sampling (Leimkuhler & Matthews, 2013)
    | https://arxiv.org/abs/1203.5428
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.momenta import draw_momenta, item_masses
from equilibra.energies.walkers import Walkers, evaluate, per_walker
from equilibra.errors import DivergenceError, InputError


@dataclass(frozen=True, eq=False)
class LangevinDynamics:
    r"""Underdamped Langevin dynamics, BAOAB.

    Attributes:
        step: Time step h.
        friction: Friction :math:`\gamma`, per unit of time.
        masses: Masses (items,); ones by default.
    """

    step: float
    friction: float = 1.0
    masses: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.step > 0.0:
            raise InputError(f"step: got {self.step}, expected a positive number")
        if not self.friction >= 0.0:
            raise InputError(f"friction: got {self.friction}, expected a number that is not negative")

    def momenta(
        self, walkers: Walkers, reduced: ReducedEnergy, *, generator: Generator, beta: float | Tensor | None = None
    ) -> Tensor:
        """Draws momenta (n, items, axes) at the temperatures of the walkers, without total momentum where the energy is translation invariant."""
        masses, inverse = item_masses(self.masses, walkers.x), per_walker(beta, walkers.x, "beta")
        return draw_momenta(walkers.x, masses, inverse, drift_free=reduced.energy.invariant, generator=generator)

    def run(
        self,
        walkers: Walkers,
        momenta: Tensor,
        reduced: ReducedEnergy,
        *,
        steps: int,
        generator: Generator,
        beta: float | Tensor | None = None,
    ) -> tuple[Walkers, Tensor]:
        """Follows the dynamics.

        Arguments:
            walkers: Where the walkers are, evaluated with `reduced`.
            momenta: Their momenta (n, items, axes).
            reduced: The reduced energy; one call per walker and step.
            steps: Number of time steps.
            generator: The only source of randomness.
            beta: Inverse temperatures relative to that of u: one for all, one each (n,), or None for 1.

        Returns:
            Walkers and momenta after the steps.

        Raises:
            DivergenceError: If an energy or a position left the finite numbers.
        """
        inverse, masses = per_walker(beta, walkers.x, "beta"), item_masses(self.masses, walkers.x)
        h, keep = self.step, math.exp(-self.friction * self.step)
        kick = math.sqrt(-math.expm1(-2.0 * self.friction * self.step))
        p, lost = momenta, ~torch.isfinite(walkers.u)
        for _ in range(steps):
            p = p + 0.5 * h * walkers.force
            x = walkers.x + 0.5 * h * p / masses
            noise = draw_momenta(x, masses, inverse, drift_free=reduced.energy.invariant, generator=generator)
            p = keep * p + kick * noise
            x = x + 0.5 * h * p / masses
            lost = lost | ~torch.isfinite(x).flatten(1).all(1)
            walkers = evaluate(torch.where(lost[:, None, None], walkers.x, x), reduced)
            lost = lost | ~torch.isfinite(walkers.u)
            p = p + 0.5 * h * walkers.force
        if bool(lost.any()):
            raise DivergenceError(
                f"Langevin dynamics: {int(lost.sum())} of {len(walkers)} walkers left the finite numbers with a step of {h:g}; use a smaller step"
            )
        return walkers, p

    def trajectory(
        self,
        walkers: Walkers,
        reduced: ReducedEnergy,
        *,
        steps: int,
        every: int,
        generator: Generator,
        beta: float | Tensor | None = None,
    ) -> Iterator[Walkers]:
        """Yields the walkers after each `every` steps, from freshly drawn momenta; see `run`."""
        if every < 1:
            raise InputError(f"every: got {every}, expected at least 1 step")
        p = self.momenta(walkers, reduced, generator=generator, beta=beta)
        for _ in range(steps // every):
            walkers, p = self.run(walkers, p, reduced, steps=every, generator=generator, beta=beta)
            yield walkers
