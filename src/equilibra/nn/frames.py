r"""The Graphormer of frames: residues of proteins, each with a position and an orientation.

The trunk is that of every Graphormer; its geometric bias is invariant point attention on the noised frames, and its pair features also say
where each residue lies in the frame of the other, and how it is turned. A protein has two fields, `trans` and `rot`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError, ShapeError
from equilibra.nn.distance import full_precision_product, pair_vectors, safe_norm
from equilibra.nn.heads import VectorHead
from equilibra.nn.inputs import GraphFeatures, GraphInputs
from equilibra.nn.invariant_points import FrameGeometry, InvariantPointAttention
from equilibra.nn.normalisation import LayerNorm
from equilibra.nn.scalar_head import OffsetHead, ScalarHead
from equilibra.nn.trunk import Embedding, Trunk, TrunkConfig, pairs_of

TRANS, ROT = "trans", "rot"
"""Names of the two fields: origins (batch, tokens, 3), and rotations from local to global coordinates (batch, tokens, 3, 3)."""

ORIENTATION = 15
"""Numbers per pair: the direction of each of the two in the frame of the other, and the relative rotation."""


@dataclass(frozen=True, kw_only=True)
class FrameNetworkConfig(TrunkConfig):
    """Size of a network of frames and the vocabularies of its input: those of `TrunkConfig`, and of frames.

    Attributes:
        points: Query points per head of the attention, and key points; twice as many value points.
        pair_value: Width of the pair values that the attention averages.
        extra_pair: Width of real-valued pair features (`pair["extra"]`), 0 for none.
        optional_features: Whether systems may lack real-valued features: nothing is added for them then. A network is of use without them only if it was
            trained so.
    """

    levels: int = 2
    points: int = 4
    pair_value: int = 16
    extra_pair: int = 0
    optional_features: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("points", "pair_value"):
            if getattr(self, name) < 1:
                raise ConfigError(f"FrameNetworkConfig: {name} is {getattr(self, name)}, expected at least 1")
        for name in ("node_vocabulary", "pair_vocabulary"):
            if not getattr(self, name):
                raise ConfigError(f"FrameNetworkConfig: {name} is empty, expected at least one integer feature")
        if self.optional_features and not self.extra_node and not self.extra_pair:
            raise ConfigError(
                "FrameNetworkConfig: optional_features is true, but there are none: extra_node and extra_pair are 0"
            )


class FrameTrunk(Trunk):
    """Dense attention over frames; everything it returns is invariant under rotations and shifts of the system but for the vectors.

    Arguments:
        config: Size and vocabularies.
    """

    def __init__(self, config: FrameNetworkConfig) -> None:
        super().__init__(config)
        self.config = config
        self.orientation = nn.Linear(ORIENTATION, config.pair_dim)
        self.pair_values = nn.Linear(config.pair_dim, config.pair_value)
        self.extra_norm = LayerNorm(config.extra_node) if config.extra_node else None
        self.pair_extra = (
            nn.Sequential(LayerNorm(config.extra_pair), nn.Linear(config.extra_pair, config.pair_dim))
            if config.extra_pair
            else None
        )
        self.add_layers(config, lambda: InvariantPointAttention(config.dim, config.heads, config.points, config.pair_value))

    def embed(self, trans: Tensor, rot: Tensor, levels: Tensor, graph: GraphInputs) -> Embedding:
        """Runs the trunk.

        Arguments:
            trans: Origins of the frames (batch, tokens, 3), scaled to the network's length unit.
            rot: Rotations from local to global coordinates (batch, tokens, 3, 3).
            levels: Noise levels (batch, fields).
            graph: Features and mask.

        Raises:
            ShapeError: If real-valued features are missing or have another width than the network's.
        """
        real = graph.mask[..., None].to(trans.dtype)
        trans = (trans - (trans * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1.0)) * real
        rot = rot * real[..., None]
        vectors = pair_vectors(trans)
        r = safe_norm(vectors)
        vectors = vectors / (1.0 + r[..., None])
        geometry = self.distance(self.basis(r).to(self.distance.weight.dtype))
        geometry = geometry + self.orientation(relative_orientations(vectors, rot).to(self.distance.weight.dtype))
        if self.pair_extra is not None and self._expects(graph.pair_extra):
            extra = _require_width("pair", graph.pair_extra, self.config.extra_pair)
            # the projection has a constant term: what is missing must be left out after it
            geometry = geometry + graph.where_known(self.pair_extra(extra.to(self.distance.weight.dtype))).to(geometry.dtype)
        if self.extra_norm is not None and self._expects(graph.extra):
            extra = _require_width("node", graph.extra, self.config.extra_node)
            graph = replace(graph, extra=self.extra_norm(extra.to(self.distance.weight.dtype)))
        noise = self.embed_noise(levels, graph)
        z = self.embed_pairs(geometry, noise, graph)
        activated = nn.functional.silu(z)
        pair_mask = pairs_of(graph.mask, trans)
        h = self.embed_nodes(activated, noise, pair_mask, graph)
        frames = FrameGeometry(trans, rot, self.pair_values(activated))
        return Embedding(self.attend(h, activated, noise, graph.mask, frames), z, vectors, pair_mask, noise)

    def _expects(self, extra: Tensor | None) -> bool:
        """Whether real-valued features must be there: always, unless they are optional and no system of the batch has them."""
        return extra is not None or not self.config.optional_features


class FrameHead(nn.Module):
    r"""Two equivariant vectors of every frame: a displacement of its origin and a rotation vector, both in the global frame.

    .. math:: F^{trans}_i = R_i f(h_i) + g_i(h, z, x), \qquad F^{rot}_i = R_i f'(h_i)

    with a network f and the sum g over other tokens of `VectorHead`. Fresh outputs are small.

    Arguments:
        dim: Width of the tokens.
        pair_dim: Width of the pair features.
        channels: Vector channels of the sum.
    """

    def __init__(self, dim: int, pair_dim: int, channels: int) -> None:
        super().__init__()
        last = nn.Linear(dim, 6)
        self.local = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), last)
        self.others = VectorHead(dim, pair_dim, channels)
        with torch.no_grad():
            last.weight.mul_(0.3)
            # the sum over all residues is long
            for layer, factor in ((self.others.weights, 0.3), (self.others.mixing, 0.1)):
                layer.weight.mul_(factor)
                layer.bias.mul_(factor)

    def forward(self, made: Embedding, rot: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both vectors (batch, tokens, 3), in the precision of the rotations (batch, tokens, 3, 3)."""
        local = self.local(made.tokens).unflatten(-1, (2, 3))
        own = full_precision_product(local, rot.transpose(-1, -2))
        return own[..., 0, :] + self.others(made.tokens, made.pairs, made.vectors, made.pair_mask), own[..., 1, :]


