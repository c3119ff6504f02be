"""Parameters in OpenMM's units (nm, kJ/mol, e) turned into those of the terms (Å, eV)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equilibra.energies.molecular_mechanics.born import GeneralisedBorn, Neck
from equilibra.energies.molecular_mechanics.nonbonded import Nonbonded
from equilibra.units import KJ_PER_MOL_EV, NM

FloatArray = NDArray[np.float64]

COULOMB = 138.93545764438198
"""Coulomb's constant in kJ/mol nm/e², as OpenMM's platforms have it."""

_PROBE_RADIUS = 1.4


def plain(values: Sequence[Any]) -> list[Any]:
    """Returns values without their units, in OpenMM's own units."""
    from openmm import unit

    return [value.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(value) else value for value in values]


def column(values: Sequence[float], factor: float = 1.0) -> Tensor:
    """Returns numbers as (number, 1), multiplied by a factor."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1) * factor


class PairTable:
    """Sum of the pair parameters of all forces, in OpenMM's units.

    Arguments:
        items: Number of atoms.
    """

    def __init__(self, items: int) -> None:
        self.items = items
        self.repulsion = np.zeros((items, items))
        self.dispersion = np.zeros((items, items))
        self.charges = np.zeros((items, items))

    def add_nonbonded(self, charge: FloatArray, sigma: FloatArray, epsilon: FloatArray, exceptions: list[list[Any]]) -> None:
        """Adds a NonbondedForce: Lorentz-Berthelot mixing, and exceptions (i, j, charge product, sigma, epsilon)."""
        product = np.outer(charge, charge)
        sixth = (0.5 * (sigma[:, None] + sigma[None, :])) ** 6
        depth = np.sqrt(np.outer(epsilon, epsilon))
        for i, j, pair_charge, pair_sigma, pair_epsilon in exceptions:
            for a, b in ((i, j), (j, i)):
                product[a, b], sixth[a, b], depth[a, b] = pair_charge, pair_sigma**6, pair_epsilon
        self.charges += COULOMB * product
        self.add_lennard_jones(4.0 * depth * sixth**2, 4.0 * depth * sixth)

    def add_lennard_jones(self, repulsion: FloatArray, dispersion: FloatArray) -> None:
        """Adds A and B of all pairs, (atoms, atoms)."""
        self.repulsion += repulsion
        self.dispersion += dispersion

    def nonbonded(self) -> Nonbonded | None:
        """Returns the term, or None if there is nothing in it."""
        terms = []
        for table, factor in ((self.repulsion, NM**12), (self.dispersion, NM**6), (self.charges, NM)):
            np.fill_diagonal(table, 0.0)
            terms.append(torch.from_numpy(table * (KJ_PER_MOL_EV * factor)).unsqueeze(2))
        return Nonbonded(*terms) if any(bool(term.any()) for term in terms) else None


def born_model(
    charge: FloatArray,
    offset_radius: FloatArray,
    scaled: FloatArray,
    *,
    dielectrics: tuple[float, float],
    surface: float,
    engulfing: str,
    offset: float = 0.009,
    coulomb: float = COULOMB,
    correction: tuple[FloatArray | float, FloatArray | float, FloatArray | float] = (1.0, 0.8, 4.85),
    neck: tuple[FloatArray, FloatArray, float] | None = None,
) -> GeneralisedBorn:
    """Makes a generalised-Born model of parameters in OpenMM's units.

    Arguments:
        charge: Charges (atoms,) in e.
        offset_radius: Radii less the offset (atoms,) in nm.
        scaled: Scaled offset radii (atoms,) in nm.
        dielectrics: Relative permittivities of the solute and the solvent.
        surface: 4 pi times the surface tension, in kJ/mol/nm²; 0 for no surface energy.
        engulfing: See `GeneralisedBorn`; `never` takes its place where it cannot happen.
        offset: What was taken from the radii, in nm.
        coulomb: Coulomb's constant in kJ/mol nm/e².
        correction: alpha, beta and gamma, for all atoms or of each.
        neck: Heights (atoms, atoms) in 1/nm, positions (atoms, atoms) in nm, and the distance between surfaces that necks reach over, in nm.
    """
    items = len(charge)
    solute, solvent = dielectrics
    rho, s, radius = offset_radius * NM, scaled * NM, (offset_radius + offset) * NM
    own = np.repeat(rho[:, None], items, axis=1)
    other = np.repeat(s[None, :], items, axis=0)
    possible = other - own
    np.fill_diagonal(possible, -1.0)
    np.fill_diagonal(own, 1000.0)
    np.fill_diagonal(other, 0.0)
    made = None
    if neck is not None:
        height, position = neck[0] / NM, neck[1] * NM
        np.fill_diagonal(height, 0.0)
        made = Neck(_matrix(height), _matrix(position), _matrix(radius[:, None] + radius[None, :] + neck[2] * NM))
    alpha, beta, gamma = (column(np.broadcast_to(value, items).tolist()) for value in correction)
    factor = -coulomb * (1.0 / solute - 1.0 / solvent) * KJ_PER_MOL_EV * NM
    return GeneralisedBorn(
        charges=_matrix(factor * np.outer(charge, charge)),
        offset_radius=column(rho.tolist()),
        radius=column(radius.tolist()),
        own=_matrix(own),
        scaled=_matrix(other),
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        surface=column((surface * (KJ_PER_MOL_EV / NM**2) * (radius + _PROBE_RADIUS) ** 2 * radius**6).tolist()),
        neck=made,
        engulfing=engulfing if bool((possible > 0.0).any()) else "never",
        negative=bool((s < 0.0).any()),
    )


def _matrix(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).unsqueeze(2)
