"""Docking: the Vina scoring function as an energy of ligand poses in a rigid receptor."""

from equilibra.energies.docking.box import Box
from equilibra.energies.docking.energy import DockingEnergy, DockingScore
from equilibra.energies.docking.ligand import DockingLigand, docking_ligand, ligand_positions, rotatable_bonds
from equilibra.energies.docking.pdbqt import receptor_pdbqt
from equilibra.energies.docking.receptor import Receptor, read_receptor
from equilibra.energies.docking.vina_program import VinaProgram

__all__ = [
    "Box",
    "DockingEnergy",
    "DockingLigand",
    "DockingScore",
    "Receptor",
    "VinaProgram",
    "docking_ligand",
    "ligand_positions",
    "read_receptor",
    "receptor_pdbqt",
    "rotatable_bonds",
]
