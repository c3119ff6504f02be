r"""Stereochemistry of a molecule: tetrahedral centres as signs of volumes, double bonds as signs of cosines.

A centre with neighbours 1, 2, 3 in canonical order has the sign of

.. math:: v = (\hat r_1 \times \hat r_2) \cdot \hat r_3, \qquad \hat r_k = (x_k - x_0) / |x_k - x_0|,

which rotations keep and reflections flip. A double bond b-c with substituents a on b and d on c has the sign of the cosine of its dihedral
a-b-c-d: positive for cis, negative for trans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.geometry.internal_coordinates import dihedrals, signed_volumes


@dataclass(frozen=True, eq=False)
class Stereo:
    """The stereo elements of a molecule of N atoms.

    Attributes:
        centres: Tetrahedral centres (C, 4): the centre and three neighbours in canonical order.
        signs: Expected sign (C,) of the normalised signed volume, -1 or +1.
        double_bonds: Double bonds (B, 4): substituent, two atoms of the bond, substituent.
        double_bond_signs: Expected sign (B,) of the cosine of the dihedral: +1 for cis, -1 for trans.
    """

    centres: np.ndarray
    signs: np.ndarray
    double_bonds: np.ndarray
    double_bond_signs: np.ndarray

    def __post_init__(self) -> None:
        for name, width in (("centres", 4), ("signs", None), ("double_bonds", 4), ("double_bond_signs", None)):
            shape = (-1,) if width is None else (-1, width)
            array = np.array(getattr(self, name), dtype=np.int64).reshape(shape)
            array.setflags(write=False)
            object.__setattr__(self, name, array)


def unspecified_stereo(mol: Any) -> list[str]:
    """Lists the stereo elements of a molecule whose configuration is not given, in words; atoms are counted from 1."""
    from rdkit import Chem

    words = []
    for element in _elements(mol):
        if element.specified != Chem.StereoSpecified.Unspecified:
            continue
        if element.type == Chem.StereoType.Atom_Tetrahedral:
            atom = mol.GetAtomWithIdx(element.centeredOn)
            words.append(f"centre {atom.GetSymbol()}{atom.GetIdx() + 1}")
        elif element.type == Chem.StereoType.Bond_Double and not _is_cumulated(mol.GetBondWithIdx(element.centeredOn)):
            ends = (mol.GetBondWithIdx(element.centeredOn).GetBeginAtom(), mol.GetBondWithIdx(element.centeredOn).GetEndAtom())
            words.append("double bond " + "=".join(f"{atom.GetSymbol()}{atom.GetIdx() + 1}" for atom in ends))
    return words


def perceive_stereo(mol: Any) -> Stereo:
    """Finds the stereo elements of a molecule and their signs in its first conformer.

    Neighbours are ordered by element, then by canonical rank of the graph, then of the graph with its stereochemistry; what is still tied (the
    two halves of a ring at a ring-dependent centre) follows RDKit's canonical numbering. The result does not depend on the order of the
    atoms, up to a symmetry of the molecule.

    Arguments:
        mol: RDKit molecule with all hydrogens, a 3-D conformer and its chiral tags assigned.

    Raises:
        InputError: If an element's configuration is not given, or the conformer has none (a flat centre).
    """
    from rdkit import Chem

    missing = unspecified_stereo(mol)
    if missing:
        raise InputError(
            f"stereochemistry is not specified at {', '.join(missing)}; two stereoisomers are two systems: specify each"
        )
    order = canonical_order(mol)
    centres, double_bonds = [], []
    for element in _elements(mol):
        if element.type == Chem.StereoType.Atom_Tetrahedral:
            atom = mol.GetAtomWithIdx(element.centeredOn)
            neighbours = sorted((n.GetIdx() for n in atom.GetNeighbors()), key=order.__getitem__)
            centres.append([atom.GetIdx(), *neighbours[:3]])
        elif element.type == Chem.StereoType.Bond_Double:
            bond = mol.GetBondWithIdx(element.centeredOn)
            if not _is_cumulated(bond):
                double_bonds.append(_double_bond(bond, order))
    positions = mol.GetConformer().GetPositions()
    quads = np.array(sorted(centres), dtype=np.int64).reshape(-1, 4)
    bonds = np.array(sorted(double_bonds), dtype=np.int64).reshape(-1, 4)
    volumes, cosines = signed_volumes(positions, quads), np.cos(dihedrals(positions, bonds))
    flat = [
        f"{mol.GetAtomWithIdx(int(q[0])).GetSymbol()}{q[0] + 1}"
        for q, v in zip(quads, volumes, strict=True)
        if not abs(v) > 0.05
    ]
    if flat:
        raise InputError(f"stereo-centre {', '.join(flat)} is flat in the coordinates, so that its configuration is unknown")
    return Stereo(quads, np.where(volumes > 0, 1, -1), bonds, np.where(cosines > 0, 1, -1))


def canonical_order(mol: Any) -> list[tuple[int, int, int, int]]:
    """Returns for each atom a key that orders atoms canonically: heavier elements first, then by canonical ranks."""
    from rdkit import Chem

    mol = _clean(mol)
    plain = Chem.CanonicalRankAtoms(mol, breakTies=False, includeChirality=False, includeAtomMaps=False)
    stereo = Chem.CanonicalRankAtoms(mol, breakTies=False, includeChirality=True, includeAtomMaps=False)
    unique = Chem.CanonicalRankAtoms(mol, breakTies=True, includeChirality=True, includeAtomMaps=False)
    numbers = [-atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return list(zip(numbers, plain, stereo, unique, strict=True))


def _elements(mol: Any) -> list[Any]:
    from rdkit import Chem

    # RDKit appends to the ring stereo properties of the molecule at each call, which soon takes for ever
    return list(Chem.FindPotentialStereo(_clean(mol)))


def _clean(mol: Any) -> Any:
    from rdkit import Chem

    copy = Chem.Mol(mol)
    copy.ClearComputedProps(includeRings=False)
    return copy


def _double_bond(bond: Any, order: list[tuple[int, int, int, int]]) -> list[int]:
    begin, end = sorted((bond.GetBeginAtom(), bond.GetEndAtom()), key=lambda atom: order[atom.GetIdx()])
    first, last = (
        min((n.GetIdx() for n in atom.GetNeighbors() if n.GetIdx() != other.GetIdx()), key=order.__getitem__)
        for atom, other in ((begin, end), (end, begin))
    )
    return [first, begin.GetIdx(), end.GetIdx(), last]


def _is_cumulated(bond: Any) -> bool:
    return any(
        sum(other.GetBondTypeAsDouble() == 2.0 for other in atom.GetBonds()) > 1
        for atom in (bond.GetBeginAtom(), bond.GetEndAtom())
    )
