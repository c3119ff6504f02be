"""A provider whose features are kept on disk, keyed by what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import read_arrays, write_arrays
from equilibra.errors import InputError
from equilibra.systems.protein.providers import PAIR, SINGLE, Provider, check_features
from equilibra.systems.protein.system import ProteinSystem

_KEYS = {SINGLE: "node_extra", PAIR: "pair_extra"}


class ProviderCache:
    """A provider that keeps another's features in a folder, one npz file for each protein.

    The file's name is the SHA-256 of the sequence with its chains, the provider's name and the hash of what the features are made of: whatever of these
    changes, the features are computed again. Files are written whole or not at all, and a damaged one is computed again.

    Arguments:
        provider: The provider that is asked where the folder holds nothing.
        folder: The folder; it is made when first needed.
    """

    def __init__(self, provider: Provider, folder: str | Path) -> None:
        self.provider = provider
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """Name of the provider."""
        return self.provider.name

    def content(self, system: ProteinSystem) -> str:
        """Returns the provider's hash."""
        return self.provider.content(system)

    def path(self, system: ProteinSystem) -> Path:
        """Returns the file that holds the features of a system, whether it exists or not."""
        parts = json.dumps([system.text, self.name, self.content(system)], separators=(",", ":"))
        return self.folder / f"{hashlib.sha256(parts.encode()).hexdigest()}.npz"

    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns the features of a system, from the folder where it holds them.

        Raises:
            InputError: If the provider cannot give them, or the folder cannot be written to.
        """
        path = self.path(system)
        kept = self._kept(path, system)
        if kept is not None:
            return kept
        made = self.provider.features(system)
        arrays = {}
        for kind, key in _KEYS.items():
            value = made.get(key)
            if value is not None:
                check_features(kind, value, system, self.name)
                arrays[kind] = np.asarray(value, dtype=np.float32)
        write_arrays(path, arrays)
        return {key: arrays.get(kind) for kind, key in _KEYS.items()}

    def _kept(self, path: Path, system: ProteinSystem) -> Mapping[str, Any] | None:
        arrays = read_arrays(path) if path.exists() else None
        if arrays is None or not set(arrays) <= set(_KEYS):
            return None
        try:
            for kind, value in arrays.items():
                check_features(kind, value, system, self.name)
        except InputError:
            return None
        return {key: arrays.get(kind) for kind, key in _KEYS.items()}


__all__ = ["ProviderCache"]
