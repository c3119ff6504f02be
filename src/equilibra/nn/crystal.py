r"""The Graphormer of crystals: atoms in a cell, of any shape, with as many periodic images as the cut-off asks for.

A crystal has two fields: `frac`, fractional coordinates, and `cell`, its cell as a symmetric matrix divided by :math:`n^{1/3}` (n atoms). The
network sees the cell without the growth of the noise, :math:`L = n^{1/3} (m I + s \tilde x)` with the prior's centre m, the data scale s and the
preconditioned input :math:`\tilde x` of unit variance: that is the variance-preserving picture, in which cells stay cells.

Invariant under the origin, the order of atoms, and the choice of the cell that the symmetric gauge leaves open: the 24 rotations of a cube, which
permute and invert lattice vectors. Outputs turn with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError
from equilibra.geometry.lattice import volume
from equilibra.geometry.periodic import neighbours
from equilibra.nn.distance import GaussianBasis, full_precision_product, safe_norm
from equilibra.nn.graphormer import Graphormer, GraphormerConfig
from equilibra.nn.inputs import GraphFeatures, GraphInputs

FRAC, CELL = "frac", "cell"
"""Names of the two fields: fractional coordinates (batch, tokens, 3), and cells (batch, 3, 3) in Å per cube root of the number of atoms."""

SHAPE = 7
"""Invariants of a cell that the network is told."""

INVARIANTS = 6
"""Invariants of an atom's surroundings per channel."""

_FLATTEST = 0.25  # of the mean edge: noisy cells are kept from collapsing, where the number of images would have no limit
_ROUND = 0.3  # Å, over which directions vanish at zero distance
_NEIGHBOURS = 20.0  # typical number of neighbours that a sum runs over


@dataclass(frozen=True, kw_only=True)
class CrystalNetworkConfig(GraphormerConfig):
    """Size of a network of crystals and the vocabularies of its input: those of `GraphormerConfig`, of which lengths are in Å.

    Attributes:
        image_cutoff: Cut-off of neighbours, in Å.
        r_max: Largest resolved distance, in Å.
    """

    levels: int = 2
    image_cutoff: float = 5.0
    r_max: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.image_cutoff > 0:
            raise ConfigError(f"CrystalNetworkConfig: image_cutoff is {self.image_cutoff}, expected a positive length in Å")
        for name in ("node_vocabulary", "pair_vocabulary"):
            if not getattr(self, name):
                raise ConfigError(f"CrystalNetworkConfig: {name} is empty, expected at least one integer feature")


@dataclass(frozen=True)
class Edges:
    """Pairs of an atom and an image of another, or of itself, within the cut-off.

    Attributes:
        batch: The crystal of each (edges,).
        i: The atom (edges,) in the middle.
        j: The atom (edges,) that the image is of.
        direction: Direction to the image (edges, 3), which vanishes smoothly at zero distance.
        radial: Functions of the distance (edges, basis), which vanish smoothly at the cut-off.
        pull: Bounded relative positions (edges, 3), which vanish smoothly at the cut-off.
    """

    batch: Tensor
    i: Tensor
    j: Tensor
    direction: Tensor
    radial: Tensor
    pull: Tensor

    def sum_pairs(self, values: Tensor, tokens: int, batch: int) -> Tensor:
        """Returns the sums of values (edges, width) over the images of each pair, with shape (batch, tokens, tokens, width)."""
        index = (self.batch * tokens + self.i) * tokens + self.j
        total = values.new_zeros(batch * tokens * tokens, values.shape[-1])
        return total.index_add(0, index, values).reshape(batch, tokens, tokens, -1)

    def sum_atoms(self, values: Tensor, tokens: int, batch: int) -> Tensor:
        """Returns the sums of values (edges, ...) over the neighbours of each atom, with shape (batch, tokens, ...)."""
        total = values.new_zeros(batch * tokens, *values.shape[1:])
        return total.index_add(0, self.batch * tokens + self.i, values).reshape(batch, tokens, *values.shape[1:])


