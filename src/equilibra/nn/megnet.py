r"""The materials graph network with fidelities: bonds, atoms and a global state that update each other.

References:
    | Graph Networks as a Universal Machine Learning Framework for Molecules and Crystals (Chen et al., 2019), https://doi.org/10.1021/acs.chemmater.9b01294
    | Learning properties of ordered and disordered materials from multi-fidelity data (Chen et al., 2021), https://doi.org/10.1038/s43588-020-00002-x
    | Order Matters: Sequence to sequence for sets (Vinyals, Bengio and Kudlur, 2016), https://arxiv.org/abs/1511.06391
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equilibra.nn.crystal_graph import CrystalGraph, check_predictor, mean_by, rows_of, softmax_by, sum_by


@dataclass(frozen=True, kw_only=True)
class MEGNetConfig:
    r"""Size of the network.

    Attributes:
        elements: Atomic numbers that it knows, in the order of its embedding.
        states: Number of kinds of the global state, here fidelities.
        cutoff: Longest bond, in Å.
        basis: Number of Gaussians of the bond length, from zero to `r_max`.
        r_max: Centre of the last of them, in Å.
        sharpness: Factor a of their exponent, :math:`e^{-a (r - \mu)^2}`, in Å⁻².
        embedding: Width of the embeddings of elements and states.
        dim: Width of the features of bonds, atoms and state.
        hidden: Width of the hidden layers.
        blocks: Number of blocks.
        readouts: Steps of the attention that reads a set.
        output: Widths of the last hidden layers.
        target_mean: Mean of the training targets.
        target_std: Their standard deviation.
    """

    elements: tuple[int, ...]
    states: int = 4
    cutoff: float = 5.0
    basis: int = 100
    r_max: float = 6.0
    sharpness: float = 0.5
    embedding: int = 16
    dim: int = 32
    hidden: int = 64
    blocks: int = 3
    readouts: int = 2
    output: tuple[int, ...] = (32, 16)
    target_mean: float = 0.0
    target_std: float = 1.0

    def __post_init__(self) -> None:
        sizes = (
            "states",
            "cutoff",
            "basis",
            "r_max",
            "sharpness",
            "embedding",
            "dim",
            "hidden",
            "blocks",
            "readouts",
            "target_std",
        )
        check_predictor(self, sizes)


class ShiftedSoftplus(nn.Module):
    r"""The activation :math:`\ln(1 + e^x) - \ln 2`, zero at zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation of x."""
        return nn.functional.softplus(x) - math.log(2.0)


def perceptron(*widths: int) -> nn.Sequential:
    """Makes layers of the given widths, each with its activation."""
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(layer for a, b in pairs for layer in (nn.Linear(a, b), ShiftedSoftplus())))


class BondUpdate(nn.Module):
    r"""New features of bonds, :math:`\mathrm{MLP}(v_j \oplus v_i \oplus e_{ij} \oplus u)`, with the first layer taken apart: most of it is done once per atom.

    Arguments:
        config: Size.
    """

    def __init__(self, config: MEGNetConfig) -> None:
        super().__init__()
        self.sender = nn.Linear(config.dim, config.hidden, bias=False)
        self.receiver = nn.Linear(config.dim, config.hidden, bias=False)
        self.state = nn.Linear(config.dim, config.hidden, bias=False)
        self.bond = nn.Linear(config.dim, config.hidden)
        self.rest = nn.Sequential(ShiftedSoftplus(), *perceptron(config.hidden, config.hidden, config.dim))

    def forward(self, graph: CrystalGraph, e: Tensor, v: Tensor, u: Tensor) -> Tensor:
        """Returns features (bonds, dim) from those of bonds, atoms (atoms, dim) and state (crystals, dim)."""
        receiver = self.receiver(v) + self.state(u)[graph.crystal]
        return self.rest(self.bond(e) + receiver[graph.receiver] + self.sender(v)[graph.sender])


class MEGNetBlock(nn.Module):
    r"""One round of updates, of bonds, then atoms, then the state, around which a skip connection leads.

    .. math::
        e_{ij} \leftarrow \phi_e(v_j, v_i, e_{ij}, u), \qquad v_i \leftarrow \phi_v(v_i, \langle e_{ij} \rangle_j, u), \qquad
        u \leftarrow \phi_u(u, \langle e \rangle, \langle v \rangle)

    Arguments:
        config: Size.
        first: Whether it is the first block, which has no layers in front.
    """

    def __init__(self, config: MEGNetConfig, first: bool) -> None:
        super().__init__()
        inner = (config.dim, config.hidden, config.dim)
        outer = (3 * config.dim, config.hidden, config.hidden, config.dim)
        self.bond_in, self.atom_in, self.state_in = (nn.Identity() if first else perceptron(*inner) for _ in range(3))
        self.bond = BondUpdate(config)
        self.atom = perceptron(*outer)
        self.state = perceptron(*outer)

    def forward(self, graph: CrystalGraph, e: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns new features of bonds (bonds, dim), atoms (atoms, dim) and state (crystals, dim)."""
        bonds, atoms, state = self.bond_in(e), self.atom_in(v), self.state_in(u)
        bonds = self.bond(graph, bonds, atoms, state)
        around = mean_by(bonds, graph.receiver, len(atoms))
        atoms = self.atom(torch.cat([atoms, around, state[graph.crystal]], dim=-1))
        over = mean_by(bonds, graph.bond_crystal, graph.crystals), mean_by(atoms, graph.crystal, graph.crystals)
        state = self.state(torch.cat([state, *over], dim=-1))
        return e + bonds, v + atoms, u + state


