"""Databases of adsorbed structures in the forms of the Open Catalyst data (LMDB), read without unpickling.

In the older form each value is a pickle of a dictionary, or of a `Data` object of torch_geometric of either major version, with tensors or arrays: `pos`, `cell`, `atomic_numbers` and `tags`,
and `fixed`, `y` or `energy`, `force` or `forces`, `sid` and `fid` where they are there. Nothing in it is executed (`plain_pickles`). In the newer form, that of ASE's databases with an LMDB behind them,
each value is compressed JSON: `positions`, `cell`, `numbers` and `tags`, and `constraints`, `energy`, `forces`, and `sid` and `fid` among the `data` or the key-value pairs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError, MissingDependencyError
from equilibra.plain_pickles.reader import Record, RefusedPickleError, Vocabulary, read_plain
from equilibra.plain_pickles.tensors import TENSORS

SUFFIXES = (".lmdb", ".aselmdb")
"""How the names of databases end; either may hold values of either form."""

_GRAPHS = "torch_geometric.data"
_DATA = Vocabulary(
    rules=TENSORS.rules,
    classes=frozenset({f"{_GRAPHS}.data Data", f"{_GRAPHS}.storage GlobalStorage"}),
    # ways of access to graphs, which an object of version 2 mentions
    mentions=frozenset({f"{_GRAPHS}.data DataEdgeAttr", f"{_GRAPHS}.data DataTensorAttr"}),
)
_NEEDED = ("pos", "cell", "atomic_numbers", "tags")
_NEWER = {"positions": "pos", "numbers": "atomic_numbers"}  # names of the newer form, where they differ
_HEAVIEST = 118
_FLAT = 1e-6  # Å
_COMPRESSED = b"\x78"  # of zlib, the first byte of a value of the newer form; a pickle begins with another


def read_lmdb(path: str | Path) -> dict[str, list[Any]]:
    """Reads the trajectories of a database.

    Entries with one `sid` are frames of one trajectory, in the order of their `fid`; without, those of the same atoms in the same cell. Of an entry with `pos_relaxed`, as in the sets of initial and
    relaxed structures, the relaxed structure is taken, with the energy `y_relaxed`. A frame whose surface is not perpendicular to z is turned.

    Arguments:
        path: The file.

    Returns:
        For each trajectory, by the words for it, ASE `Atoms` with tags, fixed atoms as a constraint, and energies in eV and forces in eV/Å where they are known.

    Raises:
        MissingDependencyError: If the package lmdb is not installed.
        InputError: If the file is no such database, an entry does anything else than hold numbers, or lacks what a structure needs.
    """
    path = Path(path)
    groups: dict[Any, list[tuple[float, Any]]] = {}
    for key, entry in _entries(path):
        where = f"'{path}': entry '{key}'"
        atoms = _atoms(entry, where)
        same = (atoms.numbers.tobytes(), atoms.get_tags().tobytes(), np.round(np.asarray(atoms.cell), 4).tobytes())
        group = groups.setdefault(same if entry.get("sid") is None else str(_one(entry, "sid", where)), [])
        group.append((len(group) if entry.get("fid") is None else float(_one(entry, "fid", where)), atoms))
    if not groups:
        raise InputError(f"'{path}': there is no entry in it; expected some with the keys 0, 1, 2, ...")
    found = {}
    for number, (name, group) in enumerate(groups.items()):
        called = f"system {name if isinstance(name, str) else number} of '{path.name}'"
        found[called] = [atoms for _, atoms in sorted(group, key=lambda pair: pair[0])]
    return found


def _entries(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the numbered entries of a database, in their order; others, such as `length`, are of no use here."""
    try:
        import lmdb
    except ImportError as error:
        raise MissingDependencyError(
            f"'{path}': databases of the Open Catalyst data need the package lmdb: pip install 'equilibra[lmdb]'"
        ) from error
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        with (
            lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False) as database,
            database.begin() as view,
        ):
            keys = [bytes(key) for key in view.cursor().iternext(keys=True, values=False)]
            for key in sorted((key for key in keys if key.isdigit()), key=int):
                yield key.decode("ascii"), _attributes(bytes(view.get(key) or b""), f"'{path}': entry '{key.decode('ascii')}'")
    except lmdb.Error as error:
        raise InputError(f"'{path}' is no LMDB database that can be read: {error}") from error


def _attributes(content: bytes, where: str) -> Mapping[str, Any]:
    """Returns what one value holds, by the names of the older form."""
    value = _of_json(content, where) if content[:1] == _COMPRESSED else _of_pickle(content, where)
    if not isinstance(value, dict):
        raise InputError(f"{where} is a {type(value).__name__}, expected the values of a structure by their names")
    lacking = [name for name in _NEEDED if value.get(name) is None]
    if lacking:
        raise InputError(
            f"{where} has no '{lacking[0]}', only {', '.join(sorted(map(str, value))[:12]) or 'nothing'}; expected at least {', '.join(_NEEDED)}"
        )
    return value


