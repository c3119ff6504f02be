"""Receptors in PDBQT, the file format of AutoDock, for runs of other programs on the same structure."""

from __future__ import annotations

from equilibra.energies.docking.atom_types import ELEMENTS
from equilibra.energies.docking.covalent import covalent_neighbours
from equilibra.energies.docking.receptor import Receptor
from equilibra.energies.docking.structure_records import pdb_number
from equilibra.errors import InputError

_POLAR = frozenset(("N", "O", "S"))
_TYPES = {"O": "OA", "S": "SA", "Se": "S"}


def receptor_pdbqt(receptor: Receptor) -> str:
    """Returns a rigid receptor as PDBQT text: heavy atoms and polar hydrogens, without charges, which Vina does not read. Elements that Vina does not know are left out.

    Vina finds donors by their hydrogens, hence the receptor must have them.

    Raises:
        InputError: If a donor has no hydrogen in the file.
    """
    atoms = receptor.atoms
    neighbours = covalent_neighbours(atoms.elements, atoms.positions)
    types = dict(zip(receptor.heavy.tolist(), receptor.types, strict=True))
    lines: list[str] = []
    for i, element in enumerate(atoms.elements):
        if element not in ELEMENTS:
            continue
        if element == "H":
            kind = "HD" if any(atoms.elements[j] in _POLAR for j in neighbours[i]) else None
        elif element == "N":
            kind = "NA" if "A" in types[i][1:] else "N"
        else:
            kind = _TYPES.get(element, element)
        if types.get(i) in ("N_D", "N_DA", "O_DA", "") and not any(atoms.elements[j] == "H" for j in neighbours[i]):
            raise InputError(
                f"PDBQT: {atoms.label(i)} has no hydrogen in the file, and Vina needs those of donors; add hydrogens to the receptor, for example with PDBFixer"
            )
        if kind is not None:
            residue = atoms.residues[i]
            x, y, z = atoms.positions[i]
            lines.append(
                f"ATOM  {(len(lines) + 1) % 100000:5d} {atoms.names[i][:4]:<4s} {residue.name[:3]:>3s} {residue.chain[:1] or ' '}"
                f"{pdb_number(residue.number)}   {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00    {0.0:6.3f} {kind:<2s}"
            )
    return "\n".join(lines) + "\n"
