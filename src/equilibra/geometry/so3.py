r"""Rotations: the group SO(3), its exponential and logarithm, geodesics and Haar samples.

A rotation is a proper orthogonal matrix that acts on columns. A tangent vector :math:`v \in \mathbb{R}^3` is a rotation
vector, angle times unit axis; :math:`\mathrm{Exp}(v) = \exp(\hat v)`. A left (global-frame) perturbation is
:math:`R \to \mathrm{Exp}(v) R`, a right (body-frame) one :math:`R \to R\,\mathrm{Exp}(v)`.

All maps are smooth wherever the mathematics is: no branch gives a NaN or a cut gradient, at the identity or at half turns.
"""

import torch

from equilibra.geometry.shapes import require_trailing
from equilibra.types import Float, Tensor

_SMALL = 1e-2
"""Below this squared angle (or squared sine) Taylor series replace quotients; the first neglected term is below rounding."""


def hat(v: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    r"""Maps a vector to the antisymmetric matrix of its cross product, :math:`\hat v w = v \times w`.

    Arguments:
        v: Vectors, with shape (..., 3).

    Returns:
        Antisymmetric matrices, with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axis is not 3.
    """
    require_trailing("v", v, (3,))
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack((o, -z, y, z, o, -x, -y, x, o), dim=-1).unflatten(-1, (3, 3))


def vee(m: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    r"""Maps a matrix to the vector of its antisymmetric part; the inverse of `hat`.

    Arguments:
        m: Matrices, with shape (..., 3, 3); the symmetric part is ignored.

    Returns:
        Vectors :math:`v` with :math:`\hat v = (m - m^\top)/2`, with shape (..., 3).

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("m", m, (3, 3))
    a = (m - m.transpose(-1, -2)) / 2
    return torch.stack((a[..., 2, 1], a[..., 0, 2], a[..., 1, 0]), dim=-1)


def _hat_squared(v: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """Returns the square of `hat`, v vᵀ - |v|² I, without a matrix product that autocast would round."""
    identity = torch.eye(3, dtype=v.dtype, device=v.device)
    return v[..., :, None] * v[..., None, :] - v.square().sum(-1)[..., None, None] * identity


def exp(v: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    r"""Rotates by a rotation vector (Rodrigues' formula).

    .. math:: \mathrm{Exp}(v) = I + \frac{\sin\theta}{\theta} \hat v + \frac{1 - \cos\theta}{\theta^2} \hat v^2, \qquad \theta = |v|

    Arguments:
        v: Rotation vectors, with shape (..., 3), in radians; any length.

    Returns:
        Rotation matrices, with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axis is not 3.
    """
    k = hat(v)
    t = v.square().sum(-1)
    small = t < _SMALL
    theta = torch.where(small, torch.ones_like(t), t).sqrt()
    a_series = 1 - t / 6 * (1 - t / 20 * (1 - t / 42 * (1 - t / 72)))
    b_series = (1 - t / 12 * (1 - t / 30 * (1 - t / 56 * (1 - t / 90)))) / 2
    a = torch.where(small, a_series, theta.sin() / theta)
    b = torch.where(small, b_series, 2 * ((theta / 2).sin() / theta).square())
    return torch.eye(3, dtype=v.dtype, device=v.device) + a[..., None, None] * k + b[..., None, None] * _hat_squared(v)


def exp_inverse_differential(u: Float[Tensor, "... 3"], v: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    r"""Finds the velocity of a rotation vector from the global-frame angular velocity of its rotation.

    If :math:`R = \mathrm{Exp}(u) R_0` turns as :math:`\dot R = \hat v R`, then with :math:`\theta = |u|`

    .. math:: \dot u = v - \tfrac12 u \times v + \frac{1}{\theta^2}\Big(1 - \frac{\theta}{2} \cot\frac{\theta}{2}\Big) u \times (u \times v)

    Arguments:
        u: Rotation vectors shorter than a full turn, with shape (..., 3), in radians.
        v: Angular velocities, with shape (..., 3).

    Returns:
        The velocities of the rotation vectors, with shape (..., 3).
    """
    t = u.square().sum(-1, keepdim=True)
    small = t < _SMALL
    half = torch.where(small, torch.ones_like(t), t).sqrt() / 2
    series = (1 + t / 60 * (1 + t / 42 * (1 + t / 40))) / 12
    second = torch.where(small, series, (1 - half * half.cos() / half.sin()) / (4 * half.square()))
    across = torch.linalg.cross(u, v)
    return v - across / 2 + second * torch.linalg.cross(u, across)


def to_quaternion(r: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 4"]:
    r"""Converts rotations to unit quaternions (w, x, y, z) with :math:`w \ge 0`.

    The matrix :math:`4 q q^\top` is linear in the rotation; its row with the largest diagonal, normalised, is :math:`\pm q`.
    That row is at least 2 long, so values and gradients are accurate for every rotation.

    Arguments:
        r: Rotation matrices, with shape (..., 3, 3).

    Returns:
        Unit quaternions, with shape (..., 4).

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("r", r, (3, 3))
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in r.unbind(-2))
    outer = torch.stack(
        (
            1 + a + e + i, h - f, c - g, d - b,
            h - f, 1 + a - e - i, b + d, c + g,
            c - g, b + d, 1 - a + e - i, f + h,
            d - b, c + g, f + h, 1 - a - e + i,
        ),
        dim=-1,
    ).unflatten(-1, (4, 4))  # fmt: skip
    best = outer.detach().diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = row / row.square().sum(-1, keepdim=True).sqrt()
    return torch.where(q[..., :1] < 0, -q, q)


def from_quaternion(q: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3 3"]:
    """Converts quaternions (w, x, y, z) to rotations.

    Arguments:
        q: Quaternions of any length but zero, with shape (..., 4); q and -q give the same rotation.

    Returns:
        Rotation matrices, with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axis is not 4.
    """
    require_trailing("q", q, (4,))
    q = q / q.square().sum(-1, keepdim=True).sqrt()
    k = hat(q[..., 1:])
    return torch.eye(3, dtype=q.dtype, device=q.device) + 2 * q[..., :1, None] * k + 2 * _hat_squared(q[..., 1:])


def log(r: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    r"""Finds the rotation vector of a rotation, with angle in :math:`[0, \pi]`; the inverse of `exp`.

    Computed from the quaternion as :math:`2\,\mathrm{atan2}(|\mathbf{q}|, w)\,\mathbf{q}/|\mathbf{q}|`, accurate with
    finite gradients everywhere. At half turns the two axes are equally right and one of them is returned.

    Arguments:
        r: Rotation matrices, with shape (..., 3, 3).

    Returns:
        Rotation vectors, with shape (..., 3), in radians.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    q = to_quaternion(r)
    w, u = q[..., 0], q[..., 1:]
    t = u.square().sum(-1)
    small = t < _SMALL
    s = torch.where(small, torch.ones_like(t), t).sqrt()
    series = 2 * (1 + t * (1 / 6 + t * (3 / 40 + t * (5 / 112 + t * (35 / 1152 + t * (63 / 2816 + t * 231 / 13312))))))
    ratio = torch.where(small, series, 2 * torch.atan2(s, w) / s)
    return ratio[..., None] * u


def angle(r: Float[Tensor, "... 3 3"]) -> Float[Tensor, "..."]:
    r"""Computes the rotation angle :math:`\omega \in [0, \pi]`.

    Arguments:
        r: Rotation matrices, with shape (..., 3, 3).

    Returns:
        Angles, with shape (...), in radians. At the identity, where the angle has a cone, the gradient is zero.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    return torch.linalg.vector_norm(log(r), dim=-1)


def uniform(
    shape: tuple[int, ...],
    *,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "... 3 3"]:
    """Draws rotations from the uniform (Haar) law.

    Arguments:
        shape: The leading axes of the result.
        generator: The only source of randomness; numbers are drawn on its device.
        dtype: The dtype of the result; torch's default if not given.
        device: The device of the result; the generator's if not given.

    Returns:
        Rotation matrices, with shape (*shape, 3, 3).
    """
    q = torch.randn((*shape, 4), generator=generator, dtype=dtype, device=generator.device)
    return from_quaternion(q.to(device or generator.device))


def geodesic(
    r0: Float[Tensor, "... 3 3"], r1: Float[Tensor, "... 3 3"], s: Float[Tensor, "..."] | float
) -> Float[Tensor, "... 3 3"]:
    r"""Moves along the shortest rotation from one orientation to another.

    .. math:: R_s = \mathrm{Exp}(s\,\mathrm{Log}(R_1 R_0^\top))\,R_0

    Arguments:
        r0: The orientation at s = 0, with shape (..., 3, 3).
        r1: The orientation at s = 1, with shape (..., 3, 3). If it is half a turn away, the direction is arbitrary.
        s: The fraction of the way, broadcast against the leading axes; values outside [0, 1] extrapolate.

    Returns:
        Orientations on the path, with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("r0", r0, (3, 3))
    require_trailing("r1", r1, (3, 3))
    v = log(r1 @ r0.transpose(-1, -2))
    return exp(torch.as_tensor(s, dtype=v.dtype, device=v.device)[..., None] * v) @ r0
