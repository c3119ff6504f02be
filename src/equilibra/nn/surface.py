r"""The Graphormer of adsorbates: mobile atoms above a surface that does not move, periodic in its plane.

Tokens are the mobile atoms. Each attends to all images of all atoms within a cut-off, those of the surface and those of the other mobile atoms, so that its output depends
on what is around it alone: the choice of the cell, a supercell, the origin, images of single atoms and the order of atoms make no difference. The normal of the surface
is a direction of its own, so outputs turn with rotations about it; mirror images are told apart.

Heights are relative to the surface; the network sees positions in Å (`diffusion.slab.Slab`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError, ShapeError
from equilibra.geometry.periodic import image_shifts
from equilibra.geometry.torus import wrap
from equilibra.nn.attention import GraphormerLayer
from equilibra.nn.distance import GaussianBasis, full_precision_product, safe_norm
from equilibra.nn.embedding import CategoricalEmbedding, NoiseEmbedding
from equilibra.nn.inputs import GraphFeatures, GraphInputs
from equilibra.nn.normalisation import LayerNorm

POSITIONS = "pos"
"""Name of the field: positions of the mobile atoms (batch, tokens, 3)."""

_ROUND = 0.3  # Å, over which directions vanish at zero distance
_NEIGHBOURS = 20.0  # typical number of neighbours that a sum runs over
_LARGEST = 60.0  # exponent of what is cut off to zero anyhow: finite in single precision
_LOWEST, _HIGHEST, _HEIGHTS = -4.0, 6.0, 20  # Å, between which heights are resolved, and by how many functions


class SurfaceFeatures(GraphFeatures, Protocol):
    """Features with what is around the tokens."""

    @property
    def around(self) -> Mapping[str, Tensor]:
        """Atoms of the surface: `element` (batch, items), `position` (batch, items, 3) in Å, `environment` (batch, items, width), `there` (batch, items)."""


@dataclass(frozen=True, kw_only=True)
class SurfaceNetworkConfig:
    """Size of a network of adsorbates and the vocabularies of its input.

    Attributes:
        node_vocabulary: Number of values of each integer feature of mobile atoms; `element` is that of the surface as well.
        pair_vocabulary: Number of values of each integer feature of pairs of mobile atoms.
        environment: Number of real-valued features of the atoms of the surface.
        dim: Width of the tokens.
        pair_dim: Width of the features of neighbours.
        layers: Number of layers.
        heads: Attention heads per layer.
        expansion: Feed-forward width in units of `dim`.
        basis: Number of distance functions.
        channels: Vector channels of the output head.
        conditions: Number of real-valued conditions of a whole system, such as the logarithm of the temperature.
        cutoff: Cut-off of neighbours, in Å.
    """

    node_vocabulary: Mapping[str, int]
    pair_vocabulary: Mapping[str, int]
    environment: int = 0
    dim: int = 96
    pair_dim: int = 48
    layers: int = 3
    heads: int = 6
    expansion: int = 2
    basis: int = 48
    channels: int = 16
    conditions: int = 0
    cutoff: float = 5.5

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"{type(self).__name__}: dim {self.dim} is not a multiple of heads {self.heads}")
        for name in ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{type(self).__name__}: {name} is {getattr(self, name)}, expected at least 1")
        if "element" not in self.node_vocabulary or not self.pair_vocabulary:
            raise ConfigError(f"{type(self).__name__}: expected the node feature 'element' and at least one pair feature")
        if not self.cutoff > 0:
            raise ConfigError(f"{type(self).__name__}: cutoff is {self.cutoff}, expected a positive length in Å")


@dataclass(frozen=True)
class Neighbours:
    """All images of atoms within the cut-off of mobile atoms: first those of the surface, then those of mobile atoms.

    Attributes:
        batch: Number of samples.
        tokens: Number of mobile atoms of a sample.
        receiver: The atom (edges,) in the middle, counted over the batch.
        item: Atoms of the surface (surface edges,), counted over the batch of the features.
        sender: Mobile atoms (mobile edges,), counted over the batch.
        pair: Index (mobile edges,) of the pair in the batch of the pair features.
        direction: Direction to the neighbour (edges, 3), which vanishes smoothly at zero distance.
        radial: Functions of the distance (edges, basis), which vanish smoothly at the cut-off.
        smooth: The cut-off function (edges,).
    """

    batch: int
    tokens: int
    receiver: Tensor
    item: Tensor
    sender: Tensor
    pair: Tensor
    direction: Tensor
    radial: Tensor
    smooth: Tensor

    def gather(self, surface: Tensor, tokens: Tensor) -> Tensor:
        """Returns the features (edges, width) of the neighbours, from those of the surface (surface edges, width) and of the tokens (batch, tokens, width)."""
        return torch.cat([surface, tokens.flatten(0, 1)[self.sender]])

    def middle(self, tokens: Tensor) -> Tensor:
        """Returns the features (edges, width) of the atoms in the middle."""
        return tokens.flatten(0, 1)[self.receiver]

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sums of values (edges, ...) over the neighbours of each atom, with shape (batch, tokens, ...)."""
        total = values.new_zeros(self.batch * self.tokens, *values.shape[1:])
        return total.index_add(0, self.receiver, values).reshape(self.batch, self.tokens, *values.shape[1:])


