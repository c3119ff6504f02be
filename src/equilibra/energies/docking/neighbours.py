"""Which atoms of a receptor are near a place in the box: lists for the cells of a grid, made once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equilibra.energies.docking.box import Box
from equilibra.energies.docking.terms import CUTOFF

_EDGE = 1.5
# numbers in the table of neighbours: beyond, cells grow
_MOST = 2**23
_FAR = 1e4


@dataclass(frozen=True)
class NeighbourTable:
    """Receptor atoms within the cut-off of any point of each cell of the box, padded by atoms out of reach.

    Attributes:
        origin: Lowest corner of the box (3,) in Å.
        edge: Edges of a cell (3,) in Å.
        cells: Number of cells along each axis (3,).
        rows: For each cell the atoms (cells, channels, most): position relative to the centre of the box, radius, hydrophobic, donor, acceptor.
    """

    origin: Tensor
    edge: Tensor
    cells: Tensor
    rows: Tensor

    def near(self, x: Tensor) -> Tensor:
        """Returns the neighbours (points, channels, most) of points (points, 3) in the box, relative to its centre."""
        place = ((x.detach() - self.origin) / self.edge).long()
        place = torch.minimum(place.clamp_min(0), self.cells - 1)
        index = (place[:, 0] * self.cells[1] + place[:, 1]) * self.cells[2] + place[:, 2]
        return self.rows.index_select(0, index)


def neighbour_table(box: Box, positions: Tensor, parameters: Tensor) -> NeighbourTable | None:
    """Makes the table.

    Arguments:
        box: Where the ligand's atoms are.
        positions: Positions of the receptor's atoms (atoms, 3) in Å.
        parameters: Their radius, and hydrophobic, donor and acceptor as 0 or 1 (4, atoms).

    Returns:
        The table in double precision, or None if no atom is in reach of the box.
    """
    from scipy.spatial import KDTree

    low, high = box.corners
    centre = (low + high) / 2
    inside = ((positions > low - CUTOFF) & (positions < high + CUTOFF)).all(1)
    if not bool(inside.any()):
        return None
    places, properties = (positions[inside] - centre).numpy(), parameters[:, inside].numpy()
    tree = KDTree(places)
    size = np.array(box.size)
    edge = _EDGE
    while True:
        cells = np.maximum(np.ceil(size / edge), 1).astype(int)
        edges = size / cells
        centres = [(np.arange(n) + 0.5) * step - half for n, step, half in zip(cells, edges, size / 2, strict=True)]
        points = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 3)
        lists = tree.query_ball_point(points, CUTOFF + np.linalg.norm(edges) / 2)
        most = max(map(len, lists))
        channels = 3 + len(properties)
        if len(points) * channels * most <= _MOST:
            break
        edge *= 1.25
    if most == 0:
        return None
    atoms = np.concatenate([places.T, properties])
    nowhere = np.array([_FAR] * 3 + [0.0] * len(properties))[:, None]
    atoms = np.concatenate([atoms, nowhere], 1)
    index = np.full((len(points), most), atoms.shape[1] - 1)
    for row, found in enumerate(lists):
        index[row, : len(found)] = found
    rows = np.ascontiguousarray(atoms[:, index].transpose(1, 0, 2))
    return NeighbourTable(torch.from_numpy(-size / 2), torch.from_numpy(edges), torch.from_numpy(cells), torch.from_numpy(rows))
