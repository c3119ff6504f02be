"""Functions of a user's own, named on a command line: `FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from equilibra.errors import InputError

FORM = "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"
"""How they are named."""


@dataclass(frozen=True)
class OwnFunction:
    """A function of the user's.

    Attributes:
        name: Its name without folders.
        call: The function.
        content: Hash of its file; empty for one of an installed module.
    """

    name: str
    call: Callable[..., Any]
    content: str = ""


def own_function(name: str, kind: str, unknown: str) -> OwnFunction:
    """Finds a function by its name; the module that it is in is executed.

    Arguments:
        name: `FILE.py:FUNCTION` or `PACKAGE.MODULE:FUNCTION`.
        kind: What it is to be, a word that messages begin with.
        unknown: What to say of a name that is neither.

    Raises:
        InputError: If there is no such file, module or function, or its module fails.
    """
    where, colon, function = name.rpartition(":")
    if not colon or not function.strip().isidentifier():
        raise InputError(unknown)
    where, function = where.strip(), function.strip()
    if where.endswith(".py"):
        path = Path(where)
        if not path.is_file():
            raise InputError(f"{kind} '{name}': no such file: '{where}'")
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        module = _module_of_file(path.resolve(), content, kind)
        name = f"{path.name}:{function}"
    else:
        module, content = _module_of_name(where, kind, unknown), ""
    call = getattr(module, function, None)
    if not callable(call):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(function, known, n=1)
        raise InputError(
            f"{kind} '{name}': no function '{function}' in '{where}'" + (f"; did you mean '{near[0]}'?" if near else "")
        )
    return OwnFunction(name, call, content)


@lru_cache(maxsize=16)
def _module_of_file(path: Path, content: str, kind: str) -> ModuleType:
    """Executes a file, once for each content."""
    specification = importlib.util.spec_from_file_location(f"_own_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise InputError(f"{kind}: '{path}' is no Python file that can be read")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        # whatever the user's own file stumbles over
        raise InputError(f"{kind}: '{path}' failed when it was read: {type(error).__name__}: {error}") from error
    return module


def _module_of_name(where: str, kind: str, unknown: str) -> ModuleType:
    if not all(part.isidentifier() for part in where.split(".")):
        raise InputError(unknown)
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise InputError(f"{unknown}; there is no Python module '{where}' ({error})") from error
    except Exception as error:
        raise InputError(f"{kind}: the module '{where}' failed when it was read: {type(error).__name__}: {error}") from error
