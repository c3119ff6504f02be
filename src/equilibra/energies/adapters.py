"""Energies of other programs: ASE calculators, OpenMM systems, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.energies.engine import EngineEnergy, FloatArray, OneByOneEnergy
from equilibra.errors import InputError, ShapeError, unknown_key_message
from equilibra.units import KJ_PER_MOL_EV, KJ_PER_MOL_NM_EV_A, NM


class AseEnergy(OneByOneEnergy):
    """Energy of an ASE calculator, in eV and Å.

    Constraints of the atoms do not change the forces. The calculator is asked once for each conformation.

    Arguments:
        atoms: ASE `Atoms` with the species, the cell and the periodicity; copied.
        calculator: ASE calculator; by default the one of the atoms.
        name: What it is called; by default after the calculator's class.
        invariant: Whether translations leave the energy unchanged; false for atoms in an external field.
        tolerant: Whether conformations on which the calculator fails have an energy that is not a number; `failures` counts them.

    Raises:
        InputError: If there is no calculator, or it has no forces.
    """

    def __init__(
        self,
        atoms: Any,
        calculator: Any = None,
        *,
        name: str | None = None,
        invariant: bool = True,
        tolerant: bool = False,
    ) -> None:
        calculator = atoms.calc if calculator is None else calculator
        if calculator is None:
            raise InputError("AseEnergy: the atoms have no calculator; give one, for example ase.calculators.emt.EMT()")
        if "forces" not in getattr(calculator, "implemented_properties", ["forces"]):
            raise InputError(f"AseEnergy: the calculator {type(calculator).__name__} has no forces, which are needed")
        self._atoms = atoms.copy()
        self._calculator = calculator
        self.items = len(atoms)
        self.name = name or f"ase-{type(calculator).__name__.lower()}"
        self.invariant = invariant
        self.tolerant = tolerant

    def conformation(self, positions: FloatArray, forces: bool) -> tuple[float, FloatArray | None]:  # noqa: D102
        self._atoms.set_positions(positions, apply_constraint=False)
        # forces first: many calculators then have the energy as well, but not the other way round
        force = self._calculator.get_property("forces", self._atoms) if forces else None
        return float(self._calculator.get_property("energy", self._atoms)), force


class OpenMMEnergy(OneByOneEnergy):
    """Energy of an OpenMM `System`, in eV and Å, by one OpenMM context.

    Arguments:
        system: OpenMM `System` without constraints and virtual sites.
        platform: Name of an OpenMM platform. `Reference`, the default, is double precision and the fastest on one core for small molecules.
        name: What it is called.
        invariant: Whether translations leave the energy unchanged; false for a system with an external force.

    Raises:
        InputError: If the platform is not known, or the system has constraints or virtual sites.
    """

    def __init__(self, system: Any, platform: str | None = None, *, name: str = "openmm", invariant: bool = True) -> None:
        import openmm

        if system.getNumConstraints() > 0:
            raise InputError(
                f"energy '{name}': the system has {system.getNumConstraints()} constraints, which leave no density over all coordinates; "
                "make it with constraints=None and rigidWater=False"
            )
        self.items = system.getNumParticles()
        if any(system.isVirtualSite(index) for index in range(self.items)):
            raise InputError(
                f"energy '{name}': the system has virtual sites, which are not free coordinates; use a model without them"
            )
        platform = platform or "Reference"
        known = [openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())]
        if platform not in known:
            raise InputError(unknown_key_message("OpenMM platform", platform, known))
        self.name = name
        self.invariant = invariant
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))

    def conformation(self, positions: FloatArray, forces: bool) -> tuple[float, FloatArray | None]:  # noqa: D102
        from openmm import unit

        self._context.setPositions(positions / NM)
        state = self._context.getState(energy=True, forces=forces)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL_EV
        if not forces:
            return energy, None
        force = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        return energy, force * KJ_PER_MOL_NM_EV_A


class CallableEnergy(Energy):
    """Energy of a function of the user's own.

    The unit is the function's own: Å and eV if it shall be used at a temperature in K (`ReducedEnergy.at`); with any other unit, give kT in
    that unit to `ReducedEnergy`. A function may raise whatever it likes; its exceptions pass unchanged.

    Arguments:
        function: Without `forces`: a torch function of positions (batch, items, axes) that returns energies (batch,), differentiable.
            With `forces`: a NumPy function of a float64 array of that shape.
        items: Number of particles.
        axes: Dimension of space.
        name: What it is called.
        forces: NumPy function that returns -dE/dx (batch, items, axes).
        invariant: Whether a translation of all particles leaves the energy unchanged.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        items: int,
        *,
        axes: int = 3,
        name: str = "function",
        forces: Callable[[FloatArray], FloatArray] | None = None,
        invariant: bool = True,
    ) -> None:
        self.items, self.axes, self.name, self.invariant = items, axes, name, invariant
        self._function = function
        self._engine = None if forces is None else _FunctionEngine(self, function, forces)

    def energy(self, x: Tensor) -> Tensor:
        """Returns energies (batch,).

        Raises:
            ShapeError: If the positions or the energies have another shape.
            InputError: If a torch function returns no tensor, or one without a gradient although the positions have one.
        """
        if self._engine is not None:
            return self._engine.energy(x)
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.items, self.axes):
            raise ShapeError(f"positions for the energy '{self.name}'", tuple(x.shape), f"(batch, {self.items}, {self.axes})")
        energy = self._function(x)
        if not isinstance(energy, Tensor):
            raise InputError(
                f"energy '{self.name}': the function returned {type(energy).__name__}, expected a torch tensor; a NumPy function needs "
                "forces=, a function that returns the forces"
            )
        if tuple(energy.shape) != (len(x),):
            raise ShapeError(f"energy '{self.name}'", tuple(energy.shape), f"one per conformation, ({len(x)},)")
        if x.requires_grad and torch.is_grad_enabled() and not energy.requires_grad:
            raise InputError(
                f"energy '{self.name}': the function's energies do not depend on the positions in a way that torch can differentiate; keep "
                "to torch operations, or give forces="
            )
        return energy

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return super().energy_and_force(x) if self._engine is None else self._engine.energy_and_force(x)


class _FunctionEngine(EngineEnergy):
    """The engine that two NumPy functions make."""

    def __init__(self, owner: Energy, function: Callable[[Any], Any], forces: Callable[[FloatArray], FloatArray]) -> None:
        self.items, self.axes, self.name = owner.items, owner.axes, owner.name
        self._function = function
        self._forces = forces

    def evaluate(self, positions: FloatArray, forces: bool) -> tuple[FloatArray, FloatArray | None]:
        energies = np.asarray(self._function(positions.copy()), dtype=np.float64)
        return energies, np.asarray(self._forces(positions.copy()), dtype=np.float64) if forces else None
