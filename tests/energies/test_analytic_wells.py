"""Wells, mixtures and harmonic systems: closed forms, quadrature, samplers and gradients against each other."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, simpson
from scipy.stats import multivariate_normal

from equilibra.energies.analytic import (
    DoubleWell,
    GaussianMixtureEnergy,
    HarmonicCluster,
    HarmonicCrystal,
    ManyWell,
    MuellerBrown,
    gmm40,
    many_well_5,
    many_well_32,
)
from equilibra.errors import InputError, ShapeError


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def ring(items=5, axes=3, stiffness=2.0):
    pairs = torch.tensor([[i, (i + 1) % items] for i in range(items)])
    return HarmonicCrystal.from_springs(3.0 * normal(items, axes, seed=4), pairs, stiffness)


def correlated():
    a = normal(2, 4, 4, seed=1)
    covariances = 0.3 * torch.eye(4, dtype=torch.float64) + 0.2 * a @ a.transpose(-1, -2)
    return GaussianMixtureEnergy(torch.tensor([0.7, 0.3]), normal(2, 2, 2, seed=2), covariances=covariances, log_z=1.5)


SOLVED = {
    "mixture": correlated,
    "gmm-40": gmm40,
    "double-well": lambda: DoubleWell(1.0, 4.0, 0.5, axes=2, stiffness=3.0),
    "many-well-5": many_well_5,
    "many-well-32": many_well_32,
    "mueller-brown": lambda: MuellerBrown(0.05),
    "cluster": lambda: HarmonicCluster(4, 2, stiffness=0.7),
    "crystal": ring,
}


@pytest.fixture(params=list(SOLVED), scope="module")
def solved(request):
    return SOLVED[request.param]()


def test_forces_are_finite_differences_and_shapes_are_refused(solved):
    x = solved.sample(3, generator=seeded(5)) + 0.05 * normal(3, solved.items, solved.axes, seed=6)
    u, force = solved.energy_and_force(x)
    assert u.shape == (3,)
    direction = normal(*x.shape, seed=7)
    step = 1e-5
    slope = (solved.energy(x + step * direction) - solved.energy(x - step * direction)) / (2 * step)
    assert torch.allclose(slope, -(force * direction).sum((1, 2)), rtol=1e-6, atol=1e-6)
    with pytest.raises(ShapeError, match=solved.name):
        solved.energy(x[0])


def test_exact_samples_obey_the_virial_theorem(solved):
    """<x . grad u> = D_eff, with x about any origin."""
    n = 20_000
    x = solved.sample(n, generator=seeded(8))
    assert x.dtype == torch.float64
    _, force = solved.energy_and_force(x)
    origin = x.mean(0) if not solved.invariant else x.mean(1, keepdim=True)
    virial = -((x - origin) * force).sum((1, 2))
    if solved.name == "harmonic-crystal":
        virial = -((x - solved.sites) * force).sum((1, 2))
    z = (virial.mean() - solved.degrees) / (virial.std() / math.sqrt(n))
    assert abs(float(z)) < 4


@pytest.mark.parametrize("name", ["double-well", "many-well-5", "many-well-32", "mueller-brown", "cluster", "crystal"])
def test_mean_energy_and_entropy_of_exact_samples(name):
    system = SOLVED[name]()
    u = system.energy(system.sample(20_000, generator=seeded(9)))
    z = (u.mean() - system.mean_energy()) / (u.std() / math.sqrt(len(u)))
    assert abs(float(z)) < 4
    assert system.entropy() == pytest.approx(system.log_z() + system.mean_energy())


def test_mixture_is_scipys_mixture_and_carries_its_log_z():
    a = normal(2, 3, 3, seed=1)
    covariances = 0.3 * torch.eye(3, dtype=torch.float64) + a @ a.transpose(-1, -2)
    means, weights = normal(2, 3, seed=2), np.array([0.25, 0.75])
    energy = GaussianMixtureEnergy(torch.tensor([1.0, 3.0]), means, covariances=covariances, log_z=2.0)
    x = normal(6, 1, 3, seed=3)
    density = sum(
        w * multivariate_normal(m.numpy(), c.numpy()).pdf(x[:, 0].numpy())
        for w, m, c in zip(weights, means, covariances, strict=True)
    )
    assert np.allclose(energy.energy(x).numpy(), -np.log(density) - 2.0, rtol=1e-12)
    assert energy.log_z() == 2.0
    assert torch.allclose(energy.responsibilities(x).sum(1), torch.ones(6, dtype=torch.float64))
    share = energy.responsibilities(energy.sample(20_000, generator=seeded(4)))[:, 0]
    assert abs(float((share.mean() - 0.25) / (share.std() / math.sqrt(len(share))))) < 4


def test_gmm40_has_its_published_widths_and_box():
    energy = gmm40()
    assert (energy.items, energy.axes, energy.degrees) == (1, 2, 2)
    assert float(energy.means.abs().max()) <= 40.0
    # far from the others one component is a Gaussian of the width softplus(1)
    x = energy.means[:1, None]
    assert float(energy.energy(x)[0]) == pytest.approx(math.log(40 * 2 * math.pi * 1.3132616875**2), abs=0.7)
    single = gmm40().energy(x.float())
    assert single.dtype == torch.float32


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "both or neither"),
        ({"stds": torch.tensor([1.0, -1.0])}, "positive widths"),
        ({"covariances": -torch.eye(2).expand(2, 2, 2)}, "not positive definite"),
    ],
)
def test_mixture_refuses(kwargs, message):
    with pytest.raises(InputError, match=message):
        GaussianMixtureEnergy(torch.ones(2), torch.zeros(2, 2), **kwargs)


def test_double_well_constants():
    """u = x^4/4 - x^2: log Z = 2.026500, S/k = 1.443754."""
    well = DoubleWell(0.25, 1.0, 0.0)
    assert well.log_z() == pytest.approx(2.026500, abs=1e-6)
    assert well.entropy() == pytest.approx(1.443754, abs=1e-6)
    assert well.probability(high=0.0) == pytest.approx(0.5, abs=1e-10)


def test_double_well_in_the_plane_against_two_dimensional_quadrature():
    well = DoubleWell(1.0, 4.0, 0.5, axes=2, stiffness=3.0)

    def density(y, x):
        return math.exp(-float(well.energy(torch.tensor([[[x, y]]], dtype=torch.float64))))

    value, _ = dblquad(density, -3, 3, -5, 5, epsrel=1e-6)
    assert well.log_z() == pytest.approx(math.log(value), abs=1e-6)
    x = well.sample(20_000, generator=seeded(1))[:, 0, 0]
    p = well.probability(high=0.0)
    assert abs(float((x < 0).double().mean()) - p) < 4 * math.sqrt(p * (1 - p) / len(x))


def test_many_wells_are_independent():
    one, many = ManyWell(1, axes=2), many_well_32()
    assert many.log_z() == pytest.approx(16 * one.log_z())
    assert (many.items, many.axes, many.degrees) == (16, 2, 32)
    modes = many_well_5().energy(torch.tensor([[[2.0], [-2.0], [2.0], [2.0], [-2.0]]]))
    assert float(modes) == 0.0
    with pytest.raises(InputError, match="a: got -1"):
        ManyWell(2, -1.0)


def test_mueller_brown_minima_and_log_z():
    surface = MuellerBrown(1.0)
    x = torch.tensor(surface.minima, dtype=torch.float64)[:, None]
    u, force = surface.energy_and_force(x)
    assert torch.allclose(u, torch.tensor([-146.6995, -108.1667, -80.7678], dtype=torch.float64), atol=1e-3)
    assert float(force.abs().max()) < 0.02
    mild = MuellerBrown(0.05)
    grid_x, grid_y = np.linspace(-4.0, 2.2, 601), np.linspace(-2.2, 4.0, 501)
    points = torch.cartesian_prod(torch.from_numpy(grid_x), torch.from_numpy(grid_y))
    density = np.exp(-mild.energy(points[:, None]).numpy()).reshape(601, 501)
    integral = simpson(simpson(density, x=grid_y, axis=1), x=grid_x)
    assert mild.log_z() == pytest.approx(math.log(integral), abs=1e-5)
    # in a deep well the harmonic approximation holds
    deep = MuellerBrown(20.0)
    hessian = torch.autograd.functional.hessian(lambda y: deep.energy(y.reshape(1, 1, 2))[0], x[0, 0])
    harmonic = -20.0 * float(u[0]) + math.log(2 * math.pi) - 0.5 * float(torch.logdet(hessian))
    assert deep.log_z() == pytest.approx(harmonic, abs=0.01)
    with pytest.raises(InputError, match="give more cells"):
        MuellerBrown(1.0, cells=20).log_z()


@pytest.mark.parametrize(("items", "axes", "k"), [(2, 1, 1.0), (4, 2, 0.7), (13, 3, 2.5)])
def test_harmonic_cluster_and_the_splitting_of_the_volume(items, axes, k):
    """ln Z = D/2 ln(2 pi / k), and the full integral over a volume V is N^(d/2) V Z: seen with the last particle fixed."""
    cluster = HarmonicCluster(items, axes, stiffness=k)
    assert cluster.log_z() == pytest.approx(0.5 * (items - 1) * axes * math.log(2 * math.pi / k), abs=1e-12)

    def pinned(y):
        return cluster.energy(torch.cat([y, y.new_zeros(1, axes)])[None])[0]

    y = torch.zeros(items - 1, axes, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(pinned, y).reshape(y.numel(), y.numel())
    integral = 0.5 * y.numel() * math.log(2 * math.pi) - 0.5 * float(torch.logdet(hessian))
    assert integral == pytest.approx(0.5 * axes * math.log(items) + cluster.log_z(), abs=1e-12)


def test_harmonic_crystal_counts_spanning_trees():
    """The product of the stiffnesses of a ring of N springs is k^(N-1) N^2 per axis (Kirchhoff)."""
    items, axes, k = 5, 3, 2.0
    crystal = ring(items, axes, k)
    log_determinant = axes * ((items - 1) * math.log(k) + 2 * math.log(items))
    assert crystal.degrees == 12
    assert crystal.log_z() == pytest.approx(0.5 * 12 * math.log(2 * math.pi) - 0.5 * log_determinant, abs=1e-10)
    assert crystal.entropy() == pytest.approx(crystal.log_z() + 6.0)
    shifted = crystal.sites + torch.tensor([5.0, -3.0, 1.0])
    assert float(crystal.energy(shifted[None])) == pytest.approx(0.0, abs=1e-12)


def test_harmonic_crystal_samples_have_the_inverse_hessian_as_covariance():
    crystal = ring(4, 2)
    x = crystal.sample(40_000, generator=seeded(3))
    y = (x - crystal.sites).flatten(1)
    covariance = crystal.modes @ torch.diag(1 / crystal.stiffness) @ crystal.modes.T
    product = y[:, :, None] * y[:, None, :]
    z = (product.mean(0) - covariance) / (product.std(0) / math.sqrt(len(y)))
    assert float(z.abs().max()) < 4.5
    assert torch.allclose(covariance, torch.linalg.pinv(crystal.hessian), atol=1e-10)


def test_harmonic_crystal_refuses_loose_particles_and_skew_matrices():
    with pytest.raises(InputError, match="no spring holds"):
        HarmonicCrystal.from_springs(normal(3, 2), torch.tensor([[0, 1]]))
    with pytest.raises(InputError, match="not symmetric"):
        HarmonicCrystal(normal(2, 2), normal(4, 4))
    with pytest.raises(ShapeError, match="hessian"):
        HarmonicCrystal(normal(2, 2), normal(3, 3))
