"""From States to positions of atoms, and back."""

from __future__ import annotations

import numpy as np
import torch

from equilibra.geometry import so3
from equilibra.geometry.superposition import kabsch
from equilibra.geometry.torsion_tree import placed
from equilibra.state import State
from equilibra.systems.ligand.system import CONFORMER, REFERENCE, SHIFT, TURN, LigandSystem
from equilibra.systems.ligand.torsions import rooted


def pose_positions(system: LigandSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, N, 3) of all atoms, in Å in the frame of the receptor, in float64 with gradients. Bonds, angles and stereo-centres are exact."""
    geometries = torch.from_numpy(system.geometries)
    number = state.fields[CONFORMER][:, 0, 0].round().long().clamp(0, len(geometries) - 1)
    angles = system.angles(state).double()
    shift, turn = state.fields[SHIFT][:, 0].double(), state.fields[TURN][:, 0].double()
    return placed(geometries[number], shift + torch.from_numpy(system.centre), turn, angles, system.torsions.tree)


def pose_state(system: LigandSystem, positions: np.ndarray, *, fitted: bool = False) -> State:
    """Makes the State of poses (F, N, 3) in Å, in float64.

    Arguments:
        system: The system.
        positions: The poses.
        fitted: Take bonds, angles and rings of the system, and shift, turn and torsions of the poses; by default they keep their own geometries, so that
            `reference` is theirs and the State is exact, though no ring conformer of the system.
    """
    torsions = system.torsions
    own = rooted(torsions.unwound(positions), torsions)
    x = torch.from_numpy(np.asarray(positions, dtype=np.float64))
    angles = torch.from_numpy(torsions.angles(positions))
    heavy = torch.from_numpy(torsions.heavy)
    geometry = torch.from_numpy(own)
    number = torch.zeros(len(x), dtype=torch.int64)
    if fitted:
        known = torch.from_numpy(rooted(np.concatenate([system.geometries, own]), torsions))[: len(system.geometries), heavy]
        number = (geometry[:, None, heavy] - known[None]).square().sum((2, 3)).argmin(1)
        geometry = torch.from_numpy(system.geometries)[number]
    tree = torsions.tree
    identity = torch.eye(3, dtype=torch.float64).expand(len(x), 3, 3)
    still = placed(geometry, torch.zeros(len(x), 3, dtype=torch.float64), identity, angles, tree)
    centre = tree.centre(x)
    turn = kabsch(still[:, heavy], x[:, heavy] - centre[:, None])
    state = system.state(centre - torch.from_numpy(system.centre), turn, angles, number)
    if fitted:
        return state
    reference = state.fields[REFERENCE].clone()
    reference[:, : len(heavy)] = geometry[:, heavy] - geometry[:, heavy].mean(1, keepdim=True)
    return state.replace(**{REFERENCE: reference})


def random_state(system: LigandSystem, n: int, *, generator: torch.Generator) -> State:
    """Draws poses with their middles evenly in the inner half of the box, any turn and any torsions: starts of a search."""
    half = torch.tensor(system.box.size, dtype=torch.float64) / 4
    shift = (2.0 * torch.rand(n, 3, generator=generator, dtype=torch.float64) - 1.0) * half
    angles = torch.pi * (2.0 * torch.rand(n, len(system.torsions.axes), generator=generator, dtype=torch.float64) - 1.0)
    turn = so3.uniform((n,), generator=generator, dtype=torch.float64)
    return system.state(shift, turn, angles, torch.arange(n) % len(system.geometries))
