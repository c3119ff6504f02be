"""Fact F22, and log Z of path weights: unbiased for any model, with honest errors."""

import math

import pytest
import torch
from known import WIDE, centred, harmonic, pose, relative, seeded, tensor

from equilibra.density.path_weights import draw_weighted, elbo, eubo, fit_variances, path_kernels, reverse_weights
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.errors import ConfigError, DivergenceError, SpaceError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state import State
from equilibra.testing import GaussianMixture


def like(n, *shape):
    return State({"x": torch.zeros(n, *shape, dtype=torch.float64)})


def grid(target, count):
    return noise_grid(target.process, GridConfig(steps=count - 1))


def ess(log_weights):
    w = torch.exp(log_weights - log_weights.max())
    return float(w.sum() ** 2 / (w**2).sum() / len(w))


def quartic(state):
    return (state.fields["x"] ** 4 / 4 - state.fields["x"] ** 2).sum(1)


def quartic_samples(n, generator):
    x = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    cumulative = torch.exp(x**2 - x**4 / 4).cumsum(0)
    u = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
    return State({"x": x[torch.searchsorted(cumulative, u)][:, None]})


class TestF22:
    log_z = 2.026500
    model = GaussianMixture(
        tensor([1.0]), tensor([[0.0]]), tensor([math.sqrt(2)]), schedule=VarianceExploding(sigma_min=0.1, sigma_max=6.0)
    )

    @pytest.mark.parametrize(
        ("count", "low", "high", "fraction"), [(8, -4.69, 2.740, 0.375), (32, 0.090, 2.404, 0.553), (128, 0.620, 2.304, 0.650)]
    )
    def test_table(self, count, low, high, fraction):
        n = 40_000
        kernels = path_kernels(self.model.process, grid(self.model, count), variance="forward").scaled(x=1.21 * 36.0)
        assert kernels.steps == count
        drawn = draw_weighted(self.model, like(n, 1), kernels, quartic, generator=seeded(count))
        back = reverse_weights(self.model, quartic_samples(n, seeded(1)), kernels, quartic, generator=seeded(count))
        lower, upper = elbo(drawn), eubo(back)
        assert abs(lower.value - low) < 4 * lower.error + 0.005
        assert abs(upper.value - high) < 4 * upper.error + 0.0005
        assert lower.value < self.log_z < upper.value
        assert ess(drawn.log_weights) == pytest.approx(fraction, rel=0.03)
        assert 1 / float(torch.exp(back.log_weights - self.log_z).mean()) == pytest.approx(fraction, rel=0.03)
        error = math.sqrt((1 / ess(drawn.log_weights) - 1) / n)
        assert abs(float(torch.logsumexp(drawn.log_weights, 0)) - math.log(n) - self.log_z) < 3 * error

    def test_fitted_variances_are_better(self):
        n = 4000
        kernels = path_kernels(self.model.process, grid(self.model, 8))
        fitted = fit_variances(self.model, quartic_samples(n, seeded(1)), kernels, generator=seeded(2))
        runs = [
            reverse_weights(self.model, quartic_samples(n, seeded(3)), k, quartic, generator=seeded(4))
            for k in (kernels, fitted)
        ]
        plain, better = (eubo(run).value for run in runs)
        assert self.log_z < better < plain - 1.0


def test_an_exact_model_with_many_steps_has_narrow_weights():
    target = centred()
    samples = target.sample(2000, generator=seeded(0))
    kernels = path_kernels(target.process, grid(target, 60))
    fitted = fit_variances(target, samples, kernels, generator=seeded(1))
    drawn = draw_weighted(target, like(2000, 3, 2), fitted, target.reduced_energy, generator=seeded(2))
    assert ess(drawn.log_weights) > 0.5
    assert abs(elbo(drawn).value) < 0.5
    assert torch.allclose(drawn.state.fields["x"].mean(1), torch.zeros(1, dtype=torch.float64), atol=1e-9)


def test_log_z_is_unbiased_and_its_error_honest():
    """A wrong model of the harmonic cluster: 20 seeds, log Z = D/2 ln(2 pi / k) by fact F25."""
    k, n = 2.5, 400
    model = harmonic(3)  # trained, as it were, on k = 4
    truth = 0.5 * 4 * math.log(2 * math.pi / k)

    def energy(state):
        return 0.5 * k * (state.fields["x"] ** 2).sum((1, 2))

    kernels = fit_variances(
        model, model.sample(2000, generator=seeded(0)), path_kernels(model.process, grid(model, 12)), generator=seeded(1)
    )
    z, ratios = [], []
    for seed in range(20):
        drawn = draw_weighted(model, like(n, 3, 2), kernels, energy, generator=seeded(seed))
        w = torch.exp(drawn.log_weights - truth)
        ratios.append(float(w.mean()))
        z.append((float(w.mean()) - 1.0) / (float(w.std()) / math.sqrt(n)))
    z = tensor(z)
    assert float(z.abs().max()) < 4
    assert int((z.abs() < 1.96).sum()) >= 17
    ratios = tensor(ratios)
    assert abs(float(ratios.mean()) - 1) < 4 * float(ratios.std()) / math.sqrt(20)


