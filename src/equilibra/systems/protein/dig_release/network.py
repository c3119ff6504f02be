r"""The network of the released protein model, written anew from its description.

Tokens are residues. Pair features are embedded once and stay as they are through all layers, so that what depends on them alone is computed once
for a protein (`PairContext`) and serves every layer, every sample and every level of noise:

.. math::
    z_{ij} = W_2\, \mathrm{LN}(\text{pair}_{ij}) + b_{\text{bucket}(i - j)}, \qquad \text{bias}^{l}_{ij} = W^l z_{ij} / \sqrt 3 .

The sum of projected pairs is taken in the order :math:`\sum_j a_{ij} (W z_{ij}) = W \sum_j a_{ij} z_{ij}`: no array of the size
:math:`L^2 d` per layer is ever made.

References:
    | Zheng et al. (2023), https://arxiv.org/abs/2306.05445; invariant point attention: Jumper et al. (2021), algorithm 22
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from equilibra.nn.normalisation import LayerNorm

TILE = 2**19
"""Elements of an array of logits that are worked on at once without a compiler: they stay in the processor's cache."""

EXACT_BUCKETS, FAR = 16, 128
"""Sequence separations with a bucket of their own, and the one from which on all share the last."""


@dataclass(frozen=True, kw_only=True)
class DigReleaseConfig:
    """Sizes of the network; the defaults are those of the published weights (81.9 million).

    Attributes:
        dim: Width of the tokens.
        pair_dim: Width of the embedded pairs.
        layers: Number of layers.
        heads: Number of heads.
        feed_forward: Inner width of the feed-forward parts.
        extra_node: Width of the residues' features: AlphaFold 2's single representation.
        extra_pair: Width of the pairs' features: AlphaFold 2's pair representation.
        points: Query points, and key points, of a head.
        value_points: Value points of a head.
        buckets: Buckets of the sequence separation, half of them for each sign.
    """

    dim: int = 768
    pair_dim: int = 256
    layers: int = 12
    heads: int = 32
    feed_forward: int = 1024
    extra_node: int = 384
    extra_pair: int = 128
    points: int = 4
    value_points: int = 8
    buckets: int = 64


@dataclass(frozen=True)
class PairContext:
    """What depends on the features alone: valid for all samples and levels of one protein, or row by row for a batch of proteins.

    Attributes:
        tokens: Embedded residues (rows, L, dim), without the level of noise; rows is 1 where one protein serves all samples.
        pairs: Embedded pairs (rows, L, L, pair_dim).
        biases: Attention bias of each layer (layers, rows, heads, L, L).
    """

    tokens: Tensor
    pairs: Tensor
    biases: Tensor


def separation_buckets(length: int, buckets: int) -> Tensor:
    r"""Returns the bucket (L, L) of the separation n = i - j of each pair of residues.

    Negative n use the second half. With m = |n|: m itself below 16, else
    :math:`16 + \lfloor 16 \ln(m/16) / \ln(128/16) \rfloor`, at most the last of the half.
    """
    index = torch.arange(length)
    n = index[:, None] - index[None, :]
    half = buckets // 2
    m = n.abs()
    far = torch.log(m.clamp(min=1).double() / EXACT_BUCKETS) / math.log(FAR / EXACT_BUCKETS) * (half - EXACT_BUCKETS)
    bucket = torch.where(m < EXACT_BUCKETS, m, (EXACT_BUCKETS + far.floor().long()).clamp(max=half - 1))
    return bucket + half * (n < 0)


