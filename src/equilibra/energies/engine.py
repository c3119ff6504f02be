"""Engines that compute energies and forces outside of torch, made differentiable once.

An engine receives and returns float64 NumPy arrays on the CPU. What torch sees has the dtype and the device of the positions; the
gradient of the energy is minus the engine's force.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.errors import InputError, ShapeError

FloatArray = NDArray[np.float64]


class Evaluate(Protocol):
    """Energies (batch,) of positions (batch, items, axes), with forces of their shape if asked for."""

    def __call__(self, positions: FloatArray, forces: bool) -> tuple[FloatArray, FloatArray | None]:
        """Returns energies, and forces or None."""
        ...


class EngineFunction(torch.autograd.Function):
    """An engine's energies, whose gradient are its own forces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, evaluate: Evaluate) -> Tensor:
        """Asks the engine; for forces too if anyone will want a gradient."""
        wanted = ctx.needs_input_grad[0]
        energies, forces = evaluate(_positions(x), wanted)
        if wanted:
            ctx.save_for_backward(x, torch.as_tensor(forces).to(x))
        return torch.as_tensor(energies).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Chains with minus the forces."""
        x, forces = ctx.saved_tensors
        return -gradient[:, None, None] * _ForceFunction.apply(x, forces), None


class _ForceFunction(torch.autograd.Function):
    """An engine's forces as a function of x: known, but not their derivatives. Without it these would silently be zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forces: Tensor) -> Tensor:
        return forces.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        raise InputError(
            "an engine's energy is differentiable once: a second derivative, which the engine cannot give, was asked for; detach the "
            "positions, or take the forces with energy_and_force"
        )


def _positions(x: Tensor) -> FloatArray:
    """Returns a copy, which an engine may write to."""
    return np.array(x.detach().cpu().numpy(), dtype=np.float64)


class EngineEnergy(Energy):
    """Abstract energy of an engine with forces of its own."""

    def energy(self, x: Tensor) -> Tensor:
        """Returns energies (batch,), differentiable once."""
        self._check(x)
        return EngineFunction.apply(x, self._checked)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        self._check(x)
        energies, forces = self._checked(_positions(x), True)
        return torch.as_tensor(energies).to(x), torch.as_tensor(forces).to(x)

    @abstractmethod
    def evaluate(self, positions: FloatArray, forces: bool) -> tuple[FloatArray, FloatArray | None]:
        """Returns energies (batch,) of positions (batch, items, axes) and, if asked for, forces of the same shape."""

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.items, self.axes):
            raise ShapeError(f"positions for the energy '{self.name}'", tuple(x.shape), f"(batch, {self.items}, {self.axes})")

    def _checked(self, positions: FloatArray, forces: bool) -> tuple[FloatArray, FloatArray | None]:
        # engines written in torch need gradients of their own, wherever they are called
        with torch.inference_mode(False), torch.enable_grad():
            energies, given = self.evaluate(positions, forces)
        if np.shape(energies) != (len(positions),):
            raise ShapeError(f"energy '{self.name}'", np.shape(energies), f"one per conformation, ({len(positions)},)")
        if forces and (given is None or given.shape != positions.shape):
            raise ShapeError(f"forces of the energy '{self.name}'", None if given is None else given.shape, positions.shape)
        return energies, given


class OneByOneEnergy(EngineEnergy):
    """Abstract energy of an engine that treats one conformation at a time.

    Attributes:
        tolerant: Whether conformations on which the engine fails have an energy that is not a number, instead of ending everything.
    """

    tolerant: bool = False

    @functools.cached_property
    def _failed(self) -> Counter[str]:
        return Counter()

    @property
    def failures(self) -> Mapping[str, int]:
        """How often a tolerant engine failed, by its own words."""
        return self._failed

    @abstractmethod
    def conformation(self, positions: FloatArray, forces: bool) -> tuple[float, FloatArray | None]:
        """Returns the energy of positions (items, axes) and, if asked for, the forces (items, axes)."""

    def evaluate(self, positions: FloatArray, forces: bool) -> tuple[FloatArray, FloatArray | None]:
        """Asks for one conformation after the other.

        Raises:
            InputError: If the engine fails; the message names it, the conformation and the engine's own words.
        """
        energies = np.empty(len(positions))
        gathered = np.empty(positions.shape) if forces else None
        for index, one in enumerate(positions):
            try:
                energies[index], force = self.conformation(one, forces)
                if gathered is not None:
                    gathered[index] = force
            except Exception as error:  # engines raise whatever their own code stumbles over
                if self.tolerant:
                    self._failed[f"{type(error).__name__}: {error}"] += 1
                    energies[index] = np.nan
                    if gathered is not None:
                        gathered[index] = np.nan
                    continue
                raise InputError(
                    f"energy '{self.name}': the engine failed on conformation {index} of {len(positions)}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        return energies, gathered
