"""Symmetries of a ligand: which of its heavy atoms can be exchanged, and how a molecule of another file corresponds to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from equilibra.errors import InputError

MOST_AUTOMORPHISMS = 10_000
"""Automorphisms that are tried; of more symmetric molecules the first so many."""


def automorphisms(mol: Any) -> np.ndarray:
    """Returns the automorphisms (P, L) of the heavy atoms of an RDKit molecule, as places among its heavy atoms, the identity first.

    Elements, connections and aromaticity count; charges and bond orders do not, so that the oxygens of a carboxylate are the same.
    """
    graph = _plain(mol)
    matches = graph.GetSubstructMatches(graph, uniquify=False, maxMatches=MOST_AUTOMORPHISMS)
    found = np.array(matches, dtype=np.int64).reshape(len(matches), -1)
    identity = np.arange(found.shape[1])
    others = found[(found != identity).any(axis=1)]
    return np.concatenate([identity[None], others])


def corresponding(mol: Any, other: Any, what: str) -> np.ndarray:
    """Returns for each heavy atom of a molecule the heavy atom of another file's molecule that is the same one, as indices of atoms (L,).

    Arguments:
        mol: RDKit molecule.
        other: RDKit molecule with the same heavy atoms in any order.
        what: What the other is called in messages.

    Raises:
        InputError: If the two are different molecules.
    """
    a, b = _plain(mol), _plain(other)
    if a.GetNumAtoms() == b.GetNumAtoms():
        match = b.GetSubstructMatch(a)
        if match:
            heavy = np.array([atom.GetIdx() for atom in other.GetAtoms() if atom.GetAtomicNum() > 1])
            return np.asarray(heavy[list(match)])
    raise InputError(
        f"{what}: it has {b.GetNumAtoms()} heavy atoms and the ligand {a.GetNumAtoms()}, or they are connected differently; expected the same molecule"
    )


def _plain(mol: Any) -> Any:
    """Returns the heavy atoms of a molecule with their connections alone."""
    from rdkit import Chem

    heavy = {atom.GetIdx(): place for place, atom in enumerate(a for a in mol.GetAtoms() if a.GetAtomicNum() > 1)}
    plain = Chem.RWMol()
    for index in heavy:
        atom = Chem.Atom(mol.GetAtomWithIdx(index).GetAtomicNum())
        atom.SetNoImplicit(True)
        plain.AddAtom(atom)
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if ends[0] in heavy and ends[1] in heavy:
            plain.AddBond(heavy[ends[0]], heavy[ends[1]], Chem.BondType.SINGLE)
    made = plain.GetMol()
    made.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(made)
    return made
