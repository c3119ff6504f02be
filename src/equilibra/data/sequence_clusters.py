r"""Clusters of similar sequences, so that what is kept out of a training is unlike what is in it.

Two sequences are linked if they are more alike than unrelated proteins are: if the share of equal residues among the L aligned ones is above the
curve of the twilight zone,

.. math:: p(L) = 4.8 \, L^{-0.32\,(1 + e^{-L/1000})},

by a margin of 0.05: 47 % at L = 50, 37 % at 80 and 34 % at 100. Clusters are what links connect: no sequence of one is linked to a sequence of another.

References:
    | Twilight zone of protein sequence alignments (Rost, 1999)
    | https://doi.org/10.1093/protein/12.2.85
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from equilibra.errors import ConfigError, InputError

MARGIN = 0.05
"""Default distance above the curve from which on pairs of unrelated proteins are rare."""

_SHORTEST = 11
_WORDS = ((4, 2), (3, 1))
_WEIGHT = 2
_SCORE = 45.0


def sequence_clusters(sequences: Sequence[str], *, margin: float = MARGIN) -> list[list[int]]:
    """Groups sequences of which some chain of links leads from each to the others.

    Pairs are aligned if they share a word of four letters, or two of three; pairs with less in common count as unlike. Equal ones are always linked.

    Arguments:
        sequences: Letters of each sequence.
        margin: Distance of linked pairs above the twilight zone's curve; more of it makes smaller clusters.

    Returns:
        Indices of the sequences of each cluster, ascending; clusters in the order of their first sequence.
    """
    aligner = _aligner()
    root = list(range(len(sequences)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    seen: dict[str, int] = {}
    for i, sequence in enumerate(sequences):
        root[i] = seen.setdefault(sequence, i)
    for i, j in _candidates(sequences):
        a, b = find(i), find(j)
        # what is connected already needs no alignment
        if a != b and _linked(aligner, sequences[i], sequences[j], margin):
            root[max(a, b)] = min(a, b)
    clusters: dict[int, list[int]] = {}
    for i in range(len(sequences)):
        clusters.setdefault(find(i), []).append(i)
    return list(clusters.values())


def split_by_cluster(
    sequences: Sequence[str], share: float = 0.1, *, margin: float = MARGIN, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Splits sequences in a part for training and a part that is kept out, no cluster in both.

    Clusters are kept out in a random order, as long as the part that is kept out does not become larger than wanted.

    Arguments:
        sequences: Letters of each sequence.
        share: Share of the sequences to keep out.
        margin: As for `sequence_clusters`.
        seed: The same seed gives the same split of the same sequences.

    Returns:
        Indices for training and those kept out, ascending.

    Raises:
        ConfigError: If the share is not from 0 to below 1.
        InputError: If there is no sequence.
    """
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"share: got {share}, expected a number from 0 up to, but not including, 1")
    if not sequences:
        raise InputError("split: got no sequence, expected at least one")
    clusters = sequence_clusters(sequences, margin=margin)
    wanted = round(share * len(sequences))
    kept: set[int] = set()
    for index in np.random.default_rng(seed).permutation(len(clusters)).tolist():
        if len(kept) + len(clusters[index]) <= wanted:
            kept.update(clusters[index])
    return [i for i in range(len(sequences)) if i not in kept], sorted(kept)


def twilight_zone(aligned: int) -> float:
    """Returns the share of equal residues among `aligned` ones below which unrelated proteins lie, at most 1."""
    if aligned < _SHORTEST:
        return 1.0
    return min(1.0, 4.8 * aligned ** (-0.32 * (1.0 + math.exp(-aligned / 1000.0))))


def sequence_identity(first: str, second: str) -> tuple[float, int]:
    """Returns the share of equal residues among the aligned ones, and their number, in the best alignment; gaps at the ends cost nothing."""
    return _identity(_aligner(), first, second)


def _linked(aligner: Any, first: str, second: str, margin: float) -> bool:
    # scores are cheap, and pairs above the curve have more than this
    if aligner.score(first, second) < _SCORE:
        return False
    identity, aligned = _identity(aligner, first, second)
    return identity >= min(1.0, twilight_zone(aligned) + margin)


def _identity(aligner: Any, first: str, second: str) -> tuple[float, int]:
    equal = aligned = 0
    for (a, b), (c, d) in zip(*aligner.align(first, second)[0].aligned, strict=True):
        equal += sum(x == y for x, y in zip(first[a:b], second[c:d], strict=True))
        aligned += int(b - a)
    return equal / max(aligned, 1), aligned


def _aligner() -> Any:
    from Bio.Align import PairwiseAligner, substitution_matrices

    aligner = PairwiseAligner(mode="global", open_gap_score=-11.0, extend_gap_score=-1.0)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    aligner.end_gap_score = 0.0
    return aligner


def _candidates(sequences: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs that share enough words, those that share most first."""
    from scipy import sparse

    total = sparse.csr_array((len(sequences), len(sequences)), dtype=np.int32)
    for size, weight in _WORDS:
        numbers: dict[str, int] = {}
        rows, columns = [], []
        for row, sequence in enumerate(sequences):
            words = dict.fromkeys(sequence[k : k + size] for k in range(len(sequence) - size + 1))
            rows += [row] * len(words)
            columns += [numbers.setdefault(word, len(numbers)) for word in words]
        ones = np.ones(len(rows), dtype=np.int32)
        table = sparse.csr_array((ones, (rows, columns)), shape=(len(sequences), max(len(numbers), 1)))
        total = total + weight * (table @ table.T)
    pairs = sparse.triu(total, k=1).tocoo()
    enough = pairs.data >= _WEIGHT
    first, second, words = pairs.row[enough], pairs.col[enough], pairs.data[enough]
    order = np.lexsort((second, first, -words))
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))
