"""Interpolation in tables: exact for linear functions, differentiable, constant beyond the ends."""

import torch

from equilibra.geometry import lookup


def test_linear_is_exact_for_lines_and_constant_beyond():
    position = torch.tensor([-1.0, 0.0, 0.25, 2.5, 3.0, 9.0], dtype=torch.float64)
    values = 2 * torch.arange(4, dtype=torch.float64) + 1
    torch.testing.assert_close(lookup.linear(values, position), 2 * position.clamp(0, 3) + 1)


def test_bilinear_is_exact_for_bilinear_functions():
    i, j = torch.arange(3, dtype=torch.float64), torch.arange(5, dtype=torch.float64)
    table = 1 + 2 * i[:, None] - j + 3 * i[:, None] * j
    generator = torch.Generator().manual_seed(0)
    u, w = (torch.rand(50, dtype=torch.float64, generator=generator) * n for n in (2, 4))
    torch.testing.assert_close(lookup.bilinear(table, u, w), 1 + 2 * u - w + 3 * u * w)


def test_gradients_by_finite_differences():
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    u, w = (torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in ([0.3, 2.6], [4.7, 1.1]))
    assert torch.autograd.gradcheck(lookup.bilinear, (table, u, w))
    assert torch.autograd.gradcheck(lambda t, p: lookup.linear(t[0], p), (table, w))


def test_positions_on_a_logarithmic_grid():
    grid = lookup.LogGrid(low=1e-3, high=10.0, nodes=9)
    points = grid.points()
    torch.testing.assert_close(points[[0, -1]], torch.tensor([1e-3, 10.0], dtype=torch.float64))
    torch.testing.assert_close(grid.position(points), torch.arange(9, dtype=torch.float64))
