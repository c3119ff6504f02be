"""Ensembles read back: from a folder that was saved, or from any trajectory with its topology."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.molecule.ensemble import SCHEMA_VERSION, MoleculeEnsemble
from equilibra.systems.molecule.files import first_mol, read_frames
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system, system_of_mol

_COLUMNS = {"log_weight": "log_weights", "block": "blocks", "log_density": "log_density", "energy_ev": "energies"}
_TRAJECTORIES = ("samples.npz", "samples.xtc", "samples.dcd", "samples.pdb", "samples.sdf", "samples.extxyz")


def load_ensemble(
    source: str | Path, topology: str | Path | MoleculeSystem | None = None, *, provenance: dict[str, Any] | None = None
) -> MoleculeEnsemble:
    """Reads an ensemble.

    Arguments:
        source: A folder that `MoleculeEnsemble.save` wrote (or one with `topology.pdb` and `samples.xtc`), or a file of frames: XTC, DCD,
            HDF5, PDB, SDF, extxyz, npz, or whatever else mdtraj reads.
        topology: The molecule of the frames: a PDB or SDF file, or the system itself. PDB and SDF files need none.
        provenance: What is known of a trajectory that comes without; by default the names of the files.

    Returns:
        All frames of the source, valid or not; `validity` tells them apart.

    Raises:
        InputError: If a file is missing or malformed, or the topology does not fit the frames.
    """
    path = Path(source)
    if path.is_dir():
        if (path / "ensemble.json").is_file():
            return _load_folder(path)
        found = [name for name in _TRAJECTORIES if (path / name).is_file()]
        if not found or (topology is None and not (path / "topology.pdb").is_file()):
            raise InputError(f"'{path}' holds no ensemble: expected ensemble.json, or topology.pdb with samples.xtc")
        return load_ensemble(path / found[0], topology or path / "topology.pdb", provenance=provenance)
    if not path.is_file():
        raise InputError(f"no such file or folder: '{path}'")
    system = topology if isinstance(topology, MoleculeSystem) else _system_of_files(path, topology)
    positions, properties = read_frames(path, system.topology)
    return MoleculeEnsemble(
        system=system,
        positions=positions,
        provenance={"files": [path.name]} if provenance is None else provenance,
        **_known(properties, len(positions), path),
    )


def _system_of_files(path: Path, topology: str | Path | None) -> MoleculeSystem:
    if topology is not None:
        return molecule_system(Path(topology))
    suffix = path.suffix.lower()
    if suffix == ".sdf":
        return molecule_system(first_mol(path))
    if suffix in (".pdb", ".ent"):
        return molecule_system(path)
    raise InputError(f"'{path}' holds no bonds; give a topology (PDB or SDF file) with it")


def _known(properties: dict[str, np.ndarray], frames: int, path: Path) -> dict[str, Any]:
    known = {_COLUMNS[name]: values for name, values in properties.items() if name in _COLUMNS}
    for name, values in known.items():
        if values.shape != (frames,):
            raise InputError(f"'{path}': {name} has shape {values.shape}, expected ({frames},)")
    return known


def _load_folder(folder: Path) -> MoleculeEnsemble:
    description = _description(folder)
    system = _saved_system(folder, description)
    names = [name for name in _TRAJECTORIES if name in description["files"]]
    if not names:
        raise InputError(f"'{folder}': ensemble.json names no file of frames")
    positions, _ = read_frames(folder / names[0], system.topology)
    if len(positions) != description["frames"]:
        raise InputError(
            f"'{folder / names[0]}' has {len(positions)} frames, but ensemble.json says {description['frames']}; the folder is incomplete"
        )
    rejected, reasons = _rejected(folder, system)
    return MoleculeEnsemble(
        system=system,
        positions=positions,
        rejected=rejected,
        rejected_reasons=reasons,
        provenance=description["provenance"],
        **_known(_samples_csv(folder / "samples.csv"), len(positions), folder / "samples.csv"),
    )


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "ensemble.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' is not a JSON file that can be read: {error}") from error
    needed = {"schema_version", "kind", "name", "digest", "frames", "files", "provenance", "molecule"}
    missing = sorted(needed - set(description)) if isinstance(description, dict) else sorted(needed)
    if missing:
        raise InputError(f"'{path}' lacks {', '.join(missing)}; expected the file that `MoleculeEnsemble.save` writes")
    if description["schema_version"] != SCHEMA_VERSION or description["kind"] != "molecule":
        raise InputError(
            f"'{path}' is of kind '{description['kind']}' and version {description['schema_version']}, expected a molecule's of version "
            f"{SCHEMA_VERSION}; read it with the release that wrote it"
        )
    return description


def _saved_system(folder: Path, description: dict[str, Any]) -> MoleculeSystem:
    import mdtraj
    from rdkit import Chem

    topology_path = folder / "topology.pdb"
    if not topology_path.is_file():
        raise InputError(f"no such file: '{topology_path}'")
    mol = Chem.MolFromMolBlock(description["molecule"], removeHs=False)
    if mol is None:
        raise InputError(f"'{folder / 'ensemble.json'}': the molecule in it is malformed")
    Chem.AssignStereochemistryFrom3D(mol)
    try:
        topology = mdtraj.load_pdb(str(topology_path), standard_names=False).topology
    except Exception as error:
        # the parser raises whatever its own code stumbles over
        raise InputError(f"'{topology_path}' is not a well-formed PDB file: {error}") from error
    if topology.n_atoms != mol.GetNumAtoms():
        raise InputError(f"'{topology_path}' has {topology.n_atoms} atoms, but ensemble.json has {mol.GetNumAtoms()}")
    system = system_of_mol(mol, description["name"], topology)
    if system.digest != description["digest"]:
        raise InputError(f"'{folder}': the molecule in ensemble.json is not the one that it names; the file was changed")
    return system


def _samples_csv(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        columns = {name: [row[name] for row in rows] for name in _COLUMNS if rows and rows[0].get(name)}
        return {name: np.array([float(value) for value in values]) for name, values in columns.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"'{path}' is malformed: {error}") from error


def _rejected(folder: Path, system: MoleculeSystem) -> tuple[np.ndarray, tuple[str, ...]]:
    path = folder / "rejected.csv"
    if not path.is_file():
        return np.zeros((0, system.atoms, 3), dtype=np.float32), ()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # frames that are not finite are in no file
    frames = np.full((len(rows), system.atoms, 3), np.nan, dtype=np.float32)
    stored = [(i, int(row["frame"])) for i, row in enumerate(rows) if row["frame"]]
    if stored:
        read, _ = read_frames(folder / "rejected.xtc", system.topology)
        if len(read) != len(stored):
            raise InputError(f"'{folder / 'rejected.xtc'}' has {len(read)} frames, but rejected.csv says {len(stored)}")
        for i, frame in stored:
            frames[i] = read[frame]
    return frames, tuple(row["reasons"] for row in rows)
