"""The lattice translations that suffice to see all pairs within a cut-off, in one, two, three or no periodic directions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import InputError
from equilibra.geometry.reduction import reduced_basis


@dataclass(frozen=True)
class Images:
    r"""Wraps differences of positions into one cell, and lists the translations from there.

    Along each lattice vector, with planes of lattice points :math:`h` apart, the fractional components of vectors within the cut-off :math:`r_c` fill an interval
    of length :math:`2 r_c/h`. A difference in :math:`[-\tfrac12, \tfrac12)`, or in [0, 1) where that number is even, needs the fewest images
    that cover it: :math:`\lceil 2 r_c/h \rceil`. For slabs of usual size these are 4 in the plane, or 1, instead of 9.

    Attributes:
        lattice: A reduced basis of the periodic directions (axes, 3) in Å.
        reciprocal: Its reciprocal basis (axes, 3) in 1/Å: fractional components are `reciprocal @ x`.
        start: Least fractional component of a wrapped difference (axes, 1): 0 or -1/2.
        translations: Translations to visit (images, 3) in Å.
        zero: Which of them is none.
    """

    lattice: Tensor
    reciprocal: Tensor
    start: Tensor
    translations: Tensor
    zero: int

    @classmethod
    def of(cls, cell: Tensor, pbc: Sequence[bool], cutoff: float) -> Images:
        """Returns the images for a cell (3, 3), rows in Å, of which some vectors repeat; the others are not used and may be zero.

        Raises:
            InputError: If vectors that repeat are not finite or not independent.
        """
        lattice = cell[[axis for axis in range(3) if pbc[axis]]]
        axes = len(lattice)
        if not bool(torch.isfinite(lattice).all()) or int(torch.linalg.matrix_rank(lattice) if axes else 0) < axes:
            raise InputError(
                f"cell: its periodic vectors are {lattice.tolist()} Å, expected independent vectors; set the cell, or pbc to False where nothing repeats"
            )
        if axes:
            lattice = reduced_basis(lattice) @ lattice
        reciprocal = torch.linalg.pinv(lattice).T
        spacing = 1.0 / torch.linalg.vector_norm(reciprocal, dim=1)
        counts = [max(1, math.ceil(2.0 * cutoff / h * (1.0 + 1e-12))) for h in spacing.tolist()]
        start = torch.tensor([-0.5 * (count % 2) for count in counts], dtype=cell.dtype)
        ranges = [range(-(count // 2), count - count // 2) for count in counts]
        whole = torch.tensor(list(itertools.product(*ranges)), dtype=cell.dtype).reshape(math.prod(counts), axes)
        corners = torch.tensor(list(itertools.product((-0.5, 0.5), repeat=axes)), dtype=cell.dtype).reshape(2**axes, axes)
        radius = torch.linalg.vector_norm(corners @ lattice, dim=1).max()
        # cells around a translation that lie beyond the cut-off as a whole
        near = torch.linalg.vector_norm((whole + start + 0.5) @ lattice, dim=1) <= cutoff + radius
        whole = whole[near]
        zero = int(whole.eq(0.0).all(1).nonzero())
        return cls(lattice, reciprocal, start[:, None], whole @ lattice, zero)

    def wrap(self, difference: Tensor) -> Tensor:
        """Returns differences (3, ...) in Å moved into the cell."""
        if not len(self.lattice):
            return difference
        flat = difference.flatten(1)
        turns = torch.floor(self.reciprocal @ flat.detach() - self.start)
        return (flat - self.lattice.T @ turns).view_as(difference)
