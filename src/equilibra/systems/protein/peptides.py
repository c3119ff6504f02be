"""The all-atom form of a protein: its topology with hydrogens, and a first structure, built from the sequence.

Chains and the pieces between chain breaks are chains of their own with charged ends at pH 7: an N-terminal ammonium and a C-terminal carboxylate.
Histidine is neutral, with the hydrogen on its epsilon nitrogen, in every conformation. Cysteines are reduced unless they are named as a disulfide.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equilibra.energies.hydrogens import add_hydrogens
from equilibra.errors import InputError
from equilibra.systems.protein.alphabet import RESIDUES, THREE_LETTER
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import NM

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BACKBONE = ("N", "CA", "C", "O")
"""Heavy atoms of the backbone that every residue has."""

_CH = 1.09
"""Length of a bond C-H, in Å."""

_APART = 60.0
"""Distance in Å between the pieces of the built structure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AllAtomProtein:
    """A protein with all its atoms.

    Attributes:
        sequence: One letter for each residue.
        topology: OpenMM `Topology` with hydrogens; its residues are those of the sequence, in order.
        heavy_topology: The same without hydrogens.
        reference: The built, extended structure (A, 3), in Å: right bonds and chirality, no sensible contacts.
        residue: The residue of each atom (A,), counted from 0.
        names: The name of each atom (A,).
        heavy: Which atoms are no hydrogens (A,).
        bonds: Pairs of bonded atoms (B, 2).
        disulfides: Pairs of residues that are bonded through their sulfurs.
    """

    sequence: str
    topology: Any
    heavy_topology: Any
    reference: FloatArray
    residue: IntArray
    names: tuple[str, ...]
    heavy: NDArray[np.bool_]
    bonds: IntArray
    disulfides: tuple[tuple[int, int], ...]

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.names)

    @property
    def length(self) -> int:
        """Number of residues."""
        return len(self.sequence)

    def index(self, name: str) -> IntArray:
        """Returns the atom of that name in each residue (L,), -1 where there is none."""
        found = np.full(self.length, -1)
        for atom, (residue, own) in enumerate(zip(self.residue, self.names, strict=True)):
            if own == name:
                found[residue] = atom
        return found

    @cached_property
    def backbone(self) -> IntArray:
        """Atoms N, CA, C and O of each residue (L, 4)."""
        return np.stack([self.index(name) for name in BACKBONE], 1)

    @cached_property
    def mdtraj_topology(self) -> Any:
        """The topology as an mdtraj `Topology`."""
        import mdtraj

        return mdtraj.Topology.from_openmm(self.topology)


def all_atom_protein(system: ProteinSystem, *, disulfides: Sequence[tuple[int, int]] = ()) -> AllAtomProtein:
    """Builds a protein with all its atoms, extended, from PeptideBuilder's ideal geometry of L-amino acids.

    Arguments:
        system: The protein.
        disulfides: Pairs of cysteines, counted from 0 along the sequence, that are bonded.

    Raises:
        InputError: If a residue has no all-atom form or stands alone, or a disulfide is no pair of cysteines.
    """
    sequence = system.sequence
    require_all_atom_form(system)
    pairs = _checked_disulfides(sequence, disulfides)
    heavy_topology, heavy_positions = _heavy_atoms(system)
    sulfurs = {atom.residue.index: atom for atom in heavy_topology.atoms() if atom.name == "SG"}
    for first, second in pairs:
        heavy_topology.addBond(sulfurs[first], sulfurs[second])
    topology, positions = _with_hydrogens(heavy_topology, heavy_positions)
    atoms = list(topology.atoms())
    return AllAtomProtein(
        sequence=sequence,
        topology=topology,
        heavy_topology=heavy_topology,
        reference=positions,
        residue=np.array([atom.residue.index for atom in atoms]),
        names=tuple(atom.name for atom in atoms),
        heavy=np.array([atom.element.symbol != "H" for atom in atoms]),
        bonds=np.array([(a.index, b.index) for a, b in topology.bonds()]).reshape(-1, 2),
        disulfides=pairs,
    )


