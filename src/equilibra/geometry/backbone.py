r"""Protein backbones as rigid frames: one rotation and one position for each residue, and its five atoms in ideal geometry.

The local frame of a residue has the C-alpha at its origin, the x axis towards N, and C in the half-plane of positive y; the z axis is
:math:`x \times y`. A frame (t, R) takes local to global coordinates, :math:`x = R x' + t`: the columns of R are the local axes.

Sources of the ideal geometry: N and C are those of the published protein networks (N-CA 1.456 Å, CA-C 1.524 Å, angle 110.5°); C-beta is
that of an L residue with CA-CB 1.530 Å and the angles 110.5° (N-CA-CB) and 110.1° (C-CA-CB), and the carbonyl has C=O 1.231 Å and the angle
120.1° (CA-C-O), all after Engh and Huber (1991), https://doi.org/10.1107/S0108767391001071.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch.nn.functional import normalize

from equilibra.errors import ShapeError
from equilibra.geometry.shapes import require_trailing
from equilibra.types import Bool, Float, Tensor

ATOMS = ("N", "CA", "C", "O", "CB")
"""The atoms of a residue, in the order of every array and file."""

IDEAL: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "N": (1.45597958, 0.0, 0.0),
        "CA": (0.0, 0.0, 0.0),
        "C": (-0.533655602, 1.42752619, 0.0),
        "CB": (-0.535817293, -0.76164456, 1.213959387),
    }
)
"""Atoms that the frame alone places, in its coordinates, in Å."""

CARBONYL = 1.231
"""Length of the bond C=O, in Å."""

CARBONYL_ANGLE = math.radians(120.1)
"""Angle CA-C-O where no next residue fixes it, in rad."""

PSI_END = math.radians(135.0)
"""Torsion N-CA-C-N of an extended chain, in rad: it places O where no next residue does."""


def frames_from_backbone(
    n: Float[Tensor, "... 3"], ca: Float[Tensor, "... 3"], c: Float[Tensor, "... 3"]
) -> tuple[Float[Tensor, "... 3"], Float[Tensor, "... 3 3"]]:
    r"""Finds the frames of residues from three atoms.

    .. math:: x = \frac{r_N}{|r_N|}, \qquad y = \frac{r_C - (r_C \cdot x)\, x}{|r_C - (r_C \cdot x)\, x|}, \qquad z = x \times y

    with the positions :math:`r` relative to the C-alpha. Bond lengths and the angle at the C-alpha are lost; nothing else is.

    Arguments:
        n: Positions of N, with shape (..., 3), in Å.
        ca: Positions of the C-alpha, with shape (..., 3), in Å.
        c: Positions of C, with shape (..., 3), in Å.

    Returns:
        The translations (..., 3), which are the C-alpha positions, and the rotations (..., 3, 3). Three atoms on a line have no frame: their
        rotation is not orthogonal.

    Raises:
        ShapeError: If the three shapes differ or do not end in 3.
    """
    require_trailing("ca", ca, (3,))
    for name, atom in (("n", n), ("c", c)):
        if atom.shape != ca.shape:
            raise ShapeError(name, tuple(atom.shape), f"{tuple(ca.shape)}, as ca has")
    x = normalize(n - ca, dim=-1)
    towards_c = c - ca
    y = normalize(towards_c - (towards_c * x).sum(-1, keepdim=True) * x, dim=-1)
    return ca, torch.stack((x, y, torch.linalg.cross(x, y)), dim=-1)


def backbone_from_frames(
    trans: Float[Tensor, "... length 3"],
    rot: Float[Tensor, "... length 3 3"],
    breaks: Bool[Tensor, "... bonds"] | None = None,
    *,
    psi_end: float = PSI_END,
) -> Float[Tensor, "... length 5 3"]:
    r"""Places the atoms N, CA, C, O and CB of every residue.

    N, CA, C and CB move with the frame. The peptide bond to the next residue is planar, and its O lies opposite to the bisector of CA and
    N(i+1) as seen from C:

    .. math:: r_O = r_C - d\, \frac{u + v}{|u + v|}, \qquad u = \frac{r_{CA} - r_C}{|r_{CA} - r_C|}, \quad v = \frac{r_{N(i+1)} - r_C}{|r_{N(i+1)} - r_C|}

    with :math:`d` = 1.231 Å. The last residue of a chain has no next one; its O has the torsion N-CA-C-O of `psi_end` and half a turn.

    Arguments:
        trans: Positions of the C-alpha atoms, with shape (..., length, 3), in Å.
        rot: Rotations from local to global coordinates, with shape (..., length, 3, 3).
        breaks: True where residue i is not bonded to residue i + 1, with shape (..., length - 1), broadcast over the leading axes; None for one
            chain. Padded residues count as another chain.
        psi_end: Torsion N-CA-C-N that an end of a chain is given, in rad.

    Returns:
        Positions in the order of `ATOMS`, with shape (..., length, 5, 3), in Å. Every residue has a CB here, glycine too.

    Raises:
        ShapeError: If the shapes do not fit each other.
    """
    require_trailing("trans", trans, (3,))
    if trans.ndim < 2 or rot.shape != (*trans.shape, 3):
        raise ShapeError("rot", tuple(rot.shape), f"(..., length, 3, 3) for trans of shape {tuple(trans.shape)}")
    length = trans.shape[-2]
    if breaks is not None and breaks.shape[-1:] != (length - 1,):
        raise ShapeError("breaks", tuple(breaks.shape), f"(..., {length - 1}): one for each pair of neighbours")
    local = torch.tensor([*IDEAL.values(), _end_carbonyl(psi_end)], dtype=trans.dtype, device=trans.device)
    placed = (rot[..., None, :, :] * local[:, None, :]).sum(-1) + trans[..., None, :]
    n, ca, c, cb, o_end = placed.unbind(-2)
    # the last residue takes its own N, which is replaced below and keeps the gradient finite
    following = torch.cat((n[..., 1:, :], n[..., -1:, :]), dim=-2)
    o_peptide = c - CARBONYL * normalize(normalize(ca - c, dim=-1) + normalize(following - c, dim=-1), dim=-1)
    if breaks is None:
        ends = torch.arange(length, device=trans.device) == length - 1
    else:
        ends = torch.cat((breaks, breaks.new_ones((*breaks.shape[:-1], 1))), dim=-1)
    o = torch.where(ends[..., None], o_end, o_peptide)
    return torch.stack((n, ca, c, o, cb), dim=-2)


def _end_carbonyl(psi: float) -> tuple[float, float, float]:
    """Returns O in local coordinates from the bond C=O, the angle CA-C-O and the torsion N-CA-C-O, half a turn from psi."""
    cx, cy, _ = IDEAL["C"]
    length = math.hypot(cx, cy)
    ux, uy = cx / length, cy / length
    # N lies on the side (uy, -ux) of the bond CA-C, in the plane of the frame
    along = -CARBONYL * math.cos(CARBONYL_ANGLE)
    across = CARBONYL * math.sin(CARBONYL_ANGLE)
    side, up = across * math.cos(psi + math.pi), across * math.sin(psi + math.pi)
    return cx + along * ux + side * uy, cy + along * uy - side * ux, -up
