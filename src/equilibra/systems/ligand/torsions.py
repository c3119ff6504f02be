"""Which bonds of a ligand turn, as a tree about its most central rigid part, and its geometries with all torsions at zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from equilibra.energies.docking.ligand import rotatable_bonds
from equilibra.errors import InputError
from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.geometry.superposition import kabsch
from equilibra.geometry.torsion_tree import TorsionTree, turned_bonds

MOST_TORSIONS = 32
"""Torsions that are supported."""

_DIFFERENT = 0.3  # Å: conformers of rings that differ less are one
_TRIES = 3


@dataclass(frozen=True, eq=False)
class LigandTorsions:
    """The torsions of a ligand of N atoms.

    Attributes:
        axes: Atoms (T, 2) of each bond that turns, the one nearer to the root first.
        quads: Atoms (T, 4) of each dihedral angle.
        moving: Atoms (T, N) that turn with each bond, boolean.
        root: Atoms (R,) of the rigid part that carries the turn.
        heavy: Heavy atoms (L,), over whose mean the shift is.
    """

    axes: np.ndarray
    quads: np.ndarray
    moving: np.ndarray
    root: np.ndarray
    heavy: np.ndarray

    @property
    def tree(self) -> TorsionTree:
        """The tree of all N atoms, for any number of poses."""
        weights = torch.zeros(1, self.moving.shape[1], dtype=torch.float64)
        weights[0, self.heavy] = 1.0 / len(self.heavy)
        return TorsionTree(torch.from_numpy(self.axes)[None], torch.from_numpy(self.moving)[None], weights)

    def angles(self, positions: np.ndarray) -> np.ndarray:
        """Returns the dihedral angles (F, T) of positions (F, N, 3), in rad."""
        return np.asarray(dihedrals(positions, self.quads))

    def unwound(self, positions: np.ndarray) -> np.ndarray:
        """Returns positions (F, N, 3) with all torsions turned to zero and the rest as it is, in float64."""
        x = torch.from_numpy(np.array(positions, dtype=np.float64))
        return np.asarray(turned_bonds(x, -torch.from_numpy(self.angles(positions)), self.tree))


def find_torsions(mol: Any, name: str = "ligand") -> LigandTorsions:
    """Finds the bonds that turn: those that AutoDock turns and that move heavy atoms against heavy atoms. Hydroxyls, amines and amides stay as they are.

    Arguments:
        mol: RDKit molecule.
        name: What it is called in messages.

    Raises:
        InputError: If there are more than `MOST_TORSIONS`.
    """
    heavy = np.array([atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1])
    neighbours = [[other.GetIdx() for other in atom.GetNeighbors()] for atom in mol.GetAtoms()]
    is_heavy = np.isin(np.arange(mol.GetNumAtoms()), heavy)

    def carries(atom: int, partner: int) -> bool:
        return any(is_heavy[other] for other in neighbours[atom] if other != partner)

    bonds = [(i, j) for i, j in rotatable_bonds(mol) if carries(i, j) and carries(j, i)]
    if len(bonds) > MOST_TORSIONS:
        raise InputError(
            f"{name}: got {len(bonds)} rotatable bonds, expected at most {MOST_TORSIONS}; dock a part of it, or a less flexible analogue"
        )
    beyond = {bond: _side(neighbours, *bond) for bond in bonds}  # atoms on the side of the second
    parts = _rigid_parts(neighbours, bonds)

    def cost(part: set[int]) -> int:
        anchor = next(iter(part))
        sides = (beyond[bond] if anchor not in beyond[bond] else set(range(len(neighbours))) - beyond[bond] for bond in bonds)
        return sum(int(is_heavy[list(side)].sum()) for side in sides)

    root = min(parts, key=lambda part: (cost(part), -len(part), min(part)))
    anchor = next(iter(root))
    axes, quads, moving = [], [], np.zeros((len(bonds), mol.GetNumAtoms()), dtype=bool)
    for row, (i, j) in enumerate(bonds):
        near, far = (i, j) if anchor not in beyond[i, j] else (j, i)
        axes.append((near, far))
        linear = str(mol.GetBondBetweenAtoms(i, j).GetBondType()) == "TRIPLE"
        ends = (_end(neighbours, is_heavy, *pair, linear) for pair in ((near, far), (far, near)))
        quads.append((next(ends), near, far, next(ends)))
        side = beyond[i, j] if far == j else set(range(len(neighbours))) - beyond[i, j]
        moving[row, sorted(side - {far})] = True
    return LigandTorsions(
        axes=np.array(axes, dtype=np.int64).reshape(-1, 2),
        quads=np.array(quads, dtype=np.int64).reshape(-1, 4),
        moving=moving,
        root=np.array(sorted(root), dtype=np.int64),
        heavy=heavy,
    )


def conformers(mol: Any, torsions: LigandTorsions, n: int, *, seed: int, name: str = "ligand") -> np.ndarray:
    """Samples geometries of rings by distance geometry (ETKDG), relaxed with MMFF94 where it has parameters; those that differ in more than torsions are kept.

    Arguments:
        mol: RDKit molecule with all hydrogens and assigned stereochemistry.
        torsions: Its torsions.
        n: Largest number of geometries.
        seed: The same seed gives the same geometries.
        name: What it is called in messages.

    Returns:
        Geometries (K, N, 3) in Å, all torsions at zero, rooted in one frame, the most frequent first.

    Raises:
        InputError: If no conformation is found.

    References:
        | Better Informed Distance Geometry (Riniker and Landrum, 2015), https://doi.org/10.1021/acs.jcim.5b00654
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    tries = _TRIES * n if _puckers(mol) else 1
    with BlockLogs():
        if not len(rdDistGeom.EmbedMultipleConfs(mol, tries, parameters)):
            parameters.useRandomCoords = True
            if not len(rdDistGeom.EmbedMultipleConfs(mol, tries, parameters)):
                raise InputError(
                    f"{name}: no conformation was found by distance geometry; keep the geometry of a file with 3-D coordinates (--keep-geometry)"
                )
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=500)
    found = rooted(torsions.unwound(np.stack([each.GetPositions() for each in mol.GetConformers()])), torsions)
    kept: list[int] = []
    counts: list[int] = []
    for row, x in enumerate(found[:, torsions.heavy]):
        same = [
            place
            for place, other in enumerate(kept)
            if np.sqrt(((x - found[other, torsions.heavy]) ** 2).sum(1).max()) < 2 * _DIFFERENT
        ]
        if same:
            counts[same[0]] += 1
        else:
            kept.append(row)
            counts.append(1)
    order = np.argsort(-np.array(counts), kind="stable")[:n]
    return np.asarray(found[np.array(kept)[order]])


