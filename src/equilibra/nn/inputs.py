"""What the Graphormer reads of a batch besides positions and noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class GraphFeatures(Protocol):
    """Anything that holds features by scope, as `state.Features` does; a batch axis of 1 is shared by all samples."""

    @property
    def node(self) -> Mapping[str, Tensor]:
        """Node features (batch, tokens, ...)."""

    @property
    def pair(self) -> Mapping[str, Tensor]:
        """Pair features (batch, tokens, tokens, ...)."""

    @property
    def graph(self) -> Mapping[str, Tensor]:
        """System features (batch, ...)."""

    @property
    def mask(self) -> Tensor | None:
        """Real tokens (batch, tokens)."""


@dataclass(frozen=True)
class GraphInputs:
    """Features of a batch. A batch axis of 1 broadcasts, so that the graph of one molecule is embedded once for all its samples.

    Attributes:
        node: Integer node features (batch, tokens).
        pair: Integer pair features (batch, tokens, tokens).
        mask: Real tokens (batch, tokens).
        chiral_neighbours: Three neighbours of each stereo-centre in canonical order (batch, tokens, 3); zeros elsewhere. Optional.
        chiral_sign: Wanted handedness of each stereo-centre, +1 or -1, and 0 elsewhere (batch, tokens). Optional.
        extra: Real-valued node features (batch, tokens, width). Optional.
        translations: Lattice translations in the network's length unit (batch, images, 3). Optional.
        conditions: Real-valued conditions of each system (batch, width). Optional.
        pair_extra: Real-valued pair features (batch, tokens, tokens, width). Optional.
        extra_known: 1 for systems whose real-valued features are there, 0 for those where zeros stand for missing ones (batch,). Without it all are there.
    """

    node: Mapping[str, Tensor]
    pair: Mapping[str, Tensor]
    mask: Tensor
    chiral_neighbours: Tensor | None = None
    chiral_sign: Tensor | None = None
    extra: Tensor | None = None
    translations: Tensor | None = None
    conditions: Tensor | None = None
    pair_extra: Tensor | None = None
    extra_known: Tensor | None = None

    def where_known(self, x: Tensor) -> Tensor:
        """Returns what was made of real-valued features (batch, ...), exactly zero for systems without them."""
        if self.extra_known is None:
            return x
        return x * self.extra_known.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))

    def handedness(self, x: Tensor) -> Tensor:
        r"""Returns two pseudo-scalars per token (batch, tokens, 2): the signed volume of each stereo-centre times its wanted sign, and the sign's square.

        .. math:: \chi_i = q_i\, \hat r_1 \cdot (\hat r_2 \times \hat r_3)

        with the wanted sign :math:`q_i` and the directions to three neighbours in canonical order: positive where the centre is right-handed
        as asked for, negative for its mirror image, zero for atoms that are no stereo-centre.
        """
        if self.chiral_neighbours is None or self.chiral_sign is None:
            return torch.zeros(*x.shape[:2], 2, dtype=x.dtype, device=x.device)
        batch, tokens = x.shape[:2]
        index = self.chiral_neighbours.expand(batch, -1, -1).reshape(batch, tokens * 3, 1).expand(-1, -1, 3)
        neighbours = torch.gather(x, 1, index).reshape(batch, tokens, 3, 3)
        arms = neighbours - x[:, :, None, :]
        arms = arms / torch.sqrt((arms * arms).sum(-1, keepdim=True) + 1e-6)
        volume = (arms[:, :, 0] * torch.linalg.cross(arms[:, :, 1], arms[:, :, 2])).sum(-1)
        sign = self.chiral_sign.to(x.dtype)
        return torch.stack([sign * volume, (sign * sign).expand_as(volume)], dim=-1)

    @classmethod
    def read(cls, features: GraphFeatures, node_vocabulary: Mapping[str, int], pair_vocabulary: Mapping[str, int]) -> Self:
        """Picks the features that a network with these vocabularies uses."""
        if features.mask is None:
            raise ValueError("features of one system: collate them or share them first")
        return cls(
            node={name: features.node[name] for name in node_vocabulary},
            pair={name: features.pair[name] for name in pair_vocabulary},
            mask=features.mask,
            chiral_neighbours=features.node.get("chiral_neighbours"),
            chiral_sign=features.node.get("chiral_sign"),
            extra=features.node.get("extra"),
            translations=features.graph.get("translations"),
            conditions=features.graph.get("conditions"),
            pair_extra=features.pair.get("extra"),
            extra_known=features.graph.get("extra_known"),
        )
