r"""Optimal rigid superposition of point sets, and the RMSD that remains.

Rotations are proper: mirror images are different molecules and are never superposed by a reflection.

References:
    | A solution for the best rotation to relate two sets of vectors (Kabsch, 1976), https://doi.org/10.1107/S0567739476001873
"""

import torch

from equilibra.errors import ShapeError
from equilibra.geometry import so3
from equilibra.geometry.shapes import require_trailing
from equilibra.types import Bool, Float, Tensor


def _weights(
    x: Float[Tensor, "... n 3"], mask: Bool[Tensor, "... n"] | None, weights: Float[Tensor, "... n"] | None = None
) -> Float[Tensor, "... n 1"]:
    for name, given in (("mask", mask), ("weights", weights)):
        if given is not None and given.shape[-1:] != x.shape[-2:-1]:
            raise ShapeError(name, tuple(given.shape), f"(..., {x.shape[-2]}), one entry per point")
    w = x.new_ones(x.shape[-2]) if weights is None else weights.to(x.dtype)
    return (w if mask is None else torch.where(mask, w, torch.zeros_like(w)))[..., None]


def _masked(x: Float[Tensor, "... n 3"], mask: Bool[Tensor, "... n"] | None) -> Float[Tensor, "... n 3"]:
    return x if mask is None else torch.where(mask[..., None], x, torch.zeros_like(x))


def _mean(x: Float[Tensor, "... n 3"], mask: Bool[Tensor, "... n"] | None) -> Float[Tensor, "... 1 3"]:
    if mask is None:
        return x.mean(-2, keepdim=True)
    count = mask.sum(-1).clamp(min=1)[..., None, None]
    return _masked(x, mask).sum(-2, keepdim=True) / count


def centre(x: Float[Tensor, "... n 3"], mask: Bool[Tensor, "... n"] | None = None) -> Float[Tensor, "... n 3"]:
    r"""Projects on the mean-free subspace, :math:`P x = x - \frac1n \sum_i x_i`.

    Arguments:
        x: Points, with shape (..., n, 3).
        mask: Which points exist; all if not given.

    Returns:
        Points whose mean over the existing ones is zero; points that do not exist are zero. Shape (..., n, 3).

    Raises:
        ShapeError: If trailing axes are not (n, 3) and (n).
    """
    require_trailing("x", x, (3,))
    _weights(x, mask)
    return _masked(x - _mean(x, mask), mask)


def kabsch(
    x: Float[Tensor, "... n 3"],
    y: Float[Tensor, "... n 3"],
    mask: Bool[Tensor, "... n"] | None = None,
    weights: Float[Tensor, "... n"] | None = None,
) -> Float[Tensor, "... 3 3"]:
    r"""Finds the proper rotation about the origin that brings one point set closest to another.

    .. math:: R = \arg\min_{R \in SO(3)} \sum_i w_i |R x_i - y_i|^2

    The gradient is that of the minimiser itself, by implicit differentiation; it is finite for symmetric, planar and linear sets too,
    where the gradient of a singular value decomposition is not. First derivatives only.

    Arguments:
        x: Points to rotate, with shape (..., n, 3); centre them first if translations are free.
        y: Targets, with shape (..., n, 3).
        mask: Which points count; all if not given. The others may hold anything.
        weights: Non-negative weights, with shape (..., n); one if not given.

    Returns:
        Rotation matrices that act on columns (on rows, ``x @ R.mT``), with shape (..., 3, 3). If the minimiser is not unique, one of them.

    Raises:
        ShapeError: If trailing axes are not (n, 3) and (n).
    """
    require_trailing("x", x, (3,))
    require_trailing("y", y, tuple(x.shape[-2:]))
    w = _weights(x, mask, weights)
    covariance = (w * _masked(y, mask)).transpose(-1, -2) @ _masked(x, mask)
    with torch.no_grad():
        u, s, vh = torch.linalg.svd(covariance)
        sign = torch.where(torch.linalg.det(u @ vh) < 0, -1.0, 1.0).to(s.dtype)
        flip = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), dim=-1)
        r = (u * flip[..., None, :]) @ vh
    if not covariance.requires_grad:
        return r
    with torch.no_grad():
        # The optimum makes K = Rᵀ covariance = V S Vᵀ symmetric. A change dK turns R by ω = (tr K - K)⁻¹ 2 vee(dK); the inverse has
        # eigenvalues 1/(s_j + s_k), and zero where a turn about the axis changes nothing.
        s = s * flip
        pairs = s.sum(-1, keepdim=True) - s
        floor = 8 * torch.finfo(s.dtype).eps * s.abs().amax(-1, keepdim=True)
        stiff = pairs > floor
        inverse = torch.where(stiff, 1 / torch.where(stiff, pairs, torch.ones_like(pairs)), torch.zeros_like(pairs))
        response = vh.transpose(-1, -2) @ (inverse[..., None] * vh)
    k = r.transpose(-1, -2) @ covariance
    turn = (response @ (2 * so3.vee(k - k.detach()))[..., None]).squeeze(-1)
    return r @ so3.exp(turn)


def superpose(
    x: Float[Tensor, "... n 3"], reference: Float[Tensor, "... n 3"], mask: Bool[Tensor, "... n"] | None = None
) -> Float[Tensor, "... n 3"]:
    """Moves point sets rigidly onto a reference so that the RMSD is smallest.

    Arguments:
        x: Points to move, with shape (..., n, 3), in Å.
        reference: Targets, with shape (..., n, 3), in Å.
        mask: Which points decide the motion; all if not given. Every point is moved, the others too.

    Returns:
        The moved points, with shape (..., n, 3), in Å; differentiable.

    Raises:
        ShapeError: If trailing axes are not (n, 3) and (n).
    """
    require_trailing("x", x, (3,))
    require_trailing("reference", reference, tuple(x.shape[-2:]))
    _weights(x, mask)
    moved, target = _mean(x, mask), _mean(reference, mask)
    r = kabsch(x - moved, reference - target, mask)
    return (x - moved) @ r.transpose(-1, -2) + target


def rmsd(
    x: Float[Tensor, "... n 3"], y: Float[Tensor, "... n 3"], mask: Bool[Tensor, "... n"] | None = None
) -> Float[Tensor, "..."]:
    r"""Computes the root mean square deviation after optimal superposition.

    .. math:: \min_{R \in SO(3),\, c} \sqrt{\frac1n \sum_i |R x_i + c - y_i|^2}

    Arguments:
        x: Points, with shape (..., n, 3), in Å.
        y: Points, with shape (..., n, 3), in Å.
        mask: Which points count; all if not given.

    Returns:
        The deviation, with shape (...), in Å. Differentiable; zero gradient where it is zero.

    Raises:
        ShapeError: If trailing axes are not (n, 3) and (n).
    """
    require_trailing("x", x, (3,))
    require_trailing("y", y, tuple(x.shape[-2:]))
    _weights(x, mask)
    x, y = _masked(x - _mean(x, mask), mask), _masked(y - _mean(y, mask), mask)
    # At the minimum the derivative through the rotation vanishes.
    r = kabsch(x.detach(), y.detach(), mask)
    deviation = _masked(x @ r.transpose(-1, -2) - y, mask)
    count = x.shape[-2] if mask is None else mask.sum(-1).clamp(min=1)
    return torch.linalg.vector_norm(deviation, dim=(-2, -1)) / torch.as_tensor(count, dtype=x.dtype, device=x.device).sqrt()
