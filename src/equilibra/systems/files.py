"""Files of frames of any domain: written whole or not at all, read back with their units.

Positions are in Å on this side. mdtraj's formats (PDB, XTC, DCD, HDF5) hold nm, and XTC rounds to 0.01 Å; `npz` is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError, MissingDependencyError
from equilibra.units import NM

FORMATS = ("xtc", "dcd", "npz", "pdb")
"""Formats that frames of every domain can be written in."""

Frames = tuple[np.ndarray, dict[str, np.ndarray]]
"""Positions (F, N, 3), float32, in Å, and numbers (F,) of the frames by name."""


def check_frames(path: Path, positions: np.ndarray, formats: Sequence[str] = FORMATS) -> str:
    """Returns the format of a file to write, after checking that there is something to write and that it is one of `formats`.

    Raises:
        InputError: If the format is unknown, or there is no frame.
    """
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in formats:
        raise InputError(f"'{path.name}': unknown format '{suffix}'; expected one of {', '.join(formats)}")
    if len(positions) == 0:
        raise InputError(f"'{path.name}': there is no frame to write")
    return suffix


def write_trajectory(
    path: str | Path, positions: np.ndarray, topology: Any, properties: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes frames atomically in the format of the path's suffix, one of `FORMATS`.

    Arguments:
        path: The file to write.
        positions: Frames (F, N, 3), in Å.
        topology: mdtraj `Topology` of the N atoms.
        properties: Arrays that go along with the frames where the format has room for them (`npz`).

    Raises:
        InputError: If the format is unknown, there is no frame to write, or the folder is not writable.
    """
    path = Path(path)
    suffix = check_frames(path, positions)
    with atomic_path(path) as temporary:
        if suffix == "npz":
            with temporary.open("wb") as file:
                arrays: dict[str, Any] = {"positions": positions, **(properties or {})}
                np.savez(file, **arrays)
        else:
            getattr(mdtraj_trajectory(positions, topology), f"save_{suffix}")(str(temporary))


def mdtraj_trajectory(positions: np.ndarray, topology: Any) -> Any:
    """Makes an mdtraj `Trajectory` of frames (F, N, 3) in Å."""
    import mdtraj

    return mdtraj.Trajectory(np.asarray(positions, dtype=np.float32) / np.float32(NM), topology)


def read_trajectory(
    path: str | Path, topology: Any | None = None, readers: Mapping[str, Callable[[Path], Frames]] | None = None
) -> Frames:
    """Reads frames from any file that `write_trajectory` makes or mdtraj reads.

    Arguments:
        path: The file.
        topology: mdtraj `Topology`, for formats without atoms of their own (XTC, DCD).
        readers: Readers of a domain's own formats, by suffix (`.sdf`).

    Returns:
        Positions (F, N, 3), float32, in Å, and the properties of the frames.

    Raises:
        InputError: If the file is missing, malformed, or does not match the topology.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    own = (readers or {}).get(path.suffix.lower())
    try:
        positions, properties = _read(path, topology) if own is None else own(path)
    except InputError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"'{path}' needs a package that is not installed: {error}") from error
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(f"'{path}' cannot be read: {type(error).__name__}: {error}") from error
    if topology is not None and positions.shape[1] != topology.n_atoms:
        raise InputError(
            f"'{path}' has {positions.shape[1]} atoms, but its topology has {topology.n_atoms}; give the matching topology"
        )
    return positions, properties


def read_topology(path: str | Path) -> Any:
    """Reads the mdtraj `Topology` of a PDB file, with the names of atoms and residues as they are.

    Raises:
        InputError: If the file is missing or malformed.
    """
    import mdtraj

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        return mdtraj.load_pdb(str(path), standard_names=False).topology
    except Exception as error:
        # the parser raises whatever its own code stumbles over
        raise InputError(f"'{path}' is not a well-formed PDB file: {error}") from error


def _read(path: Path, topology: Any | None) -> Frames:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            if "positions" not in arrays:
                raise InputError(f"'{path}' has no array 'positions'; expected frames (F, N, 3) in Å under that name")
            positions = np.asarray(arrays["positions"], dtype=np.float32)
            rest = {name: np.asarray(arrays[name]) for name in arrays.files if name != "positions"}
        if positions.ndim != 3 or positions.shape[2] != 3:
            raise InputError(f"'{path}': positions have shape {positions.shape}, expected (frames, atoms, 3)")
        return positions, rest
    import mdtraj

    if suffix in (".pdb", ".ent"):
        trajectory = mdtraj.load_pdb(str(path), standard_names=False)
    elif suffix in (".h5", ".hdf5"):
        trajectory = mdtraj.load_hdf5(str(path))
    elif topology is None:
        raise InputError(f"'{path}' holds coordinates only; give a topology (PDB or SDF) with it")
    else:
        trajectory = mdtraj.load(str(path), top=topology)
    return np.asarray(trajectory.xyz * np.float32(NM)), {}
