r"""Hydrogens of a ligand from its heavy atoms, where only these are diffused.

Each hydrogen keeps the length of its bond, and its place in a frame of the heavy atom X that carries it and two others, as they are in the reference conformation:

.. math:: e_1 \propto \hat a + w\, \hat b, \qquad e_2 \propto \hat b - (\hat b \cdot e_1)\, e_1, \qquad e_3 = e_1 \times e_2

with the directions a, b from X to two neighbours (w = 1), or, where X has one neighbour alone, to it and to an atom beyond it (w = 0), so that methyls, hydroxyls and amines keep their
torsion. A single hydrogen on an atom with three neighbours is opposite to the sum of their directions, on whichever side the atom's configuration puts it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_STRAIGHT = 0.985  # cosine of 10 degrees: atoms nearer to one line give no frame
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Hydrogens:
    """Where the H hydrogens of a molecule of N atoms, L of them heavy, are. Numbers of heavy atoms are places among them.

    Attributes:
        atoms: Numbers (N,) of the atoms in an array of the heavy atoms, and then the hydrogens.
        carriers: Heavy atom (H,) that carries each.
        first: Heavy atom (H,) to which the direction a is.
        second: Heavy atom (H,) to which the direction b is.
        share: Weight w (H,).
        places: Places (H, 3) in the frame, in Å.
        opposite: Whether (H,) it is opposite to three neighbours.
        three: These (H, 3); of the others the carrier.
    """

    atoms: Tensor
    carriers: Tensor
    first: Tensor
    second: Tensor
    share: Tensor
    places: Tensor
    opposite: Tensor
    three: Tensor

    def added(self, heavy: Tensor) -> Tensor:
        """Returns the positions (batch, N, 3) of all atoms from those of the heavy ones (batch, L, 3), with gradients."""
        if not len(self.carriers):
            return heavy[:, self.atoms]
        carrier = heavy[:, self.carriers]
        frame = self._frames(heavy, carrier)
        placed = carrier + torch.einsum("bhij,hj->bhi", frame, self.places.to(heavy))
        away = _unit(_unit(heavy[:, self.three] - carrier[:, :, None]).sum(2))
        length = torch.linalg.vector_norm(self.places, dim=1).to(heavy)[:, None]
        found = torch.where(self.opposite[:, None], carrier - length * away, placed)
        return torch.cat([heavy, found], dim=1)[:, self.atoms]

    def _frames(self, heavy: Tensor, carrier: Tensor) -> Tensor:
        """Returns the axes (batch, H, 3, 3) of the frames, in columns."""
        a, b = _unit(heavy[:, self.first] - carrier), _unit(heavy[:, self.second] - carrier)
        e1 = _unit(a + self.share.to(heavy)[:, None] * b)
        e2 = _unit(b - (b * e1).sum(-1, keepdim=True) * e1)
        return torch.stack([e1, e2, torch.linalg.cross(e1, e2)], dim=-1)


def hydrogens_of(mol: Any, reference: np.ndarray) -> Hydrogens:
    """Finds where the hydrogens of a molecule are in a reference conformation.

    Arguments:
        mol: RDKit molecule of N atoms in one fragment, at least three of them heavy.
        reference: The conformation (N, 3), in Å.
    """
    number = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    heavy = [i for i, z in enumerate(number) if z > 1]
    near = {i: [n.GetIdx() for n in mol.GetAtomWithIdx(i).GetNeighbors() if number[n.GetIdx()] > 1] for i in range(len(number))}
    hydrogens = [i for i, z in enumerate(number) if z <= 1]
    place = {atom: row for row, atom in enumerate([*heavy, *hydrogens])}
    rows: list[tuple[int, int, int, float, bool, tuple[int, int, int]]] = []
    for hydrogen in hydrogens:
        (x,) = near[hydrogen]
        others = near[x]
        alone = sum(n.GetAtomicNum() == 1 for n in mol.GetAtomWithIdx(x).GetNeighbors()) == 1
        opposite = len(others) == 3 and alone
        beside = [n for n in others[1:] if not _in_line(reference, x, others[0], n)]
        second = beside[0] if beside else _beyond(near, reference, x, others[0])
        three = (place[others[0]], place[others[1]], place[others[2]]) if opposite else (place[x],) * 3
        rows.append((place[x], place[others[0]], place[second], float(bool(beside)), opposite, three))
    carriers, first, second_, share, opposites, threes = (list(part) for part in zip(*rows, strict=True)) if rows else ([],) * 6
    made = Hydrogens(
        atoms=torch.tensor([place[i] for i in range(len(number))]),
        carriers=torch.tensor(carriers, dtype=torch.int64),
        first=torch.tensor(first, dtype=torch.int64),
        second=torch.tensor(second_, dtype=torch.int64),
        share=torch.tensor(share, dtype=torch.float64),
        places=torch.zeros(len(rows), 3, dtype=torch.float64),
        opposite=torch.tensor(opposites, dtype=torch.bool),
        three=torch.tensor(threes, dtype=torch.int64).reshape(-1, 3),
    )
    if not rows:
        return made
    x = torch.from_numpy(np.asarray(reference, dtype=np.float64))
    still = x[None, heavy]
    bonds = x[hydrogens] - x[heavy][made.carriers]
    frame = made._frames(still, still[:, made.carriers])[0]
    return replace(made, places=torch.einsum("hij,hi->hj", frame, bonds))


def _unit(v: Tensor) -> Tensor:
    return v * torch.rsqrt(v.square().sum(-1, keepdim=True) + _TINY)


def _in_line(x: np.ndarray, at: int, a: int, b: int) -> bool:
    u, v = x[a] - x[at], x[b] - x[at]
    return bool(abs(u @ v) > _STRAIGHT * np.linalg.norm(u) * np.linalg.norm(v))


def _beyond(near: dict[int, list[int]], x: np.ndarray, at: int, first: int) -> int:
    """Returns the nearest atom beyond the first that is not in line with it; the first itself where the whole molecule is a line."""
    seen, queue = {at, first}, [n for n in near[first] if n != at]
    while queue:
        atom = queue.pop(0)
        if not _in_line(x, at, first, atom):
            return atom
        seen.add(atom)
        queue += [n for n in near[atom] if n not in seen]
    return first
