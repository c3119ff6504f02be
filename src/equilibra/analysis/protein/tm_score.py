r"""TM-score: similarity of two structures of the same residues, between 0 and 1, whatever their length.

.. math:: \mathrm{TM} = \max_{R, c} \frac{1}{L} \sum_i \frac{1}{1 + (d_i / d_0)^2}, \qquad d_0 = \max\left(1.24 \sqrt[3]{L - 15} - 1.8,\ 0.5\right) Å

The best superposition is not the one of smallest RMSD. It is sought from many fragments: each is superposed, then again the residues that came
near, until they no longer change. Values above 0.5 mean the same fold.

References:
    | Scoring function for automated assessment of protein structure template quality (Zhang and Skolnick, 2004)
    | https://doi.org/10.1002/prot.20264
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import BoolArray, FloatArray, check_samples
from equilibra.errors import InputError, ShapeError

_ROUNDS = 20
_LEVELS = 6
_SHORTEST = 4


def tm_distance(length: int) -> float:
    """Returns the scale d0 in Å for a protein of `length` residues, at least 0.5 Å."""
    return max(1.24 * (length - 15) ** (1 / 3) - 1.8, 0.5) if length > 15 else 0.5


def tm_score(
    positions: ArrayLike,
    native: ArrayLike,
    *,
    residues: ArrayLike | None = None,
    length: int | None = None,
    stride: int = 1,
) -> FloatArray:
    """Returns the TM-score of each frame against a structure of the same residues.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å.
        native: The structure, with shape (residues, 3).
        residues: Indices or a mask of the residues that are compared; all if not given. Scale and normalisation are then those of the chosen
            ones, unless `length` is given.
        length: The number of residues L of the normalisation and of d0.
        stride: The step between fragments in residues; 1 is the full search. Larger steps are faster and can only lower the score.

    Returns:
        The scores between 0 and 1, with shape (frames).

    Raises:
        ShapeError: If the residues differ.
        InputError: If fewer than three residues are compared, a coordinate is not finite, or a number is below one.
    """
    x, y = check_samples("positions", positions, ndim=3, last=3), check_samples("native", native, ndim=2, last=3)
    if x.shape[1:] != y.shape:
        raise ShapeError("positions", x.shape, f"(frames, {len(y)}, 3)")
    if residues is not None:
        chosen = np.asarray(residues)
        x, y = x[:, chosen], y[chosen]
    if len(y) < 3 or stride < 1 or (length is not None and length < 1):
        raise InputError(
            f"TM-score: got {len(y)} residues, length = {length}, stride = {stride}; expected at least 3 residues and positive numbers"
        )
    whole = len(y) if length is None else length
    seeds = _fragments(len(y), stride)
    return np.asarray([_search(frame, y, seeds, tm_distance(whole)) * len(y) / whole for frame in x])


def _fragments(length: int, stride: int) -> BoolArray:
    """The residues of each fragment, with shape (fragments, length): the whole chain, then halves, quarters and so on."""
    rows = []
    sizes = {max(length >> level, min(_SHORTEST, length)) for level in range(_LEVELS)}
    for size in sorted(sizes, reverse=True):
        starts = [*range(0, length - size, stride), length - size]
        rows += [(np.arange(length) >= start) & (np.arange(length) < start + size) for start in starts]
    return np.asarray(rows)


def _search(x: FloatArray, y: FloatArray, seeds: BoolArray, d0: float) -> float:
    """The best mean score of one frame over all superpositions that the fragments lead to."""
    radius = min(max(d0, 4.5), 8.0)
    best, seen = 0.0, set()
    masks = seeds
    for round_ in range(_ROUNDS + 1):
        fresh = [index for index, mask in enumerate(np.packbits(masks, axis=1)) if mask.tobytes() not in seen]
        seen |= {mask.tobytes() for mask in np.packbits(masks, axis=1)}
        if not fresh:
            break
        squares = _squared_distances(x, y, np.unique(masks[fresh], axis=0))
        best = max(best, float((1.0 / (1.0 + squares / d0**2)).mean(axis=1).max()))
        masks = _near(squares, radius - 1.0 if round_ == 0 else radius + 1.0)
    return best


def _near(squares: FloatArray, radius: float) -> BoolArray:
    """The residues within the radius, with shape (fits, residues); at least the nearest three."""
    third = np.partition(squares, 2, axis=1)[:, 2:3]
    # the radius grows in steps of half an Å until three residues are inside
    steps = np.ceil(np.maximum(np.sqrt(third) - radius, 0.0) / 0.5)
    return np.asarray(squares <= (radius + 0.5 * steps) ** 2)


def _squared_distances(x: FloatArray, y: FloatArray, masks: BoolArray) -> FloatArray:
    """Squared distances of all residues after superposition of the masked ones, with shape (masks, residues)."""
    weights = masks / masks.sum(axis=1, keepdims=True)
    centre_x, centre_y = weights @ x, weights @ y
    products = (x[:, :, None] * y[:, None, :]).reshape(len(x), 9)
    h = (weights @ products).reshape(-1, 3, 3) - centre_x[:, :, None] * centre_y[:, None, :]
    u, _, vt = np.linalg.svd(h)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    moved = (x - centre_x[:, None]) @ (u @ vt) + centre_y[:, None]
    return np.asarray(((moved - y) ** 2).sum(axis=-1))
