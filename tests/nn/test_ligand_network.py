"""The network of ligands: turns with the receptor, sees mirror images, and does not see padding."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "ligand"))
from toy_pocket import seeded, toy_denoiser, toy_systems

from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.geometry import so3
from equilibra.state import Features, State
from equilibra.systems.ligand.poses import random_state
from equilibra.testing.invariance import randomise_parameters_
from equilibra.train.ligand import BUCKET


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    return toy_systems(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def denoiser():
    made = toy_denoiser().double()
    randomise_parameters_(made.network, generator=seeded(1))
    return made


def changed(state, q, *, mirror=False):
    """The State of the whole scene turned by q, or mirrored: references of the ligand stay, places of the pocket move."""
    fields = dict(state.fields)
    ligand = fields["ligand"]
    del fields["ligand"]
    fields["shift"] = fields["shift"] @ q.T
    if mirror:
        inverse = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
        fields["reference"] = torch.where(ligand, fields["reference"] @ inverse, fields["reference"] @ q.T)
        fields["turn"] = q @ fields["turn"] @ inverse
        fields["torsions"] = -fields["torsions"]
    else:
        fields["reference"] = torch.where(ligand, fields["reference"], fields["reference"] @ q.T)
        fields["turn"] = q @ fields["turn"]
    return State(fields, state.masks)


def scene(system, n=3):
    state = random_state(system, n, generator=seeded(2))
    ligand = system.features.node["ligand"][None, :, None].expand(n, -1, 3)
    return state, State({**state.fields, "ligand": ligand}, state.masks)


def test_outputs_turn_with_receptor_and_ligand(systems, denoiser):
    system = systems[0]
    state, marked = scene(system)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    q = so3.uniform((), generator=seeded(3), dtype=torch.float64)
    features = system.features.shared()
    here, there = denoiser(state, t, features).displacements, denoiser(changed(marked, q), t, features).displacements
    for name in ("shift", "turn"):
        assert torch.allclose(there[name], here[name] @ q.T, atol=1e-8)
    assert torch.allclose(there["torsions"], here["torsions"], atol=1e-8)
    assert bool((here["torsions"] != 0).any())


def test_a_mirror_image_is_another_scene(systems, denoiser):
    system = systems[0]
    state, marked = scene(system)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    features = system.features.shared()
    here = denoiser(state, t, features).displacements["shift"]
    there = denoiser(changed(marked, mirror, mirror=True), t, features).displacements["shift"]
    difference, size = (there - here @ mirror).detach(), here.detach()
    assert float(difference.abs().max()) > 1e-6 * float(size.abs().max())


def test_only_positions_of_atoms_count(systems, denoiser):
    """A turn of the frame of the reference, undone by the rotation, changes nothing."""
    system = systems[0]
    state, marked = scene(system)
    q = so3.uniform((), generator=seeded(4), dtype=torch.float64)
    ligand = marked.fields["ligand"]
    reference = torch.where(ligand, state.fields["reference"] @ q.T, state.fields["reference"])
    other = state.replace(reference=reference, turn=state.fields["turn"] @ q.T)
    t = torch.full((3,), 0.4, dtype=torch.float64)
    features = system.features.shared()
    for name, value in denoiser(state, t, features).displacements.items():
        assert torch.allclose(denoiser(other, t, features).displacements[name], value, atol=1e-8)


def test_padding_and_company_do_not_matter(systems, denoiser):
    alone, states = [], []
    t = torch.tensor([0.3], dtype=torch.float64)
    for system in systems:
        state = random_state(system, 1, generator=seeded(5))
        states.append(state)
        alone.append(denoiser(state, t, system.features.shared()).displacements)
    width = -(-max(system.features.tokens for system in systems) // BUCKET) * BUCKET
    features = Features.collate([system.features for system in systems], tokens=width)

    def stacked(name):
        parts = [state.fields[name] for state in states]
        if name in ("reference", "torsions"):
            parts = [torch.nn.functional.pad(part, (0, 0, 0, width - part.shape[1])) for part in parts]
        return torch.cat(parts)

    batch = State({name: stacked(name) for name in states[0].fields}, {"torsions": features.node["torsions_items"]})
    together = denoiser(batch, t.expand(len(systems)), features).displacements
    for row, each in enumerate(alone):
        for name, value in each.items():
            count = value.shape[1]
            assert torch.allclose(together[name][row : row + 1, :count], value, atol=1e-8)
            assert not together[name][row, count:].any()


def test_every_parameter_learns_something(systems):
    system = systems[0]
    denoiser = toy_denoiser()
    state = random_state(system, 8, generator=seeded(6)).to(dtype=torch.float32)
    from equilibra.diffusion.objectives.batch import TrainingBatch

    objective = ScoreMatching(denoiser.process, NoiseLevels(), forces=True)
    forces = {"shift": torch.ones(8, 1, 3), "turn": torch.ones(8, 1, 3), "torsions": torch.ones(8, system.features.tokens, 1)}
    batch = TrainingBatch(state, system.features.shared(), forces)
    loss = objective(denoiser, batch, generator=seeded(7))["loss"]
    loss.backward()
    assert 0.1 < float(loss.detach()) < 100.0
    dead = [name for name, p in denoiser.network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert dead == []
