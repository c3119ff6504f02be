"""The residues that several structures of one protein share: two crystals seldom show the same termini and loops."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.alphabet import THREE_LETTER
from equilibra.systems.protein.chains import Chain, Residue
from equilibra.systems.protein.system import ProteinSystem

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


def placed(system: ProteinSystem, chains: Sequence[Chain], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Places the residues of a structure in a protein; see `common_residues`, for which the protein is numbered as the structure is.

    Arguments:
        system: The protein, of L residues.
        chains: The structure's chains, which may lack residues and have a few of their own.
        where: The structure, for messages.

    Returns:
        Positions (L, 3, 3) of N, CA and C in Å, float32, zero for residues that the structure lacks, and which it has (L,).

    Raises:
        InputError: If the two are not of one protein.
    """
    if len(chains) != len(system.chains):
        raise InputError(
            f"{where}: has {len(chains)} protein chains, expected the {len(system.chains)} of '{system.name}'; name the chains to take"
        )
    starts = np.cumsum([0, *map(len, system.chains)])
    own = []
    for k, (start, sequence) in enumerate(zip(starts[:-1], system.chains, strict=True)):
        numbers = np.asarray(system.residue_numbers[start : start + len(sequence)])
        numbers = numbers - numbers[0] + _first_number(sequence, numbers - numbers[0], chains[k])
        letters = zip(sequence, numbers.tolist(), strict=True)
        name = system.chain_ids[k]
        own.append(Chain(name, tuple(Residue(k, name, THREE_LETTER[letter], number) for letter, number in letters), numbers))
    rows_of, _ = common_residues([own, chains], [f"the sequence of '{system.name}'", where])
    xyz, observed = np.zeros((system.length, 3, 3), dtype=np.float32), np.zeros(system.length, dtype=bool)
    for start, chain, ours, theirs in zip(starts[:-1], chains, *rows_of, strict=True):
        xyz[start + ours] = chain.backbone[theirs]
        observed[start + ours] = True
    return xyz, observed


def _first_number(sequence: str, steps: np.ndarray, chain: Chain) -> int:
    """The number of a sequence's first residue with which most residues of a structure have their letter; steps (L,) are the numbers from there on."""
    letters = np.array(list(chain.sequence))
    full = np.full(int(steps[-1]) + 1, "")
    full[steps] = list(sequence)
    best, first = -1, 1
    for start in range(int(chain.numbers[0]) - len(full) + 1, int(chain.numbers[-1]) + 1):
        at = chain.numbers - start
        inside = (at >= 0) & (at < len(full))
        equal = int((full[at[inside]] == letters[inside]).sum())
        if equal > best:
            best, first = equal, start
    return first


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
