r"""Log-densities of conformations with their errors, and their calibration against an energy.

For a perfect model at the energy's temperature :math:`\ln p = -u - \ln Z`, a straight line of slope 1 over :math:`-u`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from equilibra.atomic import write_text
from equilibra.errors import InputError
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.thermo.estimate import Estimate

SCHEMA_VERSION = 1
"""Version of `density.json`."""


@dataclass(frozen=True)
class Calibration:
    """How well the log-density follows an energy."""

    slope: Estimate
    """Slope of the least-squares line of ln p over -u; 1 for a perfect model."""
    intercept: float
    """Its value at u = 0, minus log Z for a perfect model."""
    spearman: float
    """Spearman's rank correlation of ln p and -u; 1 where the order is right."""
    spread: float
    """Standard deviation of ln p + u, in nats: that of the log-weights of these conformations; 0 for a perfect model."""
    n: int
    """The number of conformations."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConformationDensity:
    """Log-densities of F conformations.

    Attributes:
        ensemble: The conformations, with `log_density`, and `energies` where there are any.
        index: Place (F,) of each in the source.
        integration_error: Expected error (F,) of the integration, in nats; see `density.flow.FlowDensity`.
        trace_error: Standard error (F,) of Hutchinson's estimate, in nats; 0 for the exact trace.
        u: Reduced energies E/kT (F,), or None.
        energy_name: What the energies are of; empty if there are none.
        temperature: Temperature in K of the model and of u; None where the model has none.
        trace: `exact` or `hutchinson`.
        degrees: Dimension of the space that the density is on.
        sigma_min: Smallest noise in Å, at which the density is taken.
        notes: What a reader must know, in words.
        provenance: What was computed and how: model, hash of its weights, trace, steps, seed, cost.
    """

    ensemble: MoleculeEnsemble
    index: np.ndarray
    integration_error: np.ndarray
    trace_error: np.ndarray
    u: np.ndarray | None
    energy_name: str
    temperature: float | None
    trace: Literal["exact", "hutchinson"]
    degrees: int
    sigma_min: float
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def log_density(self) -> np.ndarray:
        """Log-densities (F,) in nats, float64."""
        assert self.ensemble.log_density is not None  # filled in by `log_density`
        return self.ensemble.log_density

    @property
    def measure(self) -> str:
        """What the density is of, and with respect to what."""
        return (
            f"density of the model at sigma_min = {self.sigma_min:g} Å with respect to the Lebesgue measure on the mean-free space of positions "
            f"in Å ({self.degrees} dimensions, orientations included); natural logarithm"
        )

    def calibration(self, *, resamples: int = 1000, seed: int = 0) -> Calibration | None:
        """Compares the log-densities with -u; None without energies, or with fewer than three conformations that differ.

        Arguments:
            resamples: Resamples of the bootstrap for the slope's error.
            seed: Its seed.
        """
        if self.u is None or len(self) < 3 or np.ptp(self.u) == 0.0 or np.ptp(self.log_density) == 0.0:
            return None
        from scipy.stats import spearmanr

        x, y = -self.u, self.log_density
        slope = _slopes(x[None], y[None])[0]
        draws = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
        estimate = Estimate.from_resamples(slope, _slopes(x[draws], y[draws]), len(x))
        intercept = float(y.mean() - slope * x.mean())
        return Calibration(estimate, intercept, float(spearmanr(x, y).statistic), float(np.std(y - x, ddof=1)), len(x))

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary that is written to `density.json`."""
        found = self.calibration()
        values = self.log_density
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "log-density of molecule",
            "name": self.ensemble.system.name,
            "measure": self.measure,
            "unit": "nat",
            "conformations": len(self),
            "temperature_k": self.temperature,
            "mean_log_density": float(values.mean()),
            "standard_deviation": float(values.std(ddof=1)) if len(self) > 1 else None,
            "trace": self.trace,
            "integration_error": {"mean": float(self.integration_error.mean()), "largest": float(self.integration_error.max())},
            "trace_error": {"mean": float(self.trace_error.mean()), "largest": float(self.trace_error.max())},
            "energy": self.energy_name or None,
            "calibration": None
            if found is None
            else {
                "slope": found.slope.value,
                "slope_error": found.slope.error if math.isfinite(found.slope.error) else None,
                "spearman": found.spearman,
                "standard_deviation_of_log_density_plus_u": found.spread,
                "intercept": found.intercept,
            },
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Writes `density.csv` (one row for each conformation) and `density.json` to a folder, each whole or not at all, and returns their paths.

        Raises:
            InputError: If the folder cannot be written to.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, expected a folder")
        columns: dict[str, np.ndarray] = {
            "log_density": self.log_density,
            "integration_error": self.integration_error,
            "trace_error": self.trace_error,
        }
        if self.u is not None and self.ensemble.energies is not None:
            columns |= {"energy_ev": self.ensemble.energies, "u": self.u}
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", *columns])
        for i, place in enumerate(self.index):
            rows.writerow([int(place), *(repr(float(values[i])) for values in columns.values())])
        write_text(folder / "density.csv", text.getvalue())
        write_text(folder / "density.json", json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        return [folder / "density.csv", folder / "density.json"]


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the least-squares slopes (resamples,) of y over x (resamples, n); NaN where x does not vary."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((dx * dy).sum(axis=1) / (dx * dx).sum(axis=1))
