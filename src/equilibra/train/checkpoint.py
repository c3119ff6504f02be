"""Checkpoints of a training run: one safetensors file with a JSON header, replaced atomically. Nothing is ever unpickled."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilibra.atomic import write_bytes
from equilibra.errors import CheckpointError

SCHEMA_VERSION = 1


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON header to one file: to a temporary name, flushed, then renamed."""
    from safetensors.torch import save

    values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # the file's own entries come last: a header that was read may be written again with other tensors
    metadata = {"header": json.dumps({**header, "schema_version": SCHEMA_VERSION, "sha256": _digest(values)})}
    content = save(values, metadata=metadata)
    write_bytes(path, content)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `write_checkpoint` wrote.

    Raises:
        CheckpointError: If the file is missing, corrupted or of another schema.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise CheckpointError(f"checkpoint {path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"checkpoint {path}: the file is corrupted ({error}); delete it to start again") from error
    if header.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"checkpoint {path}: got schema version {header.get('schema_version')}, expected {SCHEMA_VERSION}"
        )
    if header.get("sha256", _digest(tensors)) != _digest(tensors):
        raise CheckpointError(f"checkpoint {path}: the file is corrupted (its hash is another); delete it to start again")
    return tensors, header


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        # an array of one number may have any stride, and bytes cannot be seen through it
        flat = value.reshape(-1).clone(memory_format=torch.contiguous_format)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the state of an optimiser as named tensors."""
    return {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, entry in optimiser.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts the state that `optimiser_tensors` gave back into an optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
