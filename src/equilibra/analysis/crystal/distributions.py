"""How far the distributions of numbers of crystals are apart: densities, energies per atom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.crystal.crystals import Crystal, mass_densities
from equilibra.errors import InputError


def wasserstein(first: ArrayLike, second: ArrayLike) -> float:
    """Returns the 1-Wasserstein distance of two sets of numbers, in their unit.

    Raises:
        InputError: If one is empty, or has values that are not finite.
    """
    from scipy.stats import wasserstein_distance

    x, y = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    for values in (x, y):
        if not len(values) or not np.isfinite(values).all():
            raise InputError(f"Wasserstein distance: got {len(values)} numbers, expected at least one on each side, all finite")
    return float(wasserstein_distance(x, y))


def density_wasserstein(samples: Sequence[Crystal], reference: Sequence[Crystal]) -> float:
    """Returns W(density), the 1-Wasserstein distance of mass densities, in g/cm³; CDVAE takes 1,000 valid samples.

    Raises:
        InputError: If a set is empty.
    """
    return wasserstein(mass_densities(samples), mass_densities(reference))


def energy_wasserstein(samples: ArrayLike, reference: ArrayLike) -> float:
    """Returns W(energy), the 1-Wasserstein distance of energies per atom, in eV; both must come from one potential, which is to be named.

    Raises:
        InputError: If a set is empty, or has energies that are not finite.
    """
    return wasserstein(samples, reference)
