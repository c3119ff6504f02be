"""Torsions by which a molecule's conformations are told apart: phi and psi of peptides, else one for each rotatable bond."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from equilibra.systems.molecule.system import MoleculeSystem


def torsion_quadruples(system: MoleculeSystem) -> dict[str, tuple[int, int, int, int]]:
    """Returns the torsions of a molecule as names with four atoms each.

    Peptides have `phi ALA2`, `psi ALA2`, ... by the names of their atoms. Other molecules have one torsion for each rotatable bond (single, in
    no ring, between heavy atoms that have a further heavy atom), such as `torsion C1-C2-C3-O4`, with numbers that count atoms from 1.
    """
    return _backbone(system.topology) or _rotatable(system)


def _backbone(topology: Any) -> dict[str, tuple[int, int, int, int]]:
    angles: dict[str, dict[str, tuple[int, int, int, int]]] = {"phi": {}, "psi": {}}
    for chain in topology.chains:
        for before, here in pairwise(chain.residues):
            old, new = ({atom.name: atom.index for atom in residue.atoms} for residue in (before, here))
            if "C" not in old or "N" not in new:
                continue
            if "CA" in new and "C" in new:
                angles["phi"][_unique(f"phi {here}", angles["phi"], chain)] = (old["C"], new["N"], new["CA"], new["C"])
            if "N" in old and "CA" in old:
                angles["psi"][_unique(f"psi {before}", angles["psi"], chain)] = (old["N"], old["CA"], old["C"], new["N"])
    return {**angles["phi"], **angles["psi"]}


def _unique(name: str, taken: dict[str, tuple[int, int, int, int]], chain: Any) -> str:
    return name if name not in taken else f"{name} of chain {chain.index + 1}"


def _rotatable(system: MoleculeSystem) -> dict[str, tuple[int, int, int, int]]:
    from rdkit import Chem

    mol = system.mol
    names = [atom.name for atom in system.topology.atoms]
    found = {}
    for bond in mol.GetBonds():
        ends = sorted((bond.GetBeginAtom(), bond.GetEndAtom()), key=lambda atom: atom.GetIdx())
        # nothing turns about the axis of a triple bond
        linear = any(other.GetBondType() == Chem.BondType.TRIPLE for atom in ends for other in atom.GetBonds())
        if bond.GetBondType() != Chem.BondType.SINGLE or bond.IsInRing() or linear:
            continue
        outer = [
            sorted(
                (-n.GetAtomicNum(), n.GetIdx())
                for n in atom.GetNeighbors()
                if n.GetIdx() != other.GetIdx() and n.GetAtomicNum() > 1
            )
            for atom, other in (ends, ends[::-1])
        ]
        if min(atom.GetAtomicNum() for atom in ends) == 1 or not all(outer):
            continue
        quadruple = (outer[0][0][1], ends[0].GetIdx(), ends[1].GetIdx(), outer[1][0][1])
        found["torsion " + "-".join(f"{names[i]}{'' if names[i][-1].isdigit() else i + 1}" for i in quadruple)] = quadruple
    return found
