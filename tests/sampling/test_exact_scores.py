"""Every allowed Sampler x Space x Schedule draws the right distribution from an exact score, starting at the production prior."""

import itertools
import math

import pytest
import torch
from targets import ALLOWED, LINEAR, SCHEDULES, euclidean_1d, make, schedule_of, seeded

from equilibra.diffusion.schedule import VarianceExploding
from equilibra.sampling.churn import Churn
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.langevin import LangevinCorrected
from equilibra.sampling.ode import Euler, Heun
from equilibra.sampling.sampler import draw, integrate
from equilibra.sampling.sde import ReverseDiffusion
from equilibra.sampling.sde_dpm_solver import SDEDPMSolver2M
from equilibra.state.state import State

# first-order samplers take the steps that bring their bias below the statistical error
SAMPLERS = {
    "euler": (Euler(), 300),
    "heun": (Heun(), 30),
    "dpm2m": (DPMSolver2M(), 40),
    "sde": (ReverseDiffusion(eta=1.0), 300),
    "sde-half": (ReverseDiffusion(eta=0.5), 300),
    "sde2m": (SDEDPMSolver2M(), 60),
    "churned-heun": (Churn(Heun(), gamma=0.2), 40),
    "churned-euler": (Churn(Euler(), gamma=0.02), 300),
    "corrected-heun": (LangevinCorrected(Heun(), step_size=0.1), 30),
}
CURVED_STEPS = {300: 90}
SIZES = {"so3": 600, "torus": 1200, "relative": 1200, "slab": 1200}


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize(("space", "schedule"), ALLOWED)
def test_samples_have_exact_moments(space, schedule, name):
    target = make(space, schedule_of(space, schedule))
    sampler, steps = SAMPLERS[name]
    steps = steps if space in LINEAR else CURVED_STEPS.get(steps, steps)
    n = SIZES.get(space, 2000)
    levels = noise_grid(target.distribution.process, GridConfig(steps=steps))
    like = target.distribution.sample(n, generator=seeded(0))
    z = target.z_scores(draw(sampler, target.distribution, like, levels, generator=seeded(3)))
    assert z.abs().max() < 4.0, z


@pytest.mark.parametrize(("space", "schedule"), ALLOWED)
def test_moments_detect_a_sampler_without_noise(space, schedule):
    """The released rule (full drift, no noise) must fail where the production samplers pass."""
    target = make(space, schedule_of(space, schedule))
    process = target.distribution.process
    levels = noise_grid(process, GridConfig(steps=60, end="noisy"))
    state = process.prior(target.distribution.sample(1000, generator=seeded(0)), generator=seeded(1))
    for level, lower in itertools.pairwise(levels):
        t = torch.full((1000,), level.t, dtype=torch.float64)
        delta = target.distribution(state, t).displacements["x"]
        full_drift = (1.0 - (lower.sigma["x"] / level.sigma["x"]) ** 2) * delta
        state = process.clean(state.replace(x=process.fields["x"].space.retract(state.fields["x"], full_drift)))
    assert target.z_scores(state).abs().max() > 5.0


WIDE = VarianceExploding(sigma_min=0.1, sigma_max=100.0)


@pytest.mark.parametrize(
    ("std", "schedule"), [(0.5, SCHEDULES["exploding"]), (1.0, SCHEDULES["linear"]), (3.0, SCHEDULES["sigmoid"]), (10.0, WIDE)]
)
@pytest.mark.parametrize("name", ["heun", "dpm2m", "euler"])
def test_gaussian_width_within_one_percent(std, schedule, name):
    target = euclidean_1d([0.0], [std], [1.0], schedule)
    # the flow of a Gaussian is linear: one point gives the width without sampling error
    sampler, steps = {"heun": (Heun(), 40), "dpm2m": (DPMSolver2M(), 40), "euler": (Euler(), 400)}[name]
    levels = noise_grid(target.process, GridConfig(steps=steps))
    unit = State({"x": torch.ones(1, 1, dtype=torch.float64)})
    slope = float(integrate(sampler, target, unit, levels, generator=seeded(4)).fields["x"])
    width = slope * math.hypot(levels[0].sigma["x"], std)
    assert abs(width / std - 1.0) < 0.01, width


def reverse_diffusion_width(target, std, steps):
    """The width that reverse diffusion gives Gaussian data, without sampling error: its steps are x -> A x + B z; A and B are probed."""
    levels = noise_grid(target.process, GridConfig(steps=steps))
    z = float(torch.randn(1, 1, generator=seeded(0), dtype=torch.float64))
    variance = levels[0].sigma["x"] ** 2 + std**2
    for level, lower in itertools.pairwise(levels):
        at_zero, at_one = (
            float(
                ReverseDiffusion()
                .step(
                    target,
                    State({"x": torch.full((1, 1), x, dtype=torch.float64)}),
                    level,
                    lower,
                    memory=None,
                    generator=seeded(0),
                )[0]
                .fields["x"]
            )
            for x in (0.0, 1.0)
        )
        variance = (at_one - at_zero) ** 2 * variance + (at_zero / z) ** 2
    return math.sqrt(variance)


