"""A ligand as the Vina scoring function sees it: types of its heavy atoms, rotatable bonds, and pairs that move relative to each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equilibra.energies.docking.atom_types import check_elements, xscore_type
from equilibra.errors import InputError

Bond = tuple[int, int]

_NO_ACCEPTOR = (
    "[#7X3v3]a",  # pyrrole, aniline
    "[#7X3v3][#6X3v4]",  # amide, enamine, amidine
    "[#7X3v3][#7X2]=*",  # triazene
    "[#7+]",  # ammonium, pyridinium, nitro
)
_AMIDE = "[NX3]-[CX3]=[O,N,S]"
_TERTIARY_AMIDE = "[NX3]([!#1])([!#1])-[CX3]=[O,N,S]"
_BESIDE_TRIPLE = "*-*#*"
_EXCLUDED_BONDS = 3


@dataclass(frozen=True)
class DockingLigand:
    """Types and topology of one ligand.

    Attributes:
        items: Number of atoms, hydrogens included.
        heavy: Indices of the heavy atoms (heavy,).
        types: Their X-Score types.
        rotatable: The rotatable bonds, as pairs of atoms of the molecule.
        pairs: Pairs of heavy atoms that interact within the ligand, as places in `heavy` (2, pairs).
        n_rot: The number of rotatable bonds that enters the score: a bond counts one half for each end whose atom has another heavy neighbour, so
            that hydroxyl and amino groups count one half.
    """

    items: int
    heavy: Tensor
    types: tuple[str, ...]
    rotatable: tuple[Bond, ...]
    pairs: Tensor
    n_rot: float


def docking_ligand(mol: Any, *, rotatable: Iterable[Bond] | None = None) -> DockingLigand:
    """Types a ligand.

    Arguments:
        mol: RDKit molecule in the protonation state that is to be scored; implicit hydrogens count. It needs no conformer.
        rotatable: Bonds that rotate, as pairs of atoms; `rotatable_bonds(mol)` by default. Atoms that these bonds do not move relative to each other do
            not interact.

    Raises:
        InputError: If the molecule is None, has several fragments, no heavy atom, or an element without a type, or if a pair is no bond of it.
    """
    if mol is None:
        raise InputError(
            "ligand: got None, expected an RDKit molecule; the file or SMILES that it was read from could not be understood"
        )
    _check_fragments(mol)
    atoms = list(mol.GetAtoms())
    elements = [atom.GetSymbol() for atom in atoms]
    check_elements(elements, [f"atom {index}" for index in range(len(atoms))], "ligand")
    heavy = [index for index, element in enumerate(elements) if element != "H"]
    if not heavy:
        raise InputError("ligand: it has no heavy atom, and hydrogens have no score")
    blocked = {match[0] for pattern in _NO_ACCEPTOR for match in _matches(mol, pattern)}
    types = tuple(
        xscore_type(
            elements[index],
            polar=any(other.GetSymbol() not in ("C", "H") for other in atoms[index].GetNeighbors()),
            donor=atoms[index].GetTotalNumHs(includeNeighbors=True) > 0,
            acceptor=index not in blocked,
        )
        for index in heavy
    )
    bonds = rotatable_bonds(mol) if rotatable is None else tuple((int(i), int(j)) for i, j in rotatable)
    absent = [bond for bond in bonds if not _is_bond(mol, bond)]
    if absent:
        raise InputError(f"rotatable bonds: {absent[0]} is no bond of the ligand; expected pairs of bonded atoms")
    place = {atom: row for row, atom in enumerate(heavy)}
    neighbours = [
        [place[other.GetIdx()] for other in atoms[index].GetNeighbors() if other.GetIdx() in place] for index in heavy
    ]
    inner = [(place[i], place[j]) for i, j in bonds if i in place and j in place]
    halves = sum((len(neighbours[i]) > 1) + (len(neighbours[j]) > 1) for i, j in inner)
    return DockingLigand(
        items=len(atoms),
        heavy=torch.tensor(heavy),
        types=types,
        rotatable=bonds,
        pairs=_moving_pairs(neighbours, inner),
        n_rot=halves / 2,
    )


def rotatable_bonds(mol: Any) -> tuple[Bond, ...]:
    """Returns the bonds that AutoDock rotates, as sorted pairs of atoms.

    These are single bonds outside of rings, both of whose atoms have a heavy neighbour or a hydrogen on nitrogen, oxygen, phosphorus or sulfur besides each
    other; but not bonds of amides, amidines and thioamides (unless the nitrogen has two different substituents, and so two different states). Of the three
    bonds in a row about a triple bond, which are one axis, the triple bond stands for all.
    """
    from rdkit import Chem

    amides = {_sorted(match[0], match[1]) for match in _matches(mol, _AMIDE)}
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    for nitrogen, first, second, carbon, _ in _matches(mol, _TERTIARY_AMIDE):
        if ranks[first] != ranks[second]:
            amides.discard(_sorted(nitrogen, carbon))
    axes = {_sorted(match[0], match[1]) for match in _matches(mol, _BESIDE_TRIPLE)}
    found = []
    for bond in mol.GetBonds():
        pair = _sorted(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        triple = bond.GetBondType() == Chem.BondType.TRIPLE
        single = bond.GetBondType() == Chem.BondType.SINGLE and pair not in amides and pair not in axes
        if (
            (single or triple)
            and not bond.IsInRing()
            and _carries(bond.GetBeginAtom(), bond)
            and _carries(bond.GetEndAtom(), bond)
        ):
            found.append(pair)
    return tuple(sorted(found))


def ligand_positions(mol: Any) -> Tensor:
    """Returns the positions of all conformers of a molecule (conformers, atoms, 3), in Å and double precision.

    Raises:
        InputError: If the molecule has no conformer, or one that is flat drawing coordinates or not finite.
    """
    if mol is None or mol.GetNumConformers() == 0:
        raise InputError(
            "ligand: it has no 3-D coordinates; read it from an SDF file with a pose, or embed it: rdkit.Chem.AllChem.EmbedMolecule(mol)"
        )
    positions = np.stack([conformer.GetPositions() for conformer in mol.GetConformers()])
    if not np.isfinite(positions).all():
        raise InputError("ligand: some of its coordinates are not finite numbers; expected a pose in Å")
    flat = [not conformer.Is3D() and not np.ptp(conformer.GetPositions()[:, 2]) for conformer in mol.GetConformers()]
    if mol.GetNumAtoms() > 1 and any(flat):
        raise InputError(
            "ligand: its coordinates are a flat drawing, expected a pose in 3-D; embed it: rdkit.Chem.AllChem.EmbedMolecule(mol)"
        )
    return torch.from_numpy(positions)


def _check_fragments(mol: Any) -> None:
    from rdkit import Chem

    fragments = Chem.GetMolFrags(mol)
    if len(fragments) > 1:
        sizes = ", ".join(str(size) for size in sorted(map(len, fragments), reverse=True))
        raise InputError(
            f"ligand: it has {len(fragments)} fragments of {sizes} atoms, expected one molecule; remove counter-ions and solvent, for example with "
            "rdkit.Chem.MolStandardize.rdMolStandardize.FragmentParent(mol)"
        )


def _is_bond(mol: Any, bond: Bond) -> bool:
    atoms = range(mol.GetNumAtoms())
    return bond[0] in atoms and bond[1] in atoms and mol.GetBondBetweenAtoms(*bond) is not None


@cache
def _pattern(smarts: str) -> Any:
    from rdkit import Chem

    return Chem.MolFromSmarts(smarts)


def _matches(mol: Any, smarts: str) -> tuple[tuple[int, ...], ...]:
    matches: tuple[tuple[int, ...], ...] = mol.GetSubstructMatches(_pattern(smarts), uniquify=False, maxMatches=100_000)
    return matches


def _sorted(i: int, j: int) -> Bond:
    return (i, j) if i < j else (j, i)


def _carries(atom: Any, bond: Any) -> bool:
    """Returns whether an atom has something that moves when the bond turns: a heavy neighbour, or a hydrogen where hydrogens are polar."""
    partner = bond.GetOtherAtomIdx(atom.GetIdx())
    if any(other.GetSymbol() != "H" and other.GetIdx() != partner for other in atom.GetNeighbors()):
        return True
    return atom.GetSymbol() in ("N", "O", "P", "S") and atom.GetTotalNumHs(includeNeighbors=True) > 0


def _moving_pairs(neighbours: list[list[int]], rotatable: list[Bond]) -> Tensor:
    """Returns the pairs (2, pairs) of heavy atoms more than three bonds apart whose distance changes when a bond turns.

    The atoms of a rigid fragment, and those on the axes of the bonds that leave it, keep their distances.
    """
    n = len(neighbours)
    axes = {frozenset(bond) for bond in rotatable}
    apart = np.ones((n, n), dtype=bool)
    fragment_of = np.full(n, -1)
    for atom in range(n):
        apart[atom, _within(neighbours, atom, _EXCLUDED_BONDS)] = False
        if fragment_of[atom] < 0:
            rigid = [[other for other in row if frozenset((i, other)) not in axes] for i, row in enumerate(neighbours)]
            fragment_of[_within(rigid, atom, n)] = atom
    for fragment in np.unique(fragment_of):
        members = set(np.flatnonzero(fragment_of == fragment).tolist())
        for i, j in rotatable:
            if fragment_of[i] == fragment or fragment_of[j] == fragment:
                members |= {i, j}
        rows = sorted(members)
        apart[np.ix_(rows, rows)] = False
    return torch.from_numpy(np.stack(np.nonzero(np.triu(apart, 1))))


def _within(neighbours: list[list[int]], start: int, steps: int) -> list[int]:
    """Returns the atoms at most so many bonds from one, itself included."""
    depth = {start: 0}
    queue = deque([start])
    while queue:
        atom = queue.popleft()
        if depth[atom] < steps:
            for other in neighbours[atom]:
                if other not in depth:
                    depth[other] = depth[atom] + 1
                    queue.append(other)
    return list(depth)
