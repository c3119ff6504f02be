"""Ensembles of proteins read back: from a folder that was saved, or from any trajectory of all atoms with its topology, of which the backbone is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.data.some_atoms import OWN_ATOMS, first_frame
from equilibra.errors import InputError
from equilibra.systems.ensemble_folder import known, read_folder, samples_file
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.files import read_frames
from equilibra.systems.protein.sources import protein_system, structure
from equilibra.systems.protein.system import ATOMS, NO_PROVIDER, ProteinSystem
from equilibra.systems.protein.trajectory import filled, read_backbones

_CIF = (".cif", ".mmcif")


def load_ensemble(
    source: str | Path, topology: str | Path | ProteinSystem | None = None, *, provenance: dict[str, Any] | None = None
) -> ProteinEnsemble:
    """Reads an ensemble.

    Arguments:
        source: A folder that `ProteinEnsemble.save` wrote (or one with `topology.pdb` and `samples.xtc`), or a file of frames: XTC, DCD, HDF5, PDB,
            mmCIF, npz, or whatever else mdtraj reads, of all atoms or of the backbone. Waters, ions and side chains are left out; an O or CB that
            the file lacks is placed by the frame of its residue.
        topology: The atoms of the frames: a PDB file or another topology that mdtraj reads; or the system, for frames of just the atoms that are written.
            PDB, mmCIF and HDF5 files need none.
        provenance: What is known of a trajectory that comes without; by default the names of the files.

    Returns:
        All frames of the source, valid or not; `validity` tells them apart.

    Raises:
        InputError: If a file is missing or malformed, holds no protein, or the topology does not fit the frames.
    """
    path = Path(source)
    if path.is_dir():
        if (path / "ensemble.json").is_file():
            return ProteinEnsemble(**read_folder(path, ProteinEnsemble, _saved_system, read_frames, needed=("protein",)))
        found = samples_file(path, ProteinEnsemble)
        if found is None or (topology is None and not (path / "topology.pdb").is_file()):
            raise InputError(f"'{path}' holds no ensemble: expected ensemble.json, or topology.pdb with samples.xtc")
        return load_ensemble(found, topology or path / "topology.pdb", provenance=provenance)
    if not path.is_file():
        raise InputError(f"no such file or folder: '{path}'")
    system, positions, properties = _frames(path, topology)
    return ProteinEnsemble(
        system=system,
        positions=positions,
        provenance={"files": [path.name]} if provenance is None else provenance,
        **known(properties, len(positions), path),
    )


def _frames(path: Path, topology: str | Path | ProteinSystem | None) -> tuple[ProteinSystem, np.ndarray, dict[str, np.ndarray]]:
    """Returns the protein of a file, its frames (F, atoms, 3) and their numbers by name."""
    suffix = path.suffix.lower()
    if suffix in _CIF:
        found = structure(path)
        slots = np.full((1, found.system.length, len(ATOMS), 3), np.nan)
        slots[0, :, :3] = np.stack([found.n, found.ca, found.c], axis=1)
        return found.system, filled(slots, found.system), {}
    if isinstance(topology, ProteinSystem):
        return topology, *read_frames(path, topology.topology)
    if topology is None and suffix not in OWN_ATOMS:
        raise InputError(f"'{path}' holds coordinates only; give a topology (PDB file) with it")
    names = path if suffix in OWN_ATOMS else Path(str(topology))
    source = first_frame(names)
    system = replace(protein_system(source), name=names.stem)
    if suffix == ".npz":
        return system, *read_frames(path, system.topology)
    return system, read_backbones(path, source, system), {}


def _saved_system(folder: Path, description: dict[str, Any]) -> ProteinSystem:
    """Returns the protein that `ensemble.json` describes; of a provider's features it has the name and hash, not the arrays."""
    path = folder / "ensemble.json"
    try:
        protein = description["protein"]
        numbers = np.array(protein["residue_numbers"], dtype=np.int64)
        chains = protein["sequence"].split(":")
        ends = np.cumsum([len(chain) for chain in chains])
        if numbers.shape != (ends[-1],):
            raise ValueError(f"{numbers.shape[0]} residue numbers for {ends[-1]} residues")
        system = ProteinSystem.of_chains(
            chains,
            name=description["name"],
            chain_ids=protein["chain_ids"],
            numbers=np.split(numbers, ends[:-1]),
        )
        provider, content = protein["provider"], protein["provider_content"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"'{path}': the protein in it is malformed: {error}") from error
    return system if provider == NO_PROVIDER else system.with_extra(None, None, provider=provider, content=content)
