r"""The Graphormer of ligands in pockets: heavy atoms of a ligand attend over each other and over those of a rigid receptor.

The network sees where the atoms of the ligand are. `LigandNetwork` never sees shift, turn and torsions themselves; its outputs are what vectors on the atoms are along these
(`geometry.torsion_tree`): a sum, a torque, and a moment about each bond. `CartesianLigandNetwork` returns a vector of each atom. So outputs turn with the receptor and the ligand as a
whole, and do not change where both are shifted. Products of three vectors in attention and head see handedness.

Atoms of the receptor do not move and are not updated: the arrays of pairs have L rows, those of the ligand, not L + P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError
from equilibra.geometry.torsion_tree import TorsionTree, placed, pulled_back
from equilibra.nn.attention import GeometricAttention
from equilibra.nn.distance import full_precision_product, safe_norm
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.inputs import GraphFeatures, GraphInputs
from equilibra.nn.normalisation import LayerNorm
from equilibra.nn.trunk import Trunk

REFERENCE, SHIFT, TURN, TORSIONS = "reference", "shift", "turn", "torsions"
"""Names of the fields; see `systems.ligand.system`."""

FIELDS = (SHIFT, TURN, TORSIONS)
"""Fields that move, in the order of their noise levels."""

POSITIONS = "pos"
"""Name of the one field that moves in the Cartesian state."""

_START = 0.1
_SETS = 3  # vectors of each atom: for the sum, the torque and the moments


@dataclass(frozen=True, kw_only=True)
class LigandNetworkConfig(GraphormerConfig):
    """Size of a network of ligands and the vocabularies of its input: those of `GraphormerConfig`, of which lengths are in Å.

    Attributes:
        r_max: Largest resolved distance, in Å.
    """

    levels: int = len(FIELDS)
    r_max: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("node_vocabulary", "pair_vocabulary"):
            if not getattr(self, name):
                raise ConfigError(f"LigandNetworkConfig: {name} is empty, expected at least one integer feature")


@dataclass(frozen=True)
class _Surroundings:
    """What the attention of a layer reads: relative positions (batch, rows, tokens, 3), the tokens before the first layer (batch, tokens, dim), and which rows are of the ligand (batch, rows)."""

    vectors: Tensor
    still: Tensor
    ligand: Tensor

    def tokens(self, h: Tensor) -> Tensor:
        """Returns all tokens (batch, tokens, dim) for rows h (batch, rows, dim): those of the ligand as they are now, the others as they were."""
        rows = h.shape[1]
        still = self.still.to(h.dtype)
        return torch.cat([torch.where(self.ligand[..., None], h, still[:, :rows]), still[:, rows:]], dim=1)


class PocketAttention(GeometricAttention):
    """`GeometricAttention` whose queries are the rows of the ligand and whose keys are all tokens."""

    def forward(self, h: Tensor, bias: Tensor, vectors: Any) -> Tensor:
        """Returns the update of the rows (batch, rows, dim), for an attention bias (batch, heads, rows, tokens) and `_Surroundings`."""
        batch, _, dim = h.shape
        whole = vectors.tokens(h)

        def split(x: Tensor) -> Tensor:
            return x.reshape(batch, -1, self.heads, dim // self.heads).transpose(1, 2)

        q_weight, kv_weight = self.qkv.weight.split((dim, 2 * dim))
        q = split(nn.functional.linear(h, q_weight))
        k, v = (split(part) for part in nn.functional.linear(whole, kv_weight).chunk(2, dim=-1))
        return self.gathered(q, k, v, bias, vectors.vectors)


class AtomHead(nn.Module):
    r"""Vectors of atoms, one or several sets of them, as sums over all tokens.

    .. math:: v^c_i = n^{-1/2} \sum_j w^c_{ij} r_{ij}, \qquad f^s_i = \sum_c \alpha^s_c(h_i)\, v^c_i + \sum_c \beta^s_c(h_i)\, v^c_i \times v^{c+1}_i

    with n tokens, the root of which keeps the vectors of one size in pockets of any size.

    Arguments:
        config: Size.
        sets: Number of vectors of each atom.
    """

    def __init__(self, config: LigandNetworkConfig, sets: int = 1) -> None:
        super().__init__()
        self.channels, self.sets = config.channels, sets
        self.receiver = nn.Linear(config.dim, config.pair_dim)
        self.sender = nn.Linear(config.dim, config.pair_dim, bias=False)
        self.weights = nn.Linear(config.pair_dim, config.channels)
        self.mixing = nn.Linear(config.dim, 2 * sets * config.channels)
        with torch.no_grad():
            self.weights.weight.mul_(0.3)
            # vectors start small, forces and torques being sums of them, so that every noise level starts with a loss near one
            self.mixing.weight.mul_(_START)
            self.mixing.bias.mul_(_START)

    def forward(self, h: Tensor, tokens: Tensor, z: Tensor, vectors: Tensor, pair_mask: Tensor) -> Tensor:
        """Returns vectors (batch, rows, sets, 3), in full precision.

        Arguments:
            h: Rows (batch, rows, dim).
            tokens: All tokens (batch, tokens, dim).
            z: Pair features (batch, rows, tokens, pair_dim).
            vectors: Relative positions (batch, rows, tokens, 3).
            pair_mask: 1 for pairs of real, different tokens, 0 elsewhere (batch, rows, tokens).
        """
        hidden = nn.functional.silu(z + self.receiver(h)[:, :, None] + self.sender(tokens)[:, None])
        each = pair_mask * pair_mask.sum(2, keepdim=True).clamp(min=1.0).rsqrt()
        w = self.weights(hidden).to(vectors.dtype) * each[..., None]
        v = full_precision_product(w.transpose(-1, -2), vectors)
        alpha, beta = self.mixing(h).to(vectors.dtype).unflatten(-1, (2, self.sets, self.channels)).unbind(2)
        cross = torch.linalg.cross(v, v.roll(-1, dims=2))
        return full_precision_product(alpha, v) + full_precision_product(beta, cross)


class PoseHead(AtomHead):
    """`AtomHead` for the sum, the torque and the moments, with a number of each bond that turns.

    Arguments:
        config: Size.
    """

    def __init__(self, config: LigandNetworkConfig) -> None:
        super().__init__(config, _SETS)
        self.bond = nn.Sequential(nn.Linear(config.dim, config.pair_dim), nn.SiLU(), nn.Linear(config.pair_dim, 1))


class PocketTrunk(Trunk):
    """Abstract: heavy atoms of a ligand in their pocket; a subclass reads the fields and adds `head`.

    Arguments:
        config: Size and vocabularies.
        scale: Data scale of the first field that moves, in Å.
    """

    head: AtomHead

    def __init__(self, config: LigandNetworkConfig, *, scale: float) -> None:
        super().__init__(config)
        self.config, self.scale = config, scale
        self.still = LayerNorm(config.dim)
        self.add_layers(config, lambda: PocketAttention(config.dim, config.heads))

    def of_atoms(
        self, pose: Tensor, reference: Tensor, ligand: Tensor, levels: Tensor, features: GraphFeatures
    ) -> tuple[Tensor, Tensor]:
        """Returns invariant features (batch, rows, dim) and vectors (batch, rows, sets, 3) of the ligand's atoms.

        Arguments:
            pose: Places of the ligand's atoms (batch, rows, 3), in Å.
            reference: Places of all tokens (batch, tokens, 3), in Å, of which those of the pocket are read.
            ligand: Which tokens are of the ligand (batch, tokens).
            levels: Noise levels (batch, fields).
            features: Features.
        """
        (batch, tokens), rows = reference.shape[:2], pose.shape[1]
        with torch.autocast(reference.device.type, enabled=False):
            here = torch.where(ligand[:, :rows, None], pose, reference[:, :rows])
            x = torch.cat([here, reference[:, rows:]], dim=1)
            difference = x[:, None] - here[:, :, None]
            r = safe_norm(difference)
            radial, bounded = self.basis(r), difference / (1.0 + r[..., None])
        graph = GraphInputs.read(features, self.config.node_vocabulary, self.config.pair_vocabulary)
        some = replace(graph, pair={name: value[:, :rows].long() for name, value in graph.pair.items()})
        mask = graph.mask.expand(batch, tokens)
        own = (torch.arange(tokens, device=x.device) != torch.arange(rows, device=x.device)[:, None]).to(x.dtype)
        pair_mask = (mask[:, :rows, None] & mask[:, None]).to(x.dtype) * own
        noise = self.embed_noise(levels, graph)
        z = self.embed_pairs(self.distance(radial.to(self.distance.weight.dtype)), noise, some)
        activated = nn.functional.silu(z)
        kinds = self.node(graph.node)
        rows_only = replace(graph, node={name: value[:, :rows] for name, value in graph.node.items()}, extra=None)
        h = self.embed_nodes(activated, noise, pair_mask, rows_only)
        around = _Surroundings(bounded, self.still(kinds).expand(batch, -1, -1), ligand[:, :rows])
        h = self.attend(h, activated, noise, mask, around)
        return h, self.head(h, around.tokens(h), z, bounded, pair_mask)

    def embed_pairs(self, geometry: Tensor, noise: Tensor, graph: GraphInputs) -> Tensor:
        """Returns pair features (batch, rows, tokens, pair_dim); see `Trunk.embed_pairs`. Pairs with tokens beyond the rows, of the pocket, are all of one kind, which is embedded once."""
        rows = geometry.shape[1]
        near = self.pair({name: value[:, :, :rows] for name, value in graph.pair.items()})
        level = self.pair_noise(noise)[:, None, None, :]
        parts = [geometry[:, :, :rows] + (near + level).to(geometry.dtype)]
        if geometry.shape[2] > rows:
            # the first token beyond the rows is of the pocket, or padding, with padding alone after it
            far = self.pair({name: value[:, :1, rows : rows + 1] for name, value in graph.pair.items()})
            parts.append(geometry[:, :, rows:] + (far + level).to(geometry.dtype))
        return self.pair_hidden(nn.functional.silu(torch.cat(parts, dim=2)))


class LigandNetwork(PocketTrunk):
    """Graphormer for the three fields of a pose.

    Arguments:
        config: Size and vocabularies.
        scale: Data scale of the shift, in Å.
    """

    head: PoseHead

    def __init__(self, config: LigandNetworkConfig, *, scale: float) -> None:
        super().__init__(config, scale=scale)
        self.head = PoseHead(config)

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures) -> dict[str, Tensor]:
        """Returns the raw outputs: `shift` (batch, 1, 3), `turn` (batch, 1, 3) and `torsions` (batch, tokens, 1)."""
        reference = inputs[REFERENCE]
        ligand = features.node["ligand"].expand(reference.shape[:2])
        rows = int(ligand.sum(1).max())
        columns = features.node["torsions_items"].any(0).nonzero()[:, 0]
        with torch.autocast(reference.device.type, enabled=False):
            tree = tree_of(features, rows, columns)
            # the input is the shift over the root of sigma^2 + scale^2, and the level is ln(sigma / scale) / 4
            width = self.scale * torch.sqrt(1.0 + torch.exp(8.0 * levels[:, :1].to(reference.dtype)))
            shift = inputs[SHIFT][:, 0] * width
            pose = placed(reference[:, :rows], shift, inputs[TURN][:, 0], inputs[TORSIONS][:, columns, 0], tree)
        h, vectors = self.of_atoms(pose, reference, ligand, levels, features)
        return self._outputs(h, vectors, pose, shift, ligand, tree, columns)

    def _outputs(
        self, h: Tensor, vectors: Tensor, pose: Tensor, shift: Tensor, ligand: Tensor, tree: TorsionTree, columns: Tensor
    ) -> dict[str, Tensor]:
        """Returns what the vectors (batch, rows, sets, 3) are along the fields, each in units of how far the atoms reach."""
        batch, rows = pose.shape[:2]
        real = ligand[:, :rows, None].to(pose.dtype)
        with torch.autocast(pose.device.type, enabled=False):
            each = [real * vectors[:, :, number] for number in range(_SETS)]
            number = real.sum(1)
            total = pulled_back(pose, each[0], tree, shift)[0] / number.sqrt()
            reach = torch.sqrt((real * (pose - shift[:, None]) ** 2).sum((1, 2)) + 1.0)
            torque = pulled_back(pose, each[1], tree, shift)[1] / reach[:, None]
            far = tree.ends(pose)[1]
            arms = torch.linalg.vector_norm(pose[:, None] - far[:, :, None], dim=-1) * tree.moving
            moments = pulled_back(pose, each[2], tree, shift)[2] / torch.sqrt(arms.square().sum(-1) + 1.0)
            bonds = torch.gather(h, 1, tree.axes.expand(batch, -1, -1).flatten(1)[..., None].expand(-1, -1, h.shape[-1]))
            moments = moments + self.head.bond(bonds.unflatten(1, (-1, 2)).sum(2))[..., 0].to(moments.dtype)
            torsions = moments.new_zeros(batch, ligand.shape[1]).index_copy(1, columns, moments)
        return {SHIFT: total[:, None], TURN: torque[:, None], TORSIONS: torsions[..., None]}


class CartesianLigandNetwork(PocketTrunk):
    r"""Graphormer for the positions of a ligand's heavy atoms, relative to the middle of the pocket's.

    It sees the atoms at :math:`x / \sqrt{1 + \sigma^2/\sigma_d^2}`, with the noise :math:`\sigma` and the data scale :math:`\sigma_d`: where they are at small noise, and within the pocket at large
    noise, that would scatter them beyond the reach of its distances.

    Arguments:
        config: Size and vocabularies, with one noise level.
        scale: Data scale of the positions, in Å.
    """

    def __init__(self, config: LigandNetworkConfig, *, scale: float) -> None:
        super().__init__(config, scale=scale)
        self.head = AtomHead(config)

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures) -> dict[str, Tensor]:
        """Returns the raw output `pos` (batch, tokens, 3), zero for tokens of the pocket."""
        reference = inputs[REFERENCE]
        ligand = features.node["ligand"].expand(reference.shape[:2])
        rows = int(ligand.sum(1).max())
        with torch.autocast(reference.device.type, enabled=False):
            pose = self.scale * inputs[POSITIONS][:, :rows]
        vectors = self.of_atoms(pose, reference, ligand, levels, features)[1][:, :, 0]
        still = vectors.new_zeros(len(vectors), reference.shape[1] - rows, 3)
        return {POSITIONS: torch.cat([vectors * ligand[:, :rows, None], still], dim=1)}


def tree_of(features: GraphFeatures, rows: int, columns: Tensor) -> TorsionTree:
    """Returns the bonds that turn, of tokens.

    Arguments:
        features: Features with the nodes `ligand`, `parent` and `torsions_items`, and the pairs `moving`.
        rows: Tokens of the longest ligand.
        columns: Tokens that are the far atom of a bond in some system of the batch (torsions,).
    """
    items = features.node["torsions_items"][:, columns]
    axes = torch.stack([features.node["parent"][:, columns], columns.expand(len(items), -1)], dim=-1)
    moving = features.pair["moving"][:, columns, :rows] & items[..., None]
    ligand = features.node["ligand"][:, :rows].double()
    return TorsionTree(axes, moving, ligand / ligand.sum(1, keepdim=True))
