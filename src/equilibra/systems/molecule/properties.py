"""Properties of a molecule that a guide can name; atoms are counted from 1, as in `topology.pdb` and in collective variables."""

from __future__ import annotations

from functools import partial

import torch

from equilibra.errors import InputError
from equilibra.systems.molecule.system import MoleculeSystem
from equilibra.systems.properties import Maker, Positions, distance, gyration


def molecule_properties(system: MoleculeSystem, positions: Positions) -> dict[str, Maker]:
    """Returns the makers of the properties by their spelling.

    `radius-of-gyration` is mass-weighted, as the collective variable `rg`; `distance:I,J` is that of two atoms. Both are in Å.

    Arguments:
        system: The molecule.
        positions: Gives the positions of its atoms.
    """
    masses = torch.tensor([atom.GetMass() for atom in system.mol.GetAtoms()], dtype=torch.float64)
    return {
        "radius-of-gyration": gyration(positions, masses),
        "distance:I,J": distance(positions, partial(_atom, system)),
    }


def _atom(system: MoleculeSystem, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= system.atoms:
        raise InputError(
            f"distance: there is no atom '{text}'; the atoms of {system.name} are 1 to {system.atoms}, as in topology.pdb"
        )
    return int(text) - 1
