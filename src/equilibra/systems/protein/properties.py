"""Properties of a protein that a guide can name, all of its C-alpha atoms; residues go by their numbers, as in `topology.pdb`."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import torch
from torch import Tensor

from equilibra.errors import InputError
from equilibra.geometry.superposition import rmsd
from equilibra.guidance.guide import Property
from equilibra.state import State
from equilibra.systems.properties import Maker, Positions, distance, gyration
from equilibra.systems.protein.sources import structure
from equilibra.systems.protein.system import ProteinSystem


def protein_properties(system: ProteinSystem, positions: Positions) -> dict[str, Maker]:
    """Returns the makers of the properties by their spelling, all in Å.

    `radius-of-gyration`; `distance:I,J` of two residues, each a number such as 12, or A:12 where several chains have it; `rmsd:FILE` to a structure in a PDB or
    mmCIF file, after superposition.

    Arguments:
        system: The protein.
        positions: Gives the positions of its C-alpha atoms.
    """
    return {
        "radius-of-gyration": gyration(positions),
        "distance:I,J": distance(positions, partial(_residue, system)),
        "rmsd:FILE": partial(_rmsd, system, positions),
    }


def _rmsd(system: ProteinSystem, positions: Positions, file: str) -> Property:
    target = np.asarray(structure(file, system).ca, dtype=np.float64)
    reference = torch.from_numpy(target - target.mean(axis=0))

    def compute(state: State) -> Tensor:
        x = positions(state)
        return rmsd(x, reference.to(x).expand_as(x))

    return Property(f"rmsd:{file}", compute, "Å", content=hashlib.sha256(target.tobytes()).hexdigest()[:12])


def _residue(system: ProteinSystem, text: str) -> int:
    chain, colon, number = text.rpartition(":")
    named = [k for k, name in enumerate(system.chain_ids) if not colon or name == chain.strip()]
    found = np.flatnonzero(np.isin(system.chain_index, named) & (system.residue_numbers == _number(number)))
    if len(found) == 1:
        return int(found[0])
    if len(found):
        labels = " or ".join(f"{system.chain_ids[system.chain_index[i]]}:{number.strip()}" for i in found)
        raise InputError(f"distance: {len(found)} chains have a residue {text}; write {labels}")
    low, high = system.label(0), system.label(system.length - 1)
    raise InputError(
        f"distance: there is no residue '{text}' in {system.name}, whose residues go from {low} to {high}, as in topology.pdb"
    )


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"distance: got the residue '{text}', expected a number such as 12, or A:12 with its chain") from None
