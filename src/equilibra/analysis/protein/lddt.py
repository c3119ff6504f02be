r"""Local distance difference test (lDDT) of C-alpha atoms: how many native distances a frame keeps, without superposition.

Pairs of different residues within 15 Å in the native structure count; a pair scores the share of the thresholds 0.5, 1, 2 and 4 Å that its
distance stays within.

References:
    | lDDT: a local superposition-free score for comparing protein structures and models using distance difference tests
    | (Mariani et al., 2013), https://doi.org/10.1093/bioinformatics/btt473
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.errors import InputError, ShapeError

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
"""The tolerances in Å."""


def lddt(positions: ArrayLike, native: ArrayLike, *, inclusion: float = 15.0) -> FloatArray:
    """Returns the lDDT of each frame.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å.
        native: The native structure, with shape (residues, 3).
        inclusion: The largest native distance of a pair in Å.

    Returns:
        Scores between 0 and 1, with shape (frames).

    Raises:
        ShapeError: If the residues differ.
        InputError: If no pair is within `inclusion`, there is no frame, or a coordinate is not finite.
    """
    x, target = check_samples("positions", positions, ndim=3, last=3), check_samples("native", native, ndim=2, last=3)
    if x.shape[1:] != target.shape:
        raise ShapeError("positions", x.shape, f"(frames, {len(target)}, 3)")
    i, j = np.triu_indices(len(target), 1)
    wanted = np.linalg.norm(target[i] - target[j], axis=-1)
    near = wanted < inclusion
    if not near.any():
        raise InputError(f"lDDT: no pair of the {len(target)} residues is within {inclusion} Å")
    i, j, wanted = i[near], j[near], wanted[near]
    out = np.empty(len(x))
    step = max(1, 2_000_000 // len(i))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        error = np.abs(np.linalg.norm(part[:, i] - part[:, j], axis=-1) - wanted)
        out[start : start + step] = np.mean([(error < threshold).mean(axis=1) for threshold in THRESHOLDS], axis=0)
    return out
