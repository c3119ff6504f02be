"""The network of the Cartesian state of ligands: its vectors turn with receptor and ligand, and shifts, padding and company do not matter."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "ligand"))
from toy_pocket import cartesian_toy_denoiser, seeded, toy_systems

from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.geometry import so3
from equilibra.state import Features, State
from equilibra.testing.invariance import randomise_parameters_
from equilibra.train.ligand import BUCKET

TIMES = torch.tensor([0.2, 0.6, 0.95], dtype=torch.float64)


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    return toy_systems(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def denoiser():
    made = cartesian_toy_denoiser().double()
    randomise_parameters_(made.network, generator=seeded(1))
    return made


def scene(system, n=3, seed=2):
    heavy = 3.0 * torch.randn(n, len(system.torsions.heavy), 3, generator=seeded(seed), dtype=torch.float64)
    return system.cartesian_state(heavy)


def raw(denoiser, state, t, features, shift=0.0):
    """The network's own output, for the whole scene shifted in the places that it sees."""
    sigma = denoiser.process.sigma("pos", t)
    scale = denoiser.network.scale
    seen = state.fields["pos"] * torch.rsqrt(1.0 + (sigma / scale) ** 2)[:, None, None] + shift
    inputs = {"reference": state.fields["reference"] + shift, "pos": seen / scale}
    return denoiser.network(inputs, 0.25 * torch.log(sigma / scale)[:, None], features)["pos"]


def test_displacements_turn_with_receptor_and_ligand(systems, denoiser):
    state = scene(systems[0])
    q = so3.uniform((), generator=seeded(3), dtype=torch.float64)
    turned = state.map(lambda x: x @ q.T)
    features = systems[0].features.shared()
    here = denoiser(state, TIMES, features).displacements["pos"]
    assert torch.allclose(denoiser(turned, TIMES, features).displacements["pos"], here @ q.T, atol=1e-9)
    ligand = systems[0].features.node["ligand"]
    assert bool((here[:, ligand] != 0).all())
    assert not here[:, ~ligand].any()


def test_a_shift_of_the_whole_scene_changes_nothing(systems, denoiser):
    features, state = systems[0].features.shared(), scene(systems[0])
    here = raw(denoiser, state, TIMES, features)
    shift = torch.tensor([3.0, -7.0, 11.0], dtype=torch.float64)
    assert torch.allclose(raw(denoiser, state, TIMES, features, shift), here, atol=1e-9)
    alone = state.replace(pos=state.fields["pos"] + shift * state.masks["pos"][..., None])
    assert float((raw(denoiser, alone, TIMES, features) - here).abs().max().detach()) > 1e-3


def test_a_mirror_image_is_another_scene(systems, denoiser):
    state, features = scene(systems[0]), systems[0].features.shared()
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    here = denoiser(state, TIMES, features).displacements["pos"]
    there = denoiser(state.map(lambda x: x @ mirror), TIMES, features).displacements["pos"]
    assert float((there - here @ mirror).detach().abs().max()) > 1e-6 * float(here.detach().abs().max())


def test_padding_and_company_do_not_matter(systems, denoiser):
    states = [scene(system, 1, seed) for seed, system in enumerate(systems)]
    t = torch.tensor([0.4], dtype=torch.float64)
    pairs = list(zip(states, systems, strict=True))
    alone = [denoiser(state, t, system.features.shared()).displacements["pos"] for state, system in pairs]
    width = -(-max(system.features.tokens for system in systems) // BUCKET) * BUCKET
    features = Features.collate([system.features for system in systems], tokens=width)
    fields = {
        name: torch.cat([torch.nn.functional.pad(s.fields[name], (0, 0, 0, width - s.fields[name].shape[1])) for s in states])
        for name in ("reference", "pos")
    }
    batch = State(fields, {"pos": features.node["pos_items"]})
    together = denoiser(batch, t.expand(len(systems)), features).displacements["pos"]
    for row, value in enumerate(alone):
        count = value.shape[1]
        assert torch.allclose(together[row : row + 1, :count], value, atol=1e-9)
        assert not together[row, count:].any()


def test_every_parameter_learns_something_and_the_loss_starts_near_one(systems):
    denoiser = cartesian_toy_denoiser()
    state = scene(systems[0], 16).to(dtype=torch.float32)
    objective = ScoreMatching(denoiser.process, NoiseLevels(median=0.1, width=1.8), forces=False)
    loss = objective(denoiser, TrainingBatch(state, systems[0].features.shared(), {}), generator=seeded(7))["loss"]
    loss.backward()
    assert 0.3 < float(loss.detach()) < 3.0
    dead = [name for name, p in denoiser.network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert dead == []
