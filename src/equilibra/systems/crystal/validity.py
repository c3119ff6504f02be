"""Checks of crystal structures: numbers, the cell, and distances with all periodic images.

The limits are those of CDVAE's structural validity (Xie et al., 2022): no two atoms closer than 0.5 Å, a volume of at least 0.1 Å³. That code leaves out the
images of an atom itself, which a short cell brings too close; here they count. Whether charges could balance is not checked: it is a property of the
composition, which the user chose.
"""

from __future__ import annotations

import numpy as np
import torch

from equilibra.errors import ShapeError
from equilibra.geometry.periodic import neighbours
from equilibra.systems.crystal.structures import SMALLEST_VOLUME
from equilibra.systems.validity import Result, Validity, judge

SHORTEST_DISTANCE = 0.5
"""Atoms closer than this, in Å, do not count as a structure."""

CHECKS = ("finite", "cell", "distances")
_FAR = 1.0  # Å: up to here distances are measured
_FRAMES_AT_ONCE = 256


def check(positions: np.ndarray, cells: np.ndarray | None) -> Validity:
    """Checks frames (F, N, 3) with their cells (F, 3, 3), both in Å.

    Raises:
        ShapeError: If there are no cells, or not one for each frame.
    """
    frames = len(positions)
    if cells is None or np.shape(cells) != (frames, 3, 3):
        raise ShapeError("cells", None if cells is None else np.shape(cells), f"({frames}, 3, 3), one for each frame")
    # a frame with its cell below it, for the frames to be taken some at a time
    both = np.concatenate([positions, cells], axis=1)
    return judge(both, CHECKS, _results, (_not_finite, _no_cell, _too_close), frames_at_once=_FRAMES_AT_ONCE)


def _results(both: np.ndarray) -> list[Result]:
    positions, cells = both[:, :-3], both[:, -3:]
    bad = ~np.isfinite(both).all(axis=-1)
    finite = ~bad.any(axis=1)
    volume = np.full(len(both), np.nan)
    volume[finite] = np.linalg.det(cells[finite])
    cell = np.zeros(len(both), dtype=bool)
    # a left-handed cell is one that has turned inside out on the way
    cell[finite] = volume[finite] >= SMALLEST_VOLUME
    atom, distance = np.zeros(len(both), dtype=np.int64), np.full(len(both), np.nan)
    rows = np.flatnonzero(cell)
    if len(rows):
        atom[rows], distance[rows] = shortest_distances(positions[rows], cells[rows])
    return [
        (finite, bad.argmax(axis=1), np.zeros(len(both))),
        (cell, np.zeros(len(both), dtype=np.int64), volume),
        (cell & (distance > SHORTEST_DISTANCE), atom, distance),
    ]


def shortest_distances(positions: np.ndarray, cells: np.ndarray, reach: float = _FAR) -> tuple[np.ndarray, np.ndarray]:
    """Returns an atom (F,) of the shortest distance, and that distance (F,) in Å, images of an atom itself included; `reach` where all are longer.

    Arguments:
        positions: Frames (F, N, 3), in Å.
        cells: Cells (F, 3, 3) with a volume, in Å.
        reach: Up to where distances are measured, in Å.
    """
    frac = torch.from_numpy(positions @ np.linalg.inv(cells))
    cell = torch.from_numpy(np.ascontiguousarray(cells))
    pairs, shifts = neighbours(frac, cell, reach)
    b, i, j = pairs.unbind(1)
    r = torch.linalg.vector_norm(((frac[b, j] - frac[b, i] + shifts)[:, None] @ cell[b])[:, 0], dim=-1)
    shortest = torch.full((len(cell),), reach, dtype=r.dtype).scatter_reduce(0, b, r, "amin")
    atom = torch.zeros(len(cell), dtype=torch.int64)
    where = r == shortest[b]
    atom[b[where]] = i[where]
    return atom.numpy(), shortest.numpy()


def _not_finite(item: int, value: float) -> str:
    return f"row {item + 1} of the positions and the cell is not a finite number"


def _no_cell(item: int, value: float) -> str:
    return f"the cell has the volume {value:.3g} Å³, right-handed, expected at least {SMALLEST_VOLUME} Å³"


def _too_close(item: int, value: float) -> str:
    if not np.isfinite(value):
        return "there is no cell to measure distances in"
    return (
        f"atom {item + 1} is {value:.2f} Å from another atom or an image of its own, expected more than {SHORTEST_DISTANCE} Å"
    )
