"""Facts F1 and F21, and the flow's density against known answers on every Space."""

import math

import pytest
import torch
from known import EVERY, WIDE, centred, euclidean, exact, gaussian, joint, network, positions, seeded, tensor

from equilibra.density.flow import FlowConfig, log_density, sample_with_density, signal_log_density
from equilibra.density.trace import Trace
from equilibra.density.trajectory import log_levels, quadrature, rates, time_at
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.errors import ConfigError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state import Features, State
from equilibra.testing import GaussianMixture

# backpropagation is the quickest for functions of a few numbers; `test_trace` compares the modes
QUICK = Trace(mode="reverse")


@pytest.mark.parametrize("name", EVERY)
def test_known_densities(name):
    target = EVERY[name]()
    state = target.process.noise(
        target.sample(12, generator=seeded(1)),
        torch.full((12,), target.process.t_min, dtype=torch.float64),
        generator=seeded(2),
    )
    found = log_density(target, state, generator=seeded(0), trace=QUICK)
    error = (found.log_density - exact(target, state)).abs()
    assert float(error.max()) < 0.01
    assert (found.trace_error == 0.0).all()
    assert float(found.integration_error.max()) < 0.02
    # at every node of a fixed grid
    config = FlowConfig(solver="rk4", steps=45, check="nodes")
    simpson = log_density(target, state, generator=seeded(0), config=config, trace=QUICK)
    assert float((simpson.log_density - found.log_density).abs().max()) < 0.01
    assert float(simpson.integration_error.max()) < 0.1


class TestF21:
    schedule = VarianceExploding(sigma_min=1e-3, sigma_max=80.0)
    target = GaussianMixture(tensor([0.7, 0.3]), tensor([[2.0, 0.0], [-2.0, 0.0]]), tensor([1.0, 0.05]), schedule=schedule)

    @pytest.mark.parametrize(
        ("solver", "errors"),
        [("rk4", {25: 7e-3, 50: 5e-4, 100: 4e-5}), ("heun", {100: 0.056, 200: 0.015})],
    )
    def test_integration_errors(self, solver, errors):
        state = self.target.sample(32, generator=seeded(3))
        top = torch.ones(32, dtype=torch.float64)
        for steps, expected in errors.items():
            found = log_density(
                self.target, state, generator=seeded(0), config=FlowConfig(steps=steps, solver=solver), trace=QUICK
            )
            # the integral alone: with the exact density at the largest noise
            prior = self.target.process.log_prior(found.latent)
            value = found.log_density - prior + self.target.log_density(found.latent, top)
            error = (value - exact(self.target, state)).abs()
            assert expected / 3 < float(error.max()) < 1.5 * expected, steps
            # the reported error bounds the true one
            assert float((error <= found.integration_error + 1e-7).double().mean()) > 0.9, steps

    def test_the_prior_is_matched_to_the_data(self):
        target = GaussianMixture(tensor([1.0]), tensor([[0.0, 0.0]]), tensor([1.5]), schedule=self.schedule)
        state = target.sample(10, generator=seeded(0))
        config = FlowConfig(solver="rk4", steps=200, check="nodes")
        found = log_density(target, state, generator=seeded(0), config=config, trace=QUICK)
        assert float((found.log_density - exact(target, state)).abs().max()) < 4e-6


def test_f1_variance_preserving_conversion():
    schedule = VarianceLinear(scale=1.0, t_min=0.05)
    target = GaussianMixture(tensor([1.0]), tensor([[0.3, -0.2, 0.5]]), tensor([0.7]), schedule=schedule)
    state = target.sample_noised(5, 0.4, generator=seeded(0))
    t = torch.full((5,), 0.4, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t[:1]), schedule.sigma(t[:1])
    signal = target.process.to_signal(state, t).fields["x"]
    variance = alpha**2 * (0.7**2 + sigma**2)
    z = signal - alpha * tensor([[0.3, -0.2, 0.5]])
    expected = -0.5 * (z**2).sum(1) / variance - 1.5 * torch.log(2 * math.pi * variance)
    converted = signal_log_density(target.process, target.log_density(state, t), state, 0.4)
    assert torch.allclose(converted, expected, atol=1e-12)


@pytest.mark.parametrize("make", [euclidean, joint])
def test_samples_come_with_their_density(make):
    target = make()
    like = target.sample(6, generator=seeded(0))
    config = FlowConfig(tolerance=2e-3)
    samples, drawn = sample_with_density(target, like, generator=seeded(4), config=config, trace=QUICK)
    again = log_density(target, samples, generator=seeded(5), config=config, trace=QUICK)
    assert float((drawn.log_density - again.log_density).abs().max()) < 4e-3
    assert float((drawn.log_density - exact(target, samples)).abs().max()) < 0.01
    for name in target.process.moving:
        assert float((drawn.latent.fields[name] - again.latent.fields[name]).abs().max()) < 0.05


