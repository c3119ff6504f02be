r"""The crystal graph convolutional network: gated messages from the nearest neighbours of each atom.

References:
    | Crystal Graph Convolutional Neural Networks for an Accurate and Interpretable Prediction of Material Properties (Xie and Grossman, 2018)
    | https://doi.org/10.1103/PhysRevLett.120.145301
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from equilibra.nn.crystal_graph import CrystalGraph, check_predictor, mean_by, rows_of, sum_by

_TIE = 1e-4
"""Distances that differ by less count as one shell, in Å."""


@dataclass(frozen=True, kw_only=True)
class CGCNNConfig:
    """Size of the network.

    Attributes:
        elements: Atomic numbers that it knows, in the order of its embedding.
        cutoff: Longest bond, in Å.
        neighbours: Number of nearest neighbours that an atom hears of.
        step: Distance of neighbouring Gaussians of the bond length, and their width, in Å.
        dim: Width of the atoms' features.
        hidden: Width after pooling.
        layers: Number of convolutions.
        target_mean: Mean of the training targets.
        target_std: Their standard deviation.
    """

    elements: tuple[int, ...]
    cutoff: float = 8.0
    neighbours: int = 12
    step: float = 0.2
    dim: int = 64
    hidden: int = 32
    layers: int = 4
    target_mean: float = 0.0
    target_std: float = 1.0

    def __post_init__(self) -> None:
        check_predictor(self, ("cutoff", "neighbours", "step", "dim", "hidden", "layers", "target_std"))


class GatedConvolution(nn.Module):
    r"""One convolution, in the form that a trained network has.

    .. math::
        z_{ij} = A v_i + B v_j + C u_{ij} + b, \qquad
        v_i \leftarrow \mathrm{softplus}\Big(v_i + s \odot \sum_j w_{ij}\, \sigma(z^{(1)}_{ij}) \odot \mathrm{softplus}(z^{(2)}_{ij}) + t\Big)

    The normalisations of the published network, over a batch while it is trained, are fixed affine maps afterwards. Here the first is part of A, B, C and b, the
    second is s and t.

    Arguments:
        dim: Width of the atoms' features.
        basis: Number of functions of the bond length.
    """

    def __init__(self, dim: int, basis: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(dim, 2 * dim)
        self.sender = nn.Linear(dim, 2 * dim, bias=False)
        self.bond = nn.Linear(basis, 2 * dim, bias=False)
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, atoms: Tensor, bonds: Tensor, receiver: Tensor, sender: Tensor, weight: Tensor) -> Tensor:
        """Returns new features (atoms, dim).

        Arguments:
            atoms: Features (atoms, dim).
            bonds: Functions of the lengths (bonds, basis).
            receiver: Atom in the middle of each bond (bonds,).
            sender: Atom at its end (bonds,).
            weight: Of each bond in the sum (bonds,).
        """
        gate, core = (self.receiver(atoms)[receiver] + self.sender(atoms)[sender] + self.bond(bonds)).chunk(2, dim=-1)
        message = sum_by(weight[:, None] * torch.sigmoid(gate) * softplus(core), receiver, len(atoms))
        return softplus(atoms + self.scale * message + self.shift)


class CGCNN(nn.Module):
    r"""The network: embedding of elements, convolutions, mean over atoms, two layers.

    Bonds are expanded in :math:`\exp[-(r - \mu_k)^2/\Delta^2]` with :math:`\mu_k = k \Delta` up to the cut-off. Which neighbours are the nearest is piecewise constant in
    the positions: derivatives are those of the lengths of the bonds at a given choice, and values jump where the choice changes.

    Note:
        The published code takes the first twelve of a sorted list, which for a shell of equal distances that does not fit as a whole depends on the order of atoms. Here the
        places left are shared equally among the atoms of that shell, which is the same number wherever these are equivalent. An atom with fewer than twelve neighbours has
        those it has; the published code fills up with bonds of 9 Å to the first atom of the crystal.

    Arguments:
        config: Size.
    """

    centres: Tensor

    def __init__(self, config: CGCNNConfig) -> None:
        super().__init__()
        self.config = config
        basis = round(config.cutoff / config.step) + 1
        self.register_buffer("centres", torch.arange(basis) * config.step, persistent=False)
        self.embedding = nn.Embedding(len(config.elements), config.dim)
        self.convolutions = nn.ModuleList(GatedConvolution(config.dim, basis) for _ in range(config.layers))
        self.pooled = nn.Linear(config.dim, config.hidden)
        self.out = nn.Linear(config.hidden, 1)

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Returns the property (crystals,) of crystals with bonds up to the cut-off, in the unit of the training targets.

        Raises:
            InputError: If an element is not one that the network knows.
        """
        weight = nearest_weights(graph.length, graph.receiver, len(graph.numbers), self.config.neighbours)
        kept = weight > 0
        receiver, sender, weight = graph.receiver[kept], graph.sender[kept], weight[kept]
        bonds = torch.exp(-(((graph.length[kept][:, None] - self.centres) / self.config.step) ** 2))
        atoms = self.embedding(rows_of(graph.numbers, self.config.elements))
        for convolution in self.convolutions:
            atoms = convolution(atoms, bonds, receiver, sender, weight)
        crystals = mean_by(atoms, graph.crystal, graph.crystals)
        value = self.out(softplus(self.pooled(softplus(crystals))))[:, 0]
        return value * self.config.target_std + self.config.target_mean


@torch.no_grad()
def nearest_weights(length: Tensor, receiver: Tensor, atoms: int, count: int) -> Tensor:
    """Returns the weights of bonds (bonds,) that add up to `count` at each atom: one for the nearest, equal shares in the last shell, zero beyond.

    Arguments:
        length: Lengths (bonds,), in Å.
        receiver: Atom that each bond belongs to (bonds,).
        atoms: Number of atoms.
        count: Number of neighbours that are wanted; an atom with fewer bonds keeps them all.
    """
    order = torch.argsort(length)
    order = order[torch.argsort(receiver[order], stable=True)]
    number = torch.bincount(receiver, minlength=atoms)
    first = torch.cumsum(number, 0) - number
    last = length.new_full((atoms,), torch.inf)
    enough = number >= count
    last[enough] = length[order[first[enough] + count - 1]]
    nearer = length < last[receiver] - _TIE
    tied = (length - last[receiver]).abs() <= _TIE
    places = count - torch.bincount(receiver[nearer], minlength=atoms)
    shared = torch.bincount(receiver[tied], minlength=atoms).clamp(min=1)
    share = (places.to(length.dtype) / shared.to(length.dtype))[receiver]
    return torch.where(nearer, 1.0, torch.where(tied, share, 0.0)).to(length.dtype)
