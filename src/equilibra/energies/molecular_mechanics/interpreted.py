"""Custom forces of OpenMM that are read: recognised by their expressions, letter for letter up to spaces, and by the names of their parameters.

These are the generalised-Born models OBC1, OBC2, GBn and GBn2 as `openmm.app` writes them, and CHARMM36's impropers, pair-specific Lennard-Jones energies
and their 1-4 exceptions. Any other expression is refused: evaluating it as something similar would be another energy.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from equilibra.energies.molecular_mechanics.born import GeneralisedBorn
from equilibra.energies.molecular_mechanics.parameters import PairTable, born_model, column, plain
from equilibra.energies.molecular_mechanics.torsions import HarmonicImpropers
from equilibra.errors import InputError
from equilibra.units import KJ_PER_MOL_EV

_NUMBER = r"([-+]?\d+\.?\d*(?:e[-+]?\d+)?)"
_SINGLE, _EVERY_PAIR = 0, 2

_OVERLAP = "select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0);U=r+sr2;L=max(or1,D);D=abs(r-sr2)"
_INTEGRAL = re.compile(re.escape(_OVERLAP))
_INTEGRAL_WITH_NECK = re.compile(
    re.escape(
        "Ivdw+neckScale*Ineck;Ineck=step(radius1+radius2+neckCut-r)*getm0(radindex1,radindex2)/(1+100*(r-getd0(radindex1,radindex2))^2+"
        f"0.3*1000000*(r-getd0(radindex1,radindex2))^6);Ivdw={_OVERLAP};radius1=or1+offset;radius2=or2+offset;"
    )
    + f"neckScale={_NUMBER};neckCut={_NUMBER};offset={_NUMBER}"
)
_BORN_RADII = {
    "OBC1": re.compile(
        rf"1/\(1/or-tanh\({_NUMBER}\*psi\+{_NUMBER}\*psi\^3\)/radius\);psi=I\*or;radius=or\+offset;offset={_NUMBER}"
    ),
    "OBC2": re.compile(
        rf"1/\(1/or-tanh\(psi-{_NUMBER}\*psi\^2\+{_NUMBER}\*psi\^3\)/radius\);psi=I\*or;radius=or\+offset;offset={_NUMBER}"
    ),
    "GBn": re.compile(
        rf"1/\(1/or-tanh\({_NUMBER}\*psi-{_NUMBER}\*psi\^2\+{_NUMBER}\*psi\^3\)/radius\);psi=I\*or;radius=or\+offset;offset={_NUMBER}"
    ),
    "GBn2": re.compile(
        rf"1/\(1/or-tanh\(alpha\*psi-beta\*psi\^2\+gamma\*psi\^3\)/radius\);psi=I\*or;radius=or\+offset;offset={_NUMBER}"
    ),
}
_CONSTANTS = rf";solventDielectric={_NUMBER};soluteDielectric={_NUMBER};kappa=0;offset={_NUMBER}"
_SELF = re.compile(rf"-0\.5\*{_NUMBER}\*\(1/soluteDielectric-1/solventDielectric\)\*charge\^2/B{_CONSTANTS}")
_SURFACE = re.compile(rf"{_NUMBER}\*\(radius\+0\.14\)\^2\*\(radius/B\)\^6;radius=or\+offset{_CONSTANTS}")
_PAIR = re.compile(
    rf"-{_NUMBER}\*\(1/soluteDielectric-1/solventDielectric\)\*charge1\*charge2/f;f=sqrt\(r\^2\+B1\*B2\*exp\(-r\^2/\(4\*B1\*B2\)\)\){_CONSTANTS}"
)
_IMPROPER = re.compile(r"k\*min\(dtheta,2\*pi-dtheta\)\^2;dtheta=abs\(theta-theta0\);pi=3\.14159265\d*")
_PLAIN_IMPROPER = re.compile(r"k\*\(theta-theta0\)\^2;?")
_LENNARD_JONES = re.compile(r"acoef\(type1,type2\)/r\^12-bcoef\(type1,type2\)/r\^6;?")
_EXCEPTION = re.compile(rf"{_NUMBER}\*epsilon\*\(\(sigma/r\)\^12-\(sigma/r\)\^6\);?")


def _refuse(force: Any, expression: str) -> NoReturn:
    known = {
        "CustomGBForce": "the models OBC1, OBC2, GBn and GBn2 of openmm.app, without salt or a cut-off",
        "CustomTorsionForce": "CHARMM36's harmonic impropers",
        "CustomNonbondedForce": "CHARMM36's Lennard-Jones energies",
        "CustomBondForce": "CHARMM36's 1-4 Lennard-Jones energies",
    }
    kind = type(force).__name__
    short = expression if len(expression) <= 120 else expression[:117] + "..."
    raise InputError(f"OpenMM system: a {kind} with '{short}' is not read; of this class only {known[kind]} are")


def _match(pattern: re.Pattern[str], expression: str) -> list[float] | None:
    """Returns the numbers of an expression that has the form of the pattern, else None."""
    found = pattern.fullmatch(re.sub(r"\s", "", expression))
    return None if found is None else [float(number) for number in found.groups()]


def _table(force: Any, index: int) -> NDArray[np.float64]:
    """Returns a two-dimensional tabulated function, the first argument along the first axis."""
    first, second, values = force.getTabulatedFunction(index).getFunctionParameters()
    return np.array(values).reshape(second, first).T


def _tables(force: Any, names: tuple[str, str], expression: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the two discrete tables with the names, and refuses anything else."""
    found = {force.getTabulatedFunctionName(k): k for k in range(force.getNumTabulatedFunctions())}
    kinds = {type(force.getTabulatedFunction(k)).__name__ for k in found.values()}
    if set(found) != set(names) or kinds != {"Discrete2DFunction"}:
        _refuse(force, expression)
    return _table(force, found[names[0]]), _table(force, found[names[1]])


