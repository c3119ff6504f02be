"""Poses as an engine of Markov chains takes them: packed States, and the energy along shift, turn and torsions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.energies.manifold_moves import ManifoldMoves
from equilibra.errors import ShapeError
from equilibra.geometry.torsion_tree import pulled_back
from equilibra.state import State
from equilibra.state.packing import Concatenated
from equilibra.systems.ligand.network import ligand_process
from equilibra.systems.ligand.poses import pose_positions
from equilibra.systems.ligand.system import CONFORMER, SHIFT, TORSIONS, TURN, LigandSystem

MASSES: Mapping[str, float] = {SHIFT: 10.0, TURN: 100.0, TORSIONS: 30.0}
"""Masses of the moves, about how stiff poses are in kT/Å² and kT/rad²."""

JUMPS = 0.3
"""Probability with which a torsion, or the ring conformer, is drawn anew before a trajectory."""


class PosePacking:
    """Poses of one system as arrays (n, width, 1): the middle of the heavy atoms, the rotation, T torsions, and the number of the ring conformer.

    Arguments:
        system: The system.
    """

    def __init__(self, system: LigandSystem) -> None:
        self.system = system
        torsions = len(system.torsions.axes)
        shapes = {SHIFT: (1, 3), TURN: (1, 3, 3), TORSIONS: (torsions, 1), CONFORMER: (1, 1)}
        self.numbers = Concatenated(shapes, moving=(SHIFT, TURN, TORSIONS), tangents={TURN: (1, 3)})

    def state(self, x: Tensor) -> State:
        """Returns the State of an array."""
        parts = self.numbers.split(x)
        return self.system.state(
            parts[SHIFT][:, 0], parts[TURN][:, 0], parts[TORSIONS][..., 0], parts[CONFORMER][:, 0, 0].round()
        )

    def array(self, state: State) -> Tensor:
        """Returns the array of a State."""
        angles = self.system.angles(state)[..., None]
        return self.numbers.joined({**state.fields, TORSIONS: angles})

    def forces(self, force: Tensor) -> Mapping[str, Tensor]:
        """Returns forces by field, those of torsions at their tokens."""
        parts = dict(self.numbers.forces(force))
        torsions = force.new_zeros(len(force), self.system.features.tokens, 1)
        parts[TORSIONS] = torsions.index_copy(1, torch.from_numpy(self.system.far_tokens), parts[TORSIONS])
        return parts


class PoseEnergy(Energy):
    """An energy of atoms as one of packed poses; its forces are along shift, turn and torsions.

    Arguments:
        energy: Energy of the atoms of the ligand.
        packing: How poses are arrays.
    """

    axes = 1
    invariant = False

    def __init__(self, energy: Energy, packing: PosePacking) -> None:
        self.inner, self.packing = energy, packing
        self.items = packing.numbers.width
        self.name = energy.name

    def _positions(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.items, 1):
            raise ShapeError(f"packed poses for the energy '{self.name}'", tuple(x.shape), f"(batch, {self.items}, 1)")
        return pose_positions(self.packing.system, self.packing.state(x))

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) in eV of packed poses (batch, width, 1)."""
        return self.inner.energy(self._positions(x))

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) in eV and forces (batch, width, 1) along the tangent vectors, in eV/Å and eV/rad, both detached."""
        with torch.no_grad():
            positions = self._positions(x)
            energy, force = self.inner.energy_and_force(positions)
            shift, turn, torsions = pulled_back(positions, force, self.packing.system.torsions.tree)
            forces = {SHIFT: shift[:, None], TURN: turn[:, None], TORSIONS: torsions[..., None]}
            return energy.to(x.dtype), self.packing.numbers.padded(forces).to(x.dtype)


def pose_moves(packing: PosePacking, *, step: float, leapfrog: int) -> ManifoldMoves:
    """Returns Hamiltonian moves of poses, with torsions and ring conformers that now and then are drawn anew."""
    return ManifoldMoves(
        ligand_process(),
        packing.numbers,
        step,
        leapfrog=leapfrog,
        masses=MASSES,
        jumps=JUMPS,
        free=(TORSIONS,),
        choices={CONFORMER: len(packing.system.geometries)},
    )