def find_neighbours(
    x: Tensor, mask: Tensor, cell: Tensor, around: Mapping[str, Tensor], basis: GaussianBasis, cutoff: float, shared_pairs: bool
) -> Neighbours:
    r"""Finds all neighbours of mobile atoms, with the smooth cut-off :math:`c(r) = \tfrac12 [1 + \cos(\pi r/r_c)]`.

    Arguments:
        x: Positions (batch, tokens, 3), in Å; those of any image.
        mask: Real tokens (batch, tokens).
        cell: Cells (batch or 1, 3, 3), in Å, of which the first two vectors repeat.
        around: Atoms of the surface: all images that the cut-off reaches from the cell about the origin.
        basis: Functions of the distance.
        cutoff: Cut-off, in Å.
        shared_pairs: Whether one sample's features of pairs serve all.
    """
    batch, tokens = x.shape[:2]
    with torch.no_grad():
        plane = cell[:, :2, :2].to(x.dtype)
        frac = torch.linalg.solve(plane.transpose(1, 2), x[..., :2].transpose(1, 2)).transpose(1, 2)
        moved = (wrap(frac) - frac) @ plane
    x = x + torch.cat([moved, torch.zeros_like(x[..., 2:])], dim=-1)
    positions, there = around["position"].to(x.dtype), around["there"]
    items, shared = positions.shape[1], positions.shape[0] == 1
    with torch.no_grad():
        gaps = positions[:, None] - x[:, :, None]
        near = (gaps.square().sum(-1) < cutoff**2) & there[:, None] & mask[:, :, None]
        b, i, k = near.nonzero().unbind(1)
        # images of other mobile atoms: differences of wrapped positions are less than a lattice vector
        shifts = image_shifts(cell.to(x.dtype), cutoff, (True, True, False), wrapped=True).to(x.dtype)
        translations = shifts @ cell.to(x.dtype)
        gaps = (x[:, None] - x[:, :, None])[:, :, :, None] + translations[:, None, None]
        own = torch.eye(tokens, dtype=torch.bool, device=x.device)[:, :, None] & (shifts == 0).all(1)
        near = (gaps.square().sum(-1) < cutoff**2) & ~own & (mask[:, :, None] & mask[:, None])[..., None]
        c, j, m, s = near.nonzero().unbind(1)
    to_surface = positions[torch.zeros_like(b) if shared else b, k] - x[b, i]
    to_mobile = x[c, m] - x[c, j] + translations[torch.zeros_like(c) if len(translations) == 1 else c, s]
    vectors = torch.cat([to_surface, to_mobile])
    r = safe_norm(vectors)
    smooth = 0.5 * (1.0 + torch.cos(torch.pi * r.clamp(max=cutoff) / cutoff))
    return Neighbours(
        batch=batch,
        tokens=tokens,
        receiver=torch.cat([b * tokens + i, c * tokens + j]),
        item=k if shared else b * items + k,
        sender=c * tokens + m,
        pair=(0 if shared_pairs else c * tokens * tokens) + j * tokens + m,
        direction=vectors / torch.sqrt(r * r + _ROUND * _ROUND)[:, None],
        radial=basis(r) * smooth[:, None],
        smooth=smooth,
    )


@dataclass(frozen=True)
class Seen:
    """What the attention of a layer reads: the neighbours, and the features (surface edges, dim) of those of the surface."""

    neighbours: Neighbours
    surface: Tensor


