"""Which structures of a set are the same: groups, their share, and what is new against another set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equilibra.analysis.crystal.crystals import Crystal
from equilibra.analysis.crystal.matching import DUPLICATES, ORIGINALITY, Matcher, Progress, Tolerances


def duplicate_groups(
    crystals: Sequence[Crystal], tolerances: Tolerances = DUPLICATES, progress: Progress = lambda done, total: None
) -> np.ndarray:
    """Returns for each crystal the place (F,) of the first one that it is a duplicate of; of a first one its own.

    Every crystal is compared with those that have stayed so far, the most similar first, so that each group has the tolerance as its radius about its first
    member. `numpy.unique` of the result are the structures to keep.

    Arguments:
        crystals: The crystals, in order of preference.
        tolerances: What counts as the same.
        progress: Told how many are done.

    Raises:
        MissingDependencyError: If pymatgen is not installed.
    """
    matcher = Matcher(crystals, tolerances)
    group = np.arange(len(crystals))
    kept: dict[object, list[int]] = {}
    for index in range(len(crystals)):
        mine = kept.setdefault(matcher.compositions[index], [])
        candidates = matcher.candidates(index, np.array(mine, dtype=np.int64))
        twin = next((int(other) for other in candidates if matcher.same(int(other), index)), None)
        if twin is None:
            mine.append(index)
        else:
            group[index] = twin
        progress(index + 1, len(crystals))
    return group


def known_elsewhere(
    crystals: Sequence[Crystal],
    others: Sequence[Crystal],
    tolerances: Tolerances = DUPLICATES,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Tells which crystals (F,) have a match in another set.

    Arguments:
        crystals: The crystals.
        others: The other set.
        tolerances: What counts as the same.
        progress: Told how many are done.

    Raises:
        MissingDependencyError: If pymatgen is not installed.
    """
    n = len(crystals)
    matcher = Matcher([*crystals, *others], tolerances)
    among = np.arange(n, n + len(others))
    found = np.zeros(n, dtype=bool)
    for index in range(n):
        found[index] = any(matcher.same(int(other), index) for other in matcher.candidates(index, among))
        progress(index + 1, n)
    return found


@dataclass(frozen=True, kw_only=True)
class Originality:
    """How many of some samples are structures of their own.

    Attributes:
        unique: Share of different structures among the samples.
        novel: Share of the samples without a match in the training set; NaN without one.
        unique_and_novel: Different structures without a match in the training set, as a share of the samples; NaN without one.
        n: Number of samples.
    """

    unique: float
    novel: float
    unique_and_novel: float
    n: int


def originality(
    samples: Sequence[Crystal],
    training: Sequence[Crystal] | None = None,
    tolerances: Tolerances = ORIGINALITY,
    progress: Progress = lambda done, total: None,
) -> Originality:
    """Counts unique samples, and those that the training set does not have.

    Arguments:
        samples: The samples, valid or not; their order has no effect on the shares but for ties of tolerances.
        training: The training set, or None.
        tolerances: What counts as the same.
        progress: Told how many samples are done.

    Raises:
        MissingDependencyError: If pymatgen is not installed.
    """
    n = len(samples)
    groups = duplicate_groups(samples, tolerances)
    first = np.unique(groups)
    unique = len(first) / n if n else float("nan")
    if training is None:
        return Originality(unique=unique, novel=float("nan"), unique_and_novel=float("nan"), n=n)
    new = ~known_elsewhere(samples, training, tolerances, progress)
    return Originality(unique=unique, novel=float(new.mean()), unique_and_novel=float(new[first].sum()) / n, n=n)