def find_edges(frac: Tensor, cell: Tensor, mask: Tensor, basis: GaussianBasis, cutoff: float) -> Edges:
    r"""Finds all neighbours, with the smooth cut-off :math:`c(r) = \tfrac12 [1 + \cos(\pi r/r_c)]` in their sums.

    Arguments:
        frac: Fractional coordinates (batch, tokens, 3).
        cell: Cells (batch, 3, 3), in Å.
        mask: Real atoms (batch, tokens).
        basis: Functions of the distance.
        cutoff: Cut-off, in Å.
    """
    pairs, shifts = neighbours(frac, cell, cutoff, mask)
    b, i, j = pairs.unbind(1)
    vectors = ((frac[b, j] - frac[b, i] + shifts.to(frac.dtype))[:, None, :] @ cell[b])[:, 0]
    r = safe_norm(vectors)
    smooth = (0.5 * (1.0 + torch.cos(torch.pi * r / cutoff)))[:, None]
    direction = vectors / torch.sqrt(r * r + _ROUND * _ROUND)[:, None]
    return Edges(b, i, j, direction, basis(r) * smooth, vectors / (1.0 + r[:, None]) * smooth)


class Surroundings(nn.Module):
    r"""Invariants of the neighbours of each atom, of their distances and angles.

    .. math::
        a^c_i = \sum_e w^c_e, \quad m^c_i = \sum_e w^c_e\, \hat r_e, \quad M^c_i = \sum_e w^c_e\, (\hat r_e \hat r_e^\top - \tfrac13 |\hat r_e|^2 I), \qquad
        w^c_e = s^c_{z_j} \sum_k W_{ck}\, \phi_k(r_e)\, c(r_e)

    and from them :math:`a^c,\ |m^c|^2,\ m^c \cdot m^{c+1},\ \mathrm{tr} M^c M^c,\ \mathrm{tr} M^c M^{c+1},\ m^c \cdot M^c m^c`.

    Arguments:
        basis: Number of distance functions.
        dim: Width of the embedding of kinds of atoms.
        channels: Number of channels.
    """

    def __init__(self, basis: int, dim: int, channels: int) -> None:
        super().__init__()
        self.radial = nn.Linear(basis, channels, bias=False)
        self.kind = nn.Linear(dim, channels)

    def forward(self, edges: Edges, kinds: Tensor) -> Tensor:
        """Returns invariants (batch, tokens, channels * INVARIANTS) for embedded kinds of atoms (batch, tokens, dim)."""
        batch, tokens = kinds.shape[:2]
        with torch.autocast(kinds.device.type, enabled=False):
            d, radial = edges.direction, edges.radial
            w = (
                self.radial(radial.to(self.radial.weight.dtype)).to(d.dtype)
                * self.kind(kinds).to(d.dtype)[edges.batch, edges.j]
            )
            outer = d[:, :, None] * d[:, None, :]
            identity = torch.eye(3, dtype=d.dtype, device=d.device) / 3.0
            outer = outer - (d * d).sum(-1)[:, None, None] * identity
            features = torch.cat([torch.ones_like(d[:, :1]), d, outer.flatten(1)], dim=1)
            made = edges.sum_atoms(w[:, :, None] * features[:, None, :], tokens, batch) / _NEIGHBOURS**0.5
            a, m, matrix = made[..., 0], made[..., 1:4], made[..., 4:].unflatten(-1, (3, 3))
            turned = (matrix @ m[..., None])[..., 0]
            found = [
                a,
                (m * m).sum(-1),
                (m * m.roll(-1, dims=2)).sum(-1),
                (matrix * matrix).sum((-1, -2)),
                (matrix * matrix.roll(-1, dims=2)).sum((-1, -2)),
                (m * turned).sum(-1),
            ]
            # noisy cells may be crowded: large invariants are compressed
            return torch.asinh(torch.cat(found, dim=-1))