def _of_pickle(content: bytes, where: str) -> Any:
    try:
        value = read_plain(content, _DATA)
    except RefusedPickleError as refusal:
        raise InputError(
            f"{where} is not read: {refusal}; expected a pickle of a dictionary or a Data object of torch_geometric, with tensors and plain containers only"
        ) from refusal
    if isinstance(value, Record) and isinstance(value.attributes.get("_store"), Record):  # version 2
        return value.attributes["_store"].attributes.get("_mapping")
    return value.attributes if isinstance(value, Record) else value


def _of_json(content: bytes, where: str) -> Any:
    try:
        row = json.loads(zlib.decompress(content), object_hook=_array)
    except (zlib.error, ValueError, TypeError) as error:
        raise InputError(f"{where} is not read: it is damaged or is no compressed JSON ({error})") from error
    if not isinstance(row, dict):
        return row
    ours = {_NEWER.get(name, name): value for name, value in row.items()}
    if "atomic_numbers" in ours:
        ours.setdefault("tags", [0] * len(ours["atomic_numbers"]))  # left out where all are zero
        ours["fixed"] = np.zeros(len(ours["atomic_numbers"]))
        try:
            for item in row.get("constraints") or ():
                if item["name"] == "FixAtoms":
                    ours["fixed"][np.asarray(item["kwargs"]["indices"], dtype=int)] = 1.0
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise InputError(f"{where} has 'constraints' that are not those of ASE: {error}") from error
    for name in ("sid", "fid"):
        found = [
            part[name] for part in (row.get("data"), row.get("key_value_pairs")) if isinstance(part, dict) and name in part
        ]
        ours |= {name: found[0]} if found else {}
    return ours


def _array(value: dict[str, Any]) -> Any:
    """Returns the array that stands in JSON as its shape, type and numbers."""
    if set(value) != {"__ndarray__"}:
        return value
    shape, kind, numbers = value["__ndarray__"]
    if np.dtype(kind).kind not in "biuf":
        raise ValueError(f"an array of the type '{kind}', which is none of plain numbers")
    return np.array(numbers, dtype=kind).reshape(shape)


def _one(entry: Mapping[str, Any], name: str, where: str) -> Any:
    """Returns a value that is one number or text, or an array of one."""
    value = np.asarray(entry[name])
    if value.size != 1 or value.dtype.kind not in ("iufU" if name == "sid" else "iuf"):
        raise InputError(f"{where} has '{name}' {entry[name]!r}, expected one number")
    return value.reshape(())[()]


def _atoms(entry: Mapping[str, Any], where: str) -> Any:
    """Returns the ASE `Atoms` of one entry."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    count = np.size(entry["atomic_numbers"])

    def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
        try:
            made = np.asarray(entry[name], dtype=np.float64).reshape(shape)
        except (TypeError, ValueError):
            made = np.full(shape, np.nan)
        if not np.isfinite(made).all():
            raise InputError(f"{where} has '{name}' with other than {' x '.join(map(str, shape))} finite numbers")
        return made

    numbers = array("atomic_numbers", (count,))
    if not count or (numbers != np.round(numbers)).any() or numbers.min() < 1 or numbers.max() > _HEAVIEST:
        raise InputError(f"{where} has 'atomic_numbers' that are not whole numbers from 1 to {_HEAVIEST}")
    relaxed = entry.get("pos_relaxed") is not None
    atoms = Atoms(
        numbers=numbers.astype(int),
        positions=array("pos_relaxed" if relaxed else "pos", (count, 3)),
        cell=array("cell", (3, 3)),
        tags=array("tags", (count,)).astype(int),
        pbc=True,
    )
    if entry.get("fixed") is not None:
        atoms.set_constraint(FixAtoms(np.flatnonzero(array("fixed", (count,)))))
    energy = next((name for name in (("y_relaxed",) if relaxed else ("y", "energy")) if entry.get(name) is not None), None)
    force = None if relaxed else next((name for name in ("force", "forces") if entry.get(name) is not None), None)
    forces = None if force is None else array(force, (count, 3))
    if np.abs(np.asarray(atoms.cell)[:2, 2]).max() > _FLAT:
        standard, turn = atoms.cell.standard_form()
        if standard[2, 2] < 0.0:  # a left-handed cell, whose third vector is to point up all the same
            turn = np.diag([1.0, -1.0, -1.0]) @ turn
        forces = None if forces is None else forces @ turn.T
        atoms.positions = atoms.positions @ turn.T
        atoms.cell = np.asarray(atoms.cell) @ turn.T
    known: dict[str, Any] = {} if energy is None else {"energy": float(array(energy, ()))}
    if forces is not None:
        known["forces"] = forces
    if known:
        atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms
