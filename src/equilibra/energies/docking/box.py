"""The box that a ligand is docked into."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import InputError, ShapeError


@dataclass(frozen=True)
class Box:
    """A box along the axes.

    Attributes:
        centre: (x, y, z) in Å.
        size: Lengths of its edges in Å.

    Raises:
        InputError: If a number is not finite, or a length not positive.
    """

    centre: tuple[float, float, float]
    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        numbers = torch.tensor([*self.centre, *self.size], dtype=torch.float64)
        if len(self.centre) != 3 or len(self.size) != 3 or not bool(torch.isfinite(numbers).all()) or min(self.size) <= 0.0:
            raise InputError(
                f"box: got centre {self.centre} and size {self.size}, expected three numbers and three positive lengths in Å"
            )

    @classmethod
    def around(cls, positions: Tensor, margin: float = 4.0) -> Box:
        """Returns the box that reaches `margin` Å beyond positions (..., 3), such as those of a ligand whose place is known.

        Raises:
            ShapeError: If the positions have another shape, or there are none.
        """
        if positions.ndim < 2 or positions.shape[-1] != 3 or positions.numel() == 0:
            raise ShapeError("positions of a box", tuple(positions.shape), "(..., 3), at least one")
        flat = positions.detach().reshape(-1, 3).double().cpu()
        low, high = flat.amin(0), flat.amax(0)
        x, y, z = ((low + high) / 2).tolist()
        a, b, c = (high - low + 2 * margin).tolist()
        return cls((x, y, z), (a, b, c))

    @property
    def corners(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest corner, each (3,), in Å and double precision."""
        centre, half = torch.tensor(self.centre, dtype=torch.float64), torch.tensor(self.size, dtype=torch.float64) / 2
        return centre - half, centre + half
