r"""The mean-free space: an orthonormal (Helmert) basis of the vectors over particles that sum to zero.

.. math:: h_m = \frac{1}{\sqrt{m(m+1)}}\, (\underbrace{1, \dots, 1}_{m}, -m, 0, \dots, 0), \qquad m = 1, \dots, N - 1
"""

import torch

from equilibra.types import Bool, Float, Tensor


def helmert(n: int) -> Float[Tensor, "m n"]:
    """Returns an orthonormal basis (n - 1, n) of the vectors whose entries sum to zero, in float64."""
    return masked_helmert(torch.ones(1, n, dtype=torch.bool))[0]


def masked_helmert(mask: Bool[Tensor, "batch n"]) -> Float[Tensor, "batch m n"]:
    """Returns bases of the vectors over the real items of each batch element whose entries sum to zero.

    Arguments:
        mask: True for real items, in any order, with shape (batch, n).

    Returns:
        Basis vectors (batch, n - 1, n) in float64; the first (number of real items - 1) of each element are orthonormal, the others zero.
    """
    rank = (torch.cumsum(mask, 1) - 1)[:, None, :]
    m = torch.arange(1, mask.shape[1], dtype=torch.float64, device=mask.device)[:, None]
    used = mask[:, None, :] & (m < mask.sum(1)[:, None, None])
    entries = torch.where(rank < m, 1.0, torch.where(rank == m, -m, 0.0))
    return torch.where(used, entries, 0.0) / torch.sqrt(m * (m + 1.0))


def from_coordinates(
    c: Float[Tensor, "batch coordinates"], like: Float[Tensor, "batch n d"], mask: Bool[Tensor, "batch n"] | None
) -> Float[Tensor, "batch n d"]:
    """Assembles mean-free vectors from coordinates in the Helmert basis.

    Arguments:
        c: Coordinates (batch, (n - 1) d), the particle index first; those beyond the true dimension of an element count for nothing.
        like: Gives the shape, with shape (batch, n, d).
        mask: True for real items, or None where there is no padding.

    Returns:
        Vectors (batch, n, d) whose mean over the real items is zero; padded items are zero.
    """
    n = like.shape[1]
    basis = helmert(n)[None].to(c) if mask is None else masked_helmert(mask).to(c)
    return basis.transpose(1, 2) @ c.reshape(-1, n - 1, like.shape[2])
