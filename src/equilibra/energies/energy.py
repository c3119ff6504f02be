r"""The Energy of one system, batched over conformations and differentiable, and its reduced form :math:`u(x) = E(x)/kT`.

Everything that samples, trains or reweights sees the reduced energy alone; what unit the energy is in ends in the number kT. Physical
energies are in eV and take :math:`kT` in eV (`units.thermal_energy`); model systems are dimensionless and take kT = 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from equilibra.errors import InputError, ShapeError
from equilibra.units import thermal_energy


class Energy(ABC):
    """Abstract potential energy of one system.

    Attributes:
        items: Number of particles.
        axes: Dimension of space.
        name: What it is called in messages, tables and files.
        invariant: Whether a translation of all particles leaves it unchanged, so that its distribution lives on the mean-free space.
    """

    items: int
    axes: int = 3
    name: str = "energy"
    invariant: bool = True

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) of positions (batch, items, axes); differentiable once at least."""

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) and forces -dE/dx (batch, items, axes), both detached. Engines with forces of their own override this."""
        with torch.enable_grad():
            moving = x.detach().requires_grad_(True)
            energy = self.energy(moving)
            (gradient,) = torch.autograd.grad(energy.sum(), moving)
        return energy.detach(), -gradient

    @property
    def failures(self) -> Mapping[str, int]:
        """How often an engine that may fail did so, by its own words: the energies of those conformations are not a number. Empty for others."""
        return {}

    @property
    def degrees(self) -> int:
        """True dimension of the configuration space: mean-free where the energy is translation invariant."""
        return (self.items - 1 if self.invariant else self.items) * self.axes


class CallCounter:
    """Number of conformations whose energy was asked for, shared by all views of one energy."""

    def __init__(self) -> None:
        self.count = 0


class ReducedEnergy:
    r"""Reduced energy :math:`u(x) = E(x)/kT` with counted calls.

    Arguments:
        energy: Potential energy.
        kt: Thermal energy in the unit of the energy: eV, or 1 for a dimensionless model system.
        counter: Where calls are counted; a new one by default.

    Raises:
        InputError: If kT is not a positive number.
    """

    def __init__(self, energy: Energy, kt: float = 1.0, *, counter: CallCounter | None = None) -> None:
        if not (kt > 0.0 and math.isfinite(kt)):
            raise InputError(f"temperature: got kT = {kt}, expected a positive number")
        self.energy = energy
        self.kt = float(kt)
        self.counter = counter or CallCounter()

    @classmethod
    def at(cls, energy: Energy, temperature: float) -> ReducedEnergy:
        """Returns the reduced energy at a temperature in K.

        Raises:
            InputError: If the temperature is not positive.
        """
        if not (temperature > 0.0 and math.isfinite(temperature)):
            raise InputError(f"temperature: got {temperature} K, expected a positive number")
        return cls(energy, thermal_energy(temperature))

    @property
    def calls(self) -> int:
        """Conformations whose energy was asked for so far; an energy with its force is one call."""
        return self.counter.count

    def __call__(self, x: Tensor) -> Tensor:
        """Returns u (batch,), differentiable."""
        self.counter.count += x.shape[0]
        return self.energy.energy(x) / self.kt

    def with_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns u (batch,) and the data score -du/dx (batch, items, axes), detached."""
        self.counter.count += x.shape[0]
        energy, force = self.energy.energy_and_force(x)
        return energy / self.kt, force / self.kt

    def check(self, x: Tensor) -> None:
        """Asks for the energy and force of trial conformations, and refuses what cannot be worked with.

        Arguments:
            x: Sensible conformations (batch, items, axes), for example the starting points of a run.

        Raises:
            ShapeError: If the conformations or what comes back have another shape than expected.
            InputError: If an energy or a force is not finite.
        """
        items, axes, name = self.energy.items, self.energy.axes, self.energy.name
        if x.ndim != 3 or tuple(x.shape[1:]) != (items, axes):
            raise ShapeError(f"positions for the energy '{name}'", tuple(x.shape), f"(batch, {items}, {axes})")
        u, force = self.with_force(x)
        if tuple(u.shape) != (x.shape[0],):
            raise ShapeError(f"energy '{name}'", tuple(u.shape), f"one energy per conformation, ({x.shape[0]},)")
        if force.shape != x.shape:
            raise ShapeError(f"forces of the energy '{name}'", tuple(force.shape), tuple(x.shape))
        bad = ~(torch.isfinite(u) & torch.isfinite(force).flatten(1).all(1))
        if bad.any():
            first = int(bad.nonzero()[0])
            raise InputError(
                f"energy '{name}': conformation {first} of {len(x)} trial conformations has the energy {float(u[first]):g} kT or a force that is "
                "not finite; check for atoms on top of each other, and the energy itself"
            )
