"""Placement, relaxation against ASE's own, and the probability of success."""

from math import comb

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from equilibra.errors import ConfigError
from equilibra.systems.adsorbate.energy import whole_atoms
from equilibra.systems.adsorbate.placement import Relaxed, place, relax, success
from equilibra.systems.adsorbate.sites import Sites
from equilibra.systems.adsorbate.system import AdsorbateSystem


def test_relaxed_structures_are_those_of_ase():
    system = AdsorbateSystem.of("Cu(100) 2x2x3", "O")
    starts = place(system, 3, "random", seed=4)
    found = relax(system, starts, "emt", force=0.01)
    assert found.converged.all()
    assert (found.calls > 3).all()
    atoms = whole_atoms(system, starts[0] + np.array([0.0, 0.0, system.level]))
    atoms.set_constraint(FixAtoms(range(len(system.slab))))
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.01)
    assert float(found.energies[0]) == pytest.approx(atoms.get_potential_energy(), abs=2e-3)


def test_heuristic_starts_are_on_sites():
    system = AdsorbateSystem.of("Cu(100) 2x2x3", "CO")
    sites = Sites(system.slab)
    count = sum(len(site.points) for site in sites.kinds)
    x = place(system, count, "heuristic", seed=0, sites=sites)
    middle = x.mean(1) + np.array([0.0, 0.0, system.level])
    _, gap = sites.nearest(middle)
    assert gap.max() < 1e-6
    assert len({tuple(row) for row in middle[:, :2].round(3)}) == count
    with pytest.raises(ConfigError, match="expected one of random, heuristic"):
        place(system, 1, "best", seed=0)


def test_probability_of_success():
    energies = np.array([0.0, 0.05, 0.3, 0.4, -1.0, 0.5])
    found = Relaxed(np.zeros((6, 1, 3)), energies, np.ones(6), np.array([False] * 4 + [True, False]), np.ones(6, bool))
    got = success(found, 0.0, ks=(1, 2, 6, 10))
    assert got == pytest.approx({1: 2 / 6, 2: 1 - comb(4, 2) / comb(6, 2), 6: 1.0})
