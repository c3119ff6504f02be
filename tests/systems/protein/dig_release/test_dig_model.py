"""The converted model in its domain: features, memory, sampling; and an installation without this folder."""

import importlib.util

import numpy as np
import pytest
import torch
from released import released_tensors, seeded

from equilibra.errors import CheckpointError, InputError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.systems.model import domain
from equilibra.systems.protein.dig_release.checkpoint import released_model
from equilibra.systems.protein.providers import ArrayProvider, condition
from equilibra.systems.protein.sources import protein_systems

SEQUENCE = "NLYIQWLKDG"


@pytest.fixture(scope="module")
def model():
    return released_model(released_tensors())


def protein(single=384, pair=128):
    (bare,) = protein_systems(SEQUENCE)
    rng, length = np.random.default_rng(0), len(SEQUENCE)
    provider = ArrayProvider(rng.standard_normal((length, single)), rng.standard_normal((length, length, pair)))
    return bare, condition(bare, provider)


def test_samples_of_one_protein_share_its_pairs(model, monkeypatch):
    _, system = protein()
    calls = []
    embed = model.denoiser.network.context
    monkeypatch.setattr(model.denoiser.network, "context", lambda *given: calls.append(given) or embed(*given))
    template = domain("protein").template(system, 3)
    grid = noise_grid(model.process, GridConfig(steps=4))
    state = draw(model.sampler.make(), model.bind(system), template, grid, generator=seeded(0))
    assert len(calls) == 1
    rot = state.fields["rot"]
    assert torch.allclose(rot @ rot.transpose(-1, -2), torch.eye(3).expand_as(rot), atol=1e-4)
    assert float(state.fields["trans"].mean(1).abs().max()) < 1e-3


def test_a_protein_without_the_features_is_refused(model):
    bare, system = protein()
    with pytest.raises(
        InputError, match="the model 'dig-protein' needs features of residues of the width 384, but the protein has none"
    ):
        model.bind(bare)
    with pytest.raises(InputError, match="features of pairs of the width 64"):
        model.bind(protein(pair=64)[1])
    model.bind(system)


def test_memory_is_known_before(model):
    from equilibra.systems.protein.dig_release.denoiser import memory_needed
    from equilibra.systems.protein.dig_release.network import DigReleaseConfig

    published = DigReleaseConfig()
    # features, embedded pairs and biases of 300 residues
    assert memory_needed(300, 1, published) > 4 * 300**2 * (128 + 256 + 12 * 32)
    assert memory_needed(300, 8, published) < 2 * 2**30
    assert domain("protein").fitting_batch(protein()[1], model.network, None, 50) == 50


def test_an_installation_without_the_folder(model, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "dig_release" in name else find(name))
    with pytest.raises(
        CheckpointError, match="its network is of the kind 'dig-release', which this installation does not know"
    ):
        domain("protein").denoiser(model.process, model.network, "score")
    with pytest.raises(CheckpointError, match="of the kind 'other'"):
        domain("protein").denoiser(model.process, {"kind": "other"}, "score")