@pytest.mark.parametrize("wrong", [False, True])
def test_shift_turn_and_torsions_together(wrong):
    """Heat kernels on R^3 x SO(3) x T^2, of an exact model and of one that believes in other weights: log Z of the target is unbiased, its error honest."""
    target, model = pose((0.7, 0.3)), pose((0.4, 0.6) if wrong else (0.7, 0.3))
    n = 1500
    kernels = path_kernels(model.process, grid(model, 24))
    kernels = fit_variances(model, model.sample(400, generator=seeded(5)), kernels, generator=seeded(6))
    drawn = draw_weighted(model, model.sample(n, generator=seeded(7)), kernels, target.reduced_energy, generator=seeded(8))
    back = reverse_weights(model, target.sample(n, generator=seeded(9)), kernels, target.reduced_energy, generator=seeded(10))
    w = torch.exp(drawn.log_weights - target.log_z)
    assert abs(float(w.mean()) - 1.0) < 4 * float(w.std()) / math.sqrt(n)
    if not wrong:
        assert float(w.std()) < 1.8
    assert elbo(drawn).value - 4 * elbo(drawn).error < target.log_z < eubo(back).value + 4 * eubo(back).error
    # detailed balance: E over the target of 1/w is 1/Z
    inverse = torch.exp(target.log_z - back.log_weights)
    assert abs(float(inverse.mean()) - 1.0) < 4 * float(inverse.std()) / math.sqrt(n)
    # weighted averages are those of the target
    mode = target.responsibilities(drawn.state)[:, 0]
    mean = float((w * mode).sum() / w.sum())
    error = float(torch.sqrt((w**2 * (mode - mean) ** 2).sum()) / w.sum())
    assert abs(mean - 0.7) < 4 * error
    assert error < 0.06


def test_padding_does_not_matter():
    target = harmonic(3)

    class Masked(type(target)):
        """The harmonic model for padded batches: all its axes have one width."""

        def __init__(self):
            self.process = target.process

        def __call__(self, state, t):
            from equilibra.diffusion.denoiser import Prediction

            sigma = self.process.sigma("x", t)[:, None, None]
            return Prediction({"x": -(sigma**2) / (0.25 + sigma**2) * state.fields["x"]})

    def energy(state):
        return 2.0 * (state.fields["x"] ** 2).sum((1, 2))

    kernels = path_kernels(target.process, grid(target, 10), variance="forward")
    samples = target.sample(4, generator=seeded(0)).fields["x"]
    padded = State({"x": torch.nn.functional.pad(samples, (0, 0, 0, 2))}, {"x": (torch.arange(5) < 3).expand(4, 5)})
    found = reverse_weights(Masked(), padded, kernels, energy, generator=seeded(1))
    # the mean over the noise of an exact Gaussian chain depends on the true dimension alone
    many = reverse_weights(
        Masked(),
        State({"x": padded.fields["x"].repeat(500, 1, 1)}, {"x": padded.masks["x"].repeat(500, 1)}),
        kernels,
        energy,
        generator=seeded(2),
    )
    plain = reverse_weights(Masked(), State({"x": samples.repeat(500, 1, 1)}), kernels, energy, generator=seeded(3))
    spread = math.hypot(eubo(many).error, eubo(plain).error)
    assert abs(eubo(many).value - eubo(plain).value) < 4 * spread
    assert (found.state.fields["x"][:, 3:] == 0).all()


def test_what_cannot_be():
    several = relative()
    with pytest.raises(SpaceError, match=r"on Torus has no density of its own; use density\.flow"):
        path_kernels(several.process, grid(several, 5))
    model = TestF22.model
    with pytest.raises(ConfigError, match=r"posterior.*forward"):
        path_kernels(model.process, grid(model, 5), variance="best")
    kernels = path_kernels(model.process, grid(model, 5))
    with pytest.raises(DivergenceError, match="not a number"):
        draw_weighted(model, like(3, 1), kernels, lambda s: s.fields["x"][:, 0] * float("nan"), generator=seeded(0))
    wall = draw_weighted(model, like(3, 1), kernels, lambda s: s.fields["x"][:, 0] * 0 + math.inf, generator=seeded(0))
    assert (wall.log_weights == -math.inf).all()
    assert WIDE.sigma_min == path_kernels(centred().process, grid(centred(), 4)).sigmas["x"][0]
