"""What a user gives: a receptor, a ligand and a pocket; one by one, or in batches from a table or a folder."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.energies.docking.box import Box
from equilibra.energies.docking.structure_file import Residue, read_structure_atoms
from equilibra.errors import InputError
from equilibra.systems.ligand.pocket import REACH, box_of, pocket_atoms
from equilibra.systems.ligand.receptor import PreparedReceptor, ReceptorFile
from equilibra.systems.ligand.sources import FILE_SUFFIXES, LigandRecord, prepare_ligand, read_ligands
from equilibra.systems.ligand.symmetry import corresponding
from equilibra.systems.ligand.system import CONFORMERS, LigandSystem, ligand_system

_SHOWN = 12
OnError = Callable[[InputError], object]

COLUMNS = ("receptor", "ligand", "name", "ref_ligand", "center_x", "center_y", "center_z", "size", "residues")
"""Columns of a table of complexes; the first two are needed. Paths are relative to the table."""

_STRUCTURES = tuple(suffix + packed for suffix in (".pdb", ".ent", ".cif", ".mmcif") for packed in ("", ".gz"))


@dataclass(frozen=True, kw_only=True)
class LigandInput:
    """One receptor with one or several ligands.

    The pocket is named in one of three ways; without any, a ligand that comes with 3-D coordinates is its own reference.

    Attributes:
        receptor: PDB or mmCIF file.
        ligand: What `read_ligands` reads.
        reference: Reference ligand: a file, or the name of a residue in the receptor's file, such as `LIG` or `A:LIG401`, which is then left out of the receptor.
        centre: Centre of the box, in Å.
        size: Its edges, in Å: one number or three.
        residues: Residues that line the pocket, such as `A:57`.
        waters: Whether water molecules of the receptor are kept.
        keep_geometry: Keep bonds, angles and rings of a ligand with 3-D coordinates; by default they are made anew.
        conformers: Largest number of ring conformers.
        name: What to call the system; by default the ligand's name.
    """

    receptor: str | Path
    ligand: Any
    reference: str | Path | None = None
    centre: Sequence[float] | None = None
    size: Sequence[float] | None = None
    residues: Sequence[str] | None = None
    waters: bool = False
    keep_geometry: bool = False
    conformers: int = CONFORMERS
    name: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.centre is None:
            raise InputError("--size: has a meaning with --center only; give the centre of the box, too")


def ligand_systems(source: Any, *, on_error: OnError | None = None) -> list[LigandSystem]:
    """Reads the systems of a source; a bad record does not sink the others.

    Arguments:
        source: A `LigandInput` or a list of them, a pair (receptor, ligand), a table or folder that `complexes` reads, a system, or a list of systems.
        on_error: Called with the error of each record that is left out; by default the first is raised.

    Raises:
        InputError: If nothing can be read, or a record cannot where `on_error` is not given.
    """
    if isinstance(source, LigandSystem):
        return [source]
    if isinstance(source, list | tuple) and source and all(isinstance(each, LigandSystem) for each in source):
        return list(source)
    if isinstance(source, LigandInput):
        inputs = [source]
    elif isinstance(source, list) and source and all(isinstance(each, LigandInput) for each in source):
        inputs = source
    elif isinstance(source, str | Path):
        inputs = complexes(source)
    else:
        try:
            receptor, ligand = source
        except (TypeError, ValueError):
            raise InputError("ligand: expected a receptor and a ligand, a table of complexes, or a LigandInput") from None
        inputs = [LigandInput(receptor=receptor, ligand=ligand)]
    problems: list[InputError] = []
    # inputs in succession that have the same receptor read its file once
    receptor_of = lru_cache(maxsize=1)(ReceptorFile)
    found = [system for given in inputs for system in _systems(given, receptor_of, problems.append)]
    if problems and (on_error is None or not found):
        if len(problems) == 1 or on_error is None:
            raise problems[0]
        raise InputError("; ".join(map(str, problems[:5])) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""))
    for problem in problems:
        assert on_error is not None
        on_error(problem)
    return found


def _systems(given: LigandInput, receptor_of: Callable[[str], ReceptorFile], on_error: OnError) -> list[LigandSystem]:
    try:
        reference, removed, told = _reference(given, receptor_of)
        records = read_ligands(given.ligand)
    except InputError as error:
        on_error(error if given.name is None else InputError(f"{given.name}: {error}"))
        return []
    made = []
    for record in records:
        try:
            if isinstance(record, InputError):
                raise record
            receptor = receptor_of(str(given.receptor))
            made.append(_system(given, record, reference, removed, receptor, told, alone=len(records) == 1))
        except InputError as error:
            where = given.name if given.name is not None else Path(given.receptor).name
            on_error(error if len(records) == 1 and given.name is None else InputError(f"{where}: {error}"))
    return made


def _system(
    given: LigandInput,
    record: LigandRecord,
    reference: Any | None,
    removed: Sequence[Residue],
    receptor: ReceptorFile,
    told: Sequence[str],
    *,
    alone: bool,
) -> LigandSystem:
    heavy = [atom.GetIdx() for atom in record.mol.GetAtoms() if atom.GetAtomicNum() > 1]
    own = record.mol.GetConformer().GetPositions() if record.placed else None
    place = reference if isinstance(reference, np.ndarray) else None
    if place is None and reference is not None:
        place = _heavy_positions(reference)
    if place is None and given.centre is None and given.residues is None:
        if own is None:
            raise InputError(
                f"{record.name}: neither a pocket is named nor has the ligand 3-D coordinates; give --ref-ligand, --center with --size, or --residues"
            )
        place = own[heavy]
    ready = receptor.without(waters=given.waters, in_place_of=place, removed=removed)
    try:
        box = box_of(ready.receptor, reference=place, centre=given.centre, size=given.size, residues=given.residues)
        pocket_atoms(ready.receptor, box)
    except InputError as error:
        raise InputError(f"'{given.receptor}': {error}") from error
    pose, notes = _pose(record, reference, own, heavy, box)
    if given.keep_geometry and own is None:
        raise InputError(f"{record.name}: --keep-geometry needs a ligand with 3-D coordinates")
    return ligand_system(
        record.mol,
        ready.receptor,
        box,
        name=given.name if given.name is not None and alone else record.name,
        geometries=own[None] if given.keep_geometry and own is not None else None,
        n_conformers=given.conformers,
        pose=pose,
        notes=(*ready.notes, *told, *notes),
        warnings=(*ready.warnings, *_incomplete(ready, box), *record.warnings),
    )


def _incomplete(ready: PreparedReceptor, box: Box) -> list[str]:
    """Says which residues about the pocket lack something; those far away hardly matter."""
    low, high = (corner.numpy() for corner in box.corners)
    x = ready.receptor.atoms.positions
    near: list[bool] = np.all((x > low - REACH) & (x < high + REACH), axis=1).tolist()
    found = dict.fromkeys(
        residue
        for residue, here in zip(ready.receptor.atoms.residues, near, strict=True)
        if here and residue in ready.incomplete
    )
    return [f"residues about the pocket that lack atoms or are at a break: {', '.join(map(str, found))}"] if found else []


def _pose(
    record: LigandRecord, reference: Any, own: np.ndarray | None, heavy: Sequence[int], box: Any
) -> tuple[np.ndarray | None, list[str]]:
    """Returns the pose that samples are compared with: that of the reference ligand if it is the same molecule, or of the input if it is in the box. Of the first only heavy atoms are known."""
    if reference is not None and not isinstance(reference, np.ndarray):
        try:
            same = corresponding(record.mol, reference, "reference ligand")
        except InputError:
            same = None
        if same is not None:
            pose = np.full((record.mol.GetNumAtoms(), 3), np.nan)
            pose[heavy] = reference.GetConformer().GetPositions()[same]
            return pose, ["poses are compared with the reference ligand"]
    low, high = (corner.numpy() for corner in box.corners)
    if own is not None and bool(((own[heavy] >= low) & (own[heavy] <= high)).all()):
        return own, ["poses are compared with the coordinates of the input"]
    return None, []


def _reference(given: LigandInput, receptor_of: Callable[[str], ReceptorFile]) -> tuple[Any | None, list[Residue], list[str]]:
    """Returns the reference ligand, as an RDKit molecule or as positions of heavy atoms (atoms, 3), the residues of the receptor's file that it is, and what is to be said."""
    if given.reference is None:
        return None, [], []
    text = str(given.reference)
    path = Path(text)
    if path.suffix.lower() in FILE_SUFFIXES and path.suffix.lower() != ".smi":
        record = read_ligands(path)[0]
        if isinstance(record, InputError):
            raise InputError(f"--ref-ligand: {record}")
        if not record.placed:
            raise InputError(f"--ref-ligand: '{path}' has no 3-D coordinates; expected a ligand in its place")
        return record.mol, [], []
    if text.lower().endswith(_STRUCTURES):
        atoms = read_structure_atoms(path)
        return _rdkit_ligand(path) or atoms.positions[[element != "H" for element in atoms.elements]], [], []
    file = receptor_of(str(given.receptor))
    atoms, others = file.atoms, file.kinds.others
    found = [residue for residue in others if text in (residue.name, f"{residue.name}{residue.number}", str(residue))]
    if not found:
        known = ", ".join(map(str, others[:_SHOWN])) or "none"
        known += f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise InputError(
            f"--ref-ligand: '{text}' is neither a file nor a molecule of '{given.receptor}', whose molecules besides protein, nucleic acids, water and ions are: {known}"
        )
    chosen, *further = found
    rows = [i for i, residue in enumerate(atoms.residues) if residue == chosen and atoms.elements[i] != "H"]
    notes = [f"the reference ligand is {chosen}"]
    if further:
        notes[0] += f", the first '{text}' of {len(further) + 1}; name another in full, such as {further[0]}"
    return atoms.positions[rows], [chosen], notes


