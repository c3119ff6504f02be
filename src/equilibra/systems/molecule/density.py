r"""Log-density of given conformations under a model, by the probability flow, and its calibration against an energy.

The density is that of the model at its smallest noise :math:`\sigma_{min}`: of the target convolved with :math:`N(0, \sigma_{min}^2)`, with respect to the
Lebesgue measure on the mean-free space of positions in Å, orientations included. For a perfect model at the energy's temperature
:math:`\ln p = -u - \ln Z`, a straight line of slope 1 over :math:`-u`.

The conformations are treated in blocks that are kept as they are made. The probes of a block depend on (seed, block) alone, so that results
depend neither on the batch size nor on interruptions.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from equilibra.atomic import atomic_path, write_text
from equilibra.density import flow
from equilibra.density.flow import FlowConfig
from equilibra.density.trace import Kind, Trace
from equilibra.errors import InputError
from equilibra.geometry.superposition import centre
from equilibra.run_folder import claim
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.model import Model, domain, load, versions
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.network import FIELD
from equilibra.systems.molecule.runs import Source, join_runs, load_runs
from equilibra.thermo.estimate import Estimate
from equilibra.units import thermal_energy

SCHEMA_VERSION = 1
"""Version of `density.json`."""
BLOCK_SIZE = 16
"""Conformations of a block by default: the unit that is kept when a run is interrupted."""
STEPS = 40
"""Steps of the flow by default."""

_PARTS = ("log_density", "integration_error", "trace_error")
_ENERGY_ROWS = 256


@dataclass(frozen=True)
class DensityProgress:
    """How far a run is: conformations done and wanted, and the seconds that are left if the rest is as fast as this call so far was; None at first."""

    done: float
    wanted: int
    seconds_left: float | None


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
        integration_error: Difference (F,) to half the number of steps, in nats.
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
        assert self.ensemble.log_density is not None  # noqa: S101  # filled in by `log_density`
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


def log_density(
    model: Model | str | Path | None,
    source: Source,
    *,
    energy: str | None = None,
    temperature: float | None = None,
    trace: Kind = "auto",
    probes: int = 16,
    steps: int = STEPS,
    check: Literal["halving", "nodes"] = "halving",
    max_conformations: int | None = None,
    topology: str | Path | None = None,
    seed: int = 0,
    block_size: int = BLOCK_SIZE,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    outside_scope: bool = False,
    progress: Callable[[DensityProgress], None] = lambda state: None,
) -> ConformationDensity:
    """Computes the log-density of conformations under a model.

    Arguments:
        model: A model, or what `load` takes; None for the one that drew the ensemble.
        source: An ensemble, a folder of samples or of a simulation, or a file of frames (`FILE:TOPOLOGY`).
        energy: Name of an energy (`molecule_energy`) to compare with; by default the energies of the ensemble, if it has any.
        temperature: Temperature in K, for a model of several; by default the ensemble's own if the model drew it, else the one that the model is meant for.
        trace: `exact`, `hutchinson`, or `auto`: exact up to 100 degrees of freedom.
        probes: Probes of Hutchinson's estimate.
        steps: Steps of the flow, of fourth order.
        check: Where the integration error comes from: `halving`, a second run of half the steps, or `nodes`, which costs nothing and sees less.
        max_conformations: The largest number of conformations; they are spread evenly over the source.
        topology: PDB or SDF file of a trajectory without atoms.
        seed: Seed of the probes.
        block_size: Conformations of a block; part of the run's identity, as the probes are drawn for a block.
        batch_size: Conformations treated at once, by default a block; lower it if memory is short.
        folder: Run folder; finished blocks are kept in `folder/blocks` and not computed again. None keeps nothing.
        outside_scope: Allow a molecule that the model was not trained for.
        progress: Called as work is done.

    Raises:
        InputError: If a number is out of range, the source cannot be read or holds conformations that are not finite, the model was not trained
            for the molecule or the temperature, or the energy is unknown or not finite.
        CheckpointError: If the folder holds another run.
        DivergenceError: If a log-density is not finite.
    """
    for name, value in (("max_conformations", max_conformations), ("block_size", block_size), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name}: got {value}, expected at least 1")
    config = FlowConfig(steps=steps, check=check, batch_size=batch_size)
    rule = Trace(kind=trace, probes=probes)
    everything = join_runs(load_runs(source, topology))
    loaded = _model(model, everything)
    if not outside_scope:
        domain(loaded.domain).check_scope(everything.system, loaded.scope, loaded.name)
    index = _chosen(len(everything), max_conformations)
    positions = everything.positions[index]
    if not np.isfinite(positions).all():
        bad = int(index[np.argmin(np.isfinite(positions).all(axis=(1, 2)))])
        raise InputError(f"{everything.system.name}: conformation {bad} has coordinates that are not finite; leave it out")
    drawn_by_it = everything.provenance.get("weights") == loaded.sha256 and bool(loaded.sha256)
    wanted = everything.provenance.get("temperature_k") if temperature is None and drawn_by_it and loaded.scope.temperatures else temperature
    bound = loaded.bind(everything.system, temperature=wanted)
    kelvin = loaded.scope.temperature if wanted is None else float(wanted)
    energies, energy_name = _energies(everything, index, energy)
    x = centre(torch.from_numpy(np.array(positions, dtype=np.float32)))
    degrees = int(loaded.process.degrees(State({FIELD: x[:1]})).max())
    kind: Literal["exact", "hutchinson"] = "exact" if rule.exact(torch.tensor([degrees])) else "hutchinson"
    identity = {
        "kind": "log-density of molecule",
        "model": loaded.name,
        "weights": loaded.sha256,
        "system": everything.system.digest,
        "conformations": hashlib.sha256(np.ascontiguousarray(positions).tobytes()).hexdigest(),
        "temperature_k": kelvin,
        "trace": kind,
        "probes": probes if kind == "hutchinson" else None,
        "steps": steps,
        "check": check,
        "seed": seed,
        "block_size": block_size,
    }
    if folder is not None:
        claim(Path(folder), identity)
    run = _Run(bound, x, config, replace(rule, kind=kind), seed, block_size, None if folder is None else Path(folder) / "blocks")
    values = run.all_blocks(progress)
    ensemble = MoleculeEnsemble(
        system=everything.system,
        positions=positions,
        log_weights=everything.log_weights[index],
        energies=energies,
        log_density=values["log_density"],
        provenance=everything.provenance,
    )
    return ConformationDensity(
        ensemble=ensemble,
        index=index,
        integration_error=values["integration_error"],
        trace_error=values["trace_error"],
        u=None if energies is None or kelvin is None else energies / thermal_energy(kelvin),
        energy_name=energy_name,
        temperature=kelvin,
        trace=kind,
        degrees=degrees,
        sigma_min=float(loaded.process.fields[FIELD].schedule.sigma(torch.tensor(loaded.process.t_min, dtype=torch.float64))),
        notes=_notes(positions, energies, kelvin, everything, drawn_by_it),
        provenance={
            **identity,
            "network_calls": run.network_calls,
            "source": {key: everything.provenance[key] for key in ("model", "seed", "simulation", "files") if key in everything.provenance},
            "versions": versions(),
            "timing": {"seconds": round(run.seconds, 3), "conformations": run.computed, "threads": torch.get_num_threads()},
        },
    )


class _Run:
    """The blocks of a run; those on disk are read, the others computed and kept."""

    def __init__(
        self, bound: Any, x: torch.Tensor, config: FlowConfig, trace: Trace, seed: int, block_size: int, folder: Path | None
    ) -> None:
        self.bound, self.x, self.config, self.trace = bound, x, config, trace
        self.seed, self.block_size, self.folder = seed, block_size, folder
        self.seconds, self.computed, self.network_calls = 0.0, 0, None  # type: float, int, int | None

    def all_blocks(self, progress: Callable[[DensityProgress], None]) -> dict[str, np.ndarray]:
        count = len(self.x)
        parts: list[dict[str, np.ndarray]] = []
        for number, start in enumerate(range(0, count, self.block_size)):
            rows = self.x[start : start + self.block_size]
            path = None if self.folder is None else self.folder / f"block-{number:05d}.npz"
            part = None if path is None else _read(path, len(rows))
            if part is None:
                part = self._compute(rows, number, start, progress)
                if path is not None:
                    with atomic_path(path) as temporary, temporary.open("wb") as file:
                        np.savez(file, **part)  # type: ignore[arg-type]
            parts.append(part)
            self.network_calls = int(part["network_calls"])
            done = start + len(rows)
            progress(DensityProgress(done, count, self._left(self.seconds, self.computed, count - done)))
        return {name: np.concatenate([part[name] for part in parts]) for name in _PARTS}

    def _compute(
        self, rows: torch.Tensor, number: int, start: int, progress: Callable[[DensityProgress], None]
    ) -> dict[str, np.ndarray]:
        began = time.perf_counter()

        def report(share: float) -> None:
            here = share * len(rows)
            spent = self.seconds + time.perf_counter() - began
            left = self._left(spent, self.computed + here, len(self.x) - start - here)
            progress(DensityProgress(start + here, len(self.x), left))

        progress(DensityProgress(start, len(self.x), self._left(self.seconds, self.computed, len(self.x) - start)))
        found = flow.log_density(
            self.bound,
            State({FIELD: rows}),
            generator=generator_for(self.seed, number),
            config=self.config,
            trace=self.trace,
            progress=report,
        )
        self.seconds += time.perf_counter() - began
        self.computed += len(rows)
        values = {name: getattr(found, name).cpu().numpy() for name in _PARTS}
        return {**values, "network_calls": np.array(found.network_calls)}

    @staticmethod
    def _left(seconds: float, done: float, missing: float) -> float | None:
        return seconds / done * missing if done > 0 else None


def _read(path: Path, rows: int) -> dict[str, np.ndarray] | None:
    """Reads a block; a damaged file counts as missing, since it can be made again."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            part = {name: arrays[name] for name in (*_PARTS, "network_calls")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
    return part if all(part[name].shape == (rows,) for name in _PARTS) else None


