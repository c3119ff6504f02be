"""Readers of what a user may give: a peptide's name, SMILES, SDF, MOL and PDB files, or an RDKit molecule."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.embedding import embed
from equilibra.systems.molecule.bond_orders import molecule_of_topology, openmm_positions
from equilibra.systems.molecule.peptide import CAPS, ONE_LETTER, build_peptide, is_peptide_name
from equilibra.systems.stereo import unspecified_stereo

FILE_SUFFIXES = (".sdf", ".mol", ".pdb", ".ent", ".smi")
"""Suffixes of the files that can be read."""

EMBEDDING_SEED = 20230608
"""Seed of the one conformer made for a SMILES, fixed so that the same SMILES gives the same system."""


@dataclass(frozen=True)
class Record:
    """One molecule as it was read.

    Attributes:
        name: What to call it.
        mol: RDKit molecule with all hydrogens and one 3-D conformer.
        topology: mdtraj `Topology` where the source has residues, else None.
    """

    name: str
    mol: Any
    topology: Any | None = None


def read_records(source: Any) -> list[Record | InputError]:
    """Reads all molecules of a source; a record of a file that cannot be read is returned as its error.

    Arguments:
        source: A peptide's name, a SMILES, the path of a file (`FILE_SUFFIXES`), or an RDKit molecule.

    Raises:
        InputError: If the source as a whole cannot be read.
    """
    if hasattr(source, "GetAtoms"):
        return [from_mol(source)]
    if not isinstance(source, str | Path):
        raise InputError(
            f"molecule: got {type(source).__name__}, expected a peptide's name, a SMILES, a file or an RDKit molecule"
        )
    text = str(source).strip()
    if not text:
        raise InputError("molecule: got an empty text, expected a peptide's name, a SMILES or the path of a file")
    path = Path(source)
    if isinstance(source, Path) or path.suffix.lower() in FILE_SUFFIXES or _is_file(path):
        return _from_file(path)
    known = {*ONE_LETTER, *CAPS}
    parts = text.upper().split("-")
    if is_peptide_name(text) or all(part in known for part in parts):
        if not any(part in known for part in parts) and _parse_smiles(text) is not None:
            return [from_smiles(text)]
        return [from_peptide(text)]
    return [from_smiles(text)]


def from_peptide(name: str) -> Record:
    """Builds a peptide from its name, such as `ACE-ALA-NME`, in an extended conformation.

    Raises:
        InputError: If a residue is unknown or a cap misplaced.
    """
    try:
        topology, positions = build_peptide(name)
    except ValueError as error:
        # OpenMM's report of a residue that it has no template for, such as a single amino acid with both ends free
        raise InputError(
            f"peptide '{name}' cannot be built ({str(error).split('  ')[0]}); a single amino acid needs caps, as in ACE-ALA-NME, or give a PDB or SDF "
            "file with all hydrogens"
        ) from error
    mol = molecule_of_topology(topology, openmm_positions(positions), f"peptide '{name}'")
    return Record(name.strip().upper(), mol, _mdtraj_topology(topology))


def from_smiles(text: str, name: str | None = None) -> Record:
    """Reads a SMILES: hydrogens are added and one conformer is embedded with a fixed seed.

    Raises:
        InputError: If the SMILES is malformed, its stereochemistry incomplete, or no conformer is found.
    """
    from rdkit import Chem

    mol = _parse_smiles(text)
    if mol is None:
        raise InputError(
            f"'{text}' is neither a file, nor a peptide's name (like ACE-ALA-NME), nor a valid SMILES{_smiles_problem(text)}; "
            f"files end in {', '.join(FILE_SUFFIXES)}"
        )
    return _embedded(Chem.AddHs(mol), text if name is None else name)


def from_mol(mol: Any, name: str | None = None) -> Record:
    """Takes an RDKit molecule: with a 3-D conformer as it is (hydrogens explicit), without one as a SMILES.

    Raises:
        InputError: As for the other sources.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    title = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
    with BlockLogs():
        smiles = Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False))
    name = name or title or smiles
    mol.UpdatePropertyCache(strict=False)
    if mol.GetNumConformers() == 0:
        return _embedded(Chem.AddHs(mol), name)
    conformer = mol.GetConformer()
    if not conformer.Is3D() and not conformer.GetPositions()[:, 2].any():
        raise InputError(
            f"{name}: the coordinates are two-dimensional (a drawing); give 3-D coordinates with hydrogens, or a SMILES"
        )
    with BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError as error:
            raise InputError(f"{name}: the chemistry does not add up: {error}") from error
    Chem.AssignStereochemistryFrom3D(mol)
    return Record(name, mol)