def _rdkit_ligand(path: Path) -> Any | None:
    """Reads the ligand of a PDB file as a molecule, for its connections; None where that fails: then it tells the place alone."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if path.suffix.lower() not in (".pdb", ".ent"):
        return None
    with BlockLogs():
        mol = Chem.MolFromPDBFile(str(path), removeHs=False, sanitize=False)
    try:
        return None if mol is None else prepare_ligand(mol, path.stem).mol
    except InputError:
        return None


def _heavy_positions(mol: Any) -> np.ndarray:
    rows = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return np.asarray(mol.GetConformer().GetPositions()[rows])


def complexes(source: str | Path) -> list[LigandInput]:
    """Reads a batch: a table (CSV) with the columns `COLUMNS`, or a folder in which each `NAME_protein.pdb` has its ligands in `NAME_ligands.sdf` or `NAME_ligand.sdf`, also below it.

    Raises:
        InputError: If it is neither, a column is missing or unknown, or there is nothing in it.
    """
    path = Path(source)
    if path.is_dir():
        found = []
        for receptor in sorted(path.rglob("*_protein.*")):
            if not receptor.name.lower().endswith(_STRUCTURES):
                continue
            stem = re.sub(r"_protein\..*$", "", receptor.name)
            ligands = [receptor.with_name(f"{stem}_{kind}.sdf") for kind in ("ligands", "ligand")]
            found += [LigandInput(receptor=receptor, ligand=ligand) for ligand in ligands if ligand.is_file()][:1]
        if not found:
            raise InputError(
                f"'{path}': no complexes in that folder; expected files NAME_protein.pdb with NAME_ligands.sdf or NAME_ligand.sdf"
            )
        return found
    if path.suffix.lower() != ".csv":
        raise InputError(
            f"ligand: got '{path}' alone, expected a receptor and a ligand, a table of complexes (.csv), or a folder of them"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), [name.strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not {"receptor", "ligand"} <= set(names):
        raise InputError(
            f"'{path}': got the columns {', '.join(names) or 'none'}, expected receptor and ligand, and others among {', '.join(COLUMNS)}"
        )
    if not rows:
        raise InputError(f"'{path}' has no rows; expected one complex in each")
    return [
        _row(path, number, {key.strip(): (value or "").strip() for key, value in row.items() if key})
        for number, row in enumerate(rows, start=2)
    ]


def _row(path: Path, line: int, row: dict[str, str]) -> LigandInput:
    def numbers(*names: str) -> list[float] | None:
        texts = [part for name in names for part in row.get(name, "").split()]
        try:
            return [float(text) for text in texts] or None
        except ValueError as error:
            raise InputError(f"'{path}' line {line}: {error}") from error

    def beside(text: str) -> str:
        return str(path.parent / text) if text.lower().endswith((*FILE_SUFFIXES, *_STRUCTURES)) else text

    return LigandInput(
        receptor=beside(row["receptor"]),
        ligand=beside(row["ligand"]),
        reference=beside(row["ref_ligand"]) if row.get("ref_ligand") else None,
        centre=numbers("center_x", "center_y", "center_z"),
        size=numbers("size"),
        residues=row["residues"].split() if row.get("residues") else None,
        name=row.get("name") or None,
    )


def with_options(given: LigandInput, **options: Any) -> LigandInput:
    """Returns an input with other options, those that are None left as they are."""
    return replace(given, **{key: value for key, value in options.items() if value is not None})