def test_hutchinson_is_unbiased_and_says_its_error():
    target, state = centred(), centred().sample(200, generator=seeded(0))
    config = FlowConfig()
    reference = log_density(target, state, generator=seeded(0), config=config, trace=QUICK)
    found = log_density(
        target, state, generator=seeded(1), config=config, trace=Trace(kind="hutchinson", probes=24, mode="reverse")
    )
    z = (found.log_density - reference.log_density) / found.trace_error
    assert abs(float(z.mean())) < 4 / math.sqrt(200)
    assert 0.7 < float(z.std()) < 1.5


@pytest.mark.parametrize("kind", ["exact", "hutchinson"])
def test_batches_do_not_matter(kind):
    target, state = euclidean(), euclidean().sample(5, generator=seeded(0))
    trace = Trace(kind=kind, probes=3)
    whole, parts = (
        log_density(target, state, generator=seeded(1), config=FlowConfig(tolerance=0.05, batch_size=size), trace=trace)
        for size in (None, 2)
    )
    assert torch.allclose(whole.log_density, parts.log_density, atol=1e-12)
    assert torch.allclose(whole.integration_error, parts.integration_error, atol=1e-12)
    assert torch.allclose(whole.latent.fields["x"], parts.latent.fields["x"])


def test_padding_and_symmetry_of_a_network():
    model, features = network()
    state, config = positions(2), FlowConfig(solver="rk4", steps=6)
    expected = log_density(model.bind(features.shared()), state, generator=seeded(0), config=config)
    padded = State(
        {"pos": torch.nn.functional.pad(state.fields["pos"], (0, 0, 0, 2))}, {"pos": (torch.arange(6) < 4).expand(2, 6)}
    )
    wide = Features.collate([features] * 2, tokens=6)
    found = log_density(model.bind(wide), padded, generator=seeded(0), config=config)
    assert torch.allclose(found.log_density, expected.log_density, atol=1e-9)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=seeded(5), dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    rotated = log_density(model.bind(features.shared()), state.map(lambda x: x @ turn.T), generator=seeded(0), config=config)
    assert torch.allclose(rotated.log_density, expected.log_density, atol=1e-9)


def test_a_grid_of_levels():
    target = gaussian()
    state = target.sample(4, generator=seeded(0))
    levels = noise_grid(target.process, GridConfig(steps=40, spacing="karras"))
    found = log_density(target, state, levels, config=FlowConfig(solver="rk4"), generator=seeded(0))
    assert float((found.log_density - exact(target, state)).abs().max()) < 0.01
    assert found.network_calls == (40 * 4 + 1 + 81 * 3) + (20 * 4 + 1 + 41 * 3)
    # of a grid only the ends count where nodes are chosen
    cheap = log_density(target, state, levels, generator=seeded(0))
    assert torch.allclose(cheap.log_density, found.log_density, atol=2e-3)
    assert cheap.network_calls < 0.6 * found.network_calls


def test_rates_of_several_schedules():
    process = joint().process
    level, step = math.log(0.5), 1e-5
    found = rates(process, level)
    for name in process.moving:
        up, down = (math.log(float(process.sigma(name, tensor(time_at(process, level + sign * step))))) for sign in (1, -1))
        assert found[name] == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_quadrature_on_uneven_levels():
    x = [0.0, 0.3, 0.5, 0.9, 1.0, 1.6, 2.0]
    values = tensor(x)[:, None] ** 2
    for nodes, heights in ((x, values), (x[::-1], values.flip(0))):
        fine, coarse = quadrature(heights, nodes, "rk4")
        assert torch.allclose(fine, tensor([8 / 3]))
        assert torch.allclose(coarse, tensor([8 / 3]))


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="at least 2 steps"):
        FlowConfig(steps=1)
    with pytest.raises(ConfigError, match="tolerance 0"):
        FlowConfig(tolerance=0.0)
    with pytest.raises(ConfigError, match="rk4"):
        FlowConfig(solver="euler")
    with pytest.raises(ConfigError, match="at least 2"):
        log_levels(gaussian().process, noise_grid(gaussian().process, GridConfig(steps=1))[:1], 10)
    assert len(log_levels(gaussian().process, None, 7)) == 8
    assert log_levels(gaussian().process, None, 7)[-1] == pytest.approx(math.log(WIDE.sigma_max))
