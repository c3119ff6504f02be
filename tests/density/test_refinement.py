"""The choice of nodes: the rule on smooth integrands and narrow bumps, the trajectory's error, and honest errors in many dimensions."""

import math

import pytest
import torch
from known import network, positions, seeded, tensor

from equilibra.density.compiled import compiled_products
from equilibra.density.differentiation import DIFFERENTIATIONS, differentiation
from equilibra.density.flow import FlowConfig, log_density
from equilibra.density.path import follow
from equilibra.density.refinement import Refinement, base_intervals, gregory_weights, interpolate, midpoint_matrix
from equilibra.density.trace import Trace
from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import Euclidean
from equilibra.errors import ConfigError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state import State

LOW, HIGH = math.log(0.004), math.log(20.0)


class StiffMixture(Denoiser):
    """Gaussians with a width per axis, in many dimensions."""

    def __init__(self, weights, means, widths):
        self.process = Process({"x": Field(space=Euclidean(), schedule=VarianceExploding(sigma_min=0.004, sigma_max=20.0))})
        self.weights, self.means, self.widths = tensor(weights), means, widths

    def parts(self, x, sigma):
        variance = self.widths**2 + sigma[:, None, None] ** 2
        gap = self.means - x[:, None]
        log_p = self.weights.log() - 0.5 * (gap**2 / variance + torch.log(2.0 * math.pi * variance)).sum(-1)
        return gap / variance, log_p

    def __call__(self, state, t):
        sigma = self.process.sigma("x", t)
        score, log_p = self.parts(state.fields["x"][:, 0], sigma)
        mean = (torch.softmax(log_p, 1)[..., None] * score).sum(1)
        return Prediction({"x": (sigma[:, None] ** 2 * mean)[:, None]})

    def log_p(self, x, sigma):
        return torch.logsumexp(self.parts(x[:, 0], torch.full((len(x),), sigma, dtype=torch.float64))[1], 1)


def stiff(components, axes=30, seed=0):
    """Widths from 0.02 to 2; samples of the noised mixture, the first half of them moved between the centres."""
    generator = seeded(seed)
    widths = torch.logspace(math.log10(0.02), math.log10(2.0), axes, dtype=torch.float64).repeat(components, 1)
    means = torch.zeros(components, axes, dtype=torch.float64)
    for k in range(1, components):
        means[k] = torch.randn(axes, generator=generator, dtype=torch.float64) * widths[k]
        means[k, -1] = 4.0 * (-1.0) ** k
        widths[k] *= torch.exp(0.3 * torch.randn(axes, generator=generator, dtype=torch.float64))
    target = StiffMixture([1.0] if components == 1 else [0.7, 0.25, 0.05][:components], means, widths)
    index = torch.multinomial(target.weights, 40, replacement=True, generator=generator)
    x = means[index] + widths[index] * torch.randn(40, axes, generator=generator, dtype=torch.float64)
    between = torch.rand(20, 1, generator=generator, dtype=torch.float64)
    x[:20] += between * (means[(index[:20] + 1) % components] - means[index[:20]])
    return target, State({"x": x[:, None]})


def test_interpolation_and_end_corrections_are_exact_for_polynomials():
    for intervals in (5, 10, 16):
        x = torch.arange(intervals + 1, dtype=torch.float64)
        middle = x[:-1] + 0.5
        assert torch.allclose(interpolate((x / intervals) ** 5), (middle / intervals) ** 5, atol=1e-12)
        assert float(midpoint_matrix(intervals).sum(1).sub(1.0).abs().max()) < 1e-12
    for power in range(6):
        x = torch.linspace(0.0, 1.0, 13, dtype=torch.float64)
        assert float((gregory_weights(12) / 12 * x**power).sum()) == pytest.approx(
            1.0 / (power + 1), abs=2e-5 if power > 4 else 1e-12
        )
    assert [base_intervals(width, 0.55) for width in (1.0, 7.6, 8.8, 8.9)] == [10, 14, 16, 18]


def test_the_trapezoidal_rule_converges_exponentially_for_gaussians():
    # the whole line: the antiderivative of sigma^2 / (sigma^2 + tau^2) at both ends, with ends far away
    tau = tensor([0.3, 0.4, 0.55])
    for h, bound in ((0.8, 6.3 * math.exp(-(math.pi**2) / 0.8)), (0.53, 6.3 * math.exp(-(math.pi**2) / 0.53))):
        n = round(40.0 / h)
        x = torch.linspace(-20.0, 20.0, n + 1, dtype=torch.float64)
        f = 1.0 / (1.0 + (tau * torch.exp(-x)[:, None]) ** 2)
        exact = 0.5 * torch.log((math.exp(40.0) + tau**2) / (math.exp(-40.0) + tau**2))
        found = (f.sum(0) - 0.5 * (f[0] + f[-1])) * (40.0 / n)
        assert float((found - exact).abs().max()) < 1.2 * bound


