"""Files of crystal structures: extended XYZ, CIF files in a zip archive, npz; written whole or not at all."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path, write_text
from equilibra.errors import InputError
from equilibra.systems.crystal.formula import symbols
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.files import Frames

FORMATS = ("extxyz", "cif.zip", "npz")
"""Formats that structures can be written in."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the files in an archive: the same structures give the same bytes


def ase_structures(
    positions: np.ndarray, cells: np.ndarray, numbers: Any, properties: Mapping[str, np.ndarray] | None = None
) -> list[Any]:
    """Returns ASE `Atoms` of frames (F, N, 3) and cells (F, 3, 3), in Å, with numbers (F,) in `info`."""
    from ase import Atoms

    frames = []
    for index, (x, cell) in enumerate(zip(positions, cells, strict=True)):
        atoms = Atoms(numbers=np.asarray(numbers), positions=x, cell=cell, pbc=True)
        atoms.info.update({name: float(values[index]) for name, values in (properties or {}).items()})
        frames.append(atoms)
    return frames


def write_structures(
    path: Path,
    positions: np.ndarray,
    cells: np.ndarray,
    numbers: Any,
    properties: Mapping[str, np.ndarray] | None = None,
    *,
    name: str = "structure",
) -> None:
    """Writes structures atomically in one of `FORMATS`, which the end of the file's name tells.

    Arguments:
        path: The file.
        positions: Frames (F, N, 3), in Å.
        cells: Cells (F, 3, 3), in Å.
        numbers: Atomic numbers (N,).
        properties: Numbers (F,) that go along, where the format has room for them.
        name: What the structures in an archive are called, with a number behind.

    Raises:
        InputError: If the format is unknown, there is no structure, or the folder is not writable.
    """
    suffix = next((known for known in FORMATS if path.name.lower().endswith(f".{known}")), None)
    if suffix is None:
        raise InputError(f"'{path.name}': unknown format; expected one of {', '.join(FORMATS)}")
    if len(positions) == 0:
        raise InputError(f"'{path.name}': there is no structure to write")
    with atomic_path(path) as temporary:
        if suffix == "npz":
            arrays: dict[str, Any] = {
                "positions": positions,
                "cells": cells,
                "numbers": np.asarray(numbers),
                **(properties or {}),
            }
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
        elif suffix == "extxyz":
            import ase.io

            ase.io.write(str(temporary), ase_structures(positions, cells, numbers, properties), format="extxyz")
        else:
            _write_zip(temporary, positions, cells, np.asarray(numbers), name)


def read_frames(path: str | Path, topology: Any | None = None) -> Frames:
    """Reads structures of one composition from a file that `write_structures` makes, CIF archives aside.

    Arguments:
        path: The file.
        topology: Not used; crystals have none.

    Returns:
        Positions (F, N, 3), float32, in Å, and the numbers (F,) of the frames, with `cells` (F, 3, 3) and `numbers` (N,) among them.

    Raises:
        InputError: If the file is missing or malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: np.asarray(arrays[name]) for name in arrays.files}
            return np.asarray(found.pop("positions"), dtype=np.float32), found
        import ase.io

        frames: Any = ase.io.read(path, index=":", format="extxyz")
        kept = [name for name, value in frames[0].info.items() if isinstance(value, int | float)]
        numbers = {name: np.array([float(atoms.info[name]) for atoms in frames]) for name in kept}
        cells = np.stack([np.asarray(atoms.cell) for atoms in frames])
        positions = np.stack([atoms.positions for atoms in frames]).astype(np.float32)
        return positions, {**numbers, "cells": cells, "numbers": frames[0].numbers}
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(f"'{path}' cannot be read: {type(error).__name__}: {error}") from error


def cif_text(numbers: np.ndarray, frac: np.ndarray, cell: np.ndarray, name: str) -> str:
    """Returns one structure as CIF, without symmetry (P 1).

    Arguments:
        numbers: Atomic numbers (N,).
        frac: Fractional coordinates (N, 3).
        cell: Lattice vectors as rows (3, 3), in Å.
        name: Name of the block.
    """
    from ase.cell import Cell

    known = symbols()
    lengths = dict(
        zip(("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"), Cell(cell).cellpar(), strict=True)
    )
    lines = [f"data_{''.join(sign if sign.isalnum() or sign in '-_.' else '_' for sign in name)}"]
    lines += [f"_cell_{key} {value:.8f}" for key, value in lengths.items()]
    lines += [
        "_symmetry_space_group_name_H-M 'P 1'",
        "_symmetry_Int_Tables_number 1",
        "loop_",
        "_symmetry_equiv_pos_as_xyz",
        "'x, y, z'",
    ]
    lines += ["loop_", *(f"_atom_site_{key}" for key in ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy"))]
    rows = zip(numbers, frac - np.floor(frac), strict=True)
    lines += [f"{known[z]} {known[z]}{i} {x[0]:.8f} {x[1]:.8f} {x[2]:.8f} 1" for i, (z, x) in enumerate(rows, start=1)]
    return "\n".join(lines) + "\n"


def write_table(path: Path, structures: Sequence[Structure]) -> None:
    """Writes structures of any compositions: CSV with the columns `material_id`, `cif` and `energy_per_atom`, as CDVAE's, or extended XYZ; their values go along.

    Raises:
        InputError: If the file is called neither, there is no structure, or the folder is not writable.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".extxyz"):
        raise InputError(f"'{path.name}': unknown format '{suffix}'; expected .csv or .extxyz")
    if not structures:
        raise InputError(f"'{path.name}': there is no structure to write")
    if suffix == ".csv":
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        names = list(dict.fromkeys(name for item in structures for name in item.values))
        rows.writerow(["material_id", "cif", "energy_per_atom", *names])
        for item in structures:
            right = item.right_handed()
            cif = cif_text(right.numbers, right.frac, right.cell, item.name or item.formula)
            numbers = [item.energy, *(item.values.get(name) for name in names)]
            rows.writerow([item.name, cif, *("" if number is None else repr(float(number)) for number in numbers)])
        write_text(path, text.getvalue())
        return
    import ase.io

    frames = []
    for item in structures:
        frames += ase_structures(item.positions[None], item.cell[None], item.numbers)
        frames[-1].info.update({**item.values, "name": item.name})
        if item.energy is not None:
            frames[-1].info["energy_per_atom"] = float(item.energy)
    with atomic_path(path) as temporary:
        ase.io.write(str(temporary), frames, format="extxyz")


def _write_zip(path: Path, positions: np.ndarray, cells: np.ndarray, numbers: np.ndarray, name: str) -> None:
    width = len(str(len(positions) - 1))
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for index, (x, cell) in enumerate(zip(positions, cells, strict=True)):
            called = f"{name}-{index:0{width}d}"
            frac = np.asarray(x, dtype=np.float64) @ np.linalg.inv(np.asarray(cell, dtype=np.float64))
            archive.writestr(zipfile.ZipInfo(f"{called}.cif", _EPOCH), cif_text(numbers, frac, cell, called))
