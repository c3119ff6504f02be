"""The replay buffer: which rungs a batch comes from, and that everything it brings is reduced at the rung's own temperature."""

import math

import pytest
import torch

from equilibra.data.replay import ReplayBuffer, conditions
from equilibra.errors import ConfigError, ShapeError
from equilibra.state.features import Features

BETAS = (1.0, 0.5, 0.25)
FRAMES, ITEMS = 7, 3


def features():
    return Features(node={"element": torch.tensor([6, 1, 1])}, pair={"kind": torch.zeros(ITEMS, ITEMS, dtype=torch.long)})


def frames(rungs=len(BETAS), count=FRAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rungs, count, ITEMS, 2, generator=generator)
    # a frame can be told from its energy
    u = torch.arange(rungs * count, dtype=torch.float64).reshape(rungs, count) + 100.0 * seed
    return x - x.mean(2, keepdim=True), u, torch.randn(rungs, count, ITEMS, 2, generator=generator)


def buffer(betas=BETAS, **options):
    made = ReplayBuffer(features(), betas, **options)
    made.add(*frames(len(betas)))
    return made


def draw(made, size, seed=0):
    return made.batch(size, generator=torch.Generator().manual_seed(seed))


def test_rungs_come_by_their_shares_and_frames_evenly():
    n = 20_000
    batch = draw(buffer(focus=0.6), n)
    for rung, share in enumerate((0.6, 0.2, 0.2)):
        found = float((batch.ensembles == rung).double().mean())
        assert abs(found - share) < 4.0 * math.sqrt(share * (1.0 - share) / n)
    _, u, _ = frames()
    lowest = batch.energies[batch.ensembles == 0]
    for frame in range(FRAMES):
        found = float((lowest == u[0, frame]).double().mean())
        assert abs(found - 1 / FRAMES) < 4.0 * math.sqrt(1 / FRAMES * (1 - 1 / FRAMES) / len(lowest))


def test_only_the_newest_frames_are_drawn_where_asked():
    made = buffer((1.0,), newest=0.5)
    made.add(*frames(1, seed=1))
    energies = draw(made, 1000).energies
    assert set(energies.tolist()) == set(range(100, 100 + FRAMES))
    assert set(draw(buffer((1.0,), newest=1e-9), 20).energies.tolist()) == {FRAMES - 1.0}


def test_energies_and_forces_are_those_of_the_rung():
    x, u, force = frames()
    batch = draw(buffer(), 300)
    for row in range(300):
        rung = int(batch.ensembles[row])
        match = (x[rung] == batch.state.fields["pos"][row]).flatten(1).all(1).nonzero()
        frame = int(match[0])
        assert float(batch.energies[row]) == pytest.approx(BETAS[rung] * float(u[rung, frame]))
        torch.testing.assert_close(batch.forces["pos"][row], BETAS[rung] * force[rung, frame])
        # ln(T/T0)
        assert float(batch.features.graph["conditions"][row, 0]) == pytest.approx(math.log(1.0 / BETAS[rung]))
    assert batch.classes.tolist() == [[6, 1, 1]]
    assert batch.features.node["element"].shape == (1, ITEMS)


def test_one_rung_has_no_conditions():
    batch = draw(buffer((1.0,)), 10)
    assert "conditions" not in batch.features.graph
    assert set(batch.ensembles.tolist()) == {0}


def test_conditions_are_the_logarithm_of_the_temperature():
    assert conditions(torch.tensor([1.0, 0.5])).tolist() == [[0.0], [pytest.approx(math.log(2.0))]]


def test_frames_add_up_and_are_forgotten():
    made = buffer()
    made.add(*frames(seed=1))
    assert made.frames == 2 * FRAMES
    x, u, _ = made.rung(1)
    assert x.shape == (2 * FRAMES, ITEMS, 2)
    assert u.tolist() == [*range(7, 14), *range(107, 114)]
    made.clear()
    assert made.frames == 0


def test_the_scale_is_that_of_the_mean_free_space():
    made = ReplayBuffer(features(), (1.0,))
    x = 1.7 * torch.randn(1, 20_000, ITEMS, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    made.add(x - x.mean(2, keepdim=True), torch.zeros(1, 20_000), torch.zeros_like(x))
    assert made.scale() == pytest.approx(1.7, rel=4.0 / math.sqrt(2 * 4 * 20_000))


def test_same_generator_same_batch():
    one, other = draw(buffer(), 50, seed=5), draw(buffer(), 50, seed=5)
    assert torch.equal(one.state.fields["pos"], other.state.fields["pos"])
    assert not torch.equal(one.energies, draw(buffer(), 50, seed=6).energies)


def test_wrong_arguments_are_refused():
    for betas in ((), (0.5,)):
        with pytest.raises(ConfigError, match="expected a ladder that starts at 1"):
            ReplayBuffer(features(), betas)
    for focus in (0.0, 1.1):
        with pytest.raises(ConfigError, match=f"focus: got {focus}"):
            ReplayBuffer(features(), BETAS, focus=focus)
    for newest in (0.0, 1.1):
        with pytest.raises(ConfigError, match=f"newest: got {newest}"):
            ReplayBuffer(features(), BETAS, newest=newest)
    made = ReplayBuffer(features(), BETAS)
    for ask in (lambda: draw(made, 3), lambda: made.rung(0), made.scale):
        with pytest.raises(ConfigError, match="replay buffer: it is empty"):
            ask()
    x, u, force = frames()
    for wrong in ((x[:2], u[:2], force[:2]), (x, u[:, :3], force), (x, u, force[..., :1])):
        with pytest.raises(ShapeError, match=r"expected \(3, frames, items, axes\)"):
            made.add(*wrong)