def require_all_atom_form(system: ProteinSystem) -> None:
    """Checks that a protein can be built with all its atoms, without building it.

    Raises:
        InputError: If a residue has no all-atom form or stands alone.
    """
    unknown = [i for i, letter in enumerate(system.sequence) if letter not in RESIDUES]
    if unknown:
        raise InputError(
            f"{system.name}: the residue {system.label(unknown[0])} has no all-atom form, expected the 20 amino acids; write the one that is meant"
        )
    cut = np.concatenate(([True], system.breaks, [True]))
    alone = np.flatnonzero(cut[:-1] & cut[1:])
    if len(alone):
        raise InputError(
            f"{system.name}: the residue {system.label(int(alone[0]))} is bonded to no other, and force fields have no free amino acids; leave it out"
        )


def _with_hydrogens(topology: Any, positions: FloatArray) -> tuple[Any, FloatArray]:
    """Adds hydrogens to heavy atoms (H, 3) in Å: returns the OpenMM `Topology` and the positions (A, 3) in Å."""
    from openmm import unit

    variants = ["HIE" if residue.name == "HIS" else None for residue in topology.residues()]
    made, placed = add_hydrogens(
        topology, openmm_positions(positions), force_field="amber14/protein.ff14SB.xml", variants=variants
    )
    return made, _opposite(made, np.array(placed.value_in_unit(unit.nanometer)) * NM)


def _opposite(topology: Any, positions: FloatArray) -> FloatArray:
    """Puts the one hydrogen of an atom with three heavy neighbours opposite to them: OpenMM's own can get stuck among them."""
    around: dict[Any, list[Any]] = {atom: [] for atom in topology.atoms()}
    for a, b in topology.bonds():
        around[a].append(b)
        around[b].append(a)
    made = positions.copy()
    for atom, neighbours in around.items():
        hydrogens = [other.index for other in neighbours if other.element.symbol == "H"]
        if len(neighbours) == 4 and len(hydrogens) == 1:
            centre = positions[atom.index]
            bonds = np.array([positions[other.index] - centre for other in neighbours if other.index != hydrogens[0]])
            away = -(bonds / np.sqrt((bonds**2).sum(1, keepdims=True))).sum(0)
            made[hydrogens[0]] = centre + _CH * away / np.sqrt(away @ away)
    return made


def openmm_positions(positions: FloatArray) -> Any:
    """Returns positions (N, 3) in Å as the list of vectors that OpenMM's topology tools expect."""
    from openmm import Vec3, unit

    return [Vec3(*row) for row in (np.asarray(positions, dtype=np.float64) / NM).tolist()] * unit.nanometer


def _checked_disulfides(sequence: str, disulfides: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    pairs = tuple((min(int(a), int(b)), max(int(a), int(b))) for a, b in disulfides)
    named = [residue for pair in pairs for residue in pair]
    if any(not 0 <= residue < len(sequence) or sequence[residue] != "C" for residue in named) or len(set(named)) < len(named):
        cysteines = [i for i, letter in enumerate(sequence) if letter == "C"]
        raise InputError(
            f"disulfides: got {list(pairs)}, expected pairs of different cysteines among {cysteines} (counted from 0)"
        )
    return pairs


def _heavy_atoms(system: ProteinSystem) -> tuple[Any, FloatArray]:
    """Returns the OpenMM `Topology` of the heavy atoms, a chain for each piece, and their extended structure in Å."""
    from openmm import app

    topology, positions = app.Topology(), []
    starts = [0, *(np.flatnonzero(system.breaks) + 1).tolist(), system.length]
    for piece, (start, stop) in enumerate(pairwise(starts)):
        own = topology.addChain(system.chain_ids[system.chain_index[start]])
        for i, residue in enumerate(_extended(system.sequence[start:stop]), start=start):
            added = topology.addResidue(THREE_LETTER[system.sequence[i]], own, str(system.residue_numbers[i]))
            for atom in residue:
                topology.addAtom(atom.id, app.Element.getBySymbol(atom.element), added)
                positions.append(atom.coord + np.array([0.0, 0.0, _APART * piece]))
    topology.createStandardBonds()
    return topology, np.array(positions, dtype=np.float64)


def _extended(sequence: str) -> list[Any]:
    """Returns the Biopython residues of an extended chain with its terminal oxygen."""
    import PeptideBuilder
    from Bio.PDB import PDBIO, PDBParser

    structure = PeptideBuilder.make_extended_structure(sequence)
    PeptideBuilder.add_terminal_OXT(structure)
    # written and read once: only a reader gives the atoms their elements
    writer, text = PDBIO(), io.StringIO()
    writer.set_structure(structure)
    writer.save(text)
    text.seek(0)
    return list(PDBParser(QUIET=True).get_structure("peptide", text).get_residues())
