"""Which residues of a structure are those of a system: two structures of one protein seldom hold the same residues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.chains import Chain
from equilibra.systems.protein.system import ProteinSystem


def match_residues(system: ProteinSystem, chains: Sequence[Chain], where: str) -> np.ndarray:
    """Returns the position (L,) among all residues of a structure of each residue of a system; the structure may hold more.

    Chains are matched in order, each to the first chain of the structure that is left and holds all its residues: by residue numbers if the letters agree,
    else each stretch between gaps by its sequence.

    Arguments:
        system: The protein whose residues are wanted.
        chains: The chains of the structure.
        where: The structure, for messages.

    Raises:
        InputError: If a residue is not there; the message names the first that differs.
    """
    starts = np.cumsum([0, *(len(chain.residues) for chain in chains)])
    left = list(range(len(chains)))
    rows = []
    for number, sequence in enumerate(system.chains):
        numbers = system.residue_numbers[system.chain_index == number]
        for candidate in left:
            found = _by_number(sequence, numbers, chains[candidate])
            if found is None:
                found = _by_sequence(sequence, numbers, chains[candidate])
            if found is not None:
                rows.append(starts[candidate] + found)
                left.remove(candidate)
                break
        else:
            raise InputError(_difference(system, number, sequence, numbers, [chains[i] for i in left], where))
    return np.concatenate(rows)


def _by_number(sequence: str, numbers: np.ndarray, chain: Chain) -> np.ndarray | None:
    place = {int(number): i for i, number in enumerate(chain.numbers)}
    if any(int(number) not in place for number in numbers):
        return None
    found = np.array([place[int(number)] for number in numbers])
    return found if all(chain.sequence[i] == letter for i, letter in zip(found, sequence, strict=True)) else None


def _by_sequence(sequence: str, numbers: np.ndarray, chain: Chain) -> np.ndarray | None:
    """Finds the stretches between the gaps of a system, one after the other, each as early as can be."""
    found, begin = [], 0
    for stretch in np.split(np.arange(len(sequence)), np.flatnonzero(np.diff(numbers) != 1) + 1):
        begin = chain.sequence.find("".join(sequence[i] for i in stretch), begin)
        if begin < 0:
            return None
        found.append(begin + np.arange(len(stretch)))
        begin += len(stretch)
    return np.concatenate(found)


def _difference(system: ProteinSystem, number: int, sequence: str, numbers: np.ndarray, left: list[Chain], where: str) -> str:
    start = int(np.flatnonzero(system.chain_index == number)[0])
    if not left:
        return f"{where}: holds fewer chains than '{system.name}', which has {len(system.chain_ids)}"
    lengths = ", ".join(f"{chain.name} with {len(chain.residues)}" for chain in left)
    message = f"{where}: does not hold the {len(sequence)} residues of '{system.name}' (chain {system.chain_ids[number]}); its chains: {lengths} residues"
    # the chain that shares most residues by number tells best what differs
    best, differing = min(((chain, _differing(sequence, numbers, chain)) for chain in left), key=lambda pair: len(pair[1]))
    if len(differing) == len(sequence):
        return f"{message}; the two have no residue number in common with the same residue"
    letters = dict(zip(best.numbers.tolist(), best.sequence, strict=True))
    first = differing[0]
    there = letters.get(int(numbers[first]))
    came = "is not there" if there is None else f"is {there} there"
    return f"{message}; {system.label(start + first)} ({sequence[first]}) {came}, and {len(differing) - 1} more differ"


def _differing(sequence: str, numbers: np.ndarray, chain: Chain) -> list[int]:
    letters = dict(zip(chain.numbers.tolist(), chain.sequence, strict=True))
    return [i for i, letter in enumerate(sequence) if letters.get(int(numbers[i])) != letter]
