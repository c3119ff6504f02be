r"""Attention with a pair bias that also gathers vectors, and the layer around this or another attention."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from equilibra.nn.distance import full_precision_product
from equilibra.nn.normalisation import LayerNorm


class GeometricAttention(nn.Module):
    r"""Multi-head attention whose weights average values and relative positions.

    .. math::
        a_{ij} = \mathrm{softmax}_j\big(q_i \cdot k_j / \sqrt{d} + b_{ij}\big), \qquad
        \text{out}_i = W \big[\textstyle\sum_j a_{ij} v_j,\; |u_i|,\; u^h_i \cdot u^{h+1}_i,\; u^h_i \cdot (u^{h+1}_i \times u^{h+2}_i)\big],
        \qquad u_i = \sum_j a_{ij} r_{ij}

    per head h. The triple products change sign under reflection, so that the layer is invariant under rotations but sees handedness.

    Arguments:
        dim: Width of the tokens.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim + 3 * heads, dim)

    def forward(self, h: Tensor, bias: Tensor, vectors: Tensor) -> Tensor:
        """Returns the update of the tokens.

        Arguments:
            h: Tokens (batch, tokens, dim).
            bias: Attention bias (batch, heads, tokens, tokens); minus infinity at padded keys.
            vectors: Relative positions (batch, tokens, tokens, 3), bounded in length.
        """
        batch, tokens, dim = h.shape
        q, k, v = self.qkv(h).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.gathered(q, k, v, bias, vectors)

    def gathered(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, vectors: Tensor) -> Tensor:
        """Returns the update of tokens with the queries q, from others with the keys k and values v, each (batch, heads, tokens, width)."""
        batch, _, tokens, width = q.shape
        dim = self.heads * width
        logits = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(width) + bias
        weights = torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        values = torch.matmul(weights.to(v.dtype), v).transpose(1, 2).reshape(batch, tokens, dim)
        u = full_precision_product(weights.permute(0, 2, 1, 3), vectors)  # (batch, tokens, heads, 3)
        following, after = u.roll(-1, dims=2), u.roll(-2, dims=2)
        norm = torch.sqrt((u * u).sum(-1) + 1e-8)
        dot = (u * following).sum(-1)
        triple = (u * torch.linalg.cross(following, after)).sum(-1)
        return self.out(torch.cat([values, norm.to(v.dtype), dot.to(v.dtype), triple.to(v.dtype)], dim=-1))


class GraphormerLayer(nn.Module):
    """Pre-norm transformer layer, modulated by the noise level.

    Arguments:
        dim: Width of the tokens.
        expansion: Width of the feed-forward network in units of `dim`.
        attention: Called with tokens (batch, tokens, dim), the attention bias (batch, heads, tokens, tokens) and what it reads of the geometry;
            returns the update of the tokens.
    """

    def __init__(self, dim: int, expansion: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm_attention = LayerNorm(dim, elementwise_affine=False)
        self.norm_feedforward = LayerNorm(dim, elementwise_affine=False)
        self.attention = attention
        self.feedforward = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(approximate="tanh"), nn.Linear(expansion * dim, dim)
        )
        self.modulation = nn.Linear(dim, 6 * dim)
        # layers start as the identity, which keeps deep stacks stable without warm-up tricks
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.modulation.bias[2 * dim : 3 * dim] = 0.2
            self.modulation.bias[5 * dim :] = 0.2

    def forward(self, h: Tensor, noise: Tensor, bias: Tensor, geometry: Any) -> Tensor:
        """Returns the tokens (batch, tokens, dim) after the layer, for a noise embedding (batch, dim) and the geometry of its attention."""
        scale_a, shift_a, gate_a, scale_f, shift_f, gate_f = self.modulation(noise)[:, None, :].chunk(6, dim=-1)
        h = h + gate_a * self.attention(self.norm_attention(h) * (1 + scale_a) + shift_a, bias, geometry)
        return h + gate_f * self.feedforward(self.norm_feedforward(h) * (1 + scale_f) + shift_f)
