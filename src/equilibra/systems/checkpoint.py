"""Model files: `model.json` (schema version, process, network, sampler, scope, card) and `model.safetensors`, bound by a hash."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from equilibra.atomic import write_text
from equilibra.errors import CheckpointError, unknown_key_message
from equilibra.tensor_files import read_tensors, write_tensors

SCHEMA_VERSION = 1
KEYS = frozenset(
    {"schema_version", "name", "domain", "process", "network", "parametrisation", "sampler", "scope", "card", "sha256"}
)


def write_model(folder: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a model folder; the description, which names the hash of the weights, comes last."""
    sha256 = write_tensors(folder / "model.safetensors", tensors)
    values = {"schema_version": SCHEMA_VERSION, **description, "sha256": sha256}
    write_text(folder / "model.json", json.dumps(values, indent=2) + "\n")


def read_description(folder: Path) -> dict[str, Any]:
    """Reads `model.json` strictly.

    Raises:
        CheckpointError: If it is missing, malformed, of another schema, or has unknown or missing keys.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise CheckpointError(f"model '{folder}': no file model.json there; expected a folder written by `equilibra train`")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the file is corrupted ({error}); fetch or train the model again") from error
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise CheckpointError(f"{path}: got schema version {version}, expected {SCHEMA_VERSION}; update equilibra or the model")
    for key in values:
        if key not in KEYS:
            raise CheckpointError(f"{path}: {unknown_key_message('key', key, KEYS)}")
    missing = KEYS - set(values)
    if missing:
        raise CheckpointError(f"{path}: missing {', '.join(sorted(missing))}")
    return dict(values)


def read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    """Reads `model.safetensors` and checks it against the hash of its description.

    Raises:
        CheckpointError: If it is missing or is not the file that was written.
    """
    return read_tensors(folder / "model.safetensors", sha256)
