"""The mapping of forces to frames against finite differences of the energy and OpenMM's own forces."""

import numpy as np
import pytest
import torch

from equilibra.energies.adapters import OpenMMEnergy
from equilibra.energies.molecular_mechanics import molecular_mechanics
from equilibra.energies.openmm_system import ForceFieldConfig, make_openmm_system
from equilibra.errors import ShapeError
from equilibra.geometry import so3
from equilibra.systems.protein.forces import frame_forces, frame_scores
from equilibra.systems.protein.peptides import all_atom_protein
from equilibra.systems.protein.relax import Relaxer
from equilibra.systems.protein.system import ProteinSystem

CONFIG = ForceFieldConfig(name="amber14-obc2")


@pytest.fixture(scope="module")
def tripeptide():
    """Relaxed positions of ALA-TYR-GLY, shaken a little, its residues, its C-alphas, and the protein."""
    protein = all_atom_protein(ProteinSystem.of_chains(["AYG"], name="tripeptide"))
    positions = Relaxer(protein)(protein.reference).positions
    x = torch.from_numpy(positions + 0.02 * np.random.default_rng(1).normal(size=positions.shape))
    return x, torch.from_numpy(protein.residue), x[protein.backbone[:, 1]], protein


def test_forces_and_torques_are_finite_differences_under_rigid_moves_of_one_residue(tripeptide):
    x, residue, ca, protein = tripeptide
    energy = molecular_mechanics(protein.topology, CONFIG)
    force, torque = frame_forces(x, energy.energy_and_force(x[None])[1][0], residue, ca)
    step = 2e-4
    for i in range(3):
        own = (residue == i)[:, None]
        for axis in range(3):
            v = step * torch.eye(3, dtype=torch.float64)[axis]
            moved = [x + sign * v * own for sign in (1, -1, 2, -2)]
            turned = [torch.where(own, (x - ca[i]) @ so3.exp(sign * v).T + ca[i], x) for sign in (1, -1, 2, -2)]
            for structures, exact in ((moved, force[i, axis]), (turned, torque[i, axis])):
                plus, minus, plus2, minus2 = energy.energy(torch.stack(structures))
                numerical = -(8.0 * (plus - minus) - (plus2 - minus2)) / (12.0 * step)
                assert float(numerical) == pytest.approx(float(exact), rel=1e-6, abs=1e-6)


def test_forces_of_openmm_give_the_same_scores_and_nothing_pushes_the_whole(tripeptide):
    x, residue, ca, protein = tripeptide
    ours = molecular_mechanics(protein.topology, CONFIG).energy_and_force(x[None])[1][0]
    theirs = OpenMMEnergy(make_openmm_system(protein.topology, CONFIG)).energy_and_force(x[None])[1][0]
    scores = [frame_scores(x, force, residue, ca, kt=0.0258) for force in (ours, theirs)]
    for name in ("trans", "rot"):
        torch.testing.assert_close(scores[0][name], scores[1][name], rtol=1e-5, atol=1e-4)
    force, torque = frame_forces(x, ours, residue, ca)
    torch.testing.assert_close(scores[0]["rot"], torque / 0.0258)
    assert force.sum(0).abs().max() < 1e-9
    assert (torque + torch.linalg.cross(ca, force)).sum(0).abs().max() < 1e-8


def test_batches_are_mapped_one_by_one(tripeptide):
    x, residue, ca, _ = tripeptide
    forces = torch.randn(4, *x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = frame_forces(x.expand_as(forces), forces, residue, ca.expand(4, -1, -1))
    for k in range(4):
        for whole, part in zip(together, frame_forces(x, forces[k], residue, ca), strict=True):
            torch.testing.assert_close(whole[k], part)


def test_shapes_that_do_not_fit_are_refused(tripeptide):
    x, residue, ca, _ = tripeptide
    with pytest.raises(ShapeError, match="forces"):
        frame_forces(x, x[:-1], residue, ca)
    with pytest.raises(ShapeError, match="residue"):
        frame_forces(x, x, residue[:-1], ca)
    with pytest.raises(ShapeError, match="centres"):
        frame_forces(x, x, residue, ca[None])