class FrameNetwork(nn.Module):
    """Network of frames for a `NetworkDenoiser`: raw outputs of both fields.

    Arguments:
        config: Size and vocabularies.
    """

    def __init__(self, config: FrameNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = FrameTrunk(config)
        self.head = FrameHead(config.dim, config.pair_dim, config.channels)

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures) -> dict[str, Tensor]:
        """Returns vectors in the global frame (batch, tokens, 3) for the origins and the rotations; those of padded tokens are zero.

        Arguments:
            inputs: `trans` (batch, tokens, 3) in the network's length unit and `rot` (batch, tokens, 3, 3).
            levels: Noise levels (batch, 2), of `trans` and of `rot`.
            features: Features of the batch; a batch axis of 1 is shared by all its samples.
        """
        graph = GraphInputs.read(features, self.config.node_vocabulary, self.config.pair_vocabulary)
        trans, rot = self.head(self.trunk.embed(inputs[TRANS], inputs[ROT], levels, graph), inputs[ROT])
        real = graph.mask[..., None].to(trans.dtype)
        return {TRANS: trans * real, ROT: rot * real}


class FramePotentialNetwork(nn.Module):
    """Network of frames with a scalar output for each field: the network of a conservative denoiser.

    It is smooth in positions and rotations wherever two origins do not coincide.

    Arguments:
        config: Size and vocabularies; `channels` has no effect.
    """

    def __init__(self, config: FrameNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = FrameTrunk(config)
        self.potentials = nn.ModuleDict({name: ScalarHead(config.dim, config.pair_dim) for name in (TRANS, ROT)})
        self.offset = OffsetHead(config.dim)

    def forward(
        self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the potential (batch,) of each field, and an offset (batch,) that does not depend on the frames; arguments as for `FrameNetwork`."""
        graph = GraphInputs.read(features, self.config.node_vocabulary, self.config.pair_vocabulary)
        made = self.trunk.embed(inputs[TRANS], inputs[ROT], levels, graph)
        mask = graph.mask.to(made.pair_mask.dtype)
        potentials = {name: head(made.tokens, made.pairs, mask, made.pair_mask) for name, head in self.potentials.items()}
        return potentials, self.offset(self.trunk.node(graph.node), made.noise, mask)


def relative_orientations(vectors: Tensor, rot: Tensor) -> Tensor:
    r"""Returns how each frame sees another, (batch, tokens, tokens, 15): invariant under rotations of the system.

    .. math:: \big[R_i^\top v_{ij},\; R_j^\top v_{ji},\; R_i^\top R_j\big]

    Arguments:
        vectors: Vectors from i to j (batch, tokens, tokens, 3).
        rot: Rotations from local to global coordinates (batch, tokens, 3, 3).
    """
    batch, tokens = rot.shape[:2]
    seen = full_precision_product(vectors, rot)
    rows = rot.transpose(-1, -2).reshape(batch, 3 * tokens, 3)
    columns = rot.transpose(1, 2).reshape(batch, 3, 3 * tokens)
    turns = full_precision_product(rows, columns).reshape(batch, tokens, 3, tokens, 3).transpose(2, 3).flatten(3)
    return torch.cat([seen, seen.transpose(1, 2), turns], dim=-1)


def _require_width(scope: str, extra: Tensor | None, width: int) -> Tensor:
    """Returns real-valued features, or says that they are missing or of another width."""
    if extra is None or extra.shape[-1] != width:
        got = "none" if extra is None else tuple(extra.shape)
        raise ShapeError(f"real-valued {scope} features", got, f"the width {width} that the network was made for")
    return extra
