"""The program AutoDock Vina, through its Python wheel: what poses are compared with, never what energies are computed with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from equilibra.energies.docking.box import Box
from equilibra.energies.docking.energy import DockingScore
from equilibra.energies.docking.ligand import ligand_positions
from equilibra.energies.docking.pdbqt import receptor_pdbqt
from equilibra.energies.docking.receptor import Receptor
from equilibra.errors import InputError, MissingDependencyError

# sums over atoms need no maps, but the program wants some
_IDLE_SPACING = 2.0
_SPACING = 0.375


class VinaProgram:
    """AutoDock Vina on one receptor and one box.

    Arguments:
        receptor: The receptor, with its hydrogens.
        box: The box.
        search: Whether maps are made that `dock` can search with.
        seed: Seed of searches, from 1.
        cpu: Threads of searches.
        grid: Whether scores are interpolated from maps of the receptor, as in Vina's search, and not summed over atoms, as in its final scores.

    Raises:
        MissingDependencyError: If vina, meeko or gemmi are not installed.
        InputError: If a donor of the receptor has no hydrogen, or an element near the box has no type.
    """

    def __init__(
        self, receptor: Receptor, box: Box, *, grid: bool = False, search: bool = False, seed: int = 1, cpu: int = 1
    ) -> None:
        try:
            from meeko import MoleculePreparation
            from vina import Vina
        except ImportError as error:
            raise MissingDependencyError(
                f"AutoDock Vina needs a package that is not installed ({error}); install it with 'pip install vina meeko gemmi' (equilibra's extra 'docking')"
            ) from error
        receptor.check_elements_near(box)
        self.box = box
        self._preparation = MoleculePreparation(rigid_macrocycles=True)
        self._program = Vina(sf_name="vina", cpu=cpu, seed=seed, no_refine=grid, verbosity=0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "receptor.pdbqt"
            path.write_text(receptor_pdbqt(receptor), encoding="utf-8")
            self._program.set_receptor(str(path))
        self._program.compute_vina_maps(list(box.centre), list(box.size), spacing=_SPACING if grid or search else _IDLE_SPACING)

    def pdbqt(self, mol: Any, conformer: int = 0) -> str:
        """Returns a pose as PDBQT, with types, charges and rotatable bonds by Meeko; rings stay closed.

        Arguments:
            mol: RDKit molecule with all hydrogens as atoms.
            conformer: Which of its conformers, counted from 0.

        Raises:
            InputError: If Meeko cannot prepare it.
        """
        from meeko import PDBQTWriterLegacy
        from rdkit import Chem

        numbers = [each.GetId() for each in mol.GetConformers()]
        one = Chem.Mol(mol, confId=numbers[conformer])
        text, done, reason = PDBQTWriterLegacy.write_string(self._preparation.prepare(one)[0])
        if not done:
            raise InputError(f"Meeko cannot prepare the ligand: {reason}")
        return str(text)

    def load(self, mol: Any, conformer: int = 0) -> None:
        """Gives the program a pose.

        Raises:
            InputError: If Meeko cannot prepare it, or a heavy atom is outside the box, which would end the process.
        """
        heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
        low, high = self.box.corners
        x = ligand_positions(mol)[conformer, heavy]
        if not bool(((x >= low) & (x <= high)).all()):
            raise InputError("Vina: a heavy atom of the ligand is outside the box; take a larger box")
        self.load_pdbqt(self.pdbqt(mol, conformer))

    def load_pdbqt(self, text: str) -> None:
        """Gives the program a pose as PDBQT, unchecked: with a heavy atom outside the box, scoring ends the process."""
        self._program.set_ligand_from_string(text)

    def dock(self, mol: Any, *, exhaustiveness: int = 8, poses: int = 20) -> NDArray[np.float64]:
        """Searches for poses, with maps of the receptor (`search=True`).

        Arguments:
            mol: RDKit molecule with all hydrogens and a conformer, whose bonds, angles and rings stay as they are.
            exhaustiveness: How many runs the search makes.
            poses: Largest number of poses.

        Returns:
            Poses (found, atoms, 3) in Å, the best first, in the order of the molecule's atoms; hydrogens that the program does not move are NaN.

        Raises:
            InputError: If Meeko cannot prepare the ligand, or no pose is found.
        """
        from meeko import PDBQTMolecule, RDKitMolCreate

        program = self._program
        self.load_pdbqt(self.pdbqt(mol))
        program.dock(exhaustiveness=exhaustiveness, n_poses=poses)
        text = program.poses(n_poses=poses)
        made = RDKitMolCreate.from_pdbqt_mol(PDBQTMolecule(text, skip_typing=True))
        if not made or made[0] is None or not made[0].GetNumConformers():
            raise InputError("Vina: no pose was found in the box")
        found = made[0]
        match = found.GetSubstructMatch(mol) if found.GetNumAtoms() == mol.GetNumAtoms() else ()
        heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
        result = np.full((found.GetNumConformers(), mol.GetNumAtoms(), 3), np.nan)
        for row, conformer in enumerate(found.GetConformers()):
            places = conformer.GetPositions()
            result[row, heavy] = places[[match[i] for i in heavy]] if match else places[: len(heavy)]
        return result

    def score(self) -> DockingScore:
        """Returns the scores (1,) of the pose that was loaded, in kcal/mol, rounded to 0.001 by the program."""
        numbers = torch.tensor(self._program.score(), dtype=torch.float64)
        return DockingScore(total=numbers[0:1], inter=numbers[1:2], intra=numbers[5:6])
