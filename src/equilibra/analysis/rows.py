"""The rows of an evaluation: how a measure becomes a value with its error, noise floor and baseline, all at the same N."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.analysis.floor import draw_pair
from equilibra.analysis.measures import Measure
from equilibra.analysis.samples import FloatArray, IntArray
from equilibra.analysis.table import EvaluationRow
from equilibra.errors import InputError
from equilibra.thermo.statistics import clopper_pearson, contiguous_blocks, resample_blocks

Baseline = Callable[[NDArray[Any], int, np.random.Generator], FloatArray]
"""Draws so many samples of a baseline fitted to frames of the reference."""


class EnsembleDraw:
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


def measure_rows(
    measure: Measure,
    ours: NDArray[Any],
    theirs: NDArray[Any],
    lengths: Sequence[int],
    draw: EnsembleDraw,
    size: int,
    *,
    repeats: int,
    block: int,
    baseline: Baseline,
    baseline_words: str,
    rng: np.random.Generator,
) -> list[EvaluationRow]:
    """Computes the rows of one measure: values, errors by bootstrap, floors between independent parts of the reference, baseline.

    Arguments:
        measure: What is computed.
        ours: The measure's feature of the ensemble, the first axis counts frames.
        theirs: The same of the joined runs of the reference.
        lengths: The number of frames of each run of the reference.
        draw: Draws and resamples frames of the ensemble.
        size: The number N of samples on each side.
        repeats: The number of resamples for the error and of pairs of draws for the floor.
        block: The length in frames of the ensemble's blocks.
        baseline: Draws N samples of the baseline from frames of the reference.
        baseline_words: What the baseline is called.
        rng: The only source of randomness.
    """
    target = theirs[rng.choice(len(theirs), size=size, replace=False)]
    # so many frames fix the baseline's mean and covariance well enough
    moments = theirs[rng.choice(len(theirs), size=min(len(theirs), 2000), replace=False)]
    gaussian = baseline(moments, size, rng)
    pairs = [draw_pair(lengths, size, rng) for _ in range(repeats)]
    if measure.kind == "observable":
        observe = measure.compute
        value, reference = observe(ours[draw.sample(size)]), observe(theirs)
        resampled = np.stack([observe(ours[draw.resample(size)]) for _ in range(repeats)])
        floors = np.stack([np.abs(observe(theirs[i]) - observe(theirs[j])) for i, j in pairs])
        base = observe(gaussian)
    else:
        value, reference = measure.compute(ours[draw.sample(size)], target), np.full(len(measure.names), np.nan)
        resampled = np.stack([measure.compute(ours[draw.resample(size)], target) for _ in range(repeats)])
        floors = np.stack([measure.compute(theirs[i], theirs[j]) for i, j in pairs])
        base = measure.compute(gaussian, target)
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
            definition=f"{measure.definitions[k]}; baseline: {baseline_words}",
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
