"""DW4, LJ13, LJ55: hand-computed energies, invariances, overflow, and the published constants by an independent chain."""

import math

import pytest
import torch

from equilibra.energies.analytic import DW4_REFERENCE, LJ13_REFERENCE, LennardJonesCluster, dw4, lj13, lj55
from equilibra.energies.energy import ReducedEnergy
from equilibra.errors import InputError, ShapeError

SYSTEMS = {"dw4": dw4, "lj13": lj13, "lj55": lj55}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def spread_out(energy, batch, seed=0):
    """Particles on a jittered grid, none of them close."""
    side = math.ceil(energy.items ** (1 / energy.axes))
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * energy.axes)[: energy.items]
    noise = torch.randn(batch, energy.items, energy.axes, generator=seeded(seed), dtype=torch.float64)
    return 1.3 * grid + 0.08 * noise


@pytest.fixture(params=list(SYSTEMS), scope="module")
def system(request):
    return SYSTEMS[request.param]()


def test_energies_are_the_loops_of_their_definition(system):
    x = spread_out(system, 1)[0]
    total = 0.0
    for i in range(system.items):
        for j in range(i):
            r = float((x[i] - x[j]).norm())
            total += 0.9 * (r - 4) ** 4 - 4 * (r - 4) ** 2 if system.name == "dw4" else 2 * (r**-12 - 2 * r**-6)
    if system.name != "dw4":
        total += 0.5 * float((x - x.mean(0)).square().sum())
    assert float(system.energy(x[None])) == pytest.approx(total, rel=1e-12)


def test_forces_in_closed_form_are_those_of_autograd_and_of_finite_differences(system):
    x = spread_out(system, 4).requires_grad_(True)
    u, force = system.energy_and_force(x)
    energy = system.energy(x)
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    assert torch.equal(u, energy)
    assert torch.allclose(force, -gradient, rtol=1e-9, atol=1e-9)
    assert not force.requires_grad
    x = x.detach()
    direction = torch.randn(x.shape, generator=seeded(1), dtype=x.dtype)
    step = 1e-6
    slope = (system.energy(x + step * direction) - system.energy(x - step * direction)) / (2 * step)
    assert torch.allclose(slope, -(force * direction).sum((1, 2)), rtol=1e-5, atol=1e-4)


def test_energy_is_differentiable_twice():
    energy = dw4()
    x = spread_out(energy, 1).requires_grad_(True)
    assert torch.autograd.gradgradcheck(energy.energy, x)

    def one(y):
        return energy.energy(y[None])[0]

    hessian = torch.func.hessian(one)(x[0].detach())
    assert torch.allclose(hessian, torch.autograd.functional.hessian(one, x[0].detach()))
    batch = spread_out(energy, 3)
    assert torch.allclose(torch.func.vmap(torch.func.grad(one))(batch), -energy.energy_and_force(batch)[1])


def test_invariances(system):
    x = spread_out(system, 3)
    u, force = system.energy_and_force(x)
    q, _ = torch.linalg.qr(torch.randn(system.axes, system.axes, generator=seeded(2), dtype=x.dtype))
    order = torch.randperm(system.items, generator=seeded(3))
    turned_u, turned_force = system.energy_and_force((x @ q.T + 7.0)[:, order])
    assert torch.allclose(turned_u, u, rtol=1e-9)
    assert torch.allclose(turned_force, (force @ q.T)[:, order], rtol=1e-7, atol=1e-7)
    assert float(force.sum(1).abs().max()) < 1e-9 * float(force.abs().max())
    assert torch.allclose(system.energy(x[1:2]), u[1:2], rtol=1e-12)
    assert system.invariant
    assert system.degrees == (system.items - 1) * system.axes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-12, 1e-5, 0.02])
