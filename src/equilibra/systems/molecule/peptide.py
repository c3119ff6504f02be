"""Peptides from their names: `ACE-ALA-NME` to an all-atom OpenMM topology with coordinates."""

from __future__ import annotations

import io
from typing import Any

from equilibra.energies.hydrogens import add_hydrogens
from equilibra.errors import InputError, unknown_key_message

ONE_LETTER: dict[str, str] = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E", "GLY": "G", "HIS": "H", "ILE": "I",
    "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F", "PRO": "P", "SER": "S", "THR": "T", "TRP": "W", "TYR": "Y", "VAL": "V",
}  # fmt: skip
CAPS = ("ACE", "NME")


def parse_peptide(name: str) -> list[str]:
    """Reads a peptide's name, e.g. `ACE-ALA-NME`, as a list of residue names.

    Arguments:
        name: Three-letter residue names joined by dashes; `ACE` only first, `NME` only last.

    Raises:
        InputError: If a residue is unknown, a cap is misplaced, or no amino acid is left.
    """
    residues = [part.strip().upper() for part in name.strip().split("-")]
    for index, residue in enumerate(residues):
        if residue not in ONE_LETTER and residue not in CAPS:
            known = [*ONE_LETTER, *CAPS]
            raise InputError(f"peptide '{name}': {unknown_key_message('residue', residue, known)}")
        if (residue == "ACE" and index != 0) or (residue == "NME" and index != len(residues) - 1):
            raise InputError(
                f"peptide '{name}': cap {residue} at position {index + 1}; ACE is allowed only first, NME only last"
            )
    if all(residue in CAPS for residue in residues):
        raise InputError(f"peptide '{name}': no amino acid between the caps; write for example ACE-ALA-NME")
    return residues


def is_peptide_name(text: str) -> bool:
    """Tells whether `text` has the form of a peptide's name (tokens of three capital letters joined by dashes)."""
    parts = text.strip().split("-")
    return len(parts) > 1 and all(len(part) == 3 and part.isalpha() and part.isupper() for part in parts)


def build_peptide(name: str) -> tuple[Any, Any]:
    """Builds a peptide with all hydrogens in an extended conformation.

    The heavy atoms come from PeptideBuilder, with glycines standing in for the caps; the hydrogens from OpenMM's Modeller at pH 7.

    Returns:
        An OpenMM `Topology` and the positions as an OpenMM `Quantity` of length.
    """
    import PeptideBuilder
    from Bio.PDB import PDBIO
    from openmm.app import PDBFile

    residues = parse_peptide(name)
    letters = "".join(ONE_LETTER.get(residue, "G") for residue in residues)
    # alpha-L of an extended strand; PeptideBuilder makes L-amino acids only
    structure = PeptideBuilder.make_extended_structure(letters)
    if residues[-1] != "NME":
        PeptideBuilder.add_terminal_OXT(structure)
    for residue, biopython_residue in zip(residues, list(structure.get_residues()), strict=True):
        if residue == "ACE":
            biopython_residue.detach_child("N")
            _rename(biopython_residue, {"CA": "CH3"})
        elif residue == "NME":
            for atom in [atom.id for atom in biopython_residue if atom.id not in ("N", "CA")]:
                biopython_residue.detach_child(atom)
            _rename(biopython_residue, {"CA": "C"})
        biopython_residue.resname = residue
    writer = PDBIO()
    writer.set_structure(structure)
    text = io.StringIO()
    writer.save(text)
    text.seek(0)
    pdb = PDBFile(text)
    return add_hydrogens(pdb.topology, pdb.positions)


def _rename(residue: Any, names: dict[str, str]) -> None:
    for atom in list(residue):
        if atom.id in names:
            residue.detach_child(atom.id)
            atom.id = atom.name = names[atom.id]
            atom.fullname = f" {atom.id:<3}"
            residue.add(atom)
