"""ASE calculators by name: those of ASE, neural potentials whose wheels carry weights (`pip install "equilibra[adsorbate]"`), and a user's own function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from equilibra.errors import InputError, MissingDependencyError
from equilibra.own_functions import FORM, own_function

NEURAL = ("chgnet", "sevennet")
"""Neural potentials of any elements, by name; each needs its package."""


def make_calculator(name: str, kind: str = "energy") -> Any:
    """Makes an ASE calculator.

    Arguments:
        name: `chgnet` or `sevennet`; a name of ASE such as `emt` or `lj`; or a function of the user's, `FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`, that is
            called without arguments and returns one.
        kind: What it is to be, a word that messages begin with.

    Raises:
        InputError: If there is no such calculator, or the function fails or returns something else.
        MissingDependencyError: If its package is not installed.
    """
    calculator = _made(name, kind)
    if not callable(getattr(calculator, "get_property", None)):
        raise InputError(
            f"{kind} '{name}': got an object of the class {type(calculator).__name__}, expected an ASE calculator, which has get_property"
        )
    return calculator


def _made(name: str, kind: str) -> Any:
    if ":" in name:
        return _own(name, kind)
    if name == "chgnet":
        return _neural(name, kind, "chgnet.model.dynamics", "CHGNetCalculator", "chgnet")()
    if name == "sevennet":
        return _neural(name, kind, "sevenn.calculator", "SevenNetCalculator", "sevenn")("7net-0")
    from ase.calculators.calculator import get_calculator_class, names

    if name not in names:
        raise InputError(
            f"{kind}: got '{name}', expected emt, {', '.join(NEURAL)}, the name of an ASE calculator, or {FORM} of your own"
        )
    try:
        return get_calculator_class(name)()
    except Exception as error:
        # calculators of other programs raise whatever their configuration lacks
        raise InputError(f"{kind} '{name}': ASE cannot make this calculator: {type(error).__name__}: {error}") from error


def _own(name: str, kind: str) -> Any:
    found = own_function(name, kind, f"{kind} '{name}': expected {FORM}")
    try:
        return found.call()
    except Exception as error:
        # a user's own function raises whatever it likes
        raise InputError(f"{kind} '{name}': {found.name} failed: {type(error).__name__}: {error}") from error


def _neural(name: str, kind: str, module: str, function: str, package: str) -> Callable[..., Any]:
    try:
        return getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise MissingDependencyError(
            f"{kind} '{name}': the package {package} is not installed; pip install {package}, or 'equilibra[adsorbate]' for all of them"
        ) from error
