"""ASE calculators by name: those of ASE, neural potentials whose wheels carry weights (`pip install "equilibra[adsorbate]"`), and a user's own as `module:callable`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from equilibra.errors import InputError, MissingDependencyError

NEURAL = ("chgnet", "sevennet")
"""Neural potentials of any elements, by name; each needs its package."""


def make_calculator(name: str) -> Any:
    """Makes an ASE calculator.

    Arguments:
        name: `chgnet` or `sevennet`; a name of ASE such as `emt` or `lj`; or `module:callable`, of which the callable returns a calculator.

    Raises:
        InputError: If there is no such calculator, or the callable fails or returns something else.
        MissingDependencyError: If its package is not installed.
    """
    calculator = _made(name)
    if not callable(getattr(calculator, "get_property", None)):
        raise InputError(
            f"energy '{name}': got an object of the class {type(calculator).__name__}, expected an ASE calculator, which has get_property"
        )
    return calculator


def _made(name: str) -> Any:
    module, mark, function = name.partition(":")
    if mark:
        return _own(name, module, function)()
    if name == "chgnet":
        return _neural(name, "chgnet.model.dynamics", "CHGNetCalculator", "chgnet")()
    if name == "sevennet":
        return _neural(name, "sevenn.calculator", "SevenNetCalculator", "sevenn")("7net-0")
    from ase.calculators.calculator import get_calculator_class, names

    if name not in names:
        raise InputError(
            f"energy: got '{name}', expected emt, {', '.join(NEURAL)}, the name of an ASE calculator, or module:callable for your own"
        )
    try:
        return get_calculator_class(name)()
    except Exception as error:
        # calculators of other programs raise whatever their configuration lacks
        raise InputError(f"energy '{name}': ASE cannot make this calculator: {type(error).__name__}: {error}") from error


def _neural(name: str, module: str, function: str, package: str) -> Callable[..., Any]:
    try:
        return getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise MissingDependencyError(
            f"energy '{name}': the package {package} is not installed; pip install {package}, or 'equilibra[adsorbate]' for all of them"
        ) from error


def _own(name: str, module: str, function: str) -> Callable[[], Any]:
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"energy '{name}': {error}; expected module:callable, importable from here") from error
    if not callable(found):
        raise InputError(f"energy '{name}': {function} is not callable, expected a function or class that makes a calculator")

    def make() -> Any:
        try:
            return found()
        except Exception as error:
            # a user's own function raises whatever it likes
            raise InputError(f"energy '{name}': {function}() failed: {type(error).__name__}: {error}") from error

    return make
