"""Files of poses: SDF with numbers for each pose, exact arrays, and the receptor beside them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import atomic_path, read_arrays, write_arrays, write_text
from equilibra.energies.docking.receptor import Receptor, type_receptor
from equilibra.energies.docking.structure_file import Residue, StructureAtoms
from equilibra.energies.docking.structure_records import pdb_number
from equilibra.errors import InputError
from equilibra.systems.files import Frames, check_frames

FORMATS = ("sdf", "npz")
"""Formats that poses can be written in."""


def write_poses(
    path: Path, positions: np.ndarray, mol: Any, properties: Mapping[str, np.ndarray] | None = None, *, name: str = "ligand"
) -> None:
    """Writes poses atomically in the format of the path's suffix, one of `FORMATS`.

    Arguments:
        path: The file.
        positions: Poses (F, N, 3), in Å.
        mol: RDKit molecule with N atoms.
        properties: Numbers (F,) that go along.
        name: Title of the records.

    Raises:
        InputError: If the format is unknown, there is no pose, or the folder is not writable.
    """
    numbers = dict(properties or {})
    suffix = check_frames(path, positions, FORMATS)
    if suffix == "npz":
        write_arrays(path, {"positions": np.asarray(positions, dtype=np.float32), **numbers})
        return
    with atomic_path(path) as temporary:
        temporary.write_text("".join(sdf_records(positions, mol, numbers, name=name)), encoding="utf-8")


def sdf_records(positions: np.ndarray, mol: Any, properties: Mapping[str, np.ndarray], *, name: str = "ligand") -> list[str]:
    """Returns poses (F, N, 3) in Å as records of an SDF file, with the numbers (F,) as their data."""
    from rdkit import Chem

    copy = Chem.Mol(mol)
    records = []
    for index, frame in enumerate(np.asarray(positions, dtype=np.float64)):
        copy.RemoveAllConformers()
        conformer = Chem.Conformer(copy.GetNumAtoms())
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(frame))
        copy.AddConformer(conformer)
        copy.SetProp("_Name", " ".join(name.split()))
        data = [f">  <index>  ({index + 1}) \n{index}\n"]
        data += [f">  <{key}>  ({index + 1}) \n{values[index].item():.8g}\n" for key, values in properties.items()]
        records.append(Chem.MolToMolBlock(copy) + "\n".join(data) + "\n$$$$\n")
    return records


def read_poses(path: str | Path, topology: Any | None = None) -> Frames:
    """Reads poses of one ligand from a file that `write_poses` makes.

    Arguments:
        path: The file.
        topology: Not used: the files tell the atoms.

    Returns:
        Positions (F, N, 3), float32, in Å, and the numbers (F,) of the poses.

    Raises:
        InputError: If the file is missing or malformed.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        arrays = read_arrays(path)
        if arrays is None or "positions" not in arrays:
            raise InputError(f"'{path}' cannot be read, or holds no positions")
        return arrays.pop("positions"), arrays
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    with BlockLogs():
        mols = list(Chem.SDMolSupplier(str(path), removeHs=False, sanitize=False))
    if not mols or any(mol is None or mol.GetNumAtoms() != mols[0].GetNumAtoms() for mol in mols):
        raise InputError(f"'{path}' has a malformed record or other atoms than its first; expected poses of one ligand")
    rows = [mol.GetPropsAsDict() for mol in mols]
    names = [name for name, value in rows[0].items() if isinstance(value, int | float) and all(name in row for row in rows)]
    positions = np.stack([mol.GetConformer().GetPositions() for mol in mols]).astype(np.float32)
    return positions, {name: np.array([float(row[name]) for row in rows]) for name in names if name != "index"}


def write_receptor(folder: Path, receptor: Receptor) -> None:
    """Writes a receptor to a folder: `receptor.npz`, which `read_receptor_arrays` reads, and `receptor.pdb` for viewers."""
    atoms = receptor.atoms
    write_arrays(
        folder / "receptor.npz",
        {
            "elements": np.array(atoms.elements),
            "names": np.array(atoms.names),
            "residues": np.array([tuple(residue) for residue in atoms.residues]),
            "positions": atoms.positions,
        },
    )
    write_text(folder / "receptor.pdb", receptor_pdb(receptor))


def read_receptor_arrays(path: Path) -> Receptor:
    """Reads a receptor that `write_receptor` wrote.

    Raises:
        InputError: If the file is missing or damaged.
    """
    arrays = read_arrays(path)
    if arrays is None or not {"elements", "names", "residues", "positions"} <= set(arrays):
        raise InputError(f"'{path}' is missing or damaged; it belongs to the poses beside it")
    residues = tuple(Residue(*row) for row in arrays["residues"].tolist())
    return type_receptor(
        StructureAtoms(tuple(arrays["elements"].tolist()), tuple(arrays["names"].tolist()), residues, arrays["positions"])
    )


def receptor_pdb(receptor: Receptor, near: torch.Tensor | None = None, within: float = np.inf) -> str:
    """Returns a receptor as PDB text; with places (points, 3) only the residues with an atom within a distance of one of them, in Å.

    Names of chains with more than one letter get a letter that is free, which remarks at the start tell; residue numbers beyond 9999 are hybrid-36.
    """
    atoms = receptor.atoms
    chosen = set(atoms.residues)
    if near is not None:
        close = (torch.cdist(torch.from_numpy(atoms.positions), near.double()) <= within).any(1).tolist()
        chosen = {residue for residue, keep in zip(atoms.residues, close, strict=True) if keep}
    chains = _chain_letters([residue.chain for residue in dict.fromkeys(atoms.residues)])
    lines = [f"REMARK   1 CHAIN {chain} IS WRITTEN AS {letter}" for chain, letter in chains.items() if len(chain) > 1]
    serial = 0
    for i, residue in enumerate(atoms.residues):
        if residue in chosen:
            serial += 1
            name = atoms.names[i][:4]
            name = f" {name:<3s}" if len(name) < 4 and len(atoms.elements[i]) == 1 else f"{name:<4s}"
            kind = f"{residue.name:>3s} " if len(residue.name) <= 3 else residue.name[:4]
            x, y, z = atoms.positions[i]
            record = "ATOM  " if residue.name in _STANDARD else "HETATM"
            lines.append(
                f"{record}{serial % 100000:5d} {name} {kind}{chains[residue.chain] or ' '}{pdb_number(residue.number)}   "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {atoms.elements[i].upper():>2s}"
            )
    return "\n".join([*lines, "END", ""])


def _chain_letters(chains: list[str]) -> dict[str, str]:
    """Returns one letter for each chain; where they run out, chains share them, and are told apart again by the repeated numbers of their residues."""
    names = list(dict.fromkeys(chains))
    free = [letter for letter in string.ascii_uppercase + string.ascii_lowercase + string.digits if letter not in names]
    letters = {name: name for name in names if len(name) < 2}
    long = [name for name in names if len(name) > 1]
    spare = free or list(string.ascii_uppercase)
    return letters | {name: spare[place % len(spare)] for place, name in enumerate(long)}


_STANDARD = frozenset(
    [
        "ALA",
        "ARG",
        "ASN",
        "ASP",
        "CYS",
        "GLN",
        "GLU",
        "GLY",
        "HIS",
        "ILE",
        "LEU",
        "LYS",
        "MET",
        "PHE",
        "PRO",
        "SER",
        "THR",
        "TRP",
        "TYR",
        "VAL",
        "ACE",
        "NME",
        "HID",
        "HIE",
        "HIP",
        "CYX",
    ]
)
