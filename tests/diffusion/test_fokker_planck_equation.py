"""Facts F14 and F16 of the theory: exact distributions have no residual, on every Space and with every schedule."""

import dataclasses

import pytest
import torch
from diffusion_exact import NO_FEATURES, Exact, LinearVariance, exact_probes, seeded, tensor

from equilibra.diffusion.denoiser import Prediction
from equilibra.diffusion.fokker_planck import (
    log_density_residual,
    noise_rates,
    rademacher_probes,
    score_rates,
    transported_scores,
    weak_residuals,
)
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import CentredEuclidean, Euclidean
from equilibra.errors import ConfigError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.testing import (
    GaussianComponents,
    GaussianMixture,
    IGSO3Components,
    IGSO3Mixture,
    JointDistribution,
    LatticeGaussian,
    RelativeTorusMixture,
    WrappedNormalComponents,
    WrappedNormalMixture,
)

VE = VarianceExploding(sigma_min=0.05, sigma_max=5.0)
VP = VarianceLinear(scale=1.0, t_min=1e-2)
WEIGHTS = tensor([0.7, 0.3])


def mixture(schedule):
    return GaussianMixture(WEIGHTS, tensor([[1.5, 0.2], [-1.0, -0.4]]), tensor([0.6, 0.4]), schedule=schedule)


def rotations(n, seed):
    return so3.uniform((n,), generator=seeded(seed), dtype=torch.float64)


DISTRIBUTIONS = {
    "plane, exploding": lambda: mixture(VE),
    "plane, preserving": lambda: mixture(VP),
    "mean-free particles": lambda: GaussianMixture(
        WEIGHTS, torch.randn(2, 3, 2, generator=seeded(0)).double(), tensor([0.6, 0.4]), schedule=VE, space=CentredEuclidean()
    ),
    "lattice": lambda: LatticeGaussian(
        torch.diag(tensor([0.2, 0.0, -0.3])), schedule=VP, covariance=torch.diag(tensor([0.3, 0.5, 0.2, 0.4, 0.6, 0.7]))
    ),
    "torus": lambda: WrappedNormalMixture(WEIGHTS, tensor([[0.1, 0.3], [-0.3, 0.2]]), tensor([0.1, 0.15]), schedule=VE),
    "torus without origin": lambda: RelativeTorusMixture(WEIGHTS, tensor([[0.3], [-0.2]]), tensor([0.1, 0.2]), schedule=VE),
    "rotations": lambda: IGSO3Mixture(WEIGHTS, rotations(2, 4), tensor([0.5, 0.7]), schedule=VE),
    "frames": lambda: JointDistribution(
        WEIGHTS,
        {
            "place": GaussianComponents(tensor([[0.5, 0.0], [-0.5, 0.3]]), tensor([0.6, 0.4])),
            "turn": IGSO3Components(rotations(2, 5), tensor([0.5, 0.7])),
            "angle": WrappedNormalComponents(tensor([[0.1], [-0.3]]), tensor([0.1, 0.15])),
        },
        {"place": VP, "turn": VE, "angle": VarianceExploding(sigma_min=0.02, sigma_max=1.0)},
    ),
}


@pytest.fixture(params=DISTRIBUTIONS)
def case(request):
    d = DISTRIBUTIONS[request.param]()
    t = tensor([0.15, 0.3, 0.5, 0.7])
    state = State.cat([d.sample_noised(1, float(v), generator=seeded(k)) for k, v in enumerate(t)])
    return d, state, t, exact_probes(d.process, state)


def test_exact_log_densities_have_no_residual(case):
    d, state, t, probes = case
    residual = log_density_residual(Exact(d), d.process, state, t, NO_FEATURES, probes)
    scale = noise_rates(d.process, t)[d.process.reference] / d.process.sigma(d.process.reference, t) ** 2
    assert (residual / scale).abs().max() < 1e-6


def test_exact_scores_have_no_residual(case):
    d, state, t, probes = case
    transported = transported_scores(Exact(d), d.process, state, t, NO_FEATURES, probes)
    rates = score_rates(Exact(d), d.process, state, t, NO_FEATURES, step=1e-4)
    for name in d.process.moving:
        size = rates[name].abs().max()
        assert size > 1e-3
        assert (transported[name] - rates[name]).abs().max() < 1e-6 * max(1.0, float(size))


def test_a_wrong_rate_is_seen(case):
    d, state, t, probes = case
    faster = {
        n: dataclasses.replace(f, schedule=VarianceExploding(sigma_min=0.02, sigma_max=9.0))
        for n, f in d.process.fields.items()
    }
    residual = log_density_residual(Exact(d), Process(faster), state, t, NO_FEATURES, probes)
    assert residual.abs().max() > 1e-2


