"""Configurations from their text form: every key is known, or the error names the nearest known one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from equilibra.errors import ConfigError, unknown_key_message

T = TypeVar("T")


def read_fields(kind: type[T], values: Mapping[str, Any]) -> T:
    """Makes a dataclass from a mapping of its fields; lists, as JSON has them, become tuples.

    Raises:
        ConfigError: If a key is no field of the dataclass, or a field without default is missing.
    """
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigError(unknown_key_message(f"key of {kind.__name__}", key, known))
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error
