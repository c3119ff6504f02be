"""Jensen-Shannon distances of the backbone torsions of each residue: φ and ψ alone (100 bins) and together (50 × 50 cells).

All are √JSD in nats on the whole circle.

References:
    | Generative Modeling of Molecular Dynamics Trajectories (Jing et al., 2024), https://arxiv.org/abs/2409.17808
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.protein.backbone import Chain, backbone_torsions, ramachandran_columns
from equilibra.analysis.samples import FloatArray
from equilibra.analysis.torsions import pair_jsd, torsion_jsd


@dataclass(frozen=True, kw_only=True)
class BackboneTorsionJsd:
    """Distances of the residues that have both φ and ψ."""

    residues: tuple[str, ...]
    """Names such as `ALA2`."""
    phi: FloatArray
    """Of φ, with shape (residues)."""
    psi: FloatArray
    """Of ψ, with shape (residues)."""
    joint: FloatArray
    """Of (φ, ψ), with shape (residues)."""


def backbone_torsion_jsd(samples: ArrayLike, reference: ArrayLike, chain: Chain | None = None) -> BackboneTorsionJsd:
    """Compares the backbone torsions of two ensembles residue by residue.

    Arguments:
        samples: N, CA and C of each residue, with shape (n, residues, 3, 3), in Å.
        reference: The same, with shape (m, residues, 3, 3).
        chain: The chain; one unbroken piece if not given.

    Raises:
        ShapeError: If the residues differ.
        InputError: If an ensemble is empty or not finite.
    """
    got, target = backbone_torsions(samples, chain), backbone_torsions(reference, chain)
    pairs = ramachandran_columns(got)
    marginals = torsion_jsd(got.angles, target.angles)
    return BackboneTorsionJsd(
        residues=tuple(name for name, _, _ in pairs),
        phi=marginals[[i for _, i, _ in pairs]],
        psi=marginals[[j for _, _, j in pairs]],
        joint=np.asarray([pair_jsd(got.angles[:, [i, j]], target.angles[:, [i, j]]) for _, i, j in pairs]),
    )
