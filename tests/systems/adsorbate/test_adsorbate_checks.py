"""Walls, checks, sites and anomalies of known structures; images of molecules; what a calculator may do wrong."""

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT

from equilibra.energies.adapters import AseEnergy
from equilibra.energies.confinement import ConfinedEnergy, PlanarDistance
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.held_atoms import HeldAtomsEnergy
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.energies.walkers import evaluate
from equilibra.geometry.periodic import minimum_image_distance
from equilibra.systems.adsorbate.anomalies import anomalies
from equilibra.systems.adsorbate.domain import absolute
from equilibra.systems.adsorbate.energy import adsorbate_energy, whole_atoms
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.adsorbate.validity import check
from equilibra.systems.adsorbate.whole import whole_molecules
from equilibra.systems.ensemble import WALKERS


def on_platinum(adsorbate="O", size=(2, 2, 3)):
    return AdsorbateSystem.of(fcc111("Pt", size, vacuum=10.0), adsorbate)


@pytest.mark.parametrize("plane", [((5.0, 0.0), (1.2, 4.0)), ((3.0, 0.0), (14.5, 4.0))])
def test_nearest_images_in_skew_planes(plane):
    cell = torch.zeros(3, 3, dtype=torch.float64)
    cell[:2, :2] = torch.tensor(plane, dtype=torch.float64)
    d = 20.0 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = minimum_image_distance(torch.zeros_like(d), d, cell, pbc=(True, True, False))
    assert torch.allclose(PlanarDistance(cell[:2, :2])(d), exact, atol=1e-6)


def test_forces_of_walls_are_their_gradient():
    system = on_platinum("CO")
    energy = adsorbate_energy(system, "emt")
    x = torch.tensor(system.placed(4, seed=1))
    x[0, 1, 2] += 4.0  # a torn molecule
    x[1, :, 2] -= 5.0  # in the surface
    walls = energy.walls(x)
    assert (walls[:2] > 0.1).all()
    assert (walls[2:] == 0.0).all()
    u, force = energy.energy_and_force(x)
    moving = x.clone().requires_grad_(True)
    again = energy.energy(moving)
    assert torch.allclose(u, again.detach(), atol=1e-10)
    (gradient,) = torch.autograd.grad(again.sum(), moving)
    assert torch.allclose(force, -gradient, atol=1e-8)


def test_emt_by_name_and_by_ase_are_one_energy():
    system = on_platinum("CO")
    x = torch.tensor(system.placed(3, seed=2))
    built, force = adsorbate_energy(system, "emt").energy_and_force(x)
    other, slow = adsorbate_energy(system, "ase.calculators.emt:EMT").energy_and_force(x)
    assert torch.allclose(built, other, atol=1e-9)
    assert torch.allclose(force, slow, atol=1e-9)


class Moody(EMT):
    """A calculator that fails where atoms are high."""

    def calculate(self, atoms=None, *args, **kwargs):
        if atoms.positions[-1, 2] > atoms.positions[-2, 2] + 3.0:
            raise RuntimeError("too high for me")
        super().calculate(atoms, *args, **kwargs)


def test_a_calculator_that_fails_is_counted_and_goes_on():
    system = on_platinum("O")
    atoms = whole_atoms(system, np.array([[0.0, 0.0, system.level]]))
    inner = AseEnergy(atoms, Moody(), name="moody", invariant=False, tolerant=True)
    held = HeldAtomsEnergy(inner, torch.tensor(atoms.positions.copy()), [len(atoms) - 1])
    energy = ConfinedEnergy(held, system.window, system.plane, origin=system.level)
    x = torch.zeros(3, 1, 3, dtype=torch.float64)
    x[1, 0, 2] = 4.0
    walkers = evaluate(x, ReducedEnergy(energy))
    assert torch.isfinite(walkers.u).tolist() == [True, False, True]
    assert energy.failures == {"RuntimeError: too high for me": 1}


def test_checks_say_what_is_wrong():
    system = on_platinum("CO")
    good = system.placed(1, seed=0)[0] + np.array([0.0, 0.0, system.level])
    torn, gone, sunk, nothing = (good.copy() for _ in range(4))
    torn[1] += np.array([0.0, 0.0, 1.2])
    gone[:, 2] += 8.0
    sunk[0] = system.slab.positions[-1] + np.array([0.3, 0.0, 0.0])
    nothing[0, 0] = np.nan
    ensemble = AdsorbateEnsemble.from_frames(system, np.stack([good, torn, gone, sunk, nothing]))
    assert len(ensemble) == 1
    reasons = ensemble.rejected_reasons
    assert "expected a bond of at most" in reasons[0]
    assert "above the surface, expected" in reasons[1]
    assert "is within another atom" in reasons[2]
    assert "not a finite number" in reasons[3]


