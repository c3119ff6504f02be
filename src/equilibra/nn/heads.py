r"""Output heads: equivariant vectors from invariant features."""

import torch
from torch import Tensor, nn

from equilibra.nn.distance import full_precision_product


class VectorHead(nn.Module):
    r"""Equivariant vector output of every token.

    .. math::
        w_{ij} = W_2\, \mathrm{silu}(z_{ij} + A h_i + B h_j), \qquad v^c_i = \sum_j w^c_{ij} r_{ij}, \qquad
        F_i = \sum_c \alpha_c(h_i)\, v^c_i + \sum_c \beta_c(h_i)\, v^c_i \times v^{c+1}_i

    The cross products make the output proper-rotation equivariant only: reflected input does not give reflected output.

    Arguments:
        dim: Width of the tokens.
        pair_dim: Width of the pair features.
        channels: Number of vector channels.
    """

    def __init__(self, dim: int, pair_dim: int, channels: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(dim, pair_dim)
        self.sender = nn.Linear(dim, pair_dim, bias=False)
        self.weights = nn.Linear(pair_dim, channels)
        self.mixing = nn.Linear(dim, 2 * channels)
        self.channels = channels
        with torch.no_grad():
            self.weights.weight.mul_(0.3)

    def forward(self, h: Tensor, z: Tensor, vectors: Tensor, pair_mask: Tensor) -> Tensor:
        """Returns vectors (batch, tokens, 3), in full precision.

        Arguments:
            h: Tokens (batch, tokens, dim).
            z: Pair features (batch, tokens, tokens, pair_dim).
            vectors: Relative positions (batch, tokens, tokens, 3).
            pair_mask: 1 for pairs of real, different tokens, 0 elsewhere (batch, tokens, tokens).
        """
        hidden = torch.nn.functional.silu(z + self.receiver(h)[:, :, None] + self.sender(h)[:, None, :])
        w = self.weights(hidden).to(vectors.dtype) * pair_mask[..., None]
        v = full_precision_product(w.transpose(-1, -2), vectors)  # (batch, tokens, channels, 3)
        alpha, beta = self.mixing(h).to(vectors.dtype).chunk(2, dim=-1)
        cross = torch.linalg.cross(v, v.roll(-1, dims=2))
        return (alpha[..., None] * v + beta[..., None] * cross).sum(2)
