"""From States to positions of atoms, and back."""

from __future__ import annotations

import numpy as np
import torch

from equilibra.geometry import so3, torus
from equilibra.geometry.superposition import kabsch
from equilibra.geometry.torsion_tree import placed, tangents
from equilibra.state import State
from equilibra.systems.ligand.system import CONFORMER, POSITIONS, REFERENCE, SHIFT, TURN, LigandSystem
from equilibra.systems.ligand.torsions import rooted

_AT_ONCE = 256


def pose_positions(system: LigandSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, N, 3) of all atoms, in Å in the frame of the receptor, in float64 with gradients.

    Bonds, angles and stereo-centres are exact; of a Cartesian State they are what the heavy atoms are, and hydrogens are put onto these (`systems.ligand.hydrogens`).
    """
    if POSITIONS in state.fields:
        heavy = state.fields[POSITIONS][:, : len(system.torsions.heavy)].double()
        return system.hydrogens.added(heavy + torch.from_numpy(system.pocket_centre))
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
        fitted: Take bonds, angles and rings of the system, the rings of the conformer that comes nearest, and shift, turn and torsions of the poses; by default they keep their
            own geometries, so that `reference` is theirs and the State is exact, though no ring conformer of the system.
    """
    torsions = system.torsions
    x = torch.from_numpy(np.asarray(positions, dtype=np.float64))
    angles = torch.from_numpy(torsions.angles(positions))
    heavy, tree = torch.from_numpy(torsions.heavy), torsions.tree
    centre = tree.centre(x)
    there = x[:, heavy] - centre[:, None]
    identity = torch.eye(3, dtype=torch.float64).expand(len(x), 3, 3)

    def turned(geometry: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the turns (F, 3, 3) of geometries, and what is left of the distances (F,)."""
        still = placed(geometry, torch.zeros(len(x), 3, dtype=torch.float64), identity, angles, tree)[:, heavy]
        turn = kabsch(still, there)
        return turn, (still @ turn.transpose(1, 2) - there).square().sum((1, 2))

    number = torch.zeros(len(x), dtype=torch.int64)
    if fitted:
        each = [turned(torch.from_numpy(one).expand(len(x), -1, -1)) for one in system.geometries]
        number = torch.stack([left for _, left in each]).argmin(0)
        turn = torch.stack([turns for turns, _ in each])[number, torch.arange(len(x))]
    else:
        geometry = torch.from_numpy(rooted(torsions.unwound(positions), torsions))
        turn = turned(geometry)[0]
    state = system.state(centre - torch.from_numpy(system.centre), turn, angles, number)
    if fitted:
        return state
    reference = state.fields[REFERENCE].clone()
    reference[:, : len(heavy)] = geometry[:, heavy] - geometry[:, heavy].mean(1, keepdim=True)
    return state.replace(**{REFERENCE: reference})


def cartesian_pose_state(system: LigandSystem, positions: np.ndarray) -> State:
    """Makes the Cartesian State of poses (F, N, 3) in Å, in float64; it knows the heavy atoms alone."""
    heavy = np.asarray(positions, dtype=np.float64)[:, system.torsions.heavy]
    return system.cartesian_state(torch.from_numpy(heavy - system.pocket_centre))


def fitted_poses(system: LigandSystem, positions: np.ndarray, *, steps: int = 6) -> tuple[State, np.ndarray]:
    """Fits shift, turn and torsions to poses, with bonds, angles and rings of the system: least squares over the heavy atoms by Gauss-Newton steps from `pose_state`.

    Arguments:
        system: The system.
        positions: The poses (F, N, 3), in Å.
        steps: Gauss-Newton steps; one that makes a pose worse is not taken.

    Returns:
        The State, in float64, and the RMSD (F,) of the heavy atoms in Å.
    """
    states, errors = [], []
    for start in range(0, len(positions), _AT_ONCE):
        part = positions[start : start + _AT_ONCE]
        state, error = _refined(
            system, pose_state(system, part, fitted=True), torch.from_numpy(np.asarray(part, dtype=np.float64)), steps
        )
        states.append(state)
        errors.append(error.sqrt().numpy())
    return State.cat(states), np.concatenate(errors)


def _refined(system: LigandSystem, state: State, target: torch.Tensor, steps: int) -> tuple[State, torch.Tensor]:
    """Returns the improved State, and the mean squares (F,) of what is left."""
    heavy, tree = torch.from_numpy(system.torsions.heavy), system.torsions.tree
    x = pose_positions(system, state)
    left = (target - x)[:, heavy].square().sum(-1).mean(1)
    for _ in range(steps):
        jacobian = tangents(x, tree)[:, :, heavy].flatten(2)
        normal = jacobian @ jacobian.transpose(1, 2)
        damped = normal + 1e-6 * torch.diag_embed(normal.diagonal(dim1=1, dim2=2) + 1e-9)
        gradient = jacobian @ (target - x)[:, heavy].flatten(1)[..., None]
        step = torch.linalg.solve(damped, gradient)[..., 0]
        shift = state.fields[SHIFT][:, 0] + step[:, :3]
        turn = so3.exp(step[:, 3:6]) @ state.fields[TURN][:, 0]
        angles = torus.wrap(system.angles(state) + step[:, 6:], period=2.0 * np.pi)
        tried = system.state(shift, turn, angles, state.fields[CONFORMER][:, 0, 0])
        found = pose_positions(system, tried)
        error = (target - found)[:, heavy].square().sum(-1).mean(1)
        better = error < left
        pick = better.long() * len(better) + torch.arange(len(better))
        state, x = State.cat([state, tried])[pick], torch.where(better[:, None, None], found, x)
        left = torch.where(better, error, left)
    return state, left


def random_state(system: LigandSystem, n: int, *, generator: torch.Generator) -> State:
    """Draws poses with their middles evenly in the inner half of the box, any turn and any torsions: starts of a search."""
    half = torch.tensor(system.box.size, dtype=torch.float64) / 4
    shift = (2.0 * torch.rand(n, 3, generator=generator, dtype=torch.float64) - 1.0) * half
    angles = torch.pi * (2.0 * torch.rand(n, len(system.torsions.axes), generator=generator, dtype=torch.float64) - 1.0)
    turn = so3.uniform((n,), generator=generator, dtype=torch.float64)
    return system.state(shift, turn, angles, torch.arange(n) % len(system.geometries))