def test_the_sign_of_the_dimension_shifts_the_residual_of_the_preserving_variable():
    """Fact F14: in raw time the drift brings D_eff; with the wrong sign the residual is beta_t D_eff exactly."""
    d, t = mixture(VP), tensor([0.2, 0.5, 0.8])
    x = d.process.to_signal(d.sample_noised(3, 0.5, generator=seeded(0)), t).fields["x"]

    def log_density(x, t, sign):
        a = VP.alpha(t)
        return d.log_density(State({"x": x / a[:, None]}), t) - sign * 2 * torch.log(a)

    beta = VP.beta_0 + t * (VP.beta_1 - VP.beta_0)
    x, time = x.requires_grad_(True), t.clone().requires_grad_(True)
    for sign, shift in ((1.0, 0.0), (-1.0, 1.0)):
        (s,) = torch.autograd.grad(log_density(x, time, sign).sum(), x, create_graph=True)
        divergence = sum(torch.autograd.grad(s[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(2))
        (rate,) = torch.autograd.grad(log_density(x, time, sign).sum(), time)
        right = beta / 2 * (2 + (x * s).sum(1) + divergence + (s * s).sum(1))
        torch.testing.assert_close(right - rate, shift * beta * 2, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", ["plane, exploding", "plane, preserving", "frames"])
def test_products_of_weak_residuals_average_to_zero(name):
    d, n = DISTRIBUTIONS[name](), 8000
    t = torch.full((n,), 0.35, dtype=torch.float64)
    state = d.sample_noised(n, 0.35, generator=seeded(1))
    one, two = weak_residuals(Exact(d), d.process, state, t, NO_FEATURES, size=1e-4, generator=seeded(2))
    product = (one * two).detach()
    assert abs(product.mean()) < 4 * product.std() / n**0.5
    # a single square is dominated by the probes
    assert (one**2).mean() > 6 * product.std() / n**0.5


def test_weak_residuals_have_the_mean_of_the_residual():
    """With a score that is wrong by a factor, the product estimates the square of the true residual."""
    d, n = mixture(VE), 20_000

    def wrong(state, t, features):
        made = d(state, t)
        return Prediction({"x": 1.4 * made.displacements["x"]}, made.log_density)

    state = d.sample_noised(1, 0.4, generator=seeded(3))
    many = State({"x": state.fields["x"].expand(n, -1)})
    t = torch.full((n,), 0.4, dtype=torch.float64)
    one, two = weak_residuals(wrong, d.process, many, t, NO_FEATURES, size=1e-4, generator=seeded(4))
    exact = log_density_residual(wrong, d.process, state, t[:1], NO_FEATURES, exact_probes(d.process, state))
    exact = exact / (noise_rates(d.process, t[:1])["x"] / d.process.sigma("x", t[:1]) ** 2)
    product = (one * two).detach()
    assert abs(exact) > 0.05
    assert abs(product.mean() - exact**2) < 4 * product.std() / n**0.5


def test_random_signs_give_the_trace_on_average():
    d, n = DISTRIBUTIONS["mean-free particles"](), 3000
    state = d.sample_noised(1, 0.3, generator=seeded(5))
    t = tensor([0.3])
    exact = log_density_residual(Exact(d), d.process, state, t, NO_FEATURES, exact_probes(d.process, state))
    many = State({"x": state.fields["x"].expand(n, -1, -1)})
    probes = [rademacher_probes(d.process, many, generator=seeded(6))]
    values = log_density_residual(Exact(d), d.process, many, t.expand(n), NO_FEATURES, probes)
    assert values.std() > 0
    assert abs(values.mean() - exact) < 4 * values.std() / n**0.5


COVARIANCE = tensor([[1.0, 0.6], [0.6, 1.0]])


class CoupledGaussian:
    """Fact F16: one Gaussian over two fields with different rates."""

    def __init__(self):
        fields = {
            "one": Field(space=Euclidean(), schedule=LinearVariance(0.5, 1.0, 0.4)),
            "two": Field(space=Euclidean(), schedule=LinearVariance(0.3, 0.2, 0.4)),
        }
        self.process = Process(fields)

    def __call__(self, state, t, features):
        variance = torch.stack([self.process.sigma(name, t) ** 2 for name in ("one", "two")], dim=1)
        x = torch.cat([state.fields["one"], state.fields["two"]], dim=1)
        score = -torch.linalg.solve(COVARIANCE + torch.diag_embed(variance), x)
        return Prediction({name: variance[:, k, None] * score[:, k : k + 1] for k, name in enumerate(("one", "two"))})


@pytest.mark.parametrize(("blocks", "expected"), [("joint", (0.639769, -0.393972)), ("separate", (0.591353, -0.121040))])
def test_fields_are_coupled(blocks, expected):
    gaussian = CoupledGaussian()
    state, t = State({"one": tensor([[0.7]]), "two": tensor([[-0.4]])}), tensor([0.4])
    probes = exact_probes(gaussian.process, state)
    got = transported_scores(gaussian, gaussian.process, state, t, NO_FEATURES, probes, blocks=blocks)
    rates = score_rates(gaussian, gaussian.process, state, t, NO_FEATURES, step=1e-4)
    for name, value, truth in zip(("one", "two"), expected, (0.639769, -0.393972), strict=True):
        assert got[name].item() == pytest.approx(value, abs=2e-6)
        assert rates[name].item() == pytest.approx(truth, abs=2e-6)


def test_a_denoiser_without_a_density_is_refused():
    gaussian = CoupledGaussian()
    state = State({"one": tensor([[0.7]]), "two": tensor([[-0.4]])})
    with pytest.raises(ConfigError, match="conservative"):
        weak_residuals(gaussian, gaussian.process, state, tensor([0.4]), NO_FEATURES, size=1e-3, generator=seeded(0))
