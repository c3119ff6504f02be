r"""Distributions of distances: pairs of C-alpha atoms, radius of gyration, end to end.

The distances between ensembles are square roots of the Jensen-Shannon divergence in nats, on 50 bins over the reference's range with a
pseudo-count of 1e-6. Samples outside that range count in the edge bins.

References:
    | Str2Str: A Score-based Framework for Zero-shot Protein Conformation Sampling (Lu et al., 2024), https://arxiv.org/abs/2306.03117
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.histogram import Outside, histogram_2d, js_distance
from equilibra.analysis.samples import FloatArray, IntArray, check_samples
from equilibra.errors import InputError, ShapeError

PSEUDO_COUNT = 1e-6
"""Added to the probability of every bin."""


def pair_distances(positions: ArrayLike, *, offset: int = 3) -> FloatArray:
    """Returns the distances of all pairs of residues at least `offset` apart.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å.
        offset: The smallest separation in the sequence.

    Returns:
        The distances in Å, with shape (frames, pairs).

    Raises:
        InputError: If no pair is so far apart, there is no frame, or a coordinate is not finite.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    i, j = _separated(x, offset)
    return np.asarray(np.sqrt(((x[:, i] - x[:, j]) ** 2).sum(axis=-1)))


def radius_of_gyration(positions: ArrayLike) -> FloatArray:
    """Returns the root-mean-square distance of the C-alpha atoms from their centre, in Å, with shape (frames)."""
    x = check_samples("positions", positions, ndim=3, last=3)
    return np.asarray(np.sqrt(((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=-1).mean(axis=1)))


def end_to_end(positions: ArrayLike) -> FloatArray:
    """Returns the distance of the first and the last C-alpha atom, in Å, with shape (frames)."""
    x = check_samples("positions", positions, ndim=3, last=3)
    return np.asarray(np.linalg.norm(x[:, -1] - x[:, 0], axis=-1))


def js_marginals(samples: ArrayLike, reference: ArrayLike, *, bins: int = 50, outside: Outside = "clip") -> FloatArray:
    """Returns the Jensen-Shannon distance (√JSD in nats) of each column.

    Arguments:
        samples: Numbers, with shape (n, columns).
        reference: Numbers, with shape (m, columns); their range is that of the bins.
        bins: The number of bins.
        outside: What happens to samples outside the range.

    Returns:
        The distances between 0 and 0.833, with shape (columns).

    Raises:
        InputError: If a sample is empty or not finite, or a column of the reference does not vary.
    """
    got = check_samples("samples", samples, ndim=2)
    target = check_samples("reference", reference, ndim=2, last=got.shape[1])
    if bins < 1:
        raise InputError(f"histogram: got bins = {bins}, expected at least 1")
    limits = np.asarray(reference_limits(target))
    first, second = (_probabilities(x, limits, bins, outside) + PSEUDO_COUNT for x in (got, target))
    first, second = (x / x.sum(axis=1, keepdims=True) for x in (first, second))
    middle = 0.5 * (first + second)
    # with the pseudo-count no bin is empty
    nats = 0.5 * (first * np.log(first / middle) + second * np.log(second / middle)).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(nats, 0.0)))


def js_plane(samples: ArrayLike, reference: ArrayLike, *, bins: int = 50, outside: Outside = "clip") -> float:
    """Returns the Jensen-Shannon distance (√JSD in nats) of the first two columns on bins² cells; arguments as for `js_marginals`."""
    got, target = (check_samples(name, x, ndim=2)[:, :2] for name, x in (("samples", samples), ("reference", reference)))
    first, second = reference_limits(target)
    cells = [histogram_2d(x, bins=bins, limits=(first, second), outside=outside) + PSEUDO_COUNT for x in (got, target)]
    return js_distance(*cells)


def js_pwd(samples: ArrayLike, reference: ArrayLike, *, bins: int = 50) -> float:
    """Returns JS-PwD: the mean over pairs of residues at least three apart of the distance of their distributions.

    Arguments:
        samples: C-alpha positions, with shape (n, residues, 3), in Å.
        reference: C-alpha positions, with shape (m, residues, 3).
        bins: The number of bins.
    """
    got, target = (check_samples(name, x, ndim=3, last=3) for name, x in (("samples", samples), ("reference", reference)))
    i, j = _separated(got, 3)
    if target.shape[1:] != got.shape[1:]:
        raise ShapeError("reference", target.shape, f"(frames, {got.shape[1]}, 3)")
    total, step = 0.0, max(1, 300_000 // max(len(got), len(target)))
    # some pairs at a time: a protein of 300 residues has 44,000
    for start in range(0, len(i), step):
        some = slice(start, start + step)
        columns = (np.linalg.norm(x[:, i[some]] - x[:, j[some]], axis=-1) for x in (got, target))
        total += float(js_marginals(*columns, bins=bins).sum())
    return total / len(i)


def js_rg(samples: ArrayLike, reference: ArrayLike, *, bins: int = 50) -> float:
    """Returns JS-Rg: the mean over residues of the distance of the distributions of their distances from the centre.

    Arguments:
        samples: C-alpha positions, with shape (n, residues, 3), in Å.
        reference: C-alpha positions, with shape (m, residues, 3).
        bins: The number of bins.
    """

    def from_centre(positions: ArrayLike) -> FloatArray:
        x = check_samples("positions", positions, ndim=3, last=3)
        return np.asarray(np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=-1))

    return float(js_marginals(from_centre(samples), from_centre(reference), bins=bins).mean())


def reference_limits(reference: FloatArray) -> list[tuple[float, float]]:
    """Returns the range of each column (n, columns).

    Raises:
        InputError: If a column does not vary.
    """
    low, high = reference.min(axis=0), reference.max(axis=0)
    if not (low < high).all():
        raise InputError(
            f"histogram: column {int(np.flatnonzero(~(low < high))[0])} of the reference does not vary; no range for its bins"
        )
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _separated(x: FloatArray, offset: int) -> tuple[IntArray, IntArray]:
    if offset < 1 or x.shape[1] <= offset:
        raise InputError(
            f"pair distances: got {x.shape[1]} residues and offset = {offset}, expected more residues than the offset"
        )
    i, j = np.triu_indices(x.shape[1], offset)
    return i, j


def _probabilities(x: FloatArray, limits: FloatArray, bins: int, outside: Outside) -> FloatArray:
    """Histograms of all columns at once, with shape (columns, bins): the same as `histogram_1d` of each, for tens of thousands."""
    low, high = limits.T
    inside = (x >= low) & (x <= high)
    if outside == "raise" and not inside.all():
        raise InputError(f"histogram: {int((~inside).any(axis=1).sum())} of {len(x)} samples lie outside the reference's range")
    cells = np.clip(((x - low) * (bins / (high - low))).astype(np.int64), 0, bins - 1) + bins * np.arange(len(low))
    kept = cells[inside] if outside == "drop" else cells.ravel()
    counts = np.bincount(kept, minlength=bins * len(low)).reshape(len(low), bins)
    if (counts.sum(axis=1) == 0).any():
        raise InputError("histogram: no sample lies inside the reference's range of some column")
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))
