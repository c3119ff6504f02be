"""Adapters against the engines they wrap: energies, forces, gradients through torch, calls and refusals."""

import numpy as np
import openmm
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from equilibra.energies.adapters import AseEnergy, CallableEnergy, OpenMMEnergy
from equilibra.energies.analytic import HarmonicCluster, LennardJonesCluster
from equilibra.energies.energy import ReducedEnergy
from equilibra.errors import InputError, ShapeError
from equilibra.units import KJ_PER_MOL_EV, NM


def positions(batch, items, seed=0, scale=1.2):
    generator = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(*[torch.arange(3, dtype=torch.float64)] * 3)[:items]
    return scale * grid + 0.05 * torch.randn(batch, items, 3, generator=generator, dtype=torch.float64)


def harmonic_bonds(items, k=5e4, length=0.12):
    system = openmm.System()
    force = openmm.HarmonicBondForce()
    for index in range(items):
        system.addParticle(12.0)
        if index:
            force.addBond(index - 1, index, length, k)
    system.addForce(force)
    return system


def openmm_engine():
    return OpenMMEnergy(harmonic_bonds(4)), positions(3, 4)


def ase_engine():
    # ase's own Lennard-Jones, shifted at its cut-off
    atoms = Atoms("Ar4", positions=positions(1, 4)[0].numpy())
    return AseEnergy(atoms, LennardJones(sigma=1.0, epsilon=0.5, rc=50.0)), positions(3, 4)


def numpy_engine():
    def function(x):
        return 0.5 * (x**2).sum((1, 2))

    return CallableEnergy(function, 4, forces=lambda x: -x, invariant=False), positions(3, 4)


ENGINES = {"openmm": openmm_engine, "ase": ase_engine, "numpy": numpy_engine}


@pytest.fixture(params=list(ENGINES))
def engine(request):
    return ENGINES[request.param]()


def test_gradients_are_finite_differences(engine):
    energy, x = engine
    moving = x.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(energy.energy, moving, eps=1e-5, atol=1e-5, rtol=1e-5)
    u, force = energy.energy_and_force(x)
    (gradient,) = torch.autograd.grad((energy.energy(moving) * torch.tensor([1.0, 2.0, 3.0])).sum(), moving)
    assert torch.allclose(gradient, -force * torch.tensor([1.0, 2.0, 3.0])[:, None, None])
    assert torch.allclose(u, energy.energy(x))


def test_dtype_shapes_batches_and_counts(engine):
    energy, x = engine
    u, force = energy.energy_and_force(x.float())
    assert u.dtype == force.dtype == torch.float32
    kept = x.clone()
    assert torch.allclose(energy.energy(x[1:2]), energy.energy(x)[1:2])
    assert torch.equal(x, kept)
    with pytest.raises(ShapeError, match=r"got shape \(3, 3, 3\), expected \(batch, 4, 3\)"):
        energy.energy(x[:, :3])
    reduced = ReducedEnergy.at(energy, 300.0)
    reduced.check(x)
    reduced(x[:2])
    assert reduced.calls == 5
    assert energy.energy(x[:0]).shape == (0,)


