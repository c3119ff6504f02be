"""The test systems themselves: score against autograd of the density, density against quadrature, samples against both."""

import math

import pytest
import torch

from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import Torus
from equilibra.errors import ConfigError, ShapeError, SpaceError
from equilibra.geometry import igso3, lattice, so3
from equilibra.geometry.mean_free import helmert
from equilibra.state.state import State
from equilibra.testing import (
    FixedComponents,
    GaussianComponents,
    GaussianMixture,
    IGSO3Mixture,
    JointDistribution,
    LatticeGaussian,
    RelativeTorusComponents,
    WrappedNormalComponents,
    WrappedNormalMixture,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_displacement_is_the_gradient_of_the_log_density(distribution):
    """At v = 0, d ln p(exp_x(v)) / dv is the score, in any Space and for every field of a joint state."""
    n = 6
    t = torch.linspace(0.05, 0.95, n, dtype=torch.float64)
    state = distribution.process.noise(distribution.sample(n, generator=seeded(1)), t, generator=seeded(2))
    prediction = distribution(state, t)
    assert torch.allclose(prediction.log_density, distribution.log_density(state, t))
    for name in distribution.process.moving:
        space, x = distribution.process.fields[name].space, state.fields[name]
        v = torch.zeros_like(prediction.displacements[name], requires_grad=True)
        moved = state.replace(**{name: space.retract(x, space.project(v, None))})
        (gradient,) = torch.autograd.grad(distribution.log_density(moved, t).sum(), v)
        sigma = distribution.process.sigma(name, t)
        assert torch.allclose(prediction.score(name, sigma), gradient, rtol=1e-7, atol=1e-7), name


def test_scores_obey_the_fokker_planck_equation():
    """The noised density at sigma is the clean one convolved: checked on the line by quadrature."""
    d = GaussianMixture(
        torch.tensor([0.7, 0.3]),
        torch.tensor([[1.0], [-1.5]]),
        torch.tensor([0.5, 0.3]),
        schedule=VarianceExploding(sigma_min=0.1, sigma_max=2.0),
    )
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    clean = d.log_density(State({"x": x[:, None]})).exp()
    t = torch.full((1,), 0.8, dtype=torch.float64)
    sigma = float(d.process.sigma("x", t))
    for y in (-1.0, 0.3, 2.0):
        kernel = torch.exp(-0.5 * ((y - x) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        noised = float(torch.trapezoid(clean * kernel, x))
        got = float(d.log_density(State({"x": torch.tensor([[y]], dtype=torch.float64)}), t).exp())
        assert got == pytest.approx(noised, rel=1e-9)


def test_densities_integrate_to_one():
    schedule = VarianceExploding(sigma_min=0.1, sigma_max=2.0)
    weights = torch.tensor([0.7, 0.3])
    g = torch.linspace(-1.25, 1.25, 401, dtype=torch.float64)[:-1]
    torus = WrappedNormalMixture(
        weights, torch.tensor([[0.3], [1.1]]), torch.tensor([0.1, 0.6]), schedule=schedule, space=Torus(period=2.5)
    )
    for t in (None, torch.full((400,), 0.4, dtype=torch.float64)):
        assert float(torus.log_density(State({"x": g[:, None]}), t).exp().mean() * 2.5) == pytest.approx(1.0, abs=1e-9)
    # SO(3): the Haar average over random rotations, in its own error
    rotations = IGSO3Mixture(
        weights, so3.exp(torch.tensor([[0.0, 0.0, 0.1], [1.0, 2.0, 0.0]])), torch.tensor([0.5, 0.9]), schedule=schedule
    )
    values = rotations.log_density(State({"x": so3.uniform((40000,), generator=seeded(0), dtype=torch.float64)})).exp()
    assert abs(float(values.mean()) - 1.0) < 4.0 * float(values.std()) / math.sqrt(40000)
    # symmetric matrices: the Gaussian normalisation with D_eff = 6
    cell = LatticeGaussian(torch.zeros(3, 3), 0.4, schedule=schedule)
    peak = float(cell.log_density(State({"x": torch.zeros(1, 3, 3, dtype=torch.float64)})))
    assert peak == pytest.approx(-3.0 * math.log(2 * math.pi * 0.16), rel=1e-12)


def test_importance_weights_of_noised_samples_average_to_one(distribution):
    """E_{p_t}[p_s / p_t] = 1 for any pair of times: samples and densities belong to each other, normalisation included."""
    n = 6000
    t = torch.full((n,), 0.7, dtype=torch.float64)
    s = torch.full((n,), 0.6, dtype=torch.float64)
    state = distribution.sample_noised(n, 0.7, generator=seeded(5))
    ratio = torch.exp(distribution.log_density(state, s) - distribution.log_density(state, t))
    assert abs(float(ratio.mean()) - 1.0) < 4.0 * float(ratio.std()) / math.sqrt(n) + 1e-9


def test_samples_have_the_weights_of_the_labels(distribution):
    n = 5000
    shares = distribution.responsibilities(distribution.sample(n, generator=seeded(6)))
    error = shares.std(0) / math.sqrt(n)
    assert ((shares.mean(0) - distribution.weights).abs() <= 4.0 * error + 1e-12).all()


def test_data_scale_is_the_root_mean_square(make):
    d = make("correlated")
    x = d.sample(40000, generator=seeded(7)).fields["x"]
    squares = (x**2).mean(1)
    assert abs(float(squares.mean()) - d.process.fields["x"].data_scale ** 2) < 4.0 * float(squares.std()) / 200.0


def test_joint_density_does_not_factorise(joint_distribution):
    """Given one field, the label is known better, and the score of another field changes."""
    d = joint_distribution
    state = d.sample(4, generator=seeded(8))
    t = torch.full((4,), 0.9, dtype=torch.float64)
    other = state.replace(turn=so3.exp(torch.full((4, 3), 0.9, dtype=torch.float64)) @ state.fields["turn"])
    for name in ("shift", "torsions", "cell"):
        a, b = d(state, t).displacements[name], d(other, t).displacements[name]
        assert float((a - b).abs().max()) > 1e-4
    assert "pocket" not in d(state, t).displacements
    assert torch.equal(state.fields["pocket"][0], state.fields["pocket"][3])


def test_free_energies_and_reduced_energy():
    schedule = VarianceExploding(sigma_min=0.1, sigma_max=2.0)
    laws = {"x": GaussianComponents(torch.tensor([[0.0, 0.0]]), torch.tensor([0.5]))}
    # u = |x|^2 / 2 s^2 has Z = (2 pi s^2)^(D/2)
    log_z = math.log(2 * math.pi * 0.25)
    harmonic = JointDistribution(torch.ones(1), laws, schedule, log_z=log_z)
    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    assert float(harmonic.reduced_energy(State({"x": x}))) == pytest.approx(0.5, rel=1e-12)
    assert float(harmonic.free_energies) == pytest.approx(-log_z, rel=1e-12)
    mixture = GaussianMixture(
        torch.tensor([7.0, 3.0]), torch.tensor([[2.0], [-2.0]]), torch.tensor([0.5, 0.5]), schedule=schedule
    )
    difference = mixture.free_energies[1] - mixture.free_energies[0]
    assert float(difference) == pytest.approx(math.log(0.7 / 0.3), rel=1e-6)


def test_wrapped_normal_and_igso3_samples_follow_their_laws():
    schedule = VarianceExploding(sigma_min=0.1, sigma_max=2.0)
    n = 20000
    one = torch.ones(1)
    v = (
        WrappedNormalMixture(one, torch.tensor([[0.2]]), torch.tensor([0.25]), schedule=schedule)
        .sample(n, generator=seeded(9))
        .fields["x"]
    )
    for k in (1, 2):
        values = torch.cos(2 * math.pi * k * (v - 0.2))
        expected = math.exp(-2 * math.pi**2 * 0.25**2 * k**2)
        assert abs(float(values.mean()) - expected) < 4.0 * float(values.std()) / math.sqrt(n)
    mean = so3.exp(torch.tensor([[0.4, -0.2, 1.0]], dtype=torch.float64))
    r = IGSO3Mixture(one, mean, torch.tensor([0.6]), schedule=schedule).sample(n, generator=seeded(10)).fields["x"]
    squares = so3.angle(r @ mean[0].T) ** 2
    omega = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    density = igso3.log_density(omega, 0.18).exp() * (1 - omega.cos()) / math.pi
    expected = float(torch.trapezoid(density * omega**2, omega))
    assert abs(float(squares.mean()) - expected) < 4.0 * float(squares.std()) / math.sqrt(n)


def test_coordinates_are_orthonormal(make):
    for name in ("centred", "lattice"):
        d = make(name)
        laws = d.components["x"]
        x = d.sample(5, generator=seeded(11)).fields["x"]
        assert torch.allclose(laws.assemble(laws.coordinates(x)), x, atol=1e-12)
        assert torch.allclose(laws.coordinates(x).norm(dim=1), x.flatten(1).norm(dim=1), atol=1e-12)
    h = helmert(5)
    assert torch.allclose(h @ h.T, torch.eye(4, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(h.sum(1), torch.zeros(4, dtype=torch.float64), atol=1e-14)


def test_single_precision_states_are_answered_in_kind(distribution):
    state = distribution.sample(3, generator=seeded(12))
    t = torch.full((3,), 0.4)
    single = distribution(state.to(dtype=torch.float32), t)
    double = distribution(state, t.double())
    for name, value in single.displacements.items():
        assert value.dtype == torch.float32
        assert torch.allclose(value.double(), double.displacements[name], rtol=2e-3, atol=2e-4)


def test_wrong_arguments_are_refused():
    schedule = VarianceExploding(sigma_min=0.1, sigma_max=2.0)
    with pytest.raises(SpaceError, match="origin is arbitrary"):
        WrappedNormalComponents(torch.zeros(1, 2), torch.ones(1), space=Torus(centred=True))
    with pytest.raises(SpaceError, match="centred=True"):
        RelativeTorusComponents(torch.zeros(1, 2), torch.ones(1), space=Torus())
    with pytest.raises(SpaceError, match="flat Space"):
        GaussianComponents(torch.zeros(1, 2), torch.ones(1), space=Torus())
    with pytest.raises(ShapeError, match="one of them"):
        GaussianComponents(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="stds"):
        GaussianComponents(torch.zeros(1, 2), torch.ones(1, 3))
    with pytest.raises(ShapeError, match="as many as weights"):
        JointDistribution(torch.ones(3), {"x": GaussianComponents(torch.zeros(2, 2), torch.ones(2))}, schedule)
    d = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1), schedule=schedule)
    with pytest.raises(ShapeError, match=r"expected \(batch, 2\)"):
        d.log_density(State({"x": torch.zeros(4, 3)}))
    with pytest.raises(ShapeError, match="padded"):
        d.log_density(State({"x": torch.zeros(4, 2)}, {"x": torch.ones(4, 2, dtype=torch.bool)}))
    fixed = FixedComponents(torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="no field moves"):
        JointDistribution(torch.ones(1), {"x": fixed}, schedule)


def test_lattice_mean_is_kept():
    d = LatticeGaussian(lattice.from_vector(torch.arange(6.0)), 0.01, schedule=VarianceExploding(sigma_min=0.1, sigma_max=2.0))
    x = d.sample(100, generator=seeded(13)).fields["x"]
    assert torch.allclose(x, x.transpose(-1, -2))
    assert torch.allclose(x.mean(0), lattice.from_vector(torch.arange(6.0, dtype=torch.float64)), atol=0.01)
