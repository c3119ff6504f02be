"""Files of conformations: written whole or not at all, read back with their units.

Positions are in Å on this side. mdtraj's formats (PDB, XTC, DCD, HDF5) hold nm, and XTC rounds to 0.01 Å; `npz` is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError, MissingDependencyError
from equilibra.units import NM

FORMATS = ("xtc", "dcd", "npz", "pdb", "sdf", "extxyz")
"""Formats that frames can be written in."""


def write_frames(
    path: str | Path,
    positions: np.ndarray,
    system: Any,
    properties: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes frames atomically in the format of the path's suffix, one of `FORMATS`.

    Arguments:
        path: The file to write.
        positions: Frames (F, N, 3), in Å.
        system: The `MoleculeSystem` of the frames.
        properties: Arrays (F,) that go along with each frame where the format has room for them (`npz`, `sdf`, `extxyz`).

    Raises:
        InputError: If the format is unknown, there is no frame to write, or the folder is not writable.
    """
    path = Path(path)
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise InputError(f"'{path.name}': unknown format '{suffix}'; expected one of {', '.join(FORMATS)}")
    if len(positions) == 0:
        raise InputError(f"'{path.name}': there is no frame to write")
    properties = {} if properties is None else properties
    with atomic_path(path) as temporary:
        if suffix == "npz":
            with temporary.open("wb") as file:
                arrays: dict[str, Any] = {"positions": positions, **properties}
                np.savez(file, **arrays)
        elif suffix == "sdf":
            _write_sdf(temporary, positions, system, properties)
        elif suffix == "extxyz":
            import ase.io

            ase.io.write(temporary, ase_frames(positions, system, properties), format="extxyz")
        else:
            getattr(mdtraj_trajectory(positions, system.topology), f"save_{suffix}")(str(temporary))


def read_frames(path: str | Path, topology: Any | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reads frames from any file that `write_frames` makes or mdtraj reads.

    Arguments:
        path: The file.
        topology: mdtraj `Topology`, for formats without atoms of their own (XTC, DCD).

    Returns:
        Positions (F, N, 3), float32, in Å, and the properties (F,) of the frames.

    Raises:
        InputError: If the file is missing, malformed, or does not match the topology.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        positions, properties = _read(path, topology)
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


def mdtraj_trajectory(positions: np.ndarray, topology: Any) -> Any:
    """Makes an mdtraj `Trajectory` of frames (F, N, 3) in Å."""
    import mdtraj

    return mdtraj.Trajectory(np.asarray(positions, dtype=np.float32) / np.float32(NM), topology)


def ase_frames(positions: np.ndarray, system: Any, properties: Mapping[str, np.ndarray]) -> list[Any]:
    """Makes ASE `Atoms` of frames (F, N, 3) in Å, with the properties in `info`."""
    import ase

    numbers = [atom.GetAtomicNum() for atom in system.mol.GetAtoms()]
    return [
        ase.Atoms(numbers=numbers, positions=frame, info={name: values[i].item() for name, values in properties.items()})
        for i, frame in enumerate(np.asarray(positions, dtype=np.float64))
    ]


def rdkit_conformers(mol: Any, positions: np.ndarray) -> Any:
    """Returns a copy of an RDKit molecule with frames (F, N, 3) in Å as its conformers, numbered from 0."""
    from rdkit import Chem

    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    for index, frame in enumerate(np.ascontiguousarray(positions, dtype=np.float64)):
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.Set3D(True)
        conformer.SetPositions(frame)
        conformer.SetId(index)
        copy.AddConformer(conformer)
    return copy


def _write_sdf(path: Path, positions: np.ndarray, system: Any, properties: Mapping[str, np.ndarray]) -> None:
    from rdkit import Chem

    with Chem.SDWriter(str(path)) as writer:
        writer.SetProps(["index", *properties])
        for index, frame in enumerate(positions):
            mol = rdkit_conformers(system.mol, frame[None])
            mol.SetProp("_Name", " ".join(system.name.split()))
            mol.SetIntProp("index", index)
            for name, values in properties.items():
                mol.SetProp(name, str(values[index].item()))
            writer.write(mol)


def _read(path: Path, topology: Any | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
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
    if suffix == ".sdf":
        return _read_sdf(path)
    if suffix in (".extxyz", ".xyz"):
        import ase.io

        frames: Any = ase.io.read(path, index=":", format="extxyz")
        return _stacked(path, [f.positions for f in frames], [dict(f.info) for f in frames])
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


def first_mol(path: str | Path) -> Any:
    """Returns the first record of an SDF file of conformers as an RDKit molecule.

    Raises:
        InputError: If the file is empty or its first record malformed.
    """
    return _sdf_mols(Path(path), 1)[0]


def _sdf_mols(path: Path, most: int | None = None) -> list[Any]:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    try:
        with BlockLogs():
            mols = list(islice(Chem.SDMolSupplier(str(path), removeHs=False, sanitize=False), most))
    except (OSError, RuntimeError) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    if not mols or any(mol is None for mol in mols):
        number = next((i for i, mol in enumerate(mols, start=1) if mol is None), 1)
        raise InputError(f"'{path}' record {number} is malformed; expected conformers of one molecule")
    return mols


def _read_sdf(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    mols = _sdf_mols(path)
    elements = [[atom.GetAtomicNum() for atom in mol.GetAtoms()] for mol in mols]
    different = next((i for i, row in enumerate(elements, start=1) if row != elements[0]), None)
    if different:
        raise InputError(f"'{path}' record {different} has other atoms than the first, expected conformers of one molecule")
    return _stacked(path, [mol.GetConformer().GetPositions() for mol in mols], [mol.GetPropsAsDict() for mol in mols])


def _stacked(path: Path, positions: list[np.ndarray], rows: list[dict[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    sizes = {len(frame) for frame in positions}
    if len(sizes) != 1:
        raise InputError(f"'{path}' holds molecules of {sorted(sizes)} atoms, expected conformers of one molecule")
    common = set.intersection(*(set(row) for row in rows)) - {"index"}
    numeric = [name for name in sorted(common) if all(isinstance(row[name], int | float) for row in rows)]
    return np.array(positions, dtype=np.float32), {name: np.array([row[name] for row in rows]) for name in numeric}