def _from_file(path: Path) -> list[Record | InputError]:
    if not path.exists():
        raise InputError(f"no such file: '{path}'")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected a file that ends in {', '.join(FILE_SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix in (".pdb", ".ent"):
        return [_from_pdb(path)]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read as text: {error}") from error
    if suffix in (".sdf", ".mol"):
        return _from_sdf(text, path)
    if suffix == ".smi":
        return _from_smiles_file(text, path)
    raise InputError(f"'{path}': unknown kind of file; expected one that ends in {', '.join(FILE_SUFFIXES)}")


def _from_sdf(text: str, path: Path) -> list[Record | InputError]:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    # what follows the last delimiter is no record
    blocks = [block for block in re.split(r"^\$\$\$\$.*\n?", text.replace("\r\n", "\n"), flags=re.MULTILINE) if block.strip()]
    if not blocks:
        raise InputError(f"'{path}' holds no record; expected at least one molecule")
    records: list[Record | InputError] = []
    for number, block in enumerate(blocks, start=1):
        where = f"'{path}' record {number}"
        with BlockLogs():
            mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if mol is None or mol.GetNumAtoms() == 0:
            records.append(InputError(f"{where}: malformed; expected a MOL block (V2000 or V3000) with at least one atom"))
            continue
        title = block.split("\n", 1)[0].strip()
        try:
            records.append(from_mol(mol, title or (path.stem if len(blocks) == 1 else f"{path.stem}-{number}")))
        except InputError as error:
            records.append(InputError(f"{where}: {error}"))
    return records


def _from_smiles_file(text: str, path: Path) -> list[Record | InputError]:
    records: list[Record | InputError] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        smiles, *rest = line.split(maxsplit=1)
        try:
            records.append(from_smiles(smiles, rest[0].strip() if rest else None))
        except InputError as error:
            records.append(InputError(f"'{path}' line {number}: {error}"))
    if not records:
        raise InputError(f"'{path}' holds no SMILES; expected one per line, each with an optional name after it")
    return records


def _from_pdb(path: Path) -> Record:
    from openmm.app import PDBFile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pdb = PDBFile(str(path))
    except Exception as error:
        # the parser raises whatever its own code stumbles over
        raise InputError(f"'{path}' is not a well-formed PDB file: {type(error).__name__}: {error}") from error
    if pdb.topology.getNumAtoms() == 0:
        raise InputError(f"'{path}' is not a well-formed PDB file: no ATOM or HETATM record was found")
    mol = molecule_of_topology(pdb.topology, openmm_positions(pdb.positions), f"'{path}'")
    return Record(path.stem, mol, _mdtraj_topology(pdb.topology, mol))


def _mdtraj_topology(topology: Any, mol: Any | None = None) -> Any:
    import mdtraj

    converted = mdtraj.Topology.from_openmm(topology)
    if mol is not None and converted.n_bonds != mol.GetNumBonds():
        atoms = list(converted.atoms)
        present = {frozenset((bond[0].index, bond[1].index)) for bond in converted.bonds}
        for bond in mol.GetBonds():
            pair = frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            if pair not in present:
                converted.add_bond(*(atoms[i] for i in sorted(pair)))
    return converted


def _embedded(mol: Any, name: str) -> Record:
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs

    if mol.GetNumAtoms() < 2 or any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()) or len(Chem.GetMolFrags(mol)) > 1:
        # left to the checks of the system, whose message names the cause
        mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()), assignId=True)
        return Record(name, mol)
    missing = unspecified_stereo(mol)
    if missing:
        raise InputError(
            f"{name}: stereochemistry is not specified at {', '.join(missing)} (atoms counted from 1 in the order of the SMILES); two "
            "stereoisomers are two systems: mark each centre with @ or @@ and each double bond with / and \\"
        )
    with BlockLogs():
        if not embed(mol, EMBEDDING_SEED):
            raise InputError(
                f"{name}: no conformation was found by distance geometry; give the molecule with coordinates as SDF"
            )
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=500)
    return Record(name, mol)


def _parse_smiles(text: str) -> Any:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        mol = Chem.MolFromSmiles(text)
    return mol if mol is not None and mol.GetNumAtoms() else None


def _smiles_problem(text: str) -> str:
    """Returns why a SMILES fails, where the chemistry and not the grammar is wrong."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        mol = Chem.MolFromSmiles(text, sanitize=False)
        if mol is None or not mol.GetNumAtoms():
            return ""
        problems = [problem.Message() for problem in Chem.DetectChemistryProblems(mol)]
    return f" ({problems[0]})" if problems else ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # a SMILES may be longer than a name may be
        return False


__all__ = ["EMBEDDING_SEED", "FILE_SUFFIXES", "Record", "from_mol", "from_peptide", "from_smiles", "read_records"]
