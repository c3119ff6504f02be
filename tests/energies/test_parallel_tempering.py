import io

import numpy as np
import pytest
import torch
from engine_targets import DoubleWell, Harmonic, Springs, z_score

from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.ladder_state import LadderState
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.errors import CheckpointError, InputError, ShapeError


def test_geometric_betas():
    assert geometric_betas(8.0, 4) == pytest.approx((1.0, 0.5, 0.25, 0.125))
    with pytest.raises(InputError, match="ladder"):
        geometric_betas(0.5, 3)


def test_swaps_carry_walkers_over_a_barrier_to_the_right_populations():
    energy = DoubleWell()
    generator = torch.Generator().manual_seed(0)
    betas = geometric_betas(8.0, 4)
    ladder = ParallelTempering(ReducedEnergy(energy), betas, 200, HamiltonianMoves(1.0), moves_per_sweep=1)
    # all walkers in the shallow well: on the lowest rung alone the barrier of 6 kT would keep them there
    state = ladder.start(torch.ones(1, 1, 1, dtype=torch.float64), generator=generator)
    begin = ladder.burn_in(state, sweeps=100, generator=generator)
    right = torch.zeros(4, 200, dtype=torch.float64)
    for state in ladder.run(begin, sweeps=400, generator=generator):
        right += (state.x[..., 0, 0] > 0).double() / 400
    for rung, beta in enumerate(betas):
        assert abs(z_score(right[rung], energy.right(beta))) < 4
    assert float(state.move_acceptance.sub(0.574).abs().max()) < 0.08
    assert bool((state.swap_acceptance > 0.2).all())
    assert state.round_trips > 100
    assert sorted(state.replicas.flatten().tolist()) == list(range(800))


def test_swaps_alone_keep_the_product_of_the_rungs():
    """Independent exact samples of each rung stay exact samples under swaps, column by column."""
    betas = (2.0, 1.0, 0.5)
    generator = torch.Generator().manual_seed(3)
    ladder = ParallelTempering(ReducedEnergy(Harmonic([[1.0]])), betas, 4000, HamiltonianMoves(1.0))
    width = torch.tensor(betas, dtype=torch.float64).repeat_interleave(4000).rsqrt()[:, None, None]
    x = width * torch.randn(12_000, 1, 1, generator=generator, dtype=torch.float64)
    state = ladder.start(x, generator=generator)
    beta = torch.tensor(betas, dtype=torch.float64)
    state = ladder._swap(state, beta, generator)
    assert state.attempts.tolist() == [4000, 0]
    for rung in range(3):
        assert abs(z_score(state.x[rung].flatten().square(), 1.0 / betas[rung])) < 4
    # moved walkers keep their energies and forces, within their columns
    torch.testing.assert_close(state.u.flatten(), 0.5 * state.walkers.x.flatten().square())
    torch.testing.assert_close(state.walkers.force, -state.walkers.x)
    assert bool((state.replicas % 4000 == torch.arange(4000)).all())
    # mean of min(1, exp((b1 - b2)(u1 - u2))) for two independent exponential-like energies, by direct sampling
    first, second = (0.5 * torch.randn(200_000, generator=generator).double().square() / b for b in betas[:2])
    expected = (first - second).clamp(max=0.0).exp().mean()
    assert abs(float(state.swap_acceptance[0] - expected)) < 4 * 0.4 / 4000**0.5


def test_mean_free_ladder_virial_and_counted_calls():
    energy = Springs()
    reduced = ReducedEnergy(energy)
    generator = torch.Generator().manual_seed(4)
    ladder = ParallelTempering(reduced, geometric_betas(4.0, 3), 100, HamiltonianMoves(0.3, leapfrog=2), moves_per_sweep=2)
    x = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    state = ladder.burn_in(ladder.start(x, generator=generator), sweeps=30, generator=generator)
    before = reduced.calls
    frames = list(ladder.run(state, sweeps=60, every=10, generator=generator))
    assert reduced.calls - before == 60 * 300 * 2 * 2
    assert [frame.sweep for frame in frames] == [10, 20, 30, 40, 50, 60]
    virial = torch.stack([-(frame.x * frame.force).flatten(2).sum(2) for frame in frames]).mean(0)
    for rung, beta in enumerate(ladder.betas):
        assert abs(z_score(beta * virial[rung], energy.degrees)) < 4


def test_a_resumed_run_gives_the_same_frames():
    generator = torch.Generator().manual_seed(5)
    ladder = ParallelTempering(
        ReducedEnergy(DoubleWell()), geometric_betas(4.0, 3), 6, HamiltonianMoves(0.3), moves_per_sweep=2
    )
    start = ladder.start(torch.ones(2, 1, 1, dtype=torch.float64), generator=generator)
    start = ladder.burn_in(start, sweeps=10, generator=generator)
    whole = list(ladder.run(start, sweeps=12, every=3, generator=start.generator()))
    *_, middle = ladder.run(start, sweeps=5, every=1, generator=start.generator())
    file = io.BytesIO()
    np.savez(file, **middle.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        back = LadderState.from_arrays(dict(arrays))
    rest = list(ladder.run(back, sweeps=7, every=3, generator=back.generator()))
    assert [state.sweep for state in rest] == [6, 9, 12]
    for one, two in zip(whole[1:], rest, strict=True):
        ours, theirs = one.to_arrays(), two.to_arrays()
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_errors():
    reduced, moves = ReducedEnergy(DoubleWell()), HamiltonianMoves(0.1)
    with pytest.raises(InputError, match="descending"):
        ParallelTempering(reduced, (0.5, 1.0), 3, moves)
    with pytest.raises(InputError, match="at least 1"):
        ParallelTempering(reduced, (1.0, 0.5), 0, moves)
    ladder = ParallelTempering(reduced, (1.0, 0.5), 3, moves)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ShapeError, match="positions for the energy 'double well'"):
        ladder.start(torch.zeros(3, 2, 1), generator=generator)
    with pytest.raises(InputError, match="not finite"):
        ladder.start(torch.full((1, 1, 1), torch.inf), generator=generator)
    state = ladder.start(torch.ones(1, 1, 1, dtype=torch.float64), generator=generator)
    with pytest.raises(InputError, match="every"):
        next(ladder.run(state, sweeps=1, every=0, generator=generator))
    arrays = state.to_arrays()
    arrays["energy"] = arrays.pop("u")
    with pytest.raises(CheckpointError, match=r"missing arrays \['u'\], unknown arrays \['energy'\]"):
        LadderState.from_arrays(arrays)
