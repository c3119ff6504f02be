import math

import pytest
import torch
from engine_targets import DoubleWell, FourWells, Harmonic, Springs, z_score

from equilibra.energies.annealing import anneal
from equilibra.energies.annealing_path import CallablePath, GaussianReference, SoftCorePath
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.resampling import effective_size, systematic_indices
from equilibra.energies.walkers import evaluate
from equilibra.errors import DivergenceError, InputError


class LennardJones(Energy):
    """P (r^-12 - 2 r^-6) for each pair, and a trap about the centre."""

    def __init__(self, items, prefactor=2.0):
        self.items, self.prefactor, self.name = items, prefactor, "Lennard-Jones"

    def energy(self, x):
        first, second = torch.triu_indices(self.items, self.items, 1)
        r6 = (x[:, first] - x[:, second]).square().sum(-1).pow(-3)
        trap = 0.5 * (x - x.mean(1, keepdim=True)).square().flatten(1).sum(1)
        return self.prefactor * (r6.square() - 2.0 * r6).sum(1) + trap


class Empty(Harmonic):
    """Infinite everywhere."""

    def energy(self, x):
        return super().energy(x) + torch.inf


def test_reference_samples_and_partition_function():
    generator = torch.Generator().manual_seed(0)
    for reference in (GaussianReference(4, 3, 0.7), GaussianReference(2, 2, 3.0, centred=False)):
        x = reference.sample(4000, generator=generator)
        walkers = evaluate(x, ReducedEnergy(reference))
        torch.testing.assert_close(walkers.x, x)
        assert abs(z_score(walkers.u, 0.5 * reference.degrees)) < 4
        moving = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(reference.energy(moving).sum(), moving)
        torch.testing.assert_close(walkers.force, -gradient)
        assert reference.log_z == pytest.approx(0.5 * reference.degrees * math.log(2 * math.pi * reference.std**2))


@pytest.mark.parametrize("adaptive", [True, False])
def test_log_z_and_its_error_over_many_seeds(adaptive):
    """The error is honest: z-values over seeds follow a t-distribution with groups - 1 degrees of freedom."""
    energy = Harmonic([[0.3, 5.0], [1.0, 20.0]])
    reference = GaussianReference(2, 2, 1.0, centred=False)
    schedule = None
    scores, estimates = [], []
    for seed in range(20 + (not adaptive)):
        found = anneal(
            reference,
            ReducedEnergy(energy),
            256,
            moves=HamiltonianMoves(0.3),
            generator=torch.Generator().manual_seed(seed),
            moves_per_level=1,
            schedule=schedule,
        )
        if not adaptive and schedule is None:
            schedule = found.schedule
            continue
        scores.append((found.log_z - energy.log_z) / found.log_z_error)
        estimates.append(found.log_z)
    assert len(scores) == 20
    assert abs(z_score(estimates, energy.log_z)) < 4
    assert (
        sum(abs(score) < 2.365 for score in scores) >= 16
    )  # 95 % interval of t with 7 degrees of freedom: fewer has the chance 3e-3
    assert 0.4 < torch.tensor(scores).square().mean().item() / (7 / 5) < 2.5


def test_weighted_moments_and_bookkeeping():
    energy = Springs(k=3.0)
    reduced = ReducedEnergy(energy)
    levels = []
    found = anneal(
        GaussianReference(4, 3, 1.0),
        reduced,
        2000,
        moves=HamiltonianMoves(0.3),
        generator=torch.Generator().manual_seed(1),
        progress=lambda level, effective: levels.append((level, effective)),
    )
    assert found.log_z == pytest.approx(energy.log_z, abs=4 * found.log_z_error)
    assert found.calls == reduced.calls
    k = len(found.lambdas)
    # three moves a level; the energy twice at the first level, or while lambda < 0.01; once more at the end
    assert 2000 * (3 * k + 1) < found.calls <= 2000 * (3 * k + 1 + 2 * (1 + sum(level < 0.01 for level in found.lambdas)))
    assert found.lambdas == tuple(level for level, _ in levels)
    assert found.lambdas[-1] == 1.0
    assert found.x.mean(1).abs().max() < 1e-13
    torch.testing.assert_close(found.u, reduced(found.x))
    torch.testing.assert_close(found.force, -found.x * 12.0)
    assert float(torch.logsumexp(found.log_weights, 0)) - math.log(2000) == pytest.approx(found.log_z)
    assert found.ess == pytest.approx(effective_size(found.log_weights))
    w = torch.softmax(found.log_weights.reshape(8, 250), 1)
    radius = (w * found.x.square().flatten(1).sum(1).reshape(8, 250)).sum(1)
    assert abs(z_score(radius, energy.degrees * energy.variance)) < 4
    assert all(0.3 < a < 0.9 for a in found.acceptance)


def test_four_wells():
    energy = FourWells()
    found = anneal(
        GaussianReference(4, 2, 2.2),
        ReducedEnergy(energy),
        4000,
        moves=HamiltonianMoves(0.2),
        generator=torch.Generator().manual_seed(2),
        moves_per_level=4,
    )
    assert found.log_z_error < 0.06
    assert abs(found.log_z - 29.668) < 3 * math.hypot(found.log_z_error, 0.004)
    w = torch.softmax(found.log_weights.reshape(8, 500), 1)
    virial = -(found.x * found.force).flatten(1).sum(1).reshape(8, 500)
    assert abs(z_score((w * virial).sum(1), 6.0)) < 4
    assert found.resamplings > 0


