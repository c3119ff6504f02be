"""Is a conformation of the molecule it should be? Named checks of many frames, with the reason of each failure.

| check | a frame passes if |
|---|---|
| finite | every coordinate is a finite number |
| bonds | every bond is within 25 % of its bounds by distance geometry |
| angles | every 1-3 distance is within 25 % of its bounds |
| clash | atoms more than three bonds apart keep 0.6 of the sum of their van der Waals radii (0.45 for a polar hydrogen and N, O, F or S) |
| stereo | every tetrahedral centre has its sign |
| double bonds | every labelled double bond is cis or trans as it should be |

The tolerances of bonds and angles are those of PoseBusters (Buttenschoen et al., 2024, https://arxiv.org/abs/2308.05777); RDKit's bounds
allow for no vibration. Radii are Bondi's, as RDKit tabulates them. Hydrogen bonds come closer than their radii would allow, hence the
smaller factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from equilibra.errors import ShapeError
from equilibra.geometry.internal_coordinates import dihedrals, signed_volumes
from equilibra.systems.validity import Result, Validity, finite, furthest, judge, nothing_to_check, within

CHECKS = ("finite", "bonds", "angles", "clash", "stereo", "double bonds")
"""Names of the checks, in their order."""

TOLERANCE = 0.25
"""Relative tolerance of bonds and 1-3 distances."""

CLASH_FACTOR = 0.6
"""Closest approach of atoms that are not bonded, in units of the sum of their van der Waals radii."""

HYDROGEN_BOND_FACTOR = 0.45
"""The same for a hydrogen on N, O or S and an N, O, F or S."""

_PAIRS_AT_ONCE = 4_000_000


class ChemicalSystem(Protocol):
    """What the checks read of a system of N atoms with a chemical graph: molecules, and ligands of pockets."""

    @property
    def atoms(self) -> int:
        """Number of atoms N."""

    @property
    def mol(self) -> Any:
        """RDKit molecule."""

    @property
    def atom_names(self) -> list[str]:
        """What the atoms are called in messages."""

    @property
    def reference(self) -> np.ndarray:
        """One valid conformation (N, 3), in Å."""

    @property
    def stereo_centres(self) -> np.ndarray:
        """Indices (C, 4): each centre with three neighbours in canonical order."""

    @property
    def stereo_signs(self) -> np.ndarray:
        """Expected sign (C,) of the normalised signed volume."""

    @property
    def double_bonds(self) -> np.ndarray:
        """Indices (B, 4) of the dihedral of each double bond of given configuration."""

    @property
    def double_bond_signs(self) -> np.ndarray:
        """Expected sign (B,) of its cosine."""


@dataclass(frozen=True, eq=False)
class _Bounds:
    """Pairs of atoms with bounds of their distance in Å, either of which may be infinite."""

    pairs: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def check(positions: np.ndarray, system: ChemicalSystem) -> Validity:
    """Checks frames against the molecule they should be.

    Arguments:
        positions: Frames (F, N, 3), in Å.
        system: The molecule.

    Raises:
        ShapeError: If the positions are not frames of this molecule's atoms.
    """
    positions = np.asarray(positions)
    if positions.ndim != 3 or positions.shape[1:] != (system.atoms, 3):
        raise ShapeError("positions", positions.shape, f"(frames, {system.atoms}, 3)")
    bonds, angles, others = _distance_bounds(system)
    names = system.atom_names
    step = max(1, _PAIRS_AT_ONCE // max(1, len(others.pairs) + len(angles.pairs) + len(bonds.pairs)))

    def results(x: np.ndarray) -> Sequence[Result]:
        volumes = signed_volumes(x, system.stereo_centres) * system.stereo_signs
        cosines = np.cos(dihedrals(x, system.double_bonds)) * system.double_bond_signs
        return (
            finite(x),
            _within(x, bonds),
            _within(x, angles),
            _within(x, others),
            _positive(volumes),
            _positive(cosines),
        )

    describe = (
        lambda item, value: f"the coordinates of {names[item]} are not finite numbers",
        _describe_distance(bonds, names, "bond"),
        _describe_distance(angles, names, "1-3 distance"),
        _describe_distance(others, names, "distance"),
        lambda item, value: f"{names[system.stereo_centres[item, 0]]} has the mirror image of its configuration",
        lambda item, value: (
            f"the double bond {names[system.double_bonds[item, 1]]} - {names[system.double_bonds[item, 2]]} is "
            + ("trans instead of cis" if system.double_bond_signs[item] > 0 else "cis instead of trans")
        ),
    )
    return judge(positions, CHECKS, results, describe, frames_at_once=step)


def _within(x: np.ndarray, bounds: _Bounds) -> Result:
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.linalg.norm(x[:, bounds.pairs[:, 0]] - x[:, bounds.pairs[:, 1]], axis=-1)
    return within(distances, bounds.lower, bounds.upper)


def _positive(values: np.ndarray) -> Result:
    if not values.shape[1]:
        return nothing_to_check(values)
    return furthest(np.asarray((values > 0).all(axis=1)), -values, values)


def _describe_distance(bounds: _Bounds, names: list[str], kind: str) -> Callable[[int, float], str]:
    def describe(item: int, value: float) -> str:
        i, j = bounds.pairs[item]
        expected = f"at least {bounds.lower[item]:.2f} Å"
        if np.isfinite(bounds.upper[item]):
            expected = f"{bounds.lower[item]:.2f} to {bounds.upper[item]:.2f} Å"
        return f"{kind} {names[i]} - {names[j]} is {value:.2f} Å, expected {expected}"

    return describe


def _distance_bounds(system: ChemicalSystem) -> tuple[_Bounds, _Bounds, _Bounds]:
    """Returns the bounds of bonds, of 1-3 distances, and of atoms more than three bonds apart."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom
    from rdkit.rdBase import BlockLogs

    mol: Any = system.mol
    path = Chem.GetDistanceMatrix(mol)
    with BlockLogs():
        matrix = rdDistGeom.GetMoleculeBoundsMatrix(mol)
    first, second = np.triu_indices(system.atoms, k=1)
    pairs, steps = np.stack([first, second], axis=1), path[first, second]
    lower, upper = (1 - TOLERANCE) * matrix[second, first], (1 + TOLERANCE) * matrix[first, second]
    # where distance geometry does not know a bond, the reference conformation does
    reference = np.linalg.norm(system.reference[first] - system.reference[second], axis=1)
    strange = (reference < lower) | (reference > upper)
    lower = np.where(strange, (1 - TOLERANCE) * reference, lower)
    upper = np.where(strange, (1 + TOLERANCE) * reference, upper)
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRvdw(atom.GetAtomicNum()) for atom in mol.GetAtoms()])
    donor, acceptor = _hydrogen_bonds(mol)
    polar = (donor[first] & acceptor[second]) | (donor[second] & acceptor[first])
    closest = np.where(polar, HYDROGEN_BOND_FACTOR, CLASH_FACTOR) * (radii[first] + radii[second])
    near, next_near, far = steps == 1, steps == 2, steps > 3
    return (
        _Bounds(pairs[near], lower[near], upper[near]),
        _Bounds(pairs[next_near], lower[next_near], upper[next_near]),
        _Bounds(pairs[far], closest[far], np.full(int(far.sum()), np.inf)),
    )


def _hydrogen_bonds(mol: Any) -> tuple[np.ndarray, np.ndarray]:
    polar = {7, 8, 9, 16}
    donor = [
        atom.GetAtomicNum() == 1 and any(n.GetAtomicNum() in polar for n in atom.GetNeighbors()) for atom in mol.GetAtoms()
    ]
    acceptor = [atom.GetAtomicNum() in polar for atom in mol.GetAtoms()]
    return np.array(donor), np.array(acceptor)