def test_second_derivatives_are_refused_instead_of_being_zero(engine):
    energy, x = engine
    moving = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy.energy(moving).sum(), moving, create_graph=True)
    with pytest.raises(InputError, match="differentiable once"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_engines_written_in_torch_work_under_every_gradient_mode(mode):
    class Springs(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=(), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            x = torch.tensor(atoms.positions, requires_grad=True)
            energy = 0.5 * x.square().sum()
            (gradient,) = torch.autograd.grad(energy, x)
            self.results = {"energy": float(energy.detach()), "forces": -gradient.numpy()}

    energy = AseEnergy(Atoms("H2"), Springs(), invariant=False)
    x = positions(2, 2).requires_grad_(True)
    with mode():
        _, force = energy.energy_and_force(x)
    assert torch.allclose(force, -x)
    (gradient,) = torch.autograd.grad(energy.energy(x).sum(), x)
    assert torch.allclose(gradient, x)
    assert energy.degrees == 6


def test_ase_lennard_jones_is_the_torch_cluster():
    energy, x = ase_engine()
    # 4 eps (s^12 - s^6) with r_min = 2^(1/6) sigma is P (r^-12 - 2 r^-6) in units of r_min with P = eps
    cluster = LennardJonesCluster(4, prefactor=0.5, trap=0.0)
    unit = 2 ** (1 / 6)
    u, force = energy.energy_and_force(x)
    expected, expected_force = cluster.energy_and_force(x / unit)
    assert torch.allclose(u, expected, atol=1e-6)  # the shift at the cut-off
    assert torch.allclose(force, expected_force / unit, atol=1e-6)


def test_ase_asks_once_for_each_conformation_and_ignores_constraints():
    class Counting(EMT):
        calculations = 0

        def calculate(self, *args, **kwargs):
            Counting.calculations += 1
            super().calculate(*args, **kwargs)

    atoms = Atoms("Cu4", positions=positions(1, 4, scale=2.5)[0].numpy())
    atoms.set_constraint(FixAtoms([0]))
    energy = AseEnergy(atoms, Counting())
    x = positions(3, 4, seed=1, scale=2.5)
    u, force = energy.energy_and_force(x)
    assert Counting.calculations == 3
    assert energy.name == "ase-counting"
    free = Atoms("Cu4", positions=x[2].numpy(), calculator=EMT())
    assert float(u[2]) == pytest.approx(free.get_potential_energy())
    assert np.allclose(force[2].numpy(), free.get_forces())
    assert np.allclose(atoms.positions, positions(1, 4, scale=2.5)[0].numpy())


def test_ase_refuses_what_it_cannot_use_and_names_the_conformation_that_failed():
    with pytest.raises(InputError, match="no calculator"):
        AseEnergy(molecule("H2O"))

    class Silent(Calculator):
        implemented_properties = ["energy"]  # noqa: RUF012

    with pytest.raises(InputError, match="Silent has no forces"):
        AseEnergy(molecule("H2O"), Silent())

    class Fragile(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=(), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            if atoms.positions[0, 0] > 10:
                raise RuntimeError("SCF not converged")
            self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}

    x = positions(3, 3)
    x[1] += 100
    with pytest.raises(
        InputError, match="'ase-fragile': the engine failed on conformation 1 of 3: RuntimeError: SCF not converged"
    ):
        AseEnergy(molecule("H2O"), Fragile()).energy(x)


def test_openmm_agrees_with_its_own_context():
    system = harmonic_bonds(4)
    energy = OpenMMEnergy(system)
    x = positions(2, 4)
    r = (x[:, 1:] - x[:, :-1]).norm(dim=-1)
    expected = (0.5 * 5e4 * (r / NM - 0.12) ** 2).sum(1) * KJ_PER_MOL_EV
    assert torch.allclose(energy.energy(x), expected, rtol=1e-9)
    assert energy.degrees == 9
    bad = x.clone()
    bad[1, 2, 0] = float("nan")
    with pytest.raises(InputError, match=r"energy 'openmm': .*conformation 1 of 2|conformation 1 of 2"):
        ReducedEnergy(energy).check(bad)


def test_openmm_refuses_constraints_virtual_sites_and_unknown_platforms():
    constrained = harmonic_bonds(3)
    constrained.addConstraint(0, 1, 0.1)
    with pytest.raises(InputError, match="1 constraints"):
        OpenMMEnergy(constrained)
    virtual = harmonic_bonds(3)
    virtual.addParticle(0.0)
    virtual.setVirtualSite(3, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    with pytest.raises(InputError, match="virtual sites"):
        OpenMMEnergy(virtual)
    with pytest.raises(InputError, match="did you mean 'Reference'"):
        OpenMMEnergy(harmonic_bonds(3), "Referenc")


def test_torch_functions_keep_all_their_derivatives():
    cluster = HarmonicCluster(4, 2)
    energy = CallableEnergy(cluster.energy, 4, axes=2, name="springs")
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mine, theirs in zip(energy.energy_and_force(x), cluster.energy_and_force(x), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.autograd.gradgradcheck(energy.energy, x.requires_grad_(True))
    assert energy.degrees == 6


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.square().sum(), "one per conformation"),
        (lambda x: x.detach().numpy().sum((1, 2)), "needs forces="),
        (lambda x: x.detach().square().sum((1, 2)), "torch can differentiate"),
    ],
)
def test_functions_that_return_something_else_are_refused(function, message):
    energy = CallableEnergy(function, 4, name="mine")
    with pytest.raises(InputError, match=message):
        energy.energy_and_force(positions(3, 4))


def test_functions_forces_of_a_wrong_shape_and_their_own_exceptions():
    energy = CallableEnergy(lambda x: x.sum((1, 2)), 4, forces=lambda x: x[:, :2])
    with pytest.raises(ShapeError, match="forces of the energy 'function'"):
        energy.energy_and_force(positions(3, 4))
    with pytest.raises(ShapeError, match="one per conformation"):
        CallableEnergy(lambda x: 0.0, 4, forces=lambda x: x).energy(positions(3, 4))

    def broken(x):
        raise KeyError("my own mistake")

    with pytest.raises(KeyError, match="my own mistake"):
        CallableEnergy(broken, 4, forces=lambda x: x).energy(positions(3, 4))
    nan = CallableEnergy(lambda x: x.sum((1, 2)) * float("nan"), 4)
    with pytest.raises(InputError, match="conformation 0 of 3"):
        ReducedEnergy(nan).check(positions(3, 4))
