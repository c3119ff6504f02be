"""Facts F11, F12 (with the table of the released sampler), F13: the production rules against numbers known beforehand."""

import itertools
import math

import pytest
import torch
from targets import euclidean_1d, seeded, tensor

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.geometry import igso3, so3
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Euler, Heun
from equilibra.sampling.sampler import draw, integrate
from equilibra.sampling.sde import ReverseDiffusion
from equilibra.state.state import State
from equilibra.testing import IGSO3Mixture

SOLVERS = {"euler": Euler(), "heun": Heun(), "dpm2m": DPMSolver2M()}


def mixture_cdf(x, means, weights, width):
    return sum(w * torch.special.ndtr((x - m) / width) for m, w in zip(means, weights, strict=True))


def exact_flow(x, means, weights, start, end):
    """The probability flow of a law on the line is its monotone rearrangement; inverted by bisection."""
    level = mixture_cdf(x, means, weights, start)
    low, high = torch.full_like(x, -30.0), torch.full_like(x, 30.0)
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = mixture_cdf(middle, means, weights, end) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


class TestF11:
    means, weights, std = (2.0, -2.0), (0.7, 0.3), 0.5
    schedule = VarianceExploding(sigma_min=0.01, sigma_max=80.0)

    def quantiles(self, u):
        """Points of the exact law at sigma_max at the cumulative probabilities u."""
        low, high = torch.full_like(u, -500.0), torch.full_like(u, 500.0)
        width = math.hypot(80.0, self.std)
        for _ in range(90):
            middle = 0.5 * (low + high)
            below = mixture_cdf(middle, self.means, self.weights, width) < u
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def quadrature(self):
        """Start points and weights; dense at the separatrix, where the few starts with a large error lie."""
        edges = torch.tensor([0.0, 0.29, 0.31, 1.0], dtype=torch.float64)
        counts = (1000, 3000, 1500)
        u, w = [], []
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True):
            u.append(a + (b - a) * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
            w.append(((b - a) / n).expand(n))
        return self.quantiles(torch.cat(u)), torch.cat(w)

    def run(self, solver, x, steps):
        target = euclidean_1d(list(self.means), [self.std] * 2, list(self.weights), self.schedule)
        levels = noise_grid(target.process, GridConfig(steps=steps, end="noisy"))
        return integrate(solver, target, State({"x": x[:, None]}), levels, generator=seeded(0)).fields["x"][:, 0]

    @pytest.mark.parametrize(
        ("name", "errors"),
        [("euler", (0.103, 0.060, 0.035)), ("heun", (1.07e-2, 3.0e-3, 7.9e-4)), ("dpm2m", (8.2e-3, 2.2e-3, 5.7e-4))],
    )
    def test_errors_of_the_flow_map(self, name, errors):
        x, weights = self.quadrature()
        exact = exact_flow(x, self.means, self.weights, math.hypot(80.0, self.std), math.hypot(0.01, self.std))
        for steps, expected in zip((50, 100, 200), errors, strict=True):
            error = float(((self.run(SOLVERS[name], x, steps) - exact).square() * weights).sum().sqrt())
            assert error == pytest.approx(expected, rel=0.1), (steps, error)

    @pytest.mark.parametrize(("name", "weight"), [("euler", 0.712), ("heun", 0.6985), ("dpm2m", 0.701)])
    def test_mode_weight_with_twenty_steps(self, name, weight):
        u = (torch.arange(8000, dtype=torch.float64) + 0.5) / 8000
        x = self.run(SOLVERS[name], self.quantiles(u), 20)
        assert float((x > 0).double().mean()) == pytest.approx(weight, abs=0.0015)


def released_rule(denoiser, x, *, drift, noise=False, steps=500, generator=None):
    """The released protein sampler with VE noise: x + drift g^2 s dt, uniform in time, g^2 at the start of the step; optionally with noise."""
    schedule = denoiser.process.fields["x"].schedule
    ratio = math.log(schedule.sigma_max / schedule.sigma_min)
    for k in range(steps):
        t = torch.full((len(x),), 1.0 - k / steps, dtype=torch.float64)
        delta = denoiser(State({"x": x}), t).displacements["x"]
        variance = 2.0 * ratio / steps  # g^2 dt / sigma^2
        x = x + drift * variance * delta
        if noise:
            x = x + math.sqrt(variance) * float(schedule.sigma(t[0])) * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


class TestF12:
    schedule = VarianceExploding(sigma_min=0.1, sigma_max=35.0)

    @pytest.mark.parametrize(
        ("std", "full", "half", "right"),
        [(0.5, 0.0067, 0.496, 0.510), (1.0, 0.0265, 0.981, 1.005), (3.0, 0.241, 2.939, 3.002), (10.0, 2.56, 9.52, 10.00)],
    )
    def test_widths(self, std, full, half, right):
        target = euclidean_1d([0.0], [std], [1.0], self.schedule)
        one = torch.ones(1, 1, dtype=torch.float64)
        assert 35.0 * float(released_rule(target, one, drift=1.0)) == pytest.approx(full, rel=0.01)
        assert 35.0 * float(released_rule(target, one, drift=0.5)) == pytest.approx(half, rel=0.01)
        levels = noise_grid(target.process, GridConfig(steps=500, end="noisy"))
        for solver in SOLVERS.values():
            slope = float(integrate(solver, target, State({"x": one}), levels, generator=seeded(0)).fields["x"])
            # the moment-matched prior of the package makes the start exact
            assert math.hypot(35.0, std) * slope == pytest.approx(right, rel=0.01)
        # the released rule fails the very assertion that the production solvers pass
        assert 35.0 * float(released_rule(target, one, drift=1.0)) != pytest.approx(right, rel=0.5)

    def test_mixture_weights(self):
        target = euclidean_1d([10.0, -10.0], [1.0, 1.0], [0.7, 0.3], self.schedule)
        u = (torch.arange(6000, dtype=torch.float64) + 0.5) / 6000
        flat = 35.0 * torch.special.ndtri(u)[:, None]
        released = released_rule(target, flat, drift=1.0)
        assert float((released > 0).double().mean()) == pytest.approx(0.936, abs=0.005)
        assert float(released[released > 0].std()) == pytest.approx(0.082, rel=0.03)
        assert float(released[released < 0].std()) == pytest.approx(0.124, rel=0.03)
        halved = released_rule(target, flat, drift=0.5)
        assert float((halved > 0).double().mean()) == pytest.approx(0.667, abs=0.005)

        # an exact start: 0.943 / 0.702 / 0.700
        start = target.sample_noised(10000, 1.0, generator=seeded(1)).fields["x"]
        binomial = 4.0 * math.sqrt(0.21 / 10000)
        assert float((released_rule(target, start, drift=1.0) > 0).double().mean()) == pytest.approx(
            0.943, abs=0.005 + binomial
        )
        levels = noise_grid(target.process, GridConfig(steps=60))
        for solver in (Heun(), DPMSolver2M()):
            x = integrate(solver, target, State({"x": start}), levels, generator=seeded(0)).fields["x"]
            assert float((x > 0).double().mean()) == pytest.approx(0.7, abs=binomial)
            assert float(x[x > 0].std()) == pytest.approx(1.0, abs=0.04)
        levels = noise_grid(target.process, GridConfig(steps=400))
        x = integrate(ReverseDiffusion(), target, State({"x": start}), levels, generator=seeded(2)).fields["x"]
        assert float((x > 0).double().mean()) == pytest.approx(0.7, abs=binomial)

    def test_released_rule_with_its_noise_is_the_reverse_diffusion(self):
        target = euclidean_1d([0.0], [1.0], [1.0], self.schedule)
        start = 35.0 * torch.randn(20000, 1, generator=seeded(3), dtype=torch.float64)
        x = released_rule(target, start, drift=1.0, noise=True, generator=seeded(4))
        assert float(x.std()) == pytest.approx(1.005, abs=4.0 / math.sqrt(2 * 20000))


class Scaled(Denoiser):
    """Multiplies displacements by a wrong factor."""

    def __init__(self, inner, factor):
        self.inner, self.factor, self.process = inner, factor, inner.process

    def __call__(self, state, t):
        inner = self.inner(state, t)
        return Prediction({k: self.factor * v for k, v in inner.displacements.items()})


class TestF13:
    """Rotations in DiG's convention A: sigma 1.65 -> 0.02, data IGSO(3) of sigma 0.15, 500 steps."""

    schedule = VarianceExploding(sigma_min=0.02, sigma_max=1.65, convention="A")
    target = IGSO3Mixture(torch.ones(1), torch.eye(3)[None], tensor([0.15 * math.sqrt(2.0)]), schedule=schedule)

    def start(self, n=200):
        """Quantiles of the exact angle about one axis: the flow of an isotropic law keeps the axis, so that nothing is random."""
        omega = torch.linspace(0.0, math.pi, 20001, dtype=torch.float64)
        density = igso3.log_density(omega, 0.0225 + 1.65**2).exp() * (1.0 - omega.cos()) / math.pi
        cdf = torch.cumulative_trapezoid(density, omega)
        u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        angle = omega[1:][torch.searchsorted(cdf / cdf[-1], u)]
        return so3.exp(torch.stack([angle, 0 * angle, 0 * angle], dim=1))

    @staticmethod
    def rms(x):
        return float(so3.angle(x).square().mean().sqrt())

    def test_production_sampler(self):
        levels = noise_grid(self.target.process, GridConfig(steps=500, end="noisy"))
        x = integrate(Euler(), self.target, State({"x": self.start()}), levels, generator=seeded(0)).fields["x"]
        assert self.rms(x) == pytest.approx(0.3700, rel=0.01)
        levels = noise_grid(self.target.process, GridConfig(steps=60, end="noisy"))
        x = integrate(Heun(), self.target, State({"x": self.start()}), levels, generator=seeded(0)).fields["x"]
        assert self.rms(x) == pytest.approx(0.3700, rel=0.01)

    @pytest.mark.parametrize(("c", "expected"), [(1.0, 0.375), (2.0, 0.056), (0.5, 0.946)])
    def test_coefficients_of_convention_a(self, c, expected):
        """R <- Exp(c dsigma^2 s) R with the paper's sigma; ours is its sqrt(2), so that c = 1 is half the variance decrement."""
        x = self.start()
        levels = noise_grid(self.target.process, GridConfig(steps=500, end="noisy"))
        with torch.no_grad():
            for level, lower in itertools.pairwise(levels):
                t = torch.full((len(x),), level.t, dtype=torch.float64)
                delta = self.target(State({"x": x}), t).displacements["x"]
                decrement = (level.sigma["x"] ** 2 - lower.sigma["x"] ** 2) / 2.0  # in convention A
                x = so3.exp(c * decrement / level.sigma["x"] ** 2 * delta) @ x
        assert self.rms(x) == pytest.approx(expected, abs=0.003)
        if c != 1.0:
            assert self.rms(x) != pytest.approx(0.3700, rel=0.05)

    @pytest.mark.parametrize("factor", [0.5, 2.0])
    def test_wrong_factors_are_rejected(self, factor):
        levels = noise_grid(self.target.process, GridConfig(steps=120, end="noisy"))
        x = integrate(Euler(), Scaled(self.target, factor), State({"x": self.start(100)}), levels, generator=seeded(0)).fields[
            "x"
        ]
        assert self.rms(x) != pytest.approx(0.3700, rel=0.3)

    @pytest.mark.parametrize(("name", "steps"), [("heun", 25), ("dpm2m", 40), ("sde", 80)])
    def test_rms_angle_within_one_percent_from_the_uniform_prior(self, name, steps):
        sampler = {**SOLVERS, "sde": ReverseDiffusion()}[name]
        levels = noise_grid(self.target.process, GridConfig(steps=steps))
        n = 3000
        like = self.target.sample(n, generator=seeded(0))
        squares = so3.angle(draw(sampler, self.target, like, levels, generator=seeded(1)).fields["x"]).square()
        expected = 0.36673**2
        error = float(squares.std()) / math.sqrt(n)
        assert abs(float(squares.mean()) - expected) < 4.0 * error
        assert abs(float(squares.mean().sqrt()) / 0.36673 - 1.0) < 0.01 + 2.0 * error / expected / 2.0
