"""The residues that are told apart: twenty amino acids and one unknown, with the names that files give them."""

from __future__ import annotations

import numpy as np

RESIDUES = "ARNDCQEGHILKMFPSTWYV"
"""Letters of the twenty amino acids, in the order of their ids."""

UNKNOWN = "X"
"""Letter of every other residue; its id comes last."""

ALPHABET = RESIDUES + UNKNOWN
"""All letters; the id of a residue is its letter's position."""

THREE_LETTER: dict[str, str] = dict(
    zip(
        ALPHABET,
        (
            *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU"),
            *("LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL", "UNK"),
        ),
        strict=True,
    )
)
"""Residue name in files of each letter."""

MODIFIED: dict[str, str] = {
    # protonation states and bridges, as force fields name them
    **dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP", "HISA", "HISB", "HISD", "HISE", "HISH", "HIN"), "HIS"),
    **dict.fromkeys(("CYX", "CYM", "CYS2", "CYSH", "CSX"), "CYS"),
    **dict.fromkeys(("ASH", "ASPH", "ASPP"), "ASP"),
    **dict.fromkeys(("GLH", "GLUH", "GLUP"), "GLU"),
    **dict.fromkeys(("LYN", "LSN", "LYSH"), "LYS"),
    **dict.fromkeys(("ARN", "ARGN"), "ARG"),
    # residues that crystallographers and cells modify
    **dict.fromkeys(("MSE", "FME", "MHO", "MSO"), "MET"),
    **dict.fromkeys(("SEC", "CSO", "CSD", "CME", "OCS", "SMC", "CSS", "CAS"), "CYS"),
    **dict.fromkeys(("PYL", "KCX", "MLY", "M3L", "MLZ", "ALY", "LLP"), "LYS"),
    "HYP": "PRO",
    "SEP": "SER",
    "TPO": "THR",
    **dict.fromkeys(("PTR", "TYS"), "TYR"),
    "CGU": "GLU",
    "PCA": "GLN",
    "MEN": "ASN",
    "HIC": "HIS",
    "NLE": "LEU",
}
"""The amino acid that stands for a modified residue: the parent of the Chemical Component Dictionary, or the name without its protonation."""

_LETTERS = {name: letter for letter, name in THREE_LETTER.items() if letter != UNKNOWN}
_LETTERS |= {name: _LETTERS[parent] for name, parent in MODIFIED.items()}


def letter_of(name: str) -> str | None:
    """Returns the letter of a residue's name in a file, such as A for `ALA` and M for `MSE`; None for a name of no amino acid in the tables.

    Names of Amber's terminal residues (`NALA`, `CALA`) are understood.
    """
    name = name.strip().upper()
    if name in _LETTERS:
        return _LETTERS[name]
    return _LETTERS.get(name[1:]) if len(name) == 4 and name[0] in "NC" else None


def residue_ids(sequence: str) -> np.ndarray:
    """Returns the ids (L,) of the letters of a sequence, int64.

    Raises:
        KeyError: If a letter is not in `ALPHABET`.
    """
    ids = {letter: index for index, letter in enumerate(ALPHABET)}
    return np.array([ids[letter] for letter in sequence], dtype=np.int64)


__all__ = ["ALPHABET", "MODIFIED", "RESIDUES", "THREE_LETTER", "UNKNOWN", "letter_of", "residue_ids"]
