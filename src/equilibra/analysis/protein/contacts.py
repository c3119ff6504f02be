"""Contact maps, and the contacts that an ensemble opens (weak) or makes (transient) against the native structure.

Two residues are in contact if their C-alpha atoms are nearer than 8 Å. *Weak* contacts are native and formed in fewer than 90 % of frames;
*transient* ones are not native and formed in more than 10 %. Two ensembles are compared by the Jaccard index of their sets.

References:
    | AlphaFold Meets Flow Matching for Generating Protein Ensembles (Jing et al., 2024), https://arxiv.org/abs/2402.04845
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import BoolArray, FloatArray, check_samples, frame_shares
from equilibra.errors import InputError, ShapeError

CUTOFF = 8.0
"""The largest C-alpha distance of a contact in Å."""


@dataclass(frozen=True, kw_only=True)
class ContactAgreement:
    """Jaccard indices of the sets of two ensembles; 1 where both sets are empty."""

    weak: float
    """Of native contacts that open."""
    transient: float
    """Of contacts that form although they are not native."""


def contact_map(positions: ArrayLike, *, cutoff: float = CUTOFF, weights: ArrayLike | None = None) -> FloatArray:
    """Returns the probability of each contact.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å.
        cutoff: The largest distance of a contact in Å.
        weights: Weights of the frames, with shape (frames); equal if not given.

    Returns:
        Probabilities, with shape (residues, residues), symmetric, 1 on the diagonal.

    Raises:
        InputError: If there is no frame, a coordinate is not finite, or the cut-off is not positive.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    if not cutoff > 0:
        raise InputError(f"contact map: got a cut-off of {cutoff} Å, expected a positive length")
    length = x.shape[1]
    # whole numbers for equal weights: thresholds such as 90 % are met exactly
    masses = np.ones(len(x)) if weights is None else frame_shares(weights, len(x))
    counts = np.zeros((length, length))
    step = max(1, 2_000_000 // length**2)
    for start in range(0, len(x), step):
        part = x[start : start + step]
        squares = ((part[:, :, None] - part[:, None, :]) ** 2).sum(axis=-1)
        counts += np.tensordot(masses[start : start + step], squares < cutoff**2, axes=1)
    return np.asarray(counts / masses.sum())


def weak_contacts(probabilities: FloatArray, native: BoolArray) -> BoolArray:
    """Returns which pairs (residues, residues) are native contacts formed in fewer than 90 % of frames."""
    return np.asarray(native & (probabilities < 0.9))


def transient_contacts(probabilities: FloatArray, native: BoolArray) -> BoolArray:
    """Returns which pairs (residues, residues) are no native contacts and formed in more than 10 % of frames."""
    return np.asarray(~native & (probabilities > 0.1))


def jaccard(a: BoolArray, b: BoolArray) -> float:
    """Returns the number of pairs in both sets over that in either; 1 if both are empty."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0


def contact_agreement(a: ArrayLike, b: ArrayLike, native: ArrayLike, *, cutoff: float = CUTOFF) -> ContactAgreement:
    """Compares the weak and the transient contacts of two ensembles.

    Arguments:
        a: C-alpha positions of the first, with shape (frames, residues, 3), in Å.
        b: The same of the second.
        native: The native structure, with shape (residues, 3).
        cutoff: The largest distance of a contact in Å.

    Raises:
        ShapeError: If the residues differ.
        InputError: If an ensemble is empty or not finite.
    """
    structure = check_samples("native", native, ndim=2, last=3)
    for name, x in (("first ensemble", a), ("second ensemble", b)):
        if np.shape(x)[1:] != structure.shape:
            raise ShapeError(name, np.shape(x), f"(frames, {len(structure)}, 3)")
    formed = contact_map(structure[None], cutoff=cutoff) > 0
    first, second = contact_map(a, cutoff=cutoff), contact_map(b, cutoff=cutoff)
    return ContactAgreement(
        weak=jaccard(weak_contacts(first, formed), weak_contacts(second, formed)),
        transient=jaccard(transient_contacts(first, formed), transient_contacts(second, formed)),
    )
