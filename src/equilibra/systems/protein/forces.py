r"""Forces on atoms as scores of frames: a residue's atoms are one rigid body about its C-alpha.

With the lever arms :math:`r_a = X_a - X_{CA}` of the atoms of a residue and the forces :math:`f_a = -\partial E / \partial X_a`,

.. math:: F = \sum_a f_a, \qquad M = \sum_a r_a \times f_a, \qquad s_{trans} = F / kT, \qquad s_{rot} = M / kT

are the force, the torque, and the scores of the frame at zero noise. The rotation is moved from the left, :math:`R \to \mathrm{Exp}(v) R`, and its
density is one with respect to the Haar measure: there is no Jacobian. The published mapping, eqs. (A27)-(A29) of Zheng et al. (2023),
https://arxiv.org/abs/2306.05445, says the same in quaternions.
"""

from collections.abc import Mapping

import torch

from equilibra.errors import ShapeError
from equilibra.nn.frames import ROT, TRANS
from equilibra.types import Float, Int, Tensor


def frame_forces(
    positions: Float[Tensor, "... atoms 3"],
    forces: Float[Tensor, "... atoms 3"],
    residue: Int[Tensor, " atoms"],
    centres: Float[Tensor, "... residues 3"],
) -> tuple[Float[Tensor, "... residues 3"], Float[Tensor, "... residues 3"]]:
    """Sums the forces on atoms to the force and the torque on each residue.

    Arguments:
        positions: Positions of all atoms, with shape (..., atoms, 3), in Å.
        forces: Forces on them, with the same shape, in eV/Å.
        residue: The residue of each atom, with shape (atoms,).
        centres: Positions of the C-alpha atoms, about which residues turn, with shape (..., residues, 3), in Å.

    Returns:
        Forces in eV/Å and torques in eV (per radian), in the global frame, each with shape (..., residues, 3).

    Raises:
        ShapeError: If the shapes do not fit each other.
    """
    if positions.ndim < 2 or positions.shape[-1] != 3 or forces.shape != positions.shape:
        raise ShapeError(
            "forces", tuple(forces.shape), f"those of the positions, {tuple(positions.shape)}, which end in (atoms, 3)"
        )
    if residue.shape != positions.shape[-2:-1]:
        raise ShapeError("residue", tuple(residue.shape), f"({positions.shape[-2]},): one for each atom")
    if centres.ndim != positions.ndim or centres.shape[:-2] != positions.shape[:-2] or centres.shape[-1] != 3:
        raise ShapeError("centres", tuple(centres.shape), (*positions.shape[:-2], "residues", 3))
    arms = positions - centres[..., residue, :]
    turning = torch.linalg.cross(arms, forces)
    empty = torch.zeros_like(centres)
    return empty.index_add(-2, residue, forces), empty.index_add(-2, residue, turning)


def frame_scores(
    positions: Float[Tensor, "... atoms 3"],
    forces: Float[Tensor, "... atoms 3"],
    residue: Int[Tensor, " atoms"],
    centres: Float[Tensor, "... residues 3"],
    kt: float,
) -> Mapping[str, Float[Tensor, "... residues 3"]]:
    """Returns the scores of the fields `trans` (1/Å) and `rot` (1/rad, global frame) at zero noise; see the module and `frame_forces`.

    Arguments:
        positions: Positions of all atoms, with shape (..., atoms, 3), in Å.
        forces: Forces on them, in eV/Å.
        residue: The residue of each atom, with shape (atoms,).
        centres: Positions of the C-alpha atoms, with shape (..., residues, 3), in Å.
        kt: Thermal energy in eV.
    """
    force, torque = frame_forces(positions, forces, residue, centres)
    return {TRANS: force / kt, ROT: torque / kt}
