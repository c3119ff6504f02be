"""The evaluation of a sampler of identical particles: W2 of energies, pair distances and arrangements beside their floors and a baseline.

Nothing is filtered, and no energy is capped. The baseline is the isotropic Gaussian with the reference's moments. Floors compare disjoint
parts of the reference: different runs, or the halves of a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.baseline import isotropic_gaussian
from equilibra.analysis.floor import Floor, draw_pair, floor, largest_draw, split_kind
from equilibra.analysis.particle_w2 import energy_w2, pair_distances
from equilibra.analysis.samples import FloatArray, IntArray, check_runs, check_samples, subsample
from equilibra.analysis.symmetry_distance import Method, squared_distances
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.analysis.transport import exact_transport, w2_1d
from equilibra.errors import ConfigError, InputError, ShapeError

ReducedEnergies = Callable[[FloatArray], ArrayLike]
"""Reduced energies (n,) of positions (n, items, axes)."""

Prepared = Callable[[IntArray], float]
"""A distance of two fixed samples as a function of the rows taken from the first: resampling costs no new pair distances."""


@dataclass(frozen=True, kw_only=True)
class ParticleMetric:
    """One distance between two samples of positions."""

    name: str
    """The name of its row."""
    unit: str
    """The unit."""
    definition: str
    """What is computed, exactly."""
    prepare: Callable[[FloatArray, FloatArray], Prepared]
    """Takes both samples; see `Prepared`."""
    n: int
    """The largest number of samples on each side."""
    floor_repeats: int
    """The number of pairs of draws for the floor."""

    def __call__(self, a: FloatArray, b: FloatArray) -> float:
        """Returns the distance."""
        return self.prepare(a, b)(np.arange(len(a)))


def particle_metrics(
    energy: ReducedEnergies,
    *,
    method: Method = "hungarian-kabsch",
    n: int = 2000,
    geometric_n: int = 2000,
    floor_repeats: int = 10,
    geometric_repeats: int = 3,
) -> tuple[ParticleMetric, ...]:
    """Returns energy-W2, distance-W2 and geometric W2.

    Arguments:
        energy: The reduced energy; never capped.
        method: How arrangements are compared, see `squared_distances`.
        n: The largest number of samples on each side.
        geometric_n: The same for the geometric W2, whose cost grows with its square and more.
        floor_repeats: The number of pairs of draws for each floor.
        geometric_repeats: The same for the geometric W2.

    Raises:
        ConfigError: If a number is out of range.
    """
    numbers = {"n": n, "geometric_n": geometric_n, "floor_repeats": floor_repeats, "geometric_repeats": geometric_repeats}
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"particle metrics: got {name} = {number}, expected at least 1")

    def energies(a: FloatArray, b: FloatArray) -> Prepared:
        first, second = (_energies(energy, x) for x in (a, b))
        return lambda rows: energy_w2(first[rows], second)

    def distances(a: FloatArray, b: FloatArray) -> Prepared:
        first, second = pair_distances(a), pair_distances(b).ravel()
        return lambda rows: w2_1d(first[rows].ravel(), second)

    def arrangements(a: FloatArray, b: FloatArray) -> Prepared:
        cost = squared_distances(a, b, method=method)
        return lambda rows: float(np.sqrt(exact_transport(cost[rows])))

    how = {
        "exact": "all permutations, O(d) in closed form",
        "hungarian-kabsch": "Hungarian on unaligned coordinates, then Kabsch in O(d), one pass",
    }
    return (
        ParticleMetric(
            name="energy W2",
            unit="kT",
            definition="W2 of reduced energies, root taken",
            prepare=energies,
            n=n,
            floor_repeats=floor_repeats,
        ),
        ParticleMetric(
            name="distance W2",
            unit="length",
            definition="W2 of all pooled pair distances, root taken",
            prepare=distances,
            n=n,
            floor_repeats=floor_repeats,
        ),
        ParticleMetric(
            name="geometric W2",
            unit="length",
            definition=f"W2 of arrangements, cost min |x - R P y|^2 over all coordinates ({how[method]}), exact transport, root taken",
            prepare=arrangements,
            n=geometric_n,
            floor_repeats=geometric_repeats,
        ),
    )


def particle_floors(
    reference: Sequence[ArrayLike], metrics: Sequence[ParticleMetric], rng: np.random.Generator
) -> dict[str, Floor]:
    """Returns the floor of each metric: its value between two independent parts of the reference, at the N of the metric.

    Arguments:
        reference: Independent runs of positions (frames, items, axes); one run is split into halves. N is lowered to what either side holds.
        metrics: As from `particle_metrics`.
        rng: The only source of randomness.

    Raises:
        InputError: If the runs are empty, not finite or too short.
    """
    runs = check_runs("reference", reference)
    most = _largest(runs)
    return {m.name: floor(m, runs, min(m.n, most), rng, m.floor_repeats) for m in metrics}


def evaluate_particles(
    samples: ArrayLike,
    reference: Sequence[ArrayLike],
    energy: ReducedEnergies,
    *,
    name: str,
    rng: np.random.Generator,
    metrics: Sequence[ParticleMetric] | None = None,
    resamples: int = 20,
) -> EvaluationTable:
    """Measures samples of identical particles against a reference: every distance with its error, floor and baseline, and the mean energy.

    Errors are by bootstrap over the samples at fixed reference samples; the spread over training seeds is not in them.

    Arguments:
        samples: Independent positions with shape (samples, items, axes), unfiltered.
        reference: Independent runs of the reference with shape (frames, items, axes); one run is split into halves.
        energy: The reduced energy.
        name: What the system is called.
        rng: The only source of randomness.
        metrics: The distances; those of `particle_metrics` by default.
        resamples: The number of resamples for each error, at least two.

    Raises:
        ShapeError: If samples and reference have different particles, or the energy returns another shape.
        InputError: If positions are empty or not finite, or the reference is too short.
        ConfigError: If `resamples` is below two.
    """
    if resamples < 2:
        raise ConfigError(f"evaluate particles: got resamples = {resamples}, expected at least 2")
    ours, runs = check_samples("samples", samples, ndim=3), check_runs("reference", reference)
    if ours.shape[1:] != runs[0].shape[1:]:
        raise ShapeError("samples", ours.shape, f"(samples, {', '.join(map(str, runs[0].shape[1:]))}), as in the reference")
    joined, lengths = np.concatenate(runs), [len(run) for run in runs]
    chosen = [replace(m, n=min(m.n, len(ours))) for m in (particle_metrics(energy) if metrics is None else metrics)]
    floors = particle_floors(runs, chosen, rng)
    rows = [_row(metric, floors[metric.name], ours, joined, rng, resamples) for metric in chosen]
    rows.append(_mean_energy(energy, ours, joined, lengths, rng))
    items, axes = ours.shape[1:]
    return EvaluationTable(
        rows=tuple(rows),
        molecule=f"{name}, {items} particles in {axes} dimensions",
        ensemble_frames=len(ours),
        reference_frames=tuple(lengths),
        split=split_kind(len(runs)),
    )


def _row(
    metric: ParticleMetric, noise: Floor, ours: FloatArray, theirs: FloatArray, rng: np.random.Generator, resamples: int
) -> EvaluationRow:
    n = noise.n
    target = subsample(theirs, n, rng)
    distance = metric.prepare(subsample(ours, n, rng), target)
    resampled = np.asarray([distance(rng.integers(n, size=n)) for _ in range(resamples)])
    return EvaluationRow(
        metric=metric.name,
        value=distance(np.arange(n)),
        error=_spread(resampled),
        floor=noise.mean,
        floor_std=noise.std,
        baseline=metric(isotropic_gaussian(theirs, n, rng), target),
        n=n,
        unit=metric.unit,
        definition=f"{metric.definition}; baseline: isotropic Gaussian with the reference's moments",
    )


def _mean_energy(
    energy: ReducedEnergies, ours: FloatArray, theirs: FloatArray, lengths: Sequence[int], rng: np.random.Generator
) -> EvaluationRow:
    u, u_reference = _energies(energy, ours), _energies(energy, theirs)
    n = min(len(u), largest_draw(lengths))
    gaps = [abs(u_reference[i].mean() - u_reference[j].mean()) for i, j in (draw_pair(lengths, n, rng) for _ in range(20))]
    return EvaluationRow(
        metric="mean energy",
        value=float(u.mean()),
        error=_spread(u) / np.sqrt(len(u)),
        floor=float(np.mean(gaps)),
        floor_std=_spread(np.asarray(gaps)),
        baseline=float(_energies(energy, isotropic_gaussian(theirs, len(theirs), rng)).mean()),
        n=len(u),
        unit="kT",
        definition=f"mean reduced energy of all samples; baseline: isotropic Gaussian with the reference's moments; floor at N = {n}",
        reference=float(u_reference.mean()),
        reference_error=_spread(u_reference) / np.sqrt(len(u_reference)),
    )


def _energies(energy: ReducedEnergies, x: FloatArray) -> FloatArray:
    u = np.asarray(energy(x), dtype=np.float64)
    if u.shape != (len(x),):
        raise ShapeError("energies", u.shape, f"one per conformation, ({len(x)},)")
    return u


def _spread(values: FloatArray) -> float:
    """The standard deviation; NaN if a value is infinite or there is only one."""
    return float(values.std(ddof=1)) if len(values) > 1 and np.isfinite(values).all() else float("nan")


def _largest(runs: Sequence[FloatArray]) -> int:
    most = largest_draw([len(run) for run in runs])
    if most < 2:
        raise InputError(
            f"reference: runs of {tuple(map(len, runs))} frames leave {most} on one side of a split; at least 2 are needed"
        )
    return most
