"""Annealing of paths: unbiased log Z, right populations, from models whose plain weights are of no use."""

import math

import pytest
import torch
from known import seeded, tensor

from equilibra.density.path_annealing import anneal_paths
from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import Torus
from equilibra.errors import DivergenceError, InputError
from equilibra.geometry import so3
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state import State
from equilibra.testing import GaussianComponents, GaussianMixture, IGSO3Components, JointDistribution, WrappedNormalComponents
from equilibra.thermo.weights import effective_sample_size, lineage_log_weights

SCHEDULE = VarianceExploding(sigma_min=0.05, sigma_max=8.0)


def like(n, *shape):
    return State({"x": torch.zeros(n, *shape, dtype=torch.float64)})


def chain(model, steps=24, prior=None):
    kernels = path_kernels(model.process, noise_grid(model.process, GridConfig(steps=steps - 1)))
    return kernels if prior is None else kernels.scaled(x=prior)


def gaussian(mean, std, axes):
    return GaussianMixture(tensor([1.0]), tensor([[mean] * axes]), tensor([std]), schedule=SCHEDULE)


def quartic(state):
    return (state.fields["x"] ** 4 / 4 - state.fields["x"] ** 2).sum(1)


def ess(log_weights):
    w = torch.softmax(log_weights, 0)
    return float(1.0 / (w**2).sum() / len(w))


def z_score(values, exact):
    values = torch.tensor(values, dtype=torch.float64)
    return float((values.mean() - exact) / (values.std() / math.sqrt(len(values))))


def test_fixed_levels_give_an_unbiased_z():
    model = gaussian(0.0, math.sqrt(2.0), 1)
    kernels = chain(model, 12, prior=1.21 * 64.0)
    exact = math.exp(2.026500)
    found = [
        math.exp(anneal_paths(model, like(200, 1), kernels, quartic, generator=seeded(s), lambdas=(0.3, 0.6, 1.0)).log_z)
        for s in range(60)
    ]
    assert abs(z_score(found, exact)) < 4


def test_a_model_whose_weights_are_of_no_use_gives_the_right_distribution():
    # six quartic double wells; hardly a path of a wide Gaussian counts
    axes, n, populations = 6, 500, 12
    model = gaussian(0.3, 1.15, axes)
    kernels = chain(model)
    assert ess(draw_weighted(model, like(n, axes), kernels, quartic, generator=seeded(100)).log_weights) < 0.06
    lambdas = anneal_paths(model, like(n, axes), kernels, quartic, generator=seeded(99)).lambdas
    rows = []
    for seed in range(populations):
        made = anneal_paths(model, like(n, axes), kernels, quartic, generator=seeded(seed), moves=4, lambdas=lambdas)
        lineages = effective_sample_size(lineage_log_weights(made.log_weights, made.ancestors)).value
        assert 1.0 <= lineages <= ess(made.log_weights) * n + 1e-6
        w, x = torch.exp(made.log_weights - axes * 2.0265)[:, None], made.state.fields["x"]
        rows.append(torch.stack([w.mean(), (w * x**2).mean(), (w * (x < 0)).mean()]))
    z, second, left = torch.stack(rows).T
    grid = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    p = torch.exp(grid**2 - grid**4 / 4)
    # with levels fixed beforehand each of these means is unbiased, and ratios of their sums are consistent
    assert abs(z_score(z.tolist(), 1.0)) < 4
    assert abs(z_score((second - float((p * grid**2).sum() / p.sum()) * z).tolist(), 0.0)) < 4
    assert abs(z_score((left - 0.5 * z).tolist(), 0.0)) < 4
    assert float(second.sum() / z.sum()) == pytest.approx(1.6655, rel=0.1)
    assert float(left.sum() / z.sum()) == pytest.approx(0.5, abs=0.05)


FRAMES = {"place": VarianceExploding(sigma_min=0.05, sigma_max=10.0), "turn": VarianceExploding(sigma_min=0.03, sigma_max=2.5)}


def frames(weights, stds, log_z=0.0):
    """Two places, each with a turn and two angles of its own: what poses of a ligand are."""
    turns = so3.exp(tensor([[0.3, -0.2, 0.5], [-1.0, 0.8, 0.1]]))
    laws = {
        "place": GaussianComponents(tensor([[1.0, 0.0, 0.0], [-1.0, 0.5, 0.0]]), tensor(stds)),
        "turn": IGSO3Components(turns, tensor(stds)),
        "angles": WrappedNormalComponents(tensor([[0.5, -2.0], [2.5, 1.0]]), tensor(stds), space=Torus(period=2 * math.pi)),
    }
    angles = VarianceExploding(sigma_min=0.03, sigma_max=5.0)
    return JointDistribution(tensor(weights), laws, {**FRAMES, "angles": angles}, log_z)


