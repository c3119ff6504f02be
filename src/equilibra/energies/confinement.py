r"""Walls around an energy: a window of heights, and bonds that stay bonds. They define what the distribution of adsorbed atoms is.

Without walls an adsorbate would leave: the gas above a surface has no end, and its Boltzmann distribution no normalisation. Walls are flat inside, so that the energy is
untouched there, and harmonic outside:

.. math:: W = \tfrac k2 \sum_i \big[(h_{lo} - z_i)_+^2 + (z_i - h_{hi})_+^2\big] + \tfrac k2 \sum_{ij} (d_{ij} - d^{max}_{ij})_+^2

with the distance :math:`d_{ij}` of bonded atoms to each other's nearest image in the plane.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.geometry.reduction import reduced_basis
from equilibra.geometry.torus import wrap

STIFFNESS = 20.0
"""Stiffness k of the walls, in eV/Å²."""


class PlanarDistance:
    """Distances to nearest images in a periodic plane.

    Arguments:
        plane: The two vectors (2, 2) of the plane, as rows, in Å.
    """

    def __init__(self, plane: Tensor) -> None:
        cell = torch.zeros(2, 3, dtype=torch.float64)
        cell[:, :2] = plane.double()
        # in a reduced basis the nearest image is among the nine about the wrapped difference
        self.basis = (reduced_basis(cell) @ cell)[:, :2]
        shifts = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)), dtype=torch.float64)
        self.translations = shifts @ self.basis

    def vectors(self, d: Tensor) -> Tensor:
        """Returns the shortest of all images of vectors (..., 3)."""
        basis = self.basis.to(d)
        plane = wrap(d[..., :2] @ torch.linalg.inv(basis)) @ basis
        images = plane[..., None, :] + self.translations.to(d)
        index = images.detach().square().sum(-1).argmin(-1)
        chosen = torch.gather(images, -2, index[..., None, None].expand(*index.shape, 1, 2))[..., 0, :]
        return torch.cat([chosen, d[..., 2:]], dim=-1)

    def __call__(self, d: Tensor) -> Tensor:
        """Returns the lengths (...) of the shortest images of vectors (..., 3), with a finite gradient at zero."""
        return torch.sqrt(self.vectors(d).square().sum(-1) + 1e-16)


class ConfinedEnergy(Energy):
    """An energy of atoms above a plane, between walls, as a function of positions relative to an origin.

    Arguments:
        energy: The energy, a function of absolute positions.
        heights: Lowest and highest height relative to the origin, in Å.
        plane: The two vectors (2, 2) of the periodic plane, in Å.
        bonds: Pairs of bonded atoms.
        longest: The longest that each bond may be, in Å.
        origin: What is added to the heights of the atoms for the energy, in Å.
        stiffness: Stiffness of the walls, in eV/Å².
    """

    invariant = False

    def __init__(
        self,
        energy: Energy,
        heights: tuple[float, float],
        plane: Tensor,
        bonds: Sequence[tuple[int, int]] = (),
        longest: Sequence[float] = (),
        *,
        origin: float = 0.0,
        stiffness: float = STIFFNESS,
    ) -> None:
        self.inner, self.items, self.axes, self.name = energy, energy.items, energy.axes, energy.name
        self.heights, self.stiffness = heights, stiffness
        self._distance = PlanarDistance(plane)
        self._bonds = torch.tensor(list(bonds), dtype=torch.int64).reshape(-1, 2)
        self._longest = torch.tensor(list(longest), dtype=torch.float64)
        self._shift = torch.tensor([0.0, 0.0, origin], dtype=torch.float64)

    def walls(self, x: Tensor) -> Tensor:
        """Returns the energy of the walls (batch,), zero inside, for positions (batch, items, 3)."""
        low, high = self.heights
        z = x[..., 2]
        total = ((low - z).clamp(min=0.0).square() + (z - high).clamp(min=0.0).square()).sum(1)
        if len(self._bonds):
            first, second = self._bonds.to(x.device).unbind(1)
            excess = (self._distance(x[:, second] - x[:, first]) - self._longest.to(x)).clamp(min=0.0)
            total = total + excess.square().sum(1)
        return 0.5 * self.stiffness * total

    @property
    def failures(self) -> Mapping[str, int]:
        """Those of the energy inside."""
        return self.inner.failures

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) of positions (batch, items, 3), walls included."""
        return self.inner.energy(x + self._shift.to(x)) + self.walls(x)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) and forces (batch, items, 3), walls included, detached."""
        energy, force = self.inner.energy_and_force(x + self._shift.to(x))
        with torch.enable_grad():
            moving = x.detach().requires_grad_(True)
            wall = self.walls(moving)
            (gradient,) = torch.autograd.grad(wall.sum(), moving)
        return energy + wall.detach(), force - gradient
