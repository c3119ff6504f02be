"""All heavy atoms and hydrogens on given backbones.

A backbone has N, CA, C, O and CB; a side-chain engine adds the other heavy atoms and leaves these where they are. Hydrogens are placed from their
surroundings in the built structure. The engines:

==========  ====================================================================================================================
pdbfixer    a standard conformation of every side chain, turned onto the backbone and moved away from what it would overlap with
rigid       the side chains of the built structure, carried by the frames of the residues, whatever they overlap with
tmol        rotamers of a backbone-dependent library, packed by their energy (needs tmol; the seed decides among equals)
==========  ====================================================================================================================

What comes out has bad contacts: relax it (`relax`) before asking for energies. Side chains are L by construction, and their conformation is a guess.
"""

from __future__ import annotations

import importlib.util
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from equilibra.errors import EquilibraError, InputError, MissingDependencyError, ShapeError, unknown_key_message
from equilibra.geometry.backbone import ATOMS, frames_from_backbone
from equilibra.systems.protein.hydrogens import Hydrogens
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray, openmm_positions
from equilibra.systems.protein.rigid import RigidResidues
from equilibra.units import NM


class SideChainEngine(ABC):
    """Abstract: places the heavy atoms of side chains on backbones of one protein.

    Arguments:
        protein: The all-atom form of the protein.
    """

    name: str

    def __init__(self, protein: AllAtomProtein) -> None:
        self.protein = protein
        self._hydrogens = Hydrogens(protein)
        self._heavy_names = [(atom.residue.index, atom.name) for atom in protein.heavy_topology.atoms()]

    @abstractmethod
    def heavy_atoms(self, backbone: FloatArray, seed: int) -> FloatArray:
        """Returns all heavy atoms (H, 3) in the order of `protein.heavy_topology`, from a backbone (L, 5, 3), in Å."""

    def __call__(self, backbone: FloatArray, *, seed: int = 0) -> FloatArray:
        """Builds all atoms on one backbone.

        Arguments:
            backbone: Positions (L, 5, 3) of N, CA, C, O, CB, in Å.
            seed: Seed of the engine, where it draws random numbers.

        Returns:
            Positions (A, 3), in Å, in the order of `protein.topology`.

        Raises:
            ShapeError: If the backbone has another shape.
            EquilibraError: If no structure could be built; the message says why.
        """
        if backbone.shape != (self.protein.length, 5, 3):
            raise ShapeError("backbone", backbone.shape, (self.protein.length, 5, 3))
        if not np.isfinite(backbone).all():
            raise EquilibraError("the backbone is not finite")
        heavy = self.heavy_atoms(np.asarray(backbone, dtype=np.float64), seed)
        if not np.isfinite(heavy).all():
            raise EquilibraError(f"{self.name} found no finite side chains")
        return self._hydrogens(heavy)

    def _ordered(self, found: dict[tuple[int, str], Any]) -> FloatArray:
        missing = [name for name in self._heavy_names if name not in found]
        if missing:
            raise EquilibraError(f"{self.name} left out atom {missing[0][1]} of residue {missing[0][0] + 1}")
        return np.array([found[name] for name in self._heavy_names], dtype=np.float64)


class PDBFixerEngine(SideChainEngine):
    """Side chains by PDBFixer: deterministic, always there, no rotamer library."""

    name = "pdbfixer"

    def __init__(self, protein: AllAtomProtein) -> None:
        super().__init__(protein)
        if importlib.util.find_spec("pdbfixer") is None:
            raise MissingDependencyError("side chains with pdbfixer need PDBFixer; install it with: pip install pdbfixer")
        from openmm import Platform
        from pdbfixer import PDBFixer

        topology, self._atoms = _backbone_topology(protein)
        self._topology = topology
        text = _backbone_pdb(topology, np.zeros((topology.getNumAtoms(), 3)))
        self._fixer = PDBFixer(pdbfile=io.StringIO(text), platform=Platform.getPlatformByName("Reference"))

    def heavy_atoms(self, backbone: FloatArray, seed: int) -> FloatArray:  # noqa: D102
        from openmm import unit

        fixer = self._fixer
        fixer.topology, fixer.positions = self._topology, openmm_positions(_picked(backbone, self._atoms))
        fixer.missingResidues = {}
        fixer.findMissingAtoms()
        fixer.addMissingAtoms(seed=seed + 1)  # zero would ask OpenMM for a seed of its own
        positions = np.array(fixer.positions.value_in_unit(unit.nanometer)) * NM
        return self._ordered({(atom.residue.index, atom.name): positions[atom.index] for atom in fixer.topology.atoms()})


