"""The scalar objective on exact densities, and facts F15 and F17."""

import math

import pytest
import torch
from diffusion_exact import NO_FEATURES, Exact, seeded, tensor
from torch import nn

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.capped_energy import capped_energy
from equilibra.diffusion.objectives.fokker_planck import FokkerPlanck, FokkerPlanckConfig
from equilibra.diffusion.objectives.info_nce import time_info_nce
from equilibra.diffusion.objectives.noise_levels import NoiseLevels, log_uniform_times
from equilibra.diffusion.objectives.semigroup import semigroup_target
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import Euclidean
from equilibra.errors import ConfigError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.testing import GaussianMixture, IGSO3Mixture, WrappedNormalMixture

VE = VarianceExploding(sigma_min=1e-3, sigma_max=100.0)
ONLY = {"score": 0.0, "residual": 0.0, "clean_pin": 0.0, "prior_pin": 0.0}


def wells(weight, m=3.0, schedule=VE, std=1.0):
    return GaussianMixture(tensor([weight, 1 - weight]), tensor([[[m]], [[-m]]]), tensor([std, std]), schedule=schedule)


def batch_of(d, n, seed=0, shift=0.0):
    state = d.sample(n, generator=seeded(seed))
    return TrainingBatch(state, NO_FEATURES, energies=d.reduced_energy(state) + shift)


@pytest.mark.parametrize(("m", "expected"), [(3.0, 3.395e-3), (4.0, 1.383e-4), (5.0, 1.931e-6)])
def test_scores_are_blind_to_the_weights_of_modes(m, expected):
    """Fact F15, by quadrature: the score hardly changes with the weights, the density does whatever the separation."""
    right, wrong = wells(0.7, m), wells(0.5, m)
    x = torch.linspace(-m - 9, m + 9, 8001, dtype=torch.float64)
    state = State({"x": x[:, None, None]})
    t = torch.zeros(len(x), dtype=torch.float64)
    p = torch.exp(right.log_density(state)) * (x[1] - x[0])
    sigma = right.process.sigma("x", t)
    difference = right(state, t).score("x", sigma) - wrong(state, t).score("x", sigma)
    assert float((p * difference.flatten() ** 2).sum()) == pytest.approx(expected, rel=0.01)
    ratio = right.log_density(state) - wrong.log_density(state)
    mean = float((p * ratio).sum())
    assert mean == pytest.approx(0.08228, rel=0.03 if m < 4 else 0.01)
    assert float((p * ratio**2).sum()) - mean**2 == pytest.approx(0.15076, rel=0.05 if m < 4 else 0.01)


def test_the_pin_sees_them():
    """The density with the wrong weights has no residual and a perfect prior, but the pin on the energy sees it."""
    right, wrong = wells(0.7, 5.0), wells(0.5, 5.0)
    batch = batch_of(right, 4000)
    objective = FokkerPlanck(
        right.process, NoiseLevels(), FokkerPlanckConfig(**{**ONLY, "clean_pin": 1.0}, fraction=1.0, huber=10.0)
    )
    out = objective(Exact(wrong), batch, generator=seeded(0))
    # half the variance of the log-ratio about its median, where ln Z starts
    assert 0.5 * 0.15 < out["loss"] < 0.5 * 0.4
    other = FokkerPlanck(
        right.process, NoiseLevels(), FokkerPlanckConfig(**{**ONLY, "residual": 1.0}, fraction=1.0, probe=1e-4)
    )
    assert abs(other(Exact(wrong), batch, generator=seeded(0))["loss"]) < 1e-4


@pytest.mark.parametrize("schedule", [VE, VarianceLinear(scale=1.0, t_min=1e-5)])
def test_the_truth_fulfils_every_condition(schedule):
    d = GaussianMixture(tensor([1.0]), torch.zeros(1, 2, 2), tensor([1.0]), schedule=schedule)
    config = FokkerPlanckConfig(score=0.0, semigroup=1.0, fraction=1.0, probe=1e-4, semigroup_samples=64)
    objective = FokkerPlanck(d.process, NoiseLevels(), config)
    out = objective(Exact(d), batch_of(d, 64, shift=7.0), generator=seeded(1))
    assert out["log_z"] == pytest.approx(-7.0, abs=1e-3)
    for name in ("residual", "clean_pin", "prior_pin"):
        assert abs(out[f"loss_{name}"]) < 1e-5
    assert out["loss_semigroup"] < 1e-3
    assert set(out) >= {"loss", "semigroup_bias"}


