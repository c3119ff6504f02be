"""The backbone of a protein as arrays: atoms N, CA, C of every residue, and which residues follow each other in a chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.analysis.samples import FloatArray, IntArray, check_samples
from equilibra.analysis.torsions import Torsions, dihedrals
from equilibra.errors import InputError, ShapeError
from equilibra.units import NM

BACKBONE = ("N", "CA", "C")
"""The atoms of a residue, in the order of the arrays."""

SAME_RESIDUE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "HIS"),
        **dict.fromkeys(("CYX", "CYM"), "CYS"),
        "ASH": "ASP",
        "GLH": "GLU",
        "LYN": "LYS",
    }
)
"""Force fields' names of charge states and of bridged cysteines, and the amino acids they are."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The residues of one or more polypeptide chains."""

    residues: tuple[str, ...]
    """Three-letter names of the amino acids."""
    segments: IntArray
    """The number of the unbroken piece that each residue belongs to, with shape (residues)."""

    def __post_init__(self) -> None:
        if self.segments.shape != (len(self.residues),):
            raise ShapeError("segments", self.segments.shape, f"({len(self.residues)}), one for each residue")

    def __len__(self) -> int:
        return len(self.residues)

    @classmethod
    def single(cls, length: int, *, residues: tuple[str, ...] | None = None) -> Chain:
        """Returns one unbroken chain of `length` residues, of alanine if no names are given."""
        return cls(residues=residues or ("ALA",) * length, segments=np.zeros(length, dtype=np.int64))

    @property
    def bonded(self) -> IntArray:
        """Indices of the residues that are bonded to the next one, with shape (bonds)."""
        return np.flatnonzero(self.segments[1:] == self.segments[:-1])

    @property
    def names(self) -> tuple[str, ...]:
        """Names with numbers counted from one, e.g. `ALA2`."""
        return tuple(f"{name}{index + 1}" for index, name in enumerate(self.residues))


def alpha_carbons(trajectory: Any) -> tuple[FloatArray, Chain]:
    """Reads the C-alpha atoms of an mdtraj `Trajectory`.

    Arguments:
        trajectory: Frames of a protein. Caps, water and ions are left out. A gap in the numbers of residues breaks the chain.

    Returns:
        The positions in Å, with shape (frames, residues, 3), and the chain.

    Raises:
        InputError: If there is no C-alpha.
    """
    atoms, chain = _residue_atoms(trajectory.topology, ("CA",))
    return np.asarray(trajectory.xyz[:, atoms[:, 0]], dtype=np.float64) * NM, chain


def backbone(trajectory: Any) -> tuple[FloatArray, Chain]:
    """Reads the atoms N, CA and C of an mdtraj `Trajectory`.

    Arguments:
        trajectory: As for `alpha_carbons`.

    Returns:
        The positions in Å, with shape (frames, residues, 3, 3), and the chain.

    Raises:
        InputError: If there is no C-alpha, or a residue that has one lacks N or C.
    """
    atoms, chain = _residue_atoms(trajectory.topology, BACKBONE)
    return np.asarray(trajectory.xyz[:, atoms], dtype=np.float64) * NM, chain


def check_backbone(positions: ArrayLike, chain: Chain | None) -> tuple[FloatArray, Chain]:
    """Returns backbones as float64 and their chain, one unbroken piece if none is given.

    Raises:
        ShapeError: If the shape is not (frames, residues, 3, 3), or the chain has another length.
        InputError: If there is no frame, or a coordinate is not finite.
    """
    x = check_samples("backbone", positions, ndim=4, last=3)
    known = Chain.single(x.shape[1]) if chain is None else chain
    if x.shape[1:] != (len(known), 3, 3):
        raise ShapeError("backbone", x.shape, f"(frames, {len(known)}, 3, 3): N, CA and C of each residue")
    return x, known


def backbone_torsions(positions: ArrayLike, chain: Chain | None = None) -> Torsions:
    """Returns φ, ψ and ω of backbones; a torsion that would span a break is left out.

    Arguments:
        positions: N, CA and C of each residue, with shape (frames, residues, 3, 3), in any unit of length.
        chain: The chain; one unbroken piece if not given.

    Returns:
        Torsions named `phi ALA2`, `psi ALA1`, `omega ALA2` (of the bond before the residue), in radians; their quadruples count the atoms
        residue by residue.

    Raises:
        ShapeError: If the shapes do not fit.
        InputError: If there is no frame, or a coordinate is not finite.
    """
    x, chain = check_backbone(positions, chain)
    names, before = chain.names, chain.bonded
    kinds = {"phi": (2, 3, 4, 5), "psi": (0, 1, 2, 3), "omega": (1, 2, 3, 4)}
    rows = np.concatenate([3 * before[:, None] + np.asarray(offsets) for offsets in kinds.values()])
    labels = [f"{kind} {names[i if kind == 'psi' else i + 1]}" for kind in kinds for i in before]
    return Torsions(names=tuple(labels), quadruples=rows, angles=dihedrals(x.reshape(len(x), -1, 3), rows))


def ramachandran_columns(torsions: Torsions) -> list[tuple[str, int, int]]:
    """Returns the residues that have φ and ψ, with the columns of both."""
    column = {name: index for index, name in enumerate(torsions.names)}
    residues = [name.removeprefix("phi ") for name in torsions.names if name.startswith("phi ")]
    return [(name, column[f"phi {name}"], column[f"psi {name}"]) for name in residues if f"psi {name}" in column]


def _residue_atoms(topology: Any, names: tuple[str, ...]) -> tuple[IntArray, Chain]:
    rows: list[list[int]] = []
    residues: list[str] = []
    segments: list[int] = []
    before: Any = None
    for residue in topology.residues:
        # a calcium ion is called CA too
        index = {atom.name: atom.index for atom in residue.atoms if atom.element is None or atom.element.symbol != "Ca"}
        if "CA" not in index:
            continue
        missing = [name for name in names if name not in index]
        if missing:
            raise InputError(
                f"backbone: residue {residue} lacks {' and '.join(missing)}; give whole backbones, or compare C-alpha atoms only"
            )
        broken = before is not None and (
            residue.chain.index != before.chain.index or residue.resSeq - before.resSeq not in (0, 1)
        )
        segments.append(0 if before is None else segments[-1] + int(broken))
        rows.append([index[name] for name in names])
        residues.append(SAME_RESIDUE.get(residue.name, residue.name))
        before = residue
    if not rows:
        raise InputError(f"backbone: none of the {topology.n_residues} residues has a C-alpha; this is no protein")
    atoms: NDArray[np.int64] = np.asarray(rows, dtype=np.int64)
    return atoms, Chain(residues=tuple(residues), segments=np.asarray(segments, dtype=np.int64))
