import pytest
import torch
from engine_targets import FourWells, Harmonic, Springs, z_score

from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.langevin import LangevinDynamics
from equilibra.energies.walkers import evaluate
from equilibra.errors import DivergenceError, InputError


def at_origin(energy, n):
    reduced = ReducedEnergy(energy)
    return evaluate(torch.zeros(n, energy.items, energy.axes, dtype=torch.float64), reduced), reduced


def test_positions_of_harmonic_wells_are_exact_and_momenta_have_the_known_bias():
    energy = Harmonic([[1.0, 2.0]])
    walkers, reduced = at_origin(energy, 3000)
    generator = torch.Generator().manual_seed(0)
    beta = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).repeat_interleave(1000)
    dynamics = LangevinDynamics(1.0, friction=1.0, masses=torch.tensor([2.0]))
    p = dynamics.momenta(walkers, reduced, generator=generator, beta=beta)
    walkers, p = dynamics.run(walkers, p, reduced, steps=40, generator=generator, beta=beta)
    assert reduced.calls == 3000 * 41
    for index, inverse in enumerate((0.5, 1.0, 2.0)):
        part = slice(index * 1000, (index + 1) * 1000)
        for axis, k in enumerate((1.0, 2.0)):
            assert abs(z_score(walkers.x[part, 0, axis].square(), 1.0 / (inverse * k))) < 4
            assert abs(z_score(p[part, 0, axis].square() / 2.0, (1.0 - k / 2.0 / 4.0) / inverse)) < 4


@pytest.mark.parametrize("masses", [None, torch.tensor([1.0, 12.0, 16.0, 3.0])])
def test_no_drift(masses):
    energy = Springs()
    walkers, reduced = at_origin(energy, 1000)
    generator = torch.Generator().manual_seed(1)
    dynamics = LangevinDynamics(0.3, masses=masses)
    p = dynamics.momenta(walkers, reduced, generator=generator)
    inertia = torch.ones(4, 1).double() if masses is None else masses.double()[:, None]
    assert abs(z_score((p.square() / inertia).flatten(1).sum(1), energy.degrees)) < 4
    walkers, p = dynamics.run(walkers, p, reduced, steps=60, generator=generator)
    assert p.sum(1).abs().max() < 1e-11
    assert walkers.x.mean(1).abs().max() < 1e-13
    assert abs(z_score(walkers.x.square().flatten(1).sum(1), energy.degrees * energy.variance)) < 4


def test_without_friction_the_energy_is_kept():
    generator = torch.Generator().manual_seed(2)
    reduced = ReducedEnergy(FourWells())
    walkers = evaluate(2.0 * torch.randn(20, 4, 2, generator=generator, dtype=torch.float64), reduced)
    drift = []
    for step in (0.004, 0.002):
        dynamics = LangevinDynamics(step, friction=0.0)
        p = dynamics.momenta(walkers, reduced, generator=torch.Generator().manual_seed(5))
        end, q = dynamics.run(walkers, p, reduced, steps=round(0.4 / step), generator=generator)
        total = end.u + 0.5 * q.square().flatten(1).sum(1) - walkers.u - 0.5 * p.square().flatten(1).sum(1)
        drift.append(float(total.abs().mean()))
    assert 3.0 < drift[0] / drift[1] < 5.0


def test_trajectory_frames():
    walkers, reduced = at_origin(Springs(), 3)
    frames = list(
        LangevinDynamics(0.1).trajectory(walkers, reduced, steps=20, every=5, generator=torch.Generator().manual_seed(0))
    )
    assert len(frames) == 4
    torch.testing.assert_close(frames[-1].u, reduced(frames[-1].x))


def test_errors():
    with pytest.raises(InputError, match="step"):
        LangevinDynamics(-1.0)
    with pytest.raises(InputError, match="friction"):
        LangevinDynamics(1.0, friction=-1.0)
    reduced = ReducedEnergy(FourWells())
    generator = torch.Generator().manual_seed(0)
    walkers = evaluate(torch.randn(5, 4, 2, generator=generator, dtype=torch.float64), reduced)
    dynamics = LangevinDynamics(100.0)
    p = dynamics.momenta(walkers, reduced, generator=generator)
    with pytest.raises(DivergenceError, match="use a smaller step"):
        dynamics.run(walkers, p, reduced, steps=100, generator=generator)
    with pytest.raises(InputError, match="every"):
        next(dynamics.trajectory(walkers, reduced, steps=1, every=0, generator=generator))
