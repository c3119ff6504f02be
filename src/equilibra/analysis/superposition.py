r"""Superposition of conformations by proper rotations, in batches (Kabsch).

For centred coordinates with covariance :math:`H = X^\top Y = U S V^\top`, the best proper rotation leaves

.. math:: N\,\mathrm{RMSD}^2 = \|X\|^2 + \|Y\|^2 - 2\,(s_1 + s_2 + \operatorname{sign}(\det H)\, s_3).

References:
    | A solution for the best rotation to relate two sets of vectors (Kabsch, 1976), https://doi.org/10.1107/S0567739476001873
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_indices, check_samples
from equilibra.errors import InputError, ShapeError


def superpose(positions: ArrayLike, target: ArrayLike, *, fit: ArrayLike | None = None) -> FloatArray:
    """Moves every frame onto a target conformation by the best translation and proper rotation.

    Arguments:
        positions: The frames, with shape (frames, atoms, 3).
        target: The conformation to fit, with shape (atoms, 3), in the same unit.
        fit: Indices of the atoms that decide the motion, e.g. the C-alpha atoms; all of them if not given. Every atom is moved.

    Returns:
        The moved frames, with shape (frames, atoms, 3); the input is not written to.

    Raises:
        ShapeError: If the target has other atoms.
        InputError: If `fit` is empty or holds an index out of range.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    y = check_samples("target", target, ndim=2, last=3)
    if len(y) != x.shape[1]:
        raise ShapeError("target", y.shape, f"({x.shape[1]}, 3)")
    chosen = slice(None) if fit is None else check_indices("fit", np.reshape(fit, (-1, 1)), columns=1, n_atoms=len(y))[:, 0]
    if fit is not None and np.size(fit) == 0:
        raise InputError("superposition: got no atoms to fit, expected at least one")
    centre = y[chosen].mean(axis=0)
    x = x - x[:, chosen].mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("fai,aj->fij", x[:, chosen], y[chosen] - centre))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return np.asarray(x @ (u @ vt) + centre)


def rmsd_matrix(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Returns the root-mean-square deviation of every pair of conformations after superposition by proper rotations.

    Arguments:
        a: Conformations, with shape (n, atoms, 3).
        b: Conformations, with shape (m, atoms, 3), in the same unit and order of atoms.

    Returns:
        The deviations in that unit, with shape (n, m).
    """
    first = check_samples("first conformations", a, ndim=3, last=3)
    second = check_samples("second conformations", b, ndim=3, last=3)
    if first.shape[1] != second.shape[1]:
        raise ShapeError("second conformations", second.shape, f"(m, {first.shape[1]}, 3)")
    first = first - first.mean(axis=1, keepdims=True)
    second = second - second.mean(axis=1, keepdims=True)
    n_atoms = first.shape[1]
    norms = (second**2).sum(axis=(1, 2))
    out = np.empty((len(first), len(second)))
    for index, x in enumerate(first):
        h = np.einsum("ai,maj->mij", x, second)
        s = np.linalg.svd(h, compute_uv=False)
        s[:, 2] *= np.sign(np.linalg.det(h))
        out[index] = (x**2).sum() + norms - 2 * s.sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(out, 0.0) / n_atoms))
