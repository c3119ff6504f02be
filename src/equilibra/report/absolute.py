r"""Absolute quantities of a weighted ensemble: log Z, entropy and heat capacity, where its weights have an absolute scale.

Weights :math:`\log w = -u - \log q` are absolute; those of an ensemble may have lost a constant. They count as absolute if the ensemble says
so (its provenance holds the log Z of its path weights), or if they are what its energies and densities give. Conformations that failed the checks have no
weight, but were drawn: they count in the mean that log Z is made of, which is that of the target restricted to valid conformations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.state_free_energies import SampleSet
from equilibra.thermo.entropy import entropy, heat_capacity
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import log_z
from equilibra.thermo.samples import FloatArray
from equilibra.units import thermal_energy

if TYPE_CHECKING:
    from equilibra.systems.molecule.ensemble import MoleculeEnsemble

MEASURE = "the volume of the mean-free space of positions in Å, orientations included"
"""What log Z and the entropy are relative to."""


@dataclass(frozen=True)
class Absolute:
    """Absolute quantities of an ensemble."""

    log_z: Estimate
    """The logarithm of the configuration integral of exp(-E/kT)."""
    entropy: Estimate
    """S/k = <u> + log Z."""
    heat_capacity: Estimate
    """C/k of the configurations, the variance of E/kT."""
    measure: str
    """What they are relative to."""
    note: str = ""
    """What else is to be known; empty if nothing."""


def absolute_quantities(
    ensemble: MoleculeEnsemble,
    temperature: float | None,
    samples: SampleSet,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
) -> Absolute | None:
    """Computes what needs energies and absolute weights; None where either is missing.

    Arguments:
        ensemble: The ensemble.
        temperature: Its temperature in K.
        samples: How its conformations count.
        rng: The only source of randomness.
        resamples: Resamples of the bootstraps.
    """
    if (
        ensemble.energies is None
        or temperature is None
        or samples.log_weights is None
        or not np.isfinite(ensemble.energies).all()
    ):
        return None
    u = np.asarray(ensemble.energies, dtype=np.float64) / thermal_energy(temperature)
    if not _absolute(ensemble, u):
        return None
    # what failed the checks was drawn, too, and has no weight
    extra = len(ensemble.rejected)
    logs = np.concatenate([samples.log_weights, np.full(extra, -np.inf)])
    energies = np.concatenate([u, np.zeros(extra)])
    note = f"{extra:,} conformations that failed the checks count as drawn, without weight." if extra else ""
    return Absolute(
        log_z=log_z(logs, rng, resamples),
        entropy=entropy(energies, logs, rng, resamples=resamples),
        heat_capacity=heat_capacity(u, samples.log_weights, rng, resamples=resamples),
        measure=MEASURE,
        note=note,
    )


def _absolute(ensemble: MoleculeEnsemble, u: FloatArray) -> bool:
    """Tells whether the weights have an absolute scale."""
    record = ensemble.provenance.get("path_weights")
    if isinstance(record, Mapping) and record.get("log_z") is not None:
        return True
    if ensemble.log_density is None:
        return False
    held = np.isfinite(ensemble.log_weights)
    expected = -u - np.asarray(ensemble.log_density, dtype=np.float64)
    return bool(np.allclose(ensemble.log_weights[held], expected[held], rtol=1e-4, atol=1e-2))
