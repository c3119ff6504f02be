"""Tensors in safetensors files that a hash binds to the JSON beside them. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from equilibra.atomic import write_bytes
from equilibra.errors import CheckpointError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Writes tensors atomically, and returns the SHA-256 of the file."""
    from safetensors.torch import save

    content = save({name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Reads tensors, and checks that the file is the one that was written.

    Arguments:
        path: The file.
        sha256: Hash that the description beside it states.

    Raises:
        CheckpointError: If the file is missing, or is another one.
    """
    from safetensors.torch import load

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; the model folder is incomplete")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path}: the weights are corrupted: their hash is {found[:12]}..., the description beside them says {sha256[:12]}...; "
            "fetch or train the model again"
        )
    return dict(load(content))
