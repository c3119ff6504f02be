"""Layouts of public sets of proteins: ATLAS, mdCATH, and the reference structures of the multi-conformation benchmarks of BioEmu."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import InputError, MissingDependencyError
from equilibra.systems.protein.data.backbones import Backbones, check_frames, merged, observed_backbones
from equilibra.systems.protein.data.trajectory_files import trajectory_backbones
from equilibra.systems.protein.fasta import from_sequence
from equilibra.systems.protein.shared_residues import placed
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.protein.structures import backbone_indices, is_structure_path, read_structure
from equilibra.systems.protein.system import ProteinSystem

_TABLE, _STRUCTURES = "testcases.csv", "reference"


def atlas(folder: str | Path, *, stride: int = 1, skip: int = 0) -> list[Backbones]:
    """Reads the layout of ATLAS: `NAME.pdb` with `NAME_R1.xtc` to `NAME_R3.xtc`, in the folder itself or in a folder for each protein.

    References:
        | ATLAS: protein flexibility description from atomistic molecular dynamics simulations (Vander Meersche et al., 2024)
        | https://doi.org/10.1093/nar/gkad1084

    Arguments:
        folder: The folder.
        stride: Every stride-th frame is used.
        skip: Frames left out at the start of each trajectory.

    Raises:
        InputError: If there is no such protein, or one of them cannot be read.
    """
    folder = Path(folder)
    found = []
    for topology in sorted([*folder.glob("*.pdb"), *folder.glob("*/*.pdb")]):
        runs = sorted(topology.parent.glob(f"{topology.stem}_*R[0-9]*.xtc"))
        if runs:
            files = TrajectoryFiles(topology=topology, trajectories=runs, stride=stride, skip=skip)
            found.append(trajectory_backbones(files))
    if not found:
        raise InputError(f"'{folder}': holds no protein in the layout of ATLAS, NAME.pdb with NAME_R1.xtc, ...")
    return merged(found)


def mdcath(path: str | Path, *, temperature: int, stride: int = 1, skip: int = 0) -> list[Backbones]:
    """Reads an HDF5 file of mdCATH, which holds one domain at several temperatures.

    References:
        | mdCATH: A Large-Scale MD Dataset for Data-Driven Computational Biophysics (Mirarchi et al., 2024)
        | https://doi.org/10.1038/s41597-024-04140-z

    Arguments:
        path: The file.
        temperature: Temperature of the wanted runs in K: 320, 348, 379, 413 or 450.
        stride: Every stride-th frame is used.
        skip: Frames left out at the start of each run.

    Raises:
        InputError: If the file cannot be read, has no such temperature, or its frames cannot be used.
        MissingDependencyError: If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"'{path}': files of mdCATH need the package h5py: pip install h5py") from error
    path = Path(path)
    found: list[Backbones] = []
    try:
        with h5py.File(path, "r") as file:
            for domain in file:
                group = file[domain]
                if str(temperature) not in group:
                    known = sorted(name for name in group if name.isdigit())
                    raise InputError(f"'{path}': {domain} has no runs at {temperature} K, expected one of {', '.join(known)}")
                trajectory = _protein_of(group["pdbProteinAtoms"][()])
                system = dataclasses.replace(protein_system(trajectory), name=domain)
                atoms = backbone_indices(trajectory)
                # h5py wants ascending indices, each once
                order, back = np.unique(atoms.reshape(-1), return_inverse=True)
                runs = group[str(temperature)]
                for run in sorted(runs, key=int):
                    coords = runs[run]["coords"]
                    if coords.shape[1] != trajectory.n_atoms:
                        raise InputError(
                            f"'{path}': run {run} has {coords.shape[1]} atoms, but the file's topology has {trajectory.n_atoms}, so that their "
                            "residues do not match; download the file again"
                        )
                    if len(coords) <= skip:
                        raise InputError(
                            f"'{path}': run {run} has {len(coords)} frames, but the first {skip} are to be skipped"
                        )
                    xyz = np.asarray(coords[skip::stride][:, order], dtype=np.float32)[:, back].reshape(-1, system.length, 3, 3)
                    check_frames(xyz, system, path, first=skip, stride=stride)
                    found.append(Backbones(system, xyz))
    except (OSError, KeyError) as error:
        raise InputError(f"'{path}' cannot be read as a file of mdCATH: {error}") from error
    return merged(found)


def reference_states(folder: str | Path) -> list[Backbones]:
    """Reads proteins with several known states: the layout of the multi-conformation benchmarks of BioEmu.

    The table `testcases.csv` has the columns `test_case` and `sequence`, and `reference/NAME/` the structures of each case. A frame has the residues
    that its structure has; the protein is that of the table.

    References:
        | Scalable emulation of protein equilibrium ensembles with generative deep learning (Lewis et al., 2025)
        | https://doi.org/10.1126/science.adv9817

    Raises:
        InputError: If the table or a structure is missing or malformed, or a structure is not of its sequence.
    """
    folder = Path(folder)
    try:
        with (folder / _TABLE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{folder / _TABLE}' cannot be read: {error}") from error
    found: list[Backbones] = []
    for row in rows:
        if not row.get("test_case") or not row.get("sequence"):
            raise InputError(f"'{folder / _TABLE}': expected the columns test_case and sequence, filled in each row")
        states = folder / _STRUCTURES / row["test_case"]
        paths = sorted(path for path in states.iterdir() if is_structure_path(path)) if states.is_dir() else []
        if not paths:
            raise InputError(f"'{states}': holds no structure of the case {row['test_case']}")
        system = from_sequence(row["sequence"], row["test_case"])
        found.extend(_state(system, path) for path in paths)
    return merged(found)


def is_reference_states(folder: Path) -> bool:
    """Tells whether a folder has the layout of `reference_states`."""
    return (folder / _TABLE).is_file() and (folder / _STRUCTURES).is_dir()


def is_atlas(folder: Path) -> bool:
    """Tells whether a folder has the layout of `atlas`."""
    return any(folder.glob("*_*R[0-9]*.xtc")) or any(folder.glob("*/*_*R[0-9]*.xtc"))


def _state(system: ProteinSystem, path: Path) -> Backbones:
    xyz, observed = placed(system, read_structure(path), f"'{path}'")
    return observed_backbones(system, xyz[None], observed[None])


def _protein_of(text: Any) -> Any:
    """The one frame of a structure that is given as the text of a PDB file, as an mdtraj `Trajectory`."""
    import mdtraj

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "protein.pdb"
        path.write_bytes(text if isinstance(text, bytes) else str(text).encode())
        return mdtraj.load(str(path))
