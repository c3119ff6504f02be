"""Ensembles read back: from a folder that was saved, or from any trajectory with its topology."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.ensemble_folder import known, read_folder, samples_file
from equilibra.systems.files import read_topology
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.files import first_mol, read_frames
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system, system_of_mol


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
            return MoleculeEnsemble(**read_folder(path, MoleculeEnsemble, _saved_system, read_frames, needed=("molecule",)))
        found = samples_file(path, MoleculeEnsemble)
        if found is None or (topology is None and not (path / "topology.pdb").is_file()):
            raise InputError(f"'{path}' holds no ensemble: expected ensemble.json, or topology.pdb with samples.xtc")
        return load_ensemble(found, topology or path / "topology.pdb", provenance=provenance)
    if not path.is_file():
        raise InputError(f"no such file or folder: '{path}'")
    system = topology if isinstance(topology, MoleculeSystem) else _system_of_files(path, topology)
    positions, properties = read_frames(path, system.topology)
    return MoleculeEnsemble(
        system=system,
        positions=positions,
        provenance={"files": [path.name]} if provenance is None else provenance,
        **known(properties, len(positions), path),
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


def _saved_system(folder: Path, description: dict[str, Any]) -> MoleculeSystem:
    from rdkit import Chem

    topology_path = folder / "topology.pdb"
    if not topology_path.is_file():
        raise InputError(f"no such file: '{topology_path}'")
    mol = Chem.MolFromMolBlock(description["molecule"], removeHs=False)
    if mol is None:
        raise InputError(f"'{folder / 'ensemble.json'}': the molecule in it is malformed")
    Chem.AssignStereochemistryFrom3D(mol)
    topology = read_topology(topology_path)
    if topology.n_atoms != mol.GetNumAtoms():
        raise InputError(f"'{topology_path}' has {topology.n_atoms} atoms, but ensemble.json has {mol.GetNumAtoms()}")
    return system_of_mol(mol, description["name"], topology)
