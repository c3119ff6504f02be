r"""Minkowski-reduced bases of lattices: the shortest lattice vectors that span the same lattice.

A basis of three vectors is reduced if no :math:`a_i + x\,a_j + y\,a_k` with :math:`x, y \in \{-1, 0, 1\}` is shorter than :math:`a_i`. It depends on the lattice
alone, up to signs, order and ties, so what is counted in it (images within a cut-off, k-points) does not depend on the cell a user has chosen.
"""

import itertools

import torch

from equilibra.errors import ShapeError
from equilibra.types import Float, Tensor

_SWEEPS = 64

_SHORTER = 1e-10
"""Least relative gain in squared length; without it, rounding makes equally short vectors take turns."""


def reduced_basis(a: Float[Tensor, "... axes 3"]) -> Float[Tensor, "... axes axes"]:
    r"""Finds unimodular integer matrices U such that :math:`U a` is Minkowski-reduced.

    Each vector in turn is replaced by the shortest of its sums with combinations of the others, until none gets shorter.

    References:
        | Low-dimensional lattice basis reduction revisited (Nguyen and Stehlé, 2009), https://doi.org/10.1145/1597036.1597050

    Arguments:
        a: One, two or three independent lattice vectors as rows, with shape (..., axes, 3), in Å.

    Returns:
        The matrices U, integer numbers in the dtype of `a`, with shape (..., axes, axes); not differentiable.

    Raises:
        ShapeError: If there are not one to three vectors of three components.
    """
    if a.ndim < 2 or a.shape[-1] != 3 or not 1 <= a.shape[-2] <= 3:
        raise ShapeError("a", tuple(a.shape), "(..., axes, 3) with one to three axes")
    axes = a.shape[-2]
    u = torch.eye(axes, dtype=a.dtype, device=a.device).expand(*a.shape[:-1], axes).clone()
    if axes == 1:
        return u
    with torch.no_grad():
        near = torch.tensor(list(itertools.product((-1, 0, 1), repeat=axes - 1)), dtype=a.dtype, device=a.device)
        for _ in range(_SWEEPS):
            shortened = [_shorten(u, a, i, near) for i in range(axes)]
            if not any(shortened):
                break
    return u


def _shorten(u: Tensor, a: Tensor, i: int, near: Tensor) -> bool:
    """Replaces row i of U by the shortest found of its sums with the others, in place; returns whether any got shorter."""
    others = [j for j in range(u.shape[-2]) if j != i]
    basis = u @ a
    rest, vector = basis[..., others, :], basis[..., i, :]
    # around the best real combination, which takes long steps, and around none, which is what the definition compares with
    inverse = torch.linalg.inv_ex(rest @ rest.transpose(-1, -2))[0]
    best = torch.round(inverse @ rest @ vector[..., None]).squeeze(-1)
    combinations = torch.cat((near.expand(*best.shape[:-1], *near.shape), near - best[..., None, :]), dim=-2)
    squared = (vector[..., None, :] + combinations @ rest).square().sum(-1)
    least, index = squared.nan_to_num(nan=torch.inf).min(-1)
    shorter = least < (1 - _SHORTER) * vector.square().sum(-1)
    chosen = torch.gather(combinations, -2, index[..., None, None].expand(*index.shape, 1, len(others)))
    step = (chosen @ u[..., others, :]).squeeze(-2)
    u[..., i, :] += torch.where(shorter[..., None], step, 0.0)
    return bool(shorter.any())
