"""Energy, forces, stress and band gap of batches of carbon crystals by tight binding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from equilibra.energies.tight_binding.bonds import Bonds, find_bonds
from equilibra.energies.tight_binding.carbon import CUTOFF, ONSITE, bond_length, embedding, hopping_blocks, repulsion
from equilibra.energies.tight_binding.kpoints import KGrid, Size, k_points
from equilibra.energies.tight_binding.levels import Filling, diagonalise, fill, free_energy, signed_gap
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.geometry.lattice import volume
from equilibra.geometry.periodic import image_counts, plane_spacings
from equilibra.geometry.reduction import reduced_basis

_ORBITALS = 4
_FILLED = 2
"""Bands that the four electrons of an atom fill."""

_THINNEST = 0.5
"""Least distance between lattice planes of a reduced cell that is worked with, in Å."""

_ELEMENTS = 2**21
"""Elements of the Hamiltonians, and of the table of distances, that are worked on together."""


class Bands(NamedTuple):
    """What one diagonalisation gives, differentiable once in fractional coordinates and cells.

    Attributes:
        energy: Free energy of the crystal with its repulsion (batch,), in eV.
        signed_gap: Lowest empty level minus highest filled one over the k-points (batch,), in eV; negative where bands overlap. The band gap is its
            positive part.
    """

    energy: Tensor
    signed_gap: Tensor


@dataclass(frozen=True)
class Evaluation:
    """Energies and what follows from them, without gradients; numbers that are not finite for crystals that cannot be evaluated.

    Attributes:
        energy: Free energy (batch,), in eV.
        forces: Force on each atom (batch, atoms, 3), in eV/Å; zero for padding.
        stress: Derivative of the energy by strain over the volume (batch, 3, 3), in eV/Å³; positive under tension.
        atom_energies: Share of each atom in the energy, by the weight of the states on its orbitals (batch, atoms), in eV; zero for padding.
        signed_gap: As in `Bands` (batch,), in eV.
        fermi_level: (batch,), in eV.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    atom_energies: Tensor
    signed_gap: Tensor
    fermi_level: Tensor


@dataclass(frozen=True)
class _Group:
    """Crystals with one number of atoms that are worked on together.

    Attributes:
        index: Their positions in the batch (crystals,).
        atoms: Number of atoms of each.
        basis: The unimodular matrices that reduce their cells (crystals, 3, 3).
        sizes: Their grids of k-points.
    """

    index: Tensor
    atoms: int
    basis: Tensor
    sizes: list[Size]


