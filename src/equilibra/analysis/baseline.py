"""Baselines: what a Gaussian with the reference's own mean and covariance would score.

A useful model is far better than this one. Torsional metrics are compared with a Gaussian of the torsions, wrapped onto the torus;
metrics of coordinates with a Gaussian of the superposed coordinates, which breaks bonds and mixes up conformers. The covariance of identical
particles without a fixed frame is isotropic on the mean-free space, so that the Gaussian of a cluster is too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples, wrap_angles
from equilibra.analysis.superposition import superpose
from equilibra.errors import InputError


def wrapped_gaussian(angles: ArrayLike, n: int, rng: np.random.Generator) -> FloatArray:
    """Draws angles from the Gaussian with the circular mean and the covariance about it of given angles, wrapped to [-π, π).

    Arguments:
        angles: Angles in radians, with shape (samples, angles).
        n: The number of draws.
        rng: The only source of randomness.

    Returns:
        The angles in radians, with shape (n, angles).
    """
    given = check_samples("angles", angles, ndim=2)
    mean = np.arctan2(np.sin(given).mean(axis=0), np.cos(given).mean(axis=0))
    return wrap_angles(mean + _gaussian_combinations(wrap_angles(given - mean), n, rng))


def cartesian_gaussian(positions: ArrayLike, n: int, rng: np.random.Generator) -> FloatArray:
    """Draws coordinates from the Gaussian with the mean and covariance of given frames after superposition.

    Arguments:
        positions: The frames, with shape (frames, atoms, 3).
        n: The number of draws.
        rng: The only source of randomness.

    Returns:
        The coordinates, with shape (n, atoms, 3), in the frames' unit.
    """
    frames = check_samples("positions", positions, ndim=3, last=3)
    frames = superpose(frames, frames[0])
    frames = superpose(frames, frames.mean(axis=0))
    mean = frames.mean(axis=0)
    draws = _gaussian_combinations((frames - mean).reshape(len(frames), -1), n, rng)
    return np.asarray(mean + draws.reshape(n, *mean.shape))


def isotropic_gaussian(positions: ArrayLike, n: int, rng: np.random.Generator) -> FloatArray:
    r"""Draws clusters of identical particles from the Gaussian with the covariance of given ones, after averaging over rotations and permutations.

    .. math:: x = s P \varepsilon, \qquad s^2 = \langle |x - x_c|^2 \rangle / (N - 1) d

    Arguments:
        positions: Positions with shape (samples, items, axes).
        n: The number of draws.
        rng: The only source of randomness.

    Returns:
        Positions with their centres at the origin, with shape (n, items, axes), in the same unit.

    Raises:
        InputError: If there are fewer than two particles.
    """
    given = check_samples("positions", positions, ndim=3)
    items, axes = given.shape[1:]
    if items < 2:
        raise InputError(
            f"positions: got {items} particle, expected at least 2; one particle without a fixed frame has no spread"
        )
    deviations = given - given.mean(axis=1, keepdims=True)
    std = np.sqrt((deviations**2).sum(axis=(1, 2)).mean() / ((items - 1) * axes))
    draws = std * rng.standard_normal((n, items, axes))
    return np.asarray(draws - draws.mean(axis=1, keepdims=True))


def _gaussian_combinations(deviations: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Gaussian combinations of the deviations: exactly their covariance, without building or factoring it."""
    centred = deviations - deviations.mean(axis=0)
    out = np.empty((n, deviations.shape[1]))
    step = max(1, 10_000_000 // len(centred))
    for start in range(0, n, step):
        count = min(step, n - start)
        out[start : start + count] = rng.standard_normal((count, len(centred))) @ centred
    return out / np.sqrt(max(len(centred) - 1, 1))
