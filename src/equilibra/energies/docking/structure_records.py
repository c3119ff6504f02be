"""Atoms as the lines of PDB files and the tables of mmCIF files have them: all of the first model, alternate locations included."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equilibra.energies.docking.atom_types import ELEMENTS
from equilibra.energies.docking.residue_names import NUCLEOTIDES, RESIDUES, WATERS
from equilibra.errors import InputError


class Residue(NamedTuple):
    """Which residue an atom is of."""

    chain: str
    number: str
    name: str

    def __str__(self) -> str:
        return f"{self.chain}:{self.name}{self.number}" if self.chain else f"{self.name}{self.number}"


class AtomRecord(NamedTuple):
    """An atom of a file in one of its locations; `location` is empty where there is one only."""

    element: str
    name: str
    residue: Residue
    location: str
    occupancy: float
    position: tuple[float, float, float]


@dataclass(frozen=True)
class StructureRecords:
    """The atoms of the first model of a file.

    Attributes:
        atoms: Them, in the order of the file.
        notes: What was done, in sentences.
        warnings: What a user should look at, in sentences.
    """

    atoms: list[AtomRecord]
    notes: list[str]
    warnings: list[str]


_POLYMERS = RESIDUES | NUCLEOTIDES | WATERS
_PSEUDO_ATOMS = frozenset(("DUM",))
# names of programs of dynamics for protonation states
_PROTONATED = frozenset(
    f"{name}{letter}" for name, letters in {"HIS": "ABDEHP12", "LYS": "NHP", "ASP": "HP", "GLU": "HP", "CYS": "2HP", "ARG": "N"}.items() for letter in letters
)  # fmt: skip
_BASE_36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OFFSET, _LARGEST = 10 * 36**3, 9999


def pdb_records(text: str, path: Path) -> StructureRecords:
    """Reads PDB text: atoms of the first model, up to the first ENDMDL, END or further MODEL.

    Serial numbers do not matter. Residue numbers beyond 9999 may be hybrid-36, names of residues may have four characters and those of chains two. Where the element is missing it is that of the atom's name. Of chains without a name that of the
    segment is taken, if there are several.

    Raises:
        InputError: If a line is cut or shifted, or has an element that does not exist; the message names the line.
    """
    atoms: list[AtomRecord] = []
    segments: list[str] = []
    models, guessed, dummies, trailing = 1, 0, 0, 0
    closed, end = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        kind = line[:6].rstrip().upper()
        if kind in ("MODEL", "ENDMDL", "END"):
            if atoms and kind != "END":
                closed = "next"
            elif atoms and not closed:
                closed, end = "END", number
            continue
        if not line.startswith(("ATOM ", "HETATM")):
            continue
        if closed:
            models += closed == "next"
            trailing += closed == "END"
            closed = "model" if closed == "next" else closed
            continue
        residue = _pdb_residue(line, path, number)
        if residue.name in _PSEUDO_ATOMS:
            dummies += 1
            continue
        # a number that is cut may still be one
        x, y, z = (
            _number(line[i : i + 8] if len(line) >= i + 8 else "", path, number, "coordinates", "columns 31 to 54")
            for i in (30, 38, 46)
        )
        element, told = _pdb_element(line, residue.name, path, number)
        guessed += not told
        atoms.append(
            AtomRecord(
                element,
                line[12:16].strip(),
                residue,
                line[16].strip(),
                _number(line[54:60].strip() or "1", path, number, "occupancy", "columns 55 to 60"),
                (x, y, z),
            )
        )
        segments.append(line[72:76].strip())
    nameless = {segment for record, segment in zip(atoms, segments, strict=True) if not record.residue.chain}
    if len(nameless) > 1:
        atoms = [
            record if record.residue.chain else record._replace(residue=record.residue._replace(chain=segment))
            for record, segment in zip(atoms, segments, strict=True)
        ]
    warnings = []
    if trailing:
        warnings.append(
            f"{trailing} atoms after the END in line {end} were left out; remove that line if they belong to the receptor"
        )
    return StructureRecords(atoms, _notes(models, guessed, "columns 77 and 78 do not tell them", dummies), warnings)


def cif_records(text: str, path: Path) -> StructureRecords:
    """Reads mmCIF text: the atoms of its first model, by the names of the authors where they are given.

    Raises:
        InputError: If the table of atoms is missing or damaged, or the file has more than one.
    """
    from Bio.PDB.MMCIF2Dict import MMCIF2Dict

    tag = "_atom_site."
    if len(re.findall(r"^_atom_site\.Cartn_x\s", text, flags=re.MULTILINE)) > 1:
        raise InputError(f"receptor: '{path}' holds several structures (data blocks); expected one: split the file")
    try:
        # an unclosed quote or bracket is a ValueError, a file without any block an empty table or StopIteration
        columns = MMCIF2Dict(io.StringIO(text))
        x, y, z = (columns[tag + "Cartn_" + axis] for axis in "xyz")
        count = len(x)

        def column(*names: str, default: str | None = None) -> list[str]:
            found = [columns[tag + name] for name in names if tag + name in columns]
            if not found and default is None:
                raise KeyError(tag + names[0])
            rows = zip(*found, strict=True) if found else [(default or "",)] * count
            return [next((value for value in row if value not in ("?", ".", "")), "") for row in rows]

        names, comps = column("label_atom_id", "auth_atom_id"), column("auth_comp_id", "label_comp_id")
        chains, numbers = column("auth_asym_id", "label_asym_id"), column("auth_seq_id", "label_seq_id")
        symbols, models = column("type_symbol", default=""), column("pdbx_PDB_model_num", default="1")
        insertions, locations = column("pdbx_PDB_ins_code", default=""), column("label_alt_id", default="")
        occupancies = column("occupancy", default="1")
        first = [i for i in range(count) if models[i] == models[0]]
        known = [i for i in first if comps[i].upper() not in _PSEUDO_ATOMS]
        atoms = [
            AtomRecord(
                _symbol(symbols[i]) or element_by_name(names[i], comps[i].upper()),
                names[i],
                Residue(chains[i], numbers[i] + insertions[i], comps[i].upper()),
                locations[i],
                float(occupancies[i] or 1.0),
                (float(x[i]), float(y[i]), float(z[i])),
            )
            for i in known
        ]
    except (KeyError, ValueError, IndexError, StopIteration) as error:
        raise InputError(
            f"receptor: '{path}' cannot be read as mmCIF: the table of atoms (_atom_site) lacks or spoils {error}; expected a whole file of the PDB or of a program that writes mmCIF"
        ) from error
    if not all(np.isfinite(record.position).all() for record in atoms):
        raise InputError(f"receptor: '{path}' has coordinates that are no numbers; expected those of every atom in Å")
    guessed = sum(not _symbol(symbols[i]) for i in known)
    return StructureRecords(
        atoms, _notes(len(set(models)), guessed, "type_symbol does not tell them", len(first) - len(known)), []
    )


def element_by_name(name: str, residue: str) -> str:
    """Returns the element that the name of an atom stands for, given as four columns of a PDB file or as a word.

    A name in the second column, after a blank or a digit, is that of an element with one letter; in residues of proteins, nucleic acids and water the first letter is it.
    """
    letters = name.strip().lstrip("0123456789'*\"").upper()
    two = letters[:2].capitalize()
    if letters == residue and two in ELEMENTS:
        return two
    if residue == "MSE" and two == "Se":
        return two
    one = "H" if letters[:1] == "D" else letters[:1]
    if residue in _POLYMERS or len(name) != 4 or name[0] in " 0123456789":
        return one
    # four letters that begin with H are those of hydrogens of large molecules
    return two if two in ELEMENTS and not (one == "H" and len(name.strip()) == 4) else one


def _notes(models: int, guessed: int, why: str, dummies: int) -> list[str]:
    notes = []
    if models > 1:
        notes.append(f"{models} models, of which the first was read")
    if guessed:
        notes.append(f"elements of {guessed} atoms were found by their names: {why}")
    if dummies:
        notes.append(f"{dummies} dummy atoms (DUM), which mark a membrane, were left out")
    return notes


def _pdb_residue(line: str, path: Path, number: int) -> Residue:
    name, chain, digits = line[17:20].strip().upper(), line[21:22].strip(), line[22:26].strip()
    if line[20:21].strip():
        # ChimeraX and others write names of chains with two letters there, programs of dynamics residues with four
        if name in _POLYMERS - {"TIP"} and line[17:21] not in _PROTONATED:
            chain = line[20:22].strip()
        else:
            name = name if line[17:21] in _PROTONATED else line[17:21].strip().upper()
    try:
        value = str(int(digits)) if digits.lstrip("-").isdecimal() else _hybrid_36(digits)
    except ValueError:
        raise InputError(
            f"receptor: '{path}' line {number}: got '{digits}' for the residue's number, expected a whole number in columns 23 to 26; the line is cut or shifted"
        ) from None
    return Residue(chain, value + line[26:27].strip(), name)


def pdb_number(number: str) -> str:
    """Returns a residue's number and insertion code in their five columns of a PDB file, numbers beyond 9999 as hybrid-36."""
    digits = number.rstrip(_BASE_36[10:])
    code = number[len(digits) :][:1] or " "
    value = int(digits) if digits.lstrip("-").isdecimal() else 0
    if value <= _LARGEST:
        return f"{digits[-4:]:>4s}{code}"
    value += _OFFSET - _LARGEST - 1
    text = ""
    while value:
        value, place = divmod(value, 36)
        text = _BASE_36[place] + text
    return f"{text[-4:]}{code}"


