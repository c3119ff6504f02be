import dataclasses
import math

import pytest
import torch

from equilibra.diffusion.denoiser import NetworkDenoiser, Prediction
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching, TargetMixture
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Torus, expand
from equilibra.errors import ConfigError
from equilibra.geometry import so3
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import Features, State
from equilibra.testing import GaussianMixture, JointDistribution
from equilibra.testing.curved_components import IGSO3Components, WrappedNormalComponents

SCHEDULE = VarianceExploding(sigma_min=0.01, sigma_max=10.0)
A, B, TAU = 0.8, 0.6, 0.7  # fact F18 of the theory: x_t = a x_0 + b eps, data of the standard deviation tau
SIGMA = B / A
C_STAR = TAU**2 / (TAU**2 + SIGMA**2)
NO_FEATURES = Features(node={"element": torch.zeros(1, 1, dtype=torch.int64)}, mask=torch.ones(1, 1, dtype=torch.bool))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


class OneLevel(NoiseLevels):
    """A single noise level for all, in place of a distribution."""

    def __init__(self, sigma):
        super().__init__()
        object.__setattr__(self, "sigma", sigma)

    def times(self, process, batch, *, generator, device):
        return process.time(torch.full((batch,), self.sigma, dtype=torch.float64, device=device))


class Exact:
    """The exact denoiser of a distribution, with an optional error that has parameters."""

    def __init__(self, distribution, parameters=None):
        self.distribution, self.parameters = distribution, parameters

    def __call__(self, state, t, features):
        displacement = self.distribution(state, t).displacements["x"]
        if self.parameters is not None:
            sigma = expand(self.distribution.process.sigma("x", t), displacement)
            displacement = displacement * (1 + self.parameters[0]) + self.parameters[1] * sigma
        return Prediction({"x": displacement})


def gaussian(stds, schedule=SCHEDULE):
    return GaussianMixture(tensor([1.0]), torch.zeros(1, len(stds), 1), tensor([stds]), schedule=schedule)


def bimodal():
    return GaussianMixture(tensor([0.7, 0.3]), tensor([[[-0.8]], [[1.2]]]), tensor([0.3, 0.5]), schedule=SCHEDULE)


def batch_of(distribution, n, generator, classes=None):
    """Exact samples with their exact forces."""
    state = distribution.sample(n, generator=generator)
    x = state.fields["x"].requires_grad_()
    (forces,) = torch.autograd.grad(distribution.log_density(State({"x": x})).sum(), x)
    classes = torch.zeros(1, x.shape[1], dtype=torch.int64) if classes is None else classes
    return TrainingBatch(State({"x": x.detach()}), NO_FEATURES, {"x": forces}, classes)


def set_weight(objective, c):
    objective.mixture.numerator.fill_(c)
    objective.mixture.denominator.fill_(1.0)


@pytest.mark.parametrize(("c", "expected"), [(0.0, 1.293), (1.0, 1.704), (C_STAR, 0.0)])
def test_variances_of_the_targets_of_gaussian_data(c, expected):
    """With the exact denoiser the loss is the variance of the target: fact F18."""
    d = gaussian([TAU])
    objective = ScoreMatching(d.process, OneLevel(SIGMA), forces=True).eval()
    set_weight(objective, c)
    values = []
    for seed in range(40):
        g = seeded(seed)
        values.append(objective(Exact(d), batch_of(d, 2000, g), generator=g)["loss"])
    values = torch.stack(values)
    # from displacements over c_out to scores of x_t
    c_out = SIGMA * TAU / math.sqrt(SIGMA**2 + TAU**2)
    variance = values * c_out**2 / (A * SIGMA**2) ** 2
    if expected == 0.0:
        assert variance.max() < 1e-10
    else:
        assert abs(variance.mean() - expected) < 4 * variance.std() / math.sqrt(len(values)) + 5e-4


def test_optimal_weight_is_that_of_the_theory():
    assert pytest.approx(0.4656, abs=5e-5) == C_STAR


@pytest.mark.parametrize("sigma", [0.05, 0.7, 3.0])
def test_online_weight_converges_for_each_class(sigma):
    stds = [0.1, 0.7, 0.7, 2.0]
    classes = torch.tensor([[1, 6, 6, 7]])
    d = gaussian(stds)
    objective = ScoreMatching(d.process, OneLevel(sigma), forces=True, classes=9).train()
    for seed in range(100):
        g = seeded(seed)
        objective(Exact(d), batch_of(d, 20, g, classes), generator=g)
    cells = objective.mixture.cells(tensor([sigma]), classes)
    expected = tensor([s**2 / (s**2 + sigma**2) for s in stds])
    torch.testing.assert_close(objective.mixture.weight(cells)[0].double(), expected, atol=2e-3, rtol=0.0)


