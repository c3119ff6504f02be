"""Relaxation of crystals, atoms and cells, to the nearest minimum of an energy, through ASE."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.crystal.calculators import Factory, calculator
from equilibra.systems.crystal.files import ase_structures
from equilibra.systems.crystal.structures import Structure

FORCE = 0.02
"""Largest force, in eV/Å, of a relaxed structure; strains count as forces in ASE's `FrechetCellFilter`."""
STEPS = 200
"""Most steps of a relaxation."""

Progress = Callable[[int, int], object]
"""Told how many structures are done, and of how many."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What a relaxation made of F structures.

    Attributes:
        structures: The relaxed structures, with their energies and without other values; one that could not be relaxed is as it was, without an energy.
        before: Energies per atom (F,) before, in eV; nan where it could not be computed.
        after: Energies per atom (F,) after, in eV; nan where the relaxation failed.
        steps: Steps (F,) that were taken.
        converged: Whether each (F,) reached the wanted forces.
        problems: What went wrong, by the number of the structure.
    """

    structures: list[Structure]
    before: np.ndarray
    after: np.ndarray
    steps: np.ndarray
    converged: np.ndarray
    problems: dict[int, str]


def relax(
    structures: Sequence[Structure],
    name: str | Factory,
    *,
    force: float = FORCE,
    steps: int = STEPS,
    cells: bool = True,
    progress: Progress = lambda done, total: None,
) -> Relaxation:
    """Relaxes structures one by one; one that fails does not stop the others.

    Arguments:
        structures: The structures, of any compositions.
        name: The energy, as `calculator` names it, or what makes an ASE calculator.
        force: Largest force of a relaxed structure, in eV/Å.
        steps: Most steps.
        cells: Relax cells as well; the stress is that without outer pressure.
        progress: Told how many are done.

    Raises:
        InputError: If there is no such calculator, or a number is out of range.
        MissingDependencyError: If its package is not installed.
    """
    if not force > 0.0 or steps < 0:
        raise InputError(f"relax: got the force {force} and {steps} steps, expected a positive number and at least 0")
    make = calculator(name) if isinstance(name, str) else name
    made: list[Structure] = []
    before, after = np.full((2, len(structures)), np.nan)
    taken, converged = np.zeros(len(structures), dtype=np.int64), np.zeros(len(structures), dtype=bool)
    problems: dict[int, str] = {}
    for index, structure in enumerate(structures):
        atoms = ase_structures(structure.positions[None], structure.cell[None], structure.numbers)[0]
        result = dataclasses.replace(structure, energy=None)
        try:
            atoms.calc = make(atoms)
            before[index] = atoms.get_potential_energy() / len(structure)
            taken[index], converged[index] = _run(atoms, force, steps, cells)
            energy = float(atoms.get_potential_energy()) / len(structure)
            cell = np.asarray(atoms.cell)
            frac = atoms.positions @ np.linalg.inv(cell)
            # what was known of the structure, such as its band gap, was known of it as it was
            result = Structure(numbers=structure.numbers, frac=frac, cell=cell, name=structure.name, energy=energy)
            after[index] = energy
        except Exception as error:
            # calculators raise whatever their own code stumbles over
            problems[index] = f"{structure.name or structure.formula}: {type(error).__name__}: {error}"
        made.append(result)
        progress(index + 1, len(structures))
    return Relaxation(made, before, after, taken, converged, problems)


def diamond_energy(name: str | Factory) -> float:
    """Returns the energy per atom of diamond, relaxed in the same way, in eV: what energies of carbon are above."""
    cell = 0.5 * 3.567 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    diamond = Structure(numbers=np.array([6, 6]), frac=np.array([[0.0] * 3, [0.25] * 3]), cell=cell, name="diamond")
    found = relax([diamond], name)
    if found.problems:
        raise InputError(f"relax: {found.problems[0]}")
    return float(found.after[0])


def _run(atoms: Any, force: float, steps: int, cells: bool) -> tuple[int, bool]:
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    with warnings.catch_warnings():
        # logarithms of strained cells warn of their own rounding
        warnings.simplefilter("ignore")
        moving: Any = FrechetCellFilter(atoms) if cells else atoms
        optimiser = BFGS(moving, logfile=None, maxstep=0.1)
        converged = bool(optimiser.run(fmax=force, steps=steps))
    return int(optimiser.get_number_of_steps()), converged
