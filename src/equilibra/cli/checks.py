"""Checks of options that cost nothing, made before anything is imported or computed."""

import os
from collections.abc import Collection
from pathlib import Path

from equilibra.errors import InputError, unknown_key_message


def at_least(option: str, value: float | None, least: float) -> None:
    """Checks a number against its lower limit; None passes."""
    if value is not None and not value >= least:
        raise InputError(f"{option}: got {value}, expected at least {least}")


def one_of(kind: str, value: str | None, known: Collection[str]) -> None:
    """Checks a name against the known ones; None passes."""
    if value is not None and value not in known:
        raise InputError(unknown_key_message(kind, value, known))


def writable(folder: Path) -> None:
    """Checks that a folder is there, or can be made, and may be written to; nothing is made.

    Raises:
        InputError: If not.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"cannot write '{folder}': '{existing}' is a file, expected a folder; choose another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot write '{folder}': no permission for '{existing}'; choose a folder that you may write to")


def present(path: Path) -> None:
    """Checks that a file or folder is there.

    Raises:
        InputError: If not.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: '{path}'")
