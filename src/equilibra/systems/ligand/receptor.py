"""Receptors as people have them: what of a structure file is kept, what is left out, and what to know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equilibra.energies.docking.atom_types import ELEMENTS, METALS
from equilibra.energies.docking.receptor import Receptor, type_receptor
from equilibra.energies.docking.residue_names import WATERS
from equilibra.energies.docking.structure_file import Residue, StructureAtoms, read_structure_atoms
from equilibra.energies.docking.terms import CUTOFF
from equilibra.errors import InputError
from equilibra.systems.ligand.residues import Kinds, bonded_to, kinds_of, lacking, on_top

HEAVY_ATOMS: dict[str, int] = {
    "ALA": 5, "ARG": 11, "ASN": 8, "ASP": 8, "CYS": 6, "GLN": 9, "GLU": 9, "GLY": 4, "HIS": 10, "ILE": 8, "LEU": 8, "LYS": 9, "MET": 8, "PHE": 11,
    "PRO": 7, "SER": 6, "THR": 7, "TRP": 14, "TYR": 12, "VAL": 7,
}  # fmt: skip
"""Heavy atoms of each amino acid in a chain."""

_SHOWN = 4
_SAME_PLACE = 1.5  # Å: a molecule of the file within it of the ligand is that ligand
_ON_TOP = 0.8  # Å: no two heavy atoms of one structure are that close
_MANY_ON_TOP = 0.05
_MANY_BARE = 0.5


@dataclass(frozen=True, eq=False)
class PreparedReceptor:
    """A receptor, with what was done to its file.

    Attributes:
        receptor: Its atoms, typed.
        notes: What was found and what was done, in sentences.
        warnings: What a user should look at, in sentences.
        incomplete: Residues that lack atoms, or are at a break of their chain.
    """

    receptor: Receptor
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    incomplete: frozenset[Residue] = frozenset()


class ReceptorFile:
    """A receptor's file, read once for any number of ligands.

    Arguments:
        path: PDB or mmCIF file, also gzipped.

    Raises:
        InputError: If the file cannot be read, or has no atoms.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.atoms = path, read_structure_atoms(path)
        self.kinds = kinds_of(self.atoms)
        self._ready: dict[tuple[bool, frozenset[Residue]], PreparedReceptor] = {}

    def without(
        self, *, waters: bool = False, in_place_of: np.ndarray | None = None, removed: Sequence[Residue] = ()
    ) -> PreparedReceptor:
        """Returns the receptor for a ligand; arguments and errors are those of `read_receptor_file`."""
        left: dict[Residue, str] = dict.fromkeys(removed, "the reference ligand")
        if in_place_of is not None:
            left |= {
                residue: "in the place of the ligand"
                for residue in _in_place(self.atoms, self.kinds, in_place_of, waters)
                if residue not in left
            }
        key = waters, frozenset(left)
        if key not in self._ready:
            self._ready[key] = _prepared(self, waters, left)
        return self._ready[key]


def read_receptor_file(
    path: str | Path, *, waters: bool = False, in_place_of: np.ndarray | None = None, without: Sequence[Residue] = ()
) -> PreparedReceptor:
    """Reads a receptor from a PDB or mmCIF file, also gzipped.

    Of several models the first is read, of alternate locations the most occupied of each residue. All chains, nucleic acids, metals, ions and cofactors are kept.
    A molecule of the file that is where the ligand goes is left out. `read_structure_atoms` says what is done with files that keep to no standard.

    Arguments:
        path: The file.
        waters: Whether water molecules are kept.
        in_place_of: Heavy atoms (atoms, 3) in Å of a ligand whose place is known: other molecules of the file in that place are left out.
        without: Further residues to leave out.

    Raises:
        InputError: If the file cannot be read, has no atoms, nothing but C-alpha atoms of its protein, or many atoms on top of others.
    """
    return ReceptorFile(path).without(waters=waters, in_place_of=in_place_of, removed=without)


def _prepared(file: ReceptorFile, waters: bool, left: Mapping[Residue, str]) -> PreparedReceptor:
    atoms, path = file.atoms, file.path
    dry = [i for i, residue in enumerate(atoms.residues) if waters or residue.name not in WATERS]
    kept = atoms.some([i for i in dry if atoms.residues[i] not in left])
    if not kept.elements:
        raise InputError(f"receptor: '{path}' has nothing but water and ligands; expected a protein or another receptor")
    try:
        receptor = type_receptor(kept)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from error
    kinds = kinds_of(kept)
    close, broken = on_top(kept, _ON_TOP), lacking(kept, HEAVY_ATOMS)
    _check(kept, kinds, close, path)
    warnings = _doubts(receptor, kinds, broken, close)
    notes = _facts(receptor, kinds, len({residue for residue in atoms.residues if residue.name in WATERS}), waters)
    notes += [f"left out {residue}: {why}" for residue, why in left.items()]
    for one, two in bonded_to(atoms, file.kinds, list(left)):
        warnings.append(
            f"{atoms.label(one)} of the molecule that was left out is bonded to {atoms.label(two)} of the receptor: ligands are sampled without such a bond"
        )
    ends = {residue for pair in kinds.breaks for residue in pair}
    return PreparedReceptor(receptor, tuple(notes), tuple(warnings), frozenset({*broken, *ends}))


