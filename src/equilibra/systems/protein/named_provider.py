"""Which conditioning provider a text means: `none`, files and folders of arrays, a language model, or known structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.protein.esm import EsmProvider
from equilibra.systems.protein.known_structure import StructureProvider
from equilibra.systems.protein.providers import ARRAY_SUFFIXES, ArrayProvider, FolderProvider, NoProvider, Provider
from equilibra.systems.protein.system import NO_PROVIDER


def read_provider(source: Any) -> Provider:
    """Returns the provider that a text names.

    Arguments:
        source: `none` (or None), the path of an npy or npz file or of a folder of them, two files separated by a comma, `esm:WEIGHTS` with the path of
            weights of an ESM-2 model, `structure:PATH` with that of a known structure, of several states separated by commas, or of a folder of them, or a provider.

    Raises:
        InputError: If it names no provider, or what it names cannot be read.
    """
    if source is None or source == NO_PROVIDER:
        return NoProvider()
    if not isinstance(source, str | Path):
        if isinstance(source, Provider):
            return source
        raise InputError(f"provider: got {type(source).__name__}, expected a provider or the name of one")
    text = str(source)
    kind, _, rest = text.partition(":")
    if kind == "esm":
        return EsmProvider(rest)
    if kind == "structure":
        return StructureProvider(rest)
    if Path(text).is_dir():
        return FolderProvider(text)
    files = [part.strip() for part in text.split(",")]
    if all(Path(part).suffix.lower() in ARRAY_SUFFIXES for part in files):
        if len(files) == 1:
            return ArrayProvider.of_file(text)
        if len(files) == 2:
            return ArrayProvider(single=files[0], pair=files[1])
    raise InputError(
        f"provider: got '{text}', expected '{NO_PROVIDER}', a file that ends in {' or '.join(ARRAY_SUFFIXES)}, 'SINGLE.npy,PAIR.npy', a folder of such files, "
        "'esm:WEIGHTS', or 'structure:PATH'"
    )


__all__ = ["read_provider"]
