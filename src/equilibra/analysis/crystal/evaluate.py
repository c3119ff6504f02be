"""The evaluation of crystals: every metric beside its noise floor and, with a training set, the score of memory.

Nothing is filtered but for what a definition says. The floor compares two disjoint random parts of the reference, whose structures are independent of each other. The
baseline takes random structures of the training set for samples: what a model reaches that has learned its data by heart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from equilibra.analysis.crystal.carbon import carbon_like
from equilibra.analysis.crystal.charges import charge_neutral
from equilibra.analysis.crystal.crystals import Crystal, composition, mass_densities
from equilibra.analysis.crystal.distributions import wasserstein
from equilibra.analysis.crystal.duplicates import originality
from equilibra.analysis.crystal.matching import ORIGINALITY, PUBLISHED
from equilibra.analysis.crystal.recall import recall
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.errors import ConfigError, InputError, MissingDependencyError
from equilibra.thermo.statistics import clopper_pearson

Progress = Callable[[str], object]
"""Told what is being computed."""

_NAN = float("nan")


def evaluate_crystals(
    samples: Sequence[Crystal],
    reference: Sequence[Crystal],
    *,
    rng: np.random.Generator,
    training: Sequence[Crystal] | None = None,
    drawn: int | None = None,
    energies: tuple[np.ndarray, np.ndarray] | None = None,
    judged: Mapping[str, tuple[np.ndarray, np.ndarray, str]] | None = None,
    n: int = 1000,
    match_n: int = 200,
    repeats: int = 10,
    progress: Progress = lambda doing: None,
) -> EvaluationTable:
    """Measures samples of crystals against a reference.

    Arguments:
        samples: The valid samples, of any compositions.
        reference: The reference, best without duplicates.
        rng: The only source of randomness.
        training: What the model was trained on; it adds novelty and the baselines.
        drawn: Number of samples that were drawn, the invalid ones included; those given by default.
        energies: Energies per atom of all samples and of the reference, in eV, by one potential.
        judged: Values of samples and of structures of the reference with their unit, by the names of judges; values that are not finite are left out.
        n: The largest number of structures on each side.
        match_n: The same for what matches structures with each other (uniqueness, novelty, METRe), which takes long.
        repeats: Resamples for errors and floors, at least two.
        progress: Told what is being computed.

    Raises:
        InputError: If there are fewer than two samples or four structures of the reference.
        ConfigError: If a number is out of range.

    Note:
        Without pymatgen, what matches structures is left out, and the table's notes say so.
    """
    for name, number in {"n": n, "match_n": match_n, "repeats - 1": repeats - 1}.items():
        if number < 1:
            raise ConfigError(f"evaluate crystals: got {name} = {number}, expected at least 1")
    if len(samples) < 2 or len(reference) < 4:
        raise InputError(
            f"evaluate crystals: got {len(samples)} samples and {len(reference)} structures of the reference, expected at least 2 and 4"
        )
    total = len(samples) if drawn is None else drawn
    rows = [
        _share(
            "valid",
            len(samples),
            total,
            "no distance below 0.5 Å, periodic images included, and a volume of at least 0.1 Å³ (CDVAE)",
        )
    ]
    progress("densities")
    columns = [(mass_densities(samples), mass_densities(reference), None if training is None else mass_densities(training))]
    rows.append(
        _distance(
            "W(density)", *columns[0], n, repeats, rng, "g/cm³", "1-Wasserstein distance of mass densities of valid samples"
        )
    )
    if energies is not None:
        ours, theirs = (np.asarray(values, dtype=np.float64) for values in energies)
        words = "1-Wasserstein distance of energies per atom of valid samples, by one potential"
        rows.append(_distance("W(energy)", ours, theirs, None, n, repeats, rng, "eV", words))
    if all(int(number) == 6 for crystal in samples for number in crystal.numbers):
        words = "no distance of 1.0 Å or less, and 1 to 4 neighbours of every atom within 1.85 Å"
        rows.append(_share("carbon-like", int(carbon_like(samples).sum()), len(samples), words))
    for name, (*sides, unit) in (judged or {}).items():
        here, there = (side[np.isfinite(side)] for side in sides)
        if len(here) > 1 and len(there) > 3:
            words = f"1-Wasserstein distance of {name}, {len(here)} samples and {len(there)} structures of the reference that it could judge"
            rows.append(_distance(f"W({name})", here, there, None, n, repeats, rng, unit, words))
    size = min(match_n, len(samples), len(reference) // 2)
    notes: tuple[str, ...] = ()
    try:
        rows += _matched(samples, reference, training, size, rng, progress)
    except MissingDependencyError as error:
        left = "unique" if training is None else "unique, novel"
        notes = (f"Not computed: {left}, METRe and cRMSE: {error}.",)
    return EvaluationTable(
        rows=tuple(rows),
        molecule=f"crystals, {len({len(crystal.numbers) for crystal in samples})} sizes of cells",
        ensemble_frames=len(samples),
        reference_frames=(len(reference),),
        split="parts",
        notes=notes,
    )


def _matched(
    samples: Sequence[Crystal],
    reference: Sequence[Crystal],
    training: Sequence[Crystal] | None,
    size: int,
    rng: np.random.Generator,
    progress: Progress,
) -> list[EvaluationRow]:
    """Returns the rows of what matches structures with each other; raises `MissingDependencyError` without pymatgen."""
    rows: list[EvaluationRow] = []
    if any(len(composition(crystal)) > 1 for crystal in samples):
        words = "common oxidation states can balance (pymatgen), or all elements are metals; a property of the composition"
        rows.append(_share("charge-neutral", int(charge_neutral(samples).sum()), len(samples), words))
    few = _some(samples, size, rng)
    progress(f"uniqueness of {len(few)} samples")
    found = originality(few, training)
    tight = (
        f"pymatgen StructureMatcher (ltol {ORIGINALITY.length}, stol {ORIGINALITY.site}, angle {ORIGINALITY.angle:g}) of pairs whose average minimum "
        f"distances agree within {ORIGINALITY.distances} Å"
    )
    known = None if training is None else originality(_some(training, size, rng))
    rows.append(
        _share(
            "unique",
            round(found.unique * size),
            size,
            f"different structures; {tight}",
            None if known is None else known.unique,
        )
    )
    if training is not None:
        rows.append(_share("novel", round(found.novel * size), size, f"no match in the training set; {tight}", 0.0))
        rows.append(_share("unique and novel", round(found.unique_and_novel * size), size, f"both; {tight}", 0.0))
    progress(f"METRe of {size} structures of the reference")
    rows += _recalled(few, reference, None if training is None else _some(training, size, rng), size, rng)
    return rows


def _some(crystals: Sequence[Crystal], size: int, rng: np.random.Generator) -> list[Crystal]:
    return [crystals[i] for i in rng.choice(len(crystals), size=min(size, len(crystals)), replace=False)]


def _share(name: str, good: int, total: int, words: str, baseline: float | None = None) -> EvaluationRow:
    low, high = clopper_pearson(good, total, confidence=0.6827)
    return EvaluationRow(
        metric=name,
        value=good / total,
        error=max(high - good / total, good / total - low)
        if good in (0, total)
        else math.sqrt(good * (total - good) / total**3),
        floor=_NAN,
        floor_std=_NAN,
        baseline=_NAN if baseline is None else baseline,
        n=total,
        unit="1",
        definition=f"share of samples: {words}" + ("" if baseline is None else "; baseline: structures of the training set"),
    )


def _distance(
    name: str,
    ours: np.ndarray,
    theirs: np.ndarray,
    training: np.ndarray | None,
    n: int,
    repeats: int,
    rng: np.random.Generator,
    unit: str,
    words: str,
) -> EvaluationRow:
    size = min(n, len(ours), len(theirs) // 2)
    target = rng.choice(theirs, size=size, replace=False)
    value = wasserstein(rng.choice(ours, size=size, replace=False), target)
    errors = [wasserstein(rng.choice(ours, size=size, replace=True), target) for _ in range(repeats)]
    halves = [np.split(rng.permutation(theirs)[: 2 * size], 2) for _ in range(repeats)]
    floors = [wasserstein(first, second) for first, second in halves]
    memory = (
        _NAN if training is None else wasserstein(rng.choice(training, size=min(size, len(training)), replace=False), target)
    )
    return EvaluationRow(
        metric=name,
        value=value,
        error=float(np.std(errors, ddof=1)),
        floor=float(np.mean(floors)),
        floor_std=float(np.std(floors, ddof=1)),
        baseline=memory,
        n=size,
        unit=unit,
        definition=words + ("" if training is None else "; baseline: structures of the training set"),
    )


def _recalled(
    samples: Sequence[Crystal],
    reference: Sequence[Crystal],
    training: Sequence[Crystal] | None,
    size: int,
    rng: np.random.Generator,
) -> list[EvaluationRow]:
    order = rng.permutation(len(reference))
    target, rest = ([reference[i] for i in part] for part in (order[:size], order[size : 2 * size]))
    found, floor = recall(samples, target), recall(rest, target)
    memory = None if training is None else recall(training, target)
    best = np.minimum(found.rms, PUBLISHED.site)
    matcher = f"pymatgen StructureMatcher (ltol {PUBLISHED.length}, stol {PUBLISHED.site}, angle {PUBLISHED.angle:g})"
    tail = f"{len(samples)} samples; floor: as many others of the reference" + (
        "" if training is None else "; baseline: of the training set"
    )
    common = {"floor_std": _NAN, "n": size}
    return [
        EvaluationRow(
            metric="METRe",
            value=found.metre,
            error=math.sqrt(found.metre * (1.0 - found.metre) / size),
            floor=floor.metre,
            baseline=_NAN if memory is None else memory.metre,
            unit="1",
            definition=f"share of the reference that at least one sample matches; {matcher}, {tail}",
            **common,  # type: ignore[arg-type]
        ),
        EvaluationRow(
            metric="cRMSE",
            value=found.crmse,
            error=float(best.std(ddof=1) / math.sqrt(size)),
            floor=floor.crmse,
            baseline=_NAN if memory is None else memory.crmse,
            unit="(V/n)^(1/3)",
            definition=f"mean over the reference of the best rms, {PUBLISHED.site} without a match; {matcher}, {tail}",
            **common,  # type: ignore[arg-type]
        ),
    ]
