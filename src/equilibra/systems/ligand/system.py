"""The ligand's System: a molecule, the pocket of a rigid receptor, and what a network is told of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from equilibra.energies.docking.box import Box
from equilibra.energies.docking.receptor import Receptor
from equilibra.errors import InputError
from equilibra.geometry.torsion_tree import turned_bonds
from equilibra.state import State, System
from equilibra.systems.ligand.features import pocket_features
from equilibra.systems.ligand.hydrogens import Hydrogens, hydrogens_of
from equilibra.systems.ligand.pocket import pocket_atoms
from equilibra.systems.ligand.torsions import LigandTorsions, conformers, find_torsions, rooted
from equilibra.systems.stereo import perceive_stereo

REFERENCE, SHIFT, TURN, TORSIONS, CONFORMER = "reference", "shift", "turn", "torsions", "conformer"
"""Fields of a State: geometries of ligand tokens with all torsions at zero, and places of pocket tokens, both fixed (batch, tokens, 3); where the middle of the heavy atoms is (batch, 1, 3);
the turn (batch, 1, 3, 3); the torsions (batch, tokens, 1), each at the token of the far atom of its bond, with a mask; the number of the ring conformer, fixed (batch, 1, 1). Lengths in Å,
relative to the centre of the box."""

POSITIONS = "pos"
"""Field of a Cartesian State, which has this and `reference` alone: places of ligand tokens (batch, tokens, 3), with a mask. Lengths in Å, relative to the middle of the pocket's atoms: all
that a network sees is then in a frame that it sees, too."""

CONFORMERS = 8
"""Largest number of ring conformers by default."""

CONFORMER_SEED = 20230608
"""Seed of the ring conformers, fixed so that the same input gives the same system."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LigandSystem(System):
    """One ligand of N atoms, L of them heavy, with T torsions, in one pocket. Two systems are equal if their digests are.

    Attributes:
        mol: RDKit molecule with all hydrogens, its one conformer a valid pose in the middle of the box.
        receptor: The receptor, all of it.
        box: Where the heavy atoms may be.
        torsions: The torsions.
        geometries: Geometries of the rings (K, N, 3) in Å, all torsions at zero, centred.
        pocket: Places (P,) in `receptor.heavy` of the atoms that the network sees.
        stereo_centres: Indices (C, 4): each centre with three neighbours in canonical order.
        stereo_signs: Expected sign (C,) of the normalised signed volume.
        double_bonds: Indices (B, 4) of the dihedral of each double bond of given configuration.
        double_bond_signs: Expected sign (B,) of its cosine.
        pose: A pose (N, 3) in Å that samples are compared with, or None. No part of what the system is.
        notes: What was done to the input, in sentences.
        warnings: What a user should look at, in sentences.
    """

    mol: Any
    receptor: Receptor
    box: Box
    torsions: LigandTorsions
    geometries: np.ndarray
    pocket: np.ndarray
    stereo_centres: np.ndarray
    stereo_signs: np.ndarray
    double_bonds: np.ndarray
    double_bond_signs: np.ndarray
    pose: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def atoms(self) -> int:
        """Number of atoms N."""
        return int(self.geometries.shape[1])

    @property
    def reference(self) -> np.ndarray:
        """One valid conformation (N, 3), in Å, in the middle of the box."""
        return np.asarray(self.mol.GetConformer().GetPositions())

    @property
    def topology(self) -> Any:
        """None: the files of poses tell the bonds."""
        return None

    @cached_property
    def atom_names(self) -> list[str]:
        """What the atoms are called in messages."""
        return [f"{atom.GetSymbol()}{atom.GetIdx() + 1}" for atom in self.mol.GetAtoms()]

    @property
    def centre(self) -> np.ndarray:
        """Centre (3,) of the box, in Å."""
        return np.array(self.box.centre)

    @property
    def far_tokens(self) -> np.ndarray:
        """Token (T,) of the far atom of each bond that turns."""
        return np.searchsorted(self.torsions.heavy, self.torsions.axes[:, 1])

    @cached_property
    def token_geometries(self) -> torch.Tensor:
        """The field `reference` (K, tokens, 3) of each ring conformer, float32."""
        places = self.receptor.positions.numpy()[self.pocket] - self.centre
        heavy = self.geometries[:, self.torsions.heavy]
        both = np.concatenate([heavy, np.broadcast_to(places, (len(heavy), *places.shape))], axis=1)
        return torch.from_numpy(both).float()

    @cached_property
    def hydrogens(self) -> Hydrogens:
        """Where the hydrogens are about the heavy atoms."""
        return hydrogens_of(self.mol, self.reference)

    def torsion_mask(self, n: int) -> torch.Tensor:
        """Returns which tokens carry a torsion, for n samples (n, tokens)."""
        return self.features.node[f"{TORSIONS}_items"].expand(n, -1)

    def state(self, shift: torch.Tensor, turn: torch.Tensor, angles: torch.Tensor, conformer: torch.Tensor) -> State:
        """Makes a State of n poses.

        Arguments:
            shift: Middles of the heavy atoms (n, 3) relative to the centre of the box, in Å.
            turn: Rotations (n, 3, 3).
            angles: Torsions (n, T), in rad.
            conformer: Numbers (n,) of ring conformers.
        """
        n, tokens = len(shift), self.features.tokens
        torsions = angles.new_zeros(n, tokens, 1).index_copy(1, torch.from_numpy(self.far_tokens), angles[..., None])
        number = conformer.long()
        return State(
            {
                REFERENCE: self.token_geometries.to(shift)[number],
                SHIFT: shift[:, None],
                TURN: turn[:, None],
                TORSIONS: torsions,
                CONFORMER: number.to(shift)[:, None, None],
            },
            {TORSIONS: self.torsion_mask(n)},
        )

    @cached_property
    def pocket_centre(self) -> np.ndarray:
        """Mean (3,) of the pocket's atoms that the network sees, in Å."""
        return np.asarray(self.receptor.positions.numpy()[self.pocket].mean(0))

    def cartesian_state(self, heavy: torch.Tensor) -> State:
        """Makes a Cartesian State of n poses from their heavy atoms (n, L, 3), in Å relative to `pocket_centre`."""
        (n, own), others = heavy.shape[:2], len(self.pocket)
        still = torch.from_numpy(self.receptor.positions.numpy()[self.pocket] - self.pocket_centre).to(heavy)
        places = torch.cat([heavy.new_zeros(n, own, 3), still.expand(n, -1, -1)], dim=1)
        positions = torch.cat([heavy, heavy.new_zeros(n, others, 3)], dim=1)
        mask = self.features.node[f"{POSITIONS}_items"].expand(n, -1)
        return State({REFERENCE: places, POSITIONS: positions}, {POSITIONS: mask})

    def in_box(self, box: Box) -> LigandSystem:
        """Returns the same ligand and receptor with another box, and the pocket that belongs to it.

        Raises:
            InputError: If the box is not at the receptor.
        """
        pocket = pocket_atoms(self.receptor, box)
        features = pocket_features(self.mol, perceive_stereo(self.mol), self.receptor, pocket, self.torsions)
        digest = hashlib.sha256(json.dumps([self.digest, *box.centre, *box.size]).encode()).hexdigest()
        return replace(self, box=box, pocket=pocket, features=features, digest=digest)

    def angles(self, state: State) -> torch.Tensor:
        """Returns the torsions (batch, T) of a State, in rad."""
        return state.fields[TORSIONS][:, torch.from_numpy(self.far_tokens), 0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LigandSystem) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"LigandSystem(name={self.name!r}, atoms={self.atoms}, torsions={len(self.torsions.axes)}, digest={self.digest[:12]!r})"


