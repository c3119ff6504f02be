r"""The effective-medium energy of a slab of which some atoms move, batched over conformations.

.. math::
    E = \sum_i \Bigl[ E_{0,i}\,(1 - p_i \ln y_i)\, y_i^{p_i} + 6 V_{0,i}\, y_i^{q_i} - E_{0,i} \Bigr] + E_{\text{pair}}, \qquad
    y_i = \frac{\sigma_{1,i}}{12 \gamma_{1,i}}, \quad p_i = \frac{\lambda_i}{\beta \eta_{2,i}}, \quad q_i = \frac{\kappa_i}{\beta \eta_{2,i}}

This is the usual form with :math:`\dot s_i = -\ln y_i/(\beta \eta_{2,i})` put in. The zero of energy is ASAP's and ASE's: bulk fcc
crystals at equilibrium, up to about 0.01 eV an atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equilibra.energies.blocks import BlockEnergy, Evaluation, in_blocks
from equilibra.energies.emt.images import Images
from equilibra.energies.emt.pairs import PairFunctions, Pairs
from equilibra.energies.emt.parameters import BETA, AtomParameters, Cutoff, require_known
from equilibra.errors import InputError, ShapeError

# elements of a table of pairs that are worked on together: kernels one by one want them in the cache, fused ones keep little
_ELEMENTS = {"cpu": 2**15}
_COMPILED_ELEMENTS = {"cpu": 2**16, "cuda": 2**20}
_MANY_ELEMENTS = 2**24

_LEAST_DENSITY = 1e-30
"""Density below which an atom is isolated; the least of a pair within the cut-off is 1e-16."""


class SlabEMT(BlockEnergy["_Slab"]):
    r"""Effective medium theory of a slab with adsorbates, with energies and forces of ASE's `EMT`, in eV and Å.

    Positions are those of the mobile atoms; the others stay where they are in `atoms`, and all that happens among them is computed once, when this is made.
    Energies are those of the whole system, so they do not depend on which atoms move. Any numbers of periodic directions and any cells are fine: slabs, crystals,
    molecules. Mobile atoms may be anywhere, wrapped into the cell or not.

    In double precision energies and forces agree with ASE's to rounding. In single precision energies of CO on 36 atoms of platinum
    drift by up to 4e-5 eV, and forces by up to 1e-5 of their root mean square.
    Conformations with positions that are not finite have energies and forces that are not a number, and do not disturb the others.

    Energies and forces at once come from derivatives written out by hand; `energy` is differentiable to any order by autograd.

    References:
        | A semi-empirical effective medium theory for metals and alloys (Jacobsen, Stoltze and Nørskov, 1996), https://doi.org/10.1016/0039-6028(96)00816-3
        | ASE's `ase.calculators.emt`: the parameters of H, C, N and O, the cut-off, and the zero of energy

    Arguments:
        atoms: ASE `Atoms` with elements, positions, cell and periodicity; constraints and calculators are ignored.
        mobile: Which atoms move: indices, whose order is that of the positions, or a mask (atoms,) of truth values. All by default.
        asap_cutoff: Whether the cut-off depends on the elements present, as with ASE's option of this name.
        compile: Whether `torch.compile` fuses the kernels. It takes about a minute at the first call, needs a C++ compiler, and is faster afterwards; conformations are
            then evaluated in blocks of one size, the last of them padded. Where autograd is asked for, nothing is compiled.
        name: What it is called.

    Attributes:
        mobile: Indices of the mobile atoms (items,), in the order of the positions.

    Raises:
        InputError: If an element is not covered, if there are no atoms or none that moves, if indices are out of range or occur twice, if a position of a fixed atom is not
            finite, or if periodic vectors of the cell are not independent.
        ShapeError: If a mask does not have an entry for each atom.
    """

    def __init__(
        self,
        atoms: Any,
        mobile: Sequence[int] | NDArray[Any] | Tensor | None = None,
        *,
        asap_cutoff: bool = False,
        compile: bool = False,
        name: str = "emt",
    ) -> None:
        self.mobile = _mobile_atoms(mobile, len(atoms))
        slab = _Slab.of(atoms, self.mobile, asap_cutoff=asap_cutoff)
        super().__init__(len(self.mobile), name, slab, compile=compile)
        self.invariant = self.items == len(atoms)

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) in eV of positions (batch, mobile, 3) in Å, differentiable to any order.

        Raises:
            ShapeError: If the positions have another shape.
        """
        return self._evaluate(x, forces=False)[0]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) in eV and forces on the mobile atoms (batch, mobile, 3) in eV/Å, both detached.

        Raises:
            ShapeError: If the positions have another shape.
        """
        with torch.no_grad():
            energy, gradient = self._evaluate(x, forces=True)
        return energy, gradient.permute(2, 1, 0).neg()

    def _evaluate(self, x: Tensor, *, forces: bool) -> list[Tensor]:
        """Returns energies (batch,) and, if asked for, gradients (3, mobile, batch), block by block."""
        self.check_positions(x)
        slab = self.placed(x)
        compiled = self.compile and len(x) > 0 and not (torch.is_grad_enabled() and x.requires_grad)
        size = slab.block(x.device.type, compiled=compiled)
        evaluate: Evaluation = slab.both if forces else slab.energy
        if compiled:
            evaluate = self.graph((x.device, x.dtype, forces), evaluate, slab.frozen.new_zeros(3, self.items, size))
        blocks = in_blocks(x, size, lambda block: evaluate(block.permute(2, 1, 0).contiguous()), padded=compiled)
        parts = [[table[..., :count] for table in found] for found, count in blocks]
        return [torch.cat(tables, -1) for tables in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Embedding:
    """The energy of each atom in the density of the others, with constants (atoms, 1)."""

    e0: Tensor
    sphere: Tensor
    inverse_norm: Tensor
    p: Tensor
    q: Tensor

    @classmethod
    def of(cls, atoms: AtomParameters) -> _Embedding:
        a, decay = atoms[:, None], BETA * atoms[:, None].eta2
        return cls(a.e0, 6.0 * a.v0, 1.0 / a.norm1, a.lambda_ / decay, a.kappa / decay)

    def __call__(self, density: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the energies (atoms, batch) in eV at densities σ1 (atoms, batch), and their derivatives by it.

        Without density the energy is that of the isolated atom, -E0.
        """
        density = density.clamp_min(_LEAST_DENSITY)
        log = torch.log(density * self.inverse_norm)
        cohesive = self.e0 * torch.exp(self.p * log)
        sphere = self.sphere * torch.exp(self.q * log)
        energy = cohesive * (1.0 - self.p * log) + sphere - self.e0
        return energy, (self.q * sphere - self.p.square() * log * cohesive) / density


