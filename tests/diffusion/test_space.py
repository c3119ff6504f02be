"""Geometry, kernels and preconditioning of every Space; fact F24."""

import math

import pytest
import torch

from equilibra.diffusion.slab import Slab
from equilibra.diffusion.space import (
    SO3,
    CentredEuclidean,
    Euclidean,
    Fixed,
    SymmetricMatrices,
    Torus,
    require_linear,
)
from equilibra.diffusion.text import SPACES, space_from_name
from equilibra.errors import ConfigError, SpaceError
from equilibra.geometry import igso3, lattice, so3, torus
from equilibra.geometry.great_arc import slerp

SPACE_CASES = {
    "euclidean": Euclidean(),
    "centred": CentredEuclidean(),
    "symmetric": SymmetricMatrices(),
    "so3": SO3(),
    "torus": Torus(),
    "torsions": Torus(period=2 * math.pi),
    "centred torus": Torus(centred=True),
    "slab": Slab(cell=((1.0, 0.0), (0.0, 1.0))),
}
PADDED = ["euclidean", "centred", "so3", "torus", "centred torus", "slab"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def points(name, batch=6, items=4, seed=0):
    """Points of a Space, in float64."""
    g = seeded(seed)
    if name == "so3":
        return so3.uniform((batch, items), generator=g, dtype=torch.float64)
    if name == "symmetric":
        return lattice.goe((batch,), generator=g, dtype=torch.float64)
    x = torch.randn(batch, items, 3, generator=g, dtype=torch.float64)
    return SPACE_CASES[name].clean(x, None)


def mask_for(lengths, items=4):
    return torch.arange(items)[None] < torch.tensor(lengths)[:, None]


@pytest.fixture(params=list(SPACE_CASES))
def case(request):
    return request.param, SPACE_CASES[request.param]


def test_retract_inverts_log(case):
    name, space = case
    x, y = points(name), points(name, seed=1)
    v = space.log(x, y)
    assert float(space.log(space.retract(x, v), y).abs().max()) < 1e-9
    assert float(space.log(x, space.retract(x, torch.zeros_like(v))).abs().max()) < 1e-12


def test_projection_is_idempotent_and_orthogonal(case):
    name, space = case
    raw = space.log(points(name), points(name, seed=1)) + torch.randn(
        space.log(points(name), points(name)).shape, generator=seeded(2), dtype=torch.float64
    )
    p = space.project(raw, None)
    assert torch.allclose(space.project(p, None), p, atol=1e-12)
    assert torch.allclose(space.inner(p, raw - p), torch.zeros(6, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(space.inner(p, p), (p**2).flatten(1).sum(1))


def test_tangent_noise_is_standard_normal(case):
    """E|z|^2 = D_eff, and the projection leaves z alone."""
    name, space = case
    x = points(name, batch=4000)
    z = space.tangent_noise(x, None, generator=seeded(3))
    assert torch.allclose(space.project(z, None), z, atol=1e-12)
    squared = space.inner(z, z)
    degrees = float(space.degrees(x, None)[0])
    assert abs(float(squared.mean()) - degrees) < 4.0 * math.sqrt(2 * degrees / 4000)
    assert abs(float(squared.var()) / (2 * degrees) - 1.0) < 0.2


@pytest.mark.parametrize(
    ("name", "expected"),
    [("euclidean", 12), ("centred", 9), ("symmetric", 6), ("so3", 12), ("torus", 12), ("centred torus", 9), ("slab", 12)],
)
def test_true_dimension(name, expected):
    x = points(name)
    assert SPACE_CASES[name].degrees(x, None).tolist() == [expected] * 6
    if name in PADDED:
        fewer = [4, 2, 3, 4, 2, 3]
        lost = 1 if "centred" in name else 0
        assert SPACE_CASES[name].degrees(x, mask_for(fewer)).tolist() == [3.0 * (n - lost) for n in fewer]


def test_fields_without_items():
    assert Torus().degrees(torch.zeros(2, 5), None).tolist() == [5, 5]
    assert SO3().degrees(torch.eye(3).expand(2, 3, 3), None).tolist() == [3, 3]
    assert Euclidean().degrees(torch.zeros(2, 3), None).tolist() == [3, 3]


@pytest.mark.parametrize("sigma", [0.1, 0.8])
def test_kernel_statistics(case, sigma):
    """Draws of `perturb` against a moment of the heat kernel that does not care about wrapping or curvature."""
    name, space = case
    n = 6000
    x0 = points(name, batch=1).expand(n, *points(name).shape[1:])
    x = space.perturb(x0, torch.full((n,), sigma, dtype=torch.float64), None, generator=seeded(4))
    if name == "so3":
        # the identity that detects a wrong convention: E (1 + 2 cos omega) / 3 = exp(-2 tau)
        values = ((1 + 2 * so3.angle(x @ x0.transpose(-1, -2)).cos()) / 3).flatten()
        expected = math.exp(-(sigma**2))
    elif name in ("torus", "torsions", "centred torus"):
        k = 2 * math.pi / space.period
        values, expected = torch.cos(k * (x - x0)).flatten(), math.exp(-0.5 * (k * sigma) ** 2)
    elif name == "slab":
        # in the cover: noise is not wrapped
        values, expected = ((x - x0) ** 2).flatten(), sigma**2
    else:
        v = x - x0
        degrees = float(space.degrees(x0, None)[0])
        values, expected = space.inner(v, v) / degrees, sigma**2
        if name == "centred":
            assert float(v.sum(1).abs().max()) < 1e-12
        if name == "symmetric":
            assert abs(float(v[:, 0, 0].var()) / sigma**2 - 1) < 0.1
            assert abs(float(v[:, 0, 1].var()) / sigma**2 - 0.5) < 0.05
    assert abs(float(values.mean()) - expected) < 4.0 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.1])
def test_kernel_displacement_is_the_gradient_of_the_log_kernel(case, sigma):
    name, space = case
    x0 = points(name)
    width = torch.full((6,), sigma, dtype=torch.float64)
    x = space.perturb(x0, width, None, generator=seeded(5))
    v = torch.zeros_like(space.log(x0, x), requires_grad=True)
    moved = space.retract(x, v)
    if name == "so3":
        log_kernel = igso3.log_density(so3.angle(moved @ x0.transpose(-1, -2)), 0.5 * sigma**2).sum()
    elif isinstance(space, Torus):
        log_kernel = torus.wrapped_normal_log_density(moved - x0, sigma, period=space.period).sum()
    else:
        log_kernel = -0.5 * ((moved - x0) / sigma).square().sum()
    (score,) = torch.autograd.grad(log_kernel, v)
    got = space.kernel_displacement(x0, x, width)
    assert torch.allclose(got, sigma**2 * score, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.02, 0.2, 1.0, 2.5])