def _check(atoms: StructureAtoms, kinds: Kinds, pairs: Sequence[tuple[int, int]], path: str | Path) -> None:
    sizes = Counter(residue for residue, element in zip(atoms.residues, atoms.elements, strict=True) if element != "H")
    chain = kinds.amino_acids
    bare = sum(sizes[residue] == 1 for residue in chain)
    if bare > max(2, _MANY_BARE * len(chain)):
        raise InputError(
            f"receptor: '{path}' has only C-alpha atoms of {bare} of its {len(chain)} amino acids; expected all heavy atoms: rebuild them, or take an all-atom structure"
        )
    if len(pairs) > max(10, _MANY_ON_TOP * sum(sizes.values())):
        one, two = pairs[0]
        raise InputError(
            f"receptor: '{path}' has {len(pairs)} pairs of heavy atoms on top of each other, such as {atoms.label(one)} and {atoms.label(two)}; expected one structure: "
            "keep one of its models or copies"
        )


def _in_place(atoms: StructureAtoms, kinds: Kinds, ligand: np.ndarray, waters: bool) -> list[Residue]:
    from scipy.spatial import KDTree

    loose = {*kinds.others, *kinds.ions, *(kinds.waters if waters else ())}
    close: dict[Residue, list[bool]] = {}
    for residue, element, distance in zip(
        atoms.residues, atoms.elements, KDTree(ligand).query(atoms.positions)[0], strict=True
    ):
        if residue in loose and element != "H":
            close.setdefault(residue, []).append(distance < _SAME_PLACE)
    return [residue for residue, near in close.items() if np.mean(near) > 0.5]


def _facts(receptor: Receptor, kinds: Kinds, water: int, waters: bool) -> list[str]:
    """Returns what a file has, so much water for one, and what was done with it."""
    kept = receptor.atoms
    protein = {*kinds.amino_acids, *kinds.modified}
    chains = list(dict.fromkeys(residue.chain for residue in kept.residues if residue in protein))
    notes = [
        f"{_counted(len(protein))} in {len(chains)} chain{'s' if len(chains) != 1 else ''} ({', '.join(c or '-' for c in chains)})",
        *kept.notes,
    ]
    if water:
        notes.append(f"{_counted(water, 'water')}, {'kept' if waters else 'left out'}")
    metals = Counter(element for element in kept.elements if element in METALS)
    if metals:
        notes.append(f"metals kept: {', '.join(f'{n} {element}' for element, n in metals.items())}")
    if kinds.modified:
        notes.append(f"{_counted(len(kinds.modified), 'modified residue')} of the chains kept: {_listed(kinds.modified)}")
    if kinds.nucleotides:
        notes.append(
            f"{_counted(len(kinds.nucleotides), 'nucleotide')} kept as part of the receptor: {_listed(kinds.nucleotides)}"
        )
    others = (*kinds.others, *kinds.ions)
    if others:
        notes.append(f"other molecules kept as part of the receptor: {_listed(others)}")
    if kept.alternates:
        notes.append(
            f"{_counted(len(kept.alternates))} with alternate locations, of which the most occupied was taken: {_listed(kept.alternates)}"
        )
    inserted = [residue for residue in dict.fromkeys(kept.residues) if residue.number[-1:].isalpha()]
    if inserted:
        notes.append(f"{_counted(len(inserted))} with insertion codes: {_listed(inserted)}")
    return notes


def _doubts(receptor: Receptor, kinds: Kinds, broken: Sequence[Residue], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Returns what is to be looked at, residues that lack atoms and pairs of atoms on top of each other among it."""
    kept = receptor.atoms
    warnings = list(kept.warnings)
    if broken:
        warnings.append(
            f"{_counted(len(broken))} lack{'s' if len(broken) == 1 else ''} atoms, for example {_listed(broken)}; complete them, for example with PDBFixer"
        )
    breaks = [f"{one} to {two}" for one, two in kinds.breaks]
    if breaks:
        warnings.append(f"{_counted(len(breaks), 'chain break')}, where residues are missing: {_listed(breaks)}")
    if kept.unoccupied:
        warnings.append(
            f"{_counted(len(kept.unoccupied))} with atoms of occupancy zero, which were modelled without being seen: {_listed(kept.unoccupied)}"
        )
    if pairs:
        words = [f"{kept.label(one)} and {kept.label(two)}" for one, two in pairs]
        warnings.append(
            f"{_counted(len(pairs), 'pair')} of heavy atoms on top of each other: {_listed(words)}; remove one of each"
        )
    if "H" not in kept.elements:
        warnings.append(
            "the receptor has no hydrogens: donors and acceptors are typed by residue names, oxygens of other molecules by bond lengths, as at pH 7; add hydrogens for "
            "other protonation states"
        )
    foreign = [f"{receptor.label(place)} ({kept.elements[int(receptor.heavy[place])]})" for place in receptor.foreign]
    if foreign:
        warnings.append(
            f"the docking score has no type for {_listed(foreign)}: left out; a box within {CUTOFF:g} Å of {'it' if len(foreign) == 1 else 'them'} is refused"
        )
    untyped = dict.fromkeys(
        kept.residues[atom]
        for atom, name in zip(receptor.heavy.tolist(), receptor.types, strict=True)
        if not name and kept.elements[atom] in ELEMENTS
    )
    if untyped:
        warnings.append(
            f"nothing tells which nitrogens or oxygens of {_listed(untyped)} carry hydrogens: energies are refused where they are near the ligand; add "
            "hydrogens to the receptor, or remove them from its file"
        )
    return warnings


def _counted(number: int, noun: str = "residue") -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _listed(things: Iterable[object]) -> str:
    words = [str(thing) for thing in things]
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
