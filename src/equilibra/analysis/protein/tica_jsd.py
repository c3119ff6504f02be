r"""Jensen-Shannon divergences in the slow coordinates of the reference.

TICA is fitted on reference trajectories, on cosines and sines of backbone torsions or on C-alpha distances. Histograms cover the reference's
range; samples outside are counted in the edge bins, and their share is returned: bins over the pooled range would let one outlier change
every bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.histogram import histogram_1d, histogram_2d, jensen_shannon, outlier_fraction
from equilibra.analysis.protein.distances import js_marginals, js_plane, pair_distances, reference_limits
from equilibra.analysis.samples import FloatArray, check_runs
from equilibra.analysis.tica_w2 import SlowCoordinates, fit_slow_coordinates, torsion_features


@dataclass(frozen=True, kw_only=True)
class TicaJsd:
    """Divergences in bits of the first two slow coordinates."""

    marginals: tuple[float, float]
    """Of each coordinate, 100 bins."""
    joint: float
    """Of both together, 50 × 50 cells."""
    outliers: float
    """The share of samples outside the reference's range of either coordinate."""

    @property
    def distances(self) -> tuple[float, float, float]:
        """√JSD in nats, as some papers print it: first, second, both together."""
        first, second, both = (float(np.sqrt(bits * np.log(2.0))) for bits in (*self.marginals, self.joint))
        return first, second, both


@dataclass(frozen=True, kw_only=True)
class JsTic:
    """Jensen-Shannon distances (√JSD in nats, 50 bins) of the first two slow coordinates of C-alpha distances."""

    mean: float
    """The mean of the two one-dimensional distances; some papers call it two-dimensional."""
    first: float
    """Of the slowest coordinate alone."""
    joint: float
    """Of the true two-dimensional histogram."""


def fit_torsion_tica(reference: Sequence[ArrayLike], *, lag: int) -> SlowCoordinates:
    """Fits two slow coordinates on cosines and sines of torsions.

    Arguments:
        reference: Trajectories of torsions in radians, each with shape (frames, angles); project others' `torsion_features`.
        lag: The lag in frames.

    Raises:
        InputError: If the lag does not fit the trajectories, or the torsions hardly move.
    """
    runs = check_runs("TICA reference", reference)
    return fit_slow_coordinates([torsion_features(run) for run in runs], lag=lag, what="torsions")


def tica_jsd(samples: ArrayLike, reference: ArrayLike) -> TicaJsd:
    """Compares slow coordinates.

    Arguments:
        samples: Slow coordinates of the ensemble, with shape (n, 2).
        reference: Those of the reference, with shape (m, 2).

    Raises:
        InputError: If a sample is empty or not finite, or the reference does not vary.
    """
    got, target = (np.asarray(x, dtype=np.float64)[:, :2] for x in (samples, reference))
    first, second = limits = tuple(reference_limits(target))

    def marginal(x: FloatArray, k: int) -> FloatArray:
        return histogram_1d(x[:, k], bins=100, limits=limits[k], outside="clip")

    cells = [histogram_2d(x, bins=50, limits=(first, second), outside="clip") for x in (got, target)]
    return TicaJsd(
        marginals=(
            jensen_shannon(marginal(got, 0), marginal(target, 0)),
            jensen_shannon(marginal(got, 1), marginal(target, 1)),
        ),
        joint=jensen_shannon(*cells),
        outliers=outlier_fraction(got, limits),
    )


def js_tic(samples: ArrayLike, reference: Sequence[ArrayLike], *, lag: int = 20) -> JsTic:
    """Returns JS-TIC of C-alpha distances, for proteins of up to about a hundred residues.

    Arguments:
        samples: C-alpha positions, with shape (n, residues, 3), in Å.
        reference: Trajectories of C-alpha positions, each with shape (frames, residues, 3), in order of time.
        lag: The lag in frames.

    Raises:
        InputError: If the lag does not fit the trajectories, or an array is empty or not finite.
    """
    runs = [pair_distances(run) for run in check_runs("TICA reference", reference)]
    slow = fit_slow_coordinates(runs, lag=lag, what="C-alpha distances")
    got, target = slow.project(pair_distances(samples)), slow.project(np.concatenate(runs))
    each = js_marginals(got, target)
    return JsTic(mean=float(each.mean()), first=float(each[0]), joint=js_plane(got, target))
