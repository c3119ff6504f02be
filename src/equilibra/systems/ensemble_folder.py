"""The folder of an Ensemble: `topology.pdb` (not of crystals), `samples.*`, `samples.csv`, `rejected.*` and, written last, `ensemble.json`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import write_text
from equilibra.errors import InputError
from equilibra.systems.block_weights import VALUE
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.files import Frames

SCHEMA_VERSION = 1
"""Version of `ensemble.json`."""

_COLUMNS = {"log_weight": "log_weights", "block": "blocks", "log_density": "log_density", "energy_ev": "energies"}
_STORABLE = 1e6  # Å; XTC holds nothing farther out, nor what is not finite
_EXACT_FIRST = ("npz", "xtc", "dcd", "pdb")  # the order in which files of frames are looked for, then a domain's own


def write_folder(ensemble: Ensemble, folder: Path, formats: Sequence[str]) -> Path:
    """Writes an ensemble; see `Ensemble.save`."""
    check_target(ensemble, folder, formats)
    files = [f"samples.{suffix}" for suffix in formats]
    if ensemble.topology_file is not None:
        ensemble.write(folder / ensemble.topology_file, ensemble.positions[ensemble.validity.valid][:1], ensemble.system)
    for name in files:
        ensemble.write(folder / name, ensemble.positions, ensemble.system, ensemble.properties(), ensemble.cells)
    write_text(folder / "samples.csv", _samples_csv(ensemble))
    _write_rejected(ensemble, folder)
    write_text(folder / "ensemble.json", json.dumps(_describe(ensemble, files), indent=2, allow_nan=False) + "\n")
    return folder


def kind_of(folder: str | Path) -> str | None:
    """Returns the kind of the ensemble in a folder, the name of its domain, or None where there is no `ensemble.json` that says it."""
    try:
        description = json.loads((Path(folder) / "ensemble.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = description.get("kind") if isinstance(description, dict) else None
    return kind if isinstance(kind, str) else None


def read_folder(
    folder: Path,
    ensemble: type[Ensemble],
    system: Callable[[Path, dict[str, Any]], Any],
    read: Callable[[Path, Any], Frames],
    *,
    needed: Collection[str],
) -> dict[str, Any]:
    """Reads what `write_folder` wrote: the arguments that make the ensemble again.

    Arguments:
        folder: The folder.
        ensemble: Its kind.
        system: Makes the system of the folder and the content of `ensemble.json`.
        read: Reads a file of frames, given the mdtraj topology; of a periodic system its numbers hold `cells` (F, 3, 3) too.
        needed: Names that a domain's `ensemble.json` has besides the common ones.

    Raises:
        InputError: If a file is missing, malformed or of another kind, or the files do not fit each other.
    """
    description = _description(folder, ensemble, needed)
    made = system(folder, description)
    if made.digest != description["digest"]:
        raise InputError(f"'{folder}': the {ensemble.kind} in ensemble.json is not the one that it names; the file was changed")
    path = samples_file(folder, ensemble, description["files"])
    if path is None:
        raise InputError(f"'{folder}': ensemble.json names no file of frames")
    positions, arrays = read(path, made.topology)
    if len(positions) != description["frames"]:
        raise InputError(
            f"'{path}' has {len(positions)} frames, but ensemble.json says {description['frames']}; the folder is incomplete"
        )
    rejected, rejected_cells, reasons = _rejected(folder, made, ensemble, read)
    return {
        "system": made,
        "positions": positions,
        "cells": arrays["cells"] if ensemble.periodic else None,
        "rejected": rejected,
        "rejected_cells": rejected_cells,
        "rejected_reasons": reasons,
        "provenance": description["provenance"],
        **known(_read_samples_csv(folder / "samples.csv"), len(positions), folder / "samples.csv"),
    }


def samples_file(folder: Path, ensemble: type[Ensemble], present: Collection[str] | None = None) -> Path | None:
    """Returns the file of frames of a folder that is read, the most exact one, or None.

    Arguments:
        folder: The folder.
        ensemble: Kind of the ensemble, which knows its formats.
        present: Names of the files; by default those that are there.
    """
    suffixes = [*_EXACT_FIRST, *(suffix for suffix in ensemble.formats if suffix not in _EXACT_FIRST)]
    for name in (f"samples.{suffix}" for suffix in suffixes):
        if (folder / name).is_file() if present is None else name in present:
            return folder / name
    return None


def known(properties: dict[str, np.ndarray], frames: int, path: Path) -> dict[str, Any]:
    """Returns the numbers of frames that an ensemble has room for, by the names of its attributes.

    Raises:
        InputError: If one of them is not one number for each frame.
    """
    read = {name: values for name, values in properties.items() if name in _COLUMNS or name.startswith(VALUE)}
    for name, values in read.items():
        if values.shape != (frames,):
            raise InputError(f"'{path}': {name} has shape {values.shape}, expected ({frames},)")
    found: dict[str, Any] = {_COLUMNS[name]: values for name, values in read.items() if name in _COLUMNS}
    named = {name.removeprefix(VALUE): values for name, values in read.items() if name.startswith(VALUE)}
    return {**found, "values": named} if named else found


def check_target(ensemble: Ensemble, folder: Path, formats: Sequence[str]) -> None:
    """Raises `InputError` if an ensemble cannot be written to a folder: for its formats, for want of valid frames, or for what is there."""
    name = ensemble.system.name
    unknown = sorted(set(formats) - set(ensemble.formats))
    if unknown or not formats:
        raise InputError(f"formats: got {', '.join(unknown) or 'none'}, expected some of {', '.join(ensemble.formats)}")
    if not ensemble.validity.valid.any():
        raise InputError(f"'{folder}': no frame of {name} passed the checks, so there is no ensemble to write")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"'{folder}' is a file, expected a folder")
    if (folder / "ensemble.json").is_file():
        try:
            other = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
            other_name, digest = other["name"], other["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"'{folder}' holds an ensemble.json that cannot be read; choose another folder") from error
        if digest != ensemble.system.digest:
            raise InputError(f"'{folder}' holds an ensemble of {other_name}, not of {name}; choose another folder")


def _samples_csv(ensemble: Ensemble) -> str:
    properties = ensemble.properties()
    blocks = properties.pop("block", None)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["index", "block", "valid", *properties])
    valid = ensemble.validity.valid
    for i in range(len(ensemble)):
        block = "" if blocks is None else int(blocks[i])
        rows.writerow([i, block, int(valid[i]), *(repr(values[i].item()) for values in properties.values())])
    return text.getvalue()


def _write_rejected(ensemble: Ensemble, folder: Path) -> None:
    rejected = ensemble.rejected
    cells = ensemble.rejected_cells
    storable = np.isfinite(rejected).all(axis=(1, 2)) & (np.abs(rejected) < _STORABLE).all(axis=(1, 2))
    if cells is not None:
        storable &= np.isfinite(cells).all(axis=(1, 2))
    path = folder / f"rejected.{ensemble.rejected_format}"
    if storable.any():
        ensemble.write(path, rejected[storable], ensemble.system, None, None if cells is None else cells[storable])
    else:
        path.unlink(missing_ok=True)
    if not len(rejected):
        (folder / "rejected.csv").unlink(missing_ok=True)
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["index", "frame", "reasons"])
    for i, (stored, reason) in enumerate(zip(storable, ensemble.rejected_reasons, strict=True)):
        rows.writerow([i, int(storable[:i].sum()) if stored else "", reason])
    write_text(folder / "rejected.csv", text.getvalue())


def _describe(ensemble: Ensemble, files: list[str]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": ensemble.kind,
        "name": ensemble.system.name,
        "digest": ensemble.system.digest,
        "atoms": ensemble.system.atoms,
        "frames": len(ensemble),
        "rejected": len(ensemble.rejected),
        "validity": [{"check": name, "passed": passed, "total": total} for name, passed, total in ensemble.validity_table()],
        "checks": list(ensemble.validity.checks),
        "files": files,
        "provenance": dict(ensemble.provenance),
        **ensemble.descriptor(),
    }


def _description(folder: Path, ensemble: type[Ensemble], needed: Collection[str]) -> dict[str, Any]:
    path = folder / "ensemble.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' is not a JSON file that can be read: {error}") from error
    common = {"schema_version", "kind", "name", "digest", "frames", "files", "provenance"}
    found = set(description) if isinstance(description, dict) else set()
    # of another kind's file, the kind is what there is to say
    own = set(needed) if "kind" not in found or description["kind"] == ensemble.kind else set()
    missing = sorted((common | own) - found)
    if missing:
        raise InputError(f"'{path}' lacks {', '.join(missing)}; expected the file that `{ensemble.__name__}.save` writes")
    if description["kind"] != ensemble.kind:
        raise InputError(
            f"'{path}' describes an ensemble of kind '{description['kind']}', expected one of kind '{ensemble.kind}'"
        )
    if description["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"'{path}' is of version {description['schema_version']}, expected a {ensemble.kind}'s of version {SCHEMA_VERSION}; read it with the "
            "release that wrote it"
        )
    return dict(description)


def _read_samples_csv(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        there = rows[0] if rows else {}
        names = [name for name, value in there.items() if value and (name in _COLUMNS or str(name).startswith(VALUE))]
        columns = {name: [row[name] for row in rows] for name in names}
        return {name: np.array([float(value) for value in values]) for name, values in columns.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"'{path}' is malformed: {error}") from error


def _rejected(
    folder: Path, system: Any, ensemble: type[Ensemble], read: Callable[[Path, Any], Frames]
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    path = folder / "rejected.csv"
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    # frames that are not finite are in no file
    frames = np.full((len(rows), system.atoms, 3), np.nan, dtype=np.float32)
    cells = np.full((len(rows), 3, 3), np.nan, dtype=np.float32) if ensemble.periodic else None
    stored = [(i, int(row["frame"])) for i, row in enumerate(rows) if row["frame"]]
    if stored:
        there = folder / f"rejected.{ensemble.rejected_format}"
        positions, arrays = read(there, system.topology)
        if len(positions) != len(stored):
            raise InputError(f"'{there}' has {len(positions)} frames, but rejected.csv says {len(stored)}")
        for i, frame in stored:
            frames[i] = positions[frame]
            if cells is not None:
                cells[i] = arrays["cells"][frame]
    return frames, cells, tuple(row["reasons"] for row in rows)
