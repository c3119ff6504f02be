"""Proposals of a model to walkers: whatever the model is, the Boltzmann distribution stays what it is."""

import math

import pytest
import torch

from equilibra.diffusion.schedule import VarianceExploding
from equilibra.energies.analytic.gaussian_mixture import GaussianMixtureEnergy
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.parallel_tempering import ParallelTempering
from equilibra.energies.walkers import evaluate
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.testing import GaussianMixture
from equilibra.train.collect import PathCheck, Proposer, run_sweeps

MEANS = torch.tensor([[[-4.0, 0.0]], [[4.0, 1.0]]], dtype=torch.float64)
STDS = torch.tensor([0.5, 0.7], dtype=torch.float64)
RIGHT = torch.tensor([0.8, 0.2], dtype=torch.float64)
LOG_Z = 3.0
SCHEDULE = VarianceExploding(sigma_min=0.02, sigma_max=40.0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def mixture(weights=RIGHT, means=MEANS, stds=STDS):
    """A denoiser."""
    return GaussianMixture(weights, means, stds, schedule=SCHEDULE, name="pos")


@pytest.fixture
def reduced():
    return ReducedEnergy(GaussianMixtureEnergy(RIGHT, MEANS, STDS, log_z=LOG_Z))


def proposer(denoiser, reduced, levels, **options):
    grid = noise_grid(denoiser.process, GridConfig(steps=levels, spacing="log", end="noisy"))
    return Proposer(denoiser, grid, reduced, **options)


def ladder(reduced, walkers, x):
    """Walkers of one rung; their moves are tiny, so that they never cross the barrier."""
    engine = ParallelTempering(reduced, (1.0,), walkers, HamiltonianMoves(step=0.05), moves_per_sweep=1)
    return engine, engine.start(x, generator=seeded(1))


def on_the_right(x):
    return float((x[:, 0, 0] > 0).double().mean())


def z_score(share, n, truth=float(RIGHT[1])):
    return (share - truth) / math.sqrt(truth * (1.0 - truth) / n)


def test_an_exact_model_is_nearly_always_accepted(reduced):
    x = reduced.energy.sample(1000, generator=seeded(0))
    _, state = ladder(reduced, 1000, x)
    found = {}
    for levels in (10, 200):
        own = proposer(mixture(), reduced, levels)
        check = own.judge(state.walkers, x, samples=1000, generator=seeded(2))
        found[levels] = check.ess, own.propose(state, check, generator=seeded(3))[1], check.eubo - check.elbo
        assert check.elbo - 0.05 < LOG_Z < check.eubo + 0.05
        log_z = float(torch.logsumexp(check.log_w_model, 0)) - math.log(1000)
        assert abs(log_z - LOG_Z) < 4.0 * math.sqrt((1.0 / check.ess - 1.0) / 1000)
    (ess, accepted, gap), (better, nearly_all, narrow) = found[10], found[200]
    assert better > 0.95 > ess
    assert nearly_all > 0.85 > accepted
    assert 0.0 < narrow < 0.05 < gap


def test_a_bad_model_leaves_the_distribution_as_it_is(reduced):
    """Wrong weights, centres and widths: the proof that a model may be as wrong as it likes."""
    n, rounds = 2000, 25
    bad = mixture(torch.tensor([0.2, 0.8]), MEANS + 0.3, 1.4 * STDS)
    x = reduced.energy.sample(n, generator=seeded(10))
    _, state = ladder(reduced, n, x)
    own = proposer(bad, reduced, 16)
    frames, total = reduced.energy.sample(200, generator=seeded(11)), 0.0
    for number in range(rounds):
        check = own.judge(state.walkers, frames, samples=n, generator=seeded(100 + number))
        assert check.ess < 0.5
        state, accepted = own.propose(state, check, generator=seeded(200 + number))
        total += accepted
    # most walkers have been replaced, and more than once
    assert total > 3.0
    assert float((state.walkers.x == x).flatten(1).all(1).double().mean()) < 0.3
    assert abs(z_score(on_the_right(state.walkers.x), n)) < 4.0
    u = reduced.energy.energy(reduced.energy.sample(100_000, generator=seeded(12)))
    assert abs(float(state.walkers.u.mean() - u.mean())) < 4.0 * float(u.std()) / math.sqrt(n)
    # shape of each mode along both axes
    for side, mean, std in zip((-1, 1), MEANS[:, 0], STDS, strict=True):
        mode = state.walkers.x[state.walkers.x[:, 0, 0] * side > 0][:, 0]
        assert (abs(mode.mean(0) - mean) < 4.0 * std / math.sqrt(len(mode))).all()
        assert (abs(mode.std(0) - std) < 4.0 * std / math.sqrt(2 * len(mode))).all()


def test_proposals_mend_wrong_populations(reduced):
    """Walkers and model from a 50/50 set, as training data would be; the right weights come from the energy alone."""
    n = 2000
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    x = GaussianMixtureEnergy(half, MEANS, STDS).sample(n, generator=seeded(20))
    engine, state = ladder(reduced, n, x)
    _, stuck = run_sweeps(engine, state, sweeps=30, every=10, generator=seeded(21))
    assert on_the_right(stuck.walkers.x) == on_the_right(x)
    assert abs(z_score(on_the_right(x), n)) > 20.0
    own = proposer(mixture(half), reduced, 40)
    for number in range(10):
        check = own.judge(state.walkers, x[:200], samples=n, generator=seeded(300 + number))
        state, accepted = own.propose(state, check, generator=seeded(400 + number))
        assert accepted > 0.2
    assert abs(z_score(on_the_right(state.walkers.x), n)) < 4.0


def test_the_ladder_stays_consistent_and_calls_are_counted(reduced):
    betas = (1.0, 0.5)
    engine = ParallelTempering(reduced, betas, 40, HamiltonianMoves(step=0.3), moves_per_sweep=1)
    state = engine.start(reduced.energy.sample(80, generator=seeded(4)), generator=seeded(5))
    before = reduced.calls
    own = proposer(mixture(), reduced, 20)
    check = own.judge(state.walkers[:40], state.walkers.x[40:], samples=60, generator=seeded(6))
    moved, accepted = own.propose(state, check, generator=seeded(7))
    # a call for each sample of the model; the walkers' energies are known, and so are those of what is accepted
    assert reduced.calls - before == 60
    assert len(check.log_w_model) == len(check.log_w_walkers) == len(check.proposals) == 60
    changed = (moved.walkers.x != state.walkers.x).flatten(1).any(1)
    assert float(changed[:40].double().mean()) == pytest.approx(accepted)
    assert accepted > 0.0
    assert not changed[40:].any()
    assert moved.walkers.x.dtype == torch.float64
    again = evaluate(moved.walkers.x, reduced)
    for name in ("x", "u", "force"):
        torch.testing.assert_close(getattr(again, name), getattr(moved.walkers, name))


def test_what_does_not_belong_to_the_system_is_never_proposed_nor_replaced(reduced):
    x = reduced.energy.sample(500, generator=seeded(30))
    _, state = ladder(reduced, 500, x)
    own = proposer(mixture(torch.tensor([0.3, 0.7])), reduced, 40, accept=lambda x: x[:, 0, 0] < 0)
    check = own.judge(state.walkers, x, samples=500, generator=seeded(31))
    foreign = check.proposals.x[:, 0, 0] > 0
    assert torch.equal(torch.isneginf(check.log_w_model), foreign)
    assert torch.equal(torch.isposinf(check.log_w_walkers), x[:, 0, 0] > 0)
    moved, accepted = own.propose(state, check, generator=seeded(32))
    assert accepted > 0.05
    assert torch.equal(moved.walkers.x[:, 0, 0] > 0, x[:, 0, 0] > 0)
    # the restricted partition function
    truth = LOG_Z + math.log(float(RIGHT[0]))
    assert check.elbo - 0.1 < truth < check.eubo + 0.1
    log_z = float(torch.logsumexp(check.log_w_model, 0)) - math.log(500)
    assert abs(log_z - truth) < 4.0 * math.sqrt((1.0 / check.ess - 1.0) / 500)


def test_a_model_without_any_weight_is_no_accident():
    none = torch.full((3,), -math.inf)
    check = PathCheck(none, torch.full((3,), math.inf), None)
    assert (check.ess, check.elbo, check.eubo) == (0.0, -math.inf, math.inf)


def test_every_kept_sweep_gives_all_rungs(reduced):
    engine = ParallelTempering(reduced, (1.0, 0.5), 5, HamiltonianMoves(step=0.1), moves_per_sweep=2)
    state = engine.start(reduced.energy.sample(10, generator=seeded(4)), generator=seeded(5))
    frames, last = run_sweeps(engine, state, sweeps=7, every=3, generator=seeded(6))
    assert frames.x.shape == (2, 2 * 5, 1, 2)
    assert frames.u.shape == (2, 10)
    assert last.sweep == 6
    assert torch.equal(frames.x[:, 5:], last.x)
    torch.testing.assert_close(frames.u, reduced.energy.energy(frames.x.flatten(0, 1)).reshape(2, 10))
