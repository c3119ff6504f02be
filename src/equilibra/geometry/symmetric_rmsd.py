r"""RMSD of poses without superposition, over the symmetries of a molecule.

.. math:: d(x, y) = \min_{\pi} \sqrt{\frac1n \sum_i |x_i - y_{\pi(i)}|^2}

with the automorphisms :math:`\pi` of the chemical graph: a phenyl ring that is turned over is in the same place.

References:
    | spyrmsd: symmetry-corrected RMSD calculations in Python (Meli and Biggin, 2020), https://doi.org/10.1186/s13321-020-00455-2
"""

from __future__ import annotations

import numpy as np


def symmetric_rmsd(x: np.ndarray, y: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Computes the RMSDs (F,) of poses (F, n, 3) from one pose (n, 3), in the unit of length of both.

    Arguments:
        x: Poses.
        y: One pose.
        permutations: Automorphisms (P, n): row p says which atom of y is in the place of each.
    """
    best = np.full(len(x), np.inf)
    for permutation in permutations:
        best = np.minimum(best, ((x - y[permutation]) ** 2).sum((1, 2)))
    return np.asarray(np.sqrt(best / x.shape[1]))


def leader_clusters(x: np.ndarray, order: np.ndarray, permutations: np.ndarray, radius: float) -> np.ndarray:
    """Returns the cluster (F,) of each pose (F, n, 3): in the given order, a pose joins the first cluster whose leader is within the radius, or leads a new one.

    Arguments:
        x: Poses.
        order: Indices (F,) of the poses, the best first.
        permutations: Automorphisms (P, n).
        radius: Largest symmetric RMSD from a leader, in the unit of length of the poses.
    """
    cluster = np.full(len(x), -1)
    number = 0
    for row in order:
        if cluster[row] < 0:
            free = np.flatnonzero(cluster < 0)
            cluster[free[symmetric_rmsd(x[free], x[row], permutations) <= radius]] = number
            cluster[row] = number
            number += 1
    return cluster
