import math

import pytest
import torch
from engine_targets import FourWells, Harmonic, Springs, z_score

from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.walkers import evaluate
from equilibra.errors import DivergenceError, InputError, ShapeError


class Broken(Energy):
    """Never a number, so that nothing is ever accepted."""

    items, axes, invariant, name = 1, 1, False, "broken"

    def energy(self, x):
        return x[:, 0, 0] * torch.nan


def start(energy, n, seed=0, width=1.0):
    generator = torch.Generator().manual_seed(seed)
    reduced = ReducedEnergy(energy)
    x = width * torch.randn(n, energy.items, energy.axes, generator=generator, dtype=torch.float64)
    return evaluate(x, reduced), reduced, generator


def test_one_leapfrog_step_is_mala():
    walkers, reduced, _ = start(FourWells(), 50, width=2.0)
    h = 0.5 * 0.15**2
    proposal, probability = HamiltonianMoves(0.15, jitter=0.0)._propose(
        walkers, reduced, torch.ones(50).double(), torch.ones(4, 1).double(), torch.Generator().manual_seed(3)
    )

    def log_q(end, origin):
        return -(end.x - origin.x - h * origin.force).square().flatten(1).sum(1) / (4.0 * h)

    ratio = walkers.u - proposal.u + log_q(walkers, proposal) - log_q(proposal, walkers)
    torch.testing.assert_close(probability, ratio.clamp(max=0.0).exp())
    assert 0.05 < float(probability.mean()) < 0.95


@pytest.mark.parametrize("leapfrog", [1, 4])
def test_each_walker_has_its_own_temperature(leapfrog):
    energy = Harmonic([[1.0, 4.0]])
    walkers, reduced, generator = start(energy, 3000, seed=leapfrog)
    beta = torch.tensor([0.25, 1.0, 3.0], dtype=torch.float64).repeat_interleave(1000)
    moves = HamiltonianMoves(0.7, leapfrog=leapfrog)
    walkers, acceptance = moves(walkers, reduced, generator=generator, beta=beta, moves=60)
    assert acceptance.shape == (3000,)
    assert reduced.calls == 3000 * (1 + 60 * leapfrog)
    for index, inverse in enumerate((0.25, 1.0, 3.0)):
        part = walkers.x[index * 1000 : (index + 1) * 1000, 0]
        for axis, k in enumerate((1.0, 4.0)):
            assert abs(z_score(part[:, axis], 0.0)) < 4
            assert abs(z_score(part[:, axis].square(), 1.0 / (inverse * k))) < 4


@pytest.mark.parametrize("masses", [None, torch.tensor([1.0, 12.0, 16.0, 3.0])])
def test_the_mean_free_space_is_kept_and_sampled(masses):
    energy = Springs()
    walkers, reduced, generator = start(energy, 2000, seed=5)
    moves, walkers = HamiltonianMoves(0.1, leapfrog=3, masses=masses).adapt(walkers, reduced, generator=generator, rounds=40)
    walkers, _ = moves(walkers, reduced, generator=generator, moves=40)
    assert walkers.x.mean(1).abs().max() < 1e-13
    # each particle has (items - 1)/items of the variance per axis, whatever its mass
    for item in range(energy.items):
        assert abs(z_score(walkers.x[:, item].square().mean(1), 0.75 * energy.variance)) < 4
    virial = -(walkers.x * walkers.force).flatten(1).sum(1)
    assert abs(z_score(virial, energy.degrees)) < 4


def test_virial_of_four_wells():
    walkers, reduced, generator = start(FourWells(), 1500, seed=2, width=2.0)
    moves, walkers = HamiltonianMoves(0.01, leapfrog=4).adapt(walkers, reduced, generator=generator, rounds=60)
    walkers, _ = moves(walkers, reduced, generator=generator, moves=60)
    assert abs(z_score(-(walkers.x * walkers.force).flatten(1).sum(1), 6.0)) < 4


@pytest.mark.parametrize(("leapfrog", "aim"), [(1, 0.574), (5, 0.75)])
@pytest.mark.parametrize("wrong", [1e-4, 1e4])
def test_adaptation_reaches_the_target_from_far_away(leapfrog, aim, wrong):
    energy = Harmonic(torch.linspace(0.5, 20.0, 12).reshape(4, 3))
    walkers, reduced, generator = start(energy, 200, width=0.4)
    moves, walkers = HamiltonianMoves(wrong, leapfrog=leapfrog).adapt(walkers, reduced, generator=generator, rounds=60)
    _, acceptance = moves(walkers, reduced, generator=generator, moves=10)
    assert abs(float(acceptance.mean()) - aim) < 0.06


def test_groups_get_steps_of_their_own():
    energy = Harmonic(torch.full((4, 3), 1.0))
    walkers, reduced, generator = start(energy, 400)
    beta = torch.tensor([1.0, 1.0]).repeat_interleave(200)
    stiff = HamiltonianMoves(torch.tensor([1e-3, 10.0]).repeat_interleave(200), target_acceptance=0.8)
    moves, walkers = stiff.adapt(walkers, reduced, generator=generator, beta=beta, rounds=60, groups=2)
    _, acceptance = moves(walkers, reduced, generator=generator, moves=10)
    assert acceptance.reshape(2, 200).mean(1).tolist() == pytest.approx([0.8, 0.8], abs=0.05)
    assert math.isclose(float(moves.step[0]), float(moves.step[-1]), rel_tol=0.1)


def test_the_same_seed_gives_the_same_walkers():
    walkers, reduced, _ = start(Springs(), 20)
    kept = walkers.x.clone()
    runs = [HamiltonianMoves(0.2)(walkers, reduced, generator=torch.Generator().manual_seed(8), moves=5)[0].x for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(walkers.x, kept)


def test_errors():
    with pytest.raises(InputError, match="step: got 0"):
        HamiltonianMoves(0.0)
    with pytest.raises(InputError, match="leapfrog"):
        HamiltonianMoves(0.1, leapfrog=0)
    with pytest.raises(InputError, match="jitter"):
        HamiltonianMoves(0.1, jitter=1.0)
    with pytest.raises(InputError, match="target_acceptance"):
        HamiltonianMoves(0.1, target_acceptance=1.5)
    walkers, reduced, generator = start(Springs(), 10)
    with pytest.raises(InputError, match="10 walkers in 3 groups"):
        HamiltonianMoves(0.1).adapt(walkers, reduced, generator=generator, groups=3)
    with pytest.raises(ShapeError, match="masses"):
        HamiltonianMoves(0.1, masses=torch.ones(3))(walkers, reduced, generator=generator)
    with pytest.raises(InputError, match="virtual sites"):
        HamiltonianMoves(0.1, masses=torch.tensor([1.0, 1.0, 1.0, 0.0]))(walkers, reduced, generator=generator)
    lost, bad, generator = start(Broken(), 10)
    with pytest.raises(DivergenceError, match="every proposal was rejected"):
        HamiltonianMoves(0.1).adapt(lost, bad, generator=generator, rounds=100)
