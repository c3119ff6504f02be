"""A rigid receptor as the Vina scoring function sees it: typed heavy atoms in their places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equilibra.energies.docking.atom_types import METALS, check_elements, xscore_type
from equilibra.energies.docking.covalent import covalent_neighbours
from equilibra.energies.docking.structure_file import StructureAtoms, read_structure_atoms
from equilibra.errors import InputError

WATERS = frozenset(("HOH", "WAT", "H2O", "DOD", "SOL", "SPC", "TIP", "TIP3", "TIP4", "OPC"))
"""Names of water residues."""

_HISTIDINES = frozenset(("HIS", "HID", "HIE", "HIP", "HSD", "HSE", "HSP"))
RESIDUES = _HISTIDINES | {
    "ALA", "ARG", "ASN", "ASP", "CYS", "CYX", "GLN", "GLU", "GLY", "ILE", "LEU", "LYS", "MET", "MSE", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
    "ACE", "NME", "NH2", "SEP", "TPO", "PTR",
}  # fmt: skip
"""Names of residues of proteins whose atoms are typed by name."""

_HYDROXYLS = {("SER", "OG"), ("THR", "OG1"), ("TYR", "OH")}
_TAUTOMERS = ("ND1", "NE2")
_PLANAR = 3
"""Neighbours of a carbon in the plane of a double bond."""


@dataclass(frozen=True)
class Receptor:
    """A receptor with its atoms typed.

    Attributes:
        atoms: All atoms, hydrogens included.
        heavy: Indices of the heavy atoms (heavy,).
        types: Their X-Score types; empty where the file does not tell.
        positions: Their positions (heavy, 3) in Å, in double precision.
    """

    atoms: StructureAtoms
    heavy: Tensor
    types: tuple[str, ...]
    positions: Tensor

    def label(self, place: int) -> str:
        """Returns what the heavy atom at a place is called in messages, such as `A:HIS57:ND1`."""
        return self.atoms.label(int(self.heavy[place]))


def read_receptor(path: str | Path, *, waters: bool = True) -> Receptor:
    """Reads and types a receptor: everything in the file is part of it, also ions, cofactors and ligands.

    Donors are nitrogen and oxygen with hydrogens, acceptors are oxygen, and nitrogen with at most two neighbours and that of amines. Bonds are found from distances. Residues of
    proteins without any hydrogen, and waters, are typed by their names instead: neutral termini excepted, as at pH 7, but both nitrogens of histidine donate and
    accept, since nothing tells which of them carries the hydrogen. Nitrogen and oxygen of other residues without hydrogens have a type only if other residues of
    the file have hydrogens: the energy refuses them where they are near the ligand.

    Arguments:
        path: PDB or mmCIF file (also gzipped). Its first model is read, and of alternate locations the one with the highest occupancy.
        waters: Whether water molecules are kept. Docking mostly leaves them out, apart from those that are known to stay.

    Raises:
        InputError: If the file cannot be read, or has an element without a type.
    """
    atoms = read_structure_atoms(path)
    if not waters:
        atoms = atoms.some([i for i, residue in enumerate(atoms.residues) if residue.name not in WATERS])
    return type_receptor(atoms)


def type_receptor(atoms: StructureAtoms) -> Receptor:
    """Types the atoms of a receptor; see `read_receptor`.

    Raises:
        InputError: If an element has no type, or there is no heavy atom.
    """
    check_elements(atoms.elements, [atoms.label(i) for i in range(len(atoms.elements))], "receptor")
    heavy = [i for i, element in enumerate(atoms.elements) if element != "H"]
    if not heavy:
        raise InputError("receptor: it has no heavy atom")
    neighbours = covalent_neighbours(atoms.elements, atoms.positions)
    with_hydrogens = {atoms.residues[i] for i in heavy if any(atoms.elements[j] == "H" for j in neighbours[i])}
    protonated = any(residue.name not in WATERS for residue in with_hydrogens)
    types = []
    for i in heavy:
        residue = atoms.residues[i]
        if residue in with_hydrogens or atoms.elements[i] not in ("N", "O"):
            types.append(_type_by_bonds(atoms, i, neighbours))
        elif residue.name in WATERS:
            types.append("O_DA")
        elif residue.name in RESIDUES:
            types.append(_type_by_name(atoms.elements[i], residue.name, atoms.names[i]))
        else:
            types.append(_type_by_bonds(atoms, i, neighbours) if protonated else "")
    return Receptor(atoms, torch.tensor(heavy), tuple(types), torch.from_numpy(atoms.positions[heavy]))


def _type_by_bonds(atoms: StructureAtoms, atom: int, neighbours: list[list[int]]) -> str:
    around = [atoms.elements[j] for j in neighbours[atom]]
    return xscore_type(
        atoms.elements[atom],
        polar=any(element not in ("C", "H") for element in around),
        donor="H" in around,
        acceptor=_has_lone_pair(atoms, atom, neighbours),
    )


def _has_lone_pair(atoms: StructureAtoms, nitrogen: int, neighbours: list[list[int]]) -> bool:
    """Returns whether a nitrogen has a lone pair to accept with: with two neighbours, or as an amine, whose carbons have no double bond to share it with."""
    # a metal in front of a lone pair leaves it a lone pair
    around = [j for j in neighbours[nitrogen] if atoms.elements[j] not in METALS]
    if len(around) != 3:
        return len(around) < 3
    return not any(atoms.elements[j] == "C" and len(neighbours[j]) == _PLANAR for j in around)


def _type_by_name(element: str, residue: str, atom: str) -> str:
    """Returns the type of nitrogen or oxygen in a residue of a protein without hydrogens."""
    if element == "O":
        return "O_DA" if (residue, atom) in _HYDROXYLS else "O_A"
    if residue in _HISTIDINES and atom in _TAUTOMERS:
        return "N_DA"
    return "N_P" if residue == "PRO" and atom == "N" else "N_D"
