r"""Regular grids in the Brillouin zone, halved by time reversal.

A k-point is given by :math:`\kappa_i = k \cdot a_i / 2\pi`, so that the phase of a lattice translation :math:`n A` is :math:`e^{2 \pi i\, \kappa \cdot n}`.

References:
    | Special points for Brillouin-zone integrations (Monkhorst and Pack, 1976), https://doi.org/10.1103/PhysRevB.13.5188
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import ConfigError
from equilibra.geometry.periodic import plane_spacings

Size = tuple[int, int, int]

# a spacing that divides a reciprocal vector shall not get another point by rounding
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class KGrid:
    r"""Which k-points a crystal gets.

    Attributes:
        spacing: Largest distance between neighbouring points along each reciprocal vector, in 1/Å: :math:`\lceil |b_i| / \text{spacing} \rceil` points
            along each, counted in the reduced basis of the lattice, so that it does not depend on the choice of cell. A cell that changes may
            cross to another grid, where the energy jumps by the error of the grid; for relaxations and derivatives over long ways give a size.
        size: Points along the three reciprocal vectors of the cell as it is given, the same for every crystal; instead of a spacing.
        centred: Whether Γ is one of the points; if not, the points of Monkhorst and Pack, which are symmetric about Γ and without it for even numbers.

    Raises:
        ConfigError: If the spacing or the size is not positive.
    """

    spacing: float = 0.5
    size: Size | None = None
    centred: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.spacing) and self.spacing > 0.0):
            raise ConfigError(f"k-points: got the spacing {self.spacing}, expected a positive number in 1/Å")
        if self.size is not None and not (len(self.size) == 3 and all(n >= 1 for n in self.size)):
            raise ConfigError(f"k-points: got the size {self.size}, expected three numbers of points, each at least 1")

    def sizes(self, reduced: Tensor) -> list[Size]:
        """Returns the number of points along each reciprocal vector of cells (crystals, 3, 3) in Å: reduced ones where a spacing is given."""
        if self.size is not None:
            return [self.size] * len(reduced)
        lengths = 2 * math.pi / plane_spacings(reduced.detach())
        counts = torch.ceil(lengths / self.spacing - _ROUNDING).clamp(min=1).long()
        return [(int(a), int(b), int(c)) for a, b, c in counts.tolist()]


@functools.lru_cache(maxsize=512)
def k_points(size: Size, centred: bool) -> tuple[Tensor, Tensor]:
    r"""Lists one k-point of each pair :math:`\pm k` of a regular grid.

    Without spin-orbit coupling levels at k and -k are equal, so one of the two stands for both.

    Arguments:
        size: Points along each reciprocal vector.
        centred: Whether Γ is one of the points.

    Returns:
        The points :math:`\kappa`, with shape (points, 3), and weights that add up to one, with shape (points), both in double precision.
    """
    numbers = torch.cartesian_prod(*(torch.arange(n) for n in size)).reshape(-1, 3)
    n = torch.tensor(size)
    opposite = torch.remainder(-numbers, n) if centred else n - 1 - numbers
    strides = torch.tensor([size[1] * size[2], size[2], 1])
    rank, partner = (numbers * strides).sum(-1), (opposite * strides).sum(-1)
    kept = rank <= partner
    weights = torch.where(rank == partner, 1.0, 2.0).double()[kept] / len(numbers)
    points = numbers.double() / n if centred else (2 * numbers - n + 1).double() / (2 * n)
    return points[kept], weights
