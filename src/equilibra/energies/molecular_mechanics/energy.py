"""The molecular-mechanics energy: all terms together, in blocks of conformations, with forces written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.energies.molecular_mechanics.bonded import BondedTerm
from equilibra.energies.molecular_mechanics.born import GeneralisedBorn
from equilibra.energies.molecular_mechanics.nonbonded import Nonbonded, PairGeometry
from equilibra.errors import ShapeError

Term = TypeVar("Term")
Evaluation = Callable[[Tensor], tuple[Tensor, Tensor]]

# elements of a matrix of pairs that are worked on together: kernels one by one want them in the cache, fused ones keep little
_ELEMENTS = {"cpu": 2**16}
_COMPILED_ELEMENTS = {"cpu": 2**15, "cuda": 2**20}
_MANY_ELEMENTS = 2**24


def cast(term: Term, device: torch.device, dtype: torch.dtype) -> Term:
    """Returns a term with its parameters on a device and, where they are numbers and not indices, in a precision."""
    if isinstance(term, Tensor):
        return term.to(device, dtype) if term.is_floating_point() else term.to(device)  # type: ignore[return-value]
    if is_dataclass(term) and not isinstance(term, type):
        return replace(term, **{field.name: cast(getattr(term, field.name), device, dtype) for field in fields(term)})
    return term


class MolecularMechanics(Energy):
    r"""Molecular mechanics without a cut-off: bonded terms, pairs, and a generalised-Born solvent.

    Made by `read_openmm_system` or `molecular_mechanics`. Parameters are kept in double precision and follow the positions: to their device, and into
    their precision. In double precision energies and forces are those of OpenMM's Reference platform to about 1e-9. In single precision, on peptides of
    22 to 138 atoms near their equilibrium, energies drift by up to 1e-5 eV and forces by up to 5e-6 of their root mean square. Coordinates far from
    zero lose more before they arrive here: centre what is kept in single precision.

    Energies of any order of derivative: the first derivative comes from the forces written by hand, higher ones from these through autograd.

    Arguments:
        items: Number of atoms.
        bonded: Terms between fixed groups of atoms.
        nonbonded: Lennard-Jones and Coulomb energies, if any.
        born: The solvent, if any.
        name: What the energy is called in messages.
        compile: Whether `torch.compile` fuses the kernels. It takes about a minute at the first call, needs a C++ compiler, and is several times
            faster afterwards. Conformations are then evaluated in blocks of one size, the last of them padded.
    """

    def __init__(
        self,
        items: int,
        bonded: Sequence[BondedTerm] = (),
        nonbonded: Nonbonded | None = None,
        born: GeneralisedBorn | None = None,
        *,
        name: str = "molecular mechanics",
        compile: bool = False,
    ) -> None:
        self.items = items
        self.axes = 3
        self.name = name
        self.invariant = True
        self.compile = compile
        self._terms = _Terms(items, list(bonded), nonbonded, born)
        self._cast: dict[tuple[torch.device, torch.dtype], _Terms] = {}

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) in eV of positions (batch, atoms, 3) in Å.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self._check(x)
        if torch.is_grad_enabled() and x.requires_grad:
            energy: Tensor = _WithGradient.apply(x, self)
            return energy
        return self._evaluate(x)[0]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) in eV and forces (batch, atoms, 3) in eV/Å, both detached.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self._check(x)
        with torch.no_grad():
            energy, gradient = self._evaluate(x)
        return energy, gradient.neg_()

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.items, 3):
            raise ShapeError(f"positions for the energy '{self.name}'", tuple(x.shape), f"(batch, {self.items}, 3)")

    def _evaluate(self, x: Tensor, *, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) and their gradients (batch, atoms, 3), block by block; autograd can go through where asked to."""
        compiled = self.compile and not differentiable
        terms = self._terms_for(x)
        size = terms.block(x.device.type, compiled=compiled)
        evaluate = terms.compiled(size) if compiled else terms
        energies, gradients = [], []
        for block in x.split(size):
            count = len(block)
            if compiled and count < size:
                block = torch.cat((block, block[-1:].expand(size - count, -1, -1)))
            energy, gradient = evaluate(block.permute(2, 1, 0).contiguous())
            energies.append(energy[:count])
            gradients.append(gradient[..., :count].permute(2, 1, 0))
        if not energies:
            return x.sum((1, 2)), torch.zeros_like(x)
        return torch.cat(energies), torch.cat(gradients)

    def _terms_for(self, x: Tensor) -> _Terms:
        key = (x.device, x.dtype)
        if key not in self._cast:
            self._cast[key] = self._terms.to(*key)
        return self._cast[key]


