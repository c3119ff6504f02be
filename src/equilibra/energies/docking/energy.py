"""The Vina scoring function as a batched, differentiable energy of poses of one ligand in one rigid receptor."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from equilibra.energies.blocks import BlockEnergy, WithGradient, in_blocks
from equilibra.energies.docking.atom_types import type_parameters
from equilibra.energies.docking.box import Box
from equilibra.energies.docking.ligand import DockingLigand
from equilibra.energies.docking.neighbours import NeighbourTable, neighbour_table
from equilibra.energies.docking.receptor import Receptor
from equilibra.energies.docking.terms import CUTOFF, ROTATABLE, distances, pair_terms
from equilibra.energies.energy import Energy
from equilibra.errors import ConfigError, InputError
from equilibra.units import KCAL_PER_MOL_EV

# pairs that are worked on together: kernels one by one want them in the cache
_PAIRS = {"cpu": 2**16}
_COMPILED_PAIRS = {"cpu": 2**17}
_MANY_PAIRS = 2**22


class DockingScore(NamedTuple):
    """What the program Vina prints for a pose, in kcal/mol.

    Attributes:
        total: Predicted free energy of binding (batch,): the intermolecular energy over 1 + 0.05846 N_rot.
        inter: Energy between ligand and receptor (batch,).
        intra: Energy within the ligand (batch,).
    """

    total: Tensor
    inter: Tensor
    intra: Tensor


class DockingEnergy(BlockEnergy["_Scorer"]):
    r"""Energy of poses by the Vina scoring function, in eV.

    .. math:: E(x) = \sum_i \sigma\Big(\sum_j e(r_{ij})\Big) + E_\text{ligand}(x) + \tfrac{k}{2} \sum_i \delta_i^2

    with the pair terms e of `terms.pair_terms` between atoms i of the ligand and j of the receptor, and the distance :math:`\delta_i` of an atom from the box.
    It is the function that Vina's own search minimises and samples, inter- plus intramolecular energy; the number that Vina prints, which divides by the number of
    rotatable bonds, is `score`. As in Vina, positive sums of an atom are bent, :math:`\sigma(e) = e/(1 + e/c)` for e > 0 with c = 1000 kcal/mol, and so are
    those of pairs within the ligand: an energy of 5 is lowered by 0.025. An atom outside the box has the energy of the nearest point of the box and is drawn back by a
    harmonic wall, so that a Boltzmann distribution exists; Vina's search forbids it. Only heavy atoms have an energy.

    Vina itself rounds squared distances to tables with steps of 1/32 Å²; here distances are exact.

    Energies are differentiable to any order, with the first derivatives written by hand: see `terms` for how smooth they are. Parameters follow the positions to
    their device and into their precision; positions are taken relative to the centre of the box first.

    Arguments:
        receptor: The receptor.
        ligand: The ligand.
        box: Where the heavy atoms of the ligand may be. Energies inside are exact, whatever the box.
        internal: What E_ligand is: `vina`, the pair terms between atoms more than three bonds apart that move relative to each other; another energy of the ligand's
            conformations, such as `MMFFEnergy`, which takes their place; or None.
        wall: Force constant k of the wall in kcal/mol/Å².
        compile: Whether `torch.compile` fuses the kernels. It takes up to a minute at the first call, needs a C++ compiler, and is several times faster
            afterwards. Poses are then evaluated in blocks of one size, the last of them padded.

    Raises:
        InputError: If no atom of the receptor is within 8 Å of the box, an atom there could not be typed, or the internal energy is of another number of atoms.
        ConfigError: If the wall is not positive, or `internal` is an unknown word.
    """

    invariant = False

    def __init__(
        self,
        receptor: Receptor,
        ligand: DockingLigand,
        box: Box,
        *,
        internal: Literal["vina"] | Energy | None = "vina",
        wall: float = 10.0,
        compile: bool = False,
    ) -> None:
        if not (math.isfinite(wall) and wall > 0.0):
            raise ConfigError(f"docking: got the wall {wall}, expected a positive number in kcal/mol/Å²")
        if isinstance(internal, str) and internal != "vina":
            raise ConfigError(
                f"docking: got the internal energy '{internal}', expected 'vina', an Energy of the ligand, or None"
            )
        if isinstance(internal, Energy) and internal.items != ligand.items:
            raise InputError(
                f"docking: the internal energy '{internal.name}' is of {internal.items} atoms, the ligand has {ligand.items}, hydrogens included; "
                "make both from the same molecule"
            )
        super().__init__(ligand.items, "docking", _Scorer.of(receptor, ligand, box, wall), compile=compile)
        self.n_rot = ligand.n_rot
        self.internal = internal

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) in eV of poses (batch, atoms, 3) in Å.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self.check_positions(x)
        if torch.is_grad_enabled() and x.requires_grad:
            energy: Tensor = WithGradient.apply(x, self)
        else:
            energy = self.evaluate(x, gradients=False)[0]
        return energy + self.internal.energy(x) if isinstance(self.internal, Energy) else energy

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) in eV and forces (batch, atoms, 3) in eV/Å, both detached.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self.check_positions(x)
        with torch.no_grad():
            energy, gradient = self.evaluate(x)
        assert gradient is not None
        if not isinstance(self.internal, Energy):
            return energy, gradient.neg_()
        own, force = self.internal.energy_and_force(x)
        return energy + own, force - gradient

    @torch.no_grad()
    def score(self, x: Tensor) -> DockingScore:
        """Computes what Vina prints for poses (batch, atoms, 3) in Å: numbers in kcal/mol, whatever the internal energy is, and without the wall.

        Raises:
            ShapeError: If the positions have another shape.
        """
        self.check_positions(x)
        scorer = self.placed(x)
        parts = [scorer.parts(scorer.centred(block), gradients=False)[0] for block in x.split(scorer.block(_PAIRS))]
        inter, intra = torch.cat(parts, 1)
        return DockingScore(inter / (1.0 + ROTATABLE * self.n_rot), inter, intra)

    def evaluate(self, x: Tensor, *, gradients: bool = True, differentiable: bool = False) -> tuple[Tensor, Tensor | None]:
        """Returns energies (batch,) and, if wanted, gradients (batch, atoms, 3), block by block; autograd can go through where asked to."""
        compiled = self.compile and not differentiable
        scorer, intra = self.placed(x), self.internal == "vina"
        size = scorer.block(_COMPILED_PAIRS if compiled else _PAIRS)
        if compiled:
            example = x.new_zeros(size, len(scorer.heavy), 3)
            graph = self.graph((x.device, x.dtype), lambda block: scorer(block, intra=intra), example)
            blocks = in_blocks(x, size, lambda block: graph(scorer.centred(block)), padded=True)
        else:
            blocks = in_blocks(
                x, size, lambda block: scorer(scorer.centred(block), intra=intra, gradients=gradients), padded=False
            )
        energies, pieces = [], []
        for (energy, gradient), count in blocks:
            energies.append(energy[:count])
            if gradient is not None:
                pieces.append(gradient[:count])
        whole = torch.zeros_like(x).index_copy(1, scorer.heavy, torch.cat(pieces)) if pieces else None
        return torch.cat(energies), whole


@dataclass(frozen=True)
class _Scorer:
    """The function in one precision on one device, of heavy atoms relative to the centre of the box, in kcal/mol until the end.

    Attributes:
        heavy: Indices of the heavy atoms (heavy,).
        centre: Centre of the box (3,).
        half: Half of its edges (3,).
        wall: Force constant.
        table: The receptor.
        own: Radius, hydrophobic, donor and acceptor of the heavy atoms (4, heavy, 1).
        pairs: Pairs within the ligand (2, pairs).
        within: Contact distance, and whether hydrophobic and bonding, of these pairs (3, pairs).
    """

    heavy: Tensor
    centre: Tensor
    half: Tensor
    wall: float
    table: NeighbourTable
    own: Tensor
    pairs: Tensor
    within: Tensor

    @classmethod
    def of(cls, receptor: Receptor, ligand: DockingLigand, box: Box, wall: float) -> _Scorer:
        low, high = box.corners
        known = [i for i, name in enumerate(receptor.types) if name]
        receptor.check_near(box)
        table = neighbour_table(box, receptor.positions[known], type_parameters([receptor.types[i] for i in known]))
        if table is None:
            raise InputError(
                f"docking: no atom of the receptor is within {CUTOFF:g} Å of the box with centre {_text(box.centre)} and size {_text(box.size)}; the receptor "
                f"reaches from {_text(receptor.positions.amin(0).tolist())} to {_text(receptor.positions.amax(0).tolist())} Å. Are ligand and receptor in one frame?"
            )
        own = type_parameters(ligand.types)
        i, j = ligand.pairs
        return cls(
            heavy=ligand.heavy,
            centre=(low + high) / 2,
            half=(high - low) / 2,
            wall=wall,
            table=table,
            own=own.unsqueeze(2),
            pairs=ligand.pairs,
            within=torch.stack(_pair_parameters(own[:, i], own[:, j])),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> _Scorer:
        def cast(value: Any) -> Any:
            if isinstance(value, NeighbourTable):
                return NeighbourTable(*(cast(getattr(value, field.name)) for field in fields(value)))
            if isinstance(value, Tensor):
                return value.to(device, dtype) if value.is_floating_point() else value.to(device)
            return value

        return _Scorer(*(cast(getattr(self, field.name)) for field in fields(self)))

    def block(self, most: dict[str, int]) -> int:
        """Number of poses evaluated together."""
        pairs = len(self.heavy) * self.table.rows.shape[2] + self.pairs.shape[1]
        return max(1, most.get(self.heavy.device.type, _MANY_PAIRS) // pairs)

    def centred(self, x: Tensor) -> Tensor:
        """Returns the heavy atoms (batch, heavy, 3) of positions (batch, atoms, 3), relative to the centre of the box."""
        return x.index_select(1, self.heavy) - self.centre

    def parts(self, x: Tensor, *, intra: bool = True, gradients: bool = True) -> tuple[Tensor, Tensor | None]:
        """Returns inter- and intramolecular energies (2, batch) and, if wanted, the gradient of their sum (batch, heavy, 3)."""
        inside = torch.minimum(torch.maximum(x, -self.half), self.half)
        energy, gradient = self._inter(inside, gradients)
        if gradient is not None:
            gradient = gradient * (inside == x)
        if not intra or not self.pairs.shape[1]:
            return torch.stack((energy, torch.zeros_like(energy))), gradient
        own, own_gradient = self._intra(x, gradients)
        if gradient is not None and own_gradient is not None:
            gradient = gradient + own_gradient
        return torch.stack((energy, own)), gradient

    def __call__(self, x: Tensor, *, intra: bool, gradients: bool = True) -> tuple[Tensor, Tensor | None]:
        """Returns energies (batch,) in eV and, if wanted, gradients (batch, heavy, 3) in eV/Å."""
        energies, gradient = self.parts(x, intra=intra, gradients=gradients)
        outside = x - torch.minimum(torch.maximum(x, -self.half), self.half)
        energy = (energies.sum(0) + 0.5 * self.wall * (outside * outside).sum((1, 2))) * KCAL_PER_MOL_EV
        return energy, None if gradient is None else (gradient + self.wall * outside) * KCAL_PER_MOL_EV

    def _inter(self, x: Tensor, gradients: bool) -> tuple[Tensor, Tensor | None]:
        batch, heavy, _ = x.shape
        rows = self.table.near(x.reshape(-1, 3)).unflatten(0, (batch, heavy))
        difference = x.unsqueeze(3) - rows[:, :, :3]
        distance = distances(difference)
        energy, slope = pair_terms(distance, *_pair_parameters(self.own, rows[:, :, 3:].movedim(2, 0)), slopes=gradients)
        energy, bend = _bent(energy.sum(2))
        if slope is None:
            return energy.sum(1), None
        gradient = (difference * (slope / distance).unsqueeze(2)).sum(3)
        return energy.sum(1), gradient * bend.unsqueeze(2)

    def _intra(self, x: Tensor, gradients: bool) -> tuple[Tensor, Tensor | None]:
        i, j = self.pairs
        difference = (x.index_select(1, i) - x.index_select(1, j)).mT
        distance = distances(difference)
        energy, slope = pair_terms(distance, *self.within.unsqueeze(1), slopes=gradients)
        energy, bend = _bent(energy)
        if slope is None:
            return energy.sum(1), None
        pull = (difference * (slope * bend / distance).unsqueeze(1)).mT
        return energy.sum(1), torch.zeros_like(x).index_add(1, i, pull).index_add(1, j, -pull)


_CEILING = 1000.0


def _bent(energy: Tensor) -> tuple[Tensor, Tensor]:
    """Returns bent energies and the derivatives of the bending."""
    factor = _CEILING / (_CEILING + energy.clamp_min(0.0))
    return energy * factor, factor * factor


def _pair_parameters(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns contact distances, and whether pairs are hydrophobic and can form hydrogen bonds, of parameters (4, ...) of their atoms."""
    return first[0] + second[0], first[1] * second[1], (first[2] * second[3] + first[3] * second[2]).clamp_max(1.0)


def _text(numbers: Any) -> str:
    return "(" + ", ".join(f"{number:.1f}" for number in numbers) + ")"
