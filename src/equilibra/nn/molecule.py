"""The networks of a single field of atomic positions: the Graphormer behind the interfaces of the denoisers."""

from collections.abc import Mapping

from torch import Tensor, nn

from equilibra.nn.graphormer import Graphormer, GraphormerConfig
from equilibra.nn.inputs import GraphFeatures, GraphInputs
from equilibra.nn.scalar_head import OffsetHead, ScalarHead


class PositionNetwork(nn.Module):
    """Graphormer for one field of positions, in three dimensions or fewer.

    Arguments:
        config: Size and vocabularies.
        field: Name of the field.
    """

    def __init__(self, config: GraphormerConfig, field: str = "pos") -> None:
        super().__init__()
        self.config = config
        self.field = field
        self.trunk = Graphormer(config)

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures) -> dict[str, Tensor]:
        """Returns the raw output (batch, tokens, 3) of the field."""
        graph = GraphInputs.read(features, self.config.node_vocabulary, self.config.pair_vocabulary)
        x = inputs[self.field]
        vectors, _ = self.trunk(_in_space(x), levels, graph)
        return {self.field: vectors[..., : x.shape[-1]]}


class PotentialNetwork(nn.Module):
    """Graphormer with a scalar output for one field of positions: the network of a conservative denoiser.

    It is smooth in the positions wherever two atoms do not coincide, so that it can be differentiated as often as a residual needs.

    Arguments:
        config: Size and vocabularies; `channels` has no effect.
        field: Name of the field.
    """

    def __init__(self, config: GraphormerConfig, field: str = "pos") -> None:
        super().__init__()
        self.config = config
        self.field = field
        self.trunk = Graphormer(config, vectors=False)
        self.potential = ScalarHead(config.dim, config.pair_dim)
        self.offset = OffsetHead(config.dim)

    def forward(
        self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the potential (batch,) of the field, and an offset (batch,) that does not depend on the positions."""
        graph = GraphInputs.read(features, self.config.node_vocabulary, self.config.pair_vocabulary)
        made = self.trunk.embed(_in_space(inputs[self.field]), levels, graph)
        mask = graph.mask.to(made.tokens.dtype)
        potential = self.potential(made.tokens, made.pairs, mask, made.pair_mask)
        return {self.field: potential}, self.offset(self.trunk.node(graph.node), made.noise, mask)


def _in_space(x: Tensor) -> Tensor:
    """Puts positions of fewer axes in the plane or on the line of three-dimensional space, where rotations of either act alike."""
    return nn.functional.pad(x, (0, 3 - x.shape[-1]))
