"""The molecule's System: what the user gave, as a chemical graph with stereochemistry, a topology and one valid conformation."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.state import System
from equilibra.systems.chemical_graph import featurise
from equilibra.systems.molecule.sources import Record, read_records
from equilibra.systems.stereo import perceive_stereo

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class MoleculeSystem(System):
    r"""One molecule of N atoms, all hydrogens among them.

    Two systems are equal if their digests are: atoms in the same order, same bonds, charges and stereochemistry.

    Attributes:
        mol: RDKit molecule with all hydrogens explicit and the reference as its conformer.
        topology: mdtraj `Topology` with the names of residues and atoms, and the bonds.
        reference: One valid conformation (N, 3), in Å.
        stereo_centres: Indices (C, 4): each centre with three neighbours in canonical order.
        stereo_signs: Expected sign (C,) of the normalised signed volume :math:`(r_1 \times r_2) \cdot r_3`, -1 or +1.
        double_bonds: Indices (B, 4) of the dihedral of each double bond of given configuration.
        double_bond_signs: Expected sign (B,) of its cosine: +1 for cis, -1 for trans.
    """

    mol: Any
    topology: Any
    reference: np.ndarray
    stereo_centres: np.ndarray
    stereo_signs: np.ndarray
    double_bonds: np.ndarray
    double_bond_signs: np.ndarray

    @property
    def atoms(self) -> int:
        """Number of atoms N."""
        return int(self.reference.shape[0])

    @property
    def atom_names(self) -> list[str]:
        """What the atoms are called in messages."""
        return [f"{atom.name} of {atom.residue}" for atom in self.topology.atoms]

    @property
    def canonical_smiles(self) -> str:
        """Canonical isomeric SMILES: the same for every order of the atoms, different for stereoisomers."""
        from rdkit import Chem

        return str(Chem.MolToSmiles(Chem.RemoveHs(self.mol)))

    def __len__(self) -> int:
        return self.atoms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MoleculeSystem) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"MoleculeSystem(name={self.name!r}, atoms={self.atoms}, digest={self.digest[:12]!r})"


def molecule_system(source: Any) -> MoleculeSystem:
    """Makes the System of one molecule.

    Arguments:
        source: A peptide's name (`ACE-ALA-NME`), a SMILES with complete stereochemistry, the path of an SDF, MOL or PDB file with all
            hydrogens, or an RDKit molecule.

    Raises:
        InputError: If the source cannot be read, holds several molecules, or is no molecule that can be treated; the message says why.
    """
    records = read_records(source)
    if len(records) > 1:
        raise InputError(f"'{source}' holds {len(records)} molecules, expected one; use `molecule_systems` for several")
    return _system_of_record(records[0])


def molecule_systems(source: Any, *, on_error: Callable[[InputError], None] | None = None) -> list[MoleculeSystem]:
    """Makes the Systems of all molecules of a source; a bad record does not sink the others.

    Arguments:
        source: As for `molecule_system`; SDF files may hold several records, and `.smi` files one SMILES per line.
        on_error: Called with the error of each record that is left out, which names its number; by default a warning is logged.

    Raises:
        InputError: If the source cannot be read, or none of its records can be used.
    """
    systems, errors = [], []
    records = read_records(source)
    for number, record in enumerate(records, start=1):
        try:
            systems.append(_system_of_record(record))
        except InputError as error:
            numbered = record is error or len(records) == 1
            errors.append(error if numbered else InputError(f"'{source}' record {number}: {error}"))
    if not systems:
        raise InputError("; ".join(map(str, errors)))
    for problem in errors:
        if on_error is None:
            _logger.warning("left out: %s", problem)
        else:
            on_error(problem)
    return systems


def _system_of_record(record: Record | InputError) -> MoleculeSystem:
    if isinstance(record, InputError):
        raise record
    return system_of_mol(record.mol, record.name, record.topology)


def system_of_mol(mol: Any, name: str, topology: Any | None = None) -> MoleculeSystem:
    """Makes the System of an RDKit molecule that has all hydrogens, a 3-D conformer and assigned stereochemistry.

    Arguments:
        mol: Sanitised RDKit molecule; it is copied.
        name: What to call the system.
        topology: mdtraj `Topology` of the same atoms in the same order; by default one residue `LIG`.

    Raises:
        InputError: If there are fewer than two atoms, several fragments, missing hydrogens, an unsupported element, NaN coordinates, or
            unspecified stereochemistry.
    """
    from rdkit import Chem

    mol = Chem.Mol(mol)
    _check_molecule(mol, name)
    try:
        stereo = perceive_stereo(mol)
        features = featurise(mol, stereo)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    reference = np.array(mol.GetConformer().GetPositions(), dtype=np.float64)
    reference.setflags(write=False)
    return MoleculeSystem(
        name=name,
        features=features,
        digest=_digest(mol, stereo),
        mol=mol,
        topology=ligand_topology(mol) if topology is None else topology,
        reference=reference,
        stereo_centres=stereo.centres,
        stereo_signs=stereo.signs,
        double_bonds=stereo.double_bonds,
        double_bond_signs=stereo.double_bond_signs,
    )


def ligand_topology(mol: Any, residue: str = "LIG") -> Any:
    """Makes an mdtraj `Topology` of one residue, its atoms named by element and number (C1, C2, H1, ...)."""
    import mdtraj

    topology = mdtraj.Topology()
    only = topology.add_residue(residue, topology.add_chain(), resSeq=1)
    counts: dict[str, int] = {}
    for atom in mol.GetAtoms():
        symbol = atom.GetSymbol()
        counts[symbol] = counts.get(symbol, 0) + 1
        topology.add_atom(f"{symbol.upper()}{counts[symbol]}", mdtraj.element.Element.getBySymbol(symbol), only)
    atoms = list(topology.atoms)
    types = {1.0: mdtraj.core.topology.Single, 2.0: mdtraj.core.topology.Double, 3.0: mdtraj.core.topology.Triple}
    for bond in mol.GetBonds():
        order = bond.GetBondTypeAsDouble()
        kind = mdtraj.core.topology.Aromatic if bond.GetIsAromatic() else types.get(order)
        # mdtraj's orders are whole numbers; the type tells aromatic bonds apart
        topology.add_bond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()], type=kind, order=max(int(order), 1))
    return topology


def _check_molecule(mol: Any, name: str) -> None:
    from rdkit import Chem

    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise InputError(f"{name}: contains a dummy atom (*); expected real elements only")
    implicit = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    if implicit:
        raise InputError(f"{name}: {implicit} hydrogens are missing; every atom is needed: add them with 3-D coordinates first")
    if mol.GetNumAtoms() < 2:
        raise InputError(f"{name}: got {mol.GetNumAtoms()} atom, expected at least 2")
    fragments = len(Chem.GetMolFrags(mol))
    if fragments > 1:
        raise InputError(
            f"{name}: got {fragments} separate fragments, expected one molecule; remove salts, waters and ions, or split it"
        )
    if mol.GetNumConformers() == 0 or not np.isfinite(mol.GetConformer().GetPositions()).all():
        raise InputError(f"{name}: the coordinates are missing or not finite")


def _digest(mol: Any, stereo: Any) -> str:
    content = {
        "atoms": [[atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetIsotope()] for atom in mol.GetAtoms()],
        "bonds": sorted([*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), str(b.GetBondType())] for b in mol.GetBonds()),
        "centres": [[*quad, sign] for quad, sign in zip(stereo.centres.tolist(), stereo.signs.tolist(), strict=True)],
        "double_bonds": [
            [*quad, sign] for quad, sign in zip(stereo.double_bonds.tolist(), stereo.double_bond_signs.tolist(), strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
