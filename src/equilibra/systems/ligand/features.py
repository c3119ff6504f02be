"""What a network is told of a ligand in a pocket: tokens are the ligand's heavy atoms, then heavy atoms of the pocket.

Ligand tokens have the features of the chemical graph, pocket tokens residue and place in it, both the element and the type of the Vina score. Pairs within
the ligand have those of the graph. Coordinates are no features: they are in the State.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from equilibra.energies.docking.atom_types import METALS, XSCORE_TYPES
from equilibra.energies.docking.ligand import docking_ligand
from equilibra.energies.docking.receptor import Receptor
from equilibra.energies.docking.residue_names import WATERS
from equilibra.state import Features
from equilibra.systems import chemical_graph
from equilibra.systems.ligand.receptor import HEAVY_ATOMS
from equilibra.systems.ligand.torsions import LigandTorsions
from equilibra.systems.stereo import Stereo

_RESIDUES = {name: number for number, name in enumerate(sorted(HEAVY_ATOMS), start=1)}
_OTHER, _WATER, _METAL = len(_RESIDUES) + 1, len(_RESIDUES) + 2, len(_RESIDUES) + 3
_ALIASES = {"HID": "HIS", "HIE": "HIS", "HIP": "HIS", "HSD": "HIS", "HSE": "HIS", "HSP": "HIS", "CYX": "CYS", "MSE": "MET"}
_PLACES = {"N": 1, "CA": 2, "C": 3, "O": 4, "OXT": 4, "CB": 5}
_SIDE_CHAIN = 6
_TYPES = {name: number for number, name in enumerate(XSCORE_TYPES, start=1)}
_OUTSIDE = chemical_graph.MAX_PATH + 2  # path of pairs with the pocket

NODE_VOCABULARY: dict[str, int] = {
    **chemical_graph.NODE_VOCABULARY,
    "residue": _METAL + 1,
    "place": _SIDE_CHAIN + 1,
    "score_type": len(_TYPES) + 1,
}
"""Integer features of tokens: those of the chemical graph (zero for the pocket, the element excepted), `residue` (0 for the ligand), `place` in the residue, and the `score_type`."""

PAIR_VOCABULARY: dict[str, int] = {**chemical_graph.PAIR_VOCABULARY, "path": _OUTSIDE + 1}
"""Integer features of pairs: those of the chemical graph; the path has one more value for pairs with the pocket."""


def pocket_features(mol: Any, stereo: Stereo, receptor: Receptor, pocket: np.ndarray, torsions: LigandTorsions) -> Features:
    """Makes the features of a ligand with L heavy atoms and P atoms of its pocket.

    Besides those of the vocabularies there are `ligand` (tokens,), true for the ligand's, `pos_items`, the same for the field of that name, `parent` (tokens,), for the far atom of each bond that turns the token
    of the near one, `torsions_items` (tokens,), true for these far atoms, and the pairs `moving` (tokens, tokens): which tokens move with which far atom.

    Raises:
        InputError: If an element has no embedding, or no type in the Vina score.
    """
    heavy = torch.from_numpy(torsions.heavy)
    graph = chemical_graph.featurise(mol, stereo)
    own, others = len(heavy), len(pocket)
    atoms = receptor.heavy[torch.from_numpy(pocket)].tolist()
    node = {name: torch.zeros(own + others, dtype=torch.int64) for name in NODE_VOCABULARY}
    for name in chemical_graph.NODE_VOCABULARY:
        node[name][:own] = graph.node[name][heavy]
    node["element"][own:] = torch.tensor([_number(receptor.atoms.elements[i]) for i in atoms])
    node["residue"][own:] = torch.tensor([_residue(receptor, i) for i in atoms])
    node["place"][own:] = torch.tensor([_place(receptor, i) for i in atoms])
    types = [*docking_ligand(mol).types, *(receptor.types[i] for i in pocket.tolist())]
    node["score_type"] = torch.tensor([_TYPES.get(name, 0) for name in types])
    pair = {name: torch.zeros(own + others, own + others, dtype=torch.uint8) for name in PAIR_VOCABULARY}
    pair["path"].fill_(_OUTSIDE)
    for name in chemical_graph.PAIR_VOCABULARY:
        pair[name][:own, :own] = graph.pair[name][heavy][:, heavy].to(torch.uint8)
    items = torch.zeros(own + others, dtype=torch.bool)
    parent = torch.zeros(own + others, dtype=torch.int64)
    moving = torch.zeros(own + others, own + others, dtype=torch.bool)
    near, far = (torch.from_numpy(np.searchsorted(torsions.heavy, torsions.axes[:, side])) for side in (0, 1))
    items[far] = True
    parent[far] = near
    moving[far, :own] = torch.from_numpy(torsions.moving[:, torsions.heavy])
    ligand = torch.arange(own + others) < own
    return Features(
        node={**node, "ligand": ligand, "pos_items": ligand, "torsions_items": items, "parent": parent},
        pair={**pair, "moving": moving},
    )


def _number(symbol: str) -> int:
    from rdkit import Chem

    return min(int(Chem.GetPeriodicTable().GetAtomicNumber(symbol)), chemical_graph.MAX_ELEMENT)


def _residue(receptor: Receptor, atom: int) -> int:
    name = receptor.atoms.residues[atom].name
    if receptor.atoms.elements[atom] in METALS:
        return _METAL
    return _WATER if name in WATERS else _RESIDUES.get(_ALIASES.get(name, name), _OTHER)


def _place(receptor: Receptor, atom: int) -> int:
    if _residue(receptor, atom) > len(_RESIDUES):
        return 0
    return _PLACES.get(receptor.atoms.names[atom], _SIDE_CHAIN)
