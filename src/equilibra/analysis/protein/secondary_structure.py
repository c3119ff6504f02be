"""Secondary structure: helix, strand or coil of each residue, from the backbone's hydrogen bonds (DSSP), and its share in an ensemble.

References:
    | Dictionary of protein secondary structure: pattern recognition of hydrogen-bonded and geometrical features
    | (Kabsch and Sander, 1983), https://doi.org/10.1002/bip.360221211
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.analysis.protein.backbone import Chain, check_backbone
from equilibra.analysis.samples import FloatArray, check_samples, frame_shares
from equilibra.errors import InputError, ShapeError
from equilibra.units import NM

CODES = ("H", "E", "C")
"""Helix, strand, coil."""


def secondary_structure(
    positions: ArrayLike, chain: Chain | None = None, *, oxygens: ArrayLike | None = None
) -> NDArray[np.str_]:
    """Assigns helix, strand or coil to each residue of each frame.

    DSSP places the hydrogens itself. Placed oxygens change a few per cent of the assignments of molecular dynamics, at the ends of helices:
    compare like with like.

    Arguments:
        positions: N, CA and C of each residue, with shape (frames, residues, 3, 3), in Å.
        chain: The chain; one unbroken piece of alanine if not given. DSSP asks which residues are proline: they have no hydrogen.
        oxygens: The carbonyl oxygens, with shape (frames, residues, 3), in Å; placed in the planes of the peptide bonds if not given.

    Returns:
        One of `H`, `E`, `C` each, with shape (frames, residues).

    Raises:
        ShapeError: If the shapes do not fit.
        InputError: If there is no frame, or a coordinate is not finite.
    """
    import mdtraj

    x, chain = check_backbone(positions, chain)
    o = _carbonyl_oxygens(x, chain) if oxygens is None else check_samples("oxygens", oxygens, ndim=3, last=3)
    if o.shape != x[:, :, 0].shape:
        raise ShapeError("oxygens", o.shape, f"({len(x)}, {len(chain)}, 3)")
    atoms = np.concatenate([x, o[:, :, None]], axis=2)
    frames = mdtraj.Trajectory(atoms.reshape(len(x), -1, 3) / NM, _topology(chain))
    return np.asarray(mdtraj.compute_dssp(frames, simplified=True), dtype=np.str_)


def secondary_structure_shares(codes: ArrayLike, *, weights: ArrayLike | None = None) -> FloatArray:
    """Returns the share of frames in which each residue is helix, strand and coil, with shape (residues, 3).

    Arguments:
        codes: One of `H`, `E`, `C` each, with shape (frames, residues).
        weights: Weights of the frames, with shape (frames); equal if not given.

    Raises:
        InputError: If there is no frame.
    """
    array = np.asarray(codes)
    if array.ndim != 2 or len(array) == 0:
        raise InputError(f"secondary structure: got shape {array.shape}, expected (frames, residues) with at least one frame")
    shares = frame_shares(weights, len(array))
    return np.stack([shares @ (array == code) for code in CODES], axis=-1)


def secondary_structure_difference(a: ArrayLike, b: ArrayLike) -> float:
    """Returns the mean over residues of the total variation between the shares (residues, 3) of two ensembles, from 0 to 1.

    Raises:
        ShapeError: If the residues differ.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise ShapeError("secondary structure", second.shape, f"{first.shape}, (residues, 3) of both")
    return float(0.5 * np.abs(first - second).sum(axis=1).mean())


def _carbonyl_oxygens(x: FloatArray, chain: Chain) -> FloatArray:
    import torch

    from equilibra.geometry.backbone import ATOMS, backbone_from_frames, frames_from_backbone

    n, ca, c = torch.tensor(x, dtype=torch.float64).unbind(-2)
    breaks = torch.tensor(chain.segments[1:] != chain.segments[:-1])
    placed = backbone_from_frames(*frames_from_backbone(n, ca, c), breaks)
    return placed[..., ATOMS.index("O"), :].numpy()


def _topology(chain: Chain) -> Any:
    import mdtraj
    from mdtraj.core import element

    topology = mdtraj.Topology()
    pieces = {segment: topology.add_chain() for segment in dict.fromkeys(chain.segments.tolist())}
    for name, segment in zip(chain.residues, chain.segments.tolist(), strict=True):
        residue = topology.add_residue(name, pieces[segment])
        for atom, kind in (("N", element.nitrogen), ("CA", element.carbon), ("C", element.carbon), ("O", element.oxygen)):
            topology.add_atom(atom, kind, residue)
    return topology
