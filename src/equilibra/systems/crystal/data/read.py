"""Reads crystal structures from files, each record by itself: a bad one is reported, and the rest goes on.

=================================  ==============================================================================================
`.cif`                             one or several blocks
`POSCAR`, `CONTCAR`, `.vasp`       VASP
`.extxyz`, `.xyz`                  extended XYZ with a `Lattice`; energies from `energy` or `energy_per_atom`
`.db`                              ASE database (SQLite)
`.json`                            pymatgen structures, JARVIS `atoms`, or POSCAR or CIF texts: one, a list, or a mapping by name
`.csv`                             a column `cif` (as CDVAE's), `poscar` or `structure` of texts; `material_id` and an energy
                                   per atom if there are
a folder                           all of these in it
=================================  ==============================================================================================

Numbers that a file gives for a structure beside these, in other columns or keys, become its `values`, by their names. Text files may be compressed (`.gz`). Nothing is unpickled: LMDB files and pickles of other programs are refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.crystal.data.records import (
    ENERGY,
    numbers_of,
    structure_of_atoms,
    structure_of_record,
    structure_of_text,
)
from equilibra.systems.crystal.structures import Structure

Problem = Callable[[InputError], object]
"""Called with what is wrong with a record that was left out."""

ENERGY_COLUMNS = (ENERGY, "formation_energy_per_atom")
"""Columns of tables that are taken for the energy per atom, in eV; the first that is there."""

_TEXT_COLUMNS = ("cif", "poscar", "structure", "POSCAR")
_NAME_COLUMNS = ("material_id", "id", "name")
_PICKLES = (".lmdb", ".mdb", ".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy")
_SUFFIXES = (".cif", ".vasp", ".poscar", ".extxyz", ".xyz", ".db", ".json", ".csv")
_VASP = ("poscar", "contcar")


def is_structure_file(path: Path) -> bool:
    """Tells whether a path is called like a file of structures, there or not."""
    return _suffix(path) in (*_SUFFIXES, *_PICKLES) or _is_vasp(path)


def read_structures(path: str | Path, on_error: Problem | None = None) -> list[Structure]:
    """Reads all structures of a file or folder.

    Arguments:
        path: The file or folder.
        on_error: Called with what is wrong with each bad record, which is left out; by default the first one is raised.

    Raises:
        InputError: If the file is missing, of no known format, a pickle, or malformed as a whole; or if there is not one good record.
    """
    path = Path(path)
    found = 0

    def problem(error: InputError) -> None:
        if on_error is None:
            raise error
        on_error(error)

    structures: list[Structure] = []
    for file in _files(path):
        for name, make in _records(file):
            found += 1
            try:
                structures.append(make())
            except InputError as error:
                problem(InputError(f"'{file.name}', {name}: {error}"))
            except Exception as error:
                # parsers raise whatever their own code stumbles over
                problem(InputError(f"'{file.name}', {name}: cannot be read: {type(error).__name__}: {error}"))
    if not structures:
        raise InputError(f"'{path}': none of its {found} records is a structure")
    return structures


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and is_structure_file(file))
        files = [file for file in files if _suffix(file) not in _PICKLES]
        if not files:
            raise InputError(f"'{path}': the folder has no file of structures; expected some of {', '.join(_SUFFIXES)}")
        return files
    if not path.is_file():
        raise InputError(f"no such file or folder: '{path}'")
    if _suffix(path) in _PICKLES:
        raise InputError(
            f"'{path}': files of this kind hold pickles, which can run any code when read; convert it to CIF, extxyz or JSON with the program that wrote it"
        )
    if not is_structure_file(path):
        raise InputError(f"'{path}': unknown format '{path.suffix}'; expected one of {', '.join(_SUFFIXES)}, or a POSCAR")
    return [path]


Record = tuple[str, Callable[[], Structure]]


def _records(path: Path) -> Iterable[Record]:
    suffix = ".poscar" if _is_vasp(path) else _suffix(path)
    try:
        if suffix in (".json", ".csv"):
            return list((_json if suffix == ".json" else _table)(_text(path), path))
        if suffix == ".db":
            return list(_database(path))
        if suffix in (".poscar", ".vasp"):
            text = _text(path)
            return [("the structure", partial(structure_of_text, text, path.stem))]
        return list(_frames(path, "cif" if suffix == ".cif" else "extxyz"))
    except InputError:
        raise
    except Exception as error:
        # parsers raise whatever their own code stumbles over
        raise InputError(f"'{path}' cannot be read: {type(error).__name__}: {error}") from error


def _frames(path: Path, kind: str) -> Iterator[Record]:
    import ase.io

    if kind == "cif":
        from ase.io.cif import parse_cif

        # block by block: one that is no crystal must not sink the others
        for number, block in enumerate(parse_cif(io.StringIO(_text(path)))):
            name = getattr(block, "name", "") or f"{path.stem} {number}"
            yield f"block {name}", partial(_of_block, block, name)
        return
    for number, atoms in enumerate(ase.io.iread(io.StringIO(_text(path)), index=":", format="extxyz")):
        name = str(atoms.info.get("name", f"{path.stem} {number}"))
        yield f"frame {number}", partial(structure_of_atoms, atoms, name)


def _database(path: Path) -> Iterator[Record]:
    from ase.db import connect

    with connect(path, type="db", use_lock_file=False) as database:
        for row in database.select():
            name = str(row.key_value_pairs.get("name", f"{path.stem} {row.id}"))
            yield f"row {row.id}", partial(_of_row, row, name)


def _table(text: str, path: Path) -> Iterator[Record]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    rows = csv.DictReader(io.StringIO(text))
    columns = list(rows.fieldnames or ())
    column = next((name for name in _TEXT_COLUMNS if name in columns), None)
    if column is None:
        raise InputError(
            f"'{path}': the table has the columns {', '.join(columns) or 'of nothing'}; expected one of {', '.join(_TEXT_COLUMNS)} with structures as text"
        )
    called = next((name for name in _NAME_COLUMNS if name in columns), None)
    energy = next((name for name in ENERGY_COLUMNS if name in columns), None)
    for number, row in enumerate(rows, start=2):
        name = (row[called] if called else "") or f"{path.stem} {number}"
        yield f"line {number} ({name})", partial(_of_line, row, column, name, energy)


def _json(text: str, path: Path) -> Iterator[Record]:
    values = json.loads(text)
    if isinstance(values, Mapping) and not _is_record(values):
        for name, value in values.items():
            yield f"'{name}'", partial(structure_of_record, value, str(name))
        return
    for number, value in enumerate([values] if isinstance(values, Mapping) else values):
        name = f"{path.stem} {number}"
        yield f"record {number}", partial(structure_of_record, value, name)


def _of_block(block: Any, name: str) -> Structure:
    return structure_of_atoms(block.get_atoms(), name)


def _of_row(row: Any, name: str) -> Structure:
    made = structure_of_atoms(row.toatoms(), name)
    return replace(made, values={**made.values, **numbers_of(row.key_value_pairs)})


def _of_line(row: Mapping[str, str], column: str, name: str, energy: str | None) -> Structure:
    made = structure_of_text(row[column], name, _number(row, energy))
    others = {key: value for key, value in row.items() if key not in (column, *_NAME_COLUMNS)}
    return replace(made, values={**made.values, **numbers_of(others)})


def _is_record(value: Mapping[str, Any]) -> bool:
    return bool({"lattice", "atoms", "structure", "cif", "poscar", "lattice_mat", "@class"} & set(value))


def _number(row: Mapping[str, str], column: str | None) -> float | None:
    text = row.get(column) if column else None
    if not text:
        return None
    value = float(text)
    return value if np.isfinite(value) else None


def _text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix.lower() == ".gz" else content).decode("utf-8")


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _is_vasp(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.startswith(_VASP) and Path(name).suffix not in _SUFFIXES