class EdgeHead(nn.Module):
    r"""Vectors of atoms and one symmetric matrix of the cell, sums over neighbours.

    .. math::
        w_e = W \mathrm{silu}(V \phi_e c_e + z_{ij} + A h_i + B h_j), \qquad v^p_i = \sum_c \alpha^{pc}(h_i) \sum_e w^c_e \hat r_e, \qquad
        S = \frac1n \sum_i \sum_c \beta^c(h_i) \sum_e w^{c}_e \hat r_e \hat r_e^\top

    Arguments:
        config: Size.
        powers: Vectors p of each atom.
    """

    def __init__(self, config: CrystalNetworkConfig, powers: int) -> None:
        super().__init__()
        self.powers, self.channels = powers, config.channels
        self.radial = nn.Linear(config.basis, config.pair_dim)
        self.receiver = nn.Linear(config.dim, config.pair_dim)
        self.sender = nn.Linear(config.dim, config.pair_dim, bias=False)
        self.weights = nn.Linear(config.pair_dim, 2 * config.channels, bias=False)
        self.mixing = nn.Linear(config.dim, (powers + 1) * config.channels)
        with torch.no_grad():
            self.weights.weight.mul_(0.3)

    def forward(self, edges: Edges, h: Tensor, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns vectors (batch, tokens, powers, 3) and a symmetric matrix (batch, 3, 3), in full precision.

        Arguments:
            edges: Neighbours.
            h: Tokens (batch, tokens, dim).
            z: Pair features (batch, tokens, tokens, pair_dim).
            mask: Real atoms (batch, tokens).
        """
        batch, tokens = h.shape[:2]
        b, i, j = edges.batch, edges.i, edges.j
        d = edges.direction
        hidden = self.radial(edges.radial.to(self.radial.weight.dtype)) + z[b, i, j]
        hidden = nn.functional.silu(hidden + self.receiver(h)[b, i] + self.sender(h)[b, j])
        # edges leave smoothly at the cut-off: their weight is a function of the distance that vanishes there
        reach = edges.radial.sum(-1, keepdim=True)
        w = (self.weights(hidden).to(d.dtype) * reach).chunk(2, dim=-1)
        mixed = self.mixing(h).to(d.dtype).reshape(batch, tokens, self.powers + 1, self.channels)
        vectors = edges.sum_atoms(w[0][:, :, None] * d[:, None, :], tokens, batch)
        v = full_precision_product(mixed[:, :, : self.powers], vectors)
        scale = (w[1] * mixed[:, :, self.powers][b, i]).sum(-1)
        total = d.new_zeros(batch, 9).index_add(0, b, (scale[:, None, None] * d[:, :, None] * d[:, None, :]).flatten(1))
        return v, total.reshape(batch, 3, 3) / mask.sum(1).to(d.dtype)[:, None, None]


class LatticeHead(nn.Module):
    r"""A symmetric matrix from the lattice vectors alone.

    .. math:: S = a I + \sum_k b_k\, \hat l_k \hat l_k^\top + \sum_{k<m} c_{km} \cos_{km} (\hat l_k \hat l_m^\top + \hat l_m \hat l_k^\top)

    with a, b and c functions of the mean token and of lengths and angles, so that permuted or inverted lattice vectors give the same matrix.

    Arguments:
        dim: Width of the tokens.
        hidden: Width of the hidden layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.pooled = nn.Linear(dim, hidden)
        self.length = nn.Linear(1, hidden, bias=False)
        self.angle = nn.Linear(3, hidden, bias=False)
        self.of_cell = nn.Linear(hidden, 1)
        self.of_vector = nn.Linear(hidden, 1)
        self.of_pair = nn.Linear(hidden, 1)

    def forward(self, pooled: Tensor, rows: Tensor) -> Tensor:
        """Returns a matrix (batch, 3, 3) for the mean token (batch, dim) and lattice vectors (batch, 3, 3) in units of the mean edge."""
        length = torch.linalg.vector_norm(rows, dim=-1)
        unit = rows / length[..., None]
        common = self.pooled(pooled)
        known = length.log().to(common.dtype)[..., None]
        single = self.of_vector(nn.functional.silu(common[:, None] + self.length(known))).to(rows.dtype)
        first, second = [0, 0, 1], [1, 2, 2]
        cosine = (unit[:, first] * unit[:, second]).sum(-1)
        pair = torch.stack(
            [known[:, first, 0] + known[:, second, 0], (known[:, first, 0] - known[:, second, 0]).square(), cosine.square()], -1
        )
        double = self.of_pair(nn.functional.silu(common[:, None] + self.angle(pair.to(common.dtype)))).to(rows.dtype)
        crossed = unit[:, first, :, None] * unit[:, second, None, :]
        matrix = (single[..., None] * unit[..., :, None] * unit[..., None, :]).sum(1)
        matrix = matrix + ((double * cosine[..., None])[..., None] * (crossed + crossed.transpose(-1, -2))).sum(1)
        whole = self.of_cell(nn.functional.silu(common)).to(rows.dtype)[..., None]
        return matrix + whole * torch.eye(3, dtype=rows.dtype, device=rows.device)


class CrystalNetwork(nn.Module):
    """Graphormer for the two fields of a crystal.

    Arguments:
        config: Size and vocabularies.
        centre: Multiple of the identity that the prior of cells is centred at, in Å.
        scale: Data scale of cells, in Å.
    """

    def __init__(self, config: CrystalNetworkConfig, *, centre: float, scale: float) -> None:
        super().__init__()
        self.config, self.centre, self.scale = config, centre, scale
        told = replace(config, conditions=SHAPE + config.conditions, extra_node=INVARIANTS * config.channels)
        self.trunk = Graphormer(told, vectors=False)
        self.surroundings = Surroundings(config.basis, config.dim, config.channels)
        self.edges = EdgeHead(config, powers=3)
        self.lattice = LatticeHead(config.dim, config.pair_dim)

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: GraphFeatures) -> dict[str, Tensor]:
        """Returns the raw outputs: `frac` (batch, tokens, 3) in fractional coordinates, and `cell` (batch, 3, 3)."""
        graph = GraphInputs.read(features, self.config.node_vocabulary, self.config.pair_vocabulary)
        frac = inputs[FRAC]
        batch, tokens = frac.shape[:2]
        mask = graph.mask.expand(batch, tokens)
        with torch.autocast(frac.device.type, enabled=False):  # products that carry coordinates
            edge = mask.sum(1).to(frac.dtype).pow(1 / 3) * self.centre
            rows = upright(shape_of(inputs[CELL], self.scale / self.centre), _FLATTEST)  # in units of the mean edge
            cell = rows * edge[:, None, None]
            edges = find_edges(frac, cell, mask, self.trunk.basis, self.config.image_cutoff)
            shape = shape_invariants(rows, mask)
        kinds = self.trunk.node(graph.node).expand(batch, tokens, -1)
        if graph.conditions is not None:
            shape = torch.cat([shape, graph.conditions.to(shape.dtype).expand(batch, -1)], dim=-1)
        graph = replace(graph, mask=mask, extra=self.surroundings(edges, kinds).to(kinds.dtype), conditions=shape)
        radial, pull = (edges.sum_pairs(values, tokens, batch) for values in (edges.radial, edges.pull))
        made = self.trunk.embed_seen(radial, pull, frac, levels, graph)
        v, strain = self.edges(edges, made.tokens, made.pairs, mask)
        weights = mask.to(made.tokens.dtype)[..., None]
        strain = strain + self.lattice((made.tokens * weights).sum(1) / weights.sum(1), rows)
        with torch.autocast(frac.device.type, enabled=False):
            # a vector in Å acts on fractional coordinates through the cell, noise does through its metric
            turned = torch.linalg.solve(rows, v[:, :, 0].transpose(1, 2)).transpose(1, 2) + v[:, :, 1] + v[:, :, 2] @ rows
            # a strain moves L -> L (I + S), of which the gauge keeps the symmetric part
            moved = rows @ strain
        return {FRAC: turned * mask[..., None].to(turned.dtype), CELL: 0.5 * (moved + moved.transpose(1, 2))}


