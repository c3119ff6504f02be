"""Bond orders and charges of a PDB's molecule: templates for the standard residues, perception from coordinates for any other."""

from __future__ import annotations

from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.bond_perception import perceived_bond_orders
from equilibra.systems.molecule.peptide import CAPS, ONE_LETTER
from equilibra.units import NM

_DOUBLE_BONDS: dict[str, tuple[tuple[str, str], ...]] = {
    "ARG": (("CZ", "NH2"),),
    "ASN": (("CG", "OD1"),),
    "GLN": (("CD", "OE1"),),
    "PHE": (("CG", "CD1"), ("CE1", "CZ"), ("CE2", "CD2")),
    "TYR": (("CG", "CD1"), ("CE1", "CZ"), ("CE2", "CD2")),
    "TRP": (("CG", "CD1"), ("CD2", "CE2"), ("CZ2", "CH2"), ("CZ3", "CE3")),
}
"""Double bonds of the side chains that do not depend on the protonation; the backbone's C=O is added to each residue."""

_VALENCES = {1: 1, 6: 4, 7: 3, 8: 2, 16: 2, 34: 2}
_STANDARD = frozenset([*ONE_LETTER, *CAPS, "NH2"])


def molecule_of_topology(topology: Any, positions: np.ndarray, source: str) -> Any:
    """Makes an RDKit molecule with bond orders, charges and stereo tags from an OpenMM topology.

    Arguments:
        topology: OpenMM `Topology` with all hydrogens.
        positions: Positions (atoms, 3), in Å.
        source: How to call the input in messages.

    Raises:
        InputError: If hydrogens are missing, an atom has no element, or a valence is wrong.
    """
    from rdkit import Chem

    atoms = list(topology.atoms())
    editable = Chem.RWMol()
    for atom in atoms:
        if atom.element is None:
            raise InputError(
                f"{source}: atom '{atom.name}' of residue {_label(atom.residue)} has no element; give columns 77-78 of the PDB"
            )
        fresh = Chem.Atom(atom.element.atomic_number)
        fresh.SetNoImplicit(True)
        editable.AddAtom(fresh)
    if len(atoms) > 1 and not any(atom.element.atomic_number == 1 for atom in atoms):
        raise InputError(
            f"{source}: no hydrogen atoms; every atom is needed: add them first, e.g. with OpenMM's Modeller or PDBFixer"
        )
    for first, second in _bonds(topology, atoms, positions):
        editable.AddBond(first, second, Chem.BondType.SINGLE)
    conformer = Chem.Conformer(len(atoms))
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(positions, dtype=np.float64))
    editable.AddConformer(conformer, assignId=True)
    unknown = [residue for residue in topology.residues() if residue.name not in _STANDARD]
    if unknown:
        names = ", ".join(sorted({residue.name for residue in unknown}))
        declared = sum(getattr(atom, "formalCharge", None) or 0 for residue in unknown for atom in residue.atoms())
        mol = perceived_bond_orders(editable, names, source, charge=declared)
    else:
        mol = _from_templates(editable, topology, source)
    _sanitise(mol, source)
    Chem.AssignStereochemistryFrom3D(mol)
    return mol


def _bonds(topology: Any, atoms: list[Any], positions: np.ndarray) -> set[tuple[int, int]]:
    """Returns the bonds of the topology; atoms that it left alone (unknown names) are bonded by distance."""
    from rdkit import Chem

    bonds = {(min(b[0].index, b[1].index), max(b[0].index, b[1].index)) for b in topology.bonds()}
    bonded = {index for bond in bonds for index in bond}
    alone = [atom.index for atom in atoms if atom.index not in bonded]
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(atom.element.atomic_number) for atom in atoms])
    for index in alone:
        distances = np.linalg.norm(positions - positions[index], axis=1)
        distances[index] = np.inf
        near = np.flatnonzero(distances < 1.3 * (radii + radii[index]))
        if atoms[index].element.atomic_number == 1:
            near = near[np.argsort(distances[near])][:1]
        bonds |= {(min(index, int(j)), max(index, int(j))) for j in near}
    return bonds


def _from_templates(mol: Any, topology: Any, source: str) -> Any:
    from rdkit import Chem

    for residue in topology.residues():
        names = {atom.name: atom.index for atom in residue.atoms()}
        hydrogens = {
            name for name, i in names.items() if any(n.GetAtomicNum() == 1 for n in mol.GetAtomWithIdx(i).GetNeighbors())
        }  # fmt: skip
        for first, second in (("C", "O"), *_side_chain(residue.name, hydrogens)):
            bond = mol.GetBondBetweenAtoms(names[first], names[second]) if first in names and second in names else None
            if bond is not None:
                bond.SetBondType(Chem.BondType.DOUBLE)
    for atom, described in zip(mol.GetAtoms(), topology.atoms(), strict=True):
        number, orders = atom.GetAtomicNum(), round(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))
        charge = orders - _VALENCES.get(number, orders)
        if charge and not _may_have(atom, charge, described):
            missing = "; hydrogens are missing, add them first" if charge < 0 else "; too many bonds"
            raise InputError(
                f"{source}: atom {described.name} of residue {_label(described.residue)} has {atom.GetDegree()} bonds, which leaves a valence of "
                f"{orders} instead of {_VALENCES[number]}{missing}"
            )
        atom.SetFormalCharge(charge)
    return mol.GetMol()


def _side_chain(residue: str, with_hydrogen: set[str]) -> tuple[tuple[str, str], ...]:
    if residue in ("ASP", "GLU"):
        carbon, oxygens = ("CG", ("OD1", "OD2")) if residue == "ASP" else ("CD", ("OE1", "OE2"))
        return ((carbon, oxygens[0] if oxygens[0] not in with_hydrogen else oxygens[1]),)
    if residue == "HIS":
        return (("CG", "CD2"), ("CE1", "NE2" if "ND1" in with_hydrogen and "NE2" not in with_hydrogen else "ND1"))
    return _DOUBLE_BONDS.get(residue, ())


def _may_have(atom: Any, charge: int, described: Any) -> bool:
    """Tells whether an atom of a standard residue may have a charge: N+ with four bonds, O- and S- only where residues lose a proton."""
    if charge == 1:
        return bool(atom.GetAtomicNum() == 7)
    anions = {("ASP", "OD1"), ("ASP", "OD2"), ("GLU", "OE1"), ("GLU", "OE2"), ("TYR", "OH"), ("CYS", "SG")}
    return charge == -1 and (described.name == "OXT" or (described.residue.name, described.name) in anions)


def _sanitise(mol: Any, source: str) -> None:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    try:
        with BlockLogs():
            Chem.SanitizeMol(mol)
    except ValueError as error:
        raise InputError(f"{source}: the chemistry does not add up: {error}") from error


def _label(residue: Any) -> str:
    return f"{residue.name}{residue.id}"


def openmm_positions(quantity: Any) -> np.ndarray:
    """Returns an OpenMM quantity of positions as an array (atoms, 3), in Å."""
    from openmm import unit

    return np.array(quantity.value_in_unit(unit.nanometer), dtype=np.float64) * NM