def test_a_narrow_bump_is_found_and_only_there_nodes_are_added():
    base, levels, width = 16, 5, 8.5
    x = torch.linspace(0.0, width, base * 2**levels + 1, dtype=torch.float64)
    switch = torch.sigmoid((x - 4.13) / 0.04)
    bump = 12.0 * switch * (1.0 - switch)
    smooth = 1.0 / (1.0 + torch.exp(-2.0 * (x - 5.0)))
    refinement = Refinement(torch.stack([switch, 0.0 * x], 1)[..., None], base, width, 0.01)
    values = torch.stack([smooth + bump, smooth], 1)
    node, element = refinement.first()
    while len(node):
        refinement.add(node, element, values[node, element][None])
        node, element = refinement.wanted()
    weights = gregory_weights(len(x) - 1) * width / (len(x) - 1)
    expected = torch.tensordot(weights, values, dims=1)
    error = (refinement.integral()[0] - expected).abs()
    assert (error <= refinement.error()).all()
    assert float(error.max()) < 0.01
    assert 2 * (base + 1) < refinement.traces() < 0.2 * values.numel()


def test_the_order_of_the_path_and_its_error():
    target, state = stiff(2)
    exact_end, errors, stated = None, [], []
    for count in (512, 64, 32):
        path = follow(target, state, torch.linspace(LOW, HIGH, count + 1, dtype=torch.float64).tolist())
        value = target.log_p(path.states[-1].fields["x"], 20.0)
        if exact_end is None:
            exact_end = path.states[-1].fields["x"]
            continue
        errors.append((path.states[-1].fields["x"] - exact_end)[20:].norm())
        stated.append(path.error)
        assert value.isfinite().all()
    assert 4.0 < math.log2(float(errors[1] / errors[0])) < 7.0
    assert (stated[0] < stated[1]).all()
    dense = path.densified(target)
    assert len(dense.levels) == 65
    fine = follow(target, state, dense.levels)
    gap = torch.stack(
        [(a.fields["x"] - b.fields["x"]).flatten(1).norm(dim=1) for a, b in zip(dense.states, fine.states, strict=True)]
    )
    size = torch.stack([b.fields["x"].flatten(1).norm(dim=1) for b in fine.states])
    assert float((gap / size).max()) < 2e-3


@pytest.mark.parametrize(("components", "most"), [(1, 40), (3, 60)])
def test_stiff_and_soft_modes_and_boundaries(components, most):
    target, state = stiff(components)
    found = log_density(target, state, generator=seeded(0), trace=Trace(mode="reverse", rows=3000))
    top = target.log_p(found.latent.fields["x"], 20.0) - target.process.log_prior(found.latent)
    error = (found.log_density + top - target.log_p(state.fields["x"], 0.004)).abs()
    assert float((error <= found.integration_error).double().mean()) > 0.95
    assert float(error[20:].max()) < 0.01
    assert float(error.square().mean().sqrt()) < 0.005
    assert found.network_calls < 400 + 30 * most


def test_single_values_do_not_depend_on_the_batch_and_levels_may_be_cut():
    target, state = stiff(3)
    trace, config = Trace(mode="reverse", rows=3000), FlowConfig(tolerance=0.05)
    whole = log_density(target, state, generator=seeded(0), config=config, trace=trace)
    some = log_density(target, state[[3, 21]], generator=seeded(0), config=config, trace=trace)
    assert torch.allclose(some.log_density, whole.log_density[[3, 21]], atol=1e-9)
    assert torch.allclose(some.integration_error, whole.integration_error[[3, 21]], atol=1e-9)
    part = noise_grid(target.process, GridConfig(steps=2, sigma_min=0.05, sigma_max=20.0, end="noisy"))
    found = log_density(target, state[20:], part, generator=seeded(0), trace=trace)
    top = target.log_p(found.latent.fields["x"], 20.0) - target.process.log_prior(found.latent)
    error = (found.log_density + top - target.log_p(state.fields["x"][20:], 0.05)).abs()
    assert float(error.max()) < 0.01


def test_compiled_products_are_those_of_the_network(monkeypatch):
    # the recorded program, without the compiler behind it
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda program, dynamic: compiled.append(program) or program)
    model, features = network()
    bound, state = model.bind(features.shared()), positions(3)
    t = torch.full((3,), 0.4, dtype=torch.float64)
    tangents = {"pos": torch.randn(5, 3, 4, 3, generator=seeded(1), dtype=torch.float64)}
    for shift in (0.0, 0.3):
        moved = state.replace(pos=state.fields["pos"] * (1.0 + shift))
        with torch.no_grad():
            expected = DIFFERENTIATIONS["vmap"](bound, moved, t, tangents)["pos"]
            found = compiled_products(bound, moved, t, tangents)["pos"]
        assert torch.allclose(found, expected, atol=1e-9)
    assert len(compiled) == 1
    config = FlowConfig(tolerance=0.1)
    plain, fast = (
        log_density(bound, state, generator=seeded(0), config=config, trace=Trace(rows=40, compile=compile))
        for compile in (False, True)
    )
    assert torch.allclose(plain.log_density, fast.log_density, atol=1e-9)
    with pytest.raises(ConfigError, match="bound to the features"):
        compiled_products(stiff(1)[0], state, t, tangents)
    with pytest.raises(ConfigError, match="only one that is compiled"):
        Trace(compile=True, mode="reverse")
    assert differentiation(bound, state, t, "vmap", generator=seeded(0)) == "vmap"
