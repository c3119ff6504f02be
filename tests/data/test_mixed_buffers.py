"""Batches from several systems: equal shares, padding, forces and conditions that stay with their samples."""

import pytest
import torch

from equilibra.data.mixed_buffers import MixedBuffers
from equilibra.data.replay import ReplayBuffer
from equilibra.errors import ConfigError
from equilibra.state import Features


def buffer(items, value, betas=(1.0, 0.5)):
    features = Features(
        node={"element": torch.full((items,), int(value))},
        pair={"path": torch.zeros(items, items, dtype=torch.int64)},
        graph={"cell": value * torch.eye(3)},
        around={"position": torch.full((items + 2, 3), float(value))},
    )
    made = ReplayBuffer(features, betas)
    x = torch.full((len(betas), 5, items, 3), float(value))
    made.add(x, torch.full((len(betas), 5), float(value)), -x)
    return made


def test_samples_keep_what_is_theirs():
    data = MixedBuffers([buffer(1, 3), buffer(4, 7), buffer(2, 5)])
    batch = data.batch(31, generator=torch.Generator().manual_seed(0))
    x, mask = batch.state.fields["pos"], batch.state.mask("pos")
    assert x.shape == (31, 4, 3)
    kind = batch.features.graph["cell"][:, 0, 0]
    assert sorted(torch.bincount(kind.long()).tolist())[-3:] == [10, 10, 11]
    assert torch.equal(mask.sum(1), torch.where(kind == 3, 1, torch.where(kind == 7, 4, 2)))
    assert torch.equal(x, (kind[:, None, None] * mask[..., None]).expand(-1, -1, 3))
    beta = torch.exp(-batch.features.graph["conditions"][:, 0])
    assert set(beta.double().round(decimals=4).tolist()) == {1.0, 0.5}
    assert torch.allclose(batch.forces["pos"], -beta[:, None, None] * x)
    assert torch.allclose(batch.energies, beta * kind)
    there = batch.features.around["there"]
    assert torch.equal(there.sum(1), mask.sum(1) + 2)
    assert torch.equal(batch.classes, (kind[:, None] * mask).long())


def test_few_systems_at_once():
    data = MixedBuffers([buffer(1, 3), buffer(4, 7), buffer(2, 5)], at_once=1)
    seen = set()
    g = torch.Generator().manual_seed(1)
    for _ in range(20):
        batch = data.batch(4, generator=g)
        seen.add(float(batch.state.fields["pos"].max()))
        assert len(batch.state.masks) == 0
    assert seen == {3.0, 5.0, 7.0}


def test_what_does_not_go_together():
    with pytest.raises(ConfigError, match="all of the same fields and one ladder"):
        MixedBuffers([buffer(1, 3), buffer(1, 3, betas=(1.0,))])
    with pytest.raises(ConfigError, match="got 0 buffers"):
        MixedBuffers([])
    with pytest.raises(ConfigError, match="expected at least 1 system"):
        MixedBuffers([buffer(1, 3)], at_once=0)