class SetReadout(nn.Module):
    r"""A vector of each set that does not depend on the order of its items, found by repeated attention.

    A long short-term memory with the state (h, c) asks, the softmax of :math:`x_k \cdot h` weighs the items, and the answer goes into the next question:

    .. math:: h, c \leftarrow \mathrm{LSTM}(q, h, c), \qquad q \leftarrow h \oplus \sum_k \mathrm{softmax}_k(x_k \cdot h)\, x_k

    Arguments:
        dim: Width of the items.
        steps: Number of questions.
    """

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.question = nn.Linear(2 * dim, 4 * dim)
        self.memory = nn.Linear(dim, 4 * dim)

    def forward(self, x: Tensor, owner: Tensor, owners: int) -> Tensor:
        """Returns vectors (owners, 2 dim) of the items (items, dim) of each owner."""
        h = c = x.new_zeros(owners, x.shape[-1])
        q = torch.cat([h, h], dim=-1)
        for _ in range(self.steps):
            write, keep, new, show = (self.question(q) + self.memory(h)).chunk(4, dim=-1)
            c = torch.sigmoid(keep) * c + torch.sigmoid(write) * torch.tanh(new)
            h = torch.sigmoid(show) * torch.tanh(c)
            attention = softmax_by((x * h[owner]).sum(-1), owner, owners)
            q = torch.cat([h, sum_by(attention[:, None] * x, owner, owners)], dim=-1)
        return q


class MEGNet(nn.Module):
    """The network: embeddings, blocks, readouts of atoms and bonds, two hidden layers.

    Bonds are not weighted by a function that vanishes at the cut-off: values jump where an atom enters or leaves it.

    Arguments:
        config: Size.
    """

    centres: Tensor

    def __init__(self, config: MEGNetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("centres", torch.linspace(0.0, config.r_max, config.basis), persistent=False)
        self.element = nn.Embedding(len(config.elements), config.embedding)
        self.fidelity = nn.Embedding(config.states, config.embedding)
        self.bond_in = perceptron(config.basis, config.hidden, config.dim)
        self.atom_in = perceptron(config.embedding, config.hidden, config.dim)
        self.state_in = perceptron(config.embedding, config.hidden, config.dim)
        self.blocks = nn.ModuleList(MEGNetBlock(config, first=number == 0) for number in range(config.blocks))
        self.read_bonds = SetReadout(config.dim, config.readouts)
        self.read_atoms = SetReadout(config.dim, config.readouts)
        self.out = nn.Sequential(*perceptron(5 * config.dim, *config.output), nn.Linear(config.output[-1], 1))

    def forward(self, graph: CrystalGraph, state: Tensor) -> Tensor:
        """Returns the property (crystals,) of crystals with bonds up to the cut-off, in the unit of the training targets.

        Arguments:
            graph: The crystals.
            state: Kind of the global state of each (crystals,).

        Raises:
            InputError: If an element is not one that the network knows.
        """
        e = self.bond_in(torch.exp(-self.config.sharpness * (graph.length[:, None] - self.centres) ** 2))
        v = self.atom_in(self.element(rows_of(graph.numbers, self.config.elements)))
        u = self.state_in(self.fidelity(state))
        for block in self.blocks:
            e, v, u = block(graph, e, v, u)
        atoms = self.read_atoms(v, graph.crystal, graph.crystals)
        bonds = self.read_bonds(e, graph.bond_crystal, graph.crystals)
        value = self.out(torch.cat([atoms, bonds, u], dim=-1))[:, 0]
        return value * self.config.target_std + self.config.target_mean
