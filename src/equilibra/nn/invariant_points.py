r"""Invariant point attention: tokens with local frames attend by distances between points that their frames carry.

Reference: Jumper et al. (2021), https://doi.org/10.1038/s41586-021-03819-2, Supplementary Methods 1.8.2, algorithm 22.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from equilibra.nn.distance import full_precision_product, safe_norm


class FrameGeometry(NamedTuple):
    """What invariant point attention reads of the geometry.

    Attributes:
        trans: Origins of the frames (batch, tokens, 3), near zero, so that differences of squares keep their digits.
        rot: Rotations from local to global coordinates (batch, tokens, 3, 3).
        pairs: Pair values (batch, tokens, tokens, pair_value) that the attention averages.
    """

    trans: Tensor
    rot: Tensor
    pairs: Tensor


class InvariantPointAttention(nn.Module):
    r"""Multi-head attention whose weights fall off with the distance of learned points.

    .. math::
        a_{ij} = \mathrm{softmax}_j\Big(\frac{q_i \cdot k_j}{\sqrt d} + b_{ij} - \frac{\gamma\, w}{2} \sum_p |T_i q_i^p - T_j k_j^p|^2\Big), \qquad
        o_i^p = T_i^{-1} \sum_j a_{ij} T_j v_j^p

    per head, with :math:`T x = R x + t`, :math:`w = \sqrt{2 / 9P}` and a learned :math:`\gamma > 0`; the output is a linear function of
    :math:`\sum_j a_{ij} v_j`, :math:`o_i^p`, :math:`|o_i^p|` and :math:`\sum_j a_{ij} z_{ij}`. It is invariant under rotations and shifts of all
    frames, and not under reflections, which turn frames into no frames.

    Squared distances are expanded, :math:`|x - y|^2 = |x|^2 + |y|^2 - 2 x \cdot y`; the first term is the same for all j and drops out of the
    softmax, so that the points add a few columns to one product of queries and keys. It is taken in full precision also under autocast.

    Arguments:
        dim: Width of the tokens.
        heads: Number of heads.
        points: Query points and key points per head; twice as many value points.
        pair_value: Width of the pair values.
    """

    def __init__(self, dim: int, heads: int, points: int, pair_value: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.local_points = nn.Linear(dim, heads * 4 * points * 3)
        # heads start with ranges of their own: gamma from 1 to 16
        gamma = torch.logspace(0.0, 4.0, heads, base=2.0)
        self.strength = nn.Parameter(gamma + torch.log(-torch.expm1(-gamma)))
        self.out = nn.Linear(dim + heads * (2 * points * 4 + pair_value), dim)

    def forward(self, h: Tensor, bias: Tensor, geometry: FrameGeometry) -> Tensor:
        """Returns the update of the tokens.

        Arguments:
            h: Tokens (batch, tokens, dim).
            bias: Attention bias (batch, heads, tokens, tokens); minus infinity at padded keys.
            geometry: Frames and pair values.
        """
        trans, rot, pairs = geometry
        batch, tokens, dim = h.shape
        width = dim // self.heads
        q, k, v = self.qkv(h).reshape(batch, tokens, 3, self.heads, width).permute(2, 0, 3, 1, 4).to(trans.dtype)
        local = self.local_points(h).reshape(batch, tokens, -1, 3)
        placed = full_precision_product(local, rot.transpose(-1, -2)) + trans[:, :, None, :]
        placed = placed.reshape(batch, tokens, self.heads, 12 * self.points).transpose(1, 2)
        q_points, k_points, v_points = placed.split([3 * self.points, 3 * self.points, 6 * self.points], dim=-1)
        falloff = nn.functional.softplus(self.strength).to(trans.dtype)[:, None, None] * math.sqrt(2.0 / (9.0 * self.points))
        k_squared = -0.5 * falloff * k_points.square().sum(-1, keepdim=True)
        queries = torch.cat([q / math.sqrt(width), falloff * q_points, torch.ones_like(k_squared)], dim=-1)
        keys = torch.cat([k, k_points, k_squared], dim=-1)
        weights = torch.softmax(full_precision_product(queries, keys.transpose(-1, -2)) + bias, dim=-1)
        gathered = full_precision_product(weights, torch.cat([v, v_points], dim=-1)).transpose(1, 2)
        values = gathered[..., :width].reshape(batch, tokens, dim)
        points = gathered[..., width:].reshape(batch, tokens, -1, 3) - trans[:, :, None, :]
        points = full_precision_product(points, rot)  # the inverse rotation, on rows
        pooled = full_precision_product(weights.transpose(1, 2), pairs).flatten(2)
        parts = [values, points.flatten(2), safe_norm(points), pooled]
        return self.out(torch.cat([part.to(h.dtype) for part in parts], dim=-1))
