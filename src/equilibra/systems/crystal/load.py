"""Crystals from what a user names for an evaluation: folders of samples, files of structures, ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.structures import Structure


@dataclass(frozen=True, eq=False)
class Crystals:
    """Structures of any compositions.

    Attributes:
        structures: The structures; of samples the valid ones.
        drawn: How many were drawn, the invalid ones included.
        provenance: What made the first of the samples; empty for files.
    """

    structures: list[Structure]
    drawn: int
    provenance: Mapping[str, Any] = field(default_factory=dict)


def load_crystals(source: Any) -> Crystals:
    """Reads the structures of a source.

    Arguments:
        source: A folder that `equilibra sample` wrote, of one composition or of several in sub-folders; a file or folder of structures; ensembles; or structures.

    Raises:
        InputError: If it is none of these, or cannot be read.
    """
    if isinstance(source, CrystalEnsemble):
        return _of([source])
    if isinstance(source, str | Path):
        path = Path(source)
        folders = [path] if (path / "ensemble.json").is_file() else sorted(file.parent for file in path.glob("*/ensemble.json"))
        if folders:
            return _of([CrystalEnsemble.read(folder) for folder in folders])
        structures = read_structures(path)
        return Crystals(structures, len(structures))
    if isinstance(source, Sequence) and source and all(isinstance(item, CrystalEnsemble) for item in source):
        return _of(list(source))
    if isinstance(source, Sequence) and source and all(isinstance(item, Structure) for item in source):
        return Crystals(list(source), len(source))
    raise InputError("crystals: expected a folder, a file of structures, or a list of ensembles or structures")


def _of(ensembles: Sequence[CrystalEnsemble]) -> Crystals:
    structures = [structure for ensemble in ensembles for structure in ensemble.structures()]
    drawn = len(structures) + sum(len(ensemble.rejected) for ensemble in ensembles)
    return Crystals(structures, drawn, ensembles[0].provenance)
