"""Backbones as data: frames of the atoms N, CA and C of one protein, and what of each frame was observed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from equilibra.data.conformations import Conformations
from equilibra.errors import InputError
from equilibra.geometry.backbone import frames_from_backbone
from equilibra.nn.frames import ROT, TRANS
from equilibra.systems.protein.chains import PEPTIDE_BOND_LIMIT
from equilibra.systems.protein.system import MIN_LENGTH, ProteinSystem

BONDS = (1.0, 2.2)
"""Range of the distances N-CA and CA-C in a whole residue, in Å: a length beyond it is no residue's."""

PEPTIDE_BOND_TORN = 5.0
"""Distance from C to the next N at which a bond that the first frame has is torn, in Å."""

_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Backbones:
    """Frames of the backbone of one protein of L residues.

    Attributes:
        system: The protein.
        coordinates: Positions (frames, L, 3, 3) of N, CA and C, float32, in Å; those of residues that were not observed have no meaning.
        observed: Whether a frame has a residue, boolean (frames, L); None where every frame has all.

    Raises:
        InputError: If the arrays do not fit the protein, there is no frame, a frame has too few residues, or a position is not finite.
    """

    system: ProteinSystem
    coordinates: np.ndarray
    observed: np.ndarray | None = None

    def __post_init__(self) -> None:
        name, length, shape = self.system.name, self.system.length, self.coordinates.shape
        if len(shape) != 4 or shape[1:] != (length, 3, 3):
            raise InputError(
                f"{name}: the coordinates have shape {shape}, expected (frames, {length}, 3, 3) for its {length} residues"
            )
        if shape[0] == 0:
            raise InputError(f"{name}: got no frame, expected at least one")
        if self.observed is not None:
            if self.observed.shape != shape[:2]:
                raise InputError(
                    f"{name}: observed has shape {self.observed.shape}, expected {shape[:2]}, one value for each residue of a frame"
                )
            counts = self.observed.sum(axis=1)
            if counts.min() < MIN_LENGTH:
                raise InputError(
                    f"{name}: frame {int(counts.argmin())} has {counts.min()} residues with whole backbones, expected at least {MIN_LENGTH}; leave it out"
                )
        check_finite(self.coordinates, name)

    def __len__(self) -> int:
        return len(self.coordinates)

    def conformations(self, system: ProteinSystem | None = None) -> Conformations:
        """Returns the frames as training data, fields `trans` and `rot`, with the observed C-alpha atoms centred.

        Arguments:
            system: The same protein with the features of a provider; by default the system itself.
        """
        trans, rot = [], []
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            n, ca, c = torch.from_numpy(np.array(self.coordinates[rows], dtype=np.float64)).unbind(2)
            position, rotation = frames_from_backbone(n, ca, c)
            seen = (
                torch.ones(ca.shape[:2], dtype=torch.bool) if self.observed is None else torch.from_numpy(self.observed[rows])
            )
            weight = seen[..., None].to(position.dtype)
            centre = (position * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
            trans.append(((position - centre) * weight).float())
            rot.append(torch.where(seen[..., None, None], rotation, torch.eye(3, dtype=rotation.dtype)).float())
        observed = None if self.observed is None else torch.from_numpy(self.observed)
        return Conformations(system or self.system, {TRANS: torch.cat(trans), ROT: torch.cat(rot)}, observed=observed)


def observed_backbones(system: ProteinSystem, xyz: np.ndarray, observed: np.ndarray | None = None) -> Backbones:
    """Makes backbones of experimental structures (frames, L, 3, 3), of whose residues those with impossible bonds do not count."""
    seen = ~broken_residues(xyz) if observed is None else observed & ~broken_residues(xyz)
    filled = np.where(seen[..., None, None], xyz, np.float32(0.0))
    return Backbones(system, filled, None if seen.all() else seen)


def broken_residues(coordinates: np.ndarray) -> np.ndarray:
    """Tells for coordinates (..., 3, 3), in Å, which residues have a bond N-CA or CA-C of an impossible length, with shape (...)."""
    lengths = np.linalg.norm(np.diff(coordinates, axis=-2), axis=-1)
    return np.asarray(((lengths < BONDS[0]) | (lengths > BONDS[1])).any(axis=-1))


def check_finite(coordinates: np.ndarray, where: object, *, first: int = 0, stride: int = 1) -> None:
    """Raises an `InputError` that names the first frame with values that are not finite."""
    bad = np.flatnonzero(~np.isfinite(coordinates).all(axis=(1, 2, 3)))
    if len(bad):
        raise InputError(
            f"{where}: positions of frame {first + stride * int(bad[0])} are not finite ({len(bad)} of {len(coordinates)} frames are so); remove those "
            "frames"
        )


def check_frames(coordinates: np.ndarray, system: ProteinSystem, path: object, *, first: int = 0, stride: int = 1) -> None:
    """Checks that no frame of a trajectory has a torn chain, as another topology or the edge of a periodic box makes it.

    Arguments:
        coordinates: Positions (frames, L, 3, 3) of N, CA and C, in Å.
        system: The protein.
        path: The file.
        first: Number of the first frame in the file.
        stride: Distance of the frames in the file.

    Raises:
        InputError: If a value is not finite, or if a residue, or a peptide bond that the first frame has, is torn apart.
    """
    check_finite(coordinates, f"'{path}'", first=first, stride=stride)
    remedy = "or a molecule is cut at the edge of the periodic box: make molecules whole first"
    torn = broken_residues(coordinates)
    if torn.any():
        frame, residue = (int(index[0]) for index in np.nonzero(torn))
        raise InputError(
            f"'{path}': frame {first + stride * frame} has impossible bonds in residue {system.label(residue)}: the residues do not match the topology, "
            f"{remedy}"
        )
    gaps = np.linalg.norm(coordinates[:, 1:, 0] - coordinates[:, :-1, 2], axis=-1)
    torn = (gaps > PEPTIDE_BOND_TORN) & (gaps[:1] < PEPTIDE_BOND_LIMIT)
    if torn.any():
        frame, residue = (int(index[0]) for index in np.nonzero(torn))
        raise InputError(
            f"'{path}': in frame {first + stride * frame} the chain is cut after residue {system.label(residue)}, but not in the first frame: the run broke, "
            f"{remedy}"
        )


def merged(backbones: Sequence[Backbones]) -> list[Backbones]:
    """Joins the frames of equal proteins, in the order of the first of each, which gives the name."""
    groups: dict[ProteinSystem, list[Backbones]] = {}
    for entry in backbones:
        groups.setdefault(entry.system, []).append(entry)
    return [members[0] if len(members) == 1 else _joined(members) for members in groups.values()]


def _joined(members: Sequence[Backbones]) -> Backbones:
    observed = None
    if any(member.observed is not None for member in members):
        everything = [
            np.ones(member.coordinates.shape[:2], dtype=bool) if member.observed is None else member.observed
            for member in members
        ]
        observed = np.concatenate(everything)
    return dataclasses.replace(
        members[0], coordinates=np.concatenate([member.coordinates for member in members]), observed=observed
    )
