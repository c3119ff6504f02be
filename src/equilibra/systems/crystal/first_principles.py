"""Band gaps of crystals from an electronic structure that an ASE calculator computes: the last word on a few structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.crystal.calculators import Factory, calculator
from equilibra.systems.crystal.files import ase_structures
from equilibra.systems.crystal.structures import Structure

DFT = "gpaw"
"""Calculator of density functional theory: PBE in plane waves, by GPAW."""

Progress = Callable[[int, int], object]
"""Told how many structures are done, and of how many."""


@dataclass(frozen=True, eq=False)
class Verification:
    """What a calculation says of F structures.

    Attributes:
        gaps: Band gaps (F,) over the k-points of the calculation, in eV, 0 of metals; nan where it failed.
        energies: Energies per atom (F,), in eV; nan where it failed.
        problems: What went wrong, by the number of the structure.
    """

    gaps: np.ndarray
    energies: np.ndarray
    problems: dict[int, str]


def verify(
    structures: Sequence[Structure], name: str | Factory = DFT, *, progress: Progress = lambda done, total: None
) -> Verification:
    """Computes energies and band gaps of structures as they are, one by one; one that fails does not stop the others.

    Arguments:
        structures: The structures, of any compositions.
        name: An ASE calculator that knows levels (`get_eigenvalues`), as `calculators.calculator` names it, or what makes one.
        progress: Told how many are done.

    Raises:
        InputError: If there is no structure, or no such calculator.
        MissingDependencyError: If its package is not installed.
    """
    from ase.dft.bandgap import bandgap

    if not structures:
        raise InputError("verify: got no structure, expected at least one")
    make = calculator(name) if isinstance(name, str) else name
    gaps, energies = np.full((2, len(structures)), np.nan)
    problems: dict[int, str] = {}
    for index, structure in enumerate(structures):
        atoms = ase_structures(structure.positions[None], structure.cell[None], structure.numbers)[0]
        try:
            atoms.calc = make(atoms)
            energies[index] = float(atoms.get_potential_energy()) / len(structure)
            gaps[index] = float(bandgap(atoms.calc)[0])
        except Exception as error:
            # calculators raise whatever their own code stumbles over
            problems[index] = f"{structure.name or structure.formula}: {type(error).__name__}: {error}"
        progress(index + 1, len(structures))
    return Verification(gaps, energies, problems)
