"""Superposition against SciPy, planted motions, mirror images and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from equilibra.errors import ShapeError
from equilibra.geometry import so3, superposition


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotations(*shape, seed=0):
    return so3.uniform(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_centre_makes_the_mean_zero_and_keeps_padding_zero():
    x = normal(2, 5, 3)
    torch.testing.assert_close(superposition.centre(x).mean(-2), torch.zeros(2, 3, dtype=torch.float64))
    mask = torch.tensor([True, True, True, False, False])
    padded = torch.where(mask[:, None], x, torch.nan)
    y = superposition.centre(padded, mask)
    torch.testing.assert_close(y[:, :3], superposition.centre(x[:, :3]))
    assert torch.equal(y[:, 3:], torch.zeros(2, 2, 3, dtype=torch.float64))
    torch.testing.assert_close(superposition.centre(y, mask), y)


@pytest.mark.parametrize("mirror", [False, True])
def test_kabsch_agrees_with_scipy(mirror):
    x, y = normal(20, 7, 3), normal(20, 7, 3, seed=1)
    if mirror:
        y = x * torch.tensor([1.0, 1, -1]) + 0.1 * y
    weights = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    r = superposition.kabsch(x, y, weights=weights)
    for a, b, found in zip(x.numpy(), y.numpy(), r.numpy(), strict=True):
        expected = Rotation.align_vectors(b, a, weights=weights.numpy())[0].as_matrix()
        np.testing.assert_allclose(found, expected, atol=1e-9)
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(20, dtype=torch.float64))


def test_planted_motion_is_found_and_padding_ignored():
    x, r, shift = normal(4, 9, 3), rotations(4), normal(4, 1, 3, seed=3)
    y = x @ r.mT + shift
    torch.testing.assert_close(superposition.superpose(x, y), y)
    mask = torch.arange(9) < torch.tensor([9, 6, 5, 4])[:, None]
    garbled = torch.where(mask[..., None], y, torch.nan)
    torch.testing.assert_close(superposition.superpose(x, garbled, mask), y)
    assert superposition.rmsd(x, garbled, mask).max() < 1e-12
    torch.testing.assert_close(superposition.kabsch(superposition.centre(x), superposition.centre(y)), r)


def test_rmsd_is_the_smallest_deviation():
    x, y = normal(6, 8, 3), normal(6, 8, 3, seed=4)
    rmsd = superposition.rmsd(x, y)
    a, b = superposition.centre(x), superposition.centre(y)
    for cell in range(6):
        deviation = Rotation.align_vectors(b[cell].numpy(), a[cell].numpy())[1]
        assert float(rmsd[cell]) == pytest.approx(deviation / math.sqrt(8), rel=1e-9)
    torch.testing.assert_close(superposition.rmsd(y, x), rmsd)
    moved = x @ rotations(6).mT + 5
    torch.testing.assert_close(superposition.rmsd(moved, y), rmsd)
    direct = (superposition.superpose(x, y) - y).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(direct, rmsd)


def test_mirror_images_are_not_superposed():
    x = normal(8, 3)
    assert superposition.rmsd(x, -x) > 0.3


def test_leading_axes_broadcast():
    x, y = normal(5, 1, 6, 3), normal(4, 6, 3, seed=5)
    table = superposition.rmsd(x, y)
    assert table.shape == (5, 4)
    torch.testing.assert_close(table[2, 3], superposition.rmsd(x[2, 0], y[3]))


def test_gradients_by_finite_differences():
    x, y = normal(2, 5, 3).requires_grad_(), normal(2, 5, 3, seed=6).requires_grad_()
    mask = torch.tensor([[True] * 5, [True] * 4 + [False]])
    assert torch.autograd.gradcheck(lambda a, b: superposition.kabsch(a, b, mask), (x, y))
    assert torch.autograd.gradcheck(lambda a, b: superposition.superpose(a, b, mask), (x, y))
    assert torch.autograd.gradcheck(lambda a, b: superposition.rmsd(a, b, mask), (x, y))


@pytest.mark.parametrize("shape", ["tetrahedron", "square", "line", "point"])
def test_gradients_of_symmetric_sets_are_finite(shape):
    sets = {
        "tetrahedron": [[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
        "square": [[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]],
        "line": [[1.0, 0, 0], [2, 0, 0], [-1, 0, 0], [-2, 0, 0]],
        "point": [[0.0, 0, 0]] * 4,
    }
    x = torch.tensor(sets[shape], dtype=torch.float64, requires_grad=True)
    y = x.detach() @ rotations().mT
    r = superposition.kabsch(x, y)
    assert float(torch.linalg.det(r.detach())) == pytest.approx(1)
    torch.testing.assert_close(x.detach() @ r.detach().mT, y)
    (gradient,) = torch.autograd.grad((r * normal(3, 3)).sum() + superposition.rmsd(x, y), x)
    assert torch.isfinite(gradient).all()
    if shape == "tetrahedron":
        assert torch.autograd.gradcheck(lambda a: superposition.kabsch(a, y), x)


def test_wrong_shapes_are_named():
    x = torch.zeros(4, 3)
    with pytest.raises(ShapeError, match=r"y: got shape \(5, 3\), expected \(..., 4, 3\)"):
        superposition.kabsch(x, torch.zeros(5, 3))
    with pytest.raises(ShapeError, match=r"mask: got shape \(3,\)"):
        superposition.rmsd(x, x, torch.ones(3, dtype=torch.bool))
