r"""Output heads of energies: one number per system, a smooth function of invariant features."""

import torch
from torch import Tensor, nn


class ScalarHead(nn.Module):
    r"""Potential of a system, a sum over tokens and over pairs.

    .. math::
        f = \sum_i \mathrm{MLP}_1(h_i) + \sum_{i \ne j} w^T \mathrm{silu}\big(W\, \mathrm{silu}(z_{ij} + A h_i + B h_j)\big)

    All functions are smooth: the gradient of f is a field of forces that can be differentiated again. Constants that do not depend on
    the positions are left to `OffsetHead`.

    Arguments:
        dim: Width of the tokens.
        pair_dim: Width of the pair features.
    """

    def __init__(self, dim: int, pair_dim: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(dim, pair_dim)
        self.sender = nn.Linear(dim, pair_dim, bias=False)
        last = [nn.Linear(width, 1, bias=False) for width in (pair_dim, dim)]
        self.pair = nn.Sequential(nn.Linear(pair_dim, pair_dim), nn.SiLU(), last[0])
        self.token = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), last[1])
        with torch.no_grad():
            # the sums are long: a fresh potential has a gradient well below one
            for layer in last:
                layer.weight.mul_(0.1)

    def forward(self, h: Tensor, z: Tensor, mask: Tensor, pair_mask: Tensor) -> Tensor:
        """Returns the potential (batch,), summed in full precision.

        Arguments:
            h: Tokens (batch, tokens, dim).
            z: Pair features (batch, tokens, tokens, pair_dim).
            mask: 1 for real tokens, 0 for padding (batch, tokens).
            pair_mask: 1 for pairs of real, different tokens, 0 elsewhere (batch, tokens, tokens).
        """
        hidden = nn.functional.silu(z + self.receiver(h)[:, :, None] + self.sender(h)[:, None, :])
        pairs = self.pair(hidden)[..., 0].to(pair_mask.dtype) * pair_mask
        tokens = self.token(h)[..., 0].to(pair_mask.dtype) * mask
        return tokens.sum(1) + pairs.sum((1, 2))


class OffsetHead(nn.Module):
    r"""Constant of a system at a noise level, :math:`b = \sum_i \mathrm{MLP}(n_i + e)`, of the embedded kinds of its tokens and of the noise.

    It does not depend on the positions, and starts at zero.

    Arguments:
        dim: Width of the embeddings.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 1))
        nn.init.zeros_(self.network[3].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.network[3].bias)  # type: ignore[arg-type]

    def forward(self, nodes: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
        """Returns the offset (batch,) of embedded tokens (batch or 1, tokens, dim), noise (batch, dim) and mask (batch or 1, tokens)."""
        return (self.network(nodes + noise[:, None, :])[..., 0].to(mask.dtype) * mask).sum(1)
