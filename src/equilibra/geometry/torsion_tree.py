r"""Poses of a molecule whose bonds and angles do not move: a shift, a turn, and torsions about a tree of bonds.

A reference geometry y has all its torsions at zero. Atoms beyond a bond turn about it,

.. math:: x = R\,[\,y(\tau) - c(y(\tau))\,] + s, \qquad c(y) = \sum_i w_i y_i,

with the torsions :math:`\tau` (dihedral angles, IUPAC's sign), the turn R and the shift s, at which the weighted centre of the atoms is. The order in which bonds turn does not matter.

The Jacobian from Cartesian coordinates to (s, R, tau) and the frozen bonds and angles is :math:`8 \pi^2 \prod b^2 \prod \sin\theta`: it depends on neither s, R nor :math:`\tau`, whatever the point
that s is of and the fragment whose orientation R is, since each choice moves s by a function of (R, tau), and R by a rotation that is a function of tau. The product of Lebesgue, Haar and Lebesgue measure is thus
the Cartesian one for given bonds and angles.

Forces :math:`f = -\partial u / \partial x` act along the tangent vectors (left perturbation of R) as

.. math::
    f_s = \sum_i f_i, \qquad f_R = \sum_i (x_i - s) \times f_i, \qquad
    f_{\tau_k} = \sum_{i \in M_k} [a_k \times (x_i - p_k)] \cdot f_i - \Big[\sum_{i \in M_k} w_i\, a_k \times (x_i - p_k)\Big] \cdot f_s

with the unit vector :math:`a_k` of a bond, a point :math:`p_k` on it and the atoms :math:`M_k` beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TorsionTree:
    """Bonds that turn, of one molecule or of a padded batch; the first axis may be 1, for a tree that all share.

    Attributes:
        axes: Atoms (batch, torsions, 2) of each bond, the one on the side of the root first.
        moving: Atoms that move with it (batch, torsions, atoms); none for padding.
        weights: Weights (batch, atoms) of the centre, which sum to one.
    """

    axes: Tensor
    moving: Tensor
    weights: Tensor

    def centre(self, x: Tensor) -> Tensor:
        """Returns the weighted centres (batch, 3) of positions (batch, atoms, 3)."""
        return (self.weights.to(x.dtype)[..., None] * x).sum(1)

    def ends(self, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Returns the positions of both atoms of bond k, each (batch, 3), or of all bonds (batch, torsions, 3), of positions (batch, atoms, 3)."""
        axes = self.axes if k is None else self.axes[:, k : k + 1]
        index = axes.expand(len(x), -1, -1).flatten(1)[..., None].expand(-1, -1, 3)
        near, far = torch.gather(x, 1, index).unflatten(1, (-1, 2)).unbind(2)
        return (near, far) if k is None else (near[:, 0], far[:, 0])


def turned_bonds(x: Tensor, angles: Tensor, tree: TorsionTree) -> Tensor:
    """Turns the atoms beyond each bond about it.

    Arguments:
        x: Positions (batch, atoms, 3).
        angles: Angles (batch, torsions), in rad.
        tree: The bonds.
    """
    for k in range(angles.shape[1]):
        near, far = tree.ends(x, k)
        axis = _unit(far - near)[:, None]
        arm = x - far[:, None]
        cos, sin = torch.cos(angles[:, k])[:, None, None], torch.sin(angles[:, k])[:, None, None]
        along = (arm * axis).sum(-1, keepdim=True) * axis
        turned = along + cos * (arm - along) + sin * torch.linalg.cross(axis.expand_as(arm), arm)
        x = torch.where(tree.moving[:, k, :, None], far[:, None] + turned, x)
    return x


def placed(reference: Tensor, shift: Tensor, turn: Tensor, torsions: Tensor, tree: TorsionTree) -> Tensor:
    """Computes the positions (batch, atoms, 3) of poses.

    Arguments:
        reference: Geometries with all torsions at zero (batch, atoms, 3).
        shift: Where the centres are (batch, 3).
        turn: Rotations (batch, 3, 3).
        torsions: Torsions (batch, torsions), in rad.
        tree: The bonds.
    """
    y = turned_bonds(reference, torsions, tree)
    return (y - tree.centre(y)[:, None]) @ turn.transpose(-1, -2) + shift[:, None]


def pulled_back(x: Tensor, forces: Tensor, tree: TorsionTree, centre: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what forces on atoms are along shift (batch, 3), turn (batch, 3) and torsions (batch, torsions).

    Arguments:
        x: Positions (batch, atoms, 3).
        forces: Forces (batch, atoms, 3); zero on padded atoms.
        tree: The bonds.
        centre: Weighted centres (batch, 3) of the positions; computed by default.
    """
    total = forces.sum(1)
    centre = tree.centre(x) if centre is None else centre
    torque = torch.linalg.cross(x - centre[:, None], forces).sum(1)
    near, far = tree.ends(x)
    axis = _unit(far - near)
    moving = tree.moving.to(x.dtype)
    # sum of a x (x - p) . f = a . sum of (x - p) x f
    moment = moving @ torch.linalg.cross(x, forces) - torch.linalg.cross(far, moving @ forces)
    weighted = moving * tree.weights.to(x.dtype)[:, None]
    arm = weighted @ x - weighted.sum(-1, keepdim=True) * far
    carried = torch.linalg.cross(axis, arm)
    return total, torque, (axis * moment).sum(-1) - (carried * total[:, None]).sum(-1)


def tangents(x: Tensor, tree: TorsionTree) -> Tensor:
    r"""Returns how positions change with shift, turn and torsions: the Jacobian whose transpose `pulled_back` applies to forces.

    .. math::
        \frac{\partial x_i}{\partial s} = 1, \qquad \frac{\partial x_i}{\partial v} = [v \times (x_i - s)], \qquad
        \frac{\partial x_i}{\partial \tau_k} = 1_{i \in M_k}\, a_k \times (x_i - p_k) - \sum_{j \in M_k} w_j\, a_k \times (x_j - p_k)

    Arguments:
        x: Positions (batch, atoms, 3).
        tree: The bonds.

    Returns:
        Vectors (batch, 6 + torsions, atoms, 3): three of the shift, three of the turn about the global axes, and one of each torsion.
    """
    axes = torch.eye(3, dtype=x.dtype, device=x.device)[None, :, None]
    shift = axes.expand(len(x), 3, x.shape[1], 3)
    turn = torch.linalg.cross(shift, (x - tree.centre(x)[:, None])[:, None].expand_as(shift))
    near, far = tree.ends(x)
    arms = x[:, None] - far[:, :, None]
    swing = torch.linalg.cross(_unit(far - near)[:, :, None].expand_as(arms), arms) * tree.moving[..., None].to(x.dtype)
    carried = (swing * tree.weights.to(x.dtype)[:, None, :, None]).sum(2, keepdim=True)
    return torch.cat([shift, turn, swing - carried], dim=1)


def _unit(v: Tensor) -> Tensor:
    # padded bonds have no length, nor a direction
    return v / torch.sqrt((v * v).sum(-1, keepdim=True)).clamp(min=1e-12)
