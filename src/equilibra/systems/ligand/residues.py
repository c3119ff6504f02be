"""What the residues of a structure file are: protein, nucleic acid, water, ion, or another molecule."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from equilibra.energies.docking.atom_types import COVALENT_RADII, METALS
from equilibra.energies.docking.residue_names import NUCLEOTIDES, RESIDUES, WATERS
from equilibra.energies.docking.structure_file import Residue, StructureAtoms

PEPTIDE_BOND = 2.0
"""Longest distance in Å of C and N of two residues that are bonded: the bond has 1.33."""

_BACKBONE = ("N", "CA", "C")
_ALLOWANCE = 1.15  # of the sum of covalent radii
_KINDS = ("amino_acids", "modified", "nucleotides", "waters", "metals", "ions", "others")
_HALOGENS = frozenset(("F", "Cl", "Br", "I"))


@dataclass(frozen=True, eq=False)
class Kinds:
    """The residues of a structure by their kind, each in the order of the file.

    Attributes:
        amino_acids: Amino acids and caps by their names, the free ones excepted.
        modified: Other residues that are bonded into a chain of amino acids.
        nucleotides: Nucleotides by their names.
        waters: Waters.
        metals: Metal ions.
        ions: Halide ions.
        others: All else: cofactors, ligands, additives; amino acids that are bonded to no other.
        breaks: Pairs of residues that follow each other in a chain without a bond.
    """

    amino_acids: tuple[Residue, ...]
    modified: tuple[Residue, ...]
    nucleotides: tuple[Residue, ...]
    waters: tuple[Residue, ...]
    metals: tuple[Residue, ...]
    ions: tuple[Residue, ...]
    others: tuple[Residue, ...]
    breaks: tuple[tuple[Residue, Residue], ...]


def is_protein(residue: Any) -> bool:
    """Tells whether a residue is an amino acid or a cap by its name."""
    return residue.name in RESIDUES


def kinds_of(atoms: StructureAtoms) -> Kinds:
    """Sorts the residues of a structure by names, elements and the bonds of the backbone."""
    rows: dict[Residue, list[int]] = defaultdict(list)
    for i, residue in enumerate(atoms.residues):
        rows[residue].append(i)
    backbone: dict[Residue, dict[str, np.ndarray]] = {
        residue: {atoms.names[i]: atoms.positions[i] for i in own if atoms.names[i] in (*_BACKBONE, "OXT")}
        for residue, own in rows.items()
    }
    linked = _linked(backbone)
    found: dict[str, list[Residue]] = defaultdict(list)
    for residue, own in rows.items():
        elements = {atoms.elements[i] for i in own}
        if residue.name in WATERS:
            kind = "waters"
        elif len(own) == 1 and elements <= METALS.keys():
            kind = "metals"
        elif len(own) == 1 and elements <= _HALOGENS:
            kind = "ions"
        elif is_protein(residue):
            # a free amino acid is a molecule like any other
            kind = "others" if "OXT" in backbone[residue] and residue not in linked else "amino_acids"
        elif residue in linked:
            kind = "modified"
        else:
            kind = "nucleotides" if residue.name in NUCLEOTIDES else "others"
        found[kind].append(residue)
    chain = [residue for residue in rows if residue in {*found["amino_acids"], *found["modified"]}]
    breaks = [
        (one, two)
        for one, two in pairwise(chain)
        if one.chain == two.chain
        and "C" in backbone[one]
        and "N" in backbone[two]
        and np.linalg.norm(backbone[one]["C"] - backbone[two]["N"]) > PEPTIDE_BOND
    ]
    kinds = {name: tuple(residues) for name, residues in found.items()}
    return Kinds(breaks=tuple(breaks), **{name: kinds.get(name, ()) for name in _KINDS})


def bonded_to(atoms: StructureAtoms, kinds: Kinds, residues: Sequence[Residue]) -> list[tuple[int, int]]:
    """Returns pairs of a heavy atom of some residues and one of amino acids, modified ones or nucleotides that it is bonded to."""
    from scipy.spatial import KDTree

    if not residues:
        return []
    chain = {*kinds.amino_acids, *kinds.modified, *kinds.nucleotides} - {*residues}
    heavy = [i for i, element in enumerate(atoms.elements) if element in COVALENT_RADII and element not in ("H", *METALS)]
    own = [i for i in heavy if atoms.residues[i] in {*residues}]
    theirs = [i for i in heavy if atoms.residues[i] in chain]
    if not own or not theirs:
        return []
    reach = 2 * _ALLOWANCE * max(COVALENT_RADII[atoms.elements[i]] for i in (*own, *theirs))
    near = KDTree(atoms.positions[theirs]).query_ball_point(atoms.positions[own], reach)
    pairs = [(i, theirs[j]) for i, places in zip(own, near, strict=True) for j in places]
    radii = [COVALENT_RADII.get(element, 0.0) for element in atoms.elements]
    x = atoms.positions
    return [(i, j) for i, j in pairs if np.linalg.norm(x[i] - x[j]) < _ALLOWANCE * (radii[i] + radii[j])]


def on_top(atoms: StructureAtoms, within: float) -> list[tuple[int, int]]:
    """Returns pairs of heavy atoms within a distance in Å of each other."""
    from scipy.spatial import KDTree

    heavy = np.array([i for i, element in enumerate(atoms.elements) if element != "H"])
    pairs = KDTree(atoms.positions[heavy]).query_pairs(within, output_type="ndarray")
    return sorted((int(one), int(two)) for one, two in heavy[pairs])


def lacking(atoms: StructureAtoms, heavy_atoms: dict[str, int]) -> list[Residue]:
    """Returns the residues with fewer heavy atoms than their names ask for, the second oxygen of a terminus not counted."""
    sizes = Counter(
        residue
        for residue, name, element in zip(atoms.residues, atoms.names, atoms.elements, strict=True)
        if element != "H" and name != "OXT"
    )
    return [residue for residue, size in sizes.items() if size < heavy_atoms.get(residue.name, 0)]


def _linked(backbone: dict[Residue, dict[str, np.ndarray]]) -> set[Residue]:
    """Returns the residues with N, CA and C that have a peptide bond."""
    from scipy.spatial import KDTree

    whole = [residue for residue, atoms in backbone.items() if all(name in atoms for name in _BACKBONE)]
    starts = [residue for residue, atoms in backbone.items() if "N" in atoms]
    ends = [residue for residue, atoms in backbone.items() if "C" in atoms]
    if not starts or not ends:
        return set()
    tree = KDTree(np.array([backbone[residue]["N"] for residue in starts]))
    near = tree.query_ball_point(np.array([backbone[residue]["C"] for residue in ends]), PEPTIDE_BOND)
    found: set[Residue] = set()
    for residue, places in zip(ends, near, strict=True):
        for place in places:
            if starts[place] != residue:
                found |= {residue, starts[place]}
    return found & set(whole)
