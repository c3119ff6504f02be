"""Checks of poses: those of the ligand's own conformation (`systems.conformation_checks`), that it is in the box, and that it does not run into the receptor.

The least distance of heavy atoms from the receptor is that of PoseBusters, 0.75 of the sum of van der Waals radii; half for metals, which ligands bind to.
"""

from __future__ import annotations

import numpy as np

from equilibra.energies.docking.atom_types import METALS
from equilibra.systems import conformation_checks
from equilibra.systems.ligand.system import LigandSystem
from equilibra.systems.validity import Result, Validity, judge, within

CONTACT, METAL_CONTACT = 0.75, 0.5
"""Closest approach of heavy atoms of ligand and receptor, and of metals, in units of the sum of their van der Waals radii."""

CHECKS = ("pocket", "receptor")
_FRAMES_AT_ONCE = 64
_NEAR = 4.5  # Å about the box: a longer contact is none


def check(positions: np.ndarray, system: LigandSystem) -> Validity:
    """Checks poses (F, N, 3), in Å.

    Raises:
        ShapeError: If the positions are not poses of this ligand's atoms.
    """
    own = conformation_checks.check(positions, system)
    heavy = system.torsions.heavy
    low, high = (corner.numpy() for corner in system.box.corners)
    atoms = system.receptor.positions.numpy()
    rows = np.flatnonzero(((atoms > low - _NEAR) & (atoms < high + _NEAR)).all(axis=1))
    places = system.receptor.heavy.numpy()[rows]
    elements = [system.receptor.atoms.elements[i] for i in places]
    factor = np.array([METAL_CONTACT if element in METALS else CONTACT for element in elements])
    numbers = [system.mol.GetAtomWithIdx(int(i)).GetAtomicNum() for i in heavy]
    least = factor[None] * (_radii(numbers)[:, None] + _radii(elements)[None])

    def results(x: np.ndarray) -> list[Result]:
        with np.errstate(invalid="ignore", over="ignore"):
            offset = np.maximum(low - x[:, heavy], x[:, heavy] - high).max(axis=2)
            distance = np.linalg.norm(x[:, heavy, None] - atoms[rows], axis=-1)
        return [within(offset, -np.inf, 0.0), within(distance.reshape(len(x), -1), least.ravel(), np.inf)]

    def outside(item: int, value: float) -> str:
        return f"{system.atom_names[heavy[item]]} is {value:.2f} Å outside of the box"

    def too_close(item: int, value: float) -> str:
        i, j = divmod(item, len(rows))
        label = system.receptor.atoms.label(int(places[j]))
        return f"{system.atom_names[heavy[i]]} is {value:.2f} Å from {label}, expected at least {least[i, j]:.2f} Å"

    other = judge(positions, CHECKS, results, (outside, too_close), frames_at_once=_FRAMES_AT_ONCE)
    return Validity(
        own.checks + other.checks,
        np.concatenate([own.passed, other.passed], axis=1),
        np.concatenate([own.worst, other.worst], axis=1),
        np.concatenate([own.values, other.values], axis=1),
        own.describe + other.describe,
    )


def _radii(elements: list[str] | list[int]) -> np.ndarray:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([table.GetRvdw(element) for element in elements])
