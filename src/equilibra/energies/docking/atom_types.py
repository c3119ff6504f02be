"""X-Score atom types of the Vina scoring function: what two atoms must know of each other, and which elements have it.

Hydrogens have no type: they only make nitrogen and oxygen donors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import InputError


@dataclass(frozen=True)
class XScoreType:
    """What a pair of atoms interacts by.

    Attributes:
        radius: Van der Waals radius in Å.
        hydrophobic: Whether it makes hydrophobic contacts.
        donor: Whether it donates hydrogen bonds; metals do.
        acceptor: Whether it accepts them.
    """

    radius: float
    hydrophobic: bool = False
    donor: bool = False
    acceptor: bool = False


XSCORE_TYPES: dict[str, XScoreType] = {
    "C_H": XScoreType(1.9, hydrophobic=True),
    "C_P": XScoreType(1.9),
    "N_P": XScoreType(1.8),
    "N_D": XScoreType(1.8, donor=True),
    "N_A": XScoreType(1.8, acceptor=True),
    "N_DA": XScoreType(1.8, donor=True, acceptor=True),
    "O_A": XScoreType(1.7, acceptor=True),
    "O_DA": XScoreType(1.7, donor=True, acceptor=True),
    "S_P": XScoreType(2.0),
    "P_P": XScoreType(2.1),
    "F_H": XScoreType(1.5, hydrophobic=True),
    "Cl_H": XScoreType(1.8, hydrophobic=True),
    "Br_H": XScoreType(2.0, hydrophobic=True),
    "I_H": XScoreType(2.2, hydrophobic=True),
    "Si": XScoreType(2.2),
    "Met_D": XScoreType(1.2, donor=True),
}
"""All types by their name in Vina: C_H is carbon among carbons and hydrogens only, C_P carbon next to another element."""

_FIXED = {"S": "S_P", "Se": "S_P", "P": "P_P", "F": "F_H", "Cl": "Cl_H", "Br": "Br_H", "I": "I_H", "Si": "Si"}
_METAL_RADIUS = 1.75
METALS: dict[str, float] = {"Mg": 1.30, "Mn": 1.39, "Zn": 1.31, "Ca": 1.74, "Fe": 1.25} | dict.fromkeys(
    ("Cu", "Na", "K", "Hg", "Co", "U", "Cd", "Ni"), _METAL_RADIUS
)
"""Metals with their covalent radius in Å; those that AutoDock has no parameters for share one."""

COVALENT_RADII: dict[str, float] = {
    "H": 0.37,
    "C": 0.77,
    "N": 0.75,
    "O": 0.73,
    "S": 1.02,
    "Se": 1.02,
    "P": 1.06,
    "F": 0.71,
    "Cl": 0.99,
    "Br": 1.14,
    "I": 1.33,
    "Si": 1.11,
} | METALS
"""Covalent radii in Å, by which bonds of a receptor are found."""

ELEMENTS = frozenset(COVALENT_RADII)
"""Elements that the scoring function knows."""


def covalent_radius(element: str) -> float:
    """Returns the covalent radius in Å of any element; of those that the scoring function does not know, that of RDKit's table, and zero of an unknown atom (X), which has no bonds."""
    if element in COVALENT_RADII or element == "X":
        return COVALENT_RADII.get(element, 0.0)
    from rdkit import Chem

    return float(Chem.GetPeriodicTable().GetRcovalent(element))


def xscore_type(element: str, *, polar: bool = False, donor: bool = False, acceptor: bool = False) -> str:
    """Returns the name of the type of a heavy atom.

    Arguments:
        element: Symbol, one of `ELEMENTS` other than hydrogen.
        polar: For carbon, whether it is bonded to an element other than carbon and hydrogen.
        donor: For nitrogen and oxygen, whether it carries hydrogen.
        acceptor: For nitrogen, whether its lone pair is free to accept. Oxygen always accepts.
    """
    if element == "C":
        return "C_P" if polar else "C_H"
    if element == "N":
        return "N_" + (("D" * donor + "A" * acceptor) or "P")
    if element == "O":
        return "O_DA" if donor else "O_A"
    return "Met_D" if element in METALS else _FIXED[element]


def check_elements(elements: Sequence[str], labels: Sequence[str], what: str) -> None:
    """Refuses elements that the scoring function has no type for.

    Arguments:
        elements: Symbols of the atoms.
        labels: What each atom is called in the message.
        what: What they are the atoms of.

    Raises:
        InputError: If there is one; the message names the atoms.
    """
    foreign = [f"{label} ({element})" for element, label in zip(elements, labels, strict=True) if element not in ELEMENTS]
    if foreign:
        raise InputError(
            f"{what}: the docking score has no type for {', '.join(foreign[:5])}{' and others' if len(foreign) > 5 else ''}; expected "
            f"elements among {', '.join(sorted(ELEMENTS))}; remove such atoms, or mend the element columns of the file"
        )


def type_parameters(types: Sequence[str]) -> Tensor:
    """Returns radius in Å, and hydrophobic, donor and acceptor as 0 or 1, of atoms by their types, with shape (4, atoms)."""
    rows = [(t.radius, t.hydrophobic, t.donor, t.acceptor) for t in (XSCORE_TYPES[name] for name in types)]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4).T.contiguous()
