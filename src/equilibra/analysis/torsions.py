"""Torsions of a molecule: which quadruples of atoms, their angles in each frame, and the distances between their distributions.

Angles are in radians in [-π, π], positive clockwise seen along the middle bond (IUPAC), computed without periodic images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.histogram import histogram_1d, histogram_2d, js_distance
from equilibra.analysis.samples import FloatArray, IntArray, check_indices, check_samples, wrap_angles
from equilibra.errors import InputError, ShapeError
from equilibra.geometry import internal_coordinates

CIRCLE: tuple[float, float] = (-np.pi, np.pi)
"""The range of an angle's histogram."""


@dataclass(frozen=True, kw_only=True)
class Torsions:
    """Named torsions of a molecule and, if frames were given, their angles."""

    names: tuple[str, ...]
    """Names such as `phi ALA2` or `torsion C1-C2-C3-O4`."""
    quadruples: IntArray
    """The atoms, with shape (torsions, 4)."""
    angles: FloatArray
    """The angles in radians, with shape (frames, torsions)."""

    def select(self, kinds: Sequence[str]) -> Torsions:
        """Returns the torsions whose names begin with one of the words, e.g. `("phi", "psi")`."""
        keep = [index for index, name in enumerate(self.names) if name.split(" ")[0] in kinds]
        return Torsions(
            names=tuple(self.names[index] for index in keep), quadruples=self.quadruples[keep], angles=self.angles[:, keep]
        )


