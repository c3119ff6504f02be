"""Energies of a molecule by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equilibra.energies.energy import Energy
from equilibra.energies.openmm_system import FORCE_FIELDS, ForceFieldConfig, make_openmm_system
from equilibra.errors import InputError, unknown_key_message
from equilibra.systems.conformation_checks import check
from equilibra.systems.molecule.system import MoleculeSystem

SMALL_MOLECULES: tuple[str, ...] = ("mmff94", "mmff94s", "gaff2", "so3lr")
"""Energies of any small organic molecule, in vacuum."""


def energy_names() -> tuple[str, ...]:
    """Returns all names: those of any small molecule, then the force fields of peptides."""
    return (*SMALL_MOLECULES, *FORCE_FIELDS)


def molecule_energy(system: MoleculeSystem, name: str, *, compile: bool = False) -> Energy:
    """Makes the potential energy of a molecule, in eV and Å, its atoms in the order of the system.

    Arguments:
        system: The molecule.
        name: `mmff94` or `mmff94s` (RDKit), `gaff2` (needs AmberTools), `so3lr` (needs so3krates-torch), or a key of `FORCE_FIELDS`.
        compile: Compile a force field that runs in PyTorch: pays from some thousand calls on.

    Raises:
        InputError: If there is no such energy, or it cannot describe the molecule; the message says what is missing.
        MissingDependencyError: If it needs a package that is not installed.
    """
    if name in ("mmff94", "mmff94s"):
        from equilibra.energies.mmff import MMFFEnergy

        return MMFFEnergy(system.mol, name)  # type: ignore[arg-type]
    if name == "so3lr":
        from equilibra.energies.so3lr import So3lrEnergy

        numbers = [atom.GetAtomicNum() for atom in system.mol.GetAtoms()]
        return So3lrEnergy(numbers, charge=sum(atom.GetFormalCharge() for atom in system.mol.GetAtoms()))
    if name == "gaff2":
        from equilibra.energies.gaff import gaff_system

        return _mechanics(gaff_system(system.mol)[0], name, compile)
    if name in FORCE_FIELDS:
        return _mechanics(make_openmm_system(system.topology.to_openmm(), ForceFieldConfig(name=name)), name, compile)
    raise InputError(unknown_key_message("energy", name, energy_names()))


def _mechanics(openmm_system: Any, name: str, compile: bool) -> Energy:
    from equilibra.energies.molecular_mechanics import read_openmm_system

    return read_openmm_system(openmm_system, name=name, compile=compile)


def conformers(system: MoleculeSystem, n: int, *, seed: int) -> np.ndarray:
    """Returns up to n conformations (m, N, 3) in Å from distance geometry (ETKDG), of the right stereoisomer, the reference among them.

    They are sensible starting points, no samples of any distribution. References: Riniker and Landrum (2015).
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    mol = Chem.Mol(system.mol)
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = int(np.random.SeedSequence([seed]).generate_state(1)[0] >> 1)
    found = rdDistGeom.EmbedMultipleConfs(mol, max(n - 1, 0), parameters) if n > 1 else []
    positions: Sequence[Any] = [mol.GetConformer(int(number)).GetPositions() for number in found]
    everything = np.stack([np.asarray(system.reference), *positions])
    return everything[check(everything, system).valid | (np.arange(len(everything)) == 0)]
