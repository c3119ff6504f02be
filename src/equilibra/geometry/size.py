"""How large a set of points is: radius of gyration and distances."""

import torch

from equilibra.errors import ShapeError
from equilibra.geometry.shapes import require_trailing
from equilibra.types import Float, Tensor


def radius_of_gyration(x: Float[Tensor, "... n 3"], weights: Float[Tensor, " n"] | None = None) -> Float[Tensor, "..."]:
    r"""Computes the radius of gyration of points.

    .. math:: R = \sqrt{\sum_i w_i |x_i - \bar x|^2}, \qquad \bar x = \sum_i w_i x_i, \qquad \sum_i w_i = 1

    Arguments:
        x: Points with shape (..., n, 3).
        weights: Non-negative weights (n,), such as masses, of any sum; equal ones if not given.

    Returns:
        The radii (...), in the unit of the points. Differentiable; zero gradient where all points coincide.

    Raises:
        ShapeError: If the last axis is not 3, or there is not one weight for each point.
    """
    require_trailing("x", x, (3,))
    if weights is not None and weights.shape != x.shape[-2:-1]:
        raise ShapeError("weights", tuple(weights.shape), f"({x.shape[-2]},), one for each point")
    w = x.new_ones(x.shape[-2]) if weights is None else weights.to(x)
    share = (w / w.sum())[:, None]
    centred = x - (share * x).sum(-2, keepdim=True)
    return torch.linalg.vector_norm(share.sqrt() * centred, dim=(-2, -1))


def distance(x: Float[Tensor, "... n 3"], i: int, j: int) -> Float[Tensor, "..."]:
    """Returns the distance (...) of the points i and j, counted from 0, of points (..., n, 3), in their unit; differentiable, zero gradient at zero."""
    require_trailing("x", x, (3,))
    return torch.linalg.vector_norm(x[..., i, :] - x[..., j, :], dim=-1)