@dataclass(frozen=True)
class _Slab:
    """A system in one precision on one device; columns are the fixed atoms and then the mobile ones.

    Attributes:
        frozen: Positions of the fixed atoms (3, fixed, 1).
        density: σ1 of the columns while the mobile atoms are far from everything (columns, 1): what fixed atoms give to each other.
        constant: The energy then.
        pairs: The functions of mobile atoms with all atoms.
        share: How much of a pair energy counts for a column (columns, 1): half for mobile atoms, which are rows as well.
        embedding: The energies in the density of the others, of the columns.
    """

    frozen: Tensor
    density: Tensor
    constant: Tensor
    pairs: PairFunctions
    share: Tensor
    embedding: _Embedding

    @classmethod
    def of(cls, atoms: Any, mobile: Tensor, *, asap_cutoff: bool) -> _Slab:
        symbols = atoms.get_chemical_symbols()
        require_known(symbols)
        cutoff = Cutoff.of(symbols, asap=asap_cutoff)
        images = Images.of(torch.tensor(np.array(atoms.cell), dtype=torch.float64), atoms.pbc.tolist(), cutoff.end)
        moves = torch.zeros(len(symbols), dtype=torch.bool)
        moves[mobile] = True
        fixed = (~moves).nonzero().flatten()
        order = torch.cat((fixed, mobile))
        parameters = AtomParameters.of(symbols, cutoff)
        positions = torch.tensor(atoms.get_positions(), dtype=torch.float64).T[..., None]
        if not bool(torch.isfinite(positions[:, fixed]).all()):
            wrong = int(fixed[~torch.isfinite(positions[:, fixed]).flatten(2).all(0).squeeze(-1)][0])
            raise InputError(
                f"EMT: the fixed atom {wrong} has a position that is not finite, {atoms.get_positions()[wrong].tolist()}"
            )
        density, pair_energy = _among(positions[:, fixed], parameters[fixed], images, cutoff)
        density = torch.cat((density, torch.zeros(len(mobile), 1, dtype=torch.float64)))
        pairs = PairFunctions.of(parameters[mobile], parameters[order], mobile[:, None] == order, images, cutoff)
        share = torch.cat((torch.ones(len(fixed)), torch.full((len(mobile),), 0.5))).double()[:, None]
        embedding = _Embedding.of(parameters[order])
        constant = embedding(density)[0].sum() + pair_energy
        return cls(positions[:, fixed], density, constant, pairs, share, embedding)

    def block(self, device: str, *, compiled: bool) -> int:
        """Number of conformations evaluated together: what fits into the cache, in whole vectors of the processor."""
        elements = (_COMPILED_ELEMENTS if compiled else _ELEMENTS).get(device, _MANY_ELEMENTS)
        return max(16, elements // self.pairs.extra.numel() // 16 * 16)

    def energy(self, x: Tensor) -> tuple[Tensor]:
        """Returns the energies (batch,) of positions (3, mobile, batch)."""
        pairs = self._pairs(x)
        energies, _ = self.embedding(self._densities(pairs))
        return (self._total(pairs, energies),)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the energies (batch,) of positions (3, mobile, batch) and their gradients (3, mobile, batch)."""
        pairs = self._pairs(x)
        energies, slopes = self.embedding(self._densities(pairs))
        gradient = self.pairs.gradient(pairs, slopes[len(slopes) - x.shape[1] :], slopes)
        return self._total(pairs, energies), gradient

    def _pairs(self, x: Tensor) -> Pairs:
        return self.pairs(x, torch.cat((self.frozen.expand(-1, -1, x.shape[2]), x), 1))

    def _densities(self, pairs: Pairs) -> Tensor:
        """Returns σ1 of all columns (columns, batch)."""
        fixed = pairs.column_density.sum((0, 1))[: self.frozen.shape[1]]
        return self.density + torch.cat((fixed, pairs.row_density.sum((1, 2))))

    def _total(self, pairs: Pairs, energies: Tensor) -> Tensor:
        # energies of the atoms from where they are without the mobile ones: single precision would lose these beside the energy of the whole slab
        gained = energies - self.embedding(self.density)[0]
        return (gained - self.share * pairs.energy.sum((0, 1))).sum(0) + self.constant


def _among(x: Tensor, parameters: AtomParameters, images: Images, cutoff: Cutoff) -> tuple[Tensor, Tensor]:
    """Returns what atoms at positions (3, atoms, 1) give to each other's σ1 (atoms, 1), and their pair energy, an atom's neighbours at a time."""
    density = x.new_zeros(x.shape[1], 1)
    energy = x.new_zeros(())
    every = torch.arange(x.shape[1])
    for rows in every.split(max(1, _MANY_ELEMENTS // 8 // max(1, len(every) * len(images.translations)))):
        pairs = PairFunctions.of(parameters[rows], parameters, rows[:, None] == every, images, cutoff)(x[:, rows], x)
        density[rows] = pairs.row_density.sum((1, 2))
        energy -= pairs.row_energy.sum()
    return density, energy


def _mobile_atoms(mobile: Sequence[int] | NDArray[Any] | Tensor | None, count: int) -> Tensor:
    """Returns the indices of the mobile atoms of `count`, all of them by default."""
    if count == 0:
        raise InputError("EMT: there are no atoms; expected a system with one at least")
    if mobile is None:
        return torch.arange(count)
    chosen = torch.as_tensor(np.asarray(mobile))
    if chosen.dtype == torch.bool:
        if tuple(chosen.shape) != (count,):
            raise ShapeError("mobile: a mask", tuple(chosen.shape), f"({count},), one truth value for each atom")
        chosen = chosen.nonzero().flatten()
    if chosen.numel() == 0:
        raise InputError("mobile: no atom moves; expected one index at least")
    if chosen.ndim != 1 or chosen.is_floating_point():
        raise ShapeError("mobile", f"{tuple(chosen.shape)} of {chosen.dtype}", "a list of indices, or a mask")
    if int(chosen.min()) < 0 or int(chosen.max()) >= count:
        wrong = int(chosen[(chosen < 0) | (chosen >= count)][0])
        raise InputError(f"mobile: got the index {wrong}, expected 0 to {count - 1}, for {count} atoms")
    if len(chosen.unique()) < len(chosen):
        raise InputError(f"mobile: an index occurs twice in {chosen.tolist()}; name each atom that moves once")
    return chosen.long()
