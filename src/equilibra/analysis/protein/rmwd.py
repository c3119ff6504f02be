r"""Root-mean Wasserstein distance (RMWD): W2 between Gaussian fits of the position of each atom.

.. math:: W_i^2 = |\mu_i - \nu_i|^2 + \operatorname{tr}\left(S_i + T_i - 2\,(S_i^{1/2} T_i S_i^{1/2})^{1/2}\right),
    \qquad \mathrm{RMWD}^2 = \tfrac{1}{N} \sum_i W_i^2

The first term is the translation part, the trace the variance part; both are averaged over atoms and add up in quadrature.

References:
    | AlphaFold Meets Flow Matching for Generating Protein Ensembles (Jing et al., 2024), https://arxiv.org/abs/2402.04845
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray
from equilibra.analysis.superposition import superpose


@dataclass(frozen=True, kw_only=True)
class Rmwd:
    """The parts of W2 squared of each atom, in Å²; the distances are their roots, averaged over atoms."""

    translation_squared: FloatArray
    """The squared distances of the means, with shape (atoms)."""
    variance_squared: FloatArray
    """The squared W2 of the centred Gaussians, with shape (atoms)."""

    @property
    def translation(self) -> float:
        """The translation part in Å."""
        return float(np.sqrt(self.translation_squared.mean()))

    @property
    def variance(self) -> float:
        """The variance part in Å."""
        return float(np.sqrt(self.variance_squared.mean()))

    @property
    def value(self) -> float:
        """The RMWD in Å: both parts in quadrature."""
        return float(np.hypot(self.translation, self.variance))


def rmwd(a: ArrayLike, b: ArrayLike, reference: ArrayLike, *, fit: ArrayLike | None = None) -> Rmwd:
    """Compares two ensembles atom by atom after superposition on one structure.

    Arguments:
        a: The first ensemble, with shape (frames, atoms, 3), in Å.
        b: The second, with shape (frames, atoms, 3).
        reference: The structure that both are superposed on, with shape (atoms, 3).
        fit: Indices of the atoms that decide the superposition; all if not given.

    Raises:
        ShapeError: If the atoms differ.
        InputError: If an ensemble is empty or not finite.
    """
    (mean_a, cov_a), (mean_b, cov_b) = (_moments(superpose(x, reference, fit=fit)) for x in (a, b))
    return Rmwd(
        translation_squared=((mean_a - mean_b) ** 2).sum(axis=-1),
        variance_squared=gaussian_w2_squared(cov_a, cov_b),
    )


def gaussian_w2_squared(s: ArrayLike, t: ArrayLike) -> FloatArray:
    r"""Returns the squared W2 of centred Gaussians with covariances s and t (..., d, d): tr(S + T - 2 (S^½ T S^½)^½), with shape (...)."""
    first, second = np.asarray(s, dtype=np.float64), np.asarray(t, dtype=np.float64)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum(axis=-1)
    traces = np.trace(first, axis1=-2, axis2=-1) + np.trace(second, axis1=-2, axis2=-1)
    return np.asarray(np.maximum(traces - 2 * cross, 0.0))


def _moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = x.mean(axis=0)
    centred = x - mean
    return mean, np.einsum("fai,faj->aij", centred, centred) / len(x)
