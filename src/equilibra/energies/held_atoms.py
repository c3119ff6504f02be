"""Energies of some atoms of a system whose other atoms are held where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.errors import InputError, ShapeError


class HeldAtomsEnergy(Energy):
    """An energy of all atoms, as a function of the mobile ones.

    Arguments:
        energy: Energy of all atoms.
        positions: Positions (items, axes) of all atoms; those of mobile atoms are not looked at.
        mobile: Indices of the mobile atoms, in the order of the positions that are asked for.

    Raises:
        ShapeError: If the positions are not those of the energy.
        InputError: If an index is out of range, or there is none.
    """

    invariant = False

    def __init__(self, energy: Energy, positions: Tensor, mobile: Sequence[int]) -> None:
        if tuple(positions.shape) != (energy.items, energy.axes):
            raise ShapeError("positions of all atoms", tuple(positions.shape), f"({energy.items}, {energy.axes})")
        if not mobile or not 0 <= min(mobile) <= max(mobile) < energy.items:
            raise InputError(
                f"mobile: got the indices {list(mobile)}, expected at least one, each from 0 to {energy.items - 1}"
            )
        self.inner, self.items, self.axes, self.name = energy, len(mobile), energy.axes, energy.name
        self._positions, self._mobile = positions.double(), torch.tensor(list(mobile))

    @property
    def failures(self) -> Mapping[str, int]:
        """Those of the energy inside."""
        return self.inner.failures

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) of positions (batch, mobile, axes)."""
        return self.inner.energy(self._whole(x))

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) and the forces on the mobile atoms (batch, mobile, axes), detached."""
        energy, force = self.inner.energy_and_force(self._whole(x))
        return energy, force[:, self._mobile.to(x.device)]

    def _whole(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.items, self.axes):
            raise ShapeError(f"positions for the energy '{self.name}'", tuple(x.shape), f"(batch, {self.items}, {self.axes})")
        held = self._positions.to(x).expand(len(x), -1, -1)
        return held.index_copy(1, self._mobile.to(x.device), x)
