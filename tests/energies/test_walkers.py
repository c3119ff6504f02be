import pytest
import torch
from engine_targets import Harmonic, Springs

from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.walkers import evaluate, per_walker, select
from equilibra.errors import ShapeError


class Hole(Energy):
    """Flat, with an energy that is not a number beyond |x| = 1 and a force that is not finite at negative x."""

    items, axes, invariant, name = 1, 1, False, "hole"

    def energy(self, x):
        x = x.flatten(1).squeeze(1)
        return torch.where(x.abs() < 1.0, 0.0 * x, torch.nan)

    def energy_and_force(self, x):
        force = torch.where(x < 0.0, torch.nan, 0.0)
        return self.energy(x), force


def test_energies_and_forces_are_asked_for_once():
    reduced = ReducedEnergy(Springs(), 0.5)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, 3, generator=generator, dtype=torch.float64) + 3.0
    kept = x.clone()
    walkers = evaluate(x, reduced)
    assert reduced.calls == 7
    assert torch.equal(x, kept)
    assert walkers.x.mean(1).abs().max() < 1e-14
    torch.testing.assert_close(walkers.u, reduced(x))
    torch.testing.assert_close(walkers.force, -walkers.x * 0.7 * 4 / 0.5)


def test_energies_that_are_not_finite_become_infinite():
    walkers = evaluate(torch.tensor([[[0.5]], [[1.5]], [[-0.5]]], dtype=torch.float64), ReducedEnergy(Hole()))
    assert walkers.u.tolist() == [0.0, torch.inf, torch.inf]
    assert walkers.force.flatten().tolist() == [0.0, 0.0, 0.0]


def test_moves_never_enter_where_the_energy_is_not_finite():
    generator = torch.Generator().manual_seed(1)
    reduced = ReducedEnergy(Hole())
    walkers = evaluate(torch.full((500, 1, 1), 0.5, dtype=torch.float64), reduced)
    for leapfrog in (1, 3):
        moves = HamiltonianMoves(0.6, leapfrog=leapfrog)
        for _ in range(20):
            walkers, acceptance = moves(walkers, reduced, generator=generator)
            assert bool(torch.isfinite(walkers.u).all())
            assert float(walkers.x.min()) > 0.0
            assert float(walkers.x.max()) < 1.0
        assert 0.1 < float(acceptance.mean()) < 0.9
    # uniform on (0, 1)
    assert abs(float(walkers.x.mean()) - 0.5) < 4 * (1 / 12 / 500) ** 0.5


def test_select_and_index():
    reduced = ReducedEnergy(Harmonic([[1.0]]))
    one = evaluate(torch.ones(3, 1, 1, dtype=torch.float64), reduced)
    other = evaluate(torch.zeros(3, 1, 1, dtype=torch.float64), reduced)
    mixed = select(torch.tensor([True, False, True]), one, other)
    assert mixed.u.tolist() == [0.5, 0.0, 0.5]
    assert mixed.force.flatten().tolist() == [-1.0, 0.0, -1.0]
    assert len(mixed[mixed.u > 0]) == 2


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"walkers of the energy 'springs': got shape \(5, 4, 2\), expected \(n, 4, 3\)"):
        evaluate(torch.zeros(5, 4, 2), ReducedEnergy(Springs()))
    with pytest.raises(ShapeError, match=r"beta: got shape \(3,\)"):
        per_walker(torch.ones(3), torch.zeros(5, 1, 1), "beta")
