"""States written as text: `phi<0`, `0<phi<2`, `phi>-120deg and not psi>1`.

A state is made of comparisons of a collective variable with numbers, joined by `and`, `or`, `not` and parentheses; a comparison may be a
chain. Numbers are in rad and Å; `deg`, `rad`, `A`, `Å` and `nm` behind them say otherwise. The text is read by the small grammar below and
never run as a program:

.. code-block:: text

    either     = both ("or" both)*
    both       = one ("and" one)*
    one        = "not" one | "(" either ")" | operand (comparator operand)+
    operand    = variable | number [unit]
    comparator = "<" | "<=" | ">" | ">="
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from equilibra.analysis.collective_variables import GEOMETRIC, GYRATION, CollectiveVariable, full_name
from equilibra.analysis.samples import BoolArray, FloatArray
from equilibra.errors import InputError

COMPARATORS: Mapping[str, Callable[[FloatArray, FloatArray], BoolArray]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
UNITS: Mapping[str, Mapping[str, float]] = {
    "rad": {"": 1.0, "rad": 1.0, "deg": np.pi / 180.0},
    "Å": {"": 1.0, "Å": 1.0, "A": 1.0, "nm": 10.0},
}
"""Units of numbers by the unit of the variable that they are compared with."""

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(deg|rad|nm|Å|A)?(?![\w.])")
_EXAMPLE = "expected something like 'phi<0' or 'phi>-2 and phi<0.5'"

Variables = Mapping[str, CollectiveVariable]


@dataclass(frozen=True)
class _Number:
    value: float
    unit: str


@dataclass(frozen=True)
class _Name:
    name: str


@dataclass(frozen=True)
class _Comparison:
    operands: tuple[_Number | _Name, ...]
    comparators: tuple[str, ...]

    def __call__(self, variables: Variables) -> BoolArray:
        results = [
            COMPARATORS[comparator](*_values(a, b, variables))
            for (a, b), comparator in zip(pairwise(self.operands), self.comparators, strict=True)
        ]
        return np.logical_and.reduce(results)


@dataclass(frozen=True)
class _Joined:
    word: str
    parts: tuple[Callable[[Variables], BoolArray], ...]

    def __call__(self, variables: Variables) -> BoolArray:
        values = [part(variables) for part in self.parts]
        if self.word == "not":
            return np.logical_not(values[0])
        return (np.logical_and if self.word == "and" else np.logical_or).reduce(values)


@dataclass(frozen=True)
class StateExpression:
    """A state, read from its text."""

    text: str
    """The text as it was given, without outer spaces."""
    variables: tuple[str, ...]
    """Full names of the collective variables in it, each once."""
    _condition: Callable[[Variables], BoolArray]

    def inside(self, variables: Variables) -> BoolArray:
        """Returns whether each conformation is in the state, shape (n).

        Arguments:
            variables: The values of all variables of the state, by full name.

        Raises:
            InputError: If a number has a unit that does not fit its variable, or is no angle in rad.
        """
        try:
            return self._condition(variables)
        except InputError as error:
            raise InputError(f"state '{self.text}': {error}") from error


def parse_state(text: str, torsions: Iterable[str]) -> StateExpression:
    """Reads a state.

    Arguments:
        text: The state, e.g. `0 < phi < 2`.
        torsions: Full names of the molecule's torsions; their first words are understood where they are unique.

    Raises:
        InputError: If the text cannot be read or names an unknown collective variable; the message says where.
    """
    names = list(torsions)
    try:
        parser = _Parser(list(_tokens(text, names)))
        condition = parser.either()
        parser.end()
    except InputError as error:
        raise InputError(f"state '{text.strip()}': {error}") from error
    return StateExpression(" ".join(text.split()), tuple(dict.fromkeys(parser.names)), condition)


Token = _Number | _Name | str


def _tokens(text: str, torsions: list[str]) -> Iterator[Token]:
    # the longest name first, so that `phi ALA2` is not read as `phi`
    spellings = sorted({*torsions, *(name.split(" ")[0] for name in torsions), GYRATION}, key=len, reverse=True)
    rest = text.replace("≤", "<=").replace("≥", ">=").replace("°", "deg").strip()
    while rest:
        number, geometric = _NUMBER.match(rest), GEOMETRIC.match(rest)
        name = next((s for s in spellings if re.match(re.escape(s) + r"(?!\w)", rest, flags=re.IGNORECASE)), None)
        word = re.match(r"(and|or|not)\b|<=|>=|<|>|\(|\)", rest)
        if name is not None:
            length = len(name)
            yield _Name(full_name(name, torsions))
        elif geometric:
            length = geometric.end()
            yield _Name(full_name(geometric[0], torsions))
        elif word:
            length = word.end()
            yield word[0]
        elif number:
            length = number.end()
            yield _Number(float(number[1]), number[2] or "")
        elif re.match(r"[^\W\d]", rest):
            raise _unknown(rest, torsions)
        else:
            raise InputError(f"'{rest}' cannot be read; {_EXAMPLE}")
        rest = rest[length:].lstrip()


def _unknown(rest: str, torsions: list[str]) -> InputError:
    unknown = re.match(r"[^<>()=]+?(?=\s*(?:[<>()=]|\band\b|\bor\b|$))", rest)
    try:
        full_name(unknown[0] if unknown else rest, torsions)
    except InputError as error:
        return error
    return InputError(f"'{rest}' cannot be read; {_EXAMPLE}")


class _Parser:
    """Descends through the grammar of the module, token by token."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0
        self.names: list[str] = []

    def either(self) -> Callable[[Variables], BoolArray]:
        return self._joined("or", self.both)

    def both(self) -> Callable[[Variables], BoolArray]:
        return self._joined("and", self.one)

    def one(self) -> Callable[[Variables], BoolArray]:
        if self._take("not"):
            return _Joined("not", (self.one(),))
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise InputError("a parenthesis is not closed")
            return inner
        operands, comparators = [self._operand()], []
        while self._next() in COMPARATORS:
            comparators.append(str(self._next()))
            self.place += 1
            operands.append(self._operand())
        if not comparators:
            raise InputError(f"a comparison is missing; {_EXAMPLE}")
        if any(isinstance(a, _Number) and isinstance(b, _Number) for a, b in pairwise(operands)):
            raise InputError(f"a number is compared with a number; {_EXAMPLE}")
        return _Comparison(tuple(operands), tuple(comparators))

    def end(self) -> None:
        if self.place < len(self.tokens):
            raise InputError(f"{_word(self._next())} is not expected there; {_EXAMPLE}")

    def _joined(self, word: str, part: Callable[[], Callable[[Variables], BoolArray]]) -> Callable[[Variables], BoolArray]:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else _Joined(word, tuple(parts))

    def _operand(self) -> _Number | _Name:
        token = self._next()
        if not isinstance(token, _Number | _Name):
            raise InputError(f"{_word(token)} stands where a collective variable or a number belongs; {_EXAMPLE}")
        self.place += 1
        if isinstance(token, _Name):
            self.names.append(token.name)
        return token

    def _next(self) -> Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def _take(self, word: str) -> bool:
        if self._next() != word:
            return False
        self.place += 1
        return True


