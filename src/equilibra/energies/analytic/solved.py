"""What a model system with a known answer offers besides its energy."""

from __future__ import annotations

from abc import abstractmethod

from torch import Generator, Tensor

from equilibra.energies.energy import Energy
from equilibra.errors import InputError, ShapeError


class SolvedEnergy(Energy):
    r"""Abstract dimensionless energy u (kT = 1) whose normalisation is known and whose distribution can be drawn from.

    The measure is Lebesgue measure on the configuration space of `degrees` dimensions: all coordinates, or an orthonormal basis of the
    mean-free subspace where the energy is translation invariant. Particles are labelled.
    """

    @abstractmethod
    def log_z(self) -> float:
        r"""Returns :math:`\ln Z = \ln \int e^{-u(x)} \, dx`."""

    @abstractmethod
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """Draws n independent samples (n, items, axes) of exp(-u)/Z, in float64."""


class ThermalEnergy(SolvedEnergy):
    """Abstract solved energy whose mean is known too, and so its entropy."""

    @abstractmethod
    def mean_energy(self) -> float:
        r"""Returns :math:`\langle u \rangle`."""

    def entropy(self) -> float:
        r"""Returns the differential entropy :math:`S/k = \ln Z + \langle u \rangle`: the lowest NLL that a model can have."""
        return self.log_z() + self.mean_energy()


def check_positions(energy: Energy, x: Tensor) -> None:
    """Raises `ShapeError` unless x is (batch, items, axes) of the energy."""
    if x.ndim != 3 or tuple(x.shape[1:]) != (energy.items, energy.axes):
        raise ShapeError(f"positions for the energy '{energy.name}'", tuple(x.shape), f"(batch, {energy.items}, {energy.axes})")


def check_positive(name: str, value: float) -> float:
    """Returns a number that is positive and finite, or raises `InputError`."""
    if not 0.0 < value < float("inf"):
        raise InputError(f"{name}: got {value}, expected a positive number")
    return float(value)
