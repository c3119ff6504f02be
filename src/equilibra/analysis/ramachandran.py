r"""The plane of the backbone torsions φ and ψ: divergences, free-energy surfaces and populations of basins.

The free energy of a cell with probability :math:`p` is :math:`F = -\ln(p / p_{\max})` in kT. A basin of population :math:`p` has
:math:`\Delta F = -\ln\big(p / (1 - p)\big)` against everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.histogram import histogram_2d, jensen_shannon
from equilibra.analysis.histogram import total_variation as _total_variation
from equilibra.analysis.samples import BoolArray, FloatArray, as_runs, check_samples, wrap_angles
from equilibra.analysis.torsions import CIRCLE, dihedrals, peptide_quadruples
from equilibra.errors import ConfigError, InputError, unknown_key_message
from equilibra.thermo.statistics import clopper_pearson, statistical_inefficiency
from equilibra.units import thermal_energy

State = Callable[[FloatArray, FloatArray], BoolArray]
"""A basin: (φ, ψ) in radians in [-π, π) to true inside."""

STATES: Mapping[str, State] = MappingProxyType(
    {
        "phi>0": lambda phi, psi: (phi > 0) & (phi < 2),
        "alpha-R": lambda phi, psi: ~((phi > 0) & (phi < 2)) & (psi > -2) & (psi < 1),
        "beta": lambda phi, psi: ~((phi > 0) & (phi < 2)) & ((psi <= -2) | (psi >= 1)),
    }
)
"""Named basins: `phi>0` (0 < φ < 2 rad), and the rest cut by ψ into `alpha-R` (-2 < ψ < 1 rad) and `beta` (with PII)."""


@dataclass(frozen=True, kw_only=True)
class RamachandranPair:
    """The φ and ψ of one residue in every frame."""

    residue: str
    """The residue, e.g. `ALA2`."""
    phi_atoms: tuple[int, int, int, int]
    """The atoms of φ."""
    psi_atoms: tuple[int, int, int, int]
    """The atoms of ψ."""
    angles: FloatArray
    """(φ, ψ) in radians, with shape (frames, 2)."""

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two degrees of freedom, e.g. `("phi ALA2", "psi ALA2")`."""
        return f"phi {self.residue}", f"psi {self.residue}"


def ramachandran_pairs(trajectory: Any) -> list[RamachandranPair]:
    """Returns (φ, ψ) of every residue of an mdtraj `Trajectory` that has both; an empty list if there is none."""
    names, rows = peptide_quadruples(trajectory.topology)
    index = dict(zip(names, rows, strict=True))
    pairs = []
    for name in names:
        kind, _, residue = name.partition(" ")
        if kind == "phi" and f"psi {residue}" in index:
            both = np.stack([index[name], index[f"psi {residue}"]])
            phi_atoms, psi_atoms = (tuple(int(i) for i in row) for row in both)
            angles = dihedrals(trajectory.xyz, both)
            pairs.append(RamachandranPair(residue=residue, phi_atoms=phi_atoms, psi_atoms=psi_atoms, angles=angles))  # type: ignore[arg-type]
    return pairs


def ramachandran_histogram(phi_psi: ArrayLike, *, bins: int = 64, weights: ArrayLike | None = None) -> FloatArray:
    """Returns the probabilities, with shape (bins, bins) and φ first, of angles (samples, 2) in radians on [-π, π]²."""
    angles = wrap_angles(check_samples("phi, psi", phi_psi, ndim=2, last=2))
    return histogram_2d(angles, bins=bins, limits=(CIRCLE, CIRCLE), weights=weights)


def ramachandran_jsd(phi_psi_a: ArrayLike, phi_psi_b: ArrayLike, bins: int = 64) -> float:
    """Returns the Jensen-Shannon divergence in bits of two Ramachandran histograms on bins² cells.

    Arguments:
        phi_psi_a: (φ, ψ) in radians, with shape (samples, 2).
        phi_psi_b: (φ, ψ) in radians, with shape (samples, 2).
        bins: The number of bins of each angle on [-π, π].

    Raises:
        InputError: If a sample is empty or not finite.
    """
    return jensen_shannon(ramachandran_histogram(phi_psi_a, bins=bins), ramachandran_histogram(phi_psi_b, bins=bins))


def ramachandran_tv(phi_psi_a: ArrayLike, phi_psi_b: ArrayLike, bins: int = 64) -> float:
    """Returns the total variation of two Ramachandran histograms; arguments as for `ramachandran_jsd`."""
    return _total_variation(ramachandran_histogram(phi_psi_a, bins=bins), ramachandran_histogram(phi_psi_b, bins=bins))


