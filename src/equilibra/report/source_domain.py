"""Which domain the things belong to that a user names: folders, files of frames, structures, ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.domain import DOMAINS
from equilibra.systems.ensemble_folder import kind_of

LARGEST_PEPTIDE = 10
"""Files with all hydrogens and at most so many amino acids are taken as those of a molecule."""

_PROTEIN_SUFFIXES = (".cif", ".mmcif")
_TOPOLOGIES = (".pdb", ".ent", ".h5", ".hdf5", ".gro", ".psf", ".prmtop", ".parm7")


def domain_of(*sources: Any) -> str:
    """Returns the domain of some sources, which belong together: what an ensemble or its `ensemble.json` says, else what the atoms look like.

    Atoms are those of a protein if they have at least three amino acids, and either lack hydrogens or have more than `LARGEST_PEPTIDE` amino acids.

    Arguments:
        sources: Folders, files, `FILE:TOPOLOGY` texts, ensembles, or lists of ensembles.

    Raises:
        InputError: If two of them say that they are of different domains.
    """
    said = [(name, kind) for name, kind in ((_shown(source), _said(source)) for source in sources) if kind is not None]
    for name, kind in said[1:]:
        if kind != said[0][1]:
            raise InputError(
                f"{said[0][0]} holds an ensemble of a {said[0][1]}, {name} one of a {kind}; expected two of one kind: give the frames of the "
                "molecule as FILE:TOPOLOGY to compare backbones"
            )
    if said:
        return said[0][1]
    if any(looks_like_crystals(source) for source in sources):
        return "crystal"
    return "protein" if any(_looks_like_a_protein(source) for source in sources) else "molecule"


def _said(source: Any) -> str | None:
    """Returns the domain that a source names itself, or None."""
    if isinstance(source, str | Path):
        kind = kind_of(source)
        return kind if kind in DOMAINS else None
    first = source[0] if isinstance(source, Sequence) and len(source) else source
    kind = getattr(first, "kind", None)
    return kind if kind in DOMAINS else None


def looks_like_crystals(source: Any) -> bool:
    """Tells whether a source is a folder of crystals, or a file of structures that no other domain reads; CIF files may hold proteins too."""
    if not isinstance(source, str | Path):
        return False
    from equilibra.systems.crystal.data.read import is_structure_file

    path = Path(source)
    if path.is_dir():
        # samples of several compositions have a folder each
        return any(kind_of(file.parent) == "crystal" for file in path.glob("*/ensemble.json"))
    if not path.is_file() or not is_structure_file(path):
        return False
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".extxyz", ".xyz")):
        # molecules have no lattice
        with path.open("rb") as file:
            return b"Lattice=" in file.read(4096)
    return not name.endswith((*_PROTEIN_SUFFIXES, ".npy"))


def _looks_like_a_protein(source: Any) -> bool:
    if not isinstance(source, str | Path):
        return False
    path = _atoms_of(source)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(_PROTEIN_SUFFIXES):
        return True
    if not path.is_file() or Path(name).suffix not in _TOPOLOGIES:
        return False
    from equilibra.data.some_atoms import first_frame
    from equilibra.systems.protein.alphabet import letter_of
    from equilibra.systems.protein.system import MIN_LENGTH

    try:
        topology = first_frame(path)
    except InputError:
        # what is wrong with the file is told by the one who reads it
        return False
    topology = getattr(topology, "topology", topology)
    amino_acids = [
        residue
        for residue in topology.residues
        if letter_of(residue.name) is not None and any(atom.name == "CA" for atom in residue.atoms)
    ]
    if len(amino_acids) < MIN_LENGTH:
        return False
    hydrogens = all(any(atom.name.startswith(("H", "1H")) for atom in residue.atoms) for residue in amino_acids)
    return not hydrogens or len(amino_acids) > LARGEST_PEPTIDE


def _atoms_of(source: str | Path) -> Path:
    """Returns the file that tells the atoms of a source."""
    path = Path(source)
    if path.is_dir():
        return path / "topology.pdb"
    if isinstance(source, str) and not path.exists() and ":" in source:
        return Path(source.rpartition(":")[2])
    return path


def _shown(source: Any) -> str:
    return f"'{source}'" if isinstance(source, str | Path) else "the ensemble"
