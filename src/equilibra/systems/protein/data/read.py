"""Reads the training data of proteins, of whatever kind they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import ConfigError, InputError
from equilibra.systems.protein.data.backbones import Backbones
from equilibra.systems.protein.data.public_sets import atlas, is_atlas, is_reference_states, mdcath, reference_states
from equilibra.systems.protein.data.structure_files import (
    array_backbones,
    structure_backbones,
    structure_folder,
    text_folder,
)
from equilibra.systems.protein.data.trajectory_files import run_backbones, trajectory_backbones
from equilibra.systems.protein.structures import is_structure_path
from equilibra.systems.runs import finished_run

Layout = Literal["auto", "structures", "arrays", "text", "run", "states", "atlas", "mdcath"]


@dataclass(frozen=True, kw_only=True)
class ProteinFiles:
    """Where a set of proteins is.

    Attributes:
        path: A file or a folder.
        layout: `structures`: PDB or mmCIF files; `arrays`: `.npz`; `text`: files of N, CA and C as those of cgdms; `run`: what `equilibra simulate` or
            `equilibra sample` wrote; `states`: the reference states of BioEmu's benchmarks; `atlas`; `mdcath`. By default what is there tells.
        stride: Every stride-th frame of a trajectory is used.
        skip: Frames left out at the start of each trajectory.
        temperature: Temperature of the wanted runs in K, where there are several (mdCATH).
    """

    path: str | Path
    layout: Layout = "auto"
    stride: int = 1
    skip: int = 0
    temperature: int = 320

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise ConfigError(f"layout: got '{self.layout}', expected one of {', '.join(get_args(Layout))}")
        if self.stride < 1 or self.skip < 0:
            raise InputError(f"training data: got stride {self.stride}, skip {self.skip}; expected at least 1 and at least 0")
        if not Path(self.path).exists():
            raise InputError(f"training data: no such file or folder: '{self.path}'")


ProteinData = str | Path | ProteinFiles | TrajectoryFiles | Sequence[Backbones]
"""What `backbones_of` reads: a path, files with options, trajectories with their topology, or backbones that were read before."""


def backbones_of(source: ProteinData) -> list[Backbones]:
    """Reads backbones, one entry for each protein.

    Arguments:
        source: A structure file; a `.npz` file; an mdCATH file; a folder of structures, of `.npz` files, of text files, of reference states, or of ATLAS;
            a folder of `equilibra simulate` or `equilibra sample`; trajectories with their topology; or backbones, which are given back.

    Raises:
        InputError: If the source cannot be read; the message says which file and why.
    """
    if isinstance(source, TrajectoryFiles):
        return [trajectory_backbones(source)]
    if isinstance(source, str | Path):
        source = ProteinFiles(path=source)
    if not isinstance(source, ProteinFiles):
        return list(source)
    path = Path(source.path)
    layout = _layout(path) if source.layout == "auto" else source.layout
    if layout == "run":
        return [run_backbones(path, stride=source.stride, skip=source.skip)]
    if layout == "atlas":
        return atlas(path, stride=source.stride, skip=source.skip)
    files = sorted(path.glob("*.h5" if layout == "mdcath" else "*.npz")) if path.is_dir() else [path]
    if layout == "mdcath":
        options = {"temperature": source.temperature, "stride": source.stride, "skip": source.skip}
        return [entry for file in files for entry in mdcath(file, **options)]
    if layout == "arrays":
        return [array_backbones(file) for file in files]
    if layout == "text":
        return text_folder(path)
    if layout == "states":
        return reference_states(path)
    return structure_folder(path) if path.is_dir() else [structure_backbones(path)]


def _layout(path: Path) -> Layout:
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return "arrays"
        if path.suffix.lower() in (".h5", ".hdf5"):
            return "mdcath"
        if is_structure_path(path):
            return "structures"
        raise InputError(
            f"'{path}': unknown kind of file, expected a structure (PDB or mmCIF), a .npz file or an .h5 file of mdCATH; trajectories need a topology too"
        )
    if finished_run(path) is not None:
        return "run"
    if is_reference_states(path):
        return "states"
    if is_atlas(path):
        return "atlas"
    layouts: dict[str, Layout] = {".npz": "arrays", ".h5": "mdcath", ".txt": "text"}
    suffixes = {child.suffix.lower() for child in path.iterdir()}
    if any(is_structure_path(child) for child in path.iterdir()):
        return "structures"
    for suffix, layout in layouts.items():
        if suffix in suffixes:
            return layout
    raise InputError(
        f"'{path}': holds no data of proteins, expected structures (PDB or mmCIF), .npz files, text files of N, CA and C, a finished run "
        "of `equilibra simulate` or `equilibra sample`, or the layout of a public set"
    )
