"""Rotations against SciPy, closed forms and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from equilibra.errors import ShapeError
from equilibra.geometry import so3

ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 0.0999, 0.1001, 0.5, 2.0, 3.0, math.pi - 1e-4, math.pi - 1e-8]


def axes(n, seed=0):
    v = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return v / v.norm(dim=-1, keepdim=True)


def test_hat_is_the_cross_product_and_vee_its_inverse():
    v, w = axes(5), axes(5, 1)
    torch.testing.assert_close((so3.hat(v) @ w[..., None])[..., 0], torch.linalg.cross(v, w))
    torch.testing.assert_close(so3.vee(so3.hat(v)), v)


@pytest.mark.parametrize("angle", [*ANGLES, math.pi, 5.0, 40.0])
def test_exp_agrees_with_scipy(angle):
    v = axes(20) * angle
    expected = Rotation.from_rotvec(v.numpy()).as_matrix()
    np.testing.assert_allclose(so3.exp(v).numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("angle", ANGLES)
def test_log_inverts_exp_and_agrees_with_scipy(angle):
    v = axes(50) * angle
    r = so3.exp(v)
    torch.testing.assert_close(so3.log(r), v, rtol=1e-12, atol=1e-15)
    expected = Rotation.from_matrix(r.numpy()).as_rotvec()
    np.testing.assert_allclose(so3.log(r).numpy(), expected, rtol=1e-7, atol=1e-14)
    torch.testing.assert_close(so3.angle(r), torch.full((50,), angle, dtype=torch.float64), rtol=1e-12, atol=1e-15)


def test_log_of_half_turns_is_one_of_the_two_axes():
    v = torch.cat((axes(50), torch.eye(3, dtype=torch.float64))) * math.pi
    back = so3.log(so3.exp(v))
    assert torch.minimum((back - v).abs().amax(-1), (back + v).abs().amax(-1)).max() < 1e-12


def test_exp_keeps_its_precision_under_autocast():
    v = axes(20).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        r = so3.exp(v)
    assert torch.equal(r, so3.exp(v))


@pytest.mark.parametrize("angle", [1e-4, 1.0, math.pi - 1e-3])
def test_float32_round_trip(angle):
    v = (axes(100) * angle).float()
    assert so3.log(so3.exp(v)).dtype == torch.float32
    torch.testing.assert_close(so3.log(so3.exp(v)), v, rtol=1e-5, atol=1e-6 * angle)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.0999, 0.1001, 0.7, 3.0, math.pi - 1e-3])
def test_gradients_by_finite_differences(angle):
    v = (axes(2) * angle).requires_grad_()
    r = so3.exp(v.detach()).requires_grad_()
    assert torch.autograd.gradcheck(so3.exp, v)
    assert torch.autograd.gradcheck(so3.log, r)
    assert torch.autograd.gradgradcheck(so3.exp, v)
    assert torch.autograd.gradgradcheck(so3.log, r)
    if angle > 0.01:
        assert torch.autograd.gradcheck(so3.angle, r)


@pytest.mark.parametrize("angle", ANGLES)
def test_jacobian_of_the_round_trip_is_the_identity(angle):
    v = axes(1)[0] * angle
    jacobian = torch.autograd.functional.jacobian(lambda u: so3.log(so3.exp(u)), v)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-7 if angle > 3.1 else 1e-12)


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_gradients_are_finite_where_the_angle_is_not_smooth(angle):
    r = so3.exp(torch.cat((axes(5), torch.eye(3, dtype=torch.float64))) * angle).requires_grad_()
    (gradient,) = torch.autograd.grad(so3.angle(r).sum() + so3.log(r).sum(), r)
    assert torch.isfinite(gradient).all()


def test_quaternions_agree_with_scipy():
    r = so3.uniform((100,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = Rotation.from_matrix(r.numpy()).as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(so3.to_quaternion(r).numpy(), expected, atol=1e-14)
    torch.testing.assert_close(so3.from_quaternion(3 * so3.to_quaternion(r)), r)


def test_uniform_has_the_moments_of_the_haar_measure():
    n = 40_000
    r = so3.uniform((n // 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64).reshape(n, 9)
    torch.testing.assert_close(torch.linalg.det(r.reshape(n, 3, 3)), torch.ones(n, dtype=torch.float64))
    # E r = 0 and E r_i² = 1/3 with E r_i⁴ = 1/5.
    assert (r.mean(0) / math.sqrt(1 / 3 / n)).abs().max() < 4
    assert ((r.square().mean(0) - 1 / 3) / math.sqrt((1 / 5 - 1 / 9) / n)).abs().max() < 4
    rms = so3.angle(r.reshape(n, 3, 3)).square().mean().sqrt()
    assert abs(rms / 2.29997 - 1) < 0.006


def test_uniform_depends_on_the_generator_alone():
    a, b = (so3.uniform((3,), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype == torch.get_default_dtype()


def test_geodesic_has_constant_speed_and_the_right_ends():
    generator = torch.Generator().manual_seed(2)
    r0, r1 = (so3.uniform((10, 1), generator=generator, dtype=torch.float64) for _ in range(2))
    s = torch.linspace(0, 1, 11, dtype=torch.float64)
    path = so3.geodesic(r0, r1, s)
    torch.testing.assert_close(path[:, :1], r0)
    torch.testing.assert_close(path[:, -1:], r1)
    steps = so3.angle(path[:, 1:] @ path[:, :-1].mT)
    torch.testing.assert_close(steps, (so3.angle(r1 @ r0.mT) / 10).expand(10, 10), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(so3.geodesic(r0, r1, 0.3), path[:, 3:4])


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"v: got shape \(4,\), expected \(..., 3\)"):
        so3.exp(torch.zeros(4))
    with pytest.raises(ShapeError, match=r"r: got shape \(3,\), expected \(..., 3, 3\)"):
        so3.log(torch.zeros(3))
