"""The score and the log-density of the network that is shipped in size, with random weights: the same for every description of a crystal."""

import dataclasses

import numpy as np
import pytest
import torch
from known_crystals import CHANGES, invariants, triclinic

from equilibra.density.flow import FlowConfig
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.crystal.density import crystal_log_density
from equilibra.systems.crystal.network import crystal_denoiser, crystal_network_config, crystal_process, network_values
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope

TOLERANCE = 1e-4
KNOWN = triclinic(numbers=[6, 14], seed=1)


@pytest.fixture(scope="module")
def model():
    network = crystal_network_config()
    denoiser = crystal_denoiser(crystal_process(2.0, 0.3), network, seed=0)
    denoiser.double().requires_grad_(False)
    g = torch.Generator().manual_seed(1)
    for value in denoiser.parameters():
        value.add_(0.02 * torch.randn(value.shape, generator=g, dtype=value.dtype))
    how = {"network": network_values(network), "sampler": SamplerConfig(), "scope": Scope(), "card": Card()}
    return Model(name="random", domain="crystal", denoiser=denoiser.eval(), **how)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_scores_agree(model, change, t):
    first, second = invariants(model, KNOWN, t), invariants(model, CHANGES[change](KNOWN), t)
    assert float(first.abs().max()) > 1e-3
    error = float((first - second).abs().max() / first.abs().max())
    assert error < TOLERANCE, f"{change}: scores differ by {error:.2g}"


def test_log_densities_agree(model):
    described = [KNOWN, *(change(KNOWN) for change in CHANGES.values())]
    how = FlowConfig(solver="heun", steps=4, check="nodes")
    found = crystal_log_density(model, described, config=how, outside_scope=True).log_density
    assert np.isfinite(found).all()
    errors = np.abs(found[1:] - found[0]) / abs(found[0])
    assert errors.max() < TOLERANCE, dict(zip(CHANGES, errors, strict=True))
    # the density is of this crystal, not of any
    other = dataclasses.replace(KNOWN, cell=1.1 * KNOWN.cell)
    assert abs(crystal_log_density(model, [other], config=how, outside_scope=True).log_density[0] - found[0]) > 1e-3
