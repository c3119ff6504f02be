"""The crystal's System: what is in one cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from equilibra.errors import InputError
from equilibra.state import Features, System
from equilibra.systems.crystal.formula import HEAVIEST, formula_of, parse_formula

NODE_VOCABULARY = {"element": HEAVIEST + 1}
"""Integer features of atoms, with the number of their values."""

PAIR_VOCABULARY = {"same": 3}
"""Integer features of pairs: an atom and itself, two of one element, two of different elements."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CrystalSystem(System):
    """All crystals with the same atoms in a cell. Two systems are equal if their digests are.

    Attributes:
        numbers: Atomic numbers, in ascending order.
    """

    numbers: tuple[int, ...]

    @classmethod
    def of(cls, numbers: Sequence[int], *, name: str = "") -> Self:
        """Makes the system of some atoms.

        Arguments:
            numbers: Atomic numbers, in any order.
            name: What to call it; by default its formula.

        Raises:
            InputError: If there is no atom, or an atomic number is unknown.
        """
        ordered = tuple(sorted(int(number) for number in numbers))
        if not ordered or not 1 <= ordered[0] <= ordered[-1] <= HEAVIEST:
            raise InputError(
                f"crystal: got the atomic numbers {list(numbers)}, expected at least one, each from 1 to {HEAVIEST}"
            )
        element = torch.tensor(ordered)
        same = torch.where(element[:, None] == element[None, :], 1, 2)
        same.fill_diagonal_(0)
        digest = hashlib.sha256(json.dumps({"crystal": ordered}).encode()).hexdigest()
        features = Features(node={"element": element}, pair={"same": same})
        return cls(name=name or formula_of(ordered), features=features, digest=digest, numbers=ordered)

    @classmethod
    def of_formula(cls, text: str) -> Self:
        """Makes the system of a formula such as C8; see `parse_formula`."""
        return cls.of(parse_formula(text), name=text)

    @property
    def atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.numbers)

    @property
    def formula(self) -> str:
        """What is in the cell, by ascending atomic number."""
        return formula_of(self.numbers)

    @property
    def topology(self) -> Any:
        """None: crystals have no bonds that files would need."""
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CrystalSystem) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"CrystalSystem(name={self.name!r}, formula={self.formula!r}, digest={self.digest[:12]!r})"