def test_evaluation_does_not_move_the_weights():
    d = gaussian([TAU])
    objective = ScoreMatching(d.process, OneLevel(SIGMA), forces=True).eval()
    before = objective.mixture.numerator.clone()
    objective(Exact(d), batch_of(d, 50, seeded(0)), generator=seeded(1))
    assert torch.equal(objective.mixture.numerator, before)


def test_weights_start_between_zero_and_one_and_fall_with_noise():
    mixture = TargetMixture(gaussian([TAU]).process, classes=3)
    sigma = torch.logspace(-2, 1, 50)
    c = mixture.weight(mixture.cells(sigma, torch.zeros(1, 1, dtype=torch.int64)))[:, 0]
    assert c.min() > 0.0
    assert c.max() < 1.0
    assert (c.diff() <= 0).all()


@pytest.mark.parametrize("sigma", [0.1, 0.6, 2.0])
def test_both_targets_have_the_exact_conditional_mean(sigma):
    """E[(y - delta) g(x_t)] = 0 for any g and any weight: the mixture is unbiased."""
    d = bimodal()
    n, t = 100_000, d.process.time(torch.full((100_000,), sigma, dtype=torch.float64))
    batch = batch_of(d, n, seeded(1))
    noisy = d.process.noise(batch.state, t, generator=seeded(2))
    x = noisy.fields["x"]
    denoising = d.process.fields["x"].space.kernel_displacement(batch.state.fields["x"], x, torch.full((n,), sigma))
    target = sigma**2 * batch.forces["x"]
    exact = d(noisy, t).displacements["x"]
    for c in (0.0, 0.4, 1.0):
        residual = ((1 - c) * denoising + c * target - exact).flatten()
        for g in (torch.ones(n), x.flatten(), torch.sin(2 * x.flatten()), torch.tanh(x.flatten() / sigma)):
            values = residual * g
            assert abs(values.mean()) < 4 * values.std() / math.sqrt(n)


@pytest.mark.parametrize("forces", [False, True])
def test_the_exact_score_is_a_stationary_point_of_the_loss(forces):
    d = bimodal()
    objective = ScoreMatching(d.process, NoiseLevels(width=1.0), forces=forces).train()
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    gradients = []
    for seed in range(80):
        g = seeded(seed)
        loss = objective(Exact(d, parameters), batch_of(d, 100, g), generator=g)["loss"]
        gradients.append(torch.autograd.grad(loss, parameters)[0])
    gradients = torch.stack(gradients)
    z = gradients.mean(0) / (gradients.std(0) / math.sqrt(len(gradients)))
    assert (gradients.std(0) > 0).all()
    assert (z.abs() < 4).all()


class Zero(torch.nn.Module):
    def forward(self, inputs, levels, features):
        return {"x": torch.zeros_like(inputs["x"] if inputs["x"].shape[-2:] != (3, 3) else inputs["x"][..., 0])}


def spaces():
    g = seeded(3)
    normal = torch.randn(2000, 5, 3, generator=g, dtype=torch.float64)
    centred = normal - normal.mean(1, keepdim=True)
    exploding = VarianceExploding(sigma_min=0.02, sigma_max=3.0)
    return {
        "euclidean": (Field(space=Euclidean(), schedule=SCHEDULE, data_scale=1.7), 1.7 * normal),
        "preserving": (Field(space=Euclidean(), schedule=VarianceLinear(scale=0.6), data_scale=0.6), 0.6 * normal),
        "centred": (Field(space=CentredEuclidean(), schedule=SCHEDULE, data_scale=0.4), 0.4 * centred),
        "so3": (Field(space=SO3(), schedule=exploding), so3.uniform((80, 25), generator=g, dtype=torch.float64)),
        "torus": (
            Field(space=Torus(), schedule=VarianceExploding(sigma_min=0.01, sigma_max=0.5)),
            torch.rand_like(normal) % 1.0,
        ),
    }


@pytest.mark.parametrize("name", ["euclidean", "preserving", "centred", "so3", "torus"])
def test_a_network_that_returns_zero_starts_with_a_loss_of_one(name):
    field, x0 = spaces()[name]
    process = Process({"x": field})
    for fraction in (0.0, 0.5, 1.0):
        sigma = field.schedule.sigma_min * (field.schedule.sigma_max / field.schedule.sigma_min) ** fraction
        objective = ScoreMatching(process, OneLevel(sigma))
        batch = TrainingBatch(State({"x": x0}), NO_FEATURES)
        loss = objective(NetworkDenoiser(Zero(), process), batch, generator=seeded(5))["loss"]
        assert float(loss) == pytest.approx(1.0, abs=0.08), f"sigma {sigma}"


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 256])
def test_the_log_has_three_parts_for_every_batch_size(batch):
    d = gaussian([TAU, TAU])
    parts = ScoreMatching(d.process, NoiseLevels())(Exact(d), batch_of(d, batch, seeded(0)), generator=seeded(1))
    assert set(parts) == {"loss", "loss_small_noise", "loss_middle_noise", "loss_large_noise"}
    assert all(torch.isfinite(value) for value in parts.values())