def step_embedding(step: Tensor, dim: int) -> Tensor:
    r"""Returns the embedding (batch, dim) of the release's step: sines, then cosines, of step times :math:`e^{-k \ln(10^4) / (d/2 - 1)}`."""
    k = torch.arange(dim // 2, dtype=step.dtype, device=step.device)
    angle = step[:, None] * torch.exp(-k * (math.log(10000.0) / (dim // 2 - 1)))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class FrameAttention(nn.Module):
    r"""Attention between residues by features, by distances of points fixed to their frames, and by pairs.

    .. math::
        a_{ij} = \mathrm{softmax}_j\Big(\frac{q_i \cdot k_j}{\sqrt{3 d}} - \frac{w_h}{2} \sum_p |R_i p^q_i + t_i - R_j p^k_j - t_j| + \text{bias}_{ij}\Big)

    per head h, with the distance, not its square, and :math:`w_h = \mathrm{softplus}(\gamma_h) / \sqrt{54}` for four points. Averaged are values, value points
    (seen from the frame i, with their norms) and pairs.

    Arguments:
        config: Sizes.
    """

    def __init__(self, config: DigReleaseConfig) -> None:
        super().__init__()
        dim, heads = config.dim, config.heads
        self.config = config
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.query_points = nn.Linear(dim, heads * config.points * 3, bias=False)
        self.key_points = nn.Linear(dim, heads * config.points * 3, bias=False)
        self.value_points = nn.Linear(dim, heads * config.value_points * 3, bias=False)
        self.point_weight = nn.Parameter(torch.zeros(heads))
        self.pair_bias = nn.Linear(config.pair_dim, heads, bias=False)
        self.pair_value = nn.Linear(config.pair_dim, dim, bias=False)
        self.out = nn.Linear(2 * dim + 4 * heads * config.value_points, dim)

    def bias(self, pairs: Tensor) -> Tensor:
        """Returns the attention bias (rows, heads, L, L) of embedded pairs."""
        return (self.pair_bias(pairs) / math.sqrt(3.0)).permute(0, 3, 1, 2)

    def forward(self, h: Tensor, pairs: Tensor, bias: Tensor, trans: Tensor, rot: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the update (batch, L, dim) of the tokens.

        Arguments:
            h: Tokens (batch, L, dim).
            pairs: Embedded pairs (rows, L, L, pair_dim), rows 1 or batch.
            bias: Attention bias (rows, heads, L, L).
            trans: C-alpha positions (batch, L, 3) in Å.
            rot: Rotations (batch, L, 3, 3), local to global.
            mask: Real residues (rows, L), or None where all are.
        """
        batch, length, dim = h.shape
        heads, width = self.config.heads, dim // self.config.heads
        query, key, value = (
            f(h).reshape(batch, length, heads, width).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        query = query * (3.0 * width) ** -0.5
        query_points, key_points, value_points = (
            self._global(f(h), trans, rot) for f in (self.query_points, self.key_points, self.value_points)
        )
        # distances are judged in full precision: a coordinate of 100 Å has no digits left in bf16
        values = torch.cat([value.to(value_points.dtype), value_points.permute(1, 2, 4, 3, 0).flatten(3)], dim=3)
        weight = functional.softplus(self.point_weight)[:, None, None].to(trans.dtype) / math.sqrt(13.5 * self.config.points)
        averages, gathered = [], []
        for rows in self._tiles(batch, length):
            logits = torch.matmul(query[:, :, rows], key.transpose(-1, -2)) + bias[:, :, rows]
            distance = self._distances(query_points[..., rows], key_points)
            logits = torch.addcmul(logits.to(distance.dtype), distance, weight, value=-0.5)
            if mask is not None:
                logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
            attention = torch.softmax(logits, dim=-1)
            with torch.autocast(h.device.type, enabled=False):
                averages.append(torch.matmul(attention, values))
            gathered.append(self._pair_values(self._pair_averages(attention, pairs[:, rows])))
        average, pair = torch.cat(averages, dim=2).transpose(1, 2), torch.cat(gathered, dim=1)
        local = self._local(average[..., width:].unflatten(-1, (-1, 3)), trans, rot)
        parts = (average[..., :width], local, pair, torch.linalg.vector_norm(local, dim=-1))
        return self.out(torch.cat([part.flatten(2).to(h.dtype) for part in parts], dim=-1))

    def _tiles(self, batch: int, length: int) -> list[slice]:
        """Returns the blocks of queries that are worked on one after the other; one where a compiler joins the passes anyway."""
        rows = length if torch.compiler.is_compiling() else max(1, TILE // (batch * self.config.heads * length))
        return [slice(start, min(start + rows, length)) for start in range(0, length, rows)]

    def _global(self, points: Tensor, trans: Tensor, rot: Tensor) -> Tensor:
        """Takes points (batch, L, heads * points * 3) from the frames to global coordinates (3, batch, heads, points, L)."""
        local = points.to(trans.dtype).reshape(*points.shape[:2], self.config.heads, -1, 3).permute(4, 0, 2, 3, 1).contiguous()
        rot, trans = rot.permute(2, 3, 0, 1)[:, :, :, None, None, :], trans.permute(2, 0, 1)[:, :, None, None, :]
        rotated = [
            rot[axis, 0] * local[0] + rot[axis, 1] * local[1] + rot[axis, 2] * local[2] + trans[axis] for axis in range(3)
        ]
        return torch.stack(rotated)

    @staticmethod
    def _local(points: Tensor, trans: Tensor, rot: Tensor) -> Tensor:
        """Takes points (batch, L, heads, points, 3) from global coordinates to the frame of each residue."""
        shifted = points - trans[:, :, None, None, :]
        return torch.matmul(shifted.flatten(2, 3), rot).view_as(shifted)

    @staticmethod
    def _distances(query: Tensor, key: Tensor) -> Tensor:
        """Returns the sum over points of their distances (batch, heads, queries, keys), for coordinates (3, batch, heads, points, length)."""
        distances = []
        for p in range(query.shape[3]):
            x, y, z = (query[axis, :, :, p, :, None] - key[axis, :, :, p, None, :] for axis in range(3))
            # in place: half the time, and derivatives are those of the same formula
            distances.append(x.square_().addcmul_(y, y).addcmul_(z, z).sqrt_())
        total = distances[0]
        for distance in distances[1:]:
            total = total + distance
        return total

    def _pair_averages(self, attention: Tensor, pairs: Tensor) -> Tensor:
        """Returns the averages (batch, queries, heads, pair_dim) of the pairs under the attention (batch, heads, queries, keys)."""
        batch, heads, queries, keys = attention.shape
        attention = attention.to(pairs.dtype)
        if pairs.shape[0] > 1:
            return torch.matmul(attention.transpose(1, 2), pairs)
        # the pairs of one protein are read once for all samples and heads
        rows = attention.permute(2, 0, 1, 3).reshape(queries, batch * heads, keys)
        return torch.bmm(rows, pairs[0]).unflatten(1, (batch, heads)).transpose(0, 1)

    def _pair_values(self, pair: Tensor) -> Tensor:
        """Projects averaged pairs (batch, L, heads, pair_dim) to each head's values (batch, L, heads, width)."""
        batch, length, heads, width = pair.shape
        weight = self.pair_value.weight.reshape(heads, -1, width).transpose(1, 2)
        projected = torch.bmm(pair.permute(2, 0, 1, 3).reshape(heads, batch * length, width), weight.to(pair.dtype))
        return projected.unflatten(1, (batch, length)).permute(1, 2, 0, 3)


class Layer(nn.Module):
    """Attention and a feed-forward part, each added to its input after a layer norm.

    Arguments:
        config: Sizes.
    """

    def __init__(self, config: DigReleaseConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.dim)
        self.attention = FrameAttention(config)
        self.feed_forward = nn.Sequential(
            LayerNorm(config.dim),
            nn.Linear(config.dim, config.feed_forward),
            nn.GELU(),
            nn.Linear(config.feed_forward, config.dim),
        )

    def forward(self, h: Tensor, pairs: Tensor, bias: Tensor, trans: Tensor, rot: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the tokens after the layer; see `FrameAttention`."""
        h = h + self.attention(self.attention_norm(h), pairs, bias, trans, rot, mask)
        return h + self.feed_forward(h)


class DigReleaseNetwork(nn.Module):
    """The released network: embedding, layers, and one head for positions and one for rotations.

    Arguments:
        config: Sizes.
    """

    def __init__(self, config: DigReleaseConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_single = nn.Sequential(nn.LayerNorm(config.extra_node), nn.Linear(config.extra_node, config.dim, bias=False))
        self.embed_pair = nn.Sequential(
            nn.LayerNorm(config.extra_pair), nn.Linear(config.extra_pair, config.pair_dim, bias=False)
        )
        self.separation = nn.Embedding(config.buckets, config.pair_dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.trans_head, self.rot_head = (
            nn.Sequential(LayerNorm(config.dim), nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, 3))
            for _ in range(2)
        )

    def context(self, single: Tensor, pair: Tensor) -> PairContext:
        """Embeds the features: once for a protein.

        Arguments:
            single: Features of the residues (rows, L, extra_node).
            pair: Features of the pairs (rows, L, L, extra_pair).
        """
        buckets = separation_buckets(single.shape[1], self.config.buckets).to(single.device)
        pairs = self.embed_pair(pair) + self.separation(buckets)
        biases = torch.stack([layer.attention.bias(pairs) for layer in self.layers])  # type: ignore[operator, union-attr]
        return PairContext(self.embed_single(single), pairs, biases)

    @torch.compiler.disable(recursive=False)
    def forward(
        self, context: PairContext, trans: Tensor, rot: Tensor, step: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the output for the positions (batch, L, 3), turned to global axes, and that for the rotations (batch, L, 3), as it is.

        Arguments:
            context: Embedded features.
            trans: C-alpha positions (batch, L, 3) in Å.
            rot: Rotations (batch, L, 3, 3), local to global.
            step: The release's step (batch,): 0 at the largest noise, 499 at the smallest; any real number in between.
            mask: Real residues (rows, L), rows 1 or batch; None where all are. Outputs at the others mean nothing.
        """
        h = context.tokens + step_embedding(step, self.config.dim)[:, None, :]
        for layer, bias in zip(self.layers, context.biases, strict=True):
            h = layer(h, context.pairs, bias, trans, rot, mask)
        local = self.trans_head(h).to(rot.dtype)
        return torch.einsum("blij,blj->bli", rot, local), self.rot_head(h)
