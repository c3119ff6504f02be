"""Relaxation of poses: a minimum that is known, energies that never rise, and samples that are relaxed as they are drawn."""

import dataclasses

import numpy as np
import pytest
import torch
from toy_pocket import seeded, toy_model, toy_system

from equilibra.energies.energy import Energy
from equilibra.errors import InputError
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.poses import pose_positions, random_state
from equilibra.systems.ligand.relaxation import CONVERGED, relaxed_poses
from equilibra.systems.ligand.system import CONFORMER


class Springs(Energy):
    """Springs from each atom to where it is in a target pose: the minimum, zero, is that pose."""

    axes, invariant, name = 3, False, "springs"

    def __init__(self, target, stiffness):
        self.target, self.stiffness, self.items = target, stiffness, len(target)

    def energy(self, x):
        return 0.5 * self.stiffness * (x - self.target).square().sum((1, 2))


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return toy_system(tmp_path_factory.mktemp("relax"))


def near(system, state, size, seed):
    """Poses about given ones."""
    g = seeded(seed)
    from equilibra.geometry import so3

    n = len(state.fields[CONFORMER])
    shift = state.fields["shift"][:, 0] + size * torch.randn(n, 3, generator=g, dtype=torch.float64)
    turn = so3.exp(size * torch.randn(n, 3, generator=g, dtype=torch.float64)) @ state.fields["turn"][:, 0]
    angles = system.angles(state) + size * torch.randn(n, len(system.torsions.axes), generator=g, dtype=torch.float64)
    return system.state(shift, turn, angles, state.fields[CONFORMER][:, 0, 0])


@pytest.mark.parametrize("stiffness", [0.1, 10.0])
def test_a_known_minimum_is_found(system, stiffness):
    one = random_state(system, 1, generator=seeded(0))
    target = pose_positions(system, one)[0]
    start = near(system, one[[0] * 20], 0.3, 1)
    energy = Springs(target, stiffness)
    found, u = relaxed_poses(system, start, energy)
    assert np.allclose(u, energy.energy(pose_positions(system, found)).numpy(), atol=1e-9)
    before = (pose_positions(system, start) - target).square().sum(-1).mean(1).sqrt()
    after = (pose_positions(system, found) - target).square().sum(-1).mean(1).sqrt()
    assert float(before.min()) > 0.2
    # what a converged pose may still gain of a harmonic energy is about half of what its next step promises
    assert (u < 5.0 * CONVERGED).all()
    assert float(after.max()) < (10.0 * CONVERGED / stiffness) ** 0.5


def test_the_score_never_rises_and_its_forces_vanish_without_kinks(system):
    energy = ligand_energy(system, "vina")
    start = random_state(system, 30, generator=seeded(2))
    before = energy.energy(pose_positions(system, start)).numpy()
    found, u = relaxed_poses(system, start, energy)
    assert (u <= before + 1e-9).all()
    assert u.mean() < before.mean() - 0.02
    again, lower = relaxed_poses(system, found, energy)
    # a minimum stays where it is
    assert np.mean(u - lower) < 0.01
    kept = LigandEnsemble.check(pose_positions(system, found).numpy(), system)
    assert kept.table()[0][1] == 30
    assert torch.equal(found.fields[CONFORMER], start.fields[CONFORMER])
    moved = torch.linalg.vector_norm(again.fields["shift"] - found.fields["shift"], dim=-1)
    assert float(moved.median()) < 0.2


def test_poses_do_not_know_of_each_other(system):
    energy = ligand_energy(system, "vina")
    start = random_state(system, 6, generator=seeded(3))
    together, u = relaxed_poses(system, start, energy)
    alone, own = relaxed_poses(system, start[2:3], energy)
    assert u[2] == pytest.approx(own[0], abs=1e-8)
    assert torch.allclose(pose_positions(system, together)[2:3], pose_positions(system, alone), atol=1e-5)


def test_samples_are_relaxed_as_they_are_drawn(system):
    model = toy_model(system)
    plain = model.sample(system, 6, seed=4, block_size=12)
    made = model.sample(system, 6, seed=4, block_size=12, relax="vina")
    assert made.provenance["relaxed_by"] == "vina"
    assert not np.ptp(made.log_weights)
    energy = ligand_energy(system, "vina")
    assert np.allclose(made.energies, energy.energy(torch.from_numpy(made.positions.astype(float))).numpy(), atol=1e-3)
    assert made.energies.mean() < energy.energy(torch.from_numpy(plain.positions.astype(float))).mean().item()
    # of poses of equal weight the lowest energy comes first
    assert made.energies[made.ranking[0]] == made.energies.min()
    assert made.relaxed_by == "vina"
    # with a temperature other poses have free energies, minima have none
    warm = dataclasses.replace(made, provenance={**made.provenance, "temperature_k": 300.0})
    drawn = dataclasses.replace(plain, provenance={**plain.provenance, "temperature_k": 300.0})
    assert all(cluster.free_energy is None for cluster in warm.clusters)
    assert all(cluster.free_energy is not None for cluster in drawn.clusters)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"relax": "vina", "energy": "vina"}, "relaxed samples have no weights"),
        ({"relax": "vinna"}, "did you mean 'vina'"),
    ],
)
def test_what_cannot_be_relaxed_is_refused(system, options, words):
    with pytest.raises(InputError, match=words):
        toy_model(system).sample(system, 2, temperature=300.0, **options)


def test_molecules_are_not_relaxed():
    import equilibra

    with pytest.raises(InputError, match="for ligands only"):
        equilibra.load("molecule-ala2").sample("ACE-ALA-NME", 1, relax="vina")


def test_where_too_few_poses_are_valid_relaxation_is_named(tmp_path):
    from equilibra.errors import EquilibraError

    # a box of which the untrained model knows nothing: its poses lie anywhere
    narrow = toy_system(tmp_path, size=(5,))
    with pytest.raises(EquilibraError, match="--relax vina"):
        toy_model(narrow).sample(narrow, 50, block_size=50)
