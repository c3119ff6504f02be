r"""Signed volumes: the pseudo-scalars that tell a stereocentre from its mirror image.

Quantities built from distances alone cannot see chirality; the sign of a triple product does.
"""

import torch

from equilibra.errors import ShapeError
from equilibra.geometry.shapes import require_trailing
from equilibra.types import Float, Int, Tensor


def signed_volume(x: Float[Tensor, "... n 3"], centres: Int[Tensor, "c 4"]) -> Float[Tensor, "... c"]:
    r"""Computes normalised signed volumes of three neighbours about a centre.

    .. math:: \chi = (u_a \times u_b) \cdot u_c, \qquad u_k = (x_k - x_0) / |x_k - x_0|

    It lies in [-1, 1], is invariant under rigid motions, changes sign under reflections and under exchange of two neighbours. An ideal
    tetrahedral centre has :math:`\pm 4 / 3\sqrt3 = \pm 0.77`, a planar one 0.

    Arguments:
        x: Positions, with shape (..., n, 3).
        centres: Atom indices (centre, a, b, c) of each centre, with shape (c, 4).

    Returns:
        Signed volumes, dimensionless, with shape (..., c); differentiable.

    Raises:
        ShapeError: If trailing axes are not (n, 3) and (c, 4).
    """
    require_trailing("x", x, (3,))
    if centres.ndim != 2 or centres.shape[-1] != 4:
        raise ShapeError("centres", tuple(centres.shape), "(c, 4): centre and three neighbours")
    points = x[..., centres, :]
    a, b, c = torch.nn.functional.normalize(points[..., 1:, :] - points[..., :1, :], dim=-1).unbind(-2)
    return (torch.linalg.cross(a, b) * c).sum(-1)
