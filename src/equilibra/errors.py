"""Errors that teach: what came, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EquilibraError(Exception):
    """Base of all errors the package raises on purpose; the command line exits with `exit_code`."""

    exit_code = 1


class InputError(EquilibraError):
    """A user's input cannot be used: the message says what came, what was expected and what to do."""

    exit_code = 2


class ShapeError(InputError):
    """An array has the wrong shape."""

    def __init__(self, name: str, got: object, expected: object) -> None:
        super().__init__(f"{name}: got shape {got}, expected {expected}")


class ConfigError(InputError):
    """A configuration has an unknown key or a value out of range."""


class SpaceError(InputError):
    """An operation was asked of a Space, Schedule or Sampler that cannot provide it."""


class CheckpointError(InputError):
    """A checkpoint is missing, corrupted, of another schema, or of another run."""


class DivergenceError(EquilibraError):
    """A computation left the finite numbers; the last good state is kept."""


class MissingDependencyError(InputError):
    """An optional engine is not installed; the message gives the install line."""


def unknown_key_message(kind: str, key: str, known: Iterable[str]) -> str:
    """Returns a sentence about an unknown key that names the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{key}'{hint} (known: {', '.join(names)})"
