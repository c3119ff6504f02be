r"""Error of the free-energy surface in two slow coordinates of the reference: the MD-emulation benchmark.

Features of a frame are :math:`\exp(-d_{ij} / 0.8\,\mathrm{nm})` of its C-alpha atoms without the two residues at either end, over the upper
triangle with the diagonal, where pairs with :math:`|i - j| \le 2` have :math:`d = 0`. A linear map takes them to two coordinates. Both sets of
coordinates are resampled and blurred by Gaussian noise of width 0.25, and counted on 50 × 50 cells that cover the blurred reference and half a
cell more. With :math:`F = -kT \ln p` at 300 K, cells of the reference within 4 kcal/mol of its minimum are *low*. Those that the model fills too
are compared, after the constant shift that suits them best (the median of the differences for the MAE, their mean for the RMSE); the
coverage is their share of the low cells.

That score ignores cells the model misses. The *clamped* errors count every low cell: model energies, after the same shift, above the cut-off
and of empty cells are set to the cut-off, 4 kcal/mol above the reference's minimum.

References:
    | Scalable emulation of protein equilibrium ensembles with generative deep learning (Lewis et al., 2025)
    | https://doi.org/10.1126/science.adv9817
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.units import KCAL_PER_MOL_EV, thermal_energy

SCALE = 8.0
"""The length of the features' decay in Å."""
TRIMMED = 2
"""The number of residues left out at either end."""
NEAR = 2
"""Pairs up to so many residues apart have a constant feature."""


@dataclass(frozen=True, kw_only=True)
class SurfaceProjection:
    """The linear map of a protein of the benchmark, from pair features to two coordinates."""

    mean: FloatArray
    """The mean features, with shape (features)."""
    sqrt_inv_cov: FloatArray
    """The map, with shape (features, 2)."""

    def __call__(self, alpha: ArrayLike) -> FloatArray:
        """Returns the coordinates (frames, 2) of all C-alpha positions (frames, residues, 3) in Å, ends included.

        Raises:
            ShapeError: If the number of residues does not fit the map.
            InputError: If there is no frame, or a coordinate is not finite.
        """
        features = surface_features(alpha)
        if features.shape[1:] != np.shape(self.mean) or np.shape(self.sqrt_inv_cov) != (features.shape[1], 2):
            raise ShapeError(
                "projection",
                [np.shape(self.mean), np.shape(self.sqrt_inv_cov)],
                f"({features.shape[1]}) and ({features.shape[1]}, 2) for {np.shape(alpha)[1]} residues",
            )
        return np.asarray((features - self.mean) @ self.sqrt_inv_cov)


@dataclass(frozen=True, kw_only=True)
class SurfaceError:
    """Errors of a free-energy surface in kcal/mol, and how much of it the model covers."""

    mae_kcal: float
    """The mean absolute error over cells that both fill; NaN if there is none."""
    rmse_kcal: float
    """The root-mean-square error over the same cells."""
    coverage: float
    """The share of low cells of the reference that the model fills."""
    clamped_mae_kcal: float
    """The mean absolute error over all low cells, missing ones at the cut-off."""
    clamped_rmse_kcal: float
    """The root-mean-square error over all low cells, missing ones at the cut-off."""


@dataclass(frozen=True, kw_only=True)
class SurfaceComparison:
    """The error of a model beside what perfect samples and a Gaussian score."""

    model: SurfaceError
    """Of the model."""
    floor: SurfaceError
    """Of random halves of the reference against each other."""
    gaussian: SurfaceError
    """Of a Gaussian with the mean and covariance of the reference's coordinates."""


def surface_features(alpha: ArrayLike) -> FloatArray:
    """Returns the pair features (frames, features) of C-alpha positions (frames, residues, 3) in Å, see the module.

    Raises:
        InputError: If no residue is left after trimming, there is no frame, or a coordinate is not finite.
    """
    x = check_samples("C-alpha positions", alpha, ndim=3, last=3)
    length = x.shape[1] - 2 * TRIMMED
    if length < 1:
        raise InputError(f"surface features: got {x.shape[1]} residues, expected more than {2 * TRIMMED}")
    x = x[:, TRIMMED : TRIMMED + length]
    i, j = np.triu_indices(length)
    distances = np.linalg.norm(x[:, i] - x[:, j], axis=-1)
    return np.asarray(np.exp(-np.where(j - i <= NEAR, 0.0, distances) / SCALE))


