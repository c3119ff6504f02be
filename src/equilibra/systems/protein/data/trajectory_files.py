"""Backbones from molecular dynamics: XTC, DCD, HDF5 and other files that mdtraj reads, with their topology."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import InputError
from equilibra.systems.protein.data.backbones import Backbones, check_frames
from equilibra.systems.protein.runs import same_system
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.protein.system import ProteinSystem
from equilibra.systems.protein.trajectory import OWN_ATOMS, first_frame, read_backbones


def trajectory_backbones(files: TrajectoryFiles) -> Backbones:
    """Reads the frames of one protein.

    Arguments:
        files: The topology, with all atoms of the trajectories, and the trajectories. Forces are not used.

    Raises:
        InputError: If a file cannot be read or does not match the topology, or if a frame has values that are not finite or torn bonds.
    """
    path = Path(files.topology)
    if files.forces:
        raise InputError(
            f"'{path}': forces on atoms are of no use here, since a backbone is all that is learned; leave them out"
        )
    source = first_frame(path)
    system = dataclasses.replace(protein_system(source), name=path.name.split(".")[0])
    parts = []
    for trajectory in map(Path, files.trajectories):
        frames = all_frames(trajectory, source, system)
        if len(frames) <= files.skip:
            raise InputError(f"'{trajectory}': has {len(frames)} frames, but the first {files.skip} are to be skipped")
        parts.append(frames[files.skip :: files.stride])
        check_frames(parts[-1], system, trajectory, first=files.skip, stride=files.stride)
    return Backbones(system, np.concatenate(parts))


def all_frames(path: Path, source: Any, system: ProteinSystem) -> np.ndarray:
    """Reads N, CA and C (frames, L, 3, 3), float32, in Å, of all frames of a file.

    Arguments:
        path: The file.
        source: The atoms of files that hold none, from `first_frame`.
        system: The protein.

    Raises:
        InputError: If the file cannot be read, or is of another protein.
    """
    if path.suffix.lower() in OWN_ATOMS:
        source = first_frame(path)
        own = dataclasses.replace(protein_system(source), name=f"{path}")
        same_system([system, own])
    positions = read_backbones(path, source, system)
    return np.ascontiguousarray(positions[:, system.atom_index[:, :3]])
