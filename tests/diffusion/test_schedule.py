"""Fact F2, inverses, conventions and errors of the schedules."""

import math

import pytest
import torch

from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear, VarianceSigmoid
from equilibra.errors import ConfigError

SCHEDULES = {
    "exploding": VarianceExploding(sigma_min=0.02, sigma_max=35.0),
    "linear": VarianceLinear(scale=1.7),
    "constant": VarianceLinear(beta_0=10.0, beta_1=10.0),
    "from zero": VarianceLinear(beta_0=0.0, beta_1=20.0),
    "sigmoid": VarianceSigmoid(scale=0.6),
    "catalyst": VarianceSigmoid(steps=5000, beta_end=0.002),
}


@pytest.fixture(params=list(SCHEDULES))
def schedule(request):
    return SCHEDULES[request.param]


@pytest.mark.parametrize(("steps", "beta_end", "expected"), [(500, 0.02, 0.00639), (5000, 0.002, 0.00670)])
def test_terminal_signal_of_the_sigmoid_schedule(steps, beta_end, expected):
    """F2."""
    schedule = VarianceSigmoid(steps=steps, beta_end=beta_end)
    assert float(schedule.alpha(torch.tensor(1.0, dtype=torch.float64))) ** 2 == pytest.approx(expected, abs=1e-5)


def test_terminal_signal_of_the_linear_schedule():
    assert float(VarianceLinear().alpha(torch.tensor(1.0, dtype=torch.float64))) == pytest.approx(0.0066, abs=5e-5)


def test_sigmoid_follows_the_discrete_product():
    schedule = VarianceSigmoid(steps=50, beta_end=0.2)
    alpha = 1.0
    for i in range(1, 51):
        beta = (0.2 - 1e-7) / (1.0 + math.exp(12.0 * (0.5 - i / 50))) + 1e-7
        alpha *= math.sqrt(1.0 - beta)
        assert float(schedule.alpha(torch.tensor(i / 50, dtype=torch.float64))) == pytest.approx(alpha, rel=1e-12)


def test_linear_rate_is_the_derivative_of_the_signal():
    """d ln alpha / dt = -beta_t / 2."""
    schedule = VarianceLinear(beta_0=0.3, beta_1=14.0)
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.alpha(t).log().sum(), t)
    assert torch.allclose(slope, -0.5 * (0.3 + t.detach() * 13.7), rtol=1e-12)


def test_time_inverts_sigma(schedule):
    t = torch.linspace(schedule_start(schedule), 1.0, 201, dtype=torch.float64)
    sigma = schedule.sigma(t)
    assert (sigma.diff() > 0).all()
    assert torch.allclose(schedule.time(sigma), t, atol=1e-9)
    assert torch.allclose(schedule.sigma(schedule.time(sigma)), sigma, rtol=1e-9)
    assert float(sigma[0]) == pytest.approx(schedule.sigma_min, rel=1e-9)
    assert float(sigma[-1]) == pytest.approx(schedule.sigma_max, rel=1e-9)


def schedule_start(schedule):
    if isinstance(schedule, VarianceLinear):
        return schedule.t_min
    return 1.0 / schedule.steps if isinstance(schedule, VarianceSigmoid) else 0.0


def test_single_precision_times(schedule):
    t = torch.tensor([0.2, 0.5, 0.9])
    assert schedule.sigma(t).dtype == schedule.alpha(t).dtype == schedule.time(schedule.sigma(t)).dtype == torch.float32
    assert torch.allclose(schedule.sigma(t).double(), schedule.sigma(t.double()), rtol=1e-4)
    assert torch.allclose(schedule.time(schedule.sigma(t)), t, atol=1e-4)


def test_variance_is_preserved(schedule):
    """alpha^2 (s^2 + sigma^2) = s^2 for data of the scale s."""
    if not schedule.preserves_variance:
        assert torch.equal(schedule.alpha(torch.rand(3)), torch.ones(3))
        return
    t = torch.linspace(0.01, 1.0, 11, dtype=torch.float64)
    total = schedule.alpha(t) ** 2 * (schedule.scale**2 + schedule.sigma(t) ** 2)
    assert torch.allclose(total, torch.full_like(total, schedule.scale**2), rtol=1e-12)


def test_geometric_schedule():
    schedule = SCHEDULES["exploding"]
    assert float(schedule.sigma(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(math.sqrt(0.02 * 35.0), rel=1e-12)


def test_rotation_convention_a_is_sqrt_two_wider():
    a = VarianceExploding(sigma_min=0.02, sigma_max=1.65, convention="A")
    b = VarianceExploding(sigma_min=0.02, sigma_max=1.65)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    assert torch.allclose(a.sigma(t), math.sqrt(2.0) * b.sigma(t), rtol=1e-14)
    # the heat time sigma^2 / 2 is then the square of the paper's sigma
    assert float(0.5 * a.sigma(t[-1]) ** 2) == pytest.approx(1.65**2, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VarianceExploding(sigma_min=1.0, sigma_max=0.5), "0 < min < max"),
        (lambda: VarianceExploding(sigma_min=0.0, sigma_max=0.5), "0 < min < max"),
        (lambda: VarianceLinear(beta_0=5.0, beta_1=1.0), "beta_0 <= beta_1"),
        (lambda: VarianceLinear(t_min=0.0), "0 < t_min < 1"),
        (lambda: VarianceLinear(scale=-1.0), "scale > 0"),
        (lambda: VarianceSigmoid(steps=1), "at least 2 steps"),
        (lambda: VarianceSigmoid(beta_end=1.5), "beta_end < 1"),
    ],
)
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