def surface_error(
    samples: ArrayLike,
    reference: ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = 1_000_000,
    noise: float = 0.25,
    bins: int = 50,
    cutoff_kcal: float = 4.0,
    temperature: float = 300.0,
) -> SurfaceError:
    """Compares two free-energy surfaces.

    Arguments:
        samples: Coordinates of the model, with shape (n, 2).
        reference: Coordinates of the reference, with shape (m, 2).
        rng: The only source of randomness.
        resamples: The number of points drawn of each; coverage grows with it.
        noise: The width of the blur.
        bins: The number of cells along each coordinate.
        cutoff_kcal: How far above the minimum cells still count, in kcal/mol.
        temperature: The temperature in K.

    Raises:
        InputError: If a sample is empty or not finite.
        ConfigError: If a number is out of range.
    """
    if resamples < 1 or bins < 2 or not (noise > 0 and cutoff_kcal > 0 and temperature > 0):
        raise ConfigError(
            f"surface error: got resamples = {resamples}, bins = {bins}, noise = {noise}, cutoff = {cutoff_kcal}, "
            f"temperature = {temperature}; expected positive numbers and at least two bins"
        )
    got, target = check_samples("samples", samples, ndim=2, last=2), check_samples("reference", reference, ndim=2, last=2)
    points = _blurred(target, resamples, noise, rng)
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.5 * (high - low) / (bins - 1)
    limits = low - half, high + half
    kt = thermal_energy(temperature) / KCAL_PER_MOL_EV
    theirs = _free_energy(points, limits, bins, kt)
    ours = _free_energy(_blurred(got, resamples, noise, rng), limits, bins, kt)
    shallow = theirs < theirs.min() + cutoff_kcal
    # an empty or rare cell of the model is worth the cut-off in the clamped errors
    wanted, found = theirs[shallow] - theirs.min(), ours[shallow]
    filled = np.isfinite(found)
    if not filled.any():
        lost = np.abs(cutoff_kcal - wanted)
        return SurfaceError(
            mae_kcal=float("nan"),
            rmse_kcal=float("nan"),
            coverage=0.0,
            clamped_mae_kcal=float(lost.mean()),
            clamped_rmse_kcal=float(np.sqrt((lost**2).mean())),
        )
    difference = found[filled] - wanted[filled]
    median, mean = float(np.median(difference)), float(difference.mean())
    clamped = [np.minimum(found - shift, cutoff_kcal) - wanted for shift in (median, mean)]
    return SurfaceError(
        mae_kcal=float(np.abs(difference - median).mean()),
        rmse_kcal=float(difference.std()),
        coverage=float(filled.mean()),
        clamped_mae_kcal=float(np.abs(clamped[0]).mean()),
        clamped_rmse_kcal=float(np.sqrt((clamped[1] ** 2).mean())),
    )


def compare_surfaces(
    samples: ArrayLike, reference: ArrayLike, rng: np.random.Generator, *, resamples: int = 1_000_000
) -> SurfaceComparison:
    """Returns the error of a model's coordinates (n, 2), the floor and the Gaussian baseline; arguments as for `surface_error`.

    The floor splits the reference at random: the benchmark's coordinates have no order of time. It is a lower bound of the noise.
    """
    target = check_samples("reference", reference, ndim=2, last=2)
    order = rng.permutation(len(target))
    halves = target[order[: len(order) // 2]], target[order[len(order) // 2 :]]
    gaussian = rng.multivariate_normal(target.mean(axis=0), np.cov(target.T), size=len(target))
    return SurfaceComparison(
        model=surface_error(samples, target, rng, resamples=resamples),
        floor=surface_error(halves[1], halves[0], rng, resamples=resamples),
        gaussian=surface_error(gaussian, target, rng, resamples=resamples),
    )


def _blurred(points: FloatArray, n: int, noise: float, rng: np.random.Generator) -> FloatArray:
    return points[rng.integers(len(points), size=n)] + noise * rng.standard_normal((n, 2))


def _free_energy(points: FloatArray, limits: tuple[FloatArray, FloatArray], bins: int, kt: float) -> FloatArray:
    """-kT ln p on the cells, infinite where empty; points outside are left out. Counted by hand: `histogramdd` sorts a million points."""
    low, high = limits
    cells = np.floor((points - low) * (bins / (high - low))).astype(np.int64)
    cells = cells[((cells >= 0) & (cells < bins)).all(axis=1)]
    counts = np.bincount(cells[:, 0] * bins + cells[:, 1], minlength=bins * bins)
    with np.errstate(divide="ignore"):
        return np.asarray(-kt * (np.log(counts) - np.log(max(len(cells), 1))))
