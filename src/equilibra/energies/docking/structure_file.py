"""Atoms of a receptor from PDB and mmCIF files, every one of them in one place, without bonds."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from equilibra.energies.docking.residue_names import NUCLEOTIDES, RESIDUES, WATERS
from equilibra.energies.docking.structure_records import AtomRecord, Residue, cif_records, pdb_records
from equilibra.errors import InputError

_PDB, _CIF = (".pdb", ".ent"), (".cif", ".mmcif")
_POLYMERS = RESIDUES | NUCLEOTIDES
_SAME_ATOM, _SAME_PLACE = 2.5, 0.7
"""Å within which two atoms of a residue with one name are places of one atom: in proteins and nucleic acids, and in other molecules, whose atoms some programs do not number."""


class Alternate(NamedTuple):
    """A residue with alternate locations: which was taken, and the others, as the file calls them."""

    residue: Residue
    taken: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.residue} ({self.taken}{', not ' if self.others else ''}{', '.join(self.others)})"


@dataclass(frozen=True)
class StructureAtoms:
    """The atoms of one model of a structure, each in one place.

    Attributes:
        elements: Symbols.
        names: Atom names, such as `CA`.
        residues: The residue of each.
        positions: Positions (atoms, 3) in Å.
        alternates: Residues of which one of several alternate locations was taken.
        unoccupied: Residues with atoms of occupancy zero, which were modelled without being seen.
        notes: What was done to the file otherwise, in sentences.
        warnings: What a user should look at, in sentences.
    """

    elements: tuple[str, ...]
    names: tuple[str, ...]
    residues: tuple[Residue, ...]
    positions: NDArray[np.float64]
    alternates: tuple[Alternate, ...] = ()
    unoccupied: tuple[Residue, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def label(self, atom: int) -> str:
        """Returns what an atom is called in messages, such as `A:HIS57:ND1`."""
        return f"{self.residues[atom]}:{self.names[atom]}"

    def some(self, kept: Sequence[int]) -> StructureAtoms:
        """Returns the atoms of some places alone, and what is to be said of them."""
        residues = tuple(self.residues[i] for i in kept)
        known = set(residues)
        return StructureAtoms(
            tuple(self.elements[i] for i in kept),
            tuple(self.names[i] for i in kept),
            residues,
            self.positions[list(kept)],
            tuple(each for each in self.alternates if each.residue in known),
            tuple(each for each in self.unoccupied if each in known),
            self.notes,
            self.warnings,
        )


def read_structure_atoms(path: str | Path) -> StructureAtoms:
    """Reads the first model of a PDB or mmCIF file (also gzipped).

    Of alternate locations that with the highest mean occupancy in its residue is taken; atoms that it lacks come from the next. Where alternatives are different residues, only one of them is.
    Where a chain repeats residues, as copies that were given one name do, the second is called `A#2`.

    Raises:
        InputError: If there is no such file, it cannot be read, or it has no atoms with coordinates.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(_PDB + _CIF):
        raise InputError(f"receptor: got '{path}', expected a file that ends in {', '.join(_PDB + _CIF)}, or these with .gz")
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        hint = "; expected a gzipped file, as its name says" if path.name.lower().endswith(".gz") and path.is_file() else ""
        raise InputError(f"receptor: '{path}' cannot be read: {error}{hint}") from error
    # remarks of old files are in other encodings; atoms are ASCII
    text = data.decode("utf-8", errors="replace")
    read = (pdb_records if name.endswith(_PDB) else cif_records)(text, path)
    records, alternates = _one_location(read.atoms)
    records, repeated, copies = _told_apart(records)
    if not records:
        raise InputError(f"receptor: '{path}' has no atoms with coordinates; expected a structure file of a receptor")
    notes, warnings = list(read.notes), list(read.warnings)
    if copies:
        chains = ", ".join(f"{chain or '-'} as {chain}#2" for chain in copies)
        notes.append(
            f"chains that repeat residues under one name, of which the second and further copies were renamed: {chains}"
        )
    if repeated:
        warnings.append(
            f"{len(repeated)} atoms are there twice without alternate locations, of which the first was taken, for example {repeated[0]}"
        )
    # programs that know no occupancies write zeros throughout
    occupied = any(record.occupancy > 0 for record in records)
    return StructureAtoms(
        tuple(record.element for record in records),
        tuple(record.name for record in records),
        tuple(record.residue for record in records),
        np.array([record.position for record in records], dtype=np.float64).reshape(-1, 3),
        tuple(alternates),
        tuple(
            dict.fromkeys(record.residue for record in records if occupied and record.occupancy <= 0 and record.element != "H")
        ),
        tuple(notes),
        tuple(warnings),
    )


