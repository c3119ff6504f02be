r"""W2 in the slow coordinates of the reference: the first TICA components of the sines and cosines of its torsions.

Time-lagged independent component analysis solves :math:`C_\tau w = \lambda C_0 w` for the (symmetrised) covariances of the features
at lag 0 and :math:`\tau`. Lag pairs are formed inside each trajectory only. Components are scaled by their eigenvalues (kinetic map,
distances then measure kinetic separation). Implied relaxation times are :math:`t_i = -\tau / \ln |\lambda_i|`.

References:
    | Identification of slow molecular order parameters for Markov model construction (Pérez-Hernández et al., 2013)
    | https://doi.org/10.1063/1.4811489
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_runs, check_samples, subsample
from equilibra.analysis.transport import euclidean_w2
from equilibra.errors import InputError, ShapeError

SMALLEST_VARIANCE = 1e-6
"""Directions of features with a smaller variance count as constant."""


@dataclass(frozen=True, kw_only=True)
class SlowCoordinates:
    """A linear map from features to slow coordinates, fitted on reference trajectories."""

    mean: FloatArray
    """The mean features, with shape (features)."""
    components: FloatArray
    """The scaled projection, with shape (features, dim)."""
    relaxation_times: FloatArray
    """The implied relaxation times of the components in frames, with shape (dim); infinite where |λ| is 1."""
    lag: int
    """The lag in frames."""

    def project(self, features: ArrayLike) -> FloatArray:
        """Returns the slow coordinates, with shape (samples, dim), of features, with shape (samples, features)."""
        given = check_samples("features", features, ndim=2, last=len(self.mean))
        return np.asarray((given - self.mean) @ self.components)


@dataclass(frozen=True, kw_only=True)
class TicaProjection(SlowCoordinates):
    """Slow coordinates whose features are the cosines and sines of torsions."""

    def __call__(self, angles: ArrayLike) -> FloatArray:
        """Returns the slow coordinates, with shape (samples, dim), of torsions in radians, with shape (samples, angles)."""
        if np.ndim(angles) == 2 and 2 * np.shape(angles)[1] != len(self.mean):
            raise ShapeError("angles", np.shape(angles), f"(samples, {len(self.mean) // 2})")
        return self.project(torsion_features(angles))


def torsion_features(angles: ArrayLike) -> FloatArray:
    """Returns cosines and sines, with shape (samples, 2 angles), of angles in radians, with shape (samples, angles)."""
    checked = check_samples("angles", angles, ndim=2)
    return np.concatenate([np.cos(checked), np.sin(checked)], axis=1)


def fit_slow_coordinates(reference: Sequence[ArrayLike], *, lag: int, dim: int = 2, what: str = "features") -> SlowCoordinates:
    """Fits TICA on features of reference trajectories.

    Arguments:
        reference: Trajectories of features, each with shape (frames, features), in order of time and equally spaced.
        lag: The lag time in frames.
        dim: The number of components.
        what: What the features are called in an error.

    Raises:
        InputError: If the lag is below one, no trajectory is longer than the lag, or the features span fewer than `dim` directions.
    """
    from deeptime.decomposition import TICA

    runs = check_runs("TICA reference", reference)
    longest = max(len(run) for run in runs)
    if lag < 1 or longest <= lag + 1:
        raise InputError(
            f"TICA: got a lag of {lag} frames, expected 1 to {longest - 2} (the longest trajectory has {longest} frames)"
        )
    moving = int((np.linalg.eigvalsh(np.atleast_2d(np.cov(np.concatenate(runs).T))) > SMALLEST_VARIANCE).sum())
    if moving < dim:
        raise InputError(
            f"TICA: the reference's {what} span {moving} directions, expected at least {dim}; they are (nearly) constant"
        )
    covariances = TICA.covariance_estimator(lagtime=lag)
    for run in runs:
        # shorter trajectories hold no pair; pairs across trajectories would be unphysical
        if len(run) > lag:
            covariances.partial_fit((np.ascontiguousarray(run[:-lag]), np.ascontiguousarray(run[lag:])))
    estimator = TICA(lagtime=lag, epsilon=SMALLEST_VARIANCE, dim=dim, scaling="kinetic_map")
    model = estimator.fit_from_covariances(covariances.fetch_model()).fetch_model()
    eigenvalues = np.abs(np.asarray(model.singular_values, dtype=np.float64)[:dim])
    left = np.asarray(model.instantaneous_coefficients, dtype=np.float64)[:, :dim]
    with np.errstate(divide="ignore"):
        times = np.where(eigenvalues < 1, -lag / np.log(np.minimum(eigenvalues, 1.0)), np.inf)
    mean = np.asarray(model.mean_0, dtype=np.float64)
    return SlowCoordinates(mean=mean, components=left, relaxation_times=times, lag=lag)


def fit_tica(reference: Sequence[ArrayLike], *, lag: int, dim: int = 2) -> TicaProjection:
    """Fits TICA on the torsions of reference trajectories.

    Arguments:
        reference: Trajectories of torsions in radians, each with shape (frames, angles), in order of time and equally spaced.
        lag: The lag time in frames.
        dim: The number of components.

    Raises:
        InputError: If the lag is below one, no trajectory is longer than the lag, or the features span fewer than `dim` directions.
    """
    runs = [torsion_features(run) for run in check_runs("TICA reference", reference)]
    return TicaProjection(**vars(fit_slow_coordinates(runs, lag=lag, dim=dim, what="torsions")))


def tica_w2(
    reference: Sequence[ArrayLike],
    samples: ArrayLike,
    *,
    lag: int,
    rng: np.random.Generator,
    n: int = 2000,
) -> float:
    """Returns W2 between reference and samples in the reference's first two TICA components.

    Arguments:
        reference: Trajectories of torsions in radians, each with shape (frames, angles).
        samples: Torsions in radians, with shape (samples, angles).
        lag: The lag of the TICA in frames.
        rng: Chooses the subsets.
        n: At most so many points of each side; min(reference frames, samples, n) are taken of both.

    Returns:
        The distance, dimensionless.
    """
    projection = fit_tica(reference, lag=lag)
    target, got = projection(np.concatenate(check_runs("TICA reference", reference))), projection(samples)
    size = min(len(target), len(got), n)
    return euclidean_w2(subsample(target, size, rng), subsample(got, size, rng))
