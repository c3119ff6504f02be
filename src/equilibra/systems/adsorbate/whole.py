"""Images in the plane: molecules in one piece, in the cell."""

from __future__ import annotations

import torch
from torch import Tensor

from equilibra.energies.confinement import PlanarDistance
from equilibra.systems.adsorbate.system import AdsorbateSystem


def whole_molecules(system: AdsorbateSystem, positions: Tensor) -> Tensor:
    """Returns positions (F, atoms, 3) with every molecule in one piece, its first atom in the cell of the slab, in Å; differentiable.

    Arguments:
        system: The system.
        positions: Positions (F, atoms, 3) of any images of the mobile atoms, in Å.
    """
    apart, plane = PlanarDistance(system.plane), system.plane.to(positions)
    neighbours: dict[int, list[int]] = {k: [] for k in range(system.atoms)}
    for i, j in system.bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    placed: dict[int, Tensor] = {}
    for part in system.molecules:
        first = positions[:, part.start]
        frac = first[:, :2] @ torch.linalg.inv(plane)
        placed[part.start] = torch.cat([(frac - torch.floor(frac.detach())) @ plane, first[:, 2:]], dim=-1)
        ready = [part.start]
        while ready:
            i = ready.pop()
            for j in neighbours[i]:
                if j not in placed:
                    placed[j] = placed[i] + apart.vectors(positions[:, j] - positions[:, i])
                    ready.append(j)
    return torch.stack([placed.get(k, positions[:, k]) for k in range(system.atoms)], dim=1)
