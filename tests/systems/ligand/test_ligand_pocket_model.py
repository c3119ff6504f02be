"""The shipped model of ligands, in the pocket of a target that it was not trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_pocket import seeded

import equilibra
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.poses import pose_positions, random_state
from equilibra.units import KCAL_PER_MOL_EV

TYK2 = Path(__file__).parent / "tyk2"
DRAWN = 40


@pytest.fixture(scope="module")
def model():
    return equilibra.load("ligand-pocket")


@pytest.fixture(scope="module")
def system():
    return ligand_systems(LigandInput(receptor=TYK2 / "pocket.pdb", ligand=TYK2 / "ligand.sdf"))[0]


@pytest.fixture(scope="module")
def poses(model, system):
    return model.sample(system, 12, seed=1, block_size=DRAWN, relax="vina")


def test_the_card_is_that_of_a_model_for_others(model):
    assert model.scope.transferable
    assert model.domain == "ligand"
    assert "409" in " ".join(model.card.figures.values())


def test_relaxed_poses_are_valid_and_bound(system, poses):
    table = {name: (passed, total) for name, passed, total in poses.validity_table()}
    passed, total = table["all"]
    assert len(poses) == 12
    assert passed / total > 0.5
    for name in ("finite", "bonds", "angles", "stereo"):
        assert table[name][0] == table[name][1]
    low, high = (corner.numpy() for corner in system.box.corners)
    assert ((poses.heavy >= low) & (poses.heavy <= high)).all()
    energies = poses.energies / KCAL_PER_MOL_EV
    assert energies.max() < 0.0
    assert energies.min() < -7.0


def test_the_receptor_does_not_move(system, poses, tmp_path):
    poses.save(tmp_path)
    again = LigandEnsemble.read(tmp_path)
    assert torch.equal(again.system.receptor.positions, system.receptor.positions)


def test_what_it_draws_fits_the_pocket_better_than_chance(model, system):
    """Before any relaxation, the score of its poses is lower than that of poses anywhere in the inner half of the box, far beyond the error of the difference."""
    from equilibra.sampling.grid import noise_grid
    from equilibra.systems.blocks import SamplerDrawing
    from equilibra.systems.ligand.domain import template

    drawing = SamplerDrawing(model.sampler.make(), noise_grid(model.process, model.sampler.grid))
    with torch.no_grad():
        batch = drawing(model.bind(system), template(system, DRAWN), generator=seeded(2), report=lambda done, note: None)
    energy = ligand_energy(system, "vina")

    def scores(state):
        # repulsion has a long tail: the logarithm of what is above -20 kcal/mol
        return np.log(energy.energy(pose_positions(system, state)).numpy() / KCAL_PER_MOL_EV + 20.0)

    ours, chance = scores(batch.state), scores(random_state(system, DRAWN, generator=seeded(3)))
    error = np.sqrt(ours.var() / DRAWN + chance.var() / DRAWN)
    assert (ours.mean() - chance.mean()) / error < -5.0
