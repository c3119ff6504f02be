"""Model systems with known answers. All energies are dimensionless: kT = 1, so that u(x) is the energy itself."""

from equilibra.energies.analytic.gaussian_mixture import GaussianMixtureEnergy, gmm40
from equilibra.energies.analytic.harmonic import HarmonicCluster, HarmonicCrystal
from equilibra.energies.analytic.mueller_brown import MuellerBrown
from equilibra.energies.analytic.particles import (
    DW4_REFERENCE,
    LJ13_REFERENCE,
    DoubleWellParticles,
    LennardJonesCluster,
    PairCluster,
    Reference,
    dw4,
    lj13,
    lj55,
)
from equilibra.energies.analytic.solved import SolvedEnergy
from equilibra.energies.analytic.wells import DoubleWell, ManyWell, many_well_5, many_well_32

__all__ = [
    "DW4_REFERENCE",
    "LJ13_REFERENCE",
    "DoubleWell",
    "DoubleWellParticles",
    "GaussianMixtureEnergy",
    "HarmonicCluster",
    "HarmonicCrystal",
    "LennardJonesCluster",
    "ManyWell",
    "MuellerBrown",
    "PairCluster",
    "Reference",
    "SolvedEnergy",
    "dw4",
    "gmm40",
    "lj13",
    "lj55",
    "many_well_5",
    "many_well_32",
]