def test_targets_of_the_network_have_unit_variance(case, sigma):
    """F = (displacement - c_shift x) / c_out has mean square one per degree of freedom at every noise level."""
    name, space = case
    n, scale = 3000, 0.7
    width = torch.full((n,), sigma, dtype=torch.float64)
    x0 = scale * space.tangent_noise(points(name, batch=n), None, generator=seeded(6)) if space.flat else points(name, batch=n)
    x = space.perturb(x0, width, None, generator=seeded(7))
    c = space.preconditioning(width, scale)
    target = space.kernel_displacement(x0, x, width)
    if space.flat:
        target = target - (c.c_shift if c.c_shift.ndim > 1 else c.c_shift.reshape(n, *(1,) * (x.ndim - 1))) * x
    c_out = c.c_out if c.c_out.ndim > 1 else c.c_out.reshape(n, *(1,) * (target.ndim - 1))
    ideal = space.project(target / c_out, None)
    squares = space.inner(ideal, ideal) / space.degrees(x, None)
    assert abs(float(squares.mean()) - 1.0) < 4.0 * float(squares.std()) / math.sqrt(n) + 1e-3
    if name == "slab":
        heights = (ideal[..., 2] ** 2).mean(1)
        assert abs(float(heights.mean()) - 1.0) < 4.0 * float(heights.std()) / math.sqrt(n)
    if space.linear:
        inputs = c.c_in.reshape(n, *(1,) * (x.ndim - 1)) * x
        squares = space.inner(inputs, inputs) / space.degrees(x, None)
        assert abs(float(squares.mean()) - 1.0) < 4.0 * float(squares.std()) / math.sqrt(n)


