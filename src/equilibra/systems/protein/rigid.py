"""Residues as rigid bodies: all atoms in the frames of their residues, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import ShapeError
from equilibra.geometry.backbone import frames_from_backbone
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray


@dataclass(frozen=True, eq=False)
class RigidResidues:
    """The atoms of a protein in the frames of its residues.

    Attributes:
        local: Positions in their residue's frame, (atoms, 3) for all conformations or (batch, atoms, 3) for each its own, in Å.
        residue: The residue of each atom (atoms,).
        length: Number of residues.
    """

    local: Tensor
    residue: Tensor
    length: int

    @classmethod
    def of(cls, protein: AllAtomProtein, positions: FloatArray | Tensor) -> RigidResidues:
        """Takes the local coordinates from all-atom positions (atoms, 3) or (batch, atoms, 3) in Å."""
        x = torch.as_tensor(positions).double()
        if x.ndim not in (2, 3) or tuple(x.shape[-2:]) != (protein.atoms, 3):
            raise ShapeError("all-atom positions", tuple(x.shape), f"([batch,] {protein.atoms}, 3)")
        residue = torch.from_numpy(protein.residue)
        trans, rot = frames_of(protein, x)
        local = ((x - trans[..., residue, :])[..., None, :] @ rot[..., residue, :, :])[..., 0, :]
        return cls(local, residue, protein.length)

    def positions(self, trans: Tensor, rot: Tensor) -> Tensor:
        """Returns all atoms (batch, atoms, 3) of frames trans (batch, residues, 3) and rot (batch, residues, 3, 3); differentiable."""
        local = self.local.to(trans)
        if trans.shape[-2:] != (self.length, 3) or rot.shape != (*trans.shape, 3):
            raise ShapeError(
                "frames", (tuple(trans.shape), tuple(rot.shape)), f"(batch, {self.length}, 3) and (batch, {self.length}, 3, 3)"
            )
        if local.ndim == 3 and len(local) != len(trans):
            raise ShapeError("frames", f"a batch of {len(trans)}", f"one for each of the {len(local)} all-atom structures")
        residue = self.residue.to(trans.device)
        return trans[:, residue] + (rot[:, residue] @ local[..., None])[..., 0]


def frames_of(protein: AllAtomProtein, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the frames (..., residues, 3) and (..., residues, 3, 3) of all-atom positions (..., atoms, 3) in Å."""
    n, ca, c = (positions[..., torch.from_numpy(protein.backbone[:, column]), :] for column in range(3))
    return frames_from_backbone(n, ca, c)
