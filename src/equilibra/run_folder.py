"""Folders of resumable runs: each knows what it holds, and is refused to any other run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equilibra.atomic import write_text
from equilibra.errors import CheckpointError, InputError


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Makes a run folder, or checks that an existing one belongs to the same run; its identity is kept in `run.json`.

    Raises:
        CheckpointError: If the folder holds another run, or files that are no run; the message names the first difference.
        InputError: If the folder cannot be written.
    """
    record = folder / "run.json"
    wanted = json.loads(json.dumps(identity))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"'{folder}' is a file, expected a folder")
    if record.exists():
        found = identity_of(folder)
        if found != wanted:
            key, old, new = _difference("", found, wanted)
            raise CheckpointError(
                f"'{folder}' holds another run: its {key} is {_short(old)}, this run's is {_short(new)}; "
                "choose another folder, or repeat the options of that run to go on with it"
            )
        return
    if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise CheckpointError(f"'{folder}' is not empty and holds no run; choose a new folder, nothing was changed")
    write_text(record, json.dumps(wanted, indent=2) + "\n")


def identity_of(folder: Path) -> Any:
    """Returns the identity that a run folder keeps.

    Raises:
        CheckpointError: If the folder holds no run, or its record is damaged.
    """
    record = folder / "run.json"
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"'{folder}' holds no run: there is no {record.name} in it") from error
    except ValueError as error:
        raise CheckpointError(f"{record}: the file is corrupted ({error}); use another folder") from error


def _difference(name: str, found: Any, wanted: Any) -> tuple[str, Any, Any]:
    """Returns the name of the first value that differs, such as `train.steps`, and the two values."""
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return name or "content", found, wanted
    key = next(k for k in sorted({*found, *wanted}) if k not in found or k not in wanted or found[k] != wanted[k])
    return _difference(f"{name}.{key}" if name else key, found.get(key), wanted.get(key))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 160 else text[:160] + " ..."