def read_custom_born(force: Any) -> GeneralisedBorn:
    """Reads the CustomGBForce of OBC1, OBC2, GBn or GBn2.

    Raises:
        InputError: If it is any other model.
    """
    values = [force.getComputedValueParameters(k) for k in range(force.getNumComputedValues())]
    terms = [force.getEnergyTermParameters(k) for k in range(force.getNumEnergyTerms())]
    whole = "; ".join(expression for expression, _ in terms)
    shape = [(name, kind) for name, _, kind in values]
    if (
        shape != [("I", _EVERY_PAIR), ("B", _SINGLE)]
        or force.getNumGlobalParameters()
        or force.getNumExclusions()
        or force.getNonbondedMethod() != force.NoCutoff
    ):
        _refuse(force, "; ".join(expression for _, expression, _ in values))
    names = [force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())]
    integral, radii = values[0][1], values[1][1]
    neck_numbers = _match(_INTEGRAL_WITH_NECK, integral)
    if neck_numbers is None and _match(_INTEGRAL, integral) is None:
        _refuse(force, integral)
    model, numbers = next(
        ((model, found) for model, pattern in _BORN_RADII.items() if (found := _match(pattern, radii)) is not None), ("", [])
    )
    if not model:
        _refuse(force, radii)
    correction_names = ["alpha", "beta", "gamma"] if model == "GBn2" else []
    index_names = [] if neck_numbers is None else ["radindex"]
    if names != ["charge", "or", "sr", *correction_names, *index_names]:
        _refuse(force, f"parameters {', '.join(names)}")
    table = np.array([plain(force.getParticleParameters(k)) for k in range(force.getNumParticles())])

    *coefficients, offset = numbers
    offsets = [offset]
    correction: tuple[Any, Any, Any]
    if model == "GBn2":
        correction = (table[:, 3], table[:, 4], table[:, 5])
    elif model == "OBC1":
        correction = (coefficients[0], 0.0, coefficients[1])
    elif model == "OBC2":
        correction = (1.0, coefficients[0], coefficients[1])
    else:
        correction = (coefficients[0], coefficients[1], coefficients[2])

    neck = None
    if neck_numbers is not None:
        position, height = _tables(force, ("getd0", "getm0"), integral)
        index = table[:, -1].astype(int)
        scale, reach, neck_offset = neck_numbers
        offsets.append(neck_offset)
        neck = (scale * height[np.ix_(index, index)], position[np.ix_(index, index)], reach)

    surface = 0.0
    own = pair = None
    constants = []
    for expression, kind in terms:
        if kind == _SINGLE and own is None and (found := _match(_SELF, expression)) is not None:
            own, *rest = found
        elif kind == _EVERY_PAIR and pair is None and (found := _match(_PAIR, expression)) is not None:
            pair, *rest = found
        elif kind == _SINGLE and not surface and (found := _match(_SURFACE, expression)) is not None:
            surface, *rest = found
        else:
            _refuse(force, expression)
        constants.append(tuple(rest[:2]))
        offsets.append(rest[2])
    # one Coulomb constant, one pair of permittivities, one offset
    if own is None or own != pair or len(set(constants)) != 1 or not np.allclose(offsets, offset, rtol=1e-12):
        _refuse(force, whole)
    solvent, solute = constants[0]
    return born_model(
        table[:, 0],
        table[:, 1],
        table[:, 2],
        dielectrics=(solute, solvent),
        surface=surface,
        engulfing="ignored",
        offset=offset,
        coulomb=own,
        correction=correction,
        neck=neck,
    )