class _WithGradient(torch.autograd.Function):
    """Energy whose derivative is the gradient that was computed along with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mechanics: MolecularMechanics) -> Tensor:
        energy, gradient = mechanics._evaluate(x)
        ctx.mechanics = mechanics
        ctx.save_for_backward(x, gradient)
        return energy

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        x, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            # a second derivative may be asked for: the gradient once more, as a function of the positions
            gradient = ctx.mechanics._evaluate(x, differentiable=True)[1]
        return upstream[:, None, None] * gradient, None


class _Terms:
    """All terms in one precision on one device: positions (3, atoms, batch) to energies (batch,) and gradients (3, atoms, batch)."""

    def __init__(self, items: int, bonded: list[Any], nonbonded: Nonbonded | None, born: GeneralisedBorn | None) -> None:
        self.items = items
        self.bonded = bonded
        self.nonbonded = nonbonded
        self.born = born
        self.identity = torch.eye(items, dtype=torch.float64).unsqueeze(2)
        self.gather = _gather_table(items, [term.atoms.flatten() for term in bonded]) if bonded else None
        self._compiled: Evaluation | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> _Terms:
        terms = _Terms.__new__(_Terms)
        terms.items = self.items
        terms.bonded = [cast(term, device, dtype) for term in self.bonded]
        terms.nonbonded = cast(self.nonbonded, device, dtype)
        terms.born = cast(self.born, device, dtype)
        terms.identity = cast(self.identity, device, dtype)
        terms.gather = cast(self.gather, device, dtype)
        terms._compiled = None
        return terms

    def block(self, device: str, *, compiled: bool) -> int:
        """Number of conformations evaluated together: what fits into the cache, in whole vectors of the processor."""
        elements = (_COMPILED_ELEMENTS if compiled else _ELEMENTS).get(device, _MANY_ELEMENTS)
        return max(32 if compiled else 16, elements // self.items**2 // 16 * 16)

    def compiled(self, size: int) -> Evaluation:
        """Returns the evaluation of blocks of `size` conformations as one compiled function."""
        if self._compiled is None:
            from torch.fx.experimental.proxy_tensor import make_fx

            # a graph of its own for each molecule: the compiler counts what it compiled per function, and stops at a number
            with torch.no_grad():
                example = self.identity.new_zeros(3, self.items, size)
                graph = make_fx(lambda x: self(x))(example)
            self._compiled = torch.compile(graph, fullgraph=True, dynamic=False)
        return self._compiled

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy, gradient = x.new_zeros(x.shape[2]), torch.zeros_like(x)
        if self.nonbonded is not None or self.born is not None:
            pairs = PairGeometry.of(x, self.identity)
            weight = None
            for term in (self.nonbonded, self.born):
                if term is not None:
                    part, part_weight = term(pairs)
                    energy = energy + part
                    weight = part_weight if weight is None else weight + part_weight
            assert weight is not None
            gradient = pairs.gradient(weight)
        if self.gather is not None:
            pieces = []
            for bonded in self.bonded:
                part, piece = bonded(x)
                energy = energy + part
                pieces.append(piece)
            pieces.append(x.new_zeros(3, 1, x.shape[2]))
            gathered = torch.cat(pieces, 1).index_select(1, self.gather.flatten())
            gradient = gradient + gathered.unflatten(1, tuple(self.gather.shape)).sum(1)
        return energy, gradient


def _gather_table(items: int, atoms: list[Tensor]) -> Tensor:
    """Returns, for each atom, which of all gradients of the bonded terms are its own, (most per atom, atoms); the end stands for none."""
    owner = torch.cat(atoms)
    lists: list[list[int]] = [[] for _ in range(items)]
    for position, atom in enumerate(owner.tolist()):
        lists[atom].append(position)
    most = max(len(entries) for entries in lists)
    return torch.tensor([entries + [len(owner)] * (most - len(entries)) for entries in lists]).T.contiguous()