@pytest.mark.parametrize(("median", "width"), [(0.15, 1.6), (1.0, 0.5), (0.02, 3.0)])
def test_noise_levels_are_stratified_and_in_range(median, width):
    process = Process({"x": Field(space=Euclidean(), schedule=SCHEDULE, data_scale=2.0)})
    levels, n = NoiseLevels(median=median, width=width), 200
    t = levels.times(process, n, generator=seeded(0), device=torch.device("cpu"))
    assert t.shape == (n,)
    assert t.min() >= 0.0
    assert t.max() <= 1.0
    normal = torch.distributions.Normal(math.log(median * 2.0), width)
    low, high = normal.cdf(tensor([math.log(0.01), math.log(10.0)]))
    quantile = (normal.cdf(torch.log(SCHEDULE.sigma(t))) - low) / (high - low)
    strata = torch.floor(quantile.sort().values * n).long()
    assert torch.equal(strata, torch.arange(n))
    assert not torch.equal(quantile.argsort(), torch.arange(n))  # in random order
    offsets = quantile.sort().values * n - strata
    assert abs(offsets.mean() - 0.5) < 4 / math.sqrt(12 * n)


def test_noise_levels_depend_on_the_generator_alone():
    process = gaussian([TAU]).process
    draws = [NoiseLevels().times(process, 8, generator=seeded(4), device=torch.device("cpu")) for _ in range(2)]
    assert torch.equal(*draws)
    with pytest.raises(ConfigError, match="positive"):
        NoiseLevels(median=0.0)
    with pytest.raises(ConfigError, match="positive"):
        NoiseLevels(width=-1.0)


@pytest.mark.parametrize("sigma", [0.1, 0.6])
def test_forces_teach_the_score_on_rotations_and_torsions(sigma):
    """Fact F19 for the mixture's own formula: sigma^2 s0(x0) has the conditional mean sigma^2 s(x_t) on SO(3) and on the torus."""
    turns = torch.stack([so3.exp(torch.tensor([0.5, -1.0, 0.3])), so3.exp(torch.tensor([-0.8, 0.2, 2.0]))])[:, None].double()
    angles = torch.tensor([[[1.0]], [[-1.2]]], dtype=torch.float64)
    schedule = VarianceExploding(sigma_min=0.05, sigma_max=5.0)
    weights = torch.tensor([0.6, 0.4])
    laws = {
        "turn": IGSO3Components(turns, torch.tensor([0.5, 0.7])),
        "torsions": WrappedNormalComponents(angles, torch.tensor([0.6, 0.5]), space=Torus(period=2 * math.pi)),
    }
    d = JointDistribution(weights, laws, schedule)
    n = 20_000
    clean = d.sample(n, generator=seeded(3))
    t = schedule.time(torch.full((n,), sigma, dtype=torch.float64))
    noisy = d.process.noise(clean, t, generator=seeded(4))
    little = schedule.time(torch.full((n,), 1e-3, dtype=torch.float64))
    data = {name: value / 1e-6 for name, value in d(clean, little).displacements.items()}
    exact = d(noisy, t).displacements
    for name, expected in exact.items():
        residual = sigma**2 * data[name] - expected
        mean, error = residual.mean(0), residual.std(0) / math.sqrt(n)
        assert ((mean / error).abs() < 4).all()
        for share, holds in ((1.0, True), (0.5, False)):  # forces of half the strength must not pass
            product = ((share * sigma**2 * data[name] - expected) * expected).flatten(1).sum(1)
            assert (abs(float(product.mean())) < 4 * float(product.std()) / math.sqrt(n)) is holds


def test_forces_are_refused_where_the_origin_is_arbitrary_and_need_classes():
    relative = Process({"x": Field(space=Torus(centred=True), schedule=VarianceExploding(sigma_min=0.02, sigma_max=3.0))})
    with pytest.raises(ConfigError, match="arbitrary"):
        ScoreMatching(relative, NoiseLevels(), forces=True)
    d = gaussian([TAU])
    batch = batch_of(d, 10, seeded(0))
    bare = TrainingBatch(batch.state, batch.features, batch.forces, None)
    with pytest.raises(ConfigError, match="class"):
        ScoreMatching(d.process, NoiseLevels(), forces=True)(Exact(d), bare, generator=seeded(1))


