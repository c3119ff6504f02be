"""Ligands from what a user names: SDF, MOL and MOL2 files, files of SMILES, a SMILES, or an RDKit molecule."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.stereo import unspecified_stereo

FILE_SUFFIXES = (".sdf", ".mol", ".mol2", ".smi")
"""Suffixes of the files that can be read."""

_MOL2_RECORD = "@<TRIPOS>MOLECULE"


@dataclass(frozen=True, eq=False)
class LigandRecord:
    """One ligand as it was read.

    Attributes:
        name: What to call it.
        mol: RDKit molecule with all hydrogens as atoms, and with a conformer if the source has 3-D coordinates.
        placed: Whether it has.
        warnings: What a user should look at, in sentences.
    """

    name: str
    mol: Any
    placed: bool
    warnings: tuple[str, ...]


def read_ligands(source: Any) -> list[LigandRecord | InputError]:
    """Reads all ligands of a source; a record that cannot be used is returned as its error.

    Arguments:
        source: A file (`FILE_SUFFIXES`), a SMILES, or an RDKit molecule.

    Raises:
        InputError: If the source as a whole cannot be read.
    """
    if hasattr(source, "GetAtoms"):
        return [prepare_ligand(source, _title(source) or "ligand")]
    text = str(source).strip()
    path = Path(text)
    if isinstance(source, Path) or path.suffix.lower() in FILE_SUFFIXES:
        return _from_file(Path(source))
    if not text:
        raise InputError("ligand: got an empty text, expected a file or a SMILES")
    return [_from_smiles(text, text)]


def _from_file(path: Path) -> list[LigandRecord | InputError]:
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise InputError(f"ligand: got '{path}', expected a file that ends in {', '.join(FILE_SUFFIXES)}, or a SMILES")
    try:
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"ligand: '{path}' cannot be read: {error}") from error
    if suffix == ".smi":
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        made = [
            _attempt(_from_smiles, line.split()[0], (line.split(maxsplit=1)[1:] or [line.split()[0]])[0].strip())
            for line in lines
        ]
    else:
        if suffix == ".mol2":
            blocks = [_MOL2_RECORD + part for part in text.split(_MOL2_RECORD)[1:]]
        else:
            blocks = [block for block in re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE) if block.strip()]
        made = [_attempt(_from_block, block, path, number, len(blocks)) for number, block in enumerate(blocks, start=1)]
    if not made:
        raise InputError(f"ligand: '{path}' holds no molecule")
    return made


def _attempt(read: Any, *arguments: Any) -> LigandRecord | InputError:
    try:
        record: LigandRecord = read(*arguments)
    except InputError as error:
        return error
    return record


def _from_block(block: str, path: Path, number: int, count: int) -> LigandRecord:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    where = f"'{path}'" if count == 1 else f"'{path}' record {number}"
    with BlockLogs():
        if path.suffix.lower() == ".mol2":
            mol = Chem.MolFromMol2Block(block, sanitize=False, removeHs=False)
        else:
            mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    if mol is None or mol.GetNumAtoms() == 0:
        raise InputError(f"ligand: {where} cannot be read by RDKit; expected a molecule with its bonds in a well-formed record")
    name = _title(mol) or (path.stem if count == 1 else f"{path.stem}-{number}")
    try:
        return prepare_ligand(mol, name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _from_smiles(text: str, name: str) -> LigandRecord:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        mol = Chem.MolFromSmiles(text)
    if mol is None or mol.GetNumAtoms() == 0:
        raise InputError(
            f"ligand: '{text}' is neither a file that ends in {', '.join(FILE_SUFFIXES)} nor a valid SMILES; check its brackets, rings and valences"
        )
    return prepare_ligand(mol, name)


def prepare_ligand(mol: Any, name: str) -> LigandRecord:
    """Makes a ligand of an RDKit molecule: sanitised, its stereochemistry read from its coordinates, missing hydrogens added.

    Raises:
        InputError: If its chemistry does not add up, it has several fragments, dummy atoms, fewer than three heavy atoms, drawn coordinates, or open stereochemistry.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    mol = Chem.Mol(mol)
    with BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError as error:
            raise InputError(f"{name}: the chemistry does not add up: {error}") from error
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise InputError(f"{name}: contains a dummy atom (*); expected a whole molecule")
    fragments = len(Chem.GetMolFrags(mol))
    if fragments > 1:
        raise InputError(f"{name}: got {fragments} fragments, expected one molecule; remove counter-ions and solvent")
    if mol.GetNumHeavyAtoms() < 3:
        raise InputError(f"{name}: got {mol.GetNumHeavyAtoms()} heavy atoms, expected at least 3")
    placed = mol.GetNumConformers() > 0
    if placed:
        x = mol.GetConformer().GetPositions()
        if not (abs(x).sum() < float("inf")):
            raise InputError(f"{name}: some coordinates are not finite numbers")
        placed = bool(x[:, 2].any())
        if not placed:
            # a drawing tells the graph, not the pose
            mol.RemoveAllConformers()
        else:
            Chem.AssignStereochemistryFrom3D(mol)
    warnings = []
    missing = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    if missing:
        mol = Chem.AddHs(mol, addCoords=placed)
        warnings.append(f"{missing} hydrogens were added; check its protonation state and tautomer")
    charge = Chem.GetFormalCharge(mol)
    if not missing and charge == 0 and mol.HasSubstructMatch(Chem.MolFromSmarts("[CX3](=O)[OX2H1]")):
        warnings.append("it has a neutral carboxylic acid, which is charged at pH 7; protonation is taken as it is")
    open_stereo = unspecified_stereo(mol)
    if open_stereo:
        raise InputError(
            f"{name}: stereochemistry is not specified at {', '.join(open_stereo)}; two stereoisomers are two ligands: specify each"
        )
    return LigandRecord(" ".join(name.split()), mol, placed, tuple(warnings))


def _title(mol: Any) -> str:
    return str(mol.GetProp("_Name")).strip() if mol.HasProp("_Name") else ""
