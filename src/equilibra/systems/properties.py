"""Properties of a domain's systems by name, as a guide names them, and a user's own functions.

A domain's `properties(system)` gives makers by their spelling: `radius-of-gyration`, or `distance:I,J` for one that takes an argument after the colon.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from equilibra.errors import EquilibraError, InputError
from equilibra.geometry import size
from equilibra.guidance.guide import Property
from equilibra.state import State

Maker = Callable[[str], Property]
"""Makes a property from what follows the colon; empty where nothing does."""
Positions = Callable[[State], Tensor]
"""Gives positions (batch, items, 3) of a State, in Å, with gradients."""

_OWN = "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"


def gyration(positions: Positions, weights: Tensor | None = None) -> Maker:
    """Returns the maker of the radius of gyration, in Å, of positions with weights (items,), such as masses; equal ones by default."""

    def compute(state: State) -> Tensor:
        return size.radius_of_gyration(positions(state), weights)

    return lambda _: Property("radius-of-gyration", compute, "Å")


def distance(positions: Positions, index: Callable[[str], int]) -> Maker:
    """Returns the maker of the distance, in Å, of two of the positions.

    Arguments:
        positions: Gives the positions.
        index: Returns the number, from 0, of the item that a text such as `12` names; it raises `InputError` where there is none.
    """

    def make(argument: str) -> Property:
        names = [text.strip() for text in argument.split(",")]
        if len(names) != 2 or not all(names):
            raise InputError(f"distance: got '{argument}', expected two numbers such as distance:3,17")
        i, j = map(index, names)
        if i == j:
            raise InputError(f"distance: got '{argument}', expected two different numbers")
        return Property(f"distance:{','.join(names)}", lambda state: size.distance(positions(state), i, j), "Å")

    return make


def find_property(
    name: str, makers: Mapping[str, Maker], written: Positions, system: Any, *, differentiable: bool = True
) -> Property:
    """Returns the property of a name.

    Arguments:
        name: One of the domain's spellings, or a function of the user's: `FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`. It is called with the positions
            (batch, atoms, 3) of the atoms as they are written, in Å, and the system, and returns values (batch,).
        makers: The domain's makers by their spellings.
        written: Gives the positions of the atoms as they are written.
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


def _own(name: str, makers: Mapping[str, Maker], written: Positions, system: Any, differentiable: bool) -> Property:
    where, colon, function = name.rpartition(":")
    if not colon or not function.strip().isidentifier():
        raise InputError(_unknown(name, makers))
    where, function = where.strip(), function.strip()
    if where.endswith(".py"):
        path = Path(where)
        if not path.is_file():
            raise InputError(f"property '{name}': no such file: '{where}'")
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        module = _module_of_file(path.resolve(), content)
        name = f"{path.name}:{function}"
    else:
        module, content = _module_of_name(where, name, makers), ""
    call = getattr(module, function, None)
    if not callable(call):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(function, known, n=1)
        raise InputError(
            f"property '{name}': no function '{function}' in '{where}'" + (f"; did you mean '{near[0]}'?" if near else "")
        )

    def compute(state: State) -> Tensor:
        positions = written(state)
        try:
            values = call(positions if differentiable else positions.detach(), system)
            return values if isinstance(values, Tensor) or differentiable else torch.as_tensor(values, device=state.device)
        except EquilibraError:
            raise
        except Exception as error:
            # a user's function raises whatever its own code stumbles over
            raise InputError(f"property '{name}': the function failed: {type(error).__name__}: {error}") from error

    return Property(name, compute, differentiable=differentiable, content=content)


@lru_cache(maxsize=16)
def _module_of_file(path: Path, content: str) -> ModuleType:
    """Executes a file, once for each content."""
    specification = importlib.util.spec_from_file_location(f"_property_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise InputError(f"property: '{path}' is no Python file that can be read")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        # whatever the user's own file stumbles over
        raise InputError(f"property: '{path}' failed when it was read: {type(error).__name__}: {error}") from error
    return module


def _module_of_name(where: str, name: str, makers: Mapping[str, Maker]) -> ModuleType:
    if not all(part.isidentifier() for part in where.split(".")):
        raise InputError(_unknown(name, makers))
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise InputError(f"{_unknown(name, makers)}; there is no Python module '{where}' ({error})") from error
    except Exception as error:
        raise InputError(f"property: the module '{where}' failed when it was read: {type(error).__name__}: {error}") from error


def _unknown(name: str, makers: Mapping[str, Maker]) -> str:
    heads = {spelling.partition(":")[0]: spelling for spelling in makers}
    near = difflib.get_close_matches(name.partition(":")[0], heads, n=1)
    hint = f"; did you mean '{heads[near[0]]}'?" if near else ""
    return f"unknown property '{name}'{hint} (known: {', '.join(sorted(makers))}, or a function of your own, {_OWN})"
