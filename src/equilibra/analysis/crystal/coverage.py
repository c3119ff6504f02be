r"""COV-R and COV-P of CDVAE (Xie et al., 2022): how much of a reference is near a sample, and how many samples are near the reference.

.. math::
    \text{COV-R} = \frac1{N_r} \sum_r [\min_s d_{struct} \le \delta_1 \wedge \min_s d_{comp} \le \delta_2], \qquad
    \text{COV-P} = \frac1{N_{gen}} \sum_s [\min_r d_{struct} \le \delta_1 \wedge \min_r d_{comp} \le \delta_2]

as the published code has it: the two minima are taken by themselves, and precision divides by all samples, those without a fingerprint included. Structures are
described by the mean over sites of matminer's CrystalNN fingerprint (preset `ops`), compositions by Magpie's statistics, standardised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.crystal.crystals import Crystal
from equilibra.analysis.crystal.matching import pymatgen_structure
from equilibra.errors import InputError, MissingDependencyError

STRUCTURE_CUTOFF, COMPOSITION_CUTOFF = 0.2, 4.0
"""Published cut-offs for carbon."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of a reference and of samples that are near each other.

    Attributes:
        recall: COV-R.
        precision: COV-P.
        structure_recall: Mean distance of a reference structure to the nearest sample, in structure (AMSD-R).
        structure_precision: Mean distance of a sample to the nearest reference structure (AMSD-P).
    """

    recall: float
    precision: float
    structure_recall: float
    structure_precision: float


def coverage(
    samples: ArrayLike,
    reference: ArrayLike,
    sample_compositions: ArrayLike | None = None,
    reference_compositions: ArrayLike | None = None,
    *,
    drawn: int | None = None,
    structure_cutoff: float = STRUCTURE_CUTOFF,
    composition_cutoff: float = COMPOSITION_CUTOFF,
) -> Coverage:
    """Computes the coverage from fingerprints.

    Arguments:
        samples: Fingerprints of structures (N_s, D) of those samples that have one.
        reference: The same of the reference (N_r, D).
        sample_compositions: Fingerprints of compositions (N_s, C), standardised; None where there is one composition.
        reference_compositions: The same of the reference (N_r, C).
        drawn: Number of all samples, which precision divides by; those with a fingerprint by default.
        structure_cutoff: Largest distance of structures.
        composition_cutoff: Largest distance of compositions.

    Raises:
        InputError: If a set is empty, a fingerprint is not finite, or shapes do not fit each other.
    """
    structure = _distances(samples, reference, "fingerprints of structures")
    near_reference, near_samples = structure.min(0), structure.min(1)
    found, precise = near_reference <= structure_cutoff, near_samples <= structure_cutoff
    if (sample_compositions is None) != (reference_compositions is None):
        raise InputError("coverage: got fingerprints of compositions of one side only; give both or none")
    if sample_compositions is not None and reference_compositions is not None:
        kinds = _distances(sample_compositions, reference_compositions, "fingerprints of compositions")
        if kinds.shape != structure.shape:
            raise InputError(f"coverage: got {kinds.shape} compositions for {structure.shape} structures, expected as many")
        found, precise = found & (kinds.min(0) <= composition_cutoff), precise & (kinds.min(1) <= composition_cutoff)
    return Coverage(
        recall=float(found.mean()),
        precision=float(precise.sum()) / (len(near_samples) if drawn is None else drawn),
        structure_recall=float(near_reference.mean()),
        structure_precision=float(near_samples.mean()),
    )


def structure_fingerprints(crystals: Sequence[Crystal]) -> np.ndarray:
    """Returns the mean CrystalNN fingerprint (F, 61) of each crystal; rows are NaN where CrystalNN finds no neighbours.

    Raises:
        MissingDependencyError: If matminer is not installed.
    """
    try:
        from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
    except ImportError as error:
        raise MissingDependencyError(
            "COV-R and COV-P need matminer, which is not installed; install it with `pip install matminer`"
        ) from error
    site = CrystalNNFingerprint.from_preset("ops")
    width = len(site.feature_labels())
    rows = np.full((len(crystals), width), np.nan)
    for index, crystal in enumerate(crystals):
        structure = pymatgen_structure(crystal)
        try:
            rows[index] = np.mean([site.featurize(structure, place) for place in range(len(structure))], axis=0)
        except (ValueError, RuntimeError):
            continue  # no neighbours: counted as not covered
    return rows


def _distances(first: ArrayLike, second: ArrayLike, what: str) -> np.ndarray:
    from scipy.spatial.distance import cdist

    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or not len(x) or not len(y) or x.shape[1] != y.shape[1]:
        raise InputError(
            f"coverage: got {what} of the shapes {x.shape} and {y.shape}, expected (n, d) and (m, d) with n, m > 0"
        )
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise InputError(f"coverage: {what} are not finite; leave those samples out, and say how many were drawn")
    return np.asarray(cdist(x, y))