def read_custom_torsions(force: Any) -> HarmonicImpropers:
    """Reads CHARMM36's impropers.

    Raises:
        InputError: If the force is anything else.
    """
    names = [force.getPerTorsionParameterName(k) for k in range(force.getNumPerTorsionParameters())]
    expression = force.getEnergyFunction()
    periodic = _match(_IMPROPER, expression) is not None
    if (
        not (periodic or _match(_PLAIN_IMPROPER, expression) is not None)
        or names != ["k", "theta0"]
        or force.getNumGlobalParameters()
    ):
        _refuse(force, expression)
    rows = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
    atoms = torch.tensor([row[:4] for row in rows], dtype=torch.int64).reshape(-1, 4).T.contiguous()
    stiffness, angle = np.array([row[4] for row in rows]).reshape(-1, 2).T.tolist()
    return HarmonicImpropers(atoms, column(angle), column(stiffness, KJ_PER_MOL_EV), periodic)


def read_custom_pairs(pairs: PairTable, force: Any) -> None:
    """Adds CHARMM36's Lennard-Jones energies of pairs of atom types.

    Raises:
        InputError: If the force is anything else, or has a cut-off.
    """
    names = [force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())]
    expression = force.getEnergyFunction()
    if (
        _match(_LENNARD_JONES, expression) is None
        or names != ["type"]
        or force.getNumGlobalParameters()
        or force.getNumInteractionGroups()
        or force.getNumComputedValues()
        or force.getNonbondedMethod() != force.NoCutoff
    ):
        _refuse(force, expression)
    repulsion, dispersion = _tables(force, ("acoef", "bcoef"), expression)
    types = np.array([force.getParticleParameters(k)[0] for k in range(force.getNumParticles())]).round().astype(int)
    interacting = np.ones((len(types), len(types)))
    for k in range(force.getNumExclusions()):
        i, j = force.getExclusionParticles(k)
        interacting[i, j] = interacting[j, i] = 0.0
    pairs.add_lennard_jones(repulsion[np.ix_(types, types)] * interacting, dispersion[np.ix_(types, types)] * interacting)


def read_custom_bonds(pairs: PairTable, force: Any) -> None:
    """Adds CHARMM36's 1-4 Lennard-Jones energies to the pairs.

    Raises:
        InputError: If the force is anything else.
    """
    names = [force.getPerBondParameterName(k) for k in range(force.getNumPerBondParameters())]
    expression = force.getEnergyFunction()
    numbers = _match(_EXCEPTION, expression)
    if numbers is None or names != ["sigma", "epsilon"] or force.getNumGlobalParameters():
        _refuse(force, expression)
    repulsion, dispersion = np.zeros((pairs.items, pairs.items)), np.zeros((pairs.items, pairs.items))
    for k in range(force.getNumBonds()):
        i, j, (sigma, epsilon) = force.getBondParameters(k)
        for a, b in ((i, j), (j, i)):
            repulsion[a, b] += numbers[0] * epsilon * sigma**12
            dispersion[a, b] += numbers[0] * epsilon * sigma**6
    pairs.add_lennard_jones(repulsion, dispersion)
