"""The evaluation of adsorbed structures: which sites they occupy and where they are in the plane, each number beside its noise floor and a baseline.

The floor compares two disjoint parts of the reference; where its structures are relatives, such as those of one Markov chain, families of them go to one part or the other, and errors are over
families as well. The baseline are positions uniform in the cell: an ideal gas in two dimensions, whose sites are the nearest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from equilibra.analysis.histogram import jensen_shannon, total_variation
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.errors import ConfigError, InputError
from equilibra.thermo.statistics import first_of_families, random_halves, resampled_frames

SEEN = 0.01
"""Sites with at least this share of the reference count for recall."""

_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Adsorbed:
    """What is compared of an ensemble.

    Attributes:
        sites: The site (frames,) of each structure, as texts.
        plane: Fractional coordinates (frames, atoms, 2) of the mobile atoms in the plane.
        weights: Normalised weights (frames,).
        families: Indices of the structures that are relatives of each other, or None where all are independent.
    """

    sites: np.ndarray
    plane: np.ndarray
    weights: np.ndarray
    families: Sequence[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.sites)

    def rows(self, index: np.ndarray) -> Adsorbed:
        """Returns some of the structures, their weights normalised, whatever families they are of."""
        weights = self.weights[index]
        return Adsorbed(self.sites[index], self.plane[index], weights / weights.sum())

    def first(self, size: int) -> Adsorbed:
        """Returns the first structures, their weights normalised."""
        kept = self.rows(np.arange(min(size, len(self))))
        return dataclasses.replace(kept, families=first_of_families(self.families, size))

    def again(self, rng: np.random.Generator) -> Adsorbed:
        """Returns a bootstrap resample: of structures, or of whole families."""
        return self.rows(resampled_frames(len(self), self.families if self._several else None, rng))

    def parts(self, size: int, rng: np.random.Generator) -> tuple[Adsorbed, Adsorbed]:
        """Returns two disjoint random parts, the first of `size` structures: of families the first half of those and the rest, of one family its beginning and its end."""
        one, two = random_halves(len(self), self.families, rng)
        if self._several:
            return self.rows(rng.permutation(one)[:size]), self.rows(two)
        order = np.concatenate([one, two])
        return self.rows(order[:size]), self.rows(order[size:])

    @property
    def _several(self) -> bool:
        return self.families is not None and len(self.families) > 1

    def populations(self, labels: Sequence[str]) -> np.ndarray:
        """Returns the populations of sites."""
        return np.array([float(self.weights[self.sites == label].sum()) for label in labels])

    def histogram(self, bins: tuple[int, int]) -> np.ndarray:
        """Returns the share of the atoms in each cell of the plane."""
        frac = self.plane - np.floor(self.plane)
        weights = np.repeat(self.weights, frac.shape[1])
        counts, _, _ = np.histogram2d(
            frac[..., 0].ravel(), frac[..., 1].ravel(), bins=bins, range=((0.0, 1.0), (0.0, 1.0)), weights=weights
        )
        return np.asarray(counts / counts.sum())


def evaluate_adsorbates(
    samples: Adsorbed,
    reference: Adsorbed,
    gas: Adsorbed,
    *,
    bins: tuple[int, int],
    name: str,
    rng: np.random.Generator,
    valid: tuple[int, int] | None = None,
    n: int = 1000,
    repeats: int = 10,
) -> EvaluationTable:
    """Measures adsorbed structures against a reference.

    Arguments:
        samples: The samples.
        reference: The reference, at equilibrium.
        gas: Positions uniform in the cell, with the nearest sites: the baseline.
        bins: Cells of the map in the plane.
        name: What was compared.
        rng: The only source of randomness.
        valid: Number of valid samples and of all that were drawn.
        n: The largest number of structures on each side.
        repeats: Resamples for errors and floors.

    Raises:
        InputError: If there are fewer than two samples or four structures of the reference.
        ConfigError: If a number is out of range.
    """
    if n < 2 or repeats < 2:
        raise ConfigError(f"evaluate adsorbates: got n {n} and {repeats} repeats, expected at least 2 of each")
    if len(samples) < 2 or len(reference) < 4:
        raise InputError(
            f"evaluate adsorbates: got {len(samples)} samples and {len(reference)} structures of the reference, expected at least 2 and 4"
        )
    size = min(n, len(samples), len(reference) // 2)
    samples = samples.first(size)
    labels = sorted({*samples.sites.tolist(), *reference.sites.tolist()})

    def sites(a: Adsorbed, b: Adsorbed) -> float:
        return total_variation(a.populations(labels), b.populations(labels))

    def divergence(a: Adsorbed, b: Adsorbed) -> float:
        return jensen_shannon(a.histogram(bins), b.histogram(bins))

    def likeness(a: Adsorbed, b: Adsorbed) -> float:
        return float(np.corrcoef(a.histogram(bins).ravel(), b.histogram(bins).ravel())[0, 1])

    def recall(a: Adsorbed, b: Adsorbed) -> float:
        known = [label for label, share in zip(labels, b.populations(labels), strict=True) if share >= SEEN]
        return float(np.mean([label in set(a.sites.tolist()) for label in known])) if known else _NAN

    def precision(a: Adsorbed, b: Adsorbed) -> float:
        return float(a.weights[np.isin(a.sites, np.unique(b.sites))].sum())

    grid = f"{bins[0]} x {bins[1]} cells of the plane"
    uniform = "Baseline: uniform in the cell."
    metrics: list[tuple[str, Callable[[Adsorbed, Adsorbed], float], str, str]] = [
        ("TV(sites)", sites, "1", f"total variation of the weighted populations of sites. {uniform}"),
        (
            "site recall",
            recall,
            "1",
            f"share of the sites with at least {SEEN:.0%} of the reference that samples occupy. {uniform}",
        ),
        ("site precision", precision, "1", f"weight of samples at sites that the reference occupies. {uniform}"),
        ("JS(map)", divergence, "bit", f"Jensen-Shannon divergence of the weighted maps over {grid}. {uniform}"),
        ("correlation(map)", likeness, "1", f"Pearson's correlation of the weighted maps over {grid}. {uniform}"),
    ]
    rows = []
    if valid is not None:
        good, drawn = valid
        rows.append(
            _row(
                "valid", good / max(drawn, 1), _NAN, _NAN, _NAN, _NAN, drawn, "1", "share of drawn samples that pass the checks"
            )
        )
    for metric, function, unit, words in metrics:
        value = function(samples, reference)
        again = [function(samples.again(rng), reference) for _ in range(repeats)]
        halves = [function(*reference.parts(size, rng)) for _ in range(repeats)]
        base = function(gas.rows(rng.permutation(len(gas))[:size]), reference)
        rows.append(_row(metric, value, _std(again), _mean(halves), _std(halves), base, size, unit, words))
    return EvaluationTable(
        rows=tuple(rows), molecule=name, ensemble_frames=len(samples), reference_frames=(len(reference),), split="halves"
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if all(math.isfinite(value) for value in values) else _NAN


def _std(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if all(math.isfinite(value) for value in values) else _NAN


def _row(
    metric: str, value: float, error: float, floor: float, spread: float, baseline: float, n: int, unit: str, words: str
) -> EvaluationRow:
    return EvaluationRow(
        metric=metric,
        value=value,
        error=error,
        floor=floor,
        floor_std=spread,
        baseline=baseline,
        n=n,
        unit=unit,
        definition=words,
    )
