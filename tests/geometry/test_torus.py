"""The flat torus and the wrapped normal law: numeric facts, quadrature and finite differences."""

import math

import pytest
import torch

from equilibra.geometry import torus

SIGMAS = [0.003, 0.05, 0.29, 0.3, 0.31, 0.5, 1.0]


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("period", [1.0, 2 * math.pi])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wrap_stays_in_the_half_open_cell(period, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100_000, dtype=dtype, generator=generator) * 100
    edges = torch.arange(-50, 51, dtype=dtype) * period / 2
    x = torch.cat((x, edges, torch.nextafter(edges, edges + 1), torch.nextafter(edges, edges - 1)))
    y = torus.wrap(x, period=period)
    assert y.min() >= -period / 2
    assert y.max() < period / 2
    turns = (x - y) / period
    assert (turns - turns.round()).abs().max() < (1e-12 if dtype == torch.float64 else 1e-4)


def test_wrap_has_the_gradient_of_the_identity():
    x = tensor(0.2, 0.7, -3.4).requires_grad_()
    (gradient,) = torch.autograd.grad(torus.wrap(x).sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_difference_is_the_shortest_way():
    torch.testing.assert_close(torus.difference(tensor(0.9, 0.1), tensor(0.1, 0.9)), tensor(0.2, -0.2))
    way = torus.difference(tensor(3.0), tensor(-3.0), period=2 * math.pi)
    torch.testing.assert_close(way, tensor(2 * math.pi - 6))


def test_density_and_score_values():
    v, sigma = tensor(0.1, 0.25, 0.4), tensor(0.1, 0.3, 0.5)
    density = torus.wrapped_normal_log_density(v, sigma).exp()
    torch.testing.assert_close(density, tensor(2.41970725, 0.99835985, 0.98836329), rtol=0, atol=1e-8)
    score = torus.wrapped_normal_score(v, sigma)
    torch.testing.assert_close(score, tensor(-10.0, -2.13003, -0.05375), rtol=0, atol=1e-4)


@pytest.mark.parametrize("period", [1.0, 2 * math.pi])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_density_against_many_images(sigma, period):
    v = torch.linspace(-0.7, 0.7, 57, dtype=torch.float64) * period
    width = sigma * period
    n = torch.arange(-20, 21, dtype=torch.float64) * period
    images = torch.distributions.Normal(tensor(0.0), tensor(width)).log_prob(v[:, None] + n).logsumexp(-1)
    torch.testing.assert_close(torus.wrapped_normal_log_density(v, width, period=period), images, rtol=1e-12, atol=1e-12)
    mass = (
        torus.wrapped_normal_log_density(torch.arange(2000, dtype=torch.float64) * period / 2000, width, period=period)
        .exp()
        .mean()
        * period
    )
    assert float(mass) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_both_forms_agree_at_the_switch(sigma):
    u = torch.linspace(-0.5, 0.5, 51, dtype=torch.float64)
    _, weight = torus._image_terms(u, tensor(0.3))
    p = (weight.exp() / math.sqrt(2 * math.pi * 0.09)).sum(-1)
    torch.testing.assert_close(1 + torus._fourier(u, tensor(0.3))[0], p, rtol=1e-13, atol=0)


@pytest.mark.parametrize("period", [1.0, 2 * math.pi])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_is_the_slope_of_the_density(sigma, period):
    v = (torch.linspace(-0.99, 0.99, 41, dtype=torch.float64) * period).requires_grad_()
    width = sigma * period
    (slope,) = torch.autograd.grad(torus.wrapped_normal_log_density(v, width, period=period).sum(), v)
    score = torus.wrapped_normal_score(v, width, period=period)
    torch.testing.assert_close(score.detach(), slope, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torus.wrapped_normal_score(v + period, width, period=period), score, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.5])
def test_gradients_by_finite_differences(sigma):
    v, s = tensor(0.0, 0.1, 0.3, 0.45, 1.2).requires_grad_(), torch.full((5,), sigma, dtype=torch.float64) - 1e-3
    s.requires_grad_()
    assert torch.autograd.gradcheck(torus.wrapped_normal_log_density, (v, s))
    assert torch.autograd.gradcheck(torus.wrapped_normal_score, (v, s))


@pytest.mark.parametrize("period", [1.0, 2 * math.pi])
def test_mean_squared_score(period):
    sigma = tensor(1e-4, 0.03, 0.0399, 0.0401, 0.1, 0.17, 0.25, 0.3, 0.33, 0.5, 0.9, 1.4, 1.6) * period
    v = (torch.arange(200_000, dtype=torch.float64)[:, None] / 200_000 - 0.5) * period
    density = torus.wrapped_normal_log_density(v, sigma, period=period).exp()
    exact = (density * torus.wrapped_normal_score(v, sigma, period=period).square()).mean(0) * period
    torch.testing.assert_close(torus.mean_squared_score(sigma, period=period), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_infinite_for_extreme_widths(dtype):
    v = torch.tensor([0.0, 0.2, 0.5, -0.5], dtype=dtype)[:, None].requires_grad_()
    sigma = torch.tensor([1e-4, 0.3, 1.0, 3.0], dtype=dtype)
    for function in (torus.wrapped_normal_log_density, torus.wrapped_normal_score):
        values = function(v, sigma)
        (gradient,) = torch.autograd.grad(values.sum(), v)
        assert values.dtype == dtype
        assert torch.isfinite(values).all()
        assert torch.isfinite(gradient).all()
