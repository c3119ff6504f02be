"""Files of a molecule's conformations: the formats of every domain (`systems.files`), and those that hold bonds or elements: SDF and extxyz."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError
from equilibra.systems import files
from equilibra.systems.files import Frames, check_frames, mdtraj_trajectory, read_trajectory, write_trajectory

__all__ = [
    "FORMATS",
    "ase_frames",
    "first_mol",
    "mdtraj_trajectory",
    "rdkit_conformers",
    "read_frames",
    "write_frames",
]

FORMATS = (*files.FORMATS, "sdf", "extxyz")
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
    properties = {} if properties is None else properties
    suffix = check_frames(path, positions, FORMATS)
    if suffix in files.FORMATS:
        write_trajectory(path, positions, system.topology, properties)
        return
    with atomic_path(path) as temporary:
        if suffix == "sdf":
            _write_sdf(temporary, positions, system, properties)
        else:
            import ase.io

            ase.io.write(temporary, ase_frames(positions, system, properties), format="extxyz")


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
    return read_trajectory(path, topology, {".sdf": _read_sdf, ".extxyz": _read_extxyz, ".xyz": _read_extxyz})


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


def _read_sdf(path: Path) -> Frames:
    mols = _sdf_mols(path)
    elements = [[atom.GetAtomicNum() for atom in mol.GetAtoms()] for mol in mols]
    different = next((i for i, row in enumerate(elements, start=1) if row != elements[0]), None)
    if different:
        raise InputError(f"'{path}' record {different} has other atoms than the first, expected conformers of one molecule")
    return _stacked(path, [mol.GetConformer().GetPositions() for mol in mols], [mol.GetPropsAsDict() for mol in mols])


def _read_extxyz(path: Path) -> Frames:
    import ase.io

    frames: Any = ase.io.read(path, index=":", format="extxyz")
    return _stacked(path, [f.positions for f in frames], [dict(f.info) for f in frames])


def _stacked(path: Path, positions: list[np.ndarray], rows: list[dict[str, Any]]) -> Frames:
    sizes = {len(frame) for frame in positions}
    if len(sizes) != 1:
        raise InputError(f"'{path}' holds molecules of {sorted(sizes)} atoms, expected conformers of one molecule")
    common = set.intersection(*(set(row) for row in rows)) - {"index"}
    numeric = [name for name in sorted(common) if all(isinstance(row[name], int | float) for row in rows)]
    return np.array(positions, dtype=np.float32), {name: np.array([row[name] for row in rows]) for name in numeric}
