"""Relaxation of poses along shift, turn and torsions: to the nearest minimum of an energy, in the rigid receptor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.geometry import so3, torus
from equilibra.geometry.torsion_tree import pulled_back
from equilibra.state import State
from equilibra.systems.ligand.engine import MASSES
from equilibra.systems.ligand.poses import pose_positions
from equilibra.systems.ligand.system import CONFORMER, SHIFT, TORSIONS, TURN, LigandSystem
from equilibra.units import thermal_energy

STEPS = 120
"""Largest number of evaluations of the energy."""

CONVERGED = 1e-4
"""A pose is at its minimum where the next step would gain less than this, in eV."""

LONGEST = 0.5
"""Longest step of the shift in Å, of the turn and of a torsion in rad."""

_SUFFICIENT = 1e-4  # share of the linear gain that a step must bring
_SHORTER, _SHORTEST = 0.4, 1e-3


def relaxed_poses(system: LigandSystem, state: State, energy: Energy, *, steps: int = STEPS) -> tuple[State, np.ndarray]:
    r"""Moves poses to minima of an energy, all of them at once: quasi-Newton steps (BFGS) with backtracking along shift, turn and torsions.

    .. math:: q \leftarrow \exp_q(a\, H f), \qquad f = -\partial E / \partial q

    with an estimate H of the inverse Hessian and a step a that a pose shortens where its energy does not fall. Bonds, angles, rings and the receptor stay as they are. Minima are no samples of
    a distribution: they have no weights.

    Arguments:
        system: The system.
        state: The poses.
        energy: Energy of the atoms, in eV and Å.
        steps: Largest number of evaluations.

    Returns:
        The poses in the dtype they came in, and their energies (batch,) in eV. No energy is above that of the pose it comes from, but for rounding.
    """
    packed = _Poses(system, state, energy)
    u, force = packed.evaluated()
    start = torch.cat([torch.full((size,), 1.0 / MASSES[name]) for name, size in packed.sizes]).double() / thermal_energy(300.0)
    inverse = torch.diag_embed(start.expand(len(u), -1)).clone()
    length = torch.ones(len(u), dtype=torch.float64)
    direction = _direction(inverse, force, start, packed)
    alive = torch.arange(len(u))
    for _ in range(steps):
        gain = (direction * force).sum(1)
        alive = alive[(gain[alive] > CONVERGED) & (length[alive] > _SHORTEST)]
        if not len(alive):
            break
        move = length[alive, None] * direction[alive]
        tried = packed.moved(alive, move)
        new_u, new_force = tried.evaluated()
        better = new_u < u[alive] - _SUFFICIENT * length[alive] * gain[alive]
        worse = alive[~better]
        length[worse] *= _SHORTER
        rows = alive[better]
        inverse[rows] = _updated(inverse[rows], move[better], force[rows] - new_force[better])
        packed.take(rows, tried, better)
        u[rows], force[rows], length[rows] = new_u[better], new_force[better], 1.0
        direction[rows] = _direction(inverse[rows], force[rows], start, packed)
    made = packed.state()
    return made.replace(**{name: made.fields[name].to(value) for name, value in state.fields.items()}), u.numpy()


class _Poses:
    """Poses of one system with their energy, as shift, turn and torsions in float64."""

    def __init__(self, system: LigandSystem, state: State, energy: Energy) -> None:
        self.system, self.energy = system, energy
        self.shift = state.fields[SHIFT][:, 0].detach().double().cpu().clone()
        self.turn = state.fields[TURN][:, 0].detach().double().cpu().clone()
        self.angles = system.angles(state).detach().double().cpu().clone()
        self.number = state.fields[CONFORMER][:, 0, 0].detach().cpu().round()

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Names of the fields, and how many directions each has."""
        return (SHIFT, 3), (TURN, 3), (TORSIONS, self.angles.shape[1])

    def state(self) -> State:
        """Returns the State."""
        return self.system.state(self.shift, self.turn, self.angles, self.number)

    def evaluated(self) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) in eV and forces (batch, 6 + T) along shift, turn and torsions."""
        with torch.no_grad():
            x = pose_positions(self.system, self.state())
            u, force = self.energy.energy_and_force(x)
            return u.double(), torch.cat(pulled_back(x, force.double(), self.system.torsions.tree), dim=1)

    def moved(self, rows: Tensor, move: Tensor) -> _Poses:
        """Returns some poses after a move (rows, 6 + T)."""
        other = object.__new__(_Poses)
        other.system, other.energy = self.system, self.energy
        other.shift = self.shift[rows] + move[:, :3]
        other.turn = so3.exp(move[:, 3:6]) @ self.turn[rows]
        other.angles = torus.wrap(self.angles[rows] + move[:, 6:], period=2.0 * np.pi)
        other.number = self.number[rows]
        return other

    def take(self, rows: Tensor, other: _Poses, chosen: Tensor) -> None:
        """Puts the chosen poses of others in the place of some rows."""
        for name in ("shift", "turn", "angles"):
            getattr(self, name)[rows] = getattr(other, name)[chosen]


def _direction(inverse: Tensor, force: Tensor, start: Tensor, poses: _Poses) -> Tensor:
    """Returns the quasi-Newton steps (batch, D), none of them longer than `LONGEST`; along the force where they would not go down."""
    step = (inverse @ force[..., None])[..., 0]
    step = torch.where(((step * force).sum(1) > 0.0)[:, None], step, start * force)
    parts = step.split([size for _, size in poses.sizes], dim=1)
    norms = [torch.linalg.vector_norm(parts[0], dim=1), torch.linalg.vector_norm(parts[1], dim=1)]
    norms += [parts[2].abs().amax(1)] if parts[2].shape[1] else []
    return step * (LONGEST / torch.stack(norms).amax(0).clamp(min=LONGEST))[:, None]


def _updated(inverse: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """Returns the inverse Hessians (batch, D, D) after steps s and changes y of the gradient (batch, D); as they are where the energy is not convex along the step."""
    sy = (s * y).sum(1)
    convex = sy > 1e-8 * torch.linalg.vector_norm(s, dim=1) * torch.linalg.vector_norm(y, dim=1)
    rho = torch.where(convex, 1.0 / sy.where(convex, torch.ones_like(sy)), torch.zeros_like(sy))[:, None, None]
    left = torch.eye(s.shape[1], dtype=s.dtype) - rho * s[:, :, None] * y[:, None]
    made = left @ inverse @ left.transpose(1, 2) + rho * s[:, :, None] * s[:, None]
    return torch.where(convex[:, None, None], made, inverse)
