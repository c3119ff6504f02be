"""Energies of adsorbates by name: effective medium theory, neural potentials, ASE calculators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from equilibra.energies.adapters import AseEnergy
from equilibra.energies.calculators import make_calculator
from equilibra.energies.confinement import ConfinedEnergy
from equilibra.energies.emt import SlabEMT
from equilibra.energies.energy import Energy
from equilibra.energies.held_atoms import HeldAtomsEnergy
from equilibra.systems.adsorbate.system import AdsorbateSystem

EMT = "emt"
"""The built-in energy."""


def adsorbate_energy(system: AdsorbateSystem, name: str, *, compile: bool = False) -> ConfinedEnergy:
    """Makes the energy of the mobile atoms of a system, in eV and Å, as a function of the positions of its State.

    What the distribution is of has walls (`energies.confinement`): mobile atoms stay in the system's window of heights, and its molecules whole.

    Arguments:
        system: The system.
        name: `emt`, the built-in effective medium theory; or what `make_calculator` makes.
        compile: Compile the built-in energy.

    Raises:
        InputError: If there is no such energy, or it does not know an element.
        MissingDependencyError: If it needs a package that is not installed.
    """
    return confined(system, bare_energy(system, name, compile=compile))


def confined(system: AdsorbateSystem, energy: Energy) -> ConfinedEnergy:
    """Puts walls around an energy of the mobile atoms at absolute positions."""
    return ConfinedEnergy(energy, system.window, system.plane, system.bonds, system.longest_bonds, origin=system.level)


def whole_atoms(system: AdsorbateSystem, positions: Any) -> Any:
    """Returns ASE `Atoms` of the slab with the mobile atoms at absolute positions (atoms, 3), tagged 2; the slab is as it came."""
    from ase import Atoms

    return system.slab + Atoms(
        numbers=system.numbers, positions=np.asarray(positions, dtype=np.float64), tags=[2] * system.atoms
    )


def bare_energy(system: AdsorbateSystem, name: str, free: Sequence[int] = (), *, compile: bool = False) -> Energy:
    """Makes the energy without walls, in eV and Å, as a function of absolute positions: of the free atoms of the slab, in the order of their indices, and then of the mobile atoms.

    Arguments:
        system: The system.
        name: As for `adsorbate_energy`.
        free: Indices of atoms of the slab that move.
        compile: Compile the built-in energy.

    Raises:
        InputError: If there is no such energy, or it does not know an element.
        MissingDependencyError: If it needs a package that is not installed.
    """
    # starting positions above the surface: whatever the mobile atoms' are, they are not looked at
    atoms = whole_atoms(system, system.placed(1, seed=0)[0] + np.array([0.0, 0.0, system.level]))
    mobile = [*free, *range(len(system.slab), len(atoms))]
    if name == EMT:
        return SlabEMT(atoms, mobile, compile=compile)
    whole = AseEnergy(atoms, make_calculator(name), name=name, invariant=False, tolerant=True)
    return HeldAtomsEnergy(whole, torch.tensor(atoms.positions.copy()), mobile)
