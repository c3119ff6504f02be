r"""The Graphormer: one network for point-like fields of any domain.

Pair features (distances, bonds, shortest paths) are computed once per call, shared by all layers, and projected to the attention biases of
all layers in one product. References: Ying et al. (2021), https://arxiv.org/abs/2106.05234; Zheng et al. (2023), Appendix A.2. Unlike the
published networks it is chirality-aware: see `GeometricAttention`, `VectorHead` and the stereo-centre feature below.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError, ShapeError
from equilibra.nn.attention import GraphormerLayer
from equilibra.nn.distance import GaussianBasis, image_sums, pair_vectors, safe_norm
from equilibra.nn.embedding import CategoricalEmbedding, NoiseEmbedding
from equilibra.nn.heads import VectorHead
from equilibra.nn.inputs import GraphInputs


@dataclass(frozen=True, kw_only=True)
class GraphormerConfig:
    """Size of a Graphormer and the vocabularies of its input.

    Attributes:
        node_vocabulary: Number of values of each integer node feature.
        pair_vocabulary: Number of values of each integer pair feature.
        dim: Width of the tokens.
        pair_dim: Width of the pair features.
        layers: Number of layers.
        heads: Attention heads per layer.
        expansion: Feed-forward width in units of `dim`.
        basis: Number of distance functions.
        r_max: Largest resolved distance in the network's length unit (the data scale at small noise).
        channels: Vector channels of the output head.
        levels: Number of noise levels, one per moving field.
        extra_node: Width of real-valued node features (`node["extra"]`), 0 for none; embeddings of a sequence model, for example.
        conditions: Number of real-valued conditions of a whole system (`graph["conditions"]`), such as the logarithm of the temperature.
        image_cutoff: Cut-off of periodic images in the network's length unit; used where translations are given.
    """

    node_vocabulary: Mapping[str, int] = field(default_factory=dict)
    pair_vocabulary: Mapping[str, int] = field(default_factory=dict)
    dim: int = 128
    pair_dim: int = 64
    layers: int = 4
    heads: int = 8
    expansion: int = 2
    basis: int = 48
    r_max: float = 8.0
    channels: int = 16
    levels: int = 1
    extra_node: int = 0
    conditions: int = 0
    image_cutoff: float = 6.0

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"GraphormerConfig: dim {self.dim} is not a multiple of heads {self.heads}")
        for name in ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels", "levels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"GraphormerConfig: {name} is {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True)
class Embedding:
    """What the trunk knows of a batch, from which heads read.

    Attributes:
        tokens: Invariant token features (batch, tokens, dim).
        pairs: Pair features (batch, tokens, tokens, pair_dim).
        vectors: Bounded relative positions (batch, tokens, tokens, 3).
        pair_mask: 1 for pairs of real, different tokens, 0 elsewhere (batch, tokens, tokens).
        noise: Embedding of the noise levels and of the conditions (batch, dim).
    """

    tokens: Tensor
    pairs: Tensor
    vectors: Tensor
    pair_mask: Tensor
    noise: Tensor


class Graphormer(nn.Module):
    """Dense attention over tokens at positions; returns an equivariant vector per token and the final token features.

    Arguments:
        config: Size and vocabularies.
        vectors: Whether it ends in a head of vectors; without one, `embed` alone can be called, and other heads read its result.
    """

    def __init__(self, config: GraphormerConfig, *, vectors: bool = True) -> None:
        super().__init__()
        self.config = config
        self.node = CategoricalEmbedding(config.node_vocabulary, config.dim)
        self.pair = CategoricalEmbedding(config.pair_vocabulary, config.pair_dim)
        self.noise = NoiseEmbedding(config.levels, config.dim)
        self.conditions = (
            nn.Sequential(nn.Linear(config.conditions, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
            if config.conditions
            else None
        )
        self.extra = nn.Linear(config.extra_node, config.dim) if config.extra_node else None
        self.basis = GaussianBasis(config.basis, config.r_max)
        self.distance = nn.Linear(config.basis, config.pair_dim)
        self.pair_noise = nn.Linear(config.dim, config.pair_dim)
        self.pair_hidden = nn.Linear(config.pair_dim, config.pair_dim)
        self.pair_to_node = nn.Linear(config.pair_dim, config.dim)
        self.biases = nn.Linear(config.pair_dim, config.layers * config.heads)
        self.handedness = nn.Sequential(nn.Linear(2, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
        self.stack = nn.ModuleList(GraphormerLayer(config.dim, config.heads, config.expansion) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.head = VectorHead(config.dim, config.pair_dim, config.channels) if vectors else None

    def forward(self, x: Tensor, levels: Tensor, graph: GraphInputs) -> tuple[Tensor, Tensor]:
        """Runs the network with its head of vectors.

        Arguments:
            x: Positions (batch, tokens, 3), scaled to the network's length unit.
            levels: Noise levels (batch, fields).
            graph: Features, mask and, for a periodic system, lattice translations.

        Returns:
            Vectors (batch, tokens, 3) and token features (batch, tokens, dim).

        Raises:
            ConfigError: If the network was made without a head of vectors.
        """
        if self.head is None:
            raise ConfigError("Graphormer: it was made without a head of vectors; call `embed`, or make it with vectors=True")
        made = self.embed(x, levels, graph)
        return self.head(made.tokens, made.pairs, made.vectors, made.pair_mask), made.tokens

    def embed(self, x: Tensor, levels: Tensor, graph: GraphInputs) -> Embedding:
        """Runs the trunk alone; arguments as for `forward`."""
        mask = graph.mask
        if graph.translations is None:
            vectors = pair_vectors(x)
            r = safe_norm(vectors)
            # bounded relative positions: attention gathers directions at long range and displacements at short range
            radial, bounded = self.basis(r), vectors / (1.0 + r[..., None])
        else:
            radial, bounded = image_sums(self.basis, x, graph.translations, self.config.image_cutoff)
        pair_mask = (mask[:, :, None] & mask[:, None, :]).to(x.dtype)
        pair_mask = pair_mask * (1.0 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device))
        noise = self.noise(levels)
        if self.conditions is not None:
            if graph.conditions is None:
                raise ShapeError("conditions of the network", "none", f"graph features of the width {self.config.conditions}")
            noise = noise + self.conditions(graph.conditions.to(noise.dtype))
        radial = self.distance(radial.to(self.distance.weight.dtype))
        # under autocast the products are bfloat16: the arrays of pairs stay so, and half as much memory moves
        z = radial + (self.pair(graph.pair) + self.pair_noise(noise)[:, None, None, :]).to(radial.dtype)
        z = self.pair_hidden(nn.functional.silu(z))
        activated = nn.functional.silu(z)
        # summed before the product, which is linear: one row per token instead of one per pair
        neighbourhood = self.pair_to_node(
            (activated * pair_mask[..., None].to(activated.dtype)).sum(2)
            * pair_mask.sum(2, keepdim=True).clamp(min=1.0).rsqrt()
        )
        h = self.node(graph.node) + noise[:, None, :] + neighbourhood + self.handedness(graph.handedness(x))
        if self.extra is not None and graph.extra is not None:
            h = h + self.extra(graph.extra)
        bias = self.biases(activated)
        bias = bias.reshape(*bias.shape[:3], self.config.layers, self.config.heads).permute(3, 0, 4, 1, 2)
        blocked = torch.zeros(mask.shape, dtype=bias.dtype, device=x.device).masked_fill(~mask, float("-inf"))
        bias = bias + blocked[:, None, None, :]
        for index, layer in enumerate(self.stack):
            h = layer(h, noise, bias[index], bounded)
        return Embedding(self.norm(h), z, bounded, pair_mask, noise)
