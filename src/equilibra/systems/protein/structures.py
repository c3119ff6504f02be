"""Readers of structures: the protein chains of PDB and mmCIF files and of mdtraj objects."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.alphabet import letter_of
from equilibra.systems.protein.chains import BACKBONE, PEPTIDE_BOND_LIMIT, Chain, Residue, protein_chains
from equilibra.units import NM

STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
"""Suffixes of structure files; each may have `.gz` after it."""


def read_structure(path: str | Path) -> list[Chain]:
    """Reads the protein chains of the first model of a PDB or mmCIF file.

    Of alternate locations the one of highest occupancy is taken, the first among equals, for all atoms of a residue. Residues without N, CA or C are
    left out with a warning.

    Raises:
        InputError: If there is no such file, it is malformed, or holds no protein.
    """
    path = Path(path)
    text = _text(path)
    suffix = _suffix(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _first_model(text, cif=suffix in (".cif", ".mmcif"))
    except Exception as error:
        # the parser raises whatever its own code stumbles over
        raise InputError(f"'{path}' is not a well-formed structure file: {type(error).__name__}: {error}") from error
    if model is None:
        raise InputError(f"'{path}' is not a well-formed structure file: no ATOM or HETATM record was found")
    residues = []
    for number, chain in enumerate(model):
        for entry in chain:
            flag, resseq, insertion = entry.id
            name, xyz = _atoms_of(entry)
            residues.append(Residue(number, chain.id, name, resseq, insertion.strip(), flag != " ", xyz))
    return protein_chains(residues, f"'{path}'")


def read_mdtraj(source: Any) -> list[Chain]:
    """Reads the protein chains of an mdtraj `Topology`, or of a `Trajectory` with the positions of its first frame.

    Raises:
        InputError: If it holds no protein.
    """
    topology = getattr(source, "topology", source)
    xyz = None if topology is source else np.asarray(source.xyz[0], dtype=np.float64) * NM
    cell = None if topology is source else _cell_of(source)
    residues = []
    for residue in topology.residues:
        found = {atom.name: atom.index for atom in residue.atoms}
        atoms = tuple(found.get(name, -1) for name in BACKBONE)
        chain_id = getattr(residue.chain, "chain_id", None) or str(residue.chain.index + 1)
        positions = None
        if xyz is not None:
            positions = np.array([xyz[i] if i >= 0 else np.full(3, np.nan) for i in atoms])
        hetero = letter_of(residue.name) is None
        residues.append(Residue(residue.chain.index, chain_id, residue.name, residue.resSeq, "", hetero, positions, atoms))
    return protein_chains(residues, "the topology" if xyz is None else "the trajectory", cell)


def backbone_indices(topology: Any) -> np.ndarray:
    """Returns the indices (L, 3) of N, CA and C of the protein's residues in an mdtraj `Topology`, the residues of `protein_system(topology)`.

    Raises:
        InputError: If there is no protein, or none of its residues has all three atoms.
    """
    chains = read_mdtraj(topology)
    return np.array([residue.atoms for chain in chains for residue in chain.residues], dtype=np.int64)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def is_structure_path(path: Path) -> bool:
    """Returns whether a path has the suffix of a structure file."""
    return _suffix(path) in STRUCTURE_SUFFIXES


def _text(path: Path) -> str:
    if not path.exists():
        raise InputError(f"no such file: '{path}'")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected a file that ends in {', '.join(STRUCTURE_SUFFIXES)}")
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read()
        return path.read_text(encoding="utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read as text: {error}") from error


def _first_model(text: str, *, cif: bool) -> Any | None:
    from Bio.PDB import MMCIFParser, PDBParser

    if cif:
        structure = MMCIFParser(QUIET=True).get_structure("", io.StringIO(text))
    else:
        # a trajectory in PDB form may have thousands of models, of which one is needed
        first = text.split("\nENDMDL", 1)[0]
        structure = PDBParser(QUIET=True).get_structure("", io.StringIO(first))
    return next((model for model in structure if len(model)), None)


def _atoms_of(entry: Any) -> tuple[str, np.ndarray]:
    """Returns name and backbone (3, 3) of a residue, of its most occupied conformation."""
    variants = entry.disordered_get_list() if entry.is_disordered() == 2 else [entry]
    best: tuple[float, str, np.ndarray] | None = None
    for variant in variants:
        for location in _locations(variant):
            chosen = [_atom_at(variant, name, location) for name in BACKBONE]
            xyz = np.array([np.full(3, np.nan) if atom is None else atom.coord for atom in chosen], dtype=np.float64)
            occupancy = sum(1.0 if atom.occupancy is None else float(atom.occupancy) for atom in chosen if atom is not None)
            if best is None or occupancy > best[0]:
                best = (occupancy, variant.get_resname().strip(), xyz)
    assert best is not None
    return best[1], best[2]


def _locations(residue: Any) -> list[str]:
    """Returns the labels of a residue's alternate locations, or one blank."""
    labels = [label for atom in residue if atom.is_disordered() for label in atom.disordered_get_id_list()]
    return list(dict.fromkeys(labels)) or [" "]


def _atom_at(residue: Any, name: str, location: str) -> Any | None:
    if name not in residue:
        return None
    atom = residue[name]
    if atom.is_disordered():
        # an atom may lack a location that others have
        return atom.disordered_get(location) if atom.disordered_has_id(location) else atom
    return atom


def _cell_of(trajectory: Any) -> np.ndarray | None:
    """Returns the periodic cell (3, 3) of the first frame in Å, a vector a row; None where there is none that could hold a protein."""
    vectors = trajectory.unitcell_vectors
    if vectors is None:
        return None
    cell = np.asarray(vectors[0], dtype=np.float64) * NM
    # some programs write a cell of 1 Å for none
    return cell if np.isfinite(cell).all() and np.linalg.norm(cell, axis=1).min() > 4.0 * PEPTIDE_BOND_LIMIT else None