def test_places_turns_and_angles_come_to_the_populations_of_the_target():
    model, target = frames([0.5, 0.5], [0.9, 1.2]), frames([0.8, 0.2], [0.5, 0.7], log_z=1.3)
    n, populations = 80, 6
    shape = model.sample(n, generator=seeded(1))
    kernels = path_kernels(model.process, noise_grid(model.process, GridConfig(steps=9, spacing="log", end="noisy")))
    kernels = fit_variances(model, model.sample(400, generator=seeded(2)), kernels, generator=seeded(3))
    plain = draw_weighted(model, shape, kernels, target.reduced_energy, generator=seeded(4))
    lambdas = anneal_paths(model, shape, kernels, target.reduced_energy, generator=seeded(99)).lambdas
    assert ess(plain.log_weights) < 0.2
    assert len(lambdas) > 1
    rows = []
    for seed in range(populations):
        made = anneal_paths(model, shape, kernels, target.reduced_energy, generator=seeded(seed), moves=2, lambdas=lambdas)
        w, x = torch.exp(made.log_weights - 1.3), made.state
        first = target.responsibilities(x)[:, 0]
        near = so3.log(so3.exp(tensor([0.3, -0.2, 0.5])).T @ x.fields["turn"]).norm(dim=1) < 1.0
        rows.append(torch.stack([w.mean(), (w * first).mean(), (w * x.fields["angles"][:, 0].cos()).mean(), (w * near).mean()]))
    z, first, cosine, near = torch.stack(rows).T
    exact = target.sample(20_000, generator=seeded(5))
    share = float((so3.log(so3.exp(tensor([0.3, -0.2, 0.5])).T @ exact.fields["turn"]).norm(dim=1) < 1.0).double().mean())
    # wrapped normal: E cos x = cos(mean) exp(-std^2/2)
    known = 0.8 * math.cos(0.5) * math.exp(-0.125) + 0.2 * math.cos(2.5) * math.exp(-0.245)
    assert abs(z_score(z.tolist(), 1.0)) < 4
    assert abs(z_score((first - 0.8 * z).tolist(), 0.0)) < 4
    assert abs(z_score((cosine - known * z).tolist(), 0.0)) < 4
    assert abs(z_score((near - share * z).tolist(), 0.0)) < 4
    assert float(z.std()) < 0.8
    assert float(first.sum() / z.sum()) == pytest.approx(0.8, abs=0.15)


def test_moves_alone_leave_the_target_invariant():
    # a perfect model: every weight is the same, every move is accepted, and nothing changes
    model = gaussian(0.0, 1.0, 2)
    data = State({"x": torch.randn(50_000, 2, generator=seeded(9), dtype=torch.float64)})
    kernels = fit_variances(model, data, chain(model, 40, prior=1.0 + 8.0**2), generator=seeded(8))

    def u(state):
        return 0.5 * state.fields["x"].square().sum(1)

    made = anneal_paths(model, like(4000, 2), kernels, u, generator=seeded(3), moves=3)
    assert made.lambdas[-1] == 1.0
    assert min(made.acceptance) > 0.95
    assert len(made.lambdas) == 1
    assert made.log_z == pytest.approx(math.log(2.0 * math.pi), abs=0.005)
    assert made.calls > kernels.steps
    assert float(made.state.fields["x"].var()) == pytest.approx(1.0, abs=0.06)


def test_conformations_of_infinite_energy_drop_out():
    model = gaussian(0.0, 1.0, 1)

    def half(state):
        x = state.fields["x"][:, 0]
        return torch.where(x > 0, 0.5 * x**2, math.inf)

    found = [
        anneal_paths(model, like(500, 1), chain(model, 20, prior=65.0), half, generator=seeded(s), lambdas=(0.5, 1.0))
        for s in range(20)
    ]
    assert all(bool((made.state.fields["x"][made.log_weights > -math.inf] > 0).all()) for made in found)
    assert abs(z_score([math.exp(made.log_z) for made in found], 0.5 * math.sqrt(2.0 * math.pi))) < 4


def test_the_same_generator_gives_the_same_population():
    model = gaussian(0.3, 0.9, 2)
    one, two = (anneal_paths(model, like(50, 2), chain(model, 10), quartic, generator=seeded(5)) for _ in range(2))
    assert torch.equal(one.log_weights, two.log_weights)
    assert torch.equal(one.state.fields["x"], two.state.fields["x"])


def test_wrong_options_and_energies_are_refused():
    model = gaussian(0.0, 1.0, 1)
    kernels = chain(model, 5)
    with pytest.raises(InputError, match="at least 2 paths"):
        anneal_paths(model, like(1, 1), kernels, quartic, generator=seeded(0))
    with pytest.raises(InputError, match="ascend"):
        anneal_paths(model, like(8, 1), kernels, quartic, generator=seeded(0), lambdas=(0.5, 0.4, 1.0))
    with pytest.raises(DivergenceError, match="not a number"):
        anneal_paths(model, like(8, 1), kernels, lambda s: s.fields["x"][:, 0] * math.nan, generator=seeded(0))
    with pytest.raises(DivergenceError, match="finite energy"):
        anneal_paths(model, like(8, 1), kernels, lambda s: s.fields["x"][:, 0] * 0 + math.inf, generator=seeded(0))