def test_overlap_is_infinite_or_large_but_never_nan(dtype, distance):
    energy = lj13()
    x = spread_out(energy, 2).to(dtype)
    x[0, 1] = x[0, 0]
    x[0, 1, 0] += distance
    x[0, 2] = x[0, 0]  # three at one point: opposite infinities
    for particles in (energy, dw4()):
        start = x if particles is energy else x[:, :4, :2]
        moving = start.clone().requires_grad_(True)
        u = particles.energy(moving)
        (gradient,) = torch.autograd.grad(u.sum(), moving)
        u_closed, force = particles.energy_and_force(start)
        for values in (u, u_closed):
            assert not torch.isnan(values).any()
        assert torch.isfinite(gradient).all()
        assert torch.isfinite(force).all()
        assert torch.isfinite(u[1])
    assert float(energy.energy(x)[0]) == math.inf


def test_overlap_is_refused_as_a_start():
    energy = lj13()
    x = spread_out(energy, 2)
    x[1, 1] = x[1, 0]
    with pytest.raises(InputError, match="conformation 1 of 2"):
        ReducedEnergy(energy).check(x)


def test_float32_agrees_with_float64(system):
    x = spread_out(system, 4)
    u, force = system.energy_and_force(x)
    u32, force32 = system.energy_and_force(x.float())
    assert u32.dtype == force32.dtype == torch.float32
    assert torch.allclose(u32.double(), u, rtol=1e-4)
    assert float((force32 - force).abs().max()) < 1e-3 * float(force.abs().max())


def test_prefactors_are_different_systems():
    pair = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    assert float(LennardJonesCluster(2, trap=0.0).energy(pair)) == -2.0
    assert float(LennardJonesCluster(2, prefactor=1.0, trap=0.0).energy(pair)) == -1.0
    assert LennardJonesCluster(13, prefactor=1.0).reference is None
    assert LennardJonesCluster(13, prefactor=1.0).name != lj13().name


@pytest.mark.parametrize("reference", [DW4_REFERENCE, LJ13_REFERENCE])
def test_reference_constants_obey_thermodynamics(reference):
    assert reference.entropy == pytest.approx(reference.log_z + reference.mean_energy, abs=1e-9)
    assert reference.source


def metropolis(energy, x, sweeps, generator):
    """Independent chains of single-particle moves of lengths from 0.05 to 3; returns chain averages of u and of the virial, last two thirds."""
    u = energy.energy(x)
    us, virials = [], []
    for sweep in range(sweeps):
        for particle in range(energy.items):
            length = 0.05 * 60 ** torch.rand(len(x), 1, generator=generator, dtype=x.dtype)
            new = x.clone()
            new[:, particle] += length * torch.randn(len(x), energy.axes, generator=generator, dtype=x.dtype)
            new_u = energy.energy(new)
            accept = torch.rand(len(x), generator=generator, dtype=x.dtype).log() < u - new_u
            x, u = torch.where(accept[:, None, None], new, x), torch.where(accept, new_u, u)
        if sweep >= sweeps // 3 and sweep % 5 == 0:
            _, force = energy.energy_and_force(x)
            us.append(u)
            virials.append(-((x - x.mean(1, keepdim=True)) * force).sum((1, 2)))
    return torch.stack(us).mean(0), torch.stack(virials).mean(0)


@pytest.mark.parametrize(("make", "chains", "sweeps"), [(dw4, 500, 600), (lj13, 100, 500)])
def test_chains_reproduce_the_virial_and_the_reference_energy(make, chains, sweeps):
    """Takes about five seconds: the constants are those of these very functions, prefactor and trap included."""
    energy = make()
    generator = seeded(11)
    u, virial = metropolis(energy, spread_out(energy, chains, seed=5), sweeps, generator)
    error = float(u.std()) / math.sqrt(chains)
    z = (float(u.mean()) - energy.reference.mean_energy) / math.hypot(error, energy.reference.mean_energy_error)
    assert abs(z) < 4
    assert error < 0.4
    assert abs(float(virial.mean() - energy.degrees) / (float(virial.std()) / math.sqrt(chains))) < 4


def test_wrong_input_is_refused(system):
    with pytest.raises(ShapeError, match=system.name):
        system.energy(torch.zeros(2, system.items + 1, system.axes))
    with pytest.raises(InputError, match="at least 2"):
        LennardJonesCluster(1)
    with pytest.raises(InputError, match="prefactor"):
        LennardJonesCluster(3, prefactor=-1.0)
