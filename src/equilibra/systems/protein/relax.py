r"""Relaxation of all-atom structures: the energy is minimised with the backbone held by springs.

First, with the backbone fixed, only bonds and a soft repulsion act, so that atoms on top of each other part gently; then, by L-BFGS,

.. math:: E(X) + \tfrac12 k \sum_{a \in \{N, CA, C, O, CB\}} |X_a - X_a^0|^2

is minimised. With the default :math:`k` = 0.5 eV/Å² (11.5 kcal/mol/Å²) an atom pulled at with kT/Å at 300 K yields 0.05 Å. What moved, and what is
still wrong, is reported for each structure; none is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from equilibra.energies.openmm_system import ForceFieldConfig, Platform, make_context, make_openmm_system
from equilibra.errors import ConfigError, ShapeError
from equilibra.systems.protein.all_atom_checks import STRETCH, Checks
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray
from equilibra.units import KJ_PER_MOL_EV, NM

Status = Literal["relaxed", "suspect", "failed"]

_SPRINGS = 1
"""Force group of the springs."""

_RADII = {"H": 1.1, "C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}
"""Radii of the soft repulsion, in Å (Bondi); pairs may come as near as 0.75 of their sum, which leaves room for hydrogen bonds."""

_SOFT_STIFFNESS = 5.0
"""Constant of the soft repulsion, in eV/Å²: an overlap of 2 Å costs 10 eV."""


@dataclass(frozen=True, kw_only=True)
class RelaxConfig:
    """How structures are relaxed.

    Attributes:
        force_field: A key of `FORCE_FIELDS`.
        stiffness: Constant k of the springs on N, CA, C, O and CB, in eV/Å².
        tolerance: Root mean square force at which the minimisation ends, in eV/Å.
        iterations: Most iterations; 0 for no bound.
        platform: OpenMM platform, see `Platform`.
    """

    force_field: str = "amber14-obc2"
    stiffness: float = 0.5
    tolerance: float = 0.03
    iterations: int = 500
    platform: Platform = "auto"

    def __post_init__(self) -> None:
        ForceFieldConfig(name=self.force_field)
        if not self.stiffness >= 0.0 or not self.tolerance > 0.0 or self.iterations < 0:
            raise ConfigError(
                f"RelaxConfig: got stiffness {self.stiffness}, tolerance {self.tolerance}, iterations {self.iterations}; expected a stiffness and "
                "iterations of zero or more, and a positive tolerance"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Relaxation:
    """One relaxed structure.

    Attributes:
        positions: All atoms (A, 3), in Å; those that came in where the relaxation failed.
        status: `relaxed`; `suspect` where something is wrong with the result; `failed` where there is no result.
        reason: What is wrong, in words; empty where nothing is.
        energy_before: Energy of the structure that came in, in eV, without the springs.
        energy_after: Energy of the result, in eV, without the springs.
        ca_rmsd: Root mean square displacement of the C-alpha atoms, not superposed, in Å.
        ca_max: Largest displacement of a C-alpha, in Å.
        heavy_max: Largest displacement of a heavy atom, in Å.
        clashes_before: Pairs of heavy atoms that clash in the structure that came in.
        clashes_after: Pairs of heavy atoms that clash in the result.
        inverted: Residues of the result with a stereocentre of the wrong hand.
        stretched: Bonds of heavy atoms in the result that are off by more than `STRETCH`: side chains that pass through rings, for example.
        close_sulfurs: Pairs of sulfurs of reduced cysteines that are close enough for a disulfide; they stay reduced.
    """

    positions: FloatArray
    status: Status
    reason: str
    energy_before: float
    energy_after: float
    ca_rmsd: float
    ca_max: float
    heavy_max: float
    clashes_before: int
    clashes_after: int
    inverted: int
    stretched: int
    close_sulfurs: int


class Relaxer:
    """Relaxes structures of one protein.

    Arguments:
        protein: Its all-atom form.
        config: How; the default of `RelaxConfig` if None.
    """

    def __init__(self, protein: AllAtomProtein, config: RelaxConfig | None = None) -> None:
        self.protein = protein
        self.config = config or RelaxConfig()
        self.checks = Checks(protein)
        given = np.concatenate((protein.backbone.flatten(), protein.index("CB")))
        self.held = np.sort(given[given >= 0])

    def __call__(self, positions: FloatArray) -> Relaxation:
        """Relaxes one structure (A, 3) in Å; a failure is reported, not raised.

        Raises:
            ShapeError: If the structure has other atoms.
        """
        start = np.asarray(positions, dtype=np.float64)
        if start.shape != (self.protein.atoms, 3):
            raise ShapeError("all-atom positions", start.shape, (self.protein.atoms, 3))
        if not np.isfinite(start).all():
            return self.failure(start, "the structure is not finite")
        import openmm

        try:
            before, end, after = self._minimised(start)
        except openmm.OpenMMException as error:
            return self.failure(start, f"the minimisation stopped: {error}")
        if not (np.isfinite(end).all() and np.isfinite(after)):
            return self.failure(start, "the minimisation left the finite numbers", before)
        return self._report(start, end, before, after)

    def failure(self, positions: FloatArray, reason: str, energy: float = float("nan")) -> Relaxation:
        """Returns the report of a structure that could not be relaxed; it keeps its positions (A, 3)."""
        clashes = self.checks.clashes(positions) if np.isfinite(positions).all() else 0
        return Relaxation(
            positions=positions,
            status="failed",
            reason=reason,
            energy_before=energy,
            energy_after=float("nan"),
            ca_rmsd=0.0,
            ca_max=0.0,
            heavy_max=0.0,
            clashes_before=clashes,
            clashes_after=clashes,
            inverted=0,
            stretched=0,
            close_sulfurs=0,
        )

    def _report(self, start: FloatArray, end: FloatArray, before: float, after: float) -> Relaxation:
        moved = np.sqrt(((end - start) ** 2).sum(1))
        ca = moved[self.protein.backbone[:, 1]]
        clashes, inverted, stretched = self.checks.clashes(end), self.checks.inverted(end), self.checks.stretched(end)
        residues = ", ".join(str(residue + 1) for residue in inverted)
        wrong = [
            f"{clashes} pairs of atoms clash" if clashes else "",
            f"stereocentres of the wrong hand in residues {residues}" if residues else "",
            f"{stretched} bonds are off by more than {STRETCH} Å" if stretched else "",
        ]
        reason = "; ".join(text for text in wrong if text)
        return Relaxation(
            positions=end,
            status="suspect" if reason else "relaxed",
            reason=reason,
            energy_before=before,
            energy_after=after,
            ca_rmsd=float(np.sqrt((ca**2).mean())),
            ca_max=float(ca.max()),
            heavy_max=float(moved[self.protein.heavy].max()),
            clashes_before=self.checks.clashes(start),
            clashes_after=clashes,
            inverted=len(inverted),
            stretched=stretched,
            close_sulfurs=self.checks.close_sulfurs(end),
        )

    def _minimised(self, start: FloatArray) -> tuple[float, FloatArray, float]:
        """Returns the energy in eV before, the positions in Å after, and the energy after."""
        import openmm

        context, springs = self._stiff
        for row, atom in enumerate(self.held):
            springs.setParticleParameters(row, int(atom), start[atom] / NM)
        springs.updateParametersInContext(context)
        context.setPositions(start / NM)
        before = self._energy(context)
        tolerance, iterations = self.config.tolerance / KJ_PER_MOL_EV * NM, self.config.iterations
        self._soft.setPositions(start / NM)
        openmm.LocalEnergyMinimizer.minimize(self._soft, 10.0 * tolerance, iterations)
        context.setPositions(self._soft.getState(positions=True).getPositions())
        openmm.LocalEnergyMinimizer.minimize(context, tolerance, iterations)
        return before, self._positions(context), self._energy(context)

    @staticmethod
    def _positions(context: Any) -> FloatArray:
        from openmm import unit

        positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        return np.array(positions, dtype=np.float64) * NM

    @staticmethod
    def _energy(context: Any) -> float:
        from openmm import unit

        state = context.getState(energy=True, groups={0})
        return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)) * KJ_PER_MOL_EV

    @cached_property
    def _system(self) -> Any:
        return make_openmm_system(self.protein.topology, ForceFieldConfig(name=self.config.force_field))

    @cached_property
    def _stiff(self) -> tuple[Any, Any]:
        """The OpenMM context of the force field with springs, and the force of the springs."""
        import openmm

        system = openmm.XmlSerializer.clone(self._system)
        springs = openmm.CustomExternalForce("0.5*stiffness*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
        springs.addGlobalParameter("stiffness", self.config.stiffness / KJ_PER_MOL_EV * NM**2)
        for name in ("x0", "y0", "z0"):
            springs.addPerParticleParameter(name)
        for atom in self.held:
            springs.addParticle(int(atom), (0.0, 0.0, 0.0))
        springs.setForceGroup(_SPRINGS)
        system.addForce(springs)
        return self._context(system), springs

    @cached_property
    def _soft(self) -> Any:
        """The OpenMM context of bonds, angles, torsions and a soft repulsion, the backbone fixed."""
        import openmm

        system = openmm.XmlSerializer.clone(self._system)
        for index in reversed(range(system.getNumForces())):
            if not isinstance(
                system.getForce(index), openmm.HarmonicBondForce | openmm.HarmonicAngleForce | openmm.PeriodicTorsionForce
            ):
                system.removeForce(index)
        repulsion = openmm.CustomNonbondedForce("0.5*softness*max(0, 0.75*(radius1+radius2)-r)^2")
        repulsion.addGlobalParameter("softness", _SOFT_STIFFNESS / KJ_PER_MOL_EV * NM**2)
        repulsion.addPerParticleParameter("radius")
        for atom in self.protein.topology.atoms():
            repulsion.addParticle((_RADII[atom.element.symbol] / NM,))
        for first, second in self.checks.near:
            repulsion.addExclusion(first, second)
        repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
        repulsion.setCutoffDistance(1.5 * max(_RADII.values()) / NM)
        system.addForce(repulsion)
        # a particle without mass stays where it is
        for atom in self.held:
            system.setParticleMass(int(atom), 0.0)
        return self._context(system)

    def _context(self, system: Any) -> Any:
        import openmm

        return make_context(system, openmm.VerletIntegrator(0.001), self.config.platform)