@pytest.mark.parametrize("name", PADDED)
def test_padded_items_never_move(name):
    space = SPACE_CASES[name]
    mask = mask_for([4, 2, 3, 4, 1, 3])
    x0 = space.clean(points(name), mask)
    width = torch.full((6,), 0.7, dtype=torch.float64)
    rest = torch.eye(3, dtype=torch.float64) if name == "so3" else torch.zeros(3, dtype=torch.float64)
    results = {
        "perturb": space.perturb(x0, width, mask, generator=seeded(8)),
        "prior": space.prior(x0, width, 1.0, mask, generator=seeded(9)),
        "clean": x0,
        "interpolate": space.interpolate(x0, space.perturb(x0, width, mask, generator=seeded(1)), 0.4, mask),
    }
    for what, x in results.items():
        assert torch.equal(x[~mask], rest.expand_as(x[~mask])), what
        assert torch.isfinite(x).all(), what
    for what in (
        space.tangent_noise(x0, mask, generator=seeded(10)),
        space.project(torch.ones(6, 4, 3, dtype=torch.float64), mask),
    ):
        assert float(what[~mask].abs().max()) == 0.0
    if name in ("centred", "centred torus"):
        assert float(space.tangent_noise(x0, mask, generator=seeded(10)).sum(1).abs().max()) < 1e-12


@pytest.mark.parametrize("name", PADDED)
def test_padding_does_not_change_the_noise_width(name):
    space = SPACE_CASES[name]
    n = 3000
    mask = mask_for([2]).expand(n, 4)
    x = space.clean(points(name, batch=n), mask)
    z = space.tangent_noise(x, mask, generator=seeded(11))
    degrees = float(space.degrees(x, mask)[0])
    assert abs(float(space.inner(z, z).mean()) - degrees) < 4.0 * math.sqrt(2 * degrees / n)


@pytest.mark.parametrize("name", ["euclidean", "centred", "symmetric"])
def test_prior_matches_the_moments_of_the_noised_data(name):
    space = SPACE_CASES[name]
    x = space.prior(points(name, batch=4000), torch.full((4000,), 3.0, dtype=torch.float64), 4.0, None, generator=seeded(12))
    squares = space.inner(x, x) / space.degrees(x, None)
    assert abs(float(squares.mean()) - 25.0) < 4.0 * float(squares.std()) / math.sqrt(4000)


def test_priors_of_compact_spaces_are_uniform():
    n = 8000
    width = torch.ones(n, dtype=torch.float64)
    angle = so3.angle(SO3().prior(torch.zeros(n, 3, 3, dtype=torch.float64), width, 1.0, None, generator=seeded(13)))
    assert float(angle.square().mean().sqrt()) == pytest.approx(2.29997, abs=0.02)
    x = Torus(period=3.0).prior(torch.zeros(n, 1, dtype=torch.float64), width, 1.0, None, generator=seeded(14))[:, 0]
    counts = torch.histc(x, 20, -1.5, 1.5)
    assert counts.sum() == n
    assert float(((counts - n / 20) ** 2 / (n / 20)).sum()) < 50.0  # chi-squared, 19 degrees of freedom: p = 1e-4
    slab = SPACE_CASES["slab"].prior(torch.zeros(n, 1, 3, dtype=torch.float64), width, 2.0, None, generator=seeded(15))
    assert float(slab[:, 0, :2].abs().max()) <= 0.5
    assert abs(float(slab[:, 0, 2].var()) / 5.0 - 1.0) < 4.0 * math.sqrt(2 / n)


def test_clean_removes_rounding():
    r = points("so3")
    drifted = r + 1e-5 * torch.randn(r.shape, generator=seeded(16), dtype=torch.float64)
    x = SO3().clean(drifted, None)
    # Newton: the error is squared
    assert float((x @ x.transpose(-1, -2) - torch.eye(3)).abs().max()) < 1e-8
    assert float(so3.angle(x @ r.transpose(-1, -2)).max()) < 5e-5
    assert float(CentredEuclidean().clean(torch.ones(2, 4, 3), None).abs().max()) == 0.0
    m = torch.arange(9.0).reshape(1, 3, 3)
    assert torch.equal(SymmetricMatrices().clean(m, None), SymmetricMatrices().clean(m, None).transpose(1, 2))
    assert float(Torus(period=2.0).clean(torch.tensor([[2.3]]), None)) == pytest.approx(0.3, abs=1e-6)


