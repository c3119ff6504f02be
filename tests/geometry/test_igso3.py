"""The heat kernel on SO(3): numeric facts, identities, finite differences, and draws against quadrature."""

import math
import time

import numpy as np
import pytest
import torch
from scipy import stats

from equilibra.geometry import igso3, so3

TAUS = [1e-6, 1e-4, 3e-3, 0.0225, 0.25, 0.999, 1.0, 3.0, 10.0]


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def expectation(tau, function):
    """Returns the mean of a function of the angle under the heat kernel, by Gauss-Legendre quadrature."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(300))
    top = min(math.pi, 15 * math.sqrt(tau))
    omega = top * (nodes + 1) / 2
    density = igso3.log_density(omega, tau).exp() * 2 * (omega / 2).sin() ** 2 / math.pi
    return float((density * function(omega) * weights).sum() * top / 2)


@pytest.mark.parametrize(
    ("tau", "omega", "value"), [(0.0225, 0.3, 195.0201163685), (0.25, 1, 5.7911216250), (1.0, 2.5, 0.7550628342)]
)
def test_density_values(tau, omega, value):
    images = igso3._images(tensor(omega), tensor(tau))[0].exp()
    degree = torch.arange(40, dtype=torch.float64)
    terms = (2 * degree + 1) * torch.exp(-degree * (degree + 1) * tau) * torch.sin((degree + 0.5) * omega) / math.sin(omega / 2)
    assert float(images) == pytest.approx(value, rel=1e-9)
    assert float(terms.sum()) == pytest.approx(value, rel=1e-9)
    assert float(igso3.log_density(tensor(omega), tau).exp()) == pytest.approx(value, rel=1e-9)


def test_tail_in_log_space():
    assert float(igso3.log_density(tensor(1.0), 0.0025).exp()) == pytest.approx(5.50474e-40, rel=1e-4)
    # ln f -> -ω²/4τ where the density itself is far below the smallest float.
    assert float(igso3.log_density(tensor(3.0), 1e-6)) == pytest.approx(-9 / 4e-6, rel=1e-4)


@pytest.mark.parametrize(
    ("tau", "omega", "value"),
    [
        (0.0225, 0.1, -2.21389),
        (0.0225, 1.0, -22.13747),
        (0.25, 1.0, -1.91524),
        (0.25, 3.0, -3.84255),
        (1.0, 1.0, -0.40291),
        (1.0, 3.0, -0.16995),
    ],
)
def test_score_values(tau, omega, value):
    assert float(igso3.score_magnitude(tensor(omega), tau)) == pytest.approx(value, abs=1e-4)


def test_density_at_the_origin_in_both_conventions():
    values = igso3.log_density(tensor(0.0), tensor(1.65**2, 1.65**2 / 2)).exp()
    torch.testing.assert_close(values, tensor(1.03886, 1.59849), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tau", TAUS)
def test_normalisation_and_mean_trace(tau):
    assert expectation(tau, torch.ones_like) == pytest.approx(1, abs=1e-10)
    assert expectation(tau, lambda w: (1 + 2 * w.cos()) / 3) == pytest.approx(math.exp(-2 * tau), abs=1e-8)


@pytest.mark.parametrize(("tau", "rms"), [(0.0225, 0.36673), (0.0229, 0.36997), (0.1, 0.76811), (50.0, 2.29997)])
def test_rms_angle(tau, rms):
    assert math.sqrt(expectation(tau, torch.square)) == pytest.approx(rms, abs=1e-5)


def test_both_forms_agree_where_they_meet():
    omega = torch.linspace(0, math.pi, 101, dtype=torch.float64)
    for tau in (0.7, 1.0):
        for image, series in zip(igso3._images(omega, tensor(tau)), igso3._series(omega, tensor(tau)), strict=True):
            torch.testing.assert_close(image, series, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("tau", TAUS)
def test_score_is_the_slope_of_the_density(tau):
    width = min(1.0, math.sqrt(tau))
    omega = torch.cat((torch.linspace(1e-9, 1, 40, dtype=torch.float64) * width, tensor(0.2, 0.49, 0.51, 1, 2, 3, 3.1)))
    omega.requires_grad_()
    (slope,) = torch.autograd.grad(igso3.log_density(omega, tau).sum(), omega)
    torch.testing.assert_close(igso3.score_magnitude(omega, tau).detach(), slope, rtol=1e-9, atol=1e-12)


def test_score_near_zero_and_at_half_turns():
    omega = tensor(1e-12, 1e-6, 1e-3)
    torch.testing.assert_close(igso3.score_magnitude(omega, 0.01), -omega / 0.02 + omega / 12, rtol=1e-6, atol=0)
    at_pi = igso3.score_magnitude(tensor(math.pi), tensor(1e-4, 0.01, 0.3, 1, 5))
    assert at_pi.abs().max() < 1e-9


@pytest.mark.parametrize("tau", [1e-4, 0.02, 0.3, 0.999, 1.0, 4.0])
def test_gradients_through_the_angle_by_finite_differences(tau):
    omega = tensor(1e-3, 0.02, 0.3, 0.5, 1.0, 2.5, 3.0, math.pi - 1e-3).requires_grad_()
    times = torch.full_like(omega, tau)
    scale = tau  # keeps the numbers of order one, as the tolerances of gradcheck are absolute
    assert torch.autograd.gradcheck(lambda w: scale * igso3.log_density(w, times), omega)
    tolerance = {"eps": 1e-7, "atol": 1e-4, "rtol": 1e-4}
    assert torch.autograd.gradcheck(lambda w: scale**2 * igso3.score_magnitude(w, times), omega, **tolerance)
    v = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: scale * igso3.log_density(so3.angle(so3.exp(u)), tau), v)
    assert torch.autograd.gradcheck(lambda u: scale**2 * igso3.score(so3.exp(u), tau), v, **tolerance)


def test_gradient_in_the_heat_time():
    tau = tensor(0.01, 0.2, 0.9, 1.1, 3.0).requires_grad_()
    omega = tensor(0.1, 1.0, 2.0, 3.0, 0.0)
    assert torch.autograd.gradcheck(lambda t: igso3.log_density(omega, t), tau)


@pytest.mark.parametrize("tau", [0.003, 0.2, 2.0])
def test_score_is_the_left_invariant_gradient(tau):
    generator = torch.Generator().manual_seed(3)
    r = igso3.sample(torch.full((20,), tau, dtype=torch.float64), generator=generator)
    v = torch.zeros(20, 3, dtype=torch.float64, requires_grad=True)
    density = igso3.log_density(so3.angle(so3.exp(v) @ r), tau)
    (gradient,) = torch.autograd.grad(density.sum(), v)
    torch.testing.assert_close(igso3.score(r, tau), gradient, rtol=1e-8, atol=1e-9)


def test_score_of_special_rotations():
    identity = torch.eye(3, dtype=torch.float64, requires_grad=True)
    half_turn = torch.diag(tensor(1.0, -1.0, -1.0)).requires_grad_()
    for r in (identity, half_turn):
        s = igso3.score(r, 0.05)
        assert s.abs().max() < 1e-12
        (gradient,) = torch.autograd.grad(s.sum(), r)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_infinite_for_extreme_arguments(dtype):
    omega = torch.tensor([0.0, 1e-20, 1e-5, 1.0, math.pi], dtype=dtype)[:, None].requires_grad_()
    tau = torch.tensor([1e-8, 1e-4, 0.5, 1.0, 100.0], dtype=dtype)
    for function in (igso3.log_density, igso3.score_magnitude):
        values = function(omega, tau)
        assert values.dtype == dtype
        assert values.shape == (5, 5)
        (gradient,) = torch.autograd.grad(values.sum(), omega)
        assert torch.isfinite(values).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("tau", [1e-6, 5e-3, 0.0099, 0.0101, 0.0225, 0.1, 0.25, 0.7, 1.3, 6.0, 9.9, 10.1, 15.0])
def test_mean_squared_score(tau):
    exact = expectation(tau, lambda w: igso3.score_magnitude(w, tau) ** 2)
    assert float(igso3.mean_squared_score(tensor(tau))) == pytest.approx(exact, rel=1e-4)


def test_mean_squared_score_values():
    torch.testing.assert_close(igso3.mean_squared_score(tensor(0.0225, 0.25)), tensor(65.918, 5.2473), rtol=2e-5, atol=0)
    assert float(igso3.mean_squared_score(tensor(1e-7))) == pytest.approx(1.5e7, rel=1e-6)


@pytest.mark.parametrize("tau", [1e-6, 7.7e-5, 1.1e-4, 1.7e-3, 0.0225, 0.0333, 0.31, 1.0, 1.9, 6.3, 10.0, 40.0])
def test_drawn_angles_have_the_exact_rms(tau):
    """The map of Gaussian radii to angles, integrated over the radius, gives the rms angle without sampling error."""
    r = torch.linspace(0, 9, 20_001, dtype=torch.float64)
    law = stats.chi(3).pdf(r.numpy())
    angle = (igso3._angle_per_radius(r, torch.full_like(r, tau)) * r).numpy()
    rms = math.sqrt(np.trapezoid(law * angle**2, r.numpy()))
    assert rms == pytest.approx(math.sqrt(expectation(tau, torch.square)), rel=3e-4)
    assert angle.max() <= math.pi + 1e-12
    assert (np.diff(angle) >= -1e-12).all()


@pytest.mark.parametrize("tau", [1e-5, 0.003, 0.0225, 0.2, 0.8, 2.0])
def test_draws_have_the_law_of_the_kernel(tau):
    n = 20_000
    r = igso3.sample(torch.full((n,), tau, dtype=torch.float64), generator=torch.Generator().manual_seed(4))
    grid = torch.linspace(0, min(math.pi, 14 * math.sqrt(tau)), 20_001, dtype=torch.float64)
    density = (igso3.log_density(grid, tau).exp() * (grid / 2).sin() ** 2).numpy()
    cumulative = np.concatenate(([0], np.cumsum(density[1:] + density[:-1])))
    angle = so3.angle(r)
    law = stats.kstest(angle.numpy(), lambda w: np.interp(w, grid.numpy(), cumulative / cumulative[-1]))
    assert law.pvalue > 1e-4
    axis = so3.log(r) / angle[:, None]
    assert (axis.mean(0) * math.sqrt(3 * n)).abs().max() < 4
    trace = (1 + 2 * angle.cos()) / 3
    assert abs(trace.mean() - math.exp(-2 * tau)) < 4 * trace.std() / math.sqrt(n)


def test_each_draw_has_its_own_heat_time():
    n = 20_000
    tau = tensor(1e-4, 0.02, 5.0).repeat(n, 1)
    r = igso3.sample(tau, generator=torch.Generator().manual_seed(6))
    assert r.shape == (n, 3, 3, 3)
    second = so3.angle(r).square()
    exact = tensor(*(expectation(t, torch.square) for t in (1e-4, 0.02, 5.0)))
    assert ((second.mean(0) - exact) / (second.std(0) / math.sqrt(n))).abs().max() < 4


def test_draws_are_reproducible_fast_and_in_the_dtype_of_the_heat_time():
    tau = torch.full((1000,), 0.3)
    a, b = (igso3.sample(tau, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype == torch.float32
    igso3._transport_table.cache_clear()
    igso3._mean_squared_score_table.cache_clear()
    start = time.perf_counter()
    igso3.sample(tau, generator=torch.Generator().manual_seed(7))
    igso3.mean_squared_score(tau)
    assert time.perf_counter() - start < 2


def test_tables_built_in_inference_mode_serve_training_too():
    igso3._mean_squared_score_table.cache_clear()
    igso3._transport_table.cache_clear()
    tau = tensor(0.2)
    with torch.inference_mode():
        igso3.mean_squared_score(tau)
        igso3.sample(tau, generator=torch.Generator().manual_seed(8))
    tau.requires_grad_()
    assert torch.autograd.gradcheck(igso3.mean_squared_score, tau)
    r = igso3.sample(tau, generator=torch.Generator().manual_seed(8))
    (gradient,) = torch.autograd.grad(so3.angle(r).sum(), tau)
    assert torch.isfinite(gradient).all()
