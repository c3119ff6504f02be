r"""The Graphormer: one network for point-like fields of any domain.

Pair features (distances, bonds, shortest paths) are computed once per call, shared by all layers, and projected to the attention biases of
all layers in one product. References: Ying et al. (2021), https://arxiv.org/abs/2106.05234; Zheng et al. (2023), Appendix A.2. Unlike the
published networks it is chirality-aware: see `GeometricAttention`, `VectorHead` and the stereo-centre feature below.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from equilibra.errors import ConfigError
from equilibra.nn.attention import GeometricAttention
from equilibra.nn.distance import image_sums, pair_vectors, safe_norm
from equilibra.nn.heads import VectorHead
from equilibra.nn.inputs import GraphInputs
from equilibra.nn.trunk import Embedding, Trunk, TrunkConfig, pairs_of


@dataclass(frozen=True, kw_only=True)
class GraphormerConfig(TrunkConfig):
    """Size of a Graphormer and the vocabularies of its input: those of `TrunkConfig`, and periodic images.

    Attributes:
        image_cutoff: Cut-off of periodic images in the network's length unit; used where translations are given.
    """

    image_cutoff: float = 6.0


class Graphormer(Trunk):
    """Dense attention over tokens at positions; returns an equivariant vector per token and the final token features.

    Arguments:
        config: Size and vocabularies.
        vectors: Whether it ends in a head of vectors; without one, `embed` alone can be called, and other heads read its result.
    """

    def __init__(self, config: GraphormerConfig, *, vectors: bool = True) -> None:
        super().__init__(config)
        self.config = config
        self.handedness = nn.Sequential(nn.Linear(2, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
        self.add_layers(config, lambda: GeometricAttention(config.dim, config.heads))
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
        if graph.translations is None:
            vectors = pair_vectors(x)
            r = safe_norm(vectors)
            # bounded relative positions: attention gathers directions at long range and displacements at short range
            radial, bounded = self.basis(r), vectors / (1.0 + r[..., None])
        else:
            radial, bounded = image_sums(self.basis, x, graph.translations, self.config.image_cutoff)
        return self.embed_seen(radial, bounded, x, levels, graph)

    def embed_seen(self, radial: Tensor, bounded: Tensor, x: Tensor, levels: Tensor, graph: GraphInputs) -> Embedding:
        """Runs the trunk on what is seen of each pair of tokens.

        Arguments:
            radial: Functions of the distance, or their sums over images (batch, tokens, tokens, basis).
            bounded: Bounded relative positions, or their sums over images (batch, tokens, tokens, 3).
            x: Positions (batch, tokens, 3), of which only the handedness of stereo-centres is read.
            levels: Noise levels (batch, fields).
            graph: Features and mask.
        """
        pair_mask = pairs_of(graph.mask, x)
        noise = self.embed_noise(levels, graph)
        z = self.embed_pairs(self.distance(radial.to(self.distance.weight.dtype)), noise, graph)
        activated = nn.functional.silu(z)
        h = self.embed_nodes(activated, noise, pair_mask, graph) + self.handedness(graph.handedness(x))
        return Embedding(self.attend(h, activated, noise, graph.mask, bounded), z, bounded, pair_mask, noise)