@pytest.mark.parametrize(
    ("std", "schedule"),
    [(0.5, SCHEDULES["exploding"]), (1.0, SCHEDULES["linear"]), (3.0, SCHEDULES["sigmoid"]), (10.0, WIDE)],
)
def test_gaussian_width_of_the_reverse_diffusion(std, schedule):
    """Weak order one: the width is within one percent at 500 steps, and its bias halves with the step."""
    target = euclidean_1d([0.0], [std], [1.0], schedule)
    coarse, fine = (reverse_diffusion_width(target, std, steps) / std - 1.0 for steps in (250, 500))
    assert abs(fine) < 0.01
    assert coarse / fine == pytest.approx(2.0, abs=0.25)


def test_reverse_diffusion_without_stochasticity_is_euler():
    target = make("so3", schedule_of("so3", "exploding"))
    levels = noise_grid(target.distribution.process, GridConfig(steps=10))
    start = target.distribution.sample_noised(20, 1.0, generator=seeded(1))
    ends = [
        integrate(s, target.distribution, start, levels, generator=seeded(2)).fields["x"]
        for s in (Euler(), ReverseDiffusion(eta=0.0))
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ["heun", "dpm2m", "sde"])
def test_unequal_mixture_keeps_its_weights(name):
    target = euclidean_1d([6.0, -14.0], [1.0, 1.0], [0.7, 0.3], VarianceExploding(sigma_min=0.05, sigma_max=150.0))
    n = 40000
    sampler, steps = {"heun": (Heun(), 40), "dpm2m": (DPMSolver2M(), 60), "sde": (ReverseDiffusion(), 300)}[name]
    like = target.sample(n, generator=seeded(0))
    levels = noise_grid(target.process, GridConfig(steps=steps))
    x = draw(sampler, target, like, levels, generator=seeded(5)).fields["x"][:, 0]
    share = float((x > -4.0).double().mean())
    assert abs(share - 0.7) < 0.01
    assert abs(share - 0.7) < 4.0 * math.sqrt(0.7 * 0.3 / n)
    assert abs(float(x[x > -4.0].std()) - 1.0) < 0.02
    assert abs(float(x[x < -4.0].std()) - 1.0) < 0.02


def test_temperature_like_knob_widens_and_narrows_but_is_not_a_temperature():
    target = euclidean_1d([0.0], [1.0], [1.0], SCHEDULES["exploding"])
    like = target.sample(8000, generator=seeded(0))
    levels = noise_grid(target.process, GridConfig(steps=40))
    widths = [
        float(draw(Churn(Heun(), gamma=0.2, noise_scale=s), target, like, levels, generator=seeded(6)).fields["x"].std())
        for s in (0.9, 1.0, 1.1)
    ]
    assert widths[0] < 0.97 < 1.03 < widths[2]
    assert abs(widths[1] - 1.0) < 4.0 / math.sqrt(2 * 8000)


@pytest.mark.parametrize("space", ["euclidean", "centred", "symmetric", "so3", "torus", "relative", "slab"])
def test_langevin_steps_leave_the_noised_distribution_invariant(space):
    """Forty corrections at a fixed level, from exact draws of it: the moments stay those of p_t."""
    schedule = schedule_of(space, "exploding")
    target = make(space, schedule)
    process = target.distribution.process
    n = 1000 if space == "so3" else 3000
    sigma = 0.3 if space in ("euclidean", "centred", "symmetric", "so3", "torus") else 0.1
    grid = GridConfig(steps=1, sigma_min=sigma * 0.999999, sigma_max=sigma, end="noisy")
    levels = noise_grid(process, grid)
    start = target.distribution.sample_noised(n, levels[0].t, generator=seeded(7))
    sampler = LangevinCorrected(Euler(), corrections=40, step_size=0.05)
    end = integrate(sampler, target.distribution, start, levels, generator=seeded(8))
    reference = target.distribution.sample_noised(60000, levels[0].t, generator=seeded(9))
    a, b = target.statistics(end), target.statistics(reference)
    z = (a.mean(0) - b.mean(0)) / torch.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert z.abs().max() < 4.0, z
    # and it did move: the corrections decorrelate
    moved = process.fields["x"].space.log(start.fields["x"], end.fields["x"])
    assert float(moved.square().mean().sqrt()) > 0.3 * sigma


@pytest.mark.parametrize("space", ["euclidean", "so3", "torus"])
def test_churned_noise_brings_the_exact_law_at_the_higher_level(space):
    """Raising the noise by the heat kernel and stepping nowhere is an exact draw of the higher level."""
    schedule = schedule_of(space, "exploding")
    target = make(space, schedule)
    process = target.distribution.process
    t_low, t_high = (float(schedule.time(torch.tensor(s, dtype=torch.float64))) for s in (0.2, 0.5))
    low = target.distribution.sample_noised(4000, t_low, generator=seeded(10))
    extra = torch.full((4000,), math.sqrt(0.5**2 - 0.2**2), dtype=torch.float64)
    raised = low.replace(x=process.fields["x"].space.perturb(low.fields["x"], extra, None, generator=seeded(11)))
    reference = target.distribution.sample_noised(60000, t_high, generator=seeded(12))
    a, b = target.statistics(raised), target.statistics(reference)
    z = (a.mean(0) - b.mean(0)) / torch.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert z.abs().max() < 4.0, z
