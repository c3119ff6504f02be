"""Receptors as people have them: what of a structure file is kept, what is left out, and what to know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equilibra.energies.docking.atom_types import METALS
from equilibra.energies.docking.receptor import RESIDUES, WATERS, Receptor, type_receptor
from equilibra.energies.docking.structure_file import Residue, StructureAtoms, read_structure_atoms
from equilibra.errors import InputError

HEAVY_ATOMS: dict[str, int] = {
    "ALA": 5, "ARG": 11, "ASN": 8, "ASP": 8, "CYS": 6, "GLN": 9, "GLU": 9, "GLY": 4, "HIS": 10, "ILE": 8, "LEU": 8, "LYS": 9, "MET": 8, "PHE": 11,
    "PRO": 7, "SER": 6, "THR": 7, "TRP": 14, "TYR": 12, "VAL": 7,
}  # fmt: skip
"""Heavy atoms of each amino acid in a chain."""

_SHOWN = 4
_SAME_PLACE = 1.5  # Å: a molecule of the file within it of the ligand is that ligand


@dataclass(frozen=True, eq=False)
class PreparedReceptor:
    """A receptor, with what was done to its file.

    Attributes:
        receptor: Its atoms, typed.
        notes: What was found and what was done, in sentences.
        warnings: What a user should look at, in sentences.
    """

    receptor: Receptor
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


class ReceptorFile:
    """A receptor's file, read once for any number of ligands.

    Arguments:
        path: PDB or mmCIF file, also gzipped.

    Raises:
        InputError: If the file cannot be read, or has no atoms.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.atoms = path, read_structure_atoms(path)
        self._ready: dict[tuple[bool, frozenset[Residue]], PreparedReceptor] = {}

    def without(
        self, *, waters: bool = False, in_place_of: np.ndarray | None = None, removed: Sequence[Residue] = ()
    ) -> PreparedReceptor:
        """Returns the receptor for a ligand; arguments and errors are those of `read_receptor_file`."""
        left: dict[Residue, str] = dict.fromkeys(removed, "the reference ligand")
        if in_place_of is not None:
            left |= dict.fromkeys(_in_place(self.atoms, in_place_of), "in the place of the ligand")
        key = waters, frozenset(left)
        if key not in self._ready:
            self._ready[key] = _prepared(self.atoms, self.path, waters, left)
        return self._ready[key]


def read_receptor_file(
    path: str | Path, *, waters: bool = False, in_place_of: np.ndarray | None = None, without: Sequence[Residue] = ()
) -> PreparedReceptor:
    """Reads a receptor from a PDB or mmCIF file, also gzipped.

    Of several models the first is read, of alternate locations the most occupied of each residue. All chains, metals, ions and cofactors are kept.
    A molecule of the file that is where the ligand goes is left out.

    Arguments:
        path: The file.
        waters: Whether water molecules are kept.
        in_place_of: Heavy atoms (atoms, 3) in Å of a ligand whose place is known: other molecules of the file in that place are left out.
        without: Further residues to leave out.

    Raises:
        InputError: If the file cannot be read, has no atoms, or has an element without a type.
    """
    return ReceptorFile(path).without(waters=waters, in_place_of=in_place_of, removed=without)


def _prepared(atoms: StructureAtoms, path: str | Path, waters: bool, left: Mapping[Residue, str]) -> PreparedReceptor:
    dry = [i for i, residue in enumerate(atoms.residues) if waters or residue.name not in WATERS]
    kept = [i for i in dry if atoms.residues[i] not in left]
    if not kept:
        raise InputError(f"receptor: '{path}' has nothing but water and ligands; expected a protein or another receptor")
    receptor = type_receptor(atoms.some(kept))
    notes, warnings = _facts(atoms, receptor, waters)
    notes += [f"left out {residue}: {why}" for residue, why in left.items()]
    return PreparedReceptor(receptor, tuple(notes), tuple(warnings))


def is_protein(residue: Residue) -> bool:
    """Tells whether a residue is an amino acid or a cap by its name."""
    return residue.name in RESIDUES


def other_molecules(atoms: StructureAtoms) -> list[Residue]:
    """Returns the residues that are neither amino acids, water nor single metal ions: cofactors and ligands."""
    found = dict.fromkeys(atoms.residues)
    metal = {atoms.residues[i] for i, element in enumerate(atoms.elements) if element in METALS}
    return [residue for residue in found if not is_protein(residue) and residue.name not in WATERS and residue not in metal]


def _in_place(atoms: StructureAtoms, ligand: np.ndarray) -> list[Residue]:
    from scipy.spatial import KDTree

    distances = KDTree(ligand).query(atoms.positions)[0]
    found = []
    for residue in other_molecules(atoms):
        rows = [i for i, own in enumerate(atoms.residues) if own == residue and atoms.elements[i] != "H"]
        if rows and np.mean(distances[rows] < _SAME_PLACE) > 0.5:
            found.append(residue)
    return found


def _facts(atoms: StructureAtoms, receptor: Receptor, waters: bool) -> tuple[list[str], list[str]]:
    residues = list(dict.fromkeys(atoms.residues))
    chains = list(dict.fromkeys(residue.chain for residue in residues if is_protein(residue)))
    notes = [
        f"{sum(map(is_protein, residues))} residues in {len(chains)} chain{'s' if len(chains) != 1 else ''} ({', '.join(c or '-' for c in chains)})"
    ]
    count = sum(residue.name in WATERS for residue in residues)
    if count:
        notes.append(f"{count} waters, {'kept' if waters else 'left out'}")
    kept = receptor.atoms
    metals = Counter(element for element in kept.elements if element in METALS)
    if metals:
        notes.append(f"metals kept: {', '.join(f'{n} {element}' for element, n in metals.items())}")
    others = other_molecules(kept)
    if others:
        notes.append(f"other molecules kept as part of the receptor: {_listed(others)}")
    if atoms.alternates:
        notes.append(
            f"{_counted(len(atoms.alternates))} with alternate locations, of which the most occupied was taken: {_listed(atoms.alternates)}"
        )
    inserted = [residue for residue in residues if residue.number[-1:].isalpha()]
    if inserted:
        notes.append(f"{_counted(len(inserted))} with insertion codes: {_listed(inserted)}")
    warnings = []
    sizes = Counter(kept.residues[i] for i, name in enumerate(kept.names) if kept.elements[i] != "H" and name != "OXT")
    broken = [residue for residue, size in sizes.items() if size < HEAVY_ATOMS.get(residue.name, 0)]
    if broken:
        warnings.append(
            f"{_counted(len(broken))} lack{'s' if len(broken) == 1 else ''} atoms, for example {_listed(broken)}; complete them, for example with PDBFixer"
        )
    if "H" not in kept.elements:
        warnings.append(
            "the receptor has no hydrogens: donors and acceptors are typed by residue names, as at pH 7; add hydrogens for other protonation states"
        )
    return notes, warnings


def _counted(number: int) -> str:
    return f"{number} residue{'s' if number != 1 else ''}"


def _listed(residues: Sequence[Residue]) -> str:
    more = len(residues) - _SHOWN
    return ", ".join(str(residue) for residue in residues[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