class RigidEngine(SideChainEngine):
    """Side chains of the built structure, carried by the frames of the residues: always possible."""

    name = "rigid"

    def __init__(self, protein: AllAtomProtein) -> None:
        super().__init__(protein)
        self._residues = RigidResidues.of(protein, protein.reference)
        self._given = [
            (row, residue, ATOMS.index(name)) for row, (residue, name) in enumerate(self._heavy_names) if name in ATOMS
        ]

    def heavy_atoms(self, backbone: FloatArray, seed: int) -> FloatArray:  # noqa: D102
        n, ca, c = (torch.from_numpy(np.ascontiguousarray(backbone[None, :, column])) for column in range(3))
        heavy = self._residues.positions(*frames_from_backbone(n, ca, c))[0].numpy()[self.protein.heavy]
        rows, residues, columns = np.array(self._given).T
        heavy[rows] = backbone[residues, columns]
        return heavy


class TmolEngine(SideChainEngine):
    """Side chains by the packer of tmol, from its version 0.2; see https://github.com/uw-ipd/tmol."""

    name = "tmol"

    def __init__(self, protein: AllAtomProtein) -> None:
        super().__init__(protein)
        if importlib.util.find_spec("tmol") is None:
            raise MissingDependencyError("side chains with tmol need tmol; install it with: pip install tmol")
        self._topology, self._atoms = _backbone_topology(protein)
        self._pieces = np.array([str(atom.residue.chain.index + 1) for atom in self._topology.atoms()])

    def heavy_atoms(self, backbone: FloatArray, seed: int) -> FloatArray:  # noqa: D102
        # its packages warn of every frame that side chains are missing
        with _without_warnings():
            from biotite.structure import get_residue_starts
            from biotite.structure.io.pdb import PDBFile
            from tmol.io import atom_array_from_pose_stack, pose_stack_from_atom_array

            text = _backbone_pdb(self._topology, _picked(backbone, self._atoms))
            structure = PDBFile.read(io.StringIO(text)).get_structure(model=1)
            # each piece is a chain of its own: a gap would leave its end without the second oxygen
            structure.chain_id = self._pieces
            pose = pose_stack_from_atom_array(structure, torch.device("cpu"), no_optH=True, packer_seed=seed)
            packed = atom_array_from_pose_stack(pose)
        rows = np.arange(len(packed.atom_name))
        residues = np.searchsorted(get_residue_starts(packed), rows, side="right") - 1
        names = zip(residues.tolist(), packed.atom_name.tolist(), strict=True)
        return self._ordered(dict(zip(names, np.asarray(packed.coord, dtype=np.float64), strict=True)))


ENGINES: dict[str, type[SideChainEngine]] = {engine.name: engine for engine in (PDBFixerEngine, RigidEngine, TmolEngine)}
"""Side-chain engines by name."""


def side_chain_engine(name: str, protein: AllAtomProtein) -> SideChainEngine:
    """Makes a side-chain engine for a protein.

    Raises:
        InputError: If there is no engine of that name.
        MissingDependencyError: If its package is not installed.
    """
    if name not in ENGINES:
        raise InputError(unknown_key_message("side-chain engine", name, ENGINES))
    return ENGINES[name](protein)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps warnings from the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _backbone_topology(protein: AllAtomProtein) -> tuple[Any, list[tuple[int, int]]]:
    """Returns the OpenMM `Topology` of the backbone alone, and for each atom its residue and its place among `ATOMS`."""
    from openmm import app

    topology, chosen = app.Topology(), []
    for chain in protein.heavy_topology.chains():
        own = topology.addChain(chain.id)
        for residue in chain.residues():
            added = topology.addResidue(residue.name, own, residue.id)
            for atom in residue.atoms():
                if atom.name in ATOMS:
                    topology.addAtom(atom.name, atom.element, added)
                    chosen.append((residue.index, ATOMS.index(atom.name)))
    topology.createStandardBonds()
    return topology, chosen


def _picked(backbone: FloatArray, atoms: list[tuple[int, int]]) -> FloatArray:
    rows, columns = np.array(atoms).T
    picked: FloatArray = backbone[rows, columns]
    return picked


def _backbone_pdb(topology: Any, positions: FloatArray) -> str:
    from openmm.app import PDBFile

    text = io.StringIO()
    PDBFile.writeFile(topology, openmm_positions(positions), text, keepIds=True)
    return text.getvalue()
