"""Representative structures: which frames stand for an ensemble, with what populations, and laid over each other.

Frames are chosen as peaks of density in the space of torsions (Rodriguez & Laio, 2014): a representative is denser than all frames
near it and far from any denser one. Unlike centres of k-means this finds a basin that holds one frame in a hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.errors import InputError, ShapeError
from equilibra.report.canvas import FloatArray, finite, frame_weights

IntArray = NDArray[np.int64]

_LANDMARKS = 2000


@dataclass(frozen=True)
class Representatives:
    """Frames that stand for an ensemble.

    Attributes:
        frames: Index of each representative frame, with shape (k), the most populated first.
        populations: Share of the weight that each stands for, with shape (k); sums to one.
        assignment: For each frame the position in `frames` of its representative, with shape (frames).
    """

    frames: IntArray
    populations: FloatArray
    assignment: IntArray


def choose_representatives(
    torsions: Mapping[str, ArrayLike],
    k: int,
    *,
    generator: np.random.Generator,
    weights: ArrayLike | None = None,
    least: float = 0.005,
) -> Representatives:
    r"""Chooses up to `k` frames that stand for the basins of a distribution over torsions.

    With angles embedded as :math:`z = (\cos\theta, \sin\theta)`, the density of a frame is

    .. math:: \rho_i = \sum_j w_j \exp(-|z_i - z_j|^2 / 2h^2)

    and :math:`\delta_i` its distance to the nearest denser frame. Among frames with a density of at least four average frames,
    and :math:`\delta > 3h`, those with the largest :math:`\delta` are chosen, and every other frame follows its nearest denser neighbour. A peak that gathers
    a smaller share than `least` this way is given up for the next one.

    References:
        | Clustering by fast search and find of density peaks (Rodriguez & Laio, 2014)
        | https://doi.org/10.1126/science.1242072

    Arguments:
        torsions: Name -> angles with shape :math:`(\text{frames})`, in rad.
        k: Number of representatives wanted; fewer come back if there are fewer distinct peaks.
        generator: Chooses the 2,000 frames on which the density is estimated when there are more.
        weights: Weight of each frame, or None.
        least: The smallest share of the weight that a representative may stand for, from 0 to 1.

    Returns:
        The representatives, the most populated first.

    Raises:
        InputError: If `k` is less than one, or there is no torsion or no frame.
        ShapeError: If the torsions have different numbers of frames.
    """
    if k < 1:
        raise InputError(f"representatives: got k = {k}, expected at least 1")
    z = _embed(torsions)
    w = frame_weights(weights, len(z))
    w = w / w.sum()
    landmarks = np.arange(len(z)) if len(z) <= _LANDMARKS else np.sort(generator.choice(len(z), _LANDMARKS, replace=False))
    density, parent, delta = _density_peaks(z[landmarks], w[landmarks])
    nearest = _nearest(z, z[landmarks])
    mass = np.bincount(nearest, weights=w, minlength=len(landmarks))
    enough = (density >= min(4.0 / len(landmarks), float(density.max()))) & (delta > 3.0 * _kernel_width(z.shape[1] // 2))
    candidates = [int(i) for i in np.argsort(-delta, kind="stable") if enough[i]]
    peaks = candidates[:k]
    while True:
        basin = _basins(peaks, density, parent)
        shares = np.bincount(basin, weights=mass, minlength=len(peaks))
        weakest = int(np.argmin(shares))
        if shares[weakest] >= least or len(peaks) == 1:
            break
        candidates.remove(peaks[weakest])
        peaks = candidates[:k]
    assignment = basin[nearest]
    populations = np.bincount(assignment, weights=w, minlength=len(peaks)).astype(np.float64)
    populations /= populations.sum()
    ranking = np.argsort(-populations, kind="stable")
    place = np.empty_like(ranking)
    place[ranking] = np.arange(len(ranking))
    return Representatives(
        landmarks[np.asarray(peaks)][ranking].astype(np.int64), populations[ranking], place[assignment].astype(np.int64)
    )


def superpose_pdb(models: Sequence[str], atoms: Sequence[int] | None = None) -> list[str]:
    r"""Lays structures over the first by the proper rotation and shift that minimise :math:`\sum_i |R x_i + t - y_i|^2`.

    Arguments:
        models: Structures in PDB format with the same atoms in the same order, in Å.
        atoms: Indices of the atoms to superpose, from 0; None for all but hydrogen.

    Returns:
        The structures in PDB format; only coordinates differ. The first is turned to lie along the axes, its longest side along x, with
        its superposed atoms about the origin.

    Raises:
        InputError: If the structures do not have the same number of atoms, or none to superpose.
    """
    from scipy.spatial.transform import Rotation

    positions = [_pdb_positions(text) for text in models]
    if len({len(x) for x in positions}) > 1:
        raise InputError(
            f"superposition: got structures of {[len(x) for x in positions]} atoms, expected the same atoms in all"
        )
    if not positions:
        return []
    chosen = np.asarray(_heavy_atoms(models[0]) if atoms is None else list(atoms), dtype=np.int64)
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= len(positions[0]):
        raise InputError(f"superposition: got atoms {chosen.tolist()}, expected indices from 0 to {len(positions[0]) - 1}")
    first = positions[0] - positions[0].mean(0)
    axes = np.linalg.svd(first, full_matrices=False)[2] if len(first) > 2 else np.eye(3)
    axes[2] *= np.sign(np.linalg.det(axes))
    positions[0] = first @ axes.T
    target = positions[0][chosen] - positions[0][chosen].mean(0)
    moved = []
    for text, x in zip(models, positions, strict=True):
        x = x - x[chosen].mean(0)
        if chosen.size > 2:
            x = Rotation.align_vectors(target, x[chosen])[0].apply(x)
        moved.append(_with_positions(text, x))
    return moved


def _embed(torsions: Mapping[str, ArrayLike]) -> FloatArray:
    if not torsions:
        raise InputError("representatives: got no torsion, expected at least one name with its angles")
    angles = [finite(name, values) for name, values in torsions.items()]
    for name, values in zip(torsions, angles, strict=True):
        if values.shape != angles[0].shape:
            raise ShapeError(name, values.shape, angles[0].shape)
    stacked = np.stack(angles, axis=1)
    return np.concatenate([np.cos(stacked), np.sin(stacked)], axis=1)


def _density_peaks(z: FloatArray, w: FloatArray) -> tuple[FloatArray, IntArray, FloatArray]:
    """Returns of each point its density, its nearest denser point (itself for the densest) and the distance to it."""
    from scipy.spatial.distance import cdist

    distance = cdist(z, z)
    density = np.exp(-0.5 * (distance / _kernel_width(z.shape[1] // 2)) ** 2) @ (w / w.sum())
    order = np.argsort(-density, kind="stable")
    parent, delta = np.arange(len(z)), np.full(len(z), np.inf)
    for rank in range(1, len(order)):
        i, denser = order[rank], order[:rank]
        j = denser[np.argmin(distance[i, denser])]
        parent[i], delta[i] = j, distance[i, j]
    return density, parent, delta


def _kernel_width(torsions: int) -> float:
    """Returns the width h of the density kernel: 0.15 rad for each torsion, added in quadrature."""
    return 0.15 * float(np.sqrt(torsions))


def _basins(peaks: Sequence[int], density: FloatArray, parent: IntArray) -> IntArray:
    """Returns for each point the position in `peaks` of the peak it climbs to; the densest point must be a peak."""
    basin = np.full(len(density), -1)
    basin[list(peaks)] = np.arange(len(peaks))
    for i in np.argsort(-density, kind="stable"):
        if basin[i] < 0:
            basin[i] = basin[parent[i]]
    return basin


def _nearest(z: FloatArray, landmarks: FloatArray) -> IntArray:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(landmarks).query(z)[1], dtype=np.int64)


def _atom_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("ATOM  ", "HETATM"))]


def _pdb_positions(text: str) -> FloatArray:
    return np.array([[float(line[a : a + 8]) for a in (30, 38, 46)] for line in _atom_lines(text)]).reshape(-1, 3)


def _heavy_atoms(text: str) -> list[int]:
    """Returns the indices of the atoms that are not hydrogen, by the element column or else the first letter of the name."""
    elements = [
        line[76:78].strip().upper() or line[12:16].strip().lstrip("0123456789")[:1].upper() for line in _atom_lines(text)
    ]
    return [i for i, element in enumerate(elements) if element not in ("H", "D")]


def _with_positions(text: str, positions: FloatArray) -> str:
    rows = iter(positions)
    lines = []
    for line in text.splitlines():
        if line.startswith(("ATOM  ", "HETATM")):
            x, y, z = next(rows)
            line = f"{line[:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}"
        lines.append(line)
    return "\n".join(lines) + "\n"
