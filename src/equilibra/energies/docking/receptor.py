"""A rigid receptor as the Vina scoring function sees it: typed heavy atoms in their places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equilibra.energies.docking.atom_types import ELEMENTS, METALS, check_elements, xscore_type
from equilibra.energies.docking.box import Box
from equilibra.energies.docking.covalent import covalent_neighbours
from equilibra.energies.docking.residue_names import HISTIDINES, NUCLEOTIDES, RESIDUES, WATERS
from equilibra.energies.docking.structure_file import StructureAtoms, read_structure_atoms
from equilibra.energies.docking.terms import CUTOFF
from equilibra.errors import InputError

_HYDROXYLS = {("SER", "OG"), ("THR", "OG1"), ("TYR", "OH")}
_BASE_DONORS = {"A": ("N6",), "G": ("N1", "N2"), "C": ("N4",), "U": ("N3",), "T": ("N3",), "I": ("N1",)}
_BASE_ACCEPTORS = {"A": ("N1", "N3", "N7"), "G": ("N3", "N7"), "C": ("N3",), "I": ("N3", "N7")}
_TAUTOMERS = ("ND1", "NE2")
_CARBONYL, _HYDROXYL = 1.29, 1.32
"""Bonds of oxygen and carbon in Å that are shorter, or longer: of a carbonyl, and of an alcohol or phenol."""
_PLANAR = 3
"""Neighbours of a carbon in the plane of a double bond."""


@dataclass(frozen=True)
class Receptor:
    """A receptor with its atoms typed.

    Attributes:
        atoms: All atoms, hydrogens included.
        heavy: Indices of the heavy atoms (heavy,).
        types: Their X-Score types; empty where the file does not tell, and of elements that have none. A box near such an atom is refused (`check_near`), elsewhere it has no effect.
        positions: Their positions (heavy, 3) in Å, in double precision.
    """

    atoms: StructureAtoms
    heavy: Tensor
    types: tuple[str, ...]
    positions: Tensor

    def label(self, place: int) -> str:
        """Returns what the heavy atom at a place is called in messages, such as `A:HIS57:ND1`."""
        return self.atoms.label(int(self.heavy[place]))

    @property
    def foreign(self) -> tuple[int, ...]:
        """Places in `heavy` of the atoms whose element has no type."""
        return tuple(place for place, atom in enumerate(self.heavy.tolist()) if self.atoms.elements[atom] not in ELEMENTS)

    def _near(self, box: Box) -> list[bool]:
        """Returns which heavy atoms interact with something in a box."""
        low, high = box.corners
        near: list[bool] = ((self.positions > low - CUTOFF) & (self.positions < high + CUTOFF)).all(1).tolist()
        return near

    def check_elements_near(self, box: Box) -> None:
        """Refuses a box with an atom within the reach of the scoring function whose element has no type.

        Raises:
            InputError: If there is one; the message names the atoms.
        """
        near = self._near(box)
        places = [place for place in self.foreign if near[place]]
        check_elements(
            [self.atoms.elements[int(self.heavy[place])] for place in places],
            [self.label(place) for place in places],
            "receptor, near the ligand",
        )

    def check_near(self, box: Box) -> None:
        """Refuses a box with an atom without a type within the reach of the scoring function.

        Raises:
            InputError: If there is one; the message names the atoms.
        """
        self.check_elements_near(box)
        near = self._near(box)
        untyped = [place for place, name in enumerate(self.types) if near[place] and not name]
        if untyped:
            names = ", ".join(self.label(place) for place in untyped[:5])
            raise InputError(
                f"docking: nothing tells whether {names}{' and others' if len(untyped) > 5 else ''}, near the ligand, carry hydrogens, since the receptor has none; add "
                "hydrogens to the receptor, or remove these residues"
            )


def read_receptor(path: str | Path, *, waters: bool = True) -> Receptor:
    """Reads and types a receptor: everything in the file is part of it, also ions, cofactors and ligands.

    Donors are nitrogen and oxygen with hydrogens, acceptors are oxygen, and nitrogen with at most two neighbours and that of amines. Bonds are found from distances. Residues of
    proteins and nucleotides without any hydrogen, and waters, are typed by their names instead: neutral termini excepted, as at pH 7, but both nitrogens of histidine donate and
    accept, since nothing tells which of them carries the hydrogen. In other residues of a file without hydrogens oxygen is typed by its bonds and their lengths; most of
    their nitrogen has no type: the energy refuses it where it is near the ligand. So it does with elements that have no type.

    Arguments:
        path: PDB or mmCIF file (also gzipped). Its first model is read, and of alternate locations the one with the highest occupancy.
        waters: Whether water molecules are kept. Docking mostly leaves them out, apart from those that are known to stay.

    Raises:
        InputError: If the file cannot be read.
    """
    atoms = read_structure_atoms(path)
    if not waters:
        atoms = atoms.some([i for i, residue in enumerate(atoms.residues) if residue.name not in WATERS])
    return type_receptor(atoms)


def type_receptor(atoms: StructureAtoms) -> Receptor:
    """Types the atoms of a receptor; see `read_receptor`.

    Raises:
        InputError: If there is no heavy atom.
    """
    heavy = [i for i, element in enumerate(atoms.elements) if element != "H"]
    if not heavy:
        raise InputError("receptor: it has no heavy atom")
    neighbours = covalent_neighbours(atoms.elements, atoms.positions)
    with_hydrogens = {atoms.residues[i] for i in heavy if any(atoms.elements[j] == "H" for j in neighbours[i])}
    protonated = any(residue.name not in WATERS for residue in with_hydrogens)
    types = []
    for i in heavy:
        residue = atoms.residues[i]
        if atoms.elements[i] not in ELEMENTS:
            types.append("")
        elif residue in with_hydrogens or atoms.elements[i] not in ("N", "O"):
            types.append(_type_by_bonds(atoms, i, neighbours))
        elif residue.name in WATERS:
            types.append("O_DA")
        elif residue.name in RESIDUES:
            types.append(_type_by_name(atoms.elements[i], residue.name, atoms.names[i]))
        elif residue.name in NUCLEOTIDES:
            types.append(_type_in_nucleotide(atoms.elements[i], residue.name[-1], atoms.names[i], len(neighbours[i])))
        else:
            types.append((_type_by_bonds if protonated else _type_by_lengths)(atoms, i, neighbours))
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


def _type_by_lengths(atoms: StructureAtoms, atom: int, neighbours: list[list[int]]) -> str:
    """Returns the type of nitrogen or oxygen in a molecule without hydrogens if the heavy atoms around it tell whether it has any, as at pH 7; else an empty text.

    Oxygen is told by its neighbours: bridges and acids have none at pH 7, carbonyls are shorter than alcohols and phenols (about 1.22, 1.43 and 1.36 Å: F. H. Allen et al.,
    J. Chem. Soc. Perkin Trans. 2, S1, 1987). Of nitrogen only that of a peptide bond is told, and that with two neighbours and a metal, as in haem.
    """
    around = [j for j in neighbours[atom] if atoms.elements[j] not in METALS]
    if atoms.elements[atom] == "N":
        names = {(atoms.names[j], atoms.residues[j] == atoms.residues[atom]) for j in around}
        if atoms.names[atom] == "N" and names == {("CA", True), ("C", False)}:
            return "N_D"
        return _type_by_bonds(atoms, atom, neighbours) if 2 <= len(around) < len(neighbours[atom]) else ""
    if len(around) != 1:
        return "O_A" if around else ""
    (other,) = around
    if atoms.elements[other] != "C":
        return "O_A"
    ends = [j for j in neighbours[other] if atoms.elements[j] == "O" and len(neighbours[j]) == 1]
    lengths = [float(np.linalg.norm(atoms.positions[j] - atoms.positions[other])) for j in (atom, *ends)]
    if lengths[0] < _CARBONYL or (len(ends) > 1 and max(lengths) < _HYDROXYL):
        return "O_A"
    return "O_DA" if lengths[0] > _HYDROXYL else ""


def _type_by_name(element: str, residue: str, atom: str) -> str:
    """Returns the type of nitrogen or oxygen in a residue of a protein without hydrogens."""
    if element == "O":
        return "O_DA" if (residue, atom) in _HYDROXYLS else "O_A"
    if residue in HISTIDINES and atom in _TAUTOMERS:
        return "N_DA"
    return "N_P" if residue == "PRO" and atom == "N" else "N_D"


def _type_in_nucleotide(element: str, base: str, atom: str, neighbours: int) -> str:
    """Returns the type of nitrogen or oxygen in a nucleotide without hydrogens; phosphates are charged, sugars have hydroxyls where nothing follows."""
    name = atom.replace("*", "'")
    if element == "O":
        return "O_DA" if name == "O2'" or (name in ("O3'", "O5'") and neighbours == 1) else "O_A"
    donor, acceptor = name in _BASE_DONORS[base], name in _BASE_ACCEPTORS.get(base, ())
    return "N_D" if donor else "N_A" if acceptor else "N_P"