def _word(token: Token | None) -> str:
    if token is None:
        return "its end"
    return (
        f"'{token.name}'" if isinstance(token, _Name) else f"'{token.value:g}'" if isinstance(token, _Number) else f"'{token}'"
    )


def _values(a: _Number | _Name, b: _Number | _Name, variables: Variables) -> tuple[FloatArray, FloatArray]:
    found = [variables[side.name] for side in (a, b) if isinstance(side, _Name)]
    if len(found) == 2 and found[0].unit != found[1].unit:
        raise InputError(
            f"{found[0].name} is in {found[0].unit} and {found[1].name} in {found[1].unit}; they cannot be compared"
        )

    def value(side: _Number | _Name) -> FloatArray:
        return variables[side.name].values if isinstance(side, _Name) else np.asarray(_converted(side, found[0]))

    return value(a), value(b)


def _converted(number: _Number, variable: CollectiveVariable) -> float:
    units = UNITS[variable.unit]
    if number.unit not in units:
        raise InputError(
            f"{variable.name} is in {variable.unit}, so {number.value:g}{number.unit} does not fit; use {' or '.join(filter(None, units))}"
        )
    converted = number.value * units[number.unit]
    if variable.unit == "rad" and abs(converted) > 2.0 * np.pi + 1e-9:
        raise InputError(
            f"{variable.name} is in rad and never reaches {number.value:g}{number.unit}; write {number.value:g}deg if degrees are meant"
            if not number.unit
            else f"{variable.name} is an angle and never reaches {number.value:g}{number.unit}; give one between -360deg and 360deg"
        )
    return converted
