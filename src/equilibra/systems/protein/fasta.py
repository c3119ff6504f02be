"""Proteins from letters: one sequence, or the records of a FASTA file."""

from __future__ import annotations

from equilibra.errors import InputError
from equilibra.systems.protein.system import ProteinSystem

FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas")
"""Suffixes of FASTA files."""


def from_sequence(text: str, name: str | None = None) -> ProteinSystem:
    """Makes the System of a sequence of one-letter codes; `:` begins another chain, and small letters are taken as capitals.

    Raises:
        InputError: If a letter is unknown, a chain empty, or the protein too short.
    """
    sequence = "".join(text.split()).upper().removesuffix("*")
    short = sequence if len(sequence) <= 24 else f"{sequence[:12]}...-{len(sequence.replace(':', ''))}"
    return ProteinSystem.of_chains(sequence.split(":"), name=(short.replace(":", "-") if name is None else name))


def from_fasta(text: str, where: str) -> list[ProteinSystem | InputError]:
    """Makes the Systems of the records of a FASTA text; a record that cannot be used is returned as its error.

    Arguments:
        text: The whole text.
        where: Where it comes from, for messages.

    Raises:
        InputError: If it is no FASTA text, or holds no record.
    """
    before, *blocks = ("\n" + text.replace("\r\n", "\n")).split("\n>")
    stray = [line for line in before.splitlines() if line.strip() and not line.startswith(";")]
    if stray:
        raise InputError(
            f"{where} is no FASTA file: it begins with '{stray[0][:40]}', expected a line that begins with '>' and names the record"
        )
    if not blocks:
        raise InputError(f"{where} holds no record; expected at least one line '>name' with a sequence below")
    made: list[ProteinSystem | InputError] = []
    for number, block in enumerate(blocks, start=1):
        header, _, sequence = block.partition("\n")
        words = header.split()
        name = words[0] if words else f"record-{number}"
        try:
            if not sequence.strip():
                raise InputError(f"{name}: the record has no sequence")
            made.append(from_sequence(sequence, name))
        except InputError as error:
            made.append(InputError(f"{where} record {number}: {error}"))
    return made
