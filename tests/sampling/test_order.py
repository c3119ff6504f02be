"""The order of convergence of each probability-flow solver, by the slope of its error, on flat and curved Spaces."""

import math

import numpy as np
import pytest
import torch
from targets import make, schedule_of, seeded

from equilibra.diffusion.schedule import VarianceExploding
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Euler, Heun
from equilibra.sampling.sampler import integrate
from equilibra.state import State
from equilibra.testing.analytic import GaussianMixture

SOLVERS = {"euler": Euler(), "heun": Heun(), "dpm2m": DPMSolver2M()}
RANGES = {"euclidean": (0.1, 10.0), "torus": (0.1, 3.0), "so3": (0.2, 2.0)}
STEPS = [20, 40, 80, 160]
REFERENCE = 1000


@pytest.fixture(scope="module", params=list(RANGES))
def problem(request):
    """A mixture of finite width with 16 starting points, its grids and the solution on a fine grid."""
    space = request.param
    target = make(space, schedule_of(space, "exploding")).distribution
    low, high = RANGES[space]
    start = target.process.prior(target.sample(16, generator=seeded(0)), generator=seeded(1))

    def grid(steps):
        return noise_grid(target.process, GridConfig(steps=steps, sigma_min=low, sigma_max=high, end="noisy"))

    fine = integrate(Heun(), target, start, grid(REFERENCE), generator=seeded(0))
    return target, start, grid, fine


@pytest.mark.parametrize("name", list(SOLVERS))
def test_slope_is_the_declared_order(problem, name):
    target, start, grid, fine = problem
    space = target.process.fields["x"].space
    errors = []
    for steps in STEPS:
        end = integrate(SOLVERS[name], target, start, grid(steps), generator=seeded(0))
        difference = space.log(fine.fields["x"], end.fields["x"])
        # the median: a start close to a separatrix may end in another mode at any step
        errors.append(float(difference.norm(dim=-1).median()))
    slope = -np.polyfit(np.log(STEPS), np.log(errors), 1)[0]
    assert abs(slope - SOLVERS[name].order) < 0.25, (errors, slope)


def test_evaluations_are_counted():
    target = make("euclidean", schedule_of("euclidean", "exploding")).distribution
    calls = 0

    class Counting(type(target)):
        def __init__(self):
            self.__dict__.update(target.__dict__)

        def __call__(self, state, t):
            nonlocal calls
            calls += 1
            return super().__call__(state, t)

    for sampler in SOLVERS.values():
        for end in ("mean", "flow", "noisy"):
            levels = noise_grid(target.process, GridConfig(steps=7, end=end))
            calls = 0
            seen = []
            start = target.process.prior(target.sample(2, generator=seeded(0)), generator=seeded(0))
            integrate(sampler, Counting(), start, levels, generator=seeded(0), progress=lambda k, s, seen=seen: seen.append(k))
            assert calls == sampler.calls(levels)
            assert seen == list(range(1, 8 + (end != "noisy")))


def test_karras_and_log_grids():
    target = make("euclidean", schedule_of("euclidean", "linear")).distribution
    for spacing in ("karras", "log"):
        levels = noise_grid(target.process, GridConfig(steps=9, spacing=spacing, rho=5.0))
        sigma = torch.tensor([level.sigma["x"] for level in levels[:-1]], dtype=torch.float64)
        schedule = target.process.fields["x"].schedule
        assert sigma[0] == pytest.approx(schedule.sigma_max, rel=1e-9)
        assert sigma[-1] == pytest.approx(schedule.sigma_min, rel=1e-9)
        steps = (sigma.log() if spacing == "log" else sigma ** (1 / 5.0)).diff()
        assert torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-9, atol=0)
        assert levels[-1].clean
        assert not levels[-2].clean
        assert math.isclose(levels[-1].t, levels[-2].t)


@pytest.mark.parametrize(("end", "width"), [("mean", 0.8944), ("flow", 1.0062), ("noisy", 1.1180)])
@pytest.mark.parametrize("sampler", [Euler(), Heun(), DPMSolver2M()], ids=lambda s: type(s).__name__)
def test_the_last_step_of_a_gaussian_twice_as_wide_as_the_last_noise(sampler, end, width):
    # every sampler is a linear map on Gaussian data; only the last step is looked at: from one noisy level to the end
    tau, sigma = 0.02, 0.01
    schedule = VarianceExploding(sigma_min=sigma, sigma_max=10.0)
    target = GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, 1, dtype=torch.float64),
        torch.tensor([tau], dtype=torch.float64),
        schedule=schedule,
    )
    levels = noise_grid(target.process, GridConfig(steps=1, sigma_max=sigma * 1.000001, end=end))
    start = State({"x": torch.tensor([[(tau**2 + sigma**2) ** 0.5]], dtype=torch.float64)})
    out = integrate(sampler, target, start, levels, generator=torch.Generator()).fields["x"].item()
    assert out / tau == pytest.approx(width, abs=2e-4)
