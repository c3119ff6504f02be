"""Images in the plane: molecules in one piece, in the cell."""

from __future__ import annotations

import numpy as np
import torch

from equilibra.energies.confinement import PlanarDistance
from equilibra.systems.adsorbate.system import AdsorbateSystem


def whole_molecules(system: AdsorbateSystem, positions: np.ndarray) -> np.ndarray:
    """Returns positions (F, atoms, 3) with every molecule in one piece, its first atom in the cell of the slab, in Å.

    Arguments:
        system: The system.
        positions: Positions (F, atoms, 3) of any images of the mobile atoms, in Å.
    """
    x = torch.tensor(np.asarray(positions, dtype=np.float64))
    apart, plane = PlanarDistance(system.plane), system.plane
    made = x.clone()
    placed: set[int] = set()
    neighbours: dict[int, list[int]] = {k: [] for k in range(system.atoms)}
    for i, j in system.bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    for part in system.molecules:
        first = part.start
        frac = x[:, first, :2] @ torch.linalg.inv(plane)
        made[:, first, :2] = (frac - torch.floor(frac)) @ plane
        placed.add(first)
        ready = [first]
        while ready:
            i = ready.pop()
            for j in neighbours[i]:
                if j not in placed:
                    made[:, j] = made[:, i] + apart.vectors(x[:, j] - x[:, i])
                    placed.add(j)
                    ready.append(j)
    return np.asarray(made.numpy())
