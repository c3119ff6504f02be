"""The molecular-mechanics energy: all terms together, in blocks of conformations, with forces written out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equilibra.energies.blocks import BlockEnergy, Evaluation, WithGradient, cast, in_blocks
from equilibra.energies.molecular_mechanics.bonded import BondedTerm
from equilibra.energies.molecular_mechanics.born import GeneralisedBorn
from equilibra.energies.molecular_mechanics.nonbonded import Nonbonded, PairGeometry

# elements of a matrix of pairs that are worked on together: kernels one by one want them in the cache, fused ones keep little
_ELEMENTS = {"cpu": 2**16}
_COMPILED_ELEMENTS = {"cpu": 2**15, "cuda": 2**20}
_MANY_ELEMENTS = 2**24


class MolecularMechanics(BlockEnergy["_Terms"]):
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
        super().__init__(items, name, _Terms(items, list(bonded), nonbonded, born), compile=compile)
        self.invariant = True

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) in eV of positions (batch, atoms, 3) in Å.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self.check_positions(x)
        if torch.is_grad_enabled() and x.requires_grad:
            energy: Tensor = WithGradient.apply(x, self)
            return energy
        return self.evaluate(x)[0]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) in eV and forces (batch, atoms, 3) in eV/Å, both detached.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self.check_positions(x)
        with torch.no_grad():
            energy, gradient = self.evaluate(x)
        return energy, gradient.neg_()

    def evaluate(self, x: Tensor, *, differentiable: bool = False) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) and their gradients (batch, atoms, 3), block by block; autograd can go through where asked to."""
        compiled = self.compile and not differentiable
        terms = self.placed(x)
        size = terms.block(x.device.type, compiled=compiled)
        evaluate: Evaluation = terms
        if compiled:
            evaluate = self.graph((x.device, x.dtype), terms, terms.identity.new_zeros(3, self.items, size))
        energies, gradients = [], []
        blocks = in_blocks(x, size, lambda block: evaluate(block.permute(2, 1, 0).contiguous()), padded=compiled)
        for (energy, gradient), count in blocks:
            energies.append(energy[:count])
            gradients.append(gradient[..., :count].permute(2, 1, 0))
        return torch.cat(energies), torch.cat(gradients)


class _Terms:
    """All terms in one precision on one device: positions (3, atoms, batch) to energies (batch,) and gradients (3, atoms, batch)."""

    def __init__(self, items: int, bonded: list[Any], nonbonded: Nonbonded | None, born: GeneralisedBorn | None) -> None:
        self.items = items
        self.bonded = bonded
        self.nonbonded = nonbonded
        self.born = born
        self.identity = torch.eye(items, dtype=torch.float64).unsqueeze(2)
        self.gather = _gather_table(items, [term.atoms.flatten() for term in bonded]) if bonded else None

    def to(self, device: torch.device, dtype: torch.dtype) -> _Terms:
        terms = _Terms.__new__(_Terms)
        terms.items = self.items
        terms.bonded = [cast(term, device, dtype) for term in self.bonded]
        terms.nonbonded = cast(self.nonbonded, device, dtype)
        terms.born = cast(self.born, device, dtype)
        terms.identity = cast(self.identity, device, dtype)
        terms.gather = cast(self.gather, device, dtype)
        return terms

    def block(self, device: str, *, compiled: bool) -> int:
        """Number of conformations evaluated together: what fits into the cache, in whole vectors of the processor."""
        elements = (_COMPILED_ELEMENTS if compiled else _ELEMENTS).get(device, _MANY_ELEMENTS)
        return max(32 if compiled else 16, elements // self.items**2 // 16 * 16)

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
