r"""What all Graphormers share: tokens, pair features and noise embedded, and the layers that attend over them.

Pair features are computed once per call, shared by all layers, and projected to the attention biases of all layers in one product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError, ShapeError
from equilibra.nn.attention import GraphormerLayer
from equilibra.nn.distance import GaussianBasis
from equilibra.nn.embedding import CategoricalEmbedding, NoiseEmbedding
from equilibra.nn.inputs import GraphInputs
from equilibra.nn.normalisation import LayerNorm


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """Size of a trunk and the vocabularies of its input.

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

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"{type(self).__name__}: dim {self.dim} is not a multiple of heads {self.heads}")
        for name in ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels", "levels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{type(self).__name__}: {name} is {getattr(self, name)}, expected at least 1")


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


class Trunk(nn.Module):
    """Abstract: the embeddings of tokens, pairs and noise; a subclass reads the geometry and adds `stack` and `norm` with `add_layers`.

    Arguments:
        config: Size and vocabularies.
    """

    stack: nn.ModuleList
    norm: LayerNorm

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
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

    def add_layers(self, config: TrunkConfig, attention: Callable[[], nn.Module]) -> None:
        """Makes the layers, each with an attention of its own, and the norm after the last."""
        self.stack = nn.ModuleList(GraphormerLayer(config.dim, config.expansion, attention()) for _ in range(config.layers))
        self.norm = LayerNorm(config.dim)

    def embed_noise(self, levels: Tensor, graph: GraphInputs) -> Tensor:
        """Returns the embedding (batch, dim) of noise levels (batch, fields) and of the conditions."""
        noise = self.noise(levels)
        if self.conditions is None:
            return noise
        if graph.conditions is None:
            raise ShapeError(
                "conditions of the network", "none", f"graph features of the width {self.conditions[0].in_features}"
            )
        return noise + self.conditions(graph.conditions.to(noise.dtype))

    def embed_pairs(self, geometry: Tensor, noise: Tensor, graph: GraphInputs) -> Tensor:
        """Returns pair features (batch, tokens, tokens, pair_dim).

        Arguments:
            geometry: What the geometry says of a pair (batch, tokens, tokens, pair_dim).
            noise: Embedding of the noise (batch, dim).
            graph: Features.
        """
        # under autocast the products are bfloat16: the arrays of pairs stay so, and half as much memory moves
        z = geometry + (self.pair(graph.pair) + self.pair_noise(noise)[:, None, None, :]).to(geometry.dtype)
        return self.pair_hidden(nn.functional.silu(z))

    def embed_nodes(self, activated: Tensor, noise: Tensor, pair_mask: Tensor, graph: GraphInputs) -> Tensor:
        """Returns tokens (batch, tokens, dim): their features, the noise, and a sum over the activated pair features."""
        # summed before the product, which is linear: one row per token instead of one per pair
        neighbourhood = self.pair_to_node(
            (activated * pair_mask[..., None].to(activated.dtype)).sum(2)
            * pair_mask.sum(2, keepdim=True).clamp(min=1.0).rsqrt()
        )
        h = self.node(graph.node) + noise[:, None, :] + neighbourhood
        if self.extra is not None and graph.extra is not None:
            h = h + graph.where_known(self.extra(graph.extra))
        return h

    def attend(self, h: Tensor, activated: Tensor, noise: Tensor, mask: Tensor, geometry: object) -> Tensor:
        """Returns the tokens (batch, tokens, dim) after all layers and the last norm.

        Arguments:
            h: Tokens (batch, tokens, dim).
            activated: Activated pair features (batch, tokens, tokens, pair_dim), which bias the attention.
            noise: Embedding of the noise (batch, dim).
            mask: Real tokens (batch, tokens).
            geometry: What the attention of a layer reads of the geometry.
        """
        bias = self.biases(activated)
        bias = bias.reshape(*bias.shape[:3], len(self.stack), -1).permute(3, 0, 4, 1, 2)
        blocked = torch.zeros(mask.shape, dtype=bias.dtype, device=bias.device).masked_fill(~mask, float("-inf"))
        bias = bias + blocked[:, None, None, :]
        for index, layer in enumerate(self.stack):
            h = layer(h, noise, bias[index], geometry)
        return self.norm(h)


def pairs_of(mask: Tensor, like: Tensor) -> Tensor:
    """Returns 1 for pairs of real, different tokens and 0 elsewhere (batch, tokens, tokens), for a mask (batch, tokens), in the dtype of `like`."""
    both = (mask[:, :, None] & mask[:, None, :]).to(like.dtype)
    return both * (1.0 - torch.eye(mask.shape[1], dtype=like.dtype, device=like.device))
