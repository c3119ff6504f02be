"""Energies of poses by name."""

from __future__ import annotations

from equilibra.energies.docking.energy import DockingEnergy
from equilibra.energies.docking.ligand import docking_ligand
from equilibra.energies.energy import Energy
from equilibra.errors import InputError, unknown_key_message
from equilibra.systems.ligand.system import LigandSystem

ENERGIES: tuple[str, ...] = ("vina", "vina-mmff94")
"""`vina`: the Vina score between ligand and receptor and within the ligand; `vina-mmff94`: MMFF94 within the ligand instead."""


def ligand_energy(system: LigandSystem, name: str, *, compile: bool = False) -> Energy:
    """Makes the energy of poses of a ligand, in eV and Å, its atoms in the order of the system.

    Arguments:
        system: The system.
        name: One of `ENERGIES`.
        compile: Compile the docking score: pays from some hundred thousand poses on.

    Raises:
        InputError: If there is no such energy, or it cannot describe the system; the message says what is missing.
    """
    if name not in ENERGIES:
        raise InputError(unknown_key_message("energy", name, ENERGIES))
    ligand = docking_ligand(system.mol, rotatable=[tuple(bond) for bond in system.torsions.axes.tolist()])
    if name == "vina":
        return _named(DockingEnergy(system.receptor, ligand, system.box, compile=compile), name)
    from equilibra.energies.mmff import MMFFEnergy

    return _named(DockingEnergy(system.receptor, ligand, system.box, internal=MMFFEnergy(system.mol), compile=compile), name)


def _named(energy: Energy, name: str) -> Energy:
    energy.name = name
    return energy