def _hybrid_36(digits: str) -> str:
    """Returns a residue number beyond 9999 as it is written in four columns: A000 is 10000, a000 follows ZZZZ."""
    if len(digits) != 4 or not digits[0].isalpha() or not (digits == digits.upper() or digits == digits.lower()):
        raise ValueError
    value = 0
    for letter in digits.upper():
        value = 36 * value + _BASE_36.index(letter)
    return str(value - _OFFSET + _LARGEST + 1 + (26 * 36**3 if digits[0].islower() else 0))


def _pdb_element(line: str, residue: str, path: Path, number: int) -> tuple[str, bool]:
    """Returns the element of a line, and whether its columns tell it."""
    text = line[76:78].strip()
    if text and not text.isdecimal():  # digits are the line numbers of old files
        symbol = _symbol(text)
        if not symbol:
            raise InputError(
                f"receptor: '{path}' line {number}: got the element symbol '{text}' (columns 77 and 78), which does not exist; "
                "mend it, or leave these columns empty: then the atom's name tells it"
            )
        return symbol, True
    symbol = element_by_name(f"{line[12:16]:<4s}", residue)
    if symbol not in _symbols():
        raise InputError(
            f"receptor: '{path}' line {number}: neither columns 77 and 78 nor the name '{line[12:16].strip()}' tell the element; expected its symbol in these columns"
        )
    return symbol, False


def _symbol(text: str) -> str:
    """Returns an element's symbol as it is mostly written, deuterium as hydrogen; empty if it is none. X is an unknown atom."""
    symbol = text.strip().capitalize()
    return "H" if symbol in ("D", "T") else symbol if symbol in _symbols() else ""


@lru_cache(maxsize=1)
def _symbols() -> frozenset[str]:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return frozenset([*(table.GetElementSymbol(number) for number in range(1, 119)), "X"])


def _number(text: str, path: Path, number: int, what: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(
            f"receptor: '{path}' line {number}: got '{text.strip()}' for the {what}, expected a number in {where}; the line cannot be read, is cut or shifted: "
            "write the file anew with a program that keeps to the columns"
        )
    return value