def test_any_function_is_a_path():
    energy = DoubleWell(height=2.0)
    reduced = ReducedEnergy(energy)
    path = CallablePath(
        GaussianReference(1, 1, 1.0, centred=False),
        lambda level, x: (1 - level**2) * 0.5 * x[:, 0, 0].square() + level**2 * energy.energy(x),
        counter=reduced.counter,
    )
    found = anneal(
        path.reference, reduced, 1600, moves=HamiltonianMoves(0.5), path=path, generator=torch.Generator().manual_seed(3)
    )
    grid = torch.linspace(-4, 4, 40_001, dtype=torch.float64)
    exact = math.log(torch.trapezoid((-energy.energy(grid[:, None, None])).exp(), grid))
    assert found.log_z == pytest.approx(exact, abs=4 * found.log_z_error)
    assert found.calls == reduced.calls
    right = (torch.softmax(found.log_weights.reshape(8, 200), 1) * (found.x[:, 0, 0] > 0).reshape(8, 200)).sum(1)
    assert abs(z_score(right, energy.right())) < 4


def test_soft_core_path():
    kt, generator = 0.7, torch.Generator().manual_seed(4)
    path = SoftCorePath(5, 1.0, kt=kt)
    x = path.reference.sample(20, generator=generator)
    for level in (0.0, 0.3, 0.9, 1.0):
        moving = x.clone().requires_grad_(True)
        u = path.energy(level, moving)
        (gradient,) = torch.autograd.grad(u.sum(), moving)
        walkers = evaluate(x, path.at(level))
        torch.testing.assert_close(walkers.u, u.detach())
        size = gradient.flatten(1).norm(dim=1)  # a close pair at lambda = 1 pulls with 1e10, and rounds like it
        assert bool(((walkers.force + gradient).flatten(1).norm(dim=1) < 1e-12 * size).all())
        torch.testing.assert_close(path.profile(walkers, level)(0.5), path.energy(0.5, x))
    target = ReducedEnergy(LennardJones(5, 1.0), kt)
    torch.testing.assert_close(path.energy(0.0, x), path.reference.energy(x))
    torch.testing.assert_close(path.energy(1.0, x), target(x))
    on_top = path.energy(0.5, torch.zeros(1, 5, 3, dtype=torch.float64))
    assert bool(torch.isfinite(on_top).all())


def test_both_paths_to_a_small_cluster_agree_with_quadrature():
    """Two particles: one relative vector r with the trap r^2/4, and the orthonormal coordinate r / sqrt 2."""
    target = ReducedEnergy(LennardJones(2))
    r = torch.linspace(1e-3, 20.0, 200_001, dtype=torch.float64)
    u = 2.0 * (r.pow(-12) - 2.0 * r.pow(-6)) + 0.25 * r.square()
    exact = math.log(torch.trapezoid(4 * math.pi * r.square() * (-u).exp(), r) * 2**-1.5)
    for seed, path in enumerate((None, SoftCorePath(2, counter=target.counter))):
        found = anneal(
            GaussianReference(2, 3, 1.0),
            target,
            1600,
            moves=HamiltonianMoves(0.2),
            path=path,
            generator=torch.Generator().manual_seed(seed),
        )
        assert found.log_z == pytest.approx(exact, abs=4 * found.log_z_error)
        assert found.log_z_error < 0.05


def test_single_precision():
    found = anneal(
        GaussianReference(4, 2, 2.2),
        ReducedEnergy(FourWells()),
        2000,
        moves=HamiltonianMoves(0.2, leapfrog=2),
        generator=torch.Generator().manual_seed(6),
        dtype=torch.float32,
    )
    assert found.x.dtype == found.u.dtype == found.log_weights.dtype == torch.float32
    assert abs(found.log_z - 29.668) < 4 * found.log_z_error


def test_systematic_resampling_counts():
    generator = torch.Generator().manual_seed(0)
    log_w = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    log_w[0, :5] = -torch.inf
    expected = 50 * torch.softmax(log_w, 1)
    total = torch.zeros(3, 50, dtype=torch.float64)
    for _ in range(400):
        index = systematic_indices(log_w, generator=generator)
        counts = torch.stack([torch.bincount(row, minlength=50) for row in index]).double()
        assert bool(((counts >= expected.floor() - 1e-9) & (counts <= expected.ceil() + 1e-9)).all())
        total += counts / 400
    assert float((total - expected).abs().max()) < 4 * 0.5 / 400**0.5
    assert effective_size(torch.zeros(40)) == pytest.approx(40.0)


def test_errors():
    moves, generator = HamiltonianMoves(0.3), torch.Generator().manual_seed(0)
    reference, target = GaussianReference(4, 3), ReducedEnergy(Springs())
    with pytest.raises(InputError, match="at least 2 items if centred"):
        GaussianReference(1, 3)
    with pytest.raises(InputError, match="100 walkers in 8 groups"):
        anneal(reference, target, 100, moves=moves, generator=generator)
    with pytest.raises(InputError, match="conditional_ess"):
        anneal(reference, target, 80, moves=moves, generator=generator, conditional_ess=1.0)
    with pytest.raises(
        InputError, match=r"has \(items, axes, mean-free\) \(3, 3, True\), the energy 'springs' needs \(4, 3, True\)"
    ):
        anneal(GaussianReference(3, 3), target, 80, moves=moves, generator=generator)
    wrong = CallablePath(reference, lambda level, x: (1 + level) * reference.energy(x))
    with pytest.raises(InputError, match="at lambda = 1: its energies differ from those of the energy 'springs'"):
        anneal(reference, target, 80, moves=moves, path=wrong, generator=generator)
    with pytest.raises(DivergenceError, match="all weights of a group vanished"):
        anneal(GaussianReference(1, 1, centred=False), ReducedEnergy(Empty([[1.0]])), 80, moves=moves, generator=generator)
    with pytest.raises(DivergenceError, match="after 2 levels"):
        anneal(GaussianReference(4, 3, 30.0), target, 80, moves=moves, generator=generator, max_levels=2)
