r"""Langevin dynamics of a protein whose frames are held: everything moves that they leave free, the geometry of N, CA and C too.

A frame says where CA is, which way N lies, and in which half-plane C lies. With :math:`r_N = n\,x` and :math:`r_C = a\,x + b\,y` in the axes of the
frame,

.. math:: dX_N\, dX_{CA}\, dX_C = n^2\, b \; dn\, da\, db \; dt\, dR, \qquad p(t, R) = \int e^{-u(X)}\, n^2\, b \; dn\, da\, db\, dY

for each residue, with the Haar measure dR and all other atoms Y. Since :math:`n^2 b` does not depend on the frame, the score of this density is the
average of the force and the torque on rigid residues (`forces`) over the conformations that share the frame:

.. math:: \nabla \ln p(t, R) = \left\langle \tfrac{1}{kT}\, (F, M) \right\rangle_{n, a, b, Y \mid t, R}

N therefore moves along a line and C in a plane, both through a CA that stays, under :math:`u - \ln(n^2 b)`; the last term is no force on the frames.

Note:
    Fixing N, CA and C altogether leaves in each force what the bonds of the present n, a and b pull: the peptide bonds are so stiff that this is most of it.
    The average then is that of a density of frames and backbone geometry, not of frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from equilibra.energies.openmm_system import Platform, make_context
from equilibra.errors import DivergenceError
from equilibra.geometry.backbone import frames_from_backbone
from equilibra.systems.protein.peptides import FloatArray, IntArray
from equilibra.units import KJ_PER_MOL_EV, KJ_PER_MOL_NM_EV_A, NM, thermal_energy

_MEASURE = 31
"""Force group of the logarithm of the measure."""

_OF_SYSTEM = (1 << _MEASURE) - 1
"""All force groups but that one, as bits."""

_PROJECTED = "free*v+dot(v,line)*line-dot(v,normal)*normal"
"""The part of a velocity that the frames leave free."""


class HeldFrames:
    """Langevin dynamics (BAOAB in its leapfrog form) of one OpenMM system with the frames of its residues held.

    Arguments:
        system: OpenMM `System` without constraints; copied.
        backbone: Atoms N, CA and C of each residue (L, 3), counted from 0; more columns are not looked at.
        temperature: Temperature in K.
        time_step: Time step in fs.
        friction: Friction in 1/ps.
        platform: OpenMM platform.
        seed: Seed of the noise, above 0.
    """

    def __init__(
        self,
        system: Any,
        backbone: IntArray,
        *,
        temperature: float = 300.0,
        time_step: float = 2.0,
        friction: float = 1.0,
        platform: Platform = "auto",
        seed: int = 1,
    ) -> None:
        import openmm

        self.backbone = np.asarray(backbone)[:, :3]
        self.temperature = temperature
        self.calls = 0
        held = openmm.XmlSerializer.clone(system)
        for ca in self.backbone[:, 1]:
            # a particle without mass stays where it is
            held.setParticleMass(int(ca), 0.0)
        for force in _measure(self.backbone, thermal_energy(temperature) / KJ_PER_MOL_EV):
            held.addForce(force)
        self._integrator = _integrator(temperature, 1e-3 * time_step, friction)
        self._integrator.setRandomNumberSeed(seed)
        self._seeds = np.random.default_rng(seed)
        self._context = make_context(held, self._integrator, platform)

    def samples(self, positions: FloatArray, count: int, *, every: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yields conformations of the same frames, the given one first.

        Arguments:
            positions: All atoms (A, 3), in Å.
            count: Number of conformations.
            every: Steps from one to the next.

        Yields:
            Positions (A, 3) in Å, and the forces of the system on them (A, 3) in eV/Å, without that of the measure.

        Raises:
            DivergenceError: If a position or a force left the finite numbers.
        """
        start = np.asarray(positions, dtype=np.float64)
        if count > 1:
            self._hold(start)
        self._context.setPositions(start / NM)
        self._context.setVelocitiesToTemperature(self.temperature, int(self._seeds.integers(1, 2**31 - 1)))
        for index in range(count):
            if index:
                self._integrator.step(every)
                self.calls += every
            self.calls += 1
            yield self._state()

    def _hold(self, positions: FloatArray) -> None:
        """Tells the integrator the line of each N and the plane of each C."""
        n, ca, c = (torch.from_numpy(positions[self.backbone[:, column]]) for column in range(3))
        axes = frames_from_backbone(n, ca, c)[1].numpy()
        free, line, normal = np.ones_like(positions), np.zeros_like(positions), np.zeros_like(positions)
        free[self.backbone[:, 0]] = 0.0
        line[self.backbone[:, 0]] = axes[:, :, 0]
        normal[self.backbone[:, 2]] = axes[:, :, 2]
        for name, values in (("free", free), ("line", line), ("normal", normal)):
            self._integrator.setPerDofVariableByName(name, values.tolist())

    def _state(self) -> tuple[FloatArray, FloatArray]:
        from openmm import unit

        state = self._context.getState(positions=True, forces=True, groups=_OF_SYSTEM)
        x = np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)) * NM
        force = np.array(state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer))
        if not (np.isfinite(x).all() and np.isfinite(force).all()):
            raise DivergenceError("dynamics with held frames left the finite numbers; use a smaller time step")
        return x, force * KJ_PER_MOL_NM_EV_A


def _measure(backbone: IntArray, kt: float) -> list[Any]:
    """Returns the forces of the energy -kT ln(n² b) of each residue, for kT in kJ/mol."""
    import openmm

    length = openmm.CustomBondForce(f"-2*{kt!r}*log(r)")
    height = openmm.CustomCompoundBondForce(3, f"-{kt!r}*log(distance(p2,p3)*sin(angle(p1,p2,p3)))")
    for n, ca, c in backbone.tolist():
        length.addBond(ca, n)
        height.addBond((n, ca, c))
    for force in (length, height):
        force.setForceGroup(_MEASURE)
    return [length, height]


def _integrator(temperature: float, step: float, friction: float) -> Any:
    """Makes the integrator, for a step in ps and a friction in 1/ps, with its variables not yet set."""
    import openmm

    made = openmm.CustomIntegrator(step)
    made.addGlobalVariable("kT", thermal_energy(temperature) / KJ_PER_MOL_EV)
    made.addGlobalVariable("keep", math.exp(-friction * step))
    made.addGlobalVariable("kick", math.sqrt(-math.expm1(-2.0 * friction * step)))
    for name in ("free", "line", "normal"):
        made.addPerDofVariable(name, 0.0)
    made.addUpdateContextState()
    made.addComputePerDof("v", "v+dt*f/m")
    made.addComputePerDof("v", _PROJECTED)
    made.addComputePerDof("x", "x+0.5*dt*v")
    made.addComputePerDof("v", "keep*v+kick*sqrt(kT/m)*gaussian")
    made.addComputePerDof("v", _PROJECTED)
    made.addComputePerDof("x", "x+0.5*dt*v")
    return made