class CarbonTightBinding:
    r"""The tight-binding model of carbon by Xu, Wang, Chan and Ho, for batches of crystals of any numbers of atoms.

    Energies do not depend on the origin, the order of atoms, the orientation or (with a grid by spacing, up to ties between reduced bases) the choice of cell. Layers farther
    apart than 2.6 Å do not interact. At distances below about 1.1 Å the model has no meaning, and a straight line takes its place that keeps energies bounded from below (see `carbon`).

    Crystals that cannot be evaluated get numbers that are not finite, with zero derivatives, and do not disturb the others: those with coordinates or cells that are not
    finite, or with lattice planes closer than 0.5 Å.

    Arguments:
        kgrid: Which k-points a crystal gets.
        smearing: Temperature kT of the distribution of Fermi and Dirac, in eV. Metals on coarse grids want 0.05 to 0.2; with a gap that is many times larger it has no effect.

    Raises:
        ConfigError: If the smearing is not positive.

    References:
        | A transferable tight-binding potential for carbon (Xu, Wang, Chan and Ho, 1992), https://doi.org/10.1088/0953-8984/4/28/006
    """

    def __init__(self, *, kgrid: KGrid | None = None, smearing: float = 0.05) -> None:
        if not (math.isfinite(smearing) and smearing > 0.0):
            raise ConfigError(
                f"tight binding: got the smearing {smearing}, expected a positive number in eV; 0.001 is as good as none"
            )
        self.kgrid = KGrid() if kgrid is None else kgrid
        self.smearing = smearing

    def __call__(self, frac: Tensor, cell: Tensor, atoms: Tensor | None = None) -> Bands:
        """Computes energies and gaps.

        Arguments:
            frac: Fractional coordinates, padded to the largest crystal, with shape (batch, atoms, 3).
            cell: Cells, rows are lattice vectors, with shape (batch, 3, 3), in Å.
            atoms: Numbers of atoms, with shape (batch); the first so many rows of `frac` are those of the crystal. All rows if not given.

        Returns:
            Energies and signed gaps, each with shape (batch), in eV.

        Raises:
            ShapeError: If the shapes do not fit.
            InputError: If a number of atoms is not between 1 and the number of rows.
        """
        # what remains of it belongs to crystals that can't be evaluated; the sum gives even them a derivative, of zero
        nothing = torch.full((len(frac),), torch.nan, dtype=frac.dtype, device=frac.device) + 0.0 * (frac.sum() + cell.sum())
        energy, gap = nothing, nothing
        for group in self._groups(frac, cell, atoms):
            solved = _Solved(self, frac[group.index, : group.atoms], cell[group.index], group)
            energy = energy.index_copy(0, group.index, solved.energy)
            gap = gap.index_copy(0, group.index, solved.signed_gap)
        return Bands(energy, gap)

    def evaluate(self, frac: Tensor, cell: Tensor, atoms: Tensor | None = None) -> Evaluation:
        """Computes energies, forces, stresses, shares of atoms and gaps; memory does not grow with the batch beyond that of the results.

        Arguments:
            frac: Fractional coordinates, padded to the largest crystal, with shape (batch, atoms, 3).
            cell: Cells, rows are lattice vectors, with shape (batch, 3, 3), in Å.
            atoms: Numbers of atoms, with shape (batch); all rows if not given.

        Raises:
            ShapeError: If the shapes do not fit.
            InputError: If a number of atoms is not between 1 and the number of rows.
        """
        frac, cell = frac.detach(), cell.detach()
        nan = torch.full_like(frac[:, 0, 0], torch.nan)
        energy, gap, fermi_level = nan.clone(), nan.clone(), nan.clone()
        forces, stress = torch.full_like(frac, torch.nan), torch.full_like(cell, torch.nan)
        shares = torch.full_like(frac[..., 0], torch.nan)
        for group in self._groups(frac, cell, atoms):
            i, n = group.index, group.atoms
            with torch.enable_grad():
                f = frac[i, :n].requires_grad_(True)
                a = cell[i].requires_grad_(True)
                solved = _Solved(self, f, a, group)
                by_frac, by_cell = torch.autograd.grad(solved.energy.sum(), (f, a))
            energy[i], gap[i], fermi_level[i] = solved.energy.detach(), solved.signed_gap.detach(), solved.filling.fermi_level
            forces[i], shares[i] = 0.0, 0.0
            forces[i, :n] = -torch.linalg.solve(cell[i], by_frac.mT).mT
            shares[i, :n] = solved.atom_energies()
            strain = cell[i].mT @ by_cell
            stress[i] = (strain + strain.mT) / (2 * volume(cell[i])[:, None, None])
        return Evaluation(energy, forces, stress, shares, gap, fermi_level)

    @torch.no_grad()
    def _groups(self, frac: Tensor, cell: Tensor, atoms: Tensor | None) -> Iterator[_Group]:
        """Yields the crystals that can be evaluated in groups that fit into memory."""
        atoms = _check(frac, cell, atoms)
        real = torch.arange(frac.shape[1], device=frac.device) < atoms[:, None]
        finite = torch.where(real[..., None], torch.isfinite(frac), True).all(2).all(1) & torch.isfinite(cell).all(2).all(1)
        cube = torch.eye(3, dtype=cell.dtype, device=cell.device)
        sound = torch.where((finite & (volume(cell) > 0))[:, None, None], cell, cube)
        basis = reduced_basis(sound)
        reduced = basis @ sound
        usable = finite & (volume(cell) > 0) & (plane_spacings(reduced) >= _THINNEST).all(1)
        for n in torch.unique(atoms[usable]).tolist():
            members = (usable & (atoms == n)).nonzero().squeeze(1)
            sizes = self.kgrid.sizes(reduced[members])
            images = (2 * image_counts(reduced[members], CUTOFF, wrapped=True) + 1).prod(1)
            points = torch.tensor([math.prod(size) // 2 + 4 for size in sizes], device=images.device)
            most = int(torch.maximum(images, points).max()) * (_ORBITALS * n) ** 2
            size = max(1, _ELEMENTS // most)
            for begin in range(0, len(members), size):
                part = members[begin : begin + size]
                yield _Group(part, n, basis[part], sizes[begin : begin + size])


class _Solved:
    """A group of crystals, diagonalised."""

    def __init__(self, model: CarbonTightBinding, frac: Tensor, cell: Tensor, group: _Group) -> None:
        reduced = group.basis @ cell
        frac = frac @ torch.linalg.inv(group.basis)
        frac = frac - torch.floor(frac.detach())
        bonds = find_bonds(frac.detach(), reduced.detach())
        vectors = bonds.vectors(frac, reduced)
        density = torch.zeros(frac.shape[:2], dtype=frac.dtype, device=frac.device)
        density = density.index_put((bonds.crystal, bonds.first), repulsion(bond_length(vectors)), accumulate=True)
        self.repulsive = embedding(density)
        points, self.weights = _grids(model.kgrid, group, frac)
        h = _bloch_hamiltonians(bonds, hopping_blocks(vectors), points, len(frac), group.atoms)
        self.present = self.weights > 0
        levels, self.states = diagonalise(h[self.present])
        # rows of the group's points, padded to the largest grid
        padded = levels.new_zeros(*self.weights.shape, levels.shape[-1])
        self.levels = padded.index_put(self.present.nonzero(as_tuple=True), levels)
        filled = _FILLED * group.atoms
        self.smearing = model.smearing
        self.filling: Filling = fill(self.levels.detach(), self.weights, filled, model.smearing)
        self.energy = free_energy(self.levels, self.weights, self.filling, model.smearing) + self.repulsive.sum(1)
        self.signed_gap = signed_gap(self.levels, self.weights, filled)

    @torch.no_grad()
    def atom_energies(self) -> Tensor:
        """Returns the shares of the atoms in the energy (crystals, atoms): of each state by its weight on their orbitals, and their own repulsion."""
        filling = self.filling
        terms = 2 * self.weights[..., None] * (filling.occupations * self.levels - self.smearing * filling.entropy)
        weight = torch.view_as_real(self.states).square().sum(-1).unflatten(1, (-1, _ORBITALS)).sum(2)
        shares = (weight @ terms[self.present][..., None]).squeeze(-1)
        crystal = self.present.nonzero()[:, 0]
        return self.repulsive.detach().index_add(0, crystal, shares)


def _check(frac: Tensor, cell: Tensor, atoms: Tensor | None) -> Tensor:
    """Checks shapes and returns the numbers of atoms (batch,)."""
    if frac.ndim != 3 or frac.shape[-1] != 3 or frac.shape[1] == 0:
        raise ShapeError("frac", tuple(frac.shape), "(batch, atoms, 3)")
    if tuple(cell.shape) != (len(frac), 3, 3):
        raise ShapeError("cell", tuple(cell.shape), f"({len(frac)}, 3, 3), one for each crystal")
    if atoms is None:
        return torch.full((len(frac),), frac.shape[1], device=frac.device)
    if tuple(atoms.shape) != (len(frac),):
        raise ShapeError("atoms", tuple(atoms.shape), f"({len(frac)},), a number for each crystal")
    if bool(((atoms < 1) | (atoms > frac.shape[1])).any()):
        wrong = int(atoms[(atoms < 1) | (atoms > frac.shape[1])][0])
        raise InputError(f"atoms: got {wrong} atoms in a crystal, expected 1 to {frac.shape[1]}, the rows of frac")
    return atoms


def _grids(kgrid: KGrid, group: _Group, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns k-points (crystals, points, 3) in the reduced bases and weights (crystals, points), padded by points of weight zero."""
    grids = {size: k_points(size, kgrid.centred) for size in dict.fromkeys(group.sizes)}
    most = max(len(weights) for _, weights in grids.values())
    points = torch.zeros(len(group.sizes), most, 3, dtype=like.dtype)
    weights = torch.zeros(len(group.sizes), most, dtype=like.dtype)
    for size, (kappa, weight) in grids.items():
        rows = torch.tensor([i for i, other in enumerate(group.sizes) if other == size])
        points[rows, : len(kappa)] = kappa.to(like.dtype)
        weights[rows, : len(kappa)] = weight.to(like.dtype)
    points, weights = points.to(like.device), weights.to(like.device)
    # a size counts along the cell as it was given: k · (U a) = U (k · a)
    return points if kgrid.size is None else points @ group.basis.mT, weights


def _bloch_hamiltonians(bonds: Bonds, blocks: Tensor, points: Tensor, crystals: int, atoms: int) -> Tensor:
    r"""Computes :math:`H(k) = \sum_n e^{2 \pi i\, \kappa \cdot n} H_n` (crystals, points, orbitals, orbitals) of the hopping integrals into each image n.

    The phases hold the translations alone, not the places within the cell: they are constants, and the levels are the same.
    """
    orbitals = _ORBITALS * atoms
    h = blocks.new_zeros(crystals, len(bonds.shifts), atoms, atoms, _ORBITALS, _ORBITALS)
    h = h.index_put((bonds.crystal, bonds.shift, bonds.first, bonds.second), blocks)
    h = h.transpose(3, 4).reshape(crystals, len(bonds.shifts), orbitals**2)
    phase = 2 * math.pi * (points @ bonds.shifts.to(points.dtype).T)
    real = torch.cos(phase) @ h
    onsite = torch.tensor([ONSITE["s"]] + 3 * [ONSITE["p"]], dtype=blocks.dtype, device=blocks.device).repeat(atoms)
    real = real + torch.diag(onsite).flatten()
    return torch.complex(real, torch.sin(phase) @ h).unflatten(-1, (orbitals, orbitals))
