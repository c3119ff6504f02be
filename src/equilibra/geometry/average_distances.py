r"""Average minimum distances: what two descriptions of one crystal have in common, whatever the cell, the origin or the order of atoms.

.. math:: \mathrm{AMD}_k = \frac1n \sum_{i=1}^n d_{ik}

with the distance :math:`d_{ik}` from atom i of the cell to its k-th nearest neighbour among all atoms of the crystal. It changes by at most :math:`2\varepsilon`
where every atom moves by at most :math:`\varepsilon`.

References:
    | Average minimum distances of periodic point sets (Widdowson et al., 2022), https://arxiv.org/abs/2009.02488
"""

import math

import torch

from equilibra.geometry.lattice import volume
from equilibra.geometry.periodic import neighbours
from equilibra.types import Float, Tensor

_WIDER = 1.3  # growth of the sphere while it holds too few neighbours


def average_minimum_distances(
    frac: Float[Tensor, "atoms 3"], cell: Float[Tensor, "3 3"], count: int = 32
) -> Float[Tensor, " count"]:
    """Computes the average distances to the `count` nearest neighbours.

    Arguments:
        frac: Fractional coordinates, with shape (atoms, 3).
        cell: Lattice vectors as rows, with shape (3, 3), in Å.
        count: The number of neighbours.

    Returns:
        Ascending distances, with shape (count), in Å.

    Raises:
        InputError: If the cell has no volume.
    """
    atoms = len(frac)
    # a sphere that holds the neighbours at the mean density, and some more
    radius = _WIDER * (3.0 * (count + 1) * float(volume(cell)) / (4.0 * math.pi * atoms)) ** (1 / 3)
    while True:
        pairs, shifts = neighbours(frac[None], cell[None], radius)
        i, j = pairs[:, 1], pairs[:, 2]
        if int(torch.bincount(i, minlength=atoms).min()) >= count:
            break
        radius *= _WIDER
    r = torch.linalg.vector_norm((frac[j] - frac[i] + shifts) @ cell, dim=-1)
    order = torch.argsort(r)
    i, r = i[order], r[order]
    nearest = torch.stack([r[i == atom][:count] for atom in range(atoms)])
    return nearest.mean(0)
