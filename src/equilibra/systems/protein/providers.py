"""Conditioning providers: where the real features of residues and pairs come from, such as those of a structure predictor.

A provider is asked once for each protein. Its features become `extra` of the network's nodes and pairs, and the hash of what they were made of
becomes part of the system's digest.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from equilibra.errors import InputError, ShapeError
from equilibra.systems.protein import memory
from equilibra.systems.protein.system import NO_PROVIDER, ProteinSystem

SINGLE = "single"
"""Key of the residues' features (L, W1) in npz files, and the ending of their file's name in folders."""

PAIR = "pair"
"""Key of the pairs' features (L, L, W2) in npz files, and the ending of their file's name in folders."""

ARRAY_SUFFIXES = (".npy", ".npz")
"""Suffixes of the files that hold arrays."""

_AXES = {SINGLE: 1, PAIR: 2}
_COPIES = 3  # of the numbers of a file, while they are read and checked
_SHORTER = "take a shorter chain or a machine with more memory"


class MissingFeaturesError(InputError):
    """A provider has no features of a protein."""


@runtime_checkable
class Provider(Protocol):
    """Abstract source of the extra features of proteins. `condition` checks what it gives."""

    @property
    def name(self) -> str:
        """Name of the kind of features."""

    def content(self, system: ProteinSystem) -> str:
        """Returns a hash of what the features of a system are made of: its arrays, or the weights that compute them."""

    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns `node_extra` (L, W1) and `pair_extra` (L, L, W2) of a system, each an array or None; raises `MissingFeaturesError` if it has neither."""


class NoProvider:
    """The provider that adds nothing: residue types and positions along the chain are all that the network is told."""

    name = NO_PROVIDER

    def content(self, system: ProteinSystem) -> str:
        """Returns an empty hash."""
        return ""

    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns no features."""
        return {"node_extra": None, "pair_extra": None}


class ArrayProvider:
    """Arrays on disk or in memory for one protein, such as the single (L, 384) and pair (L, L, 128) representations of AlphaFold 2 or OpenFold.

    Files are npy, or npz with the arrays under the keys `single` and `pair` (any key if there is just one array); pickled objects are refused. Numbers of
    16, 32 or 64 bits are taken, and a leading axis of length one is dropped.

    Arguments:
        single: Features of residues, or the file of them.
        pair: Features of pairs, or the file of them.
        name: Name of the kind of features.

    Raises:
        InputError: If neither is given, a file cannot be read, or an array has a wrong number of axes or is not finite.
    """

    def __init__(self, single: Any | None = None, pair: Any | None = None, *, name: str = "arrays") -> None:
        if single is None and pair is None:
            raise InputError("features: got neither single nor pair features, expected at least one of them")
        self.name = name
        self._arrays = {key: _loaded(value, key) for key, value in ((SINGLE, single), (PAIR, pair)) if value is not None}
        self._content = _hash_arrays(self._arrays)

    @classmethod
    def of_file(cls, path: str | Path) -> ArrayProvider:
        """Reads an npz file that holds `single`, `pair` or both, or an npy file, whose number of axes tells what it is."""
        arrays = _read_arrays(Path(path))
        if set(arrays) & {SINGLE, PAIR}:
            return cls(arrays.get(SINGLE), arrays.get(PAIR))
        if len(arrays) != 1:
            raise InputError(
                f"'{path}' holds the arrays {', '.join(sorted(arrays)) or 'none'}, expected '{SINGLE}' and '{PAIR}', or one array"
            )
        (array,) = arrays.values()
        return cls(pair=array) if _without_batch(array).ndim == 3 else cls(single=array)

    def content(self, system: ProteinSystem) -> str:
        """Returns the hash of the arrays."""
        return self._content

    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns the arrays, if they fit the system.

        Raises:
            ShapeError: If they were made for another number of residues.
        """
        return {"node_extra": self._arrays.get(SINGLE), "pair_extra": self._arrays.get(PAIR)}