class SurfaceAttention(nn.Module):
    r"""Attention to neighbours that also gathers their directions.

    .. math::
        a_e = \frac{c_e\, e^{l_e}}{1 + \sum_{e'} c_{e'}\, e^{l_{e'}}}, \quad l_e = q_i \cdot k_e/\sqrt d + b_e, \qquad u_i = \sum_e a_e \hat r_e, \qquad
        \text{out}_i = W [\textstyle\sum_e a_e v_e,\ |u|,\ u^h \cdot u^{h+1},\ u \cdot n,\ n \cdot (u^h \times u^{h+1})]

    per head h, with the normal n of the surface. Weights vanish smoothly at the cut-off; an atom without neighbours attends to nothing.

    Arguments:
        dim: Width of the tokens.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim + 4 * heads, dim)

    def forward(self, h: Tensor, bias: Tensor, seen: Seen) -> Tensor:
        """Returns the update of the tokens (batch, tokens, dim), for biases (edges, heads)."""
        near = seen.neighbours
        batch, tokens, dim = h.shape
        width = dim // self.heads
        q = near.middle(self.query(h)).unflatten(-1, (self.heads, width))
        k, v = self.key_value(near.gather(seen.surface.to(h.dtype), h)).unflatten(-1, (2, self.heads, width)).unbind(1)
        with torch.autocast(h.device.type, enabled=False):
            logits = ((q * k).sum(-1) / math.sqrt(width) + bias).to(near.smooth.dtype)
            index = near.receiver[:, None].expand_as(logits)
            # the largest of what is summed, cut-off included: at the cut-off a large logit alone would leave 0/0
            known = logits.detach() + torch.log(near.smooth.detach())[:, None]
            top = logits.new_zeros(batch * tokens, self.heads).scatter_reduce(0, index, known, "amax")
            raw = near.smooth[:, None] * torch.exp((logits - top[near.receiver]).clamp(max=_LARGEST))
            total = near.sum(raw).flatten(0, 1) + torch.exp(-top)
            weights = raw / total[near.receiver]
            u = near.sum(weights[..., None] * near.direction[:, None, :])  # (batch, tokens, heads, 3)
            values = near.sum((weights[..., None] * v.to(weights.dtype)).flatten(1))
            after = u.roll(-1, dims=2)
            norm, dot = torch.sqrt((u * u).sum(-1) + 1e-8), (u * after).sum(-1)
            turn = u[..., 0] * after[..., 1] - u[..., 1] * after[..., 0]
            made = torch.cat([values, norm, dot, u[..., 2], turn], dim=-1)
        return self.out(made.to(h.dtype))


class SurfaceNetwork(nn.Module):
    """Graphormer for the positions of mobile atoms above a surface.

    Arguments:
        config: Size and vocabularies.
        scale: Data scale of the field, in Å.
    """

    heights: Tensor

    def __init__(self, config: SurfaceNetworkConfig, *, scale: float) -> None:
        super().__init__()
        self.config, self.scale = config, scale
        self.node = CategoricalEmbedding(config.node_vocabulary, config.dim)
        self.pair = CategoricalEmbedding(config.pair_vocabulary, config.pair_dim)
        self.noise = NoiseEmbedding(1, config.dim)
        self.conditions = (
            nn.Sequential(nn.Linear(config.conditions, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
            if config.conditions
            else None
        )
        self.register_buffer("heights", torch.linspace(_LOWEST, _HIGHEST, _HEIGHTS), persistent=False)
        self.height = nn.Linear(_HEIGHTS + 1, config.dim)
        self.surface = nn.Embedding(config.node_vocabulary["element"], config.dim)
        nn.init.normal_(self.surface.weight)
        self.environment = nn.Linear(config.environment, config.dim) if config.environment else None
        self.basis = GaussianBasis(config.basis, config.cutoff)
        self.distance = nn.Linear(config.basis, config.pair_dim)
        self.kind = nn.Linear(config.dim, config.pair_dim, bias=False)
        self.pair_noise = nn.Linear(config.dim, config.pair_dim)
        self.pair_hidden = nn.Linear(config.pair_dim, config.pair_dim)
        self.pair_to_node = nn.Linear(config.pair_dim, config.dim)
        self.biases = nn.Linear(config.pair_dim, config.layers * config.heads)
        self.stack = nn.ModuleList(
            GraphormerLayer(config.dim, config.expansion, SurfaceAttention(config.dim, config.heads))
            for _ in range(config.layers)
        )
        self.norm = LayerNorm(config.dim)
        self.receiver = nn.Linear(config.dim, config.pair_dim)
        self.sender = nn.Linear(config.dim, config.pair_dim, bias=False)
        self.weights = nn.Linear(config.pair_dim, config.channels, bias=False)
        self.mixing = nn.Linear(config.dim, 2 * config.channels + 1)
        with torch.no_grad():
            self.weights.weight.mul_(0.3)

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: SurfaceFeatures) -> dict[str, Tensor]:
        """Returns the raw output `pos` (batch, tokens, 3): a tangent vector at each mobile atom."""
        config = self.config
        graph = GraphInputs.read(features, config.node_vocabulary, config.pair_vocabulary)
        x = inputs[POSITIONS]
        batch, tokens = x.shape[:2]
        mask = graph.mask.expand(batch, tokens)
        x = torch.where(mask[..., None], x, 0.0)
        pairs = self.pair(graph.pair)
        around = features.around
        with torch.autocast(x.device.type, enabled=False):
            near = find_neighbours(
                x, mask, features.graph["cell"], around, self.basis, config.cutoff, shared_pairs=len(pairs) == 1
            )
            sigma = self.scale * torch.exp(4.0 * levels[:, 0].to(x.dtype))
            heights = self._heights(x[..., 2], sigma)
        noise = self._noise(levels, graph)
        # of neighbours alone: a mixed batch holds many more atoms of surfaces than are near
        surface = self.surface(around["element"].int().flatten(0, 1)[near.item])
        if self.environment is not None:
            surface = surface + self.environment(around["environment"].flatten(0, 1)[near.item].to(surface.dtype))
        h = (self.node(graph.node) + self.height(heights.to(noise.dtype)) + noise[:, None]).expand(batch, tokens, -1)
        kinds = near.gather(surface.to(h.dtype), self.node(graph.node).expand(batch, tokens, -1))
        own = pairs.flatten(0, 2)[near.pair]
        z = self.distance(near.radial.to(self.distance.weight.dtype)) + self.kind(kinds)
        z = z + torch.cat([own.new_zeros(len(near.item), own.shape[1]), own]).to(z.dtype)
        z = self.pair_hidden(nn.functional.silu(z + self.pair_noise(noise)[near.receiver // tokens]))
        activated = nn.functional.silu(z)
        h = h + self.pair_to_node(near.sum(activated * near.smooth[:, None].to(z.dtype)) / math.sqrt(_NEIGHBOURS))
        bias = self.biases(activated).unflatten(-1, (config.layers, config.heads))
        seen = Seen(near, surface)
        for index, layer in enumerate(self.stack):
            h = layer(h, noise, bias[:, index], seen)
        return {POSITIONS: self._vectors(self.norm(h), z, seen) * mask[..., None].to(x.dtype)}

    def _noise(self, levels: Tensor, graph: GraphInputs) -> Tensor:
        noise = self.noise(levels)
        if self.conditions is None:
            return noise
        if graph.conditions is None:
            raise ShapeError("conditions of the network", "none", f"graph features of the width {self.config.conditions}")
        return noise + self.conditions(graph.conditions.to(noise.dtype))

    def _heights(self, z: Tensor, sigma: Tensor) -> Tensor:
        """Returns functions (batch, tokens, width) of heights (batch, tokens): Gaussians near the surface, and the height in units of its spread at this noise."""
        spacing = (_HIGHEST - _LOWEST) / (_HEIGHTS - 1)
        local = torch.exp(-0.5 * ((z[..., None] - self.heights.to(z.dtype)) / spacing).square())
        return torch.cat([local, (z / torch.sqrt(sigma**2 + self.scale**2)[:, None])[..., None]], dim=-1)

    def _vectors(self, h: Tensor, z: Tensor, seen: Seen) -> Tensor:
        r"""Returns :math:`\sum_c (\alpha_c v_c + \beta_c\, n \times v_c) + \gamma n` with :math:`v_c = \sum_e w^c_e \hat r_e`, in full precision."""
        near, d = seen.neighbours, seen.neighbours.direction
        hidden = z + near.middle(self.receiver(h)) + self.sender(near.gather(seen.surface.to(h.dtype), h))
        w = self.weights(nn.functional.silu(hidden)).to(d.dtype) * near.smooth[:, None]
        v = near.sum(w[:, :, None] * d[:, None, :])  # (batch, tokens, channels, 3)
        mixed = self.mixing(h).to(d.dtype)
        alpha, beta, gamma = mixed.split([self.config.channels, self.config.channels, 1], dim=-1)
        turned = torch.stack([-v[..., 1], v[..., 0], torch.zeros_like(v[..., 0])], dim=-1)
        total = full_precision_product(alpha[..., None, :], v) + full_precision_product(beta[..., None, :], turned)
        normal = torch.nn.functional.pad(gamma, (2, 0))
        return total[..., 0, :] + normal