def shape_of(x: Tensor, scale: float) -> Tensor:
    """Returns symmetric matrices I + scale x, cells in units of their mean edge, for preconditioned cells (batch, 3, 3)."""
    return torch.eye(3, dtype=x.dtype, device=x.device) + scale * 0.5 * (x + x.transpose(1, 2))


def upright(shape: Tensor, least: float) -> Tensor:
    """Returns symmetric matrices (batch, 3, 3) with a multiple of the identity added where an eigenvalue is below `least`, so that none is."""
    vectors = torch.linalg.eigh(shape.detach())[1]
    lowest = vectors[..., 0]
    # the derivative of an eigenvalue is that of this product: the vector itself need not be differentiated
    eigenvalue = (lowest[:, None, :] @ shape @ lowest[:, :, None])[:, 0, 0]
    missing = torch.relu(least - eigenvalue)
    return shape + missing[:, None, None] * torch.eye(3, dtype=shape.dtype, device=shape.device)


def shape_invariants(rows: Tensor, mask: Tensor) -> Tensor:
    """Returns what the network is told of a cell (batch, SHAPE), the same for permuted and inverted lattice vectors, and of the number of atoms.

    Arguments:
        rows: Cells (batch, 3, 3) in units of their mean edge.
        mask: Real atoms (batch, tokens).
    """
    length = torch.linalg.vector_norm(rows, dim=-1)
    unit = rows / length[..., None]
    cosines = (unit @ unit.transpose(1, 2))[:, [0, 0, 1], [1, 2, 2]]
    traces = rows.diagonal(dim1=-2, dim2=-1).sum(-1), (rows * rows).sum((-1, -2))
    found = [
        volume(rows).log(),
        traces[0] - 3.0,
        traces[1] - 3.0,
        length.log().square().sum(-1),
        cosines.square().sum(-1),
        cosines.prod(-1),
        mask.sum(1).to(rows.dtype).log() - 2.0,
    ]
    return torch.stack(found, dim=-1)
