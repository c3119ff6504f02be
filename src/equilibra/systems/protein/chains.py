"""Protein chains among the residues of a file: which residues count, and how they are numbered along the chain.

A residue counts if it has N, CA and C. Amino acids by name, modified ones among them, are told in `alphabet`; every other residue counts as unknown (X)
where it is bonded into a chain. Waters, ions, ligands and free amino acids are not part of the protein.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.alphabet import UNKNOWN, letter_of

PEPTIDE_BOND_LIMIT = 2.0
"""Longest distance of C and the next N that still is a peptide bond, in Å; the bond itself has 1.33 Å."""

BACKBONE = ("N", "CA", "C")
"""Atoms that a residue needs."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Residue:
    """One residue as a file has it.

    Attributes:
        chain: Number of its chain.
        chain_id: Name of the chain.
        name: Its name, such as `ALA`.
        number: Its number; the letter of an insertion is not part of it.
        insertion: Letter of an insertion, or nothing.
        hetero: Whether the file holds it for no part of a polymer (`HETATM`).
        xyz: Positions (3, 3) of N, CA, C in Å, NaN for missing ones; None in a topology.
        atoms: Indices of N, CA, C in a topology, -1 for missing ones; None in a file.
    """

    chain: int
    chain_id: str
    name: str
    number: int
    insertion: str = ""
    hetero: bool = False
    xyz: np.ndarray | None = None
    atoms: tuple[int, ...] | None = None

    @property
    def letter(self) -> str:
        """Its letter; X for an unknown residue."""
        return letter_of(self.name) or UNKNOWN

    @property
    def missing(self) -> list[str]:
        """Which of N, CA, C it lacks."""
        if self.xyz is not None:
            there = np.isfinite(self.xyz).all(axis=1).tolist()
        else:
            there = [index >= 0 for index in self.atoms or ()]
        return [name for name, present in zip(BACKBONE, there, strict=True) if not present]

    @property
    def label(self) -> str:
        """Its name for messages, such as `A:LEU42`."""
        return f"{self.chain_id}:{self.name}{self.number}{self.insertion}"


@dataclass(frozen=True)
class Chain:
    """One protein chain as it was read.

    Attributes:
        name: Its name in the file.
        residues: Its residues with a whole backbone.
        numbers: Positions along the chain: one apart if bonded, else as far as the file's numbers are, and at least two.
    """

    name: str
    residues: tuple[Residue, ...]
    numbers: np.ndarray = field(repr=False)

    @property
    def sequence(self) -> str:
        """Letters of its residues."""
        return "".join(residue.letter for residue in self.residues)

    @property
    def backbone(self) -> np.ndarray:
        """Positions (L, 3, 3) of N, CA, C in Å."""
        return np.stack([residue.xyz for residue in self.residues if residue.xyz is not None])


def protein_chains(residues: list[Residue], where: str, cell: np.ndarray | None = None) -> list[Chain]:
    """Picks the protein among the residues of a file and numbers it along its chains.

    Arguments:
        residues: All residues in the order of the file.
        where: The file, for messages.
        cell: Periodic cell (3, 3) in Å across which residues may be bonded, a vector a row.

    Raises:
        InputError: If none of them is part of a protein.
    """
    # free amino acids and ligands are not bonded to a neighbour; a name in the tables without that mark needs no bond
    kept = [
        residue
        for i, residue in enumerate(residues)
        if not residue.missing and (not residue.hetero or _bonded_at(residues, i - 1, cell) or _bonded_at(residues, i, cell))
    ]
    incomplete = [residue for residue in residues if residue.missing and not residue.hetero and letter_of(residue.name)]
    if not kept:
        if incomplete:
            lack = ", ".join(sorted({name for residue in incomplete for name in residue.missing}))
            raise InputError(
                f"{where}: no residue has N, CA and C ({len(incomplete)} amino acids lack {lack}); whole backbones are needed: rebuild them first"
            )
        names = sorted({residue.name for residue in residues})
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(
            f"{where}: holds no protein residues (found {listed or 'nothing'}); expected amino acids with N, CA and C"
        )
    if incomplete:
        _logger.warning(
            "%s: %d residues without a whole backbone are left out: %s",
            where,
            len(incomplete),
            ", ".join(f"{residue.label} (no {', '.join(residue.missing)})" for residue in incomplete[:10]),
        )
    chains = []
    for number in dict.fromkeys(residue.chain for residue in kept):
        members = tuple(residue for residue in kept if residue.chain == number)
        chains.append(Chain(members[0].chain_id, members, _positions_along(members, cell)))
    return chains


def _positions_along(residues: tuple[Residue, ...], cell: np.ndarray | None) -> np.ndarray:
    numbers = [residues[0].number]
    for before, after in pairwise(residues):
        # PDB files have room for four digits: numbers start again after 9999
        step = (after.number - before.number) % 10000
        bonded = _bonded(before, after, cell)
        if bonded is None:
            # an insertion has its neighbour's number
            bonded = step in (0, 1)
        numbers.append(numbers[-1] + (1 if bonded else max(step, 2)))
    return np.array(numbers, dtype=np.int64)


def _bonded(before: Residue, after: Residue, cell: np.ndarray | None) -> bool | None:
    """Returns whether two residues of a chain are bonded; None where there are no positions to tell."""
    if before.xyz is None or after.xyz is None:
        return None
    step = after.xyz[0] - before.xyz[2]
    if cell is not None:
        step = step - np.round(np.linalg.solve(cell.T, step)) @ cell
    return bool(np.linalg.norm(step) <= PEPTIDE_BOND_LIMIT)


def _bonded_at(residues: list[Residue], i: int, cell: np.ndarray | None) -> bool:
    """Returns whether residue i is bonded to the next; where there are no positions, two neighbours with backbones are taken as bonded."""
    if i < 0 or i + 1 >= len(residues):
        return False
    before, after = residues[i], residues[i + 1]
    if before.chain != after.chain or before.missing or after.missing:
        return False
    return _bonded(before, after, cell) is not False
