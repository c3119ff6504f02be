"""What a network is told about a molecule: features of atoms and of pairs of atoms from the chemical graph and its stereochemistry.

Names of atoms and residues are not among them, and graph-symmetric atoms have the same features: what two molecules share, a network
can share too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.state import Features
from equilibra.systems.stereo import Stereo, perceive_stereo

MAX_ELEMENT = 100
"""Largest atomic number that has an embedding."""

MAX_PATH = 10
"""Longest path, in bonds, that is told from longer ones."""

CHARGE_OFFSET = 8
"""Added to formal charges, so that their indices start at 0."""

NODE_VOCABULARY: dict[str, int] = {
    "element": MAX_ELEMENT + 1,
    "degree": 9,
    "formal_charge": 2 * CHARGE_OFFSET + 1,
    "aromatic": 2,
    "ring": 9,
    "hybridisation": 9,
    "hydrogens": 7,
    "chirality": 3,
}
"""Integer features of atoms, each with its number of values.

`element`: atomic number. `degree`: bonded atoms. `formal_charge`: charge + 8. `ring`: size of the smallest ring, 0 for none, 8 for larger ones.
`hydrogens`: bonded hydrogens. `chirality`: 1 and 2 for an expected signed volume of sign +1 and -1, 0 for no stereo-centre.
"""

PAIR_VOCABULARY: dict[str, int] = {"bond": 5, "path": MAX_PATH + 2, "stereo": 3, "same_ring": 2}
"""Integer features of pairs, each with its number of values.

`bond`: 0 none, 1 single, 2 double, 3 triple, 4 aromatic. `path`: bonds on the shortest path, 11 for more than 10 or none. `stereo`: 1 cis and 2
trans for the substituents across a double bond of given configuration. `same_ring`: whether the two share a ring.
"""

_BONDS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 3, "AROMATIC": 4}
_HYBRIDISATIONS = {"S": 1, "SP": 2, "SP2": 3, "SP3": 4, "SP2D": 5, "SP3D": 6, "SP3D2": 7, "OTHER": 8}


def featurise(mol: Any, stereo: Stereo | None = None) -> Features:
    r"""Makes the features of a molecule of N atoms.

    The nodes have the integer arrays (N,) of `NODE_VOCABULARY`, and for the chirality bias `chiral_neighbours` (N, 3), the indices of three
    neighbours in canonical order (0 where there is no stereo-centre), with `chiral_sign` (N,), float32, the expected sign of
    :math:`(r_1 \times r_2) \cdot r_3` (0 where none). The pairs have the integer arrays (N, N) of `PAIR_VOCABULARY`.

    Arguments:
        mol: Sanitised RDKit molecule with all hydrogens explicit.
        stereo: Its stereochemistry; by default read from its first conformer.

    Raises:
        InputError: If an element is beyond `MAX_ELEMENT` or is a dummy atom.
    """
    stereo = perceive_stereo(mol) if stereo is None else stereo
    node = _atom_features(mol)
    chirality = torch.zeros(mol.GetNumAtoms(), dtype=torch.int64)
    neighbours = torch.zeros(mol.GetNumAtoms(), 3, dtype=torch.int64)
    sign = torch.zeros(mol.GetNumAtoms(), dtype=torch.float32)
    centres = torch.from_numpy(stereo.centres.copy())
    signs = torch.from_numpy(stereo.signs.copy())
    chirality[centres[:, 0]] = torch.where(signs > 0, 1, 2)
    neighbours[centres[:, 0]] = centres[:, 1:]
    sign[centres[:, 0]] = signs.to(torch.float32)
    return Features(
        node={**node, "chirality": chirality, "chiral_neighbours": neighbours, "chiral_sign": sign},
        pair=_pair_features(mol, stereo),
    )


def _atom_features(mol: Any) -> dict[str, torch.Tensor]:
    rings = mol.GetRingInfo()
    rows: dict[str, list[int]] = {name: [] for name in NODE_VOCABULARY if name != "chirality"}
    for atom in mol.GetAtoms():
        number = atom.GetAtomicNum()
        if not 1 <= number <= MAX_ELEMENT:
            raise InputError(
                f"atom {atom.GetIdx() + 1}: got element {atom.GetSymbol()} ({number}), expected 1 to {MAX_ELEMENT}"
            )
        rows["element"].append(number)
        rows["degree"].append(min(atom.GetDegree(), NODE_VOCABULARY["degree"] - 1))
        rows["formal_charge"].append(min(max(atom.GetFormalCharge() + CHARGE_OFFSET, 0), 2 * CHARGE_OFFSET))
        rows["aromatic"].append(int(atom.GetIsAromatic()))
        rows["ring"].append(min(rings.MinAtomRingSize(atom.GetIdx()), NODE_VOCABULARY["ring"] - 1))
        rows["hybridisation"].append(_HYBRIDISATIONS.get(str(atom.GetHybridization()), 0))
        rows["hydrogens"].append(min(atom.GetTotalNumHs(includeNeighbors=True), NODE_VOCABULARY["hydrogens"] - 1))
    return {name: torch.tensor(values, dtype=torch.int64) for name, values in rows.items()}


def _pair_features(mol: Any, stereo: Stereo) -> dict[str, torch.Tensor]:
    from rdkit import Chem

    atoms = mol.GetNumAtoms()
    bond = np.zeros((atoms, atoms), dtype=np.int64)
    for edge in mol.GetBonds():
        i, j = edge.GetBeginAtomIdx(), edge.GetEndAtomIdx()
        bond[i, j] = bond[j, i] = _BONDS.get(str(edge.GetBondType()), 1)
    path = np.minimum(Chem.GetDistanceMatrix(mol), MAX_PATH + 1).astype(np.int64)
    same_ring = np.zeros_like(bond)
    for ring in mol.GetRingInfo().AtomRings():
        same_ring[np.ix_(ring, ring)] = 1
    np.fill_diagonal(same_ring, 0)
    pairs = {"bond": bond, "path": path, "stereo": _cis_trans(mol, stereo), "same_ring": same_ring}
    return {name: torch.from_numpy(value) for name, value in pairs.items()}


def _cis_trans(mol: Any, stereo: Stereo) -> np.ndarray:
    labels = np.zeros((mol.GetNumAtoms(), mol.GetNumAtoms()), dtype=np.int64)
    for (first, begin, end, last), sign in zip(stereo.double_bonds.tolist(), stereo.double_bond_signs.tolist(), strict=True):
        left = [n.GetIdx() for n in mol.GetAtomWithIdx(begin).GetNeighbors() if n.GetIdx() != end]
        right = [n.GetIdx() for n in mol.GetAtomWithIdx(end).GetNeighbors() if n.GetIdx() != begin]
        for i in left:
            for j in right:
                # the other substituent of an end lies on the other side
                side = sign * (1 if i == first else -1) * (1 if j == last else -1)
                labels[i, j] = labels[j, i] = 1 if side > 0 else 2
    return labels
