"""Is it a protein? Bonds and angles of the backbone, twisted and cis peptide bonds, clashes, breaks and D-residues.

Expected bonds and angles and their spreads are those of crystal structures (Engh and Huber, International Tables F, 2001). Flexible
bonds in molecular dynamics at 300 K have a root-mean-square z of about 1.7, ideal rigid residues one below 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.geometry_statistics import bond_angles, bond_lengths
from equilibra.analysis.protein.backbone import Chain, backbone_torsions, check_backbone
from equilibra.analysis.ramachandran import ramachandran_histogram
from equilibra.analysis.samples import BoolArray, FloatArray, check_samples, wrap_angles
from equilibra.errors import InputError, ShapeError
from equilibra.geometry.internal_coordinates import signed_volumes

EXPECTED: Mapping[str, Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "N-CA": {"": (1.459, 0.020), "GLY": (1.456, 0.015), "PRO": (1.468, 0.017)},
        "CA-C": {"": (1.525, 0.026), "GLY": (1.514, 0.016), "PRO": (1.524, 0.020)},
        "C-N": {"": (1.336, 0.023), "PRO": (1.338, 0.019)},
        "N-CA-C": {"": (111.0, 2.7), "GLY": (113.1, 2.5), "PRO": (112.1, 2.6)},
        "CA-C-N": {"": (117.2, 2.2), "PRO": (117.1, 2.8)},
        "C-N-CA": {"": (121.7, 2.5), "GLY": (122.3, 2.1), "PRO": (119.3, 1.5)},
    }
)
"""Mean and standard deviation of bonds in Å and angles in degrees, with those of glycine and proline where they differ. Across a peptide bond
the residue that holds N decides."""

CLASH = 3.0
"""C-alpha atoms nearer than so many Å clash."""
LONGEST_STEP = 4.5
"""C-alpha atoms of neighbours farther apart than so many Å are a break."""
LONGEST_BOND = 2.0
"""A peptide bond longer than so many Å is a break."""


@dataclass(frozen=True, kw_only=True)
class BackboneGeometry:
    """Bonds, angles and peptide bonds of an ensemble, and which frames clash or are broken."""

    z_scores: Mapping[str, FloatArray]
    """The z-scores of each kind in `EXPECTED`, with shape (frames, coordinates)."""
    omega: FloatArray
    """The absolute torsions of the peptide bonds in degrees, with shape (frames, bonds)."""
    clashing: BoolArray
    """Whether two C-alpha atoms are nearer than 3 Å, with shape (frames)."""
    broken: BoolArray
    """Whether neighbouring C-alpha atoms are more than 4.5 Å apart, or a peptide bond is above 2 Å, with shape (frames)."""

    @property
    def all_z(self) -> FloatArray:
        """The z-scores of all kinds, with shape (frames, coordinates)."""
        return np.concatenate(list(self.z_scores.values()), axis=1)

    @property
    def rms_z(self) -> float:
        """The root-mean-square z-score of all bonds and angles; compare it with the reference's."""
        return float(np.sqrt((self.all_z**2).mean()))

    @property
    def outliers(self) -> float:
        """The share of bonds and angles with |z| > 4."""
        return float((np.abs(self.all_z) > 4).mean())

    @property
    def twisted(self) -> BoolArray:
        """Whether a peptide bond has 30° < |ω| < 150°, with shape (frames, bonds)."""
        return np.asarray((self.omega > 30) & (self.omega < 150))

    @property
    def cis(self) -> BoolArray:
        """Whether a peptide bond has |ω| ≤ 30°, with shape (frames, bonds)."""
        return np.asarray(self.omega <= 30)


def backbone_geometry(positions: ArrayLike, chain: Chain | None = None) -> BackboneGeometry:
    """Measures the geometry of backbones.

    Arguments:
        positions: N, CA and C of each residue, with shape (frames, residues, 3, 3), in Å.
        chain: The chain; one unbroken piece of alanine if not given.

    Raises:
        ShapeError: If the shapes do not fit.
        InputError: If there are fewer than two residues, there is no frame, or a coordinate is not finite.
    """
    x, chain = check_backbone(positions, chain)
    if len(chain.bonded) == 0:
        raise InputError(f"backbone geometry: none of the {len(chain)} residues is bonded to the next, expected a chain")
    omega = backbone_torsions(x, chain).select(("omega",)).angles
    return BackboneGeometry(
        z_scores=_z_scores(x, chain),
        omega=np.abs(np.rad2deg(omega)),
        clashing=clashing_frames(x[:, :, 1]),
        broken=broken_frames(x, chain),
    )


