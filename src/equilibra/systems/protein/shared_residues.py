"""The residues that several structures of one protein share: two crystals seldom show the same termini and loops."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.chains import Chain

LEAST_IDENTITY = 0.8
"""Least share of equal letters among aligned residues of what counts as one protein."""

_logger = logging.getLogger(__name__)


def common_residues(
    structures: Sequence[Sequence[Chain]], names: Sequence[str]
) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Finds the residues that all structures have, chain by chain.

    Chains are paired in order. Residues are paired by their numbers where the letters agree as well as those of an alignment of the sequences, else by
    that alignment. A residue whose letters differ (a mutation) is kept.

    Arguments:
        structures: The chains of each structure.
        names: What to call each structure in messages.

    Returns:
        For each structure and chain the positions of the shared residues among the chain's; and for each chain their numbers, which follow the first
        structure and are one apart only for residues that are bonded in all structures.

    Raises:
        InputError: If the numbers of chains differ, or two chains are not of one protein.
    """
    counts = {name: len(chains) for name, chains in zip(names, structures, strict=True)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"the structures have different numbers of chains ({listed}); name the chains to take")
    rows: list[list[np.ndarray]] = [[] for _ in structures]
    numbers = []
    for k, first in enumerate(structures[0]):
        kept = np.arange(len(first.residues))
        partners = [kept]
        for chains, name in zip(structures[1:], names[1:], strict=True):
            here, there = _pairs(first, chains[k], names[0], name)
            # positions in the other chain of those residues of the first that all have so far
            kept, _, where = np.intersect1d(kept, here, assume_unique=True, return_indices=True)
            partners = [partner[np.isin(partners[0], kept)] for partner in partners]
            partners.append(there[where])
        if not len(kept):
            raise InputError(f"the structures {', '.join(names)} share no residue of chain {first.name}")
        steps = np.max(
            [np.diff(chains[k].numbers[partner]) for chains, partner in zip(structures, partners, strict=True)],
            axis=0,
            initial=1,
        )
        numbers.append(first.numbers[kept[0]] + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64))
        for row, partner in zip(rows, partners, strict=True):
            row.append(partner)
    return rows, numbers


def _pairs(first: Chain, other: Chain, name: str, other_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of paired residues in two chains, both increasing."""
    aligned = _aligned(first.sequence, other.sequence)
    _, *numbered = np.intersect1d(first.numbers, other.numbers, assume_unique=True, return_indices=True)
    by_number, by_alignment = (_equal(first, other, pairs) for pairs in (numbered, aligned))
    here, there = numbered if by_number.sum() >= by_alignment.sum() else aligned
    equal = by_number if by_number.sum() >= by_alignment.sum() else by_alignment
    shorter = min(len(first.residues), len(other.residues))
    if equal.sum() < LEAST_IDENTITY * len(equal) or 2 * equal.sum() < shorter:
        raise InputError(
            f"{name} chain {first.name} and {other_name} chain {other.name} are not of one protein: {int(equal.sum())} residues of {shorter} are equal"
        )
    if not equal.all():
        labels = ", ".join(first.residues[i].label for i in here[~equal][:10])
        _logger.warning(
            "%s and %s: %d residues differ in kind, those of the first are taken: %s", name, other_name, (~equal).sum(), labels
        )
    return here, there


def _equal(first: Chain, other: Chain, pairs: Sequence[np.ndarray]) -> np.ndarray:
    here, there = first.sequence, other.sequence
    return np.array([here[i] == there[j] for i, j in zip(*pairs, strict=True)], dtype=bool)


def _aligned(first: str, other: str) -> tuple[np.ndarray, np.ndarray]:
    from Bio.Align import PairwiseAligner

    aligner = PairwiseAligner(mode="global", match_score=2.0, mismatch_score=-1.0, open_gap_score=-4.0, extend_gap_score=-0.1)
    aligner.end_gap_score = 0.0
    blocks = aligner.align(first, other)[0].aligned
    here, there = (
        np.concatenate([np.arange(start, stop) for start, stop in side] or [np.zeros(0, dtype=int)]) for side in blocks
    )
    return here, there
