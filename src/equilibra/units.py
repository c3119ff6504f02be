"""Physical constants and conversions: Å, eV and K inside the package, other units only at its borders.

Values: CODATA 2018 (exact where the SI defines them).
"""

from __future__ import annotations

BOLTZMANN_EV: float = 8.617333262145179e-05
"""Boltzmann constant in eV/K."""

KJ_PER_MOL_EV: float = 0.010364269656262175
"""One kJ/mol in eV."""

KCAL_PER_MOL_EV: float = 4.184 * KJ_PER_MOL_EV
"""One kcal/mol in eV."""

NM: float = 10.0
"""One nanometre in Å."""

KJ_PER_MOL_NM_EV_A: float = KJ_PER_MOL_EV / NM
"""One kJ/(mol nm) in eV/Å."""


def thermal_energy(temperature: float) -> float:
    """Returns kT in eV for a temperature in K."""
    return BOLTZMANN_EV * temperature