def clashing_frames(alpha: ArrayLike, *, cutoff: float = CLASH) -> BoolArray:
    """Returns whether two C-alpha atoms of a frame are nearer than `cutoff` Å, with shape (frames), of positions (frames, residues, 3)."""
    x = check_samples("C-alpha positions", alpha, ndim=3, last=3)
    out = np.zeros(len(x), dtype=bool)
    if x.shape[1] < 2:
        return out
    i, j = np.triu_indices(x.shape[1], 1)
    step = max(1, 2_000_000 // len(i))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        out[start : start + step] = (((part[:, i] - part[:, j]) ** 2).sum(axis=-1) < cutoff**2).any(axis=1)
    return out


def broken_frames(positions: ArrayLike, chain: Chain | None = None) -> BoolArray:
    """Returns whether a chain of a frame is broken, with shape (frames).

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), or N, CA and C of each residue, with shape (frames, residues, 3, 3), in Å.
        chain: The chain; one unbroken piece if not given.

    Raises:
        ShapeError: If the shapes do not fit.
        InputError: If there is no frame, or a coordinate is not finite.
    """
    x = check_samples("positions", positions, last=3)
    if x.ndim not in (3, 4) or (chain is not None and x.shape[1] != len(chain)):
        raise ShapeError(
            "positions", x.shape, "(frames, residues, 3) or (frames, residues, 3, 3), as many residues as the chain"
        )
    i = (Chain.single(x.shape[1]) if chain is None else chain).bonded
    alpha = x if x.ndim == 3 else x[:, :, 1]
    broken = (np.linalg.norm(alpha[:, i + 1] - alpha[:, i], axis=-1) > LONGEST_STEP).any(axis=1)
    if x.ndim == 4:
        broken |= (np.linalg.norm(x[:, i + 1, 0] - x[:, i, 2], axis=-1) > LONGEST_BOND).any(axis=1)
    return np.asarray(broken)


def d_residues(positions: ArrayLike, beta: ArrayLike, chain: Chain | None = None) -> FloatArray:
    """Returns the share of residues with the wrong hand, with shape (frames); glycine does not count.

    Arguments:
        positions: N, CA and C of each residue, with shape (frames, residues, 3, 3), in Å.
        beta: The C-beta atoms, with shape (frames, residues, 3); those of glycine are not read and may be anything.
        chain: The chain; one unbroken piece of alanine if not given.

    Raises:
        ShapeError: If the shapes do not fit.
        InputError: If all residues are glycine.
    """
    x, chain = check_backbone(positions, chain)
    cb = np.asarray(beta, dtype=np.float64)
    if cb.shape != (*x.shape[:2], 3):
        raise ShapeError("C-beta positions", cb.shape, f"({len(x)}, {x.shape[1]}, 3)")
    chiral = np.flatnonzero(np.asarray(chain.residues) != "GLY")
    if len(chiral) == 0:
        raise InputError("D-residues: all residues are glycine, which has no hand")
    atoms = np.concatenate([x, cb[:, :, None]], axis=2)[:, chiral].reshape(len(x), -1, 3)
    centres = 4 * np.arange(len(chiral))[:, None] + np.asarray([1, 0, 2, 3])
    # N, C, CB turn counter-clockwise about the C-alpha of an L-residue, seen from CB's far side
    return np.asarray((signed_volumes(atoms, centres) < 0).mean(axis=1))


def ramachandran_outliers(phi_psi: ArrayLike, reference: ArrayLike, *, bins: int = 36, inside: float = 0.998) -> BoolArray:
    """Returns which samples lie in cells that the reference hardly visits, with shape (samples).

    The reference's histogram is blurred over neighbouring cells; the fullest cells that together hold `inside` of it are allowed.

    Arguments:
        phi_psi: (φ, ψ) in radians, with shape (samples, 2), residues of one class pooled.
        reference: The same of the reference; at least a few thousand.
        bins: The number of cells along each angle.
        inside: The share of the blurred reference within the allowed cells.

    Raises:
        InputError: If a sample is empty or not finite, or `inside` is not between 0 and 1.
    """
    if not 0 < inside < 1:
        raise InputError(f"Ramachandran outliers: got inside = {inside}, expected a share between 0 and 1")
    target = ramachandran_histogram(reference, bins=bins)
    for axis in (0, 1):
        target = 0.25 * np.roll(target, 1, axis) + 0.5 * target + 0.25 * np.roll(target, -1, axis)
    order = np.argsort(target.ravel())[::-1]
    kept = np.searchsorted(np.cumsum(target.ravel()[order]), inside) + 1
    allowed = np.zeros(bins * bins, dtype=bool)
    allowed[order[:kept]] = True
    angles = wrap_angles(check_samples("phi, psi", phi_psi, ndim=2, last=2))
    cells = np.minimum(((angles + np.pi) * (bins / (2 * np.pi))).astype(np.int64), bins - 1)
    return ~allowed[cells[:, 0] * bins + cells[:, 1]]


def _z_scores(x: FloatArray, chain: Chain) -> dict[str, FloatArray]:
    atoms, each, bonded = x.reshape(len(x), -1, 3), np.arange(len(chain)), chain.bonded
    # the atoms of each coordinate by offset from the N of the residue that it is counted for, and the residue whose name decides
    rows = {
        "N-CA": (each, (0, 1), 0),
        "CA-C": (each, (1, 2), 0),
        "C-N": (bonded, (2, 3), 1),
        "N-CA-C": (each, (0, 1, 2), 0),
        "CA-C-N": (bonded, (1, 2, 3), 1),
        "C-N-CA": (bonded, (2, 3, 4), 1),
    }
    scores = {}
    for kind, (residues, offsets, owner) in rows.items():
        index = 3 * residues[:, None] + np.asarray(offsets)
        values = bond_lengths(atoms, index) if len(offsets) == 2 else np.rad2deg(bond_angles(atoms, index))
        table = EXPECTED[kind]
        expected = np.asarray([table.get(chain.residues[r + owner], table[""]) for r in residues])
        scores[kind] = (values - expected[:, 0]) / expected[:, 1]
    return scores
