r"""Diversity: the mean C-alpha RMSD between different members of an ensemble.

.. math:: \frac{1}{n (n - 1)} \sum_{i \ne j} \mathrm{RMSD}(x_i, x_j)

The zeros of the diagonal do not count. (Some published values include them and are too small by :math:`(n - 1) / n`.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import check_samples
from equilibra.analysis.superposition import rmsd_matrix, superpose
from equilibra.errors import InputError


def mean_pairwise_rmsd(positions: ArrayLike, *, native: ArrayLike | None = None) -> float:
    """Returns the mean RMSD of all pairs of different frames.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å; a few hundred frames suffice.
        native: The structure, with shape (residues, 3), that all frames are superposed on once, as published values do; if not given,
            each pair is superposed on its own, which gives smaller numbers.

    Returns:
        The mean in Å.

    Raises:
        InputError: If there are fewer than two frames, or a coordinate is not finite.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    if len(x) < 2:
        raise InputError("pairwise RMSD: got one frame, expected at least 2")
    if native is None:
        distances = rmsd_matrix(x, x)
        np.fill_diagonal(distances, 0.0)
        return float(distances.sum() / (len(x) * (len(x) - 1)))
    moved = superpose(x, native).reshape(len(x), -1)
    moved = moved - moved.mean(axis=0)
    norms = (moved**2).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None, :] - 2 * moved @ moved.T, 0.0)
    np.fill_diagonal(squares, 0.0)
    return float(np.sqrt(squares / x.shape[1]).sum() / (len(x) * (len(x) - 1)))
