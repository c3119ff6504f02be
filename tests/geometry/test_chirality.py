"""Signed volumes: ideal values, invariance under motions, sign under reflections."""

import math

import pytest
import torch

from equilibra.errors import ShapeError
from equilibra.geometry import chirality, so3

TETRAHEDRON = [[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
CENTRES = torch.tensor([[0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 3, 1]])


def test_ideal_tetrahedron():
    x = torch.tensor(TETRAHEDRON, dtype=torch.float64)
    chi = 4 / (3 * math.sqrt(3))
    expected = torch.tensor([chi, -chi, chi], dtype=torch.float64)
    volumes = chirality.signed_volume(x, CENTRES)
    torch.testing.assert_close(volumes.abs(), expected.abs())
    torch.testing.assert_close(volumes * volumes[0].sign(), expected)
    u = x[1:] / math.sqrt(3)
    torch.testing.assert_close(volumes[0], torch.linalg.det(u[:3]))


def test_motions_keep_the_sign_and_reflections_flip_it():
    """F29, first half."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, 3, dtype=torch.float64, generator=generator)
    volumes = chirality.signed_volume(x, CENTRES)
    assert volumes.shape == (7, 3)
    assert volumes.abs().max() <= 1
    r = so3.uniform((7,), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(chirality.signed_volume(2.5 * (x @ r.mT) + 3, CENTRES), volumes)
    for mirror in (torch.tensor([1.0, 1, -1]), torch.tensor([-1.0, -1, -1])):
        torch.testing.assert_close(chirality.signed_volume(x * mirror, CENTRES), -volumes)


def test_planar_centres_have_no_volume():
    x = torch.tensor([[0.0, 0, 0], [1, 0, 0], [-1, 1, 0], [-1, -1, 0]], dtype=torch.float64)
    assert float(chirality.signed_volume(x, CENTRES[:1]).abs()) < 1e-15


def test_gradients_and_no_centres():
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: chirality.signed_volume(y, CENTRES), x)
    assert chirality.signed_volume(x, torch.zeros(0, 4, dtype=torch.long)).shape == (2, 0)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"centres: got shape \(1, 3\)"):
        chirality.signed_volume(torch.zeros(5, 3), torch.zeros(1, 3, dtype=torch.long))
