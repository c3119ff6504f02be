r"""Collective variables of positions: torsions by name, and distances, angles, dihedral angles and the radius of gyration.

====================  ====================================  ======  =======================
spelling              what it is                            unit    range
====================  ====================================  ======  =======================
a torsion's name      dihedral angle of its four atoms      rad     -pi to pi, periodic
``distance:i,j``      distance of two atoms                 Å       from 0
``angle:i,j,k``       angle at atom j                       rad     0 to pi
``dihedral:i,j,k,l``  dihedral angle about the bond j-k     rad     -pi to pi, periodic
``rg``                radius of gyration                    Å       from 0
====================  ====================================  ======  =======================

Atoms are counted from 1, as in the names of torsions and in PDB files. No periodic images are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.geometry_statistics import bond_angles, bond_lengths
from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.analysis.torsions import dihedrals
from equilibra.errors import InputError, ShapeError

Unit = Literal["rad", "Å"]

ATOMS: Mapping[str, int] = {"distance": 2, "angle": 3, "dihedral": 4}
"""How many atoms each geometric variable is of."""
GYRATION = "rg"
"""The name of the radius of gyration."""
GEOMETRIC = re.compile(r"(distance|angle|dihedral)\s*:\s*(\d+(?:\s*,\s*\d+)*)")
"""A geometric variable with its atoms."""


@dataclass(frozen=True, eq=False)
class CollectiveVariable:
    """One number for each conformation."""

    name: str
    """The full name, e.g. `phi ALA2` or `distance:3,17`."""
    values: FloatArray
    """The values, shape (n)."""
    unit: Unit
    """Their unit."""
    period: float | None = None
    """The period of a dihedral angle; None for the others."""


def full_name(name: str, torsions: Iterable[str]) -> str:
    """Returns the full name of a collective variable.

    Arguments:
        name: A torsion's full name, or its first word (`phi`) where one torsion alone begins with it, or another spelling of the table.
        torsions: Full names of the molecule's torsions.

    Raises:
        InputError: If there is no such variable or several; the message names the known ones.
    """
    wanted, names = " ".join(name.split()), list(torsions)
    if wanted in names or wanted == GYRATION:
        return wanted
    geometric = GEOMETRIC.fullmatch(wanted)
    if geometric:
        atoms = [int(number) for number in geometric[2].split(",")]
        if len(atoms) != ATOMS[geometric[1]]:
            raise InputError(
                f"collective variable '{wanted}': got {len(atoms)} atoms, expected {ATOMS[geometric[1]]}, such as {_example(geometric[1])}"
            )
        return f"{geometric[1]}:{','.join(map(str, atoms))}"
    found = [full for full in names if full.split(" ")[0].lower() == wanted.lower() or full.lower() == wanted.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"collective variable '{wanted}': the molecule has {len(found)} of them, {', '.join(found)}; give the full name of one"
        )
    raise InputError(f"unknown collective variable '{wanted}' (known: {known_names(names)})")


def known_names(torsions: Iterable[str]) -> str:
    """Returns the names that are understood, as words for a message."""
    return ", ".join([*torsions, *(_example(kind) for kind in ATOMS), GYRATION]) + "; atoms are counted from 1"


def collective_variable(
    name: str, positions: ArrayLike, torsions: Mapping[str, Sequence[int]], masses: ArrayLike | None = None
) -> CollectiveVariable:
    """Computes a collective variable of each conformation.

    Arguments:
        name: As for `full_name`.
        positions: Conformations (n, atoms, 3), in Å.
        torsions: The four atoms, counted from 0, of each of the molecule's torsions by name.
        masses: Masses (atoms) in any unit, for the radius of gyration; equal ones by default.

    Raises:
        InputError: If there is no such variable, an atom is not there or given twice, or a value is not finite.
        ShapeError: If the positions are no conformations.
    """
    x = np.asarray(positions)
    if x.ndim != 3 or x.shape[2] != 3 or len(x) == 0:
        raise ShapeError("positions", x.shape, "(conformations, atoms, 3) with at least one conformation")
    full = full_name(name, torsions)
    if full == GYRATION:
        return CollectiveVariable(full, radius_of_gyration(x, masses), "Å")
    if full in torsions:
        return CollectiveVariable(full, _dihedral(x, torsions[full]), "rad", 2.0 * np.pi)
    kind, _, numbers = full.partition(":")
    atoms = _atoms(full, numbers, x.shape[1])
    if kind == "distance":
        return CollectiveVariable(full, bond_lengths(x, [atoms])[:, 0], "Å")
    if kind == "angle":
        return CollectiveVariable(full, bond_angles(x, [atoms])[:, 0], "rad")
    return CollectiveVariable(full, _dihedral(x, atoms), "rad", 2.0 * np.pi)


def radius_of_gyration(positions: ArrayLike, masses: ArrayLike | None = None) -> FloatArray:
    r"""Returns the radius of gyration :math:`\sqrt{\sum_i m_i |x_i - \bar x|^2 / \sum_i m_i}` of each conformation.

    Arguments:
        positions: Conformations (n, atoms, 3).
        masses: Positive masses (atoms); equal ones by default.

    Returns:
        The radii (n), in the unit of the positions.

    Raises:
        ShapeError: If the masses do not fit.
        InputError: If a mass is not positive, or a position not finite.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    m = np.ones(x.shape[1]) if masses is None else np.asarray(masses, dtype=np.float64)
    if m.shape != (x.shape[1],):
        raise ShapeError("masses", m.shape, f"({x.shape[1]},), one for each atom")
    if not (np.isfinite(m).all() and (m > 0.0).all()):
        raise InputError("masses: expected positive numbers")
    share = (m / m.sum())[None, :, None]
    centred = x - (share * x).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt((share * centred**2).sum(axis=(1, 2))))


def _dihedral(x: np.ndarray, atoms: Sequence[int]) -> FloatArray:
    return np.asarray(dihedrals(x, [list(atoms)])[:, 0])


def _atoms(name: str, numbers: str, count: int) -> list[int]:
    """Returns atoms counted from 0."""
    atoms = [int(number) for number in numbers.split(",")]
    outside = [atom for atom in atoms if not 1 <= atom <= count]
    if outside:
        raise InputError(f"collective variable '{name}': there is no atom {outside[0]}; the molecule's atoms are 1 to {count}")
    if len(set(atoms)) < len(atoms):
        raise InputError(f"collective variable '{name}': an atom is given twice, expected {len(atoms)} different atoms")
    return [atom - 1 for atom in atoms]


def _example(kind: str) -> str:
    return f"{kind}:{','.join('ijkl'[: ATOMS[kind]])}"
