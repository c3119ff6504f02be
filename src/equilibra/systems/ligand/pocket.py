"""The pocket: the box that a ligand may be in, from a reference ligand, a centre and a size, or residues."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

from equilibra.energies.docking.box import Box
from equilibra.energies.docking.receptor import Receptor
from equilibra.energies.docking.structure_file import Residue
from equilibra.errors import InputError

MARGIN = 4.0
"""Å that a box reaches beyond a reference ligand by default."""

SIZE = 22.5
"""Edge in Å of a box of which only the centre is given."""

MOST_TOKENS = 128
"""Heavy atoms of the receptor that a network sees, the nearest to the middle of the box."""

REACH = 6.0
"""Å from the box within which these are."""

_FEWEST = 10
_RESIDUE = re.compile(r"^(?:(?P<chain>[^:]*):)?(?P<name>[A-Za-z]*?)(?P<number>-?\d+[A-Za-z]?)$")


def box_of_residues(receptor: Receptor, names: Sequence[str]) -> Box:
    """Returns the box around residues, such as `A:57`, `A:HIS57` or `57`.

    Raises:
        InputError: If a name cannot be read, the receptor has no such residue, or several chains have one of a name without a chain.
    """
    chosen: list[int] = []
    for text in names:
        match = _RESIDUE.match(text.strip())
        if match is None:
            raise InputError(f"--residues: got '{text}', expected a residue such as A:57 or A:HIS57")
        rows = [
            place
            for place, atom in enumerate(receptor.heavy.tolist())
            if _fits(receptor.atoms.residues[atom], match["chain"], match["name"], match["number"])
        ]
        if not rows:
            raise InputError(
                f"--residues: the receptor has no residue '{text.strip()}'; its chains are "
                f"{', '.join(dict.fromkeys(residue.chain or '-' for residue in receptor.atoms.residues))}"
            )
        chains = dict.fromkeys(receptor.atoms.residues[int(receptor.heavy[place])].chain for place in rows)
        if len(chains) > 1:
            raise InputError(
                f"--residues: '{text.strip()}' is in the chains {', '.join(chain or '-' for chain in chains)}; name one of them, such as {next(iter(chains))}:{text.strip()}"
            )
        chosen += rows
    return Box.around(receptor.positions[chosen], margin=0.0 if len(chosen) > _FEWEST else MARGIN)


def _fits(residue: Residue, chain: str | None, name: str, number: str) -> bool:
    if residue.number.upper() != number.upper() or (chain is not None and residue.chain != chain):
        return False
    return not name or residue.name == name.upper()


def pocket_atoms(receptor: Receptor, box: Box) -> np.ndarray:
    """Returns the places (P,) in `receptor.heavy` of the atoms that a network sees, nearest to the middle half of the box first.

    Raises:
        InputError: If there is no receptor, or next to nothing of it, about the box, or an element there has no type.
    """
    receptor.check_elements_near(box)
    centre, half = np.array(box.centre), np.array(box.size) / 2
    offset = np.abs(receptor.positions.numpy() - centre)
    outside = np.linalg.norm(np.maximum(offset - half, 0.0), axis=1)
    rows = np.flatnonzero(outside <= REACH)
    where = f"the box with centre ({', '.join(f'{x:.1f}' for x in box.centre)}) and size ({', '.join(f'{x:.1f}' for x in box.size)}) Å"
    if not len(rows):
        low, high = receptor.positions.amin(0).tolist(), receptor.positions.amax(0).tolist()
        raise InputError(
            f"pocket: {where} is outside of the receptor, which reaches from ({', '.join(f'{x:.0f}' for x in low)}) to "
            f"({', '.join(f'{x:.0f}' for x in high)}) Å; are ligand, box and receptor in one frame?"
        )
    if len(rows) < _FEWEST:
        raise InputError(
            f"pocket: only {len(rows)} heavy atoms of the receptor are within {REACH:g} Å of {where}, expected at least {_FEWEST}; move the box to a pocket"
        )
    distance = np.linalg.norm(np.maximum(offset[rows] - half / 2, 0.0), axis=1)
    return np.sort(rows[np.argsort(distance, kind="stable")[:MOST_TOKENS]])


def box_of(
    receptor: Receptor,
    *,
    reference: np.ndarray | None = None,
    centre: Sequence[float] | None = None,
    size: Sequence[float] | None = None,
    residues: Sequence[str] | None = None,
) -> Box:
    """Returns the box of a pocket that is named in one of three ways.

    Arguments:
        receptor: The receptor.
        reference: Heavy atoms (atoms, 3) in Å of a ligand whose place is known.
        centre: Centre of the box, in Å.
        size: Its edges, in Å: one number or three; `SIZE` by default.
        residues: Residues that line the pocket.

    Raises:
        InputError: If none or several of them are given, or the box cannot be made.
    """
    if (reference is not None) + (centre is not None) + (residues is not None) != 1:
        raise InputError(
            "pocket: expected exactly one of a reference ligand (--ref-ligand), a centre (--center X Y Z, with --size) or residues (--residues); "
            "a ligand file with 3-D coordinates in the receptor's frame can be its own reference"
        )
    if reference is not None:
        return Box.around(torch.from_numpy(np.asarray(reference, dtype=np.float64)), MARGIN)
    if residues is not None:
        return box_of_residues(receptor, residues)
    edges = [SIZE] if size is None else [float(x) for x in size]
    assert centre is not None
    if len(edges) not in (1, 3):
        raise InputError(f"--size: got {len(edges)} numbers, expected one or three lengths in Å")
    x, y, z = (float(value) for value in centre)
    a, b, c = edges if len(edges) == 3 else edges * 3
    return Box((x, y, z), (a, b, c))
