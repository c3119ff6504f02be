"""Trajectories as training data: positions in Å from any file that mdtraj reads, forces from `.npz` files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError, MissingDependencyError
from equilibra.units import NM


@dataclass(frozen=True, kw_only=True)
class TrajectoryFiles:
    """The files of one system's trajectories.

    Attributes:
        topology: PDB or SDF file of the molecule, with all hydrogens.
        trajectories: XTC, DCD, HDF5 or other files that mdtraj reads, or `.npz` files with an array `positions` (frames, atoms, 3) in Å.
        forces: For each trajectory a `.npz` file with an array `forces` (frames, atoms, 3) in eV/Å; empty without forces.
        stride: Every stride-th frame is used.
        skip: Frames left out at the start of each trajectory.
    """

    topology: str | Path
    trajectories: Sequence[str | Path]
    forces: Sequence[str | Path] = ()
    stride: int = 1
    skip: int = 0

    def __post_init__(self) -> None:
        if not self.trajectories:
            raise InputError("training data: got no trajectory, expected at least one")
        if self.forces and len(self.forces) != len(self.trajectories):
            raise InputError(
                f"training data: got {len(self.forces)} force files for {len(self.trajectories)} trajectories, expected one for each"
            )
        if self.stride < 1 or self.skip < 0:
            raise InputError(f"training data: got stride {self.stride}, skip {self.skip}; expected at least 1 and at least 0")
        for path in (self.topology, *self.trajectories, *self.forces):
            if not Path(path).is_file():
                raise InputError(f"training data: no such file: '{path}'")


def read_trajectories(files: TrajectoryFiles, topology: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads all frames of one system.

    Arguments:
        files: Which files.
        topology: mdtraj `Topology` that the frames must match.

    Returns:
        Positions (frames, atoms, 3), float32, in Å, and forces (frames, atoms, 3), float32, in eV/Å, or None.

    Raises:
        InputError: If a file cannot be read, does not match the topology, or holds NaN or infinity; the message names file and frame.
    """
    chosen = slice(files.skip, None, files.stride)
    frames, forces = [], []
    for index, path in enumerate(files.trajectories):
        positions = _read(Path(path), topology)
        _check(positions, Path(path), topology.n_atoms, "positions")
        if len(positions) <= files.skip:
            raise InputError(f"'{path}': has {len(positions)} frames, but the first {files.skip} are to be skipped")
        frames.append(positions[chosen])
        if files.forces:
            force = _array(Path(files.forces[index]), "forces")
            _check(force, Path(files.forces[index]), topology.n_atoms, "forces")
            if len(force) != len(positions):
                raise InputError(f"'{files.forces[index]}': has {len(force)} frames, but '{path}' has {len(positions)}")
            forces.append(force[chosen])
    return np.concatenate(frames), np.concatenate(forces) if forces else None


def _read(path: Path, topology: Any) -> np.ndarray:
    import mdtraj

    if path.suffix.lower() == ".npz":
        return _array(path, "positions")
    try:
        if path.suffix.lower() in (".h5", ".hdf5", ".pdb"):
            trajectory = mdtraj.load(str(path))
        else:
            trajectory = mdtraj.load(str(path), top=topology)
    except ImportError as error:
        raise MissingDependencyError(f"'{path}' needs a package that is not installed: {error}") from error
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(
            f"'{path}' cannot be read as frames of a molecule of {topology.n_atoms} atoms ({type(error).__name__}: {error}); give the "
            "topology that it was written with"
        ) from error
    if trajectory.topology is not None and trajectory.n_atoms == topology.n_atoms:
        ours, theirs = ([atom.element.symbol for atom in t.atoms] for t in (topology, trajectory.topology))
        if ours != theirs:
            first = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
            raise InputError(
                f"'{path}': its atom {first + 1} is {theirs[first]}, but the topology's is {ours[first]}; give the matching topology"
            )
    return np.asarray(trajectory.xyz * np.float32(NM))


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if name not in arrays.files:
                raise InputError(f"'{path}': has no array '{name}' (it has {', '.join(arrays.files) or 'none'})")
            return np.asarray(arrays[name], dtype=np.float32)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"'{path}' cannot be read as a .npz file: {error}") from error


def _check(values: np.ndarray, path: Path, atoms: int, name: str) -> None:
    if values.ndim != 3 or values.shape[1:] != (atoms, 3):
        raise InputError(
            f"'{path}': {name} have shape {values.shape}, but the topology has {atoms} atoms: expected (frames, {atoms}, 3)"
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if len(bad):
        raise InputError(
            f"'{path}': {name} of frame {bad[0]} are not finite ({len(bad)} of {len(values)} frames are so); remove those frames"
        )
