"""Cells: polar form against SciPy, invariance of the noise, and the Jacobian by automatic differentiation."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from equilibra.errors import ShapeError
from equilibra.geometry import lattice, so3


def cells(n, seed=0):
    return torch.randn(n, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 4


def test_polar_agrees_with_scipy():
    a = torch.cat((cells(50), torch.diag(torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64))[None] @ cells(1, 1)))
    shape, q = lattice.polar(a)
    for cell, left, u in zip(a.numpy(), shape.numpy(), q.numpy(), strict=True):
        orthogonal, symmetric = scipy.linalg.polar(cell, side="left")
        np.testing.assert_allclose(u, orthogonal, atol=1e-9)
        np.testing.assert_allclose(left, symmetric, atol=1e-9)
    torch.testing.assert_close(shape @ q, a)
    torch.testing.assert_close(torch.linalg.det(q), torch.linalg.det(a).sign())


def test_shape_does_not_depend_on_the_orientation():
    a = cells(20)
    r = so3.uniform((20,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(lattice.polar(a @ r)[0], lattice.polar(a)[0], rtol=1e-10, atol=1e-10)


def test_polar_is_differentiable_for_cubic_cells_too():
    a = torch.stack((4 * torch.eye(3, dtype=torch.float64), cells(1)[0])).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: lattice.polar(m), a)


def test_vectors_are_an_isometry():
    m = lattice.goe((7,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = lattice.to_vector(m)
    torch.testing.assert_close(v.norm(dim=-1), m.norm(dim=(-2, -1)))
    torch.testing.assert_close(lattice.from_vector(v), m)


def test_goe_is_rotation_invariant_and_unit_off_diagonals_are_not():
    n = 100_000
    z = lattice.goe((n,), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(z, z.mT)
    turn = so3.exp(torch.tensor([0, 0, math.pi / 4], dtype=torch.float64))
    expected = torch.tensor([1.0, 0.5], dtype=torch.float64)

    def scores(m, values):
        variance = torch.stack((m[:, 0, 0], m[:, 0, 1])).var(-1)
        return ((variance - values) / (values * math.sqrt(2 / n))).abs()

    assert scores(z, expected).max() < 4
    assert scores(turn @ z @ turn.T, expected).max() < 4
    eye = torch.eye(3, dtype=torch.float64)
    wrong = z * (eye + math.sqrt(2) * (1 - eye))
    turned = turn @ wrong @ turn.T
    assert scores(turned, expected.flip(0) + torch.tensor([1.0, -0.5], dtype=torch.float64)).max() < 4
    assert scores(turned, torch.ones(2, dtype=torch.float64)).min() > 40


def test_polar_jacobian():
    """F10: |dA/d(L, Q)| over the product of eigenvalue sums is the same number for all L."""

    def assemble(parameters, q):
        return (lattice.from_vector(parameters[:6]) @ so3.exp(parameters[6:]) @ q).reshape(9)

    shapes = lattice.polar(cells(6))[0]
    rotations = so3.uniform((6,), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    constants = []
    for shape, q in zip(shapes, rotations, strict=True):
        at = torch.cat((lattice.to_vector(shape), torch.zeros(3, dtype=torch.float64)))
        jacobian = torch.autograd.functional.jacobian(lambda p, q=q: assemble(p, q), at)
        constants.append(torch.linalg.det(jacobian).abs().log() - lattice.polar_log_jacobian(shape))
    spread = torch.stack(constants).max() - torch.stack(constants).min()
    assert spread < 1e-10
    eigenvalues = torch.linalg.eigvalsh(shapes)
    pairs = eigenvalues[:, [0, 0, 1]] + eigenvalues[:, [1, 2, 2]]
    torch.testing.assert_close(lattice.polar_log_jacobian(shapes), pairs.log().sum(-1))


def test_volume():
    a = cells(10)
    torch.testing.assert_close(lattice.volume(a), torch.linalg.det(a).abs())
    torch.testing.assert_close(lattice.volume(lattice.polar(a)[0]), lattice.volume(a))


def test_scales_and_standardisation():
    n = torch.tensor([1.0, 8.0, 27.0], dtype=torch.float64)
    mu, scale = lattice.density_scale(n, 0.0577), lattice.noise_scale(n)
    torch.testing.assert_close(mu**3 * 0.0577, n)
    torch.testing.assert_close(scale, 0.5 * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert lattice.density_scale(torch.tensor([4, 8]), 0.1).dtype == torch.get_default_dtype()
    shape = lattice.polar(cells(3))[0]
    z = lattice.standardise(shape, mu, scale)
    torch.testing.assert_close(lattice.unstandardise(z, mu, scale), shape)
    torch.testing.assert_close(z[1], (shape[1] - mu[1] * torch.eye(3)) / scale[1])


@pytest.mark.parametrize(("density", "probability"), [(0.15, 0.0026), (0.176, 0.0052)])
def test_prior_is_seldom_indefinite(density, probability):
    """The share of the prior that is not positive definite, independent of the number of atoms."""
    n = 200_000
    z = lattice.goe((n,), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    shape = lattice.unstandardise(z, lattice.density_scale(5.0, density), lattice.noise_scale(5.0))
    bad = int((torch.linalg.eigvalsh(shape)[:, 0] <= 0).sum())
    assert abs(bad - n * probability) < 4 * math.sqrt(n * probability) + 0.02 * n * probability


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"a: got shape \(3, 2\), expected \(..., 3, 3\)"):
        lattice.polar(torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="v: got shape"):
        lattice.from_vector(torch.zeros(5))
