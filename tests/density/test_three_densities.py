"""Fact F33: the log-densities of an energy head, of the flow and of denoising errors agree on a mixture."""

import pytest
import torch
from known import Function, centred, exact, rotations, seeded, tensor

from equilibra.density.flow import log_density
from equilibra.density.mmse import denoising_log_density
from equilibra.density.potential import potential_log_density
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.errors import ConfigError, InputError, SpaceError
from equilibra.state import State
from equilibra.testing import GaussianMixture, JointDistribution
from equilibra.testing.components import GaussianComponents


def test_f33_three_densities_agree():
    schedule = VarianceExploding(sigma_min=0.01, sigma_max=100.0)
    target = GaussianMixture(tensor([0.7, 0.3]), tensor([[0.6], [-1.4]]), tensor([0.8, 0.5]), schedule=schedule)
    state = State({"x": tensor([[-2.0], [-1.4], [-0.3], [0.6], [2.0]])})
    potential = potential_log_density(target, state)
    flow = log_density(target, state, generator=seeded(0)).log_density
    denoising = denoising_log_density(target, state, generator=seeded(1), draws=2000, rows=10_000)
    assert torch.allclose(potential, exact(target, state), atol=1e-12)
    assert float((flow - potential).abs().max()) < 0.01
    assert float((denoising.log_density - potential).abs().max()) < 0.02
    assert float(denoising.error.max()) < 0.01


def test_denoising_errors_on_mean_free_and_joint_fields():
    for target, n in ((centred(), 20), (pair(), 20)):
        state = target.sample(n, generator=seeded(0))
        found = denoising_log_density(target, state, generator=seeded(1), draws=200, steps=80)
        z = (found.log_density - target.log_density(state)) / found.error
        assert float(z.abs().max()) < 4


def pair():
    """Two flat fields with different schedules, one of them variance-preserving."""
    laws = {
        "a": GaussianComponents(tensor([[0.6], [-1.4]]), tensor([0.8, 0.5])),
        "b": GaussianComponents(tensor([[0.3, 0.0], [-0.7, 0.0]]), tensor([0.6, 0.5])),
    }
    schedules = {"a": VarianceExploding(sigma_min=0.01, sigma_max=100.0), "b": VarianceLinear(scale=0.7, t_min=2e-3)}
    return JointDistribution(tensor([0.7, 0.3]), laws, schedules)


def test_batches_of_the_potential():
    target = centred()
    state = target.sample(7, generator=seeded(0))
    whole = potential_log_density(target, state, sigma=0.5)
    assert torch.equal(whole, potential_log_density(target, state, sigma=0.5, batch_size=3))
    assert torch.allclose(whole, target.log_density(state, target.process.time(tensor([0.5])).expand(7)))


def test_what_cannot_be():
    state = State({"x": torch.zeros(2, 3, 3, dtype=torch.float64)})
    with pytest.raises(InputError, match="no energy head"):
        potential_log_density(Function(torch.tanh), state)
    with pytest.raises(SpaceError, match="SO3"):
        denoising_log_density(rotations(), rotations().sample(2, generator=seeded(0)), generator=seeded(0))
    with pytest.raises(ConfigError, match="even"):
        denoising_log_density(centred(), centred().sample(2, generator=seeded(0)), generator=seeded(0), draws=5)
