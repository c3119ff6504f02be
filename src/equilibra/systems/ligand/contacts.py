"""Contacts of poses with residues of the receptor, by the atom types of the Vina score."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np

from equilibra.energies.docking.atom_types import XSCORE_TYPES
from equilibra.energies.docking.ligand import docking_ligand
from equilibra.energies.docking.structure_file import Residue
from equilibra.systems.ligand.system import LigandSystem

KINDS: Mapping[str, float] = {"hydrogen bond": 3.5, "hydrophobic": 4.5, "metal": 2.8}
"""Kinds of contacts with the largest distance of their heavy atoms, in Å: donor and acceptor; two hydrophobic atoms; an acceptor and a metal."""

_REACH = max(KINDS.values())
_POSES_AT_ONCE = 32


def contacts(system: LigandSystem, positions: np.ndarray) -> dict[tuple[Residue, str], np.ndarray]:
    """Returns for each residue and kind of contact which poses (F,) have it, for poses (F, N, 3) in Å."""
    ligand = docking_ligand(system.mol)
    low, high = (corner.numpy() for corner in system.box.corners)
    atoms = system.receptor.positions.numpy()
    rows = np.flatnonzero(((atoms > low - _REACH) & (atoms < high + _REACH)).all(axis=1))
    residues = [system.receptor.atoms.residues[i] for i in system.receptor.heavy.numpy()[rows]]
    blank = XSCORE_TYPES["C_P"]
    ours = [XSCORE_TYPES[name] for name in ligand.types]
    types = [system.receptor.types[i] for i in rows]
    theirs = [XSCORE_TYPES[name] if name else blank for name in types]

    def pairs(a: list[bool], b: list[bool]) -> np.ndarray:
        return np.array(a, dtype=bool)[:, None] & np.array(b, dtype=bool)[None]

    metal = [name == "Met_D" for name in types]
    give, take = [t.donor for t in ours], [t.acceptor for t in ours]
    bond = pairs(give, [t.acceptor for t in theirs]) | pairs(
        take, [t.donor and not m for t, m in zip(theirs, metal, strict=True)]
    )
    allowed = {
        "hydrogen bond": bond,
        "hydrophobic": pairs([t.hydrophobic for t in ours], [t.hydrophobic for t in theirs]),
        "metal": pairs(take, metal),
    }
    groups = {residue: [k for k, own in enumerate(residues) if own == residue] for residue in dict.fromkeys(residues)}
    found: dict[tuple[Residue, str], list[np.ndarray]] = {}
    for start in range(0, len(positions), _POSES_AT_ONCE):
        x = positions[start : start + _POSES_AT_ONCE, system.torsions.heavy].astype(np.float64)
        distance = np.linalg.norm(x[:, :, None] - atoms[rows], axis=-1)
        for kind, reach in KINDS.items():
            near = (distance <= reach) & allowed[kind]
            for residue, columns in groups.items():
                found.setdefault((residue, kind), []).append(near[:, :, columns].any(axis=(1, 2)))
    joined = {key: np.concatenate(parts) for key, parts in found.items()}
    return {key: value for key, value in joined.items() if value.any()}


def contact_table(system: LigandSystem, positions: np.ndarray, weights: np.ndarray) -> str:
    """Returns contacts as CSV text: residue, kind, and the weighted share of the poses that have it, the most frequent first.

    Arguments:
        system: The system.
        positions: Poses (F, N, 3), in Å.
        weights: Weights (F,), which sum to one.
    """
    shares = {key: float(weights[has].sum()) for key, has in contacts(system, positions).items()}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["residue", "contact", "share"])
    for (residue, kind), share in sorted(shares.items(), key=lambda item: (-item[1], str(item[0]))):
        rows.writerow([str(residue), kind, f"{share:.4f}"])
    return text.getvalue()