def _model(model: Model | str | Path | None, ensemble: MoleculeEnsemble) -> Model:
    if isinstance(model, Model):
        return model
    if model is not None:
        return load(model)
    name = ensemble.provenance.get("model")
    if name is None:
        raise InputError("model: the conformations do not say which model drew them; name one")
    try:
        found = load(str(name))
    except InputError as error:
        raise InputError(f"model: the conformations were drawn by '{name}', which is not among the shipped ones; give its folder") from error
    if ensemble.provenance.get("weights", found.sha256) != found.sha256:
        raise InputError(f"model: the conformations were drawn by other weights of '{name}' than the ones here; name the model, or give its folder")
    return found


def _chosen(count: int, most: int | None) -> np.ndarray:
    if count == 0:
        raise InputError("log-density: there is no conformation")
    return np.arange(count) if most is None or most >= count else np.linspace(0, count - 1, most).round().astype(np.int64)


def _energies(ensemble: MoleculeEnsemble, index: np.ndarray, name: str | None) -> tuple[np.ndarray | None, str]:
    """Returns the energies in eV of chosen conformations, and what they are of."""
    if name is None:
        if ensemble.energies is None or not np.isfinite(ensemble.energies[index]).all():
            return None, ""
        known = ensemble.provenance.get("energy") or ensemble.provenance.get("force_field")
        return ensemble.energies[index], str(known) if known else "energies of the ensemble"
    from equilibra.systems.molecule.energy import molecule_energy

    function = molecule_energy(ensemble.system, name)
    x = torch.from_numpy(np.array(ensemble.positions[index], dtype=np.float64))
    with torch.no_grad():
        values = torch.cat([function.energy(part).double() for part in x.split(_ENERGY_ROWS)]).cpu().numpy()
    if values.shape != index.shape or not np.isfinite(values).all():
        bad = int(index[np.argmin(np.isfinite(values))]) if values.shape == index.shape else 0
        raise InputError(f"energy '{name}': conformation {bad} has no finite energy; check for atoms on top of each other")
    return values, name


def _notes(
    positions: np.ndarray, energies: np.ndarray | None, kelvin: float | None, ensemble: MoleculeEnsemble, drawn_by_it: bool
) -> tuple[str, ...]:
    notes = []
    grid = 100.0 * positions.astype(np.float64)
    if float(np.abs(grid - grid.round()).max()) < 0.01:
        notes.append(
            "The coordinates are rounded to 0.01 Å, as XTC files round them. ln p and u of rounded coordinates each move by about 1 kT, mostly together; "
            "draw with `--format npz` to keep all digits."
        )
    known = ensemble.provenance.get("temperature_k")
    if energies is not None and kelvin is None:
        notes.append("The temperature is not known, so the energies are not compared with the density.")
    if known is not None and kelvin is not None and abs(float(known) - kelvin) > 0.01:
        notes.append(f"The conformations are of {float(known):g} K, the density of {kelvin:g} K.")
    if not drawn_by_it and "model" in ensemble.provenance:
        notes.append(f"The conformations were drawn by another model, '{ensemble.provenance['model']}'.")
    return tuple(notes)


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the least-squares slopes (resamples,) of y over x (resamples, n); NaN where x does not vary."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((dx * dy).sum(axis=1) / (dx * dx).sum(axis=1))
