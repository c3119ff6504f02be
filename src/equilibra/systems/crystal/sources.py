"""Crystals from what a user names: a formula, or a file of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.crystal.data.read import is_structure_file, read_structures
from equilibra.systems.crystal.system import CrystalSystem


def crystal_systems(source: Any) -> list[CrystalSystem]:
    """Reads the compositions of a source, each once.

    Arguments:
        source: A formula of one cell (C8, NaCl, Si2O4), a file of structures, atomic numbers, or a system.

    Raises:
        InputError: If it is none of these, or the file cannot be read.
    """
    if isinstance(source, CrystalSystem):
        return [source]
    if isinstance(source, str | Path):
        path = Path(source)
        if path.exists() or is_structure_file(path):
            structures = read_structures(path)
            return list({structure.formula: CrystalSystem.of(structure.numbers.tolist()) for structure in structures}.values())
        return [CrystalSystem.of_formula(str(source))]
    try:
        numbers = [int(number) for number in source]
    except (TypeError, ValueError):
        raise InputError(
            f"crystal: got {type(source).__name__}, expected a formula such as C8, a file, or atomic numbers"
        ) from None
    return [CrystalSystem.of(numbers)]
