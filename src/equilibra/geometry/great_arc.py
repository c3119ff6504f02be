"""Great arcs between Gaussian points: interpolation that stays on the shell where a high-dimensional Gaussian lives."""

import torch

from equilibra.types import Tensor


def slerp(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    r"""Interpolates on a great arc, with the norms interpolated linearly.

    .. math:: z_\eta = |z|_\eta \, \frac{\sin((1-\eta)\Omega)\, \hat z_A + \sin(\eta\Omega)\, \hat z_B}{\sin\Omega}

    A straight line between two independent Gaussian points leaves the shell where the distribution lives: its mid-point has the norm
    :math:`\sqrt{D/2}` instead of :math:`\sqrt D`. Norms and angle are taken over all axes but the first.
    """
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    norm_a, norm_b = flat_a.norm(dim=1), flat_b.norm(dim=1)
    # a point at the origin has no direction, and needs none
    tiny = torch.finfo(a.dtype).tiny
    unit_a, unit_b = flat_a / norm_a.clamp(min=tiny)[:, None], flat_b / norm_b.clamp(min=tiny)[:, None]
    omega = torch.arccos((unit_a * unit_b).sum(1).clamp(-1.0, 1.0))
    parallel = omega.sin().abs() < 1e-6
    safe = torch.where(parallel, torch.ones_like(omega), omega)
    weight_a = torch.where(parallel, torch.full_like(omega, 1.0 - fraction), ((1.0 - fraction) * safe).sin() / safe.sin())
    weight_b = torch.where(parallel, torch.full_like(omega, fraction), (fraction * safe).sin() / safe.sin())
    direction = weight_a[:, None] * unit_a + weight_b[:, None] * unit_b
    norm = (1.0 - fraction) * norm_a + fraction * norm_b
    return (norm[:, None] * direction).reshape(a.shape)