def dihedrals(positions: ArrayLike, quadruples: ArrayLike) -> FloatArray:
    """Returns the dihedral angles of quadruples of atoms.

    Arguments:
        positions: The coordinates, with shape (frames, atoms, 3), in any unit of length.
        quadruples: The atoms, with shape (torsions, 4).

    Returns:
        The angles in radians, with shape (frames, torsions).

    Raises:
        InputError: If there are no frames, a coordinate is not finite, or an index is out of range.
    """
    x = np.asarray(positions)
    if x.ndim != 3 or len(x) == 0:
        raise ShapeError("positions", x.shape, "(frames, atoms, 3) with at least one frame")
    rows = check_indices("quadruples", quadruples, columns=4, n_atoms=x.shape[1])
    out = np.empty((len(x), len(rows)))
    # a slice at a time, so that long trajectories are never copied whole
    step = max(1, 500_000 // max(x.shape[1], 3 * len(rows)))
    for start in range(0, len(x), step):
        frames = check_samples(f"positions from frame {start}", x[start : start + step], ndim=3, last=3)
        out[start : start + step] = internal_coordinates.dihedrals(frames, rows)
    return out


def peptide_quadruples(topology: Any) -> tuple[list[str], IntArray]:
    """Finds φ, ψ, ω and χ of a peptide, caps included, by atom names.

    Arguments:
        topology: An mdtraj `Topology`.

    Returns:
        The names, e.g. `phi ALA2`, and the quadruples, with shape (torsions, 4), in the order of φ, ψ, ω, χ1 to χ5.
    """
    found: list[tuple[str, list[int]]] = []
    chain_residues = [list(chain.residues) for chain in topology.chains]
    for kind in ("phi", "psi", "omega"):
        for residues in chain_residues:
            for before, here in pairwise(residues):
                found += _peptide_bond_torsion(kind, before, here)
    if topology.n_residues:
        found += _side_chain_torsions(topology)
    return [name for name, _ in found], check_indices("quadruples", [rows for _, rows in found], columns=4)


def rotatable_quadruples(topology: Any) -> tuple[list[str], IntArray]:
    """Finds one torsion for each rotatable bond: between heavy atoms, single, in no ring, with another heavy atom on either side.

    Bonds of unknown order count as single. The outer atoms are the heaviest neighbours, at equal weight the first.

    Arguments:
        topology: An mdtraj `Topology` with bonds.

    Returns:
        The names, e.g. `torsion C1-C2-C3-O4` (atom names with one-based numbers), and the quadruples, with shape (torsions, 4).

    Raises:
        InputError: If the topology has no bonds.
    """
    if topology.n_bonds == 0 and topology.n_atoms > 1:
        raise InputError("rotatable torsions: the topology has no bonds; load a PDB file with CONECT records or add bonds")
    atoms = list(topology.atoms)
    number = [atom.element.number for atom in atoms]
    neighbours: list[set[int]] = [set() for _ in atoms]
    for bond in topology.bonds:
        neighbours[bond[0].index].add(bond[1].index)
        neighbours[bond[1].index].add(bond[0].index)
    linear = {end.index for bond in topology.bonds if bond.order == 3 for end in bond}
    names, rows = [], []
    for bond in topology.bonds:
        b, c = sorted((bond[0].index, bond[1].index))
        # mdtraj writes an order of 1 to 3, and a type that tells aromatic and amide bonds apart
        if bond.order not in (None, 1) or str(bond.type) == "Aromatic" or linear & {b, c}:
            continue
        left = [i for i in neighbours[b] - {c} if number[i] > 1]
        right = [i for i in neighbours[c] - {b} if number[i] > 1]
        if min(number[b], number[c]) == 1 or not left or not right or _in_ring(neighbours, b, c):
            continue
        row = [min(left, key=lambda i: (-number[i], i)), b, c, min(right, key=lambda i: (-number[i], i))]
        names.append("torsion " + "-".join(f"{atoms[i].name}{i + 1}" for i in row))
        rows.append(row)
    return names, check_indices("quadruples", rows, columns=4)


def peptide_torsions(trajectory: Any) -> Torsions:
    """Returns φ, ψ, ω and χ of every frame of an mdtraj `Trajectory` of a peptide."""
    names, rows = peptide_quadruples(trajectory.topology)
    return Torsions(names=tuple(names), quadruples=rows, angles=dihedrals(trajectory.xyz, rows))


def rotatable_torsions(trajectory: Any) -> Torsions:
    """Returns the torsions about the rotatable bonds of every frame of an mdtraj `Trajectory`."""
    names, rows = rotatable_quadruples(trajectory.topology)
    return Torsions(names=tuple(names), quadruples=rows, angles=dihedrals(trajectory.xyz, rows))


def torsion_jsd(a: ArrayLike, b: ArrayLike, *, bins: int = 100) -> FloatArray:
    """Returns the Jensen-Shannon distance (√JSD in nats) of each torsion's marginal distribution.

    Arguments:
        a: Angles in radians, with shape (samples, torsions).
        b: Angles in radians, with shape (samples, torsions).
        bins: The number of bins on [-π, π].

    Returns:
        The distances, with shape (torsions), between 0 and 0.833.
    """
    first, second = _angle_pair(a, b)
    limits = CIRCLE
    return np.asarray(
        [
            js_distance(
                histogram_1d(first[:, k], bins=bins, limits=limits), histogram_1d(second[:, k], bins=bins, limits=limits)
            )
            for k in range(first.shape[1])
        ]
    )


def pair_jsd(a: ArrayLike, b: ArrayLike, *, bins: int = 50) -> float:
    """Returns the Jensen-Shannon distance (√JSD in nats) of two samples of a pair of angles, (samples, 2) in radians, on bins²."""
    first, second = _angle_pair(a, b)
    if first.shape[1] != 2:
        raise ShapeError("a", first.shape, "(samples, 2)")
    limits = (CIRCLE, CIRCLE)
    return js_distance(histogram_2d(first, bins=bins, limits=limits), histogram_2d(second, bins=bins, limits=limits))


def _angle_pair(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first = check_samples("a", a, ndim=2)
    return wrap_angles(first), wrap_angles(check_samples("b", b, ndim=2, last=first.shape[1]))


def _peptide_bond_torsion(kind: str, before: Any, here: Any) -> list[tuple[str, list[int]]]:
    """The torsion of one kind that spans the peptide bond from `before` to `here`, if all its atoms exist."""
    old, new = ({atom.name: atom.index for atom in residue.atoms} for residue in (before, here))
    # the methyl carbons of ACE (CH3) and NME (CH3 or C) stand for CA in ω only
    first_alpha = old.get("CA", old.get("CH3"))
    second_alpha = new.get("CA", new.get("CH3", new.get("C") if here.name == "NME" else None))
    rows: dict[str, tuple[str, list[int | None]]] = {
        "phi": (f"phi {here}", [old.get("C"), new.get("N"), new.get("CA"), new.get("C")]),
        "psi": (f"psi {before}", [old.get("N"), old.get("CA"), old.get("C"), new.get("N")]),
        "omega": (f"omega {here}", [first_alpha, old.get("C"), new.get("N"), second_alpha]),
    }
    name, row = rows[kind]
    complete = [index for index in row if index is not None]
    return [(name, complete)] if len(complete) == 4 else []


def _side_chain_torsions(topology: Any) -> list[tuple[str, list[int]]]:
    import mdtraj

    frame = mdtraj.Trajectory(np.zeros((1, topology.n_atoms, 3), dtype=np.float32), topology)
    found = []
    for order in range(1, 6):
        rows, _ = getattr(mdtraj, f"compute_chi{order}")(frame, periodic=False)
        found += [(f"chi{order} {topology.atom(int(row[1])).residue}", [int(i) for i in row]) for row in rows]
    return found


def _in_ring(neighbours: list[set[int]], b: int, c: int) -> bool:
    """Tells whether b and c stay connected when the bond between them is cut."""
    seen, front = {b}, [i for i in neighbours[b] if i != c]
    while front:
        atom = front.pop()
        if atom == c:
            return True
        if atom not in seen:
            seen.add(atom)
            front += neighbours[atom] - seen
    return False