@pytest.mark.parametrize("name", ["CO", "OH", "CH3"])
def test_bonds_may_lean_on_their_wall_and_not_collapse(name):
    """The wall is part of the energy: a law that leans on it has much of its mass just behind, and would be cut where it is dense."""
    system = on_platinum(name)
    good = system.placed(1, seed=0)[0] + np.array([0.0, 0.0, system.level + 1.0])
    i, j = system.bonds[0]
    along = (good[j] - good[i]) / np.linalg.norm(good[j] - good[i])
    wall = system.longest_bonds[0]
    made = []
    for length in (wall - 0.05, wall + 0.25, wall + 0.35, 0.2):
        x = good.copy()
        x[j] = x[i] + length * along
        made.append(x)
    found = AdsorbateEnsemble.from_frames(system, np.stack(made))
    assert len(found) == 2
    assert f"expected a bond of at most {wall + 0.3:.2f}" in found.rejected_reasons[0]
    assert "within another atom" in found.rejected_reasons[1]


def test_a_law_that_leans_on_the_wall_of_a_bond_passes_the_checks():
    """EMT pulls hydroxyl apart: an exact chain of its own law at 600 K is as good as whole within the checks."""
    system = on_platinum("OH")
    reduced = ReducedEnergy.at(adsorbate_energy(system, "emt"), 600.0)
    engine = ParallelTempering(reduced, geometric_betas(2.5, 3), 16, HamiltonianMoves(step=0.02, leapfrog=8), moves_per_sweep=1)
    generator = torch.Generator().manual_seed(0)
    state = engine.burn_in(
        engine.start(torch.tensor(system.placed(48, seed=0)), generator=generator), sweeps=40, generator=generator
    )
    x = torch.cat([kept.x[0] for kept in engine.run(state, sweeps=40, every=4, generator=generator)])
    behind = (x[:, 1] - x[:, 0]).norm(dim=-1).numpy() > system.longest_bonds[0]
    assert behind.mean() > 0.2
    assert check(absolute(system, x.numpy()), system).valid.mean() > 0.98


@pytest.mark.parametrize("site", ["ontop", "bridge", "fcc", "hcp"])
def test_sites_are_those_of_ase(site):
    slab = fcc111("Pt", (3, 3, 4), vacuum=10.0)
    add_adsorbate(slab, "O", 1.3, site)
    system = AdsorbateSystem.of(slab)
    x = slab.positions[-1:]
    images = np.stack([x, x + slab.cell[0] - 2 * slab.cell[1]])
    assert AdsorbateEnsemble(system=system, positions=images).site_labels == [site, site]


def test_nothing_is_known_of_the_error_of_one_chain():
    slab = fcc111("Pt", (2, 2, 3), vacuum=10.0)
    system = AdsorbateSystem.of(slab, "O")
    top = slab.positions[-1]
    hollow = top + (slab.positions[-2] - top + slab.positions[-3] - top) / 3.0
    x = np.stack([top, hollow, hollow, top, hollow, hollow])[:, None] + np.array([0.0, 0.0, 1.3])
    errors = {}
    for name, blocks in {"one chain": [0] * 6, "three chains": [0, 0, 1, 1, 2, 2]}.items():
        made = AdsorbateEnsemble(system=system, positions=x, blocks=np.array(blocks), provenance={"kind": WALKERS})
        first, second = made.populations_of_sites()
        assert (first.population, second.population) == pytest.approx((2 / 3, 1 / 3))
        assert made.descriptor()["adsorbate"]["populations"][0]["error"] == first.known_error
        errors[name] = first.known_error
    assert errors["one chain"] is None
    assert errors["three chains"] > 0.0


def test_molecules_are_put_together_in_the_cell():
    system = on_platinum("CO")
    x = system.placed(5, seed=3) + np.array([0.0, 0.0, system.level])
    cell = np.asarray(system.slab.cell)
    scattered = x.copy()
    scattered[:, 0] += 3 * cell[0] - cell[1]
    scattered[:, 1] -= 2 * cell[0]
    whole = whole_molecules(system, torch.from_numpy(scattered)).numpy()
    assert np.allclose(whole[:, 1] - whole[:, 0], x[:, 1] - x[:, 0])
    frac = whole[:, 0, :2] @ np.linalg.inv(cell[:2, :2])
    assert ((frac >= 0) & (frac < 1)).all()


def test_anomalies_of_known_structures():
    system = on_platinum("CO", (3, 3, 3))
    top = system.slab.positions[-1]
    upright = np.stack([top + np.array([0.0, 0.0, 1.85]), top + np.array([0.0, 0.0, 3.0])])
    torn = upright + np.array([[0.0, 0.0, 0.0], [2.4, 0.0, -1.2]])
    away = upright + np.array([0.0, 0.0, 4.0])
    second = system.slab.positions[9]
    below = np.stack([second + np.array([0.0, 0.0, 1.5]), second + np.array([0.0, 0.0, 2.6])])
    flags = anomalies(system, np.stack([upright, torn, away, below]))
    assert flags["dissociated"].tolist() == [False, True, False, False]
    assert flags["desorbed"].tolist() == [False, False, True, False]
    assert flags["intercalated"].tolist() == [False, False, False, True]
    assert not flags["surface_changed"].any()
    moved = np.stack([system.slab.positions] * 4)
    moved[2, -1] += np.array([0.0, 0.0, 3.5])
    assert anomalies(system, np.stack([upright, torn, away, below]), moved)["surface_changed"].tolist() == [
        False,
        False,
        True,
        False,
    ]
