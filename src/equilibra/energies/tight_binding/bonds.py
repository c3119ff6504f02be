"""Pairs of atoms within the cut-off, over as many periodic images as the cells need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.energies.tight_binding.carbon import CUTOFF
from equilibra.geometry.periodic import image_shifts


@dataclass(frozen=True)
class Bonds:
    """Directed pairs of atoms of a batch of crystals: from atom i of the cell to atom j of an image; each pair in both directions.

    Attributes:
        crystal: Which crystal (bonds,).
        first: Atom i (bonds,).
        second: Atom j (bonds,).
        shift: Row of `shifts` that holds the image of j (bonds,).
        shifts: Integer translations (shifts, 3), those that occur.
    """

    crystal: Tensor
    first: Tensor
    second: Tensor
    shift: Tensor
    shifts: Tensor

    def vectors(self, frac: Tensor, cell: Tensor) -> Tensor:
        """Returns the vectors from i to j (bonds, 3) in Å, differentiable in fractional coordinates (crystals, atoms, 3) and cells (crystals, 3, 3)."""
        difference = frac[self.crystal, self.second] - frac[self.crystal, self.first] + self.shifts[self.shift].to(frac.dtype)
        return (difference[:, None, :] @ cell[self.crystal]).squeeze(1)


@torch.no_grad()
def find_bonds(frac: Tensor, cell: Tensor) -> Bonds:
    """Finds all pairs of atoms within the cut-off of the model.

    Arguments:
        frac: Fractional coordinates in [0, 1), with shape (crystals, atoms, 3).
        cell: Cells, rows are lattice vectors, with shape (crystals, 3, 3), in Å.
    """
    shifts = image_shifts(cell, CUTOFF, wrapped=True)
    difference = frac[:, None, None, :, :] - frac[:, None, :, None, :] + shifts[:, None, None, :].to(frac.dtype)
    squared = (difference @ cell[:, None, None]).square().sum(-1)
    # the zero translation comes first: an atom is no neighbour of itself, but of its images
    squared[:, 0].diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    crystal, shift, first, second = (squared < CUTOFF**2).nonzero(as_tuple=True)
    occurring, shift = torch.unique(shift, return_inverse=True)
    return Bonds(crystal, first, second, shift, shifts[occurring])