class FolderProvider:
    """A folder of arrays for many proteins: `NAME_single.npy` and `NAME_pair.npy`, or `NAME.npz`.

    NAME is the protein's name or the SHA-256 of its sequence (`sequence_key`), of which the first 16 characters suffice. One array of the two is enough.

    Arguments:
        folder: The folder.
        name: Name of the kind of features.

    Raises:
        InputError: If there is no such folder.
    """

    def __init__(self, folder: str | Path, *, name: str = "arrays") -> None:
        self.folder = Path(folder)
        self.name = name
        if not self.folder.is_dir():
            raise InputError(f"no such folder of features: '{self.folder}'")
        self._latest: tuple[str, ArrayProvider] | None = None

    def content(self, system: ProteinSystem) -> str:
        """Returns the hash of the arrays of a system."""
        return self._of(system).content(system)

    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns the arrays of a system.

        Raises:
            MissingFeaturesError: If the folder holds none.
        """
        return self._of(system).features(system)

    def _of(self, system: ProteinSystem) -> ArrayProvider:
        # content and features are asked one after the other: the files are read once
        wanted = f"{system.name}/{system.text}"
        if self._latest is None or self._latest[0] != wanted:
            self._latest = (wanted, self._read(system))
        return self._latest[1]

    def _read(self, system: ProteinSystem) -> ArrayProvider:
        for stem in file_stems(system):
            both = self.folder / f"{stem}.npz"
            if both.exists():
                return ArrayProvider.of_file(both)
            files = {part: self.folder / f"{stem}_{part}.npy" for part in (SINGLE, PAIR)}
            found = {part: path for part, path in files.items() if path.exists()}
            if found:
                return ArrayProvider(**found, name=self.name)
        raise MissingFeaturesError(
            f"'{self.folder}' holds no features of '{system.name}'; expected {system.name}_{SINGLE}.npy, {system.name}_{PAIR}.npy or {system.name}.npz, "
            f"or the same with {file_stems(system)[-1]} (hash of the sequence)"
        )


def condition(system: ProteinSystem, provider: Provider | None) -> ProteinSystem:
    """Returns a system with the features of a provider; without a provider as it is.

    Raises:
        ShapeError: If the features have another length than the system.
        MissingFeaturesError: If a provider other than `NoProvider` has none.
        InputError: If they are not finite, or cannot be had.
    """
    if provider is None:
        return system
    features = provider.features(system)
    node, pair = features.get("node_extra"), features.get("pair_extra")
    if node is None and pair is None and provider.name != NO_PROVIDER:
        raise MissingFeaturesError(f"{system.name}: the provider '{provider.name}' has no features of it")
    for kind, value in ((SINGLE, node), (PAIR, pair)):
        if value is not None:
            check_features(kind, value, system, provider.name)
    return system.with_extra(node, pair, provider=provider.name, content=provider.content(system))


def check_features(kind: str, value: Any, system: ProteinSystem, provider: str) -> None:
    """Checks that the features of one kind, `SINGLE` or `PAIR`, fit a system and are finite.

    Raises:
        ShapeError: If the shape is another than (L, W) or (L, L, W).
        InputError: If a number is not finite.
    """
    axes = _AXES[kind]
    shape = tuple(np.shape(value))
    if len(shape) != axes + 1 or any(size != system.length for size in shape[:-1]) or shape[-1] == 0:
        expected = f"({', '.join([str(system.length)] * axes)}, width) for the {system.length} residues of '{system.name}'"
        raise ShapeError(f"{kind} features of the provider '{provider}'", shape, expected)
    _check_finite(kind, np.asarray(value), f"the provider '{provider}'")


def sequence_key(system: ProteinSystem) -> str:
    """Returns the SHA-256 of the sequence, its chains separated by `:`, in hexadecimal."""
    return hashlib.sha256(system.text.encode()).hexdigest()


def file_stems(system: ProteinSystem) -> list[str]:
    """Returns what files of a protein may be called in a folder of many: its name, where it can be that of a file, and the hash of its sequence, whole and its first 16 characters."""
    key = sequence_key(system)
    return [stem for stem in (system.name, key, key[:16]) if "/" not in stem and "\\" not in stem]


def _loaded(source: Any, kind: str) -> np.ndarray:
    if isinstance(source, str | Path):
        arrays = _read_arrays(Path(source))
        if kind not in arrays and len(arrays) != 1:
            raise InputError(
                f"'{source}' holds the arrays {', '.join(sorted(arrays)) or 'none'}, expected '{kind}', or one array"
            )
        array, where = arrays[kind] if kind in arrays else next(iter(arrays.values())), f"'{source}'"
    else:
        array, where = np.asarray(source), "the array"
    if array.dtype.kind != "f":
        raise InputError(f"{kind} features of {where}: got numbers of type {array.dtype}, expected floating-point numbers")
    array, wanted = _without_batch(array), _AXES[kind] + 1
    if array.ndim != wanted:
        raise ShapeError(
            f"{kind} features of {where}", array.shape, f"{wanted} axes, {'(L, width)' if kind == SINGLE else '(L, L, width)'}"
        )
    array = np.array(array, dtype=np.float32)
    _check_finite(kind, array, where)
    array.setflags(write=False)
    return array


def _without_batch(array: np.ndarray) -> np.ndarray:
    # a protein has more than one residue: a first axis of one is that of a batch
    return array[0] if array.ndim > 1 and array.shape[0] == 1 else array


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"no such file of features: '{path}'")
    try:
        memory.require(_COPIES * _unpacked(path), f"reading '{path}'", _SHORTER)
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"": content}
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        # numpy says of every other file that it is pickled
        raise InputError(
            f"'{path}' cannot be read: expected an npy or npz file of numbers without pickled objects; save it again with numpy.save"
        ) from error


def _unpacked(path: Path) -> int:
    """Returns the bytes of a file's arrays; those in an npz file may be packed."""
    if path.suffix.lower() != ".npz":
        return path.stat().st_size
    with zipfile.ZipFile(path) as file:
        return sum(item.file_size for item in file.infolist())


def _check_finite(kind: str, array: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        residue = int(np.argwhere(bad)[0][0])
        raise InputError(
            f"{kind} features of {where}: {int(bad.sum())} numbers are NaN or infinite, the first at residue {residue + 1}; expected finite numbers"
        )


def _hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


__all__ = [
    "ArrayProvider",
    "FolderProvider",
    "MissingFeaturesError",
    "NoProvider",
    "Provider",
    "check_features",
    "condition",
    "file_stems",
    "sequence_key",
]
