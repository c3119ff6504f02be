"""Chemical formulas of what is in one cell: C8, NaCl, Si2O4."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from equilibra.errors import InputError

HEAVIEST = 100
"""Largest atomic number that a network knows."""

MOST_ATOMS = 1000
"""More atoms in a cell than this are a mistake."""

_PART = re.compile(r"([A-Z][a-z]?)(\d*)")


def symbols() -> Sequence[str]:
    """Returns the chemical symbols by atomic number; the first, of number 0, is no element."""
    from ase.data import chemical_symbols

    return list(chemical_symbols)


def atomic_number(symbol: str) -> int:
    """Returns the atomic number of an element.

    Raises:
        InputError: If there is no such element, or it is heavier than `HEAVIEST`.
    """
    known = symbols()
    number = known.index(symbol) if symbol in known else 0
    if not 1 <= number <= HEAVIEST:
        raise InputError(f"element: got '{symbol}', expected the symbol of an element up to {known[HEAVIEST]} such as C or Si")
    return number


def parse_formula(text: str) -> tuple[int, ...]:
    """Returns the atomic numbers of all atoms in a cell, in ascending order.

    Arguments:
        text: Symbols with counts, each of which stands for one atom if it has none; an element may come twice.

    Raises:
        InputError: If it is no formula.
    """
    wanted = "expected a formula of one cell such as C8, NaCl or Si2O4"
    parts = _PART.findall(text)
    if not text or "".join(symbol + count for symbol, count in parts) != text:
        raise InputError(f"formula: got '{text}', {wanted}")
    numbers: list[int] = []
    for symbol, count in parts:
        try:
            number = atomic_number(symbol)
        except InputError:
            raise InputError(
                f"formula: got '{text}', but '{symbol}' is no element up to {symbols()[HEAVIEST]}; {wanted}"
            ) from None
        if count.startswith("0"):
            raise InputError(f"formula: got '{text}', but '{symbol}{count}' is no number of atoms; {wanted}")
        if len(numbers) + int(count or 1) > MOST_ATOMS:
            raise InputError(f"formula: got '{text}', more than {MOST_ATOMS} atoms; {wanted}")
        numbers += [number] * int(count or 1)
    return tuple(sorted(numbers))


def formula_of(numbers: Sequence[int]) -> str:
    """Returns the formula of a cell, such as O2Si or C8, by ascending atomic number; every count but 1 is written."""
    known = symbols()
    counts = Counter(int(number) for number in numbers)
    # cations first, as chemists write them: O2Si reads badly, but there is one formula for one composition
    return "".join(f"{known[number]}{count if count > 1 else ''}" for number, count in sorted(counts.items()))