class TestInterpolation:
    def test_great_arc_keeps_the_norm(self):
        """F24: the mid-point of two independent Gaussians has the norm sqrt(D) on the arc, sqrt(D/2) on the chord."""
        d, n = 300, 500
        a, b = (torch.randn(n, d, generator=seeded(k), dtype=torch.float64) for k in (17, 18))
        chord = float((0.5 * (a + b)).norm(dim=1).mean()) / math.sqrt(d)
        arc = float(slerp(a, b, 0.5).norm(dim=1).mean()) / math.sqrt(d)
        assert chord == pytest.approx(math.sqrt(0.5), rel=0.01)
        assert arc == pytest.approx(1.0, rel=0.01)

    def test_great_arc_properties(self):
        a, b = torch.tensor([[3.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
        assert torch.allclose(slerp(a, b, 0.0), a)
        assert torch.allclose(slerp(a, b, 1.0), b)
        third = slerp(a, b, 1 / 3)
        assert float(third.norm()) == pytest.approx(3.0 - 2.0 / 3.0)
        assert math.atan2(float(third[0, 1]), float(third[0, 0])) == pytest.approx(math.pi / 6)
        assert torch.allclose(slerp(a, 2 * a, 0.5), 1.5 * a)
        assert torch.isfinite(slerp(torch.zeros_like(a), torch.zeros_like(a), 0.5)).all()
        assert torch.isfinite(slerp(a, torch.zeros_like(a), 0.5)).all()

    def test_geodesics(self):
        r = points("so3")
        s = so3.exp(torch.randn(6, 4, 3, generator=seeded(19), dtype=torch.float64)) @ r
        middle = SO3().interpolate(r, s, 0.25, None)
        assert torch.allclose(so3.angle(middle @ r.transpose(-1, -2)), 0.25 * so3.angle(s @ r.transpose(-1, -2)), atol=1e-9)
        x, y = torch.tensor([[0.45]], dtype=torch.float64), torch.tensor([[-0.45]], dtype=torch.float64)
        assert abs(abs(float(Torus().interpolate(x, y, 0.5, None))) - 0.5) < 1e-12  # across the boundary, not through zero

    @pytest.mark.parametrize("name", list(SPACE_CASES))
    def test_ends_are_the_ends(self, name):
        space = SPACE_CASES[name]
        a, b = points(name), points(name, seed=1)
        assert float(space.log(a, space.interpolate(a, b, 0.0, None)).abs().max()) < 1e-9
        assert float(space.log(b, space.interpolate(a, b, 1.0, None)).abs().max()) < 1e-9

    def test_slab_heights_stay_on_their_shell(self):
        a, b = (torch.randn(200, 60, 3, generator=seeded(k), dtype=torch.float64) for k in (20, 21))
        space = SPACE_CASES["slab"]
        heights = space.interpolate(space.clean(a, None), space.clean(b, None), 0.5, None)[..., 2]
        assert float(heights.norm(dim=1).mean()) / math.sqrt(60) == pytest.approx(1.0, rel=0.02)


def test_fixed_fields_are_untouched():
    space, x = Fixed(), torch.randn(3, 4, 3, generator=seeded(22))
    width = torch.ones(3)
    for same in (
        space.perturb(x, width, None, generator=seeded(0)),
        space.prior(x, width, 1.0, None, generator=seeded(0)),
        space.retract(x, torch.ones_like(x)),
        space.clean(x, None),
        space.interpolate(x, x + 1, 0.5, None),
    ):
        assert same is x
    assert space.degrees(x, None).tolist() == [0, 0, 0]
    for zero in (
        space.project(x, None),
        space.log(x, x + 1),
        space.kernel_displacement(x, x, width),
        space.tangent_noise(x, None, generator=seeded(0)),
    ):
        assert float(zero.abs().max()) == 0.0
    assert float(space.preconditioning(width, 1.0).c_out.abs().max()) == 0.0


def test_spaces_by_name():
    assert space_from_name("torus", period=2.0, centred=True) == Torus(period=2.0, centred=True)
    assert {type(space_from_name(name)) for name in SPACES} == set(SPACES.values())
    with pytest.raises(ConfigError, match=r"unknown Space 'sphere' \(known: centred, euclidean"):
        space_from_name("sphere")
    for name in ("so3", "torus", "slab"):
        with pytest.raises(SpaceError, match="needs a linear Space"):
            require_linear(space_from_name(name), "this")
    for name in ("euclidean", "centred", "symmetric"):
        require_linear(space_from_name(name), "this")
        assert space_from_name(name).linear
