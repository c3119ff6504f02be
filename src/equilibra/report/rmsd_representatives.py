"""Conformations that stand for a protein's ensemble: central members of clusters by C-alpha RMSD, and the medoid of all."""

from __future__ import annotations

import numpy as np

from equilibra.analysis.samples import FloatArray, IntArray, frame_shares
from equilibra.analysis.superposition import rmsd_matrix
from equilibra.errors import InputError
from equilibra.report.representatives import Representatives

LANDMARKS = 200
"""Distances are computed between so many conformations at most, drawn in proportion to their weights."""


def medoid(positions: FloatArray, weights: FloatArray | None = None) -> int:
    r"""Returns the index of the conformation nearest to all others, :math:`\arg\min_i \sum_j w_j\,\mathrm{RMSD}(x_i, x_j)^2`, among landmarks.

    Arguments:
        positions: C-alpha positions (frames, residues, 3), in Å.
        weights: Weight of each frame, or None.
    """
    landmarks, masses = _landmarks(frame_shares(weights, len(positions)))
    return int(landmarks[_central(rmsd_matrix(positions[landmarks], positions[landmarks]), masses)])


def rmsd_representatives(positions: FloatArray, k: int, weights: FloatArray | None = None) -> Representatives:
    """Chooses up to `k` conformations: landmarks are joined to clusters by Ward's method, and the medoid of each stands for it.

    Every conformation counts for the representative that is nearest by RMSD; the populations are the weights of those.

    Arguments:
        positions: C-alpha positions (frames, residues, 3), in Å.
        k: Number of representatives wanted; fewer come back if there are fewer distinct conformations.
        weights: Weight of each frame, or None.

    Returns:
        The representatives, the most populated first.

    Raises:
        InputError: If `k` is less than one, or there is no frame.
    """
    if k < 1:
        raise InputError(f"representatives: got k = {k}, expected at least 1")
    shares = frame_shares(weights, len(positions))
    landmarks, masses = _landmarks(shares)
    distances = rmsd_matrix(positions[landmarks], positions[landmarks])
    cluster = _clusters(distances, k)
    members = [np.flatnonzero(cluster == number) for number in np.unique(cluster)]
    frames = np.array([landmarks[m[_central(distances[np.ix_(m, m)], masses[m])]] for m in members], dtype=np.int64)
    assignment = rmsd_matrix(positions[frames], positions).argmin(axis=0)
    populations = np.bincount(assignment, weights=shares, minlength=len(frames)).astype(np.float64)
    ranking = np.argsort(-populations, kind="stable")
    place = np.empty_like(ranking)
    place[ranking] = np.arange(len(ranking))
    return Representatives(frames[ranking], populations[ranking], place[assignment].astype(np.int64))


def _landmarks(shares: FloatArray) -> tuple[IntArray, FloatArray]:
    """Returns frames at equal steps of the running sum of the weights, and the weight that each stands for."""
    steps = min(len(shares), LANDMARKS)
    levels = (np.arange(steps) + 0.5) / steps
    drawn = np.minimum(np.searchsorted(np.cumsum(shares), levels), len(shares) - 1)
    found, counts = np.unique(drawn, return_counts=True)
    return found.astype(np.int64), counts / steps


def _central(distances: FloatArray, masses: FloatArray) -> int:
    return int((np.square(distances) @ masses).argmin())


def _clusters(distances: FloatArray, k: int) -> IntArray:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(distances) == 1:
        return np.zeros(1, dtype=np.int64)
    symmetric = 0.5 * (distances + distances.T)
    np.fill_diagonal(symmetric, 0.0)
    return np.asarray(fcluster(linkage(squareform(symmetric), "ward"), k, criterion="maxclust"), dtype=np.int64)