def rooted(positions: np.ndarray, torsions: LigandTorsions) -> np.ndarray:
    """Returns positions (F, N, 3) superposed on the first by the root and what is bonded to it, their mean over heavy atoms at the origin."""
    some = np.union1d(torsions.root, torsions.axes[np.isin(torsions.axes[:, 0], torsions.root), 1])
    x = torch.from_numpy(np.array(positions, dtype=np.float64))
    first = x[:1] - x[:1, torsions.heavy].mean(1, keepdim=True)
    centre, target = x[:, some].mean(1, keepdim=True), first[:, some].mean(1, keepdim=True)
    turn = kabsch(x[:, some] - centre, (first[:, some] - target).expand(len(x), -1, -1))
    moved = (x - centre) @ turn.transpose(-1, -2) + target
    return np.asarray(moved - moved[:, torsions.heavy].mean(1, keepdim=True))


def _puckers(mol: Any) -> bool:
    """Tells whether a ring has several shapes: one of at least five atoms, not all of them flat."""
    rings = mol.GetRingInfo().AtomRings()
    flat = {atom.GetIdx() for atom in mol.GetAtoms() if str(atom.GetHybridization()) in ("SP", "SP2")}
    return any(len(ring) >= 5 and sum(atom not in flat for atom in ring) >= 2 for ring in rings)


def _side(neighbours: list[list[int]], i: int, j: int) -> set[int]:
    """Returns the atoms on the side of j when the bond i-j is cut."""
    return _reached(neighbours, j, {frozenset((i, j))})


def _rigid_parts(neighbours: list[list[int]], bonds: list[tuple[int, int]]) -> list[set[int]]:
    cut = {frozenset(bond) for bond in bonds}
    parts: list[set[int]] = []
    for atom in range(len(neighbours)):
        if not any(atom in part for part in parts):
            parts.append(_reached(neighbours, atom, cut))
    return parts


def _reached(neighbours: list[list[int]], start: int, cut: set[frozenset[int]]) -> set[int]:
    found, queue = {start}, [start]
    while queue:
        atom = queue.pop()
        for other in neighbours[atom]:
            if other not in found and frozenset((atom, other)) not in cut:
                found.add(other)
                queue.append(other)
    return found


def _end(neighbours: list[list[int]], is_heavy: np.ndarray, atom: int, partner: int, linear: bool) -> int:
    """Returns the atom that a dihedral about atom-partner ends at: a heavy neighbour, or one farther out where the neighbour is on the axis of a triple bond."""

    def first(of: int, other_than: int) -> int:
        return min((n for n in neighbours[of] if n != other_than), key=lambda n: (not is_heavy[n], n))

    end = first(atom, partner)
    return first(end, atom) if linear else end
