"""Reduced bases against the definition, brute force and ASE."""

import itertools

import pytest
import torch
from ase.geometry import minkowski_reduce

from equilibra.errors import ShapeError
from equilibra.geometry import reduction


def generator():
    return torch.Generator().manual_seed(3)


def skewed(count, axes):
    """Well-shaped bases, hidden by random unimodular changes."""
    random = generator()
    cell = 3 * torch.randn(count, axes, 3, dtype=torch.float64, generator=random)
    for i, j in itertools.permutations(range(axes), 2):
        cell[:, i] += torch.randint(-3, 4, (count, 1), generator=random) * cell[:, j]
    return cell


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_no_combination_is_shorter(axes):
    cell = skewed(200, axes)
    u = reduction.reduced_basis(cell)
    assert torch.equal(u, u.round())
    torch.testing.assert_close(torch.linalg.det(u).abs(), torch.ones(200, dtype=torch.float64))
    basis = u @ cell
    for i in range(axes):
        others = [j for j in range(axes) if j != i]
        for n in itertools.product((-2, -1, 0, 1, 2), repeat=axes - 1):
            total = basis[:, i] + sum((k * basis[:, j] for k, j in zip(n, others, strict=True)), torch.zeros(()))
            assert (total.norm(dim=-1) >= basis[:, i].norm(dim=-1) * (1 - 1e-9)).all()


def test_lengths_are_those_of_ase():
    cell = skewed(40, 3)
    found = (reduction.reduced_basis(cell) @ cell).norm(dim=-1).sort(-1).values
    expected = torch.stack([torch.from_numpy(minkowski_reduce(one.numpy())[0]).norm(dim=-1).sort().values for one in cell])
    torch.testing.assert_close(found, expected)


def test_the_shape_is_checked():
    with pytest.raises(ShapeError, match="one to three axes"):
        reduction.reduced_basis(torch.zeros(4, 3, 2))
