r"""Fraction of native contacts, and the free energy of folding from it.

Native contacts are pairs of C-alpha atoms more than three residues apart and at most 10 Å from each other. With their native distances
:math:`d^0` and Fermi functions of the distances d in Å,

.. math:: Q = \left\langle \sigma\big(-5\,(d_{ij} - 1.2\, d^0_{ij})\big) \right\rangle_{ij}, \qquad
    p = \left\langle \sigma\big(20\,(Q - \tfrac12)\big) \right\rangle, \qquad \Delta G = -kT \ln \frac{p}{1 - p}

:math:`\Delta G` is that of folding, negative for a stable protein.

References:
    | Scalable emulation of protein equilibrium ensembles with generative deep learning (Lewis et al., 2025)
    | https://doi.org/10.1126/science.adv9817
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, IntArray, check_samples
from equilibra.errors import InputError, ShapeError
from equilibra.thermo.statistics import clopper_pearson
from equilibra.units import KCAL_PER_MOL_EV, thermal_energy


@dataclass(frozen=True, kw_only=True)
class FoldingFreeEnergy:
    """The population of the folded state and its free energy."""

    population: float
    """The mean foldedness p."""
    low: float
    """The lower end of its Clopper-Pearson interval."""
    high: float
    """The upper end of its Clopper-Pearson interval."""
    n: int
    """The number of samples."""
    temperature: float
    """The temperature in K."""

    def _kcal(self, p: float) -> float:
        with np.errstate(divide="ignore"):
            return float(thermal_energy(self.temperature) / KCAL_PER_MOL_EV * (np.log1p(-p) - np.log(p)))

    @property
    def kcal(self) -> float:
        """ΔG of folding in kcal/mol; infinite if all or none are folded."""
        return self._kcal(self.population)

    @property
    def interval_kcal(self) -> tuple[float, float]:
        """The ends of the interval of ΔG in kcal/mol, lower first."""
        return self._kcal(self.high), self._kcal(self.low)

    @property
    def ev(self) -> float:
        """ΔG of folding in eV."""
        return self.kcal * KCAL_PER_MOL_EV


def native_contacts(native: ArrayLike, *, cutoff: float = 10.0, separation: int = 3) -> tuple[IntArray, FloatArray]:
    """Finds the native contacts of a structure.

    Arguments:
        native: C-alpha positions, with shape (residues, 3), in Å.
        cutoff: The largest distance in Å.
        separation: Pairs must be more than so many residues apart.

    Returns:
        The pairs i < j, with shape (contacts, 2), and their distances in Å, with shape (contacts).

    Raises:
        InputError: If there is no contact.
    """
    x = check_samples("native", native, ndim=2, last=3)
    i, j = np.triu_indices(len(x), separation + 1)
    distances = np.linalg.norm(x[i] - x[j], axis=-1)
    near = distances <= cutoff
    if not near.any():
        raise InputError(
            f"native contacts: no pair of the {len(x)} residues more than {separation} apart is within {cutoff} Å; give a folded structure"
        )
    return np.stack([i[near], j[near]], axis=1), distances[near]


def fraction_native_contacts(positions: ArrayLike, native: ArrayLike) -> FloatArray:
    """Returns the fraction of native contacts Q of each frame.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å.
        native: The native structure, with shape (residues, 3).

    Returns:
        Q between 0 and 1, with shape (frames).

    Raises:
        ShapeError: If the residues differ.
        InputError: If the structure has no contact, or a coordinate is not finite.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    if x.shape[1:] != np.shape(native):
        raise ShapeError("positions", x.shape, f"(frames, {len(np.asarray(native))}, 3)")
    pairs, distances = native_contacts(native)
    now = np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1)
    return np.asarray(_sigmoid(-5.0 * (now - 1.2 * distances)).mean(axis=1))


def foldedness(q: ArrayLike) -> FloatArray:
    """Returns how folded each frame is, σ(20 (Q - ½)), with shape (frames), of fractions of native contacts (frames)."""
    return _sigmoid(20.0 * (check_samples("fractions of native contacts", q, ndim=1) - 0.5))


def folding_free_energy(
    q: ArrayLike, *, temperature: float = 295.0, n_effective: float | None = None, confidence: float = 0.95
) -> FoldingFreeEnergy:
    """Returns the free energy of folding from fractions of native contacts.

    Arguments:
        q: The fractions, with shape (frames).
        temperature: The temperature in K.
        n_effective: The number of independent samples they are worth; as many as there are if not given.
        confidence: The coverage of the Clopper-Pearson interval.

    Raises:
        InputError: If there is no sample, or a number is out of range.
    """
    values = check_samples("fractions of native contacts", q, ndim=1)
    if not temperature > 0:
        raise InputError(f"folding free energy: got a temperature of {temperature} K, expected a positive one")
    trials = float(len(values)) if n_effective is None else n_effective
    p = float(foldedness(values).mean())
    low, high = clopper_pearson(p * trials, trials, confidence=confidence)
    return FoldingFreeEnergy(population=p, low=low, high=high, n=len(values), temperature=temperature)


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
