"""The evaluation of an ensemble: every metric that applies to its molecule, beside its noise floor and a baseline.

Nothing is filtered. Value, floor and baseline of a row use the same number N of samples: the smallest of what was asked, what the
ensemble has, and what either side of a split of the reference has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.baseline import cartesian_gaussian, wrapped_gaussian
from equilibra.analysis.comparison import Comparison, Molecule, check_comparable
from equilibra.analysis.floor import draw_pair, largest_draw, split_kind
from equilibra.analysis.measures import Measure, coordinate_measures, torsion_measures
from equilibra.analysis.samples import FloatArray, IntArray
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.errors import ConfigError, InputError
from equilibra.thermo.statistics import clopper_pearson, contiguous_blocks, resample_blocks


def evaluate(
    ensemble: Any,
    reference: Sequence[Any],
    *,
    rng: np.random.Generator,
    n: int = 10_000,
    transport_n: int = 2000,
    rmsd_n: int = 250,
    lag: int | None = 10,
    repeats: int = 10,
    block: int = 1,
    log_weights: ArrayLike | None = None,
    bonds: ArrayLike | None = None,
    centres: ArrayLike | None = None,
    signs: ArrayLike | None = None,
    states: Sequence[str] = ("phi>0", "alpha-R", "beta"),
) -> EvaluationTable:
    """Measures an ensemble against a reference.

    Peptides are compared by φ, ψ, ω and χ; molecules without φ and ψ by the torsions about their rotatable bonds. Torsional rows have a
    wrapped Gaussian of the reference's torsions as baseline, rows of coordinates a Gaussian of its superposed coordinates.

    Arguments:
        ensemble: An mdtraj `Trajectory` of independent conformations (or a time series, see `block`).
        reference: Independent runs of the reference as mdtraj `Trajectory` objects, each in order of time; one run is split into halves.
        rng: The only source of randomness.
        n: The largest number of samples on each side for histograms and geometry.
        transport_n: The same for exact optimal transport, whose cost grows with its square and more.
        rmsd_n: The same for the matrix of RMSDs.
        lag: The lag of the TICA in frames of the reference; None leaves TICA-W2 out, e.g. for a reference that is no time series.
        repeats: The number of resamples of the ensemble for each error and of pairs of draws for each floor.
        block: The length in frames of the ensemble's blocks for the errors; 1 for independent samples.
        log_weights: The log-weights of the ensemble, with shape (frames); its frames are then drawn by weight, with replacement.
        bonds: The bonded pairs, with shape (bonds, 2); by default those of the ensemble's topology, or standard residues' bonds.
        centres: Tetrahedral centres as in `stereo`, with shape (centres, 4); by default found in the molecular graph.
        signs: Their expected signs, with shape (centres); by default those of most frames of the reference.
        states: The basins whose populations are compared, see `ramachandran.STATES`.

    Raises:
        InputError: If ensemble and reference are different molecules, have no frames, hold NaN or infinity, no bonds are known, the
            reference is too short, or a number is out of range.
    """
    for name, number in {
        "n": n,
        "transport_n": transport_n,
        "rmsd_n": rmsd_n,
        "repeats - 1": repeats - 1,
        "block": block,
    }.items():
        if number < 1:
            raise ConfigError(f"evaluate: got {name} = {number}, expected at least 1")
    check_comparable(ensemble, reference)
    molecule = Molecule.of(ensemble.topology, bonds=bonds)
    comparison = Comparison.of(ensemble, reference, molecule)
    lengths = comparison.lengths
    if min(largest_draw(lengths), ensemble.n_frames) < 2:
        raise InputError(
            f"evaluate: the ensemble has {ensemble.n_frames} frames and the reference runs of {lengths}; "
            "at least 2 frames of the ensemble and on each side of a split of the reference are needed"
        )
    draw = _EnsembleDraw(ensemble.n_frames, block, log_weights, rng)
    sizes = {"histogram": n, "transport": transport_n, "rmsd": rmsd_n}
    measures = [
        *torsion_measures(comparison, lag=lag, states=states),
        *coordinate_measures(comparison, centres=centres, signs=signs),
    ]
    rows: list[EvaluationRow] = []
    for measure in measures:
        size = min(sizes[measure.cost], ensemble.n_frames, largest_draw(lengths))
        rows += _rows(measure, comparison, draw, size, repeats, block, rng)
    return EvaluationTable(
        rows=tuple(rows),
        molecule=molecule.description,
        ensemble_frames=ensemble.n_frames,
        reference_frames=tuple(lengths),
        split=split_kind(len(lengths)),
    )


class _EnsembleDraw:
    """Draws frames of the ensemble: without replacement, or by weight; and resamples them in blocks for the errors."""

    def __init__(self, frames: int, block: int, log_weights: ArrayLike | None, rng: np.random.Generator) -> None:
        self.frames, self.rng = frames, rng
        self.blocks = contiguous_blocks([frames], block)
        self.weights: FloatArray | None = None
        if log_weights is not None:
            logs = np.asarray(log_weights, dtype=np.float64)
            if logs.shape != (frames,) or np.isnan(logs).any() or not np.isfinite(logs.max()):
                raise InputError(
                    f"log_weights: got shape {logs.shape}, expected {frames} numbers, none NaN and not all minus infinity"
                )
            self.weights = np.exp(logs - logs.max())

    def sample(self, size: int) -> IntArray:
        """Returns the indices of `size` frames."""
        return self._choose(np.arange(self.frames), size, replace=False)

    def resample(self, size: int) -> IntArray:
        """Returns the indices of `size` frames of a bootstrapped ensemble."""
        return self._choose(resample_blocks(self.blocks, self.rng), size, replace=size > self.frames)

    def _choose(self, pool: IntArray, size: int, *, replace: bool) -> IntArray:
        if self.weights is None:
            # a bootstrapped pool of blocks may be a little shorter than the ensemble
            return self.rng.choice(pool, size=size, replace=replace or size > len(pool))
        weights = self.weights[pool]
        if weights.sum() <= 0:
            return self._choose(np.arange(self.frames), size, replace=True)
        return self.rng.choice(pool, size=size, p=weights / weights.sum())


def _rows(
    measure: Measure, comparison: Comparison, draw: _EnsembleDraw, size: int, repeats: int, block: int, rng: np.random.Generator
) -> list[EvaluationRow]:
    ours, theirs = comparison.ensemble[measure.feature], comparison.reference[measure.feature]
    target = theirs[rng.choice(len(theirs), size=size, replace=False)]
    gaussian = cartesian_gaussian if measure.feature == "positions" else wrapped_gaussian
    # so many frames fix the baseline's mean and covariance well enough
    moments = theirs[rng.choice(len(theirs), size=min(len(theirs), 2000), replace=False)]
    baseline = gaussian(moments, size, rng)
    pairs = [draw_pair(comparison.lengths, size, rng) for _ in range(repeats)]
    if measure.kind == "observable":
        observe = measure.compute
        value, reference = observe(ours[draw.sample(size)]), observe(theirs)
        resampled = np.stack([observe(ours[draw.resample(size)]) for _ in range(repeats)])
        floors = np.stack([np.abs(observe(theirs[i]) - observe(theirs[j])) for i, j in pairs])
        base = observe(baseline)
    else:
        value, reference = measure.compute(ours[draw.sample(size)], target), np.full(len(measure.names), np.nan)
        resampled = np.stack([measure.compute(ours[draw.resample(size)], target) for _ in range(repeats)])
        floors = np.stack([measure.compute(theirs[i], theirs[j]) for i, j in pairs])
        base = measure.compute(baseline, target)
    words = "wrapped Gaussian of the reference's torsions"
    if measure.feature == "positions":
        words = "Gaussian of the reference's superposed coordinates"
    return [
        EvaluationRow(
            metric=name,
            value=float(value[k]),
            error=_error(measure, float(value[k]), resampled[:, k], size // block),
            floor=float(floors[:, k].mean()),
            floor_std=float(floors[:, k].std(ddof=1)),
            baseline=float(base[k]),
            n=size,
            unit=measure.units[k],
            definition=f"{measure.definitions[k]}; baseline: {words}",
            reference=float(reference[k]),
            reference_error=float("nan") if measure.reference_errors is None else float(measure.reference_errors[k]),
        )
        for k, name in enumerate(measure.names)
    ]


def _error(measure: Measure, value: float, resampled: FloatArray, trials: int) -> float:
    """The spread over resamples; a share of 0 or 1 has none, but is uncertain by what so many trials could have missed."""
    if measure.kind == "observable" and value in (0.0, 1.0):
        low, high = clopper_pearson(value * max(trials, 1), max(trials, 1), confidence=0.6827)
        return max(value - low, high - value)
    return float(resampled.std(ddof=1))
