"""Files of a protein's frames: the written atoms N, CA, C, O and CB in the formats of every domain, and in `npz` also the frames `trans` and `rot`.

`topology.pdb` and `samples.xtc` are what the readers of the benchmarks of BioEmu expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.files import FORMATS, Frames, check_frames, mdtraj_trajectory, read_trajectory, write_trajectory
from equilibra.systems.protein.frames import frames_of
from equilibra.systems.protein.system import ProteinSystem

__all__ = ["FORMATS", "mdtraj_trajectory", "read_frames", "write_frames"]


def write_frames(
    path: str | Path, positions: np.ndarray, system: ProteinSystem, properties: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes frames atomically in the format of the path's suffix, one of `FORMATS`.

    Arguments:
        path: The file to write.
        positions: Frames (F, atoms, 3) of the written atoms, in Å.
        system: The protein.
        properties: Numbers (F,) of the frames, which `npz` has room for, besides `trans` (F, L, 3) and `rot` (F, L, 3, 3).

    Raises:
        InputError: If the format is unknown, there is no frame to write, or the folder is not writable.
    """
    arrays = dict(properties or {})
    if check_frames(Path(path), positions) == "npz":
        arrays["trans"], arrays["rot"] = frames_of(positions, system)
    write_trajectory(path, positions, system.topology, arrays)


def read_frames(path: str | Path, topology: Any | None = None) -> Frames:
    """Reads frames from any file that `write_frames` makes.

    Arguments:
        path: The file.
        topology: mdtraj `Topology` of the written atoms.

    Returns:
        Positions (F, atoms, 3), float32, in Å, and the numbers (F,) of the frames.

    Raises:
        InputError: If the file is missing, malformed, or does not match the topology.
    """
    positions, arrays = read_trajectory(path, topology)
    for name in ("trans", "rot"):
        arrays.pop(name, None)
    wrong = next((name for name, values in arrays.items() if values.shape != (len(positions),)), None)
    if wrong is not None:
        raise InputError(f"'{path}': {wrong} has shape {arrays[wrong].shape}, expected ({len(positions)},)")
    return positions, arrays