def test_log_z_is_learned():
    d = wells(0.7)
    objective = FokkerPlanck(d.process, NoiseLevels(), FokkerPlanckConfig(**{**ONLY, "clean_pin": 1.0}, fraction=1.0))
    objective(Exact(d), batch_of(d, 100, shift=4.0), generator=seeded(0))
    assert objective.log_z.item() == pytest.approx(-4.0, abs=1e-4)
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for step in range(200):
        optimiser.zero_grad()
        objective(Exact(d), batch_of(d, 20, seed=step, shift=6.0), generator=seeded(step))["loss"].backward()
        optimiser.step()
    assert objective.log_z.item() == pytest.approx(-6.0, abs=0.05)
    assert set(objective.state_dict()) >= {"log_z_start", "log_z_shift", "started"}


SEMIGROUP = {
    "exploding": lambda: wells(0.7, 1.5, VarianceExploding(sigma_min=0.01, sigma_max=10.0), 0.7),
    "preserving": lambda: wells(0.7, 1.5, VarianceLinear(scale=1.0), 0.7),
    "torus": lambda: WrappedNormalMixture(
        tensor([0.7, 0.3]),
        tensor([[0.1], [-0.3]]),
        tensor([0.1, 0.15]),
        schedule=VarianceExploding(sigma_min=0.01, sigma_max=1.0),
    ),
    "rotations": lambda: IGSO3Mixture(
        tensor([0.7, 0.3]),
        so3.uniform((2,), generator=seeded(4), dtype=torch.float64),
        tensor([0.5, 0.7]),
        schedule=VarianceExploding(sigma_min=0.05, sigma_max=3.0),
    ),
}


@pytest.mark.parametrize("name", SEMIGROUP)
def test_noise_averages_densities(name):
    """Fact F17: the identity on every Space, and the bias of the logarithm of a mean."""
    d = SEMIGROUP[name]()
    n, exact = 4000, Exact(d)
    state = d.sample_noised(1, 0.6, generator=seeded(2))
    many = State({"x": state.fields["x"].expand(n, *state.fields["x"].shape[1:])})
    t = torch.full((n,), 0.6, dtype=torch.float64)
    truth = d.log_density(state, t[:1])
    got, bias = semigroup_target(exact.log_density, d.process, many, t, NO_FEATURES, step=0.8, samples=16, generator=seeded(3))
    means = torch.exp(got)
    assert means.std() > 0.0
    assert abs(means.mean() - torch.exp(truth)) < 4 * means.std() / math.sqrt(n)
    error = got.mean() - truth
    assert abs(error - bias.mean()) < 0.5 * abs(bias.mean()) + 4 * got.std() / math.sqrt(n)
    assert bias.mean() < 0


def test_classification_of_noise_levels_prefers_the_truth():
    """A density whose normalisation drifts with the noise has a larger cross-entropy; the exact one is below chance."""
    d, n = wells(0.7), 20_000
    exact = Exact(d)
    state = d.sample(n, generator=seeded(5))

    def drifting(state, t, features):
        return d.log_density(state, t) + 0.5 * torch.log(d.process.sigma("x", t))

    values = []
    for function in (exact.log_density, drifting):
        g = seeded(6)
        values.append(time_info_nce(function, d.process, state, NO_FEATURES, candidates=4, spread=2.0, generator=g))
    difference = values[1] - values[0]
    assert difference.mean() > 4 * difference.std() / math.sqrt(n)
    assert values[0].mean() < math.log(4)
    with pytest.raises(ConfigError, match="at least 2"):
        time_info_nce(exact.log_density, d.process, state, NO_FEATURES, candidates=1, spread=2.0, generator=seeded(0))


