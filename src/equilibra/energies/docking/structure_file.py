"""Atoms of a receptor from PDB and mmCIF files, every one of them, without bonds."""

from __future__ import annotations

import gzip
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equilibra.errors import InputError

_PDB, _CIF = (".pdb", ".ent"), (".cif", ".mmcif")


class Residue(NamedTuple):
    """Which residue an atom is of."""

    chain: str
    number: str
    name: str

    def __str__(self) -> str:
        return f"{self.chain}:{self.name}{self.number}" if self.chain else f"{self.name}{self.number}"


@dataclass(frozen=True)
class StructureAtoms:
    """The atoms of one model of a structure, each in one place.

    Attributes:
        elements: Symbols.
        names: Atom names, such as `CA`.
        residues: The residue of each.
        positions: Positions (atoms, 3) in Å.
        alternates: Residues of which one of several alternate locations was taken.
    """

    elements: tuple[str, ...]
    names: tuple[str, ...]
    residues: tuple[Residue, ...]
    positions: NDArray[np.float64]
    alternates: tuple[Residue, ...] = ()

    def label(self, atom: int) -> str:
        """Returns what an atom is called in messages, such as `A:HIS57:ND1`."""
        return f"{self.residues[atom]}:{self.names[atom]}"

    def some(self, kept: Sequence[int]) -> StructureAtoms:
        """Returns the atoms of some places alone."""
        return StructureAtoms(
            tuple(self.elements[i] for i in kept),
            tuple(self.names[i] for i in kept),
            tuple(self.residues[i] for i in kept),
            self.positions[list(kept)],
            self.alternates,
        )


class _Record(NamedTuple):
    element: str
    name: str
    residue: Residue
    location: str
    occupancy: float
    position: tuple[float, float, float]


def read_structure_atoms(path: str | Path) -> StructureAtoms:
    """Reads the first model of a PDB or mmCIF file (also gzipped). Of alternate locations, the one of a residue with the highest occupancy is taken.

    Raises:
        InputError: If there is no such file, it cannot be read, or it has no atoms with coordinates.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(_PDB + _CIF):
        raise InputError(f"receptor: got '{path}', expected a file that ends in {', '.join(_PDB + _CIF)}, or these with .gz")
    try:
        text = (
            gzip.decompress(path.read_bytes()).decode()
            if path.name.lower().endswith(".gz")
            else path.read_text(encoding="utf-8")
        )
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"receptor: '{path}' cannot be read: {error}") from error
    everything = _pdb_records(text, path) if name.endswith(_PDB) else _cif_records(text, path)
    records = _one_location(everything)
    positions = np.array([record.position for record in records], dtype=np.float64).reshape(-1, 3)
    if not len(records) or not np.isfinite(positions).all():
        raise InputError(
            f"receptor: '{path}' has no atoms, or some without coordinates; expected a structure file of a receptor"
        )
    return StructureAtoms(
        tuple(record.element for record in records),
        tuple(record.name for record in records),
        tuple(record.residue for record in records),
        positions,
        tuple(dict.fromkeys(record.residue for record in everything if record.location)),
    )


def _pdb_records(text: str, path: Path) -> list[_Record]:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    first = text.split("\nENDMDL", 1)[0]
    if not any(line.startswith(("ATOM", "HETATM")) for line in first.splitlines()):
        return []
    every_location = 1
    with BlockLogs():
        mol = Chem.MolFromPDBBlock(first, sanitize=False, removeHs=False, flavor=every_location, proximityBonding=False)
    if mol is None:
        raise InputError(
            f"receptor: '{path}' cannot be read as a PDB file; look for lines that are cut or shifted, and for element symbols (columns 77 and 78) "
            "that do not exist"
        )
    return [
        _pdb_record(atom, position) for atom, position in zip(mol.GetAtoms(), mol.GetConformer().GetPositions(), strict=True)
    ]


def _pdb_record(atom: Any, position: NDArray[np.float64]) -> _Record:
    info = atom.GetPDBResidueInfo()
    number = f"{info.GetResidueNumber()}{info.GetInsertionCode().strip()}"
    residue = Residue(info.GetChainId().strip(), number, info.GetResidueName().strip())
    x, y, z = map(float, position)
    return _Record(atom.GetSymbol(), info.GetName().strip(), residue, info.GetAltLoc().strip(), info.GetOccupancy(), (x, y, z))


def _cif_records(text: str, path: Path) -> list[_Record]:
    from Bio.PDB.MMCIF2Dict import MMCIF2Dict

    columns = MMCIF2Dict(io.StringIO(text))
    tag = "_atom_site."
    try:
        x, y, z = (columns[tag + "Cartn_" + axis] for axis in "xyz")
        symbols = columns[tag + "type_symbol"]
        names = columns[tag + "label_atom_id"]
        chains = columns.get(tag + "auth_asym_id") or columns[tag + "label_asym_id"]
        numbers = columns.get(tag + "auth_seq_id") or columns[tag + "label_seq_id"]
        residues = columns[tag + "label_comp_id"]
        blank = ["."] * len(x)
        insertions = columns.get(tag + "pdbx_PDB_ins_code", blank)
        locations = columns.get(tag + "label_alt_id", blank)
        occupancies = columns.get(tag + "occupancy", ["1"] * len(x))
        models = columns.get(tag + "pdbx_PDB_model_num", ["1"] * len(x))
        return [
            _Record(
                symbols[i].capitalize(),
                names[i],
                Residue(chains[i], numbers[i] + insertions[i].strip("?."), residues[i]),
                locations[i].strip("?."),
                float(occupancies[i]),
                (float(x[i]), float(y[i]), float(z[i])),
            )
            for i in range(len(x))
            if models[i] == models[0]
        ]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"receptor: '{path}' cannot be read as mmCIF: the table of atoms lacks or spoils {error}") from error


def _one_location(records: list[_Record]) -> list[_Record]:
    """Keeps, for each residue, the atoms without alternate location and those of the location with the largest sum of occupancies."""
    occupancy: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for record in records:
        if record.location:
            occupancy[record.residue[:2]][record.location] += record.occupancy
    chosen = {place: max(locations, key=locations.__getitem__) for place, locations in occupancy.items()}
    return [record for record in records if not record.location or record.location == chosen[record.residue[:2]]]
