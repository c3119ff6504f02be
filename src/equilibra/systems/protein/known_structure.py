"""Known structures as the features of pairs: how far apart residues are in them, and how they are turned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.geometry.backbone import frames_from_backbone
from equilibra.nn.frames import ORIENTATION, relative_orientations
from equilibra.systems.protein import memory
from equilibra.systems.protein.providers import MissingFeaturesError, file_stems
from equilibra.systems.protein.shared_residues import placed
from equilibra.systems.protein.structures import STRUCTURE_SUFFIXES, is_structure_path, read_structure
from equilibra.systems.protein.system import ProteinSystem

CENTRES = np.geomspace(3.5, 70.0, 24)
"""Distances of C-alpha atoms in Å at which the features of distance are largest; each is as wide as its neighbours are apart."""

WIDTH = len(CENTRES) + ORIENTATION
"""Numbers per pair: those of the distance, the direction of each residue in the frame of the other, and the relative rotation."""

_COPIES = 5  # of the numbers of all pairs, while they are made


class StructureProvider:
    r"""Structures of each protein that are known, a crystal's or a predictor's, for a model to start from: what structure predictors call templates.

    .. math::
        \Big\langle \big(e^{-(r_{ij} - c_k)^2 / 2 w_k^2}\big)_k,\; R_i^\top \hat x_{ij},\; R_j^\top \hat x_{ji},\; R_i^\top R_j \Big\rangle

    with the distances r, directions and frames R of a structure, of every pair of residues: the mean over the structures that have both residues, and
    zeros where none has. Of several states the features of distance are a histogram, which says what the states share and between what they differ. They
    are the same wherever a structure lies and however it is turned.

    Arguments:
        source: A PDB or mmCIF file, or several states of one protein, separated by commas; or a folder that holds, for each protein, `NAME.pdb` and the
            like, or a folder `NAME` of several states, where NAME is the protein's name or the first 16 letters of the SHA-256 of its sequence.

    Raises:
        InputError: If there is no such file or folder, or a file's suffix is not that of a structure.
    """

    name = "structure"

    def __init__(self, source: str | Path) -> None:
        given = [part.strip() for part in str(source).split(",")]
        missing = [part for part in given if not part or not Path(part).exists()]
        if missing:
            raise InputError(
                f"provider 'structure': no such file or folder: '{missing[0]}'; give a structure, as in 'structure:1ake.pdb', several states of one protein, as in "
                "'structure:1ake.pdb,4ake.pdb', or a folder of structures"
            )
        self.folder = Path(given[0]) if len(given) == 1 and Path(given[0]).is_dir() else None
        self.files = [Path(part) for part in given] if self.folder is None else []
        for file in self.files:
            if file.is_dir() or not is_structure_path(file):
                raise InputError(
                    f"provider 'structure': '{file}' is no structure; expected a file that ends in {', '.join(STRUCTURE_SUFFIXES)}"
                )
        self._latest: tuple[str, list[tuple[np.ndarray, np.ndarray]]] | None = None

    def content(self, system: ProteinSystem) -> str:
        """Returns the hash of the structures' backbones on the residues of a system."""
        digest = hashlib.sha256()
        for xyz, observed in self._placed(system):
            digest.update(xyz.tobytes() + observed.tobytes())
        return digest.hexdigest()

    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns the features of pairs (L, L, `WIDTH`), float32.

        Raises:
            MissingFeaturesError: If the folder holds no structure of the protein.
            InputError: If a structure cannot be read, is of another protein, or memory is too short for all pairs.
        """
        memory.require(
            4 * _COPIES * WIDTH * system.length**2,
            f"{system.name}: the features of all pairs of {system.length} residues",
            "take a shorter chain or a machine with more memory",
        )
        states = self._placed(system)
        if len(states) == 1:
            return {"node_extra": None, "pair_extra": pair_geometry(*states[0])}
        total = np.zeros((system.length, system.length, WIDTH), dtype=np.float32)
        counts = np.zeros((system.length, system.length, 1), dtype=np.float32)
        for xyz, observed in states:
            total += pair_geometry(xyz, observed)
            counts += (observed[:, None] & observed)[..., None]
        return {"node_extra": None, "pair_extra": total / np.maximum(counts, 1.0)}

    def _placed(self, system: ProteinSystem) -> list[tuple[np.ndarray, np.ndarray]]:
        # content and features are asked one after the other: the files are read once
        wanted = f"{system.name}/{system.text}"
        if self._latest is None or self._latest[0] != wanted:
            self._latest = (wanted, [placed(system, read_structure(path), f"'{path}'") for path in self._paths(system)])
        return self._latest[1]

    def _paths(self, system: ProteinSystem) -> list[Path]:
        if self.folder is None:
            return self.files
        stems = file_stems(system)
        for path in sorted(self.folder.iterdir()):
            if is_structure_path(path) and Path(path.name.removesuffix(".gz")).stem in stems:
                return [path]
            if path.is_dir() and path.name in stems:
                states = sorted(state for state in path.iterdir() if is_structure_path(state))
                if states:
                    return states
        raise MissingFeaturesError(
            f"'{self.folder}' holds no structure of '{system.name}'; expected {system.name}.pdb or {stems[-1]}.pdb (hash of the sequence), the same in another "
            f"format, or a folder {system.name} of structures"
        )


def pair_geometry(xyz: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Returns the features (L, L, `WIDTH`) of a backbone (L, 3, 3) in Å, zero for pairs with a residue that is not observed (L,)."""
    rows = np.flatnonzero(observed)
    n, ca, c = torch.from_numpy(xyz[rows].astype(np.float64)).unbind(1)
    origins, turns = frames_from_backbone(n, ca, c)
    arms = origins[None] - origins[:, None]
    r = arms.norm(dim=-1, keepdim=True)
    turned = relative_orientations((arms / r.clamp(min=1e-6))[None], turns[None])[0].numpy()
    near = np.exp(-0.5 * ((r.numpy() - CENTRES) / np.gradient(CENTRES)) ** 2)
    made = np.concatenate([near, turned], axis=-1).astype(np.float32)
    if len(rows) == len(observed):
        return made
    whole = np.zeros((len(observed), len(observed), WIDTH), dtype=np.float32)
    whole[np.ix_(rows, rows)] = made
    return whole


__all__ = ["CENTRES", "WIDTH", "StructureProvider", "pair_geometry"]
