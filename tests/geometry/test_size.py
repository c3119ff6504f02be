"""Radius of gyration and distances: closed forms, weights, gradients."""

import math

import pytest
import torch

from equilibra.errors import ShapeError
from equilibra.geometry.size import distance, radius_of_gyration

PAIR = torch.tensor([[[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]], dtype=torch.float64)


def test_two_points():
    assert radius_of_gyration(PAIR).item() == pytest.approx(2.0)
    assert radius_of_gyration(PAIR, torch.tensor([1.0, 3.0])).item() == pytest.approx(4.0 * math.sqrt(3.0) / 4.0)
    assert distance(PAIR, 1, 0).item() == 4.0
    assert radius_of_gyration(PAIR.expand(2, 5, 2, 3)).shape == distance(PAIR.expand(2, 5, 2, 3), 0, 1).shape == (2, 5)


def test_it_does_not_change_under_motions_and_is_the_mean_of_squared_distances():
    x = torch.randn(7, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squared = torch.cdist(x, x).square().sum((1, 2)) / (2 * 6**2)
    torch.testing.assert_close(radius_of_gyration(x), squared.sqrt())
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    torch.testing.assert_close(
        radius_of_gyration(x @ turn + 5.0, torch.arange(1.0, 7.0)), radius_of_gyration(x, torch.arange(1.0, 7.0))
    )


def test_gradients_are_right_and_finite_where_points_coincide():
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: radius_of_gyration(y, torch.tensor([1.0, 2.0, 3.0, 4.0])), x)
    assert torch.autograd.gradcheck(lambda y: distance(y, 0, 2), x)
    same = torch.ones(1, 4, 3, requires_grad=True)
    for value in (radius_of_gyration(same), distance(same, 0, 1)):
        assert not torch.autograd.grad(value.sum(), same)[0].any()


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(2,\), one for each point"):
        radius_of_gyration(PAIR, torch.ones(3))
    with pytest.raises(ShapeError, match="x: got shape"):
        distance(torch.zeros(4, 2), 0, 1)
