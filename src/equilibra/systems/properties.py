"""Properties of a domain's systems by name, as a guide names them, and a user's own functions.

A domain's `properties(system)` gives makers by their spelling: `radius-of-gyration`, or `distance:I,J` for one that takes an argument after the colon.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equilibra.errors import EquilibraError, InputError
from equilibra.geometry import size
from equilibra.guidance.guide import Property
from equilibra.own_functions import FORM, own_function
from equilibra.state import State

Maker = Callable[[str], Property]
"""Makes a property from what follows the colon; empty where nothing does."""
Positions = Callable[[State], Tensor]
"""Gives positions (batch, items, 3) of a State, in Å, with gradients."""
Written = Callable[[State], Tensor | tuple[Tensor, ...]]
"""Gives what a user's own function is called with before the system: positions (batch, atoms, 3), of a periodic system also cells (batch, 3, 3), in Å, with gradients."""


def gyration(positions: Positions, weights: Tensor | None = None) -> Maker:
    """Returns the maker of the radius of gyration, in Å, of positions with weights (items,), such as masses; equal ones by default."""

    def compute(state: State) -> Tensor:
        return size.radius_of_gyration(positions(state), weights)

    return lambda _: Property("radius-of-gyration", compute, "Å")


def distance(
    positions: Positions, index: Callable[[str], int], between: Callable[[Tensor, int, int], Tensor] = size.distance
) -> Maker:
    """Returns the maker of the distance, in Å, of two of the positions.

    Arguments:
        positions: Gives the positions.
        index: Returns the number, from 0, of the item that a text such as `12` names; it raises `InputError` where there is none.
        between: Returns the distances (batch,) of two items, by their numbers, of positions (batch, items, 3); that of nearest images where there are several.
    """

    def make(argument: str) -> Property:
        i, j, name = pair_of("distance", argument, index)
        return Property(name, lambda state: between(positions(state), i, j), "Å")

    return make


def pair_of(kind: str, argument: str, index: Callable[[str], int]) -> tuple[int, int, str]:
    """Returns the numbers, from 0, of the two different items that an argument such as `3,17` names, and the name of the property of that kind with it.

    Raises:
        InputError: If it names no two items.
    """
    names = [text.strip() for text in argument.split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(f"{kind}: got '{argument}', expected two numbers such as {kind}:3,17")
    i, j = map(index, names)
    if i == j:
        raise InputError(f"{kind}: got '{argument}', expected two different numbers")
    return i, j, f"{kind}:{','.join(names)}"


def find_property(
    name: str, makers: Mapping[str, Maker], written: Written, system: Any, *, differentiable: bool = True
) -> Property:
    """Returns the property of a name.

    Arguments:
        name: One of the domain's spellings, or a function of the user's: `FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`. It is called with the positions
            (batch, atoms, 3) of the atoms as they are written, of a periodic system the cells (batch, 3, 3), rows are lattice vectors, both in Å, and the system,
            and returns values (batch,).
        makers: The domain's makers by their spellings.
        written: Gives the positions of the atoms as they are written, and the cells of a periodic system.
        system: The system.
        differentiable: Whether the property is to steer by its gradient; without, it steers by weights alone.

    Raises:
        InputError: If there is no such property or function, or its argument is wrong.
    """
    head, colon, argument = name.partition(":")
    for spelling, make in makers.items():
        kind, takes, example = spelling.partition(":")
        if kind != head:
            continue
        if bool(takes) != bool(colon and argument.strip()):
            hint = f"write {kind}:{example}" if takes else f"write {kind} alone"
            raise InputError(f"property '{name}': {hint}")
        made = make(argument.strip())
        return made if differentiable else replace(made, differentiable=False)
    return _own(name, makers, written, system, differentiable)


def _own(name: str, makers: Mapping[str, Maker], written: Written, system: Any, differentiable: bool) -> Property:
    own = own_function(name, "property", _unknown(name, makers))
    name, call, content = own.name, own.call, own.content

    def compute(state: State) -> Tensor:
        made = written(state)
        arrays = made if isinstance(made, tuple) else (made,)
        try:
            values = call(*(array if differentiable else array.detach() for array in arrays), system)
            return values if isinstance(values, Tensor) or differentiable else torch.as_tensor(values, device=state.device)
        except EquilibraError:
            raise
        except Exception as error:
            # a user's function raises whatever its own code stumbles over
            called = "positions, cells and the system" if len(arrays) == 2 else "positions and the system"
            raise InputError(
                f"property '{name}': the function failed: {type(error).__name__}: {error}; it is called with {called}"
            ) from error

    return Property(name, compute, differentiable=differentiable, content=content)


def _unknown(name: str, makers: Mapping[str, Maker]) -> str:
    heads = {spelling.partition(":")[0]: spelling for spelling in makers}
    near = difflib.get_close_matches(name.partition(":")[0], heads, n=1)
    hint = f"; did you mean '{heads[near[0]]}'?" if near else ""
    return f"unknown property '{name}'{hint} (known: {', '.join(sorted(makers))}, or a function of your own, {FORM})"