def _one_location(records: list[AtomRecord]) -> tuple[list[AtomRecord], list[Alternate]]:
    """Keeps one location of each atom, and tells which."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        places[record.residue[:2]].append(i)
    dropped: set[int] = set()
    renamed: dict[int, Residue] = {}
    alternates = []
    for rows in places.values():
        if not any(records[i].location for i in rows):
            continue
        named: dict[Residue, list[int]] = defaultdict(list)
        for i in rows:
            named[records[i].residue].append(i)
        # residues in one place that share no location are alternatives of each other, such as two kinds of side chain; others have a number in common by chance
        several = [residue for residue, own in named.items() if any(records[i].location for i in own)]
        letters = [letter for residue in several for letter in {records[i].location for i in named[residue]} - {""}]
        groups = (
            [[i for residue in several for i in named[residue]]]
            if len(set(letters)) == len(letters)
            else [named[residue] for residue in several]
        )
        for group in groups:
            kept, alternate = _chosen(records, group)
            dropped |= set(group) - kept
            renamed |= dict.fromkeys(kept, alternate.residue)
            alternates.append(alternate)
    found = [record._replace(residue=renamed.get(i, record.residue)) for i, record in enumerate(records) if i not in dropped]
    return found, alternates


def _chosen(records: list[AtomRecord], group: list[int]) -> tuple[set[int], Alternate]:
    """Returns the atoms that are kept of a residue, or of residues that are alternatives, and which location they have."""
    lettered = {records[i].name for i in group if records[i].location}
    found: dict[tuple[str, Residue], list[int]] = defaultdict(list)
    for i in group:
        # without a letter an atom has one place, or the first of those with letters
        if records[i].location or records[i].name in lettered:
            found[records[i].location, records[i].residue].append(i)

    def rank(key: tuple[str, Residue]) -> tuple[float, int]:
        heavy = [i for i in found[key] if records[i].element != "H"] or found[key]
        return round(float(np.mean([records[i].occupancy for i in heavy])), 6), len(heavy)

    ranked = sorted(found, key=rank, reverse=True)
    residue = ranked[0][1]
    kept = {i for i in group if not records[i].location and records[i].name not in lettered}
    names: set[str] = set()
    for key in ranked:
        if key[1] == residue:
            own = [i for i in found[key] if records[i].name not in names]
            kept |= set(own)
            names |= {records[i].name for i in own}
    mixed = len({each.name for _, each in found}) > 1
    words = [f"{letter or 'blank'}{f' {each.name}' if mixed else ''}" for letter, each in ranked]
    return kept, Alternate(residue, words[0], tuple(sorted(words[1:])))


def _told_apart(records: list[AtomRecord]) -> tuple[list[AtomRecord], list[str], list[str]]:
    """Gives residues that come again a chain of their own, and drops atoms that are there twice.

    Returns:
        The atoms; those that were dropped, as they are called; chains of which there are copies.
    """
    seen: dict[tuple[Residue, str], tuple[float, float, float]] = {}
    copies: dict[Residue, int] = {}
    found: list[AtomRecord] = []
    repeated: list[str] = []
    previous: Residue | None = None
    for record in records:
        polymer = record.residue.name in _POLYMERS
        copy = copies.get(record.residue, 1)
        residue = _copy(record.residue, copy)
        before = seen.get((residue, record.name))
        if before is not None:
            distance = math.dist(before, record.position)
            if (polymer and record.residue == previous) or distance < (_SAME_ATOM if polymer else _SAME_PLACE):
                repeated.append(f"{residue}:{record.name}")
                continue
            if polymer or record.residue != previous:
                copies[record.residue] = copy + 1
                residue = _copy(record.residue, copy + 1)
        previous = record.residue
        seen[residue, record.name] = record.position
        found.append(record._replace(residue=residue))
    # of waters nothing but their number matters
    chains = dict.fromkeys(residue.chain for residue in copies if residue.name not in WATERS)
    return found, repeated, list(chains)


def _copy(residue: Residue, number: int) -> Residue:
    return residue if number == 1 else residue._replace(chain=f"{residue.chain}#{number}")
