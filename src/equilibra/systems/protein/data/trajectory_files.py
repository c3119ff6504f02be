"""Backbones from molecular dynamics: XTC, DCD, HDF5 and other files that mdtraj reads, with their topology; and from the folders of our own runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.data.some_atoms import OWN_ATOMS, first_frame
from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import InputError
from equilibra.systems.protein.data.backbones import Backbones, check_frames
from equilibra.systems.protein.load import load_ensemble
from equilibra.systems.protein.runs import read_simulation, same_system
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.protein.system import ProteinSystem
from equilibra.systems.protein.trajectory import read_backbones
from equilibra.systems.runs import finished_run, require_complete


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
        parts.append(_used(frames, system, trajectory, files.stride, files.skip))
    return Backbones(system, np.concatenate(parts))


def run_backbones(folder: str | Path, *, stride: int = 1, skip: int = 0) -> Backbones:
    """Reads what `equilibra simulate` or `equilibra sample` wrote: the frames of all runs, or the samples that passed the checks.

    Arguments:
        folder: The folder of a finished run.
        stride: Every stride-th frame is used.
        skip: Frames left out at the start of each run.

    Raises:
        InputError: If a file is missing or malformed, the folder is incomplete, it holds no protein, or the samples have uneven weights.
    """
    folder = Path(folder)
    if finished_run(folder) == "simulation":
        description, trajectories = read_simulation(folder)
        source = first_frame(folder / "topology.pdb")
        system = dataclasses.replace(protein_system(source), name=str(description.get("name", folder.name)))
        parts = []
        for path, count in trajectories.items():
            frames = all_frames(path, source, system)
            require_complete(path, len(frames), count)
            parts.append(_used(frames, system, path, stride, skip))
        return Backbones(system, np.concatenate(parts))
    ensemble = load_ensemble(folder)
    if not (ensemble.log_weights == ensemble.log_weights[0]).all():
        raise InputError(
            f"'{folder}': its samples have uneven weights, which training does not know; give frames that were drawn with these weights"
        )
    frames = ensemble.positions[:, ensemble.system.atom_index[:, :3]]
    return Backbones(ensemble.system, _used(frames, ensemble.system, folder, stride, skip))


def _used(frames: np.ndarray, system: ProteinSystem, path: Path, stride: int, skip: int) -> np.ndarray:
    """Returns the frames (F, L, 3, 3) of a file that are used, after checking them."""
    if len(frames) <= skip:
        raise InputError(f"'{path}': has {len(frames)} frames, but the first {skip} are to be skipped")
    used = frames[skip::stride]
    check_frames(used, system, path, first=skip, stride=stride)
    return used


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
