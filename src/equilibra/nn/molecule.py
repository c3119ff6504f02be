"""The network of a single field of atomic positions: the Graphormer behind the denoiser's interface."""

from collections.abc import Mapping

from torch import Tensor, nn

from equilibra.nn.graphormer import Graphormer, GraphormerConfig
from equilibra.nn.inputs import GraphFeatures, GraphInputs


class PositionNetwork(nn.Module):
    """Graphormer for one field of positions.

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
        vectors, _ = self.trunk(inputs[self.field], levels, graph)
        return {self.field: vectors}