@dataclass(frozen=True, kw_only=True)
class FreeEnergySurface:
    """A free-energy surface over (φ, ψ), zero at its lowest cell and infinite where no sample fell."""

    edges: FloatArray
    """The edges of the bins of both angles in radians, with shape (bins + 1)."""
    kt: FloatArray
    """The free energy in kT, with shape (bins, bins), φ first."""
    temperature: float
    """The temperature of the samples in K."""

    @property
    def ev(self) -> FloatArray:
        """The free energy in eV."""
        return self.kt * thermal_energy(self.temperature)

    @property
    def masked(self) -> np.ma.MaskedArray[Any, Any]:
        """The free energy in kT with empty cells masked, for plots."""
        return np.ma.masked_invalid(self.kt)


def free_energy_surface(
    phi: ArrayLike, psi: ArrayLike, *, bins: int = 64, temperature: float = 300.0, weights: ArrayLike | None = None
) -> FreeEnergySurface:
    r"""Returns the free-energy surface :math:`F = -\ln(p / p_{\max})` of samples of (φ, ψ).

    Arguments:
        phi: φ in radians, with shape (samples).
        psi: ψ in radians, with shape (samples).
        bins: The number of bins of each angle on [-π, π].
        temperature: The temperature of the samples in K; it turns kT into eV.
        weights: Non-negative weights, with shape (samples); equal if not given.

    Raises:
        InputError: If the samples are empty, not finite or of unequal number.
        ConfigError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f"free_energy_surface: got a temperature of {temperature} K, expected a positive one")
    p = ramachandran_histogram(_join(phi, psi), bins=bins, weights=weights)
    with np.errstate(divide="ignore"):
        kt = np.log(p.max()) - np.log(p)
    return FreeEnergySurface(edges=np.linspace(-np.pi, np.pi, bins + 1), kt=kt, temperature=temperature)


@dataclass(frozen=True, kw_only=True)
class Population:
    """The share of samples in a basin, with its uncertainty."""

    value: float
    """The share p."""
    low: float
    """The lower end of the Clopper-Pearson interval."""
    high: float
    """The upper end of the Clopper-Pearson interval."""
    error: float
    """The standard error √(p (1 - p) / n_effective)."""
    n: int
    """The number of samples."""
    n_effective: float
    """The number of independent samples they are worth."""

    @property
    def free_energy_kt(self) -> float:
        """ΔF = -ln(p / (1 - p)) in kT of the basin against its complement; infinite if one of them is empty."""
        with np.errstate(divide="ignore"):
            return float(np.log(1.0 - self.value) - np.log(self.value))

    @property
    def free_energy_error_kt(self) -> float:
        """The standard error of ΔF in kT, to first order; infinite if the basin or its complement is empty."""
        spread = self.value * (1.0 - self.value)
        return self.error / spread if spread > 0 else float("inf")


def population(
    phi_psi: ArrayLike | Sequence[ArrayLike], state: str | State, *, correlated: bool = False, confidence: float = 0.95
) -> Population:
    r"""Returns the population of a basin with its Clopper-Pearson interval.

    For correlated series the number of samples is divided by the statistical inefficiency g of the basin's indicator, taken over all
    runs about their common mean. If no run ever enters (or leaves) the basin, g cannot be measured and each run counts as one sample.

    Arguments:
        phi_psi: (φ, ψ) in radians, with shape (samples, 2), or a list of runs of this shape.
        state: A name of `STATES`, or a function of φ and ψ in [-π, π).
        correlated: Whether the samples are time series, e.g. molecular dynamics.
        confidence: The coverage of the interval.

    Raises:
        ConfigError: If the state is unknown.
        InputError: If the samples are empty or not finite.
    """
    runs = as_runs("phi, psi", phi_psi, ndim=2)
    inside = [_membership(run, state) for run in runs]
    joined = np.concatenate(inside)
    p, n = float(joined.mean()), len(joined)
    n_effective = float(n)
    if correlated:
        n_effective = n / statistical_inefficiency(inside) if 0 < p < 1 else float(len(runs))
    low, high = clopper_pearson(p * n_effective, n_effective, confidence=confidence)
    error = float(np.sqrt(p * (1 - p) / n_effective))
    return Population(value=p, low=low, high=high, error=error, n=n, n_effective=n_effective)


def _membership(phi_psi: FloatArray, state: str | State) -> FloatArray:
    angles = wrap_angles(check_samples("phi, psi", phi_psi, ndim=2, last=2))
    if isinstance(state, str):
        if state not in STATES:
            raise ConfigError(unknown_key_message("state", state, STATES))
        state = STATES[state]
    return np.asarray(state(angles[:, 0], angles[:, 1]), dtype=np.float64)


def _join(phi: ArrayLike, psi: ArrayLike) -> FloatArray:
    first, second = check_samples("phi", phi, ndim=1), check_samples("psi", psi, ndim=1)
    if len(first) != len(second):
        raise InputError(f"phi and psi: got {len(first)} and {len(second)} samples, expected equal numbers")
    return np.stack([first, second], axis=1)