def test_capped_energies():
    u = tensor([-3.0, 5.0, 10.0, 11.0, 1e8])
    torch.testing.assert_close(capped_energy(u, 10.0)[:3], u[:3])
    assert capped_energy(u, 10.0)[3] == pytest.approx(10 + math.log(2))
    assert capped_energy(u, 10.0)[4] < 30.0
    assert torch.equal(capped_energy(u, None), u)
    with pytest.raises(ConfigError, match="NaN"):
        capped_energy(tensor([math.nan]), None)


class Quadratic(nn.Module):
    """A potential with one stiffness, and an offset."""

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(tensor(0.3))
        self.shift = nn.Parameter(tensor(0.1))

    def forward(self, inputs, levels, features):
        return {"x": self.stiffness * inputs["x"].square().sum((1, 2))}, self.shift + 0.0 * levels[:, 0]


@pytest.fixture
def quadratic():
    process = Process({"x": Field(space=Euclidean(), schedule=VE, data_scale=1.0)})
    return ConservativeDenoiser(Quadratic(), process)


def test_every_part_reaches_the_parameters(quadratic):
    d = GaussianMixture(tensor([1.0]), torch.zeros(1, 2, 2), tensor([1.0]), schedule=VE)
    for name in ("score", "residual", "clean_pin", "prior_pin", "semigroup", "info_nce"):
        objective = FokkerPlanck(quadratic.process, NoiseLevels(), FokkerPlanckConfig(**{**ONLY, name: 1.0}))
        out = objective(quadratic, batch_of(d, 16), generator=seeded(7))
        (gradient,) = torch.autograd.grad(out["loss"], quadratic.network.stiffness)
        assert torch.isfinite(gradient)
        assert gradient != 0.0
        torch.testing.assert_close(out["loss"].detach(), out[f"loss_{name}"])


def test_a_fraction_of_the_batch_is_enough(quadratic):
    """Terms other than the score see the first quarter."""
    d = GaussianMixture(tensor([1.0]), torch.zeros(1, 2, 2), tensor([1.0]), schedule=VE)
    batch = batch_of(d, 16)
    x = batch.state.fields["x"].clone()
    x[4:] = 1e3
    config = FokkerPlanckConfig(**{**ONLY, "clean_pin": 1.0})
    values = [
        FokkerPlanck(quadratic.process, NoiseLevels(), config)(quadratic, b, generator=seeded(8))["loss"]
        for b in (batch, TrainingBatch(State({"x": x}), NO_FEATURES, energies=batch.energies))
    ]
    torch.testing.assert_close(*values)


def test_errors(quadratic):
    d = wells(0.7)
    objective = FokkerPlanck(d.process, NoiseLevels(), FokkerPlanckConfig(score=0.0))
    no_energies = TrainingBatch(d.sample(8, generator=seeded(0)), NO_FEATURES)
    with pytest.raises(ConfigError, match="no energies"):
        objective(Exact(d), no_energies, generator=seeded(0))
    with pytest.raises(ConfigError, match="no log-density"):
        objective(lambda state, t, features: d(state, t), no_energies, generator=seeded(0))
    with pytest.raises(ConfigError, match="all weights are zero"):
        FokkerPlanckConfig(**ONLY)
    with pytest.raises(ConfigError, match="fraction"):
        FokkerPlanckConfig(fraction=0.0)
    with pytest.raises(ConfigError, match="low < high"):
        log_uniform_times(d.process, 0.0, 1e-4, 8, generator=seeded(0), device=torch.device("cpu"))


def test_levels_are_uniform_in_the_logarithm():
    d = wells(0.7)
    t = log_uniform_times(d.process, 0.1, 10.0, 1000, generator=seeded(0), device=torch.device("cpu"))
    level = torch.sort(torch.log10(d.process.sigma("x", t))).values
    torch.testing.assert_close(level, torch.linspace(-1, 1, 1000, dtype=torch.float64), atol=3e-3, rtol=0.0)
