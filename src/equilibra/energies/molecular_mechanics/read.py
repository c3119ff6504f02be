"""Reader of OpenMM systems: every force becomes a term, or an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equilibra.energies.molecular_mechanics.bonded import BondedTerm, HarmonicAngles, HarmonicBonds
from equilibra.energies.molecular_mechanics.born import GeneralisedBorn
from equilibra.energies.molecular_mechanics.cmap import CorrectionMaps, spline_coefficients
from equilibra.energies.molecular_mechanics.energy import MolecularMechanics
from equilibra.energies.molecular_mechanics.interpreted import (
    read_custom_bonds,
    read_custom_born,
    read_custom_pairs,
    read_custom_torsions,
)
from equilibra.energies.molecular_mechanics.parameters import PairTable, born_model, column, plain
from equilibra.energies.molecular_mechanics.torsions import Torsions
from equilibra.energies.openmm_system import ForceFieldConfig, make_openmm_system
from equilibra.errors import InputError
from equilibra.units import KJ_PER_MOL_EV, NM

SUPPORTED = (
    "HarmonicBondForce, HarmonicAngleForce, PeriodicTorsionForce, RBTorsionForce, CMAPTorsionForce, NonbondedForce, GBSAOBCForce, the CustomGBForce of "
    "OBC1, OBC2, GBn and GBn2, and the custom forces of CHARMM36, all without a cut-off"
)
"""What `read_openmm_system` reads, in words."""


def molecular_mechanics(topology: Any, config: ForceFieldConfig | None = None, *, compile: bool = False) -> MolecularMechanics:
    """Makes the energy of a molecule in a named force field.

    Arguments:
        topology: OpenMM or mdtraj `Topology` of a peptide with all hydrogens.
        config: The force field, without constraints; the default of `ForceFieldConfig` if None.
        compile: See `MolecularMechanics`.

    Raises:
        InputError: If the force field cannot describe the molecule, or constraints are asked for.
    """
    config = config or ForceFieldConfig()
    if hasattr(topology, "to_openmm"):
        topology = topology.to_openmm()
    return read_openmm_system(make_openmm_system(topology, config), name=config.name, compile=compile)


def read_openmm_system(system: Any, *, name: str = "molecular mechanics", compile: bool = False) -> MolecularMechanics:
    """Reads an OpenMM `System` without a cut-off as a batched energy.

    Forces that only serve dynamics (`CMMotionRemover`) are left out. Barostats, thermostats, external fields and anything else that is not read
    raise, because leaving them out would be another energy.

    Arguments:
        system: The OpenMM `System`; it is not changed.
        name: What the energy is called in messages.
        compile: See `MolecularMechanics`.

    Raises:
        InputError: If the system has constraints, virtual sites or no particles, or a force that is not read, which the message names.
    """
    items = system.getNumParticles()
    if items == 0:
        raise InputError("OpenMM system: got no particles, expected a molecule")
    if system.getNumConstraints():
        raise InputError(
            f"OpenMM system: got {system.getNumConstraints()} constraints, expected none, because a constrained bond has no energy; "
            "build the system with constraints=None and rigidWater=False"
        )
    if any(system.isVirtualSite(index) for index in range(items)):
        raise InputError("OpenMM system: got virtual sites, expected particles that all move on their own")
    content = _Content(items)
    for force in system.getForces():
        kind = type(force).__name__
        read = _READERS.get(kind)
        if read is None:
            raise InputError(f"OpenMM system: the force {kind} is not read (read are {SUPPORTED})")
        if kind not in _IGNORED and force.usesPeriodicBoundaryConditions():
            raise InputError(f"OpenMM system: {kind} uses periodic boundaries, expected a molecule in free space")
        read(content, force)
    return MolecularMechanics(items, content.all_bonded(), content.pairs.nonbonded(), content.born, name=name, compile=compile)


class _Content:
    """What has been read so far."""

    def __init__(self, items: int) -> None:
        self.pairs = PairTable(items)
        self.bonded: list[BondedTerm] = []
        self.born: GeneralisedBorn | None = None
        self._torsions: dict[tuple[int, ...], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def add_torsion(self, atoms: tuple[int, ...], even: NDArray[Any], odd: NDArray[Any]) -> None:
        """Adds P and R of one torsion in kJ/mol, at most 8 coefficients each, to what its four atoms have already."""
        key = min(atoms, atoms[::-1])
        known = self._torsions.setdefault(key, (np.zeros(_COEFFICIENTS), np.zeros(_COEFFICIENTS)))
        known[0][: len(even)] += even
        known[1][: len(odd)] += odd

    def all_bonded(self) -> list[BondedTerm]:
        """Returns the bonded terms, the torsions gathered."""
        if not self._torsions:
            return self.bonded
        even = np.array([even for even, _ in self._torsions.values()]).T * KJ_PER_MOL_EV
        odd = np.array([odd for _, odd in self._torsions.values()]).T * KJ_PER_MOL_EV
        torsions = Torsions(torch.tensor(list(self._torsions)).T.contiguous(), _trimmed(even), _trimmed(odd, least=0))
        return [*self.bonded, torsions]


_COEFFICIENTS = 8


def _trimmed(coefficients: NDArray[np.float64], least: int = 1) -> Tensor:
    """Drops the highest powers (power, torsions) that no torsion has, up to rounding of a phase of pi."""
    used = np.flatnonzero(np.abs(coefficients).max(1) > 1e-13)
    return torch.from_numpy(coefficients[: max(least, int(used[-1]) + 1 if len(used) else 0), :, None].copy())


def _read_bonds(content: _Content, force: Any) -> None:
    rows = [plain(force.getBondParameters(k)) for k in range(force.getNumBonds())]
    if rows:
        first, second, length, stiffness = zip(*rows, strict=True)
        atoms = torch.tensor([first, second])
        content.bonded.append(HarmonicBonds(atoms, column(length, NM), column(stiffness, KJ_PER_MOL_EV / NM**2)))


def _read_angles(content: _Content, force: Any) -> None:
    rows = [plain(force.getAngleParameters(k)) for k in range(force.getNumAngles())]
    if rows:
        first, middle, last, angle, stiffness = zip(*rows, strict=True)
        content.bonded.append(
            HarmonicAngles(torch.tensor([first, middle, last]), column(angle), column(stiffness, KJ_PER_MOL_EV))
        )


def _read_periodic_torsions(content: _Content, force: Any) -> None:
    from numpy.polynomial.chebyshev import cheb2poly

    for k in range(force.getNumTorsions()):
        *atoms, periodicity, phase, stiffness = plain(force.getTorsionParameters(k))
        if not 0 <= periodicity < _COEFFICIENTS:
            raise InputError(
                f"PeriodicTorsionForce: torsion {k} has the periodicity {periodicity}, expected 0 to {_COEFFICIENTS - 1}"
            )
        even = np.zeros(periodicity + 1)
        even[periodicity] = stiffness * np.cos(phase)
        even = cheb2poly(even)
        even[0] += stiffness
        # sin(n phi) = sin(phi) U_{n-1}(cos phi), and n U_{n-1} is the derivative of T_n
        odd = np.zeros(1)
        if periodicity:
            derivative = np.polynomial.polynomial.polyder(cheb2poly([0.0] * periodicity + [1.0]))
            odd = derivative * (stiffness * np.sin(phase) / periodicity)
        content.add_torsion(tuple(atoms), even, odd)


def _read_rb_torsions(content: _Content, force: Any) -> None:
    for k in range(force.getNumTorsions()):
        parameters = plain(force.getTorsionParameters(k))
        # a polynomial in cos(phi - pi) = -cos(phi)
        content.add_torsion(
            tuple(parameters[:4]), np.array(parameters[4:]) * np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]), np.zeros(1)
        )


def _read_maps(content: _Content, force: Any) -> None:
    maps, starts, cells = [], [], 0
    for k in range(force.getNumMaps()):
        size, energies = plain(force.getMapParameters(k))
        # OpenMM's list has the first angle running fastest
        grid = np.array(energies).reshape(size, size).T * KJ_PER_MOL_EV
        maps.append((size, torch.from_numpy(spline_coefficients(grid)).flatten(2)))
        starts.append(cells)
        cells += size * size
    rows = [plain(force.getTorsionParameters(k)) for k in range(force.getNumTorsions())]
    if rows:
        chosen = [row[0] for row in rows]
        content.bonded.append(
            CorrectionMaps(
                torch.tensor([row[1:] for row in rows]).T.contiguous(),
                column([maps[k][0] for k in chosen]),
                torch.tensor([[starts[k]] for k in chosen]),
                torch.cat([coefficients for _, coefficients in maps], 2),
            )
        )


def _read_nonbonded(content: _Content, force: Any) -> None:
    if force.getNonbondedMethod() != force.NoCutoff:
        raise InputError("NonbondedForce: got a cut-off, expected the method NoCutoff")
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise InputError("NonbondedForce: got parameter offsets, expected parameters that are numbers")
    charge, sigma, epsilon = np.array([plain(force.getParticleParameters(k)) for k in range(content.pairs.items)]).T
    exceptions = [plain(force.getExceptionParameters(k)) for k in range(force.getNumExceptions())]
    content.pairs.add_nonbonded(charge, sigma, epsilon, exceptions)


def _read_born(content: _Content, force: Any) -> None:
    if force.getNonbondedMethod() != force.NoCutoff:
        raise InputError("GBSAOBCForce: got a cut-off, expected the method NoCutoff")
    charge, radius, scale = np.array([plain(force.getParticleParameters(k)) for k in range(content.pairs.items)]).T
    _add_born(
        content,
        born_model(
            charge,
            radius - 0.009,
            scale * (radius - 0.009),
            dielectrics=(force.getSoluteDielectric(), force.getSolventDielectric()),
            surface=4.0 * np.pi * float(plain([force.getSurfaceAreaEnergy()])[0]),
            engulfing="added",
        ),
    )


def _add_born(content: _Content, model: GeneralisedBorn) -> None:
    if content.born is not None:
        raise InputError("OpenMM system: got two generalised-Born forces, expected one at most")
    content.born = model


def _ignore(content: _Content, force: Any) -> None:
    pass


_IGNORED = ("CMMotionRemover",)

_READERS: dict[str, Callable[[_Content, Any], None]] = {
    "HarmonicBondForce": _read_bonds,
    "HarmonicAngleForce": _read_angles,
    "PeriodicTorsionForce": _read_periodic_torsions,
    "RBTorsionForce": _read_rb_torsions,
    "CMAPTorsionForce": _read_maps,
    "NonbondedForce": _read_nonbonded,
    "GBSAOBCForce": _read_born,
    "CustomGBForce": lambda content, force: _add_born(content, read_custom_born(force)),
    "CustomTorsionForce": lambda content, force: content.bonded.append(read_custom_torsions(force)),
    "CustomNonbondedForce": lambda content, force: read_custom_pairs(content.pairs, force),
    "CustomBondForce": lambda content, force: read_custom_bonds(content.pairs, force),
    **dict.fromkeys(_IGNORED, _ignore),
}