def ligand_system(
    mol: Any,
    receptor: Receptor,
    box: Box,
    *,
    name: str = "ligand",
    geometries: np.ndarray | None = None,
    unwound: bool = False,
    n_conformers: int = CONFORMERS,
    pose: np.ndarray | None = None,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> LigandSystem:
    """Makes the System of one ligand in one pocket.

    Arguments:
        mol: RDKit molecule with all hydrogens and assigned stereochemistry (`sources.prepare_ligand`).
        receptor: The receptor.
        box: The pocket.
        name: What to call it.
        geometries: Geometries (K, N, 3) whose bonds, angles and rings poses have; by default ring conformers by distance geometry.
        unwound: Whether these are those of a system already, with all torsions at zero.
        n_conformers: Largest number of these.
        pose: A pose (N, 3) in Å that samples are compared with.
        notes: What was done to the input, in sentences.
        warnings: What a user should look at, in sentences.

    Raises:
        InputError: If the box is not at the receptor, or the ligand has too many torsions, no conformation or an element that no network knows.
    """
    from rdkit import Chem

    pocket = pocket_atoms(receptor, box)
    torsions = find_torsions(mol, name)
    if geometries is None:
        found = conformers(mol, torsions, n_conformers, seed=CONFORMER_SEED, name=name)
    else:
        found = geometries if unwound else rooted(torsions.unwound(geometries), torsions)
    # files keep single precision: a system read back must be the same
    found = np.round(found, 4)
    mol = Chem.Mol(mol)
    mol.RemoveAllConformers()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(_open(found[0], torsions) + np.array(box.centre))
    mol.AddConformer(conformer)
    try:
        stereo = perceive_stereo(mol)
        features = pocket_features(mol, stereo, receptor, pocket, torsions)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    content = {
        "atoms": [[atom.GetAtomicNum(), atom.GetFormalCharge()] for atom in mol.GetAtoms()],
        "bonds": sorted([*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), str(b.GetBondType())] for b in mol.GetBonds()),
        "geometries": found.round(3).tolist(),
        "box": [*box.centre, *box.size],
        "receptor": [receptor.atoms.elements, receptor.types, receptor.atoms.positions.round(3).tolist()],
    }
    return LigandSystem(
        name=name,
        features=features,
        digest=hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest(),
        mol=mol,
        receptor=receptor,
        box=box,
        torsions=torsions,
        geometries=found,
        pocket=pocket,
        stereo_centres=stereo.centres,
        stereo_signs=stereo.signs,
        double_bonds=stereo.double_bonds,
        double_bond_signs=stereo.double_bond_signs,
        pose=pose,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _open(geometry: np.ndarray, torsions: LigandTorsions) -> np.ndarray:
    """Returns a geometry (N, 3) with its torsions at 180 degrees: at zero atoms may be on top of each other."""
    angles = torch.full((1, len(torsions.axes)), np.pi, dtype=torch.float64)
    opened = turned_bonds(torch.from_numpy(geometry)[None], angles, torsions.tree)[0].numpy()
    return np.asarray(opened - opened[torsions.heavy].mean(0))
