r"""COV and MAT: does every reference conformation have a sample nearby, and every sample a reference?

.. math:: \mathrm{COV}_\delta = \frac{1}{|R|} \big|\{ r \in R : \min_{g \in G} \mathrm{RMSD}(r, g) \le \delta \}\big|, \qquad
    \mathrm{MAT} = \frac{1}{|R|} \sum_{r \in R} \min_{g \in G} \mathrm{RMSD}(r, g)

are the recall forms; the precision forms exchange the reference R and the samples G. Customary δ: 0.5 Å for QM9-sized molecules,
0.75 Å for drug-sized ones; heavy atoms; minimum over the molecule's symmetries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import check_samples
from equilibra.analysis.superposition import rmsd_matrix
from equilibra.errors import InputError, ShapeError


@dataclass(frozen=True, kw_only=True)
class RmsdCoverage:
    """COV (shares between 0 and 1) and MAT (mean minimum RMSD in Å), recall and precision forms."""

    coverage_recall: float
    """The share of reference conformations within δ of a sample."""
    coverage_precision: float
    """The share of samples within δ of a reference conformation."""
    matching_recall: float
    """The mean over reference conformations of the smallest RMSD to a sample, in Å."""
    matching_precision: float
    """The mean over samples of the smallest RMSD to a reference conformation, in Å."""
    delta: float
    """The threshold δ in Å."""


def rmsd_coverage(
    reference: ArrayLike, samples: ArrayLike, *, delta: float = 0.5, automorphisms: ArrayLike | None = None
) -> RmsdCoverage:
    """Returns COV and MAT of samples against reference conformations, after superposition by proper rotations.

    Arguments:
        reference: The (heavy-atom) coordinates of the reference, with shape (n, atoms, 3), in Å.
        samples: The coordinates of the samples, with shape (m, atoms, 3), in Å.
        delta: The threshold δ in Å.
        automorphisms: Permutations of the atoms that leave the molecule unchanged, with shape (symmetries, atoms); the RMSD is the
            smallest over them. Only the identity if not given.

    Raises:
        InputError: If a set is empty or not finite, δ is not positive, or a row of `automorphisms` is not a permutation.
    """
    target = check_samples("reference", reference, ndim=3, last=3)
    got = check_samples("samples", samples, ndim=3, last=3)
    if not delta > 0:
        raise InputError(f"RMSD coverage: got delta = {delta} Å, expected a positive length")
    n_atoms = target.shape[1]
    rows = np.arange(n_atoms)[None] if automorphisms is None else np.asarray(automorphisms, dtype=np.int64)
    if rows.ndim != 2 or rows.shape[1] != n_atoms:
        raise ShapeError("automorphisms", rows.shape, f"(symmetries, {n_atoms})")
    if (np.sort(rows, axis=1) != np.arange(n_atoms)).any():
        raise InputError(f"automorphisms: every row must be a permutation of 0 to {n_atoms - 1}")
    deviation = np.min([rmsd_matrix(target, got[:, row]) for row in rows], axis=0)
    to_sample, to_reference = deviation.min(axis=1), deviation.min(axis=0)
    return RmsdCoverage(
        coverage_recall=float((to_sample <= delta).mean()),
        coverage_precision=float((to_reference <= delta).mean()),
        matching_recall=float(to_sample.mean()),
        matching_precision=float(to_reference.mean()),
        delta=delta,
    )
