r"""Flexibility: the root-mean-square fluctuation of every atom about the ensemble's mean.

.. math:: \mathrm{RMSF}_i = \sqrt{\langle |x_i - \langle x_i \rangle|^2 \rangle}

after superposition of every frame on one reference structure. Ensembles are compared by Pearson's r of their RMSF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples, frame_shares
from equilibra.analysis.superposition import superpose
from equilibra.errors import InputError, ShapeError


@dataclass(frozen=True, kw_only=True)
class FlexibilityCorrelation:
    """Pearson's r of RMSF over several proteins."""

    pooled: float
    """Over all atoms of all proteins together ("global")."""
    per_protein: FloatArray
    """Of each protein, with shape (proteins); NaN where nothing varies."""

    @property
    def median(self) -> float:
        """The median over the proteins that have one."""
        return float(np.nanmedian(self.per_protein))


def rmsf(
    positions: ArrayLike, reference: ArrayLike, *, fit: ArrayLike | None = None, weights: ArrayLike | None = None
) -> FloatArray:
    """Returns the root-mean-square fluctuation of each atom about the ensemble's mean.

    Arguments:
        positions: The frames, with shape (frames, atoms, 3), in Å.
        reference: The structure they are superposed on, with shape (atoms, 3), in Å; the same for all ensembles that are compared.
        fit: Indices of the atoms that decide the superposition; all if not given.
        weights: Weights of the frames, with shape (frames); equal if not given.

    Returns:
        The fluctuations in Å, with shape (atoms).

    Raises:
        ShapeError: If the reference has other atoms.
        InputError: If there is no frame, or a coordinate is not finite.
    """
    moved = superpose(positions, reference, fit=fit)
    shares = frame_shares(weights, len(moved))
    mean = np.tensordot(shares, moved, axes=1)
    return np.asarray(np.sqrt(shares @ ((moved - mean) ** 2).sum(axis=-1)))


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Returns Pearson's correlation of two series (n) of numbers; NaN if one of them is constant.

    Raises:
        ShapeError: If the lengths differ.
        InputError: If there are fewer than two numbers, or one is not finite.
    """
    first, second = check_samples("first series", a, ndim=1), check_samples("second series", b, ndim=1)
    if len(first) != len(second):
        raise ShapeError("second series", second.shape, f"({len(first)})")
    if len(first) < 2:
        raise InputError("Pearson correlation: got one pair of numbers, expected at least 2")
    x, y = first - first.mean(), second - second.mean()
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def flexibility_correlation(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> FlexibilityCorrelation:
    """Compares the RMSF of several proteins.

    Arguments:
        ours: The RMSF of each protein's ensemble, each with shape (atoms).
        theirs: The RMSF of the references, in the same order.

    Raises:
        InputError: If the numbers of proteins differ or are zero.
        ShapeError: If the atoms of a protein differ.
    """
    if len(ours) != len(theirs) or len(ours) == 0:
        raise InputError(f"flexibility: got {len(ours)} ensembles and {len(theirs)} references, expected one for each")
    each = np.asarray([pearson(a, b) for a, b in zip(ours, theirs, strict=True)])
    pooled = pearson(np.concatenate([np.ravel(a) for a in ours]), np.concatenate([np.ravel(b) for b in theirs]))
    return FlexibilityCorrelation(pooled=pooled, per_protein=each)