def test_samples_without_forces_are_denoised_and_teach_the_mixture_nothing():
    d = bimodal()
    batch = batch_of(d, 60, seeded(0))
    known = torch.arange(60) % 3 == 0
    made = []
    for rest in (0.0, 1e6):
        forces = torch.where(known[:, None, None], batch.forces["x"], rest)
        objective = ScoreMatching(d.process, NoiseLevels(), forces=True).train()
        set_weight(objective, 0.5)
        some = dataclasses.replace(batch, forces={"x": forces}, known=known)
        made.append((objective(Exact(d), some, generator=seeded(1))["loss"], objective.mixture.numerator.clone()))
    assert torch.equal(made[0][0], made[1][0])
    assert torch.equal(made[0][1], made[1][1])
    assert not torch.equal(made[0][1], torch.full_like(made[0][1], 0.5))
    none = dataclasses.replace(batch, forces={"x": torch.zeros_like(batch.forces["x"])}, known=torch.zeros_like(known))
    objective = ScoreMatching(d.process, NoiseLevels(), forces=True).train()
    set_weight(objective, 0.5)
    plain = ScoreMatching(d.process, NoiseLevels())(Exact(d), batch, generator=seeded(1))["loss"]
    torch.testing.assert_close(objective(Exact(d), none, generator=seeded(1))["loss"], plain)
    assert torch.equal(objective.mixture.numerator, torch.full_like(objective.mixture.numerator, 0.5))


def padded_batch(process):
    x = torch.randn(6, 5, 3, generator=seeded(1), dtype=torch.float64)
    mask = torch.arange(5)[None] < torch.tensor([5, 3, 4, 5, 2, 3])[:, None]
    x = process.fields["x"].space.project(x, mask)
    return TrainingBatch(State({"x": x}, {"x": mask}), NO_FEATURES, {"x": -x}, torch.where(mask, 6, 0))


def test_padding_brings_no_loss_and_never_spoils_the_mixture():
    process = Process({"x": Field(space=CentredEuclidean(), schedule=SCHEDULE, data_scale=1.0)})
    batch = padded_batch(process)
    objective = ScoreMatching(process, NoiseLevels(), forces=True).train()
    objective.mixture.memory = 0.0  # what thousands of updates do to the class of the padding
    for seed in range(3):
        loss = objective(NetworkDenoiser(Zero(), process), batch, generator=seeded(seed))["loss"]
        assert torch.isfinite(loss)
    weights = objective.mixture.weight(torch.arange(objective.mixture.numerator.numel()))
    assert torch.isfinite(weights).all()


class Perceptron(torch.nn.Module):
    def __init__(self, dim, width=64):
        super().__init__()
        layers = [torch.nn.Linear(dim + 1, width), torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(width, dim))

    def forward(self, inputs, levels, features):
        x = inputs["x"]
        return {"x": self.layers(torch.cat([x.flatten(1), 4 * levels], dim=1)).reshape(x.shape)}


@pytest.mark.parametrize("forces", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_trained_network_samples_the_right_distribution(forces):
    d = GaussianMixture(tensor([0.7, 0.3]), tensor([[[-1.0, 0.4]], [[1.4, -0.3]]]), tensor([0.35, 0.5]), schedule=SCHEDULE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = NetworkDenoiser(Perceptron(2), d.process)
    objective = ScoreMatching(d.process, NoiseLevels(median=0.4, width=1.4), forces=forces).train()
    pool = batch_of(d, 20_000, seeded(1))
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    g, steps = seeded(2), 400
    for step in range(steps):
        rows = torch.randint(20_000, (256,), generator=g)
        batch = TrainingBatch(
            pool.state[rows].to(dtype=torch.float32), NO_FEATURES, {"x": pool.forces["x"][rows].float()}, pool.classes
        )
        loss = objective(denoiser, batch, generator=g)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.step()
    like = State({"x": torch.zeros(4000, 1, 2)})
    levels = noise_grid(d.process, GridConfig(steps=20))
    samples = (
        draw(SamplerConfig().make(), denoiser.bind(NO_FEATURES), like, levels, generator=seeded(3)).fields["x"][:, 0].double()
    )
    exact = d.sample(200_000, generator=seeded(4)).fields["x"][:, 0]
    share = d.responsibilities(State({"x": samples[:, None]}))[:, 1].mean()
    assert abs(share - 0.3) < 0.05
    assert (samples.mean(0) - exact.mean(0)).abs().max() < 0.12
    torch.testing.assert_close(torch.cov(samples.T), torch.cov(exact.T), atol=0.12, rtol=0.1)
