"""The released network: the release's own outputs, the symmetries, and what is shared between samples."""

import dataclasses

import pytest
import torch
from released import TINY, random_features, released_case, released_tensors, seeded, tiny_network

from equilibra.geometry import so3
from equilibra.systems.protein.dig_release import network as module
from equilibra.systems.protein.dig_release.checkpoint import infer_config, released_model
from equilibra.systems.protein.dig_release.network import (
    DigReleaseConfig,
    DigReleaseNetwork,
    separation_buckets,
    step_embedding,
)


@pytest.fixture(scope="module")
def released():
    return released_model(released_tensors()).denoiser.network


def inputs(batch=3, length=7, seed=0):
    g = seeded(seed)
    trans = 5.0 * torch.randn(batch, length, 3, generator=g, dtype=torch.float64)
    rot = so3.uniform((batch, length), generator=g, dtype=torch.float64)
    return trans, rot, torch.tensor([3.0, 250.5, 498.0], dtype=torch.float64)[:batch]


def context_of(network, length=7, rows=1):
    features = [random_features(length, seed) for seed in range(rows)]
    single = torch.cat([f.node["extra"] for f in features]).double()
    pair = torch.cat([f.pair["extra"] for f in features]).double()
    return network.context(single, pair)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["plain", "masked", "long"])
def test_outputs_are_those_of_the_release(released, case, dtype):
    """Within 1e-5; the release accumulates value points in float32."""
    given = released_case(case)
    network = released.to(dtype)
    keep = ~given["mask"]
    with torch.no_grad():
        context = network.context(given["single"].to(dtype), given["pair"].to(dtype))
        trans, rot = network(
            context, given["T"].to(dtype), given["IR"].to(dtype).transpose(-1, -2), given["step"].to(dtype), keep
        )
    assert float((trans - given["out_T_eps"])[keep].abs().max()) < 1e-5
    assert float((rot - given["out_IR_eps"])[keep].abs().max()) < 1e-5


def test_sizes_of_the_published_weights(released):
    with torch.device("meta"):
        network = DigReleaseNetwork(DigReleaseConfig())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(81.9e6, rel=1e-3)
    assert infer_config(released_tensors()) == dataclasses.replace(DigReleaseConfig(), dim=64, pair_dim=32, layers=3, heads=4)


def test_buckets_of_the_sequence_separation():
    row = separation_buckets(300, 64)[:, 0]  # n = i
    assert row[:17].tolist() == list(range(17))
    # 16 + floor(16 ln(m/16) / ln 8): the doubled separation is a third of the way
    assert [int(row[m]) for m in (17, 18, 19, 32, 64, 127, 128, 299)] == [16, 16, 17, 21, 26, 31, 31, 31]
    column = separation_buckets(300, 64)[0]
    assert column[1:].tolist() == (row[1:] + 32).tolist()


def test_embedding_of_the_step():
    e = step_embedding(torch.tensor([0.0, 2.0], dtype=torch.float64), 8)
    f = torch.tensor([1.0, 10.0 ** (-4 / 3), 10.0 ** (-8 / 3), 1e-4], dtype=torch.float64)
    assert torch.allclose(e[1], torch.cat([torch.sin(2 * f), torch.cos(2 * f)]))
    assert e[0].tolist() == [0.0] * 4 + [1.0] * 4


def test_rotations_and_translations():
    network, (trans, rot, step) = tiny_network(), inputs()
    turn = so3.uniform((), generator=seeded(5), dtype=torch.float64)
    with torch.no_grad():
        context = context_of(network)
        a, b = network(context, trans, rot, step)
        c, d = network(context, trans @ turn.T + torch.tensor([1.0, -20.0, 3.0]), turn @ rot, step)
    assert torch.allclose(a @ turn.T, c, atol=1e-10)
    assert torch.allclose(b, d, atol=1e-10)
    assert float((a - a[:1]).abs().max()) > 0.01
    # a mirror image is something else
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    with torch.no_grad():
        _, e = network(context, trans @ mirror, mirror @ rot @ mirror, step)
    assert float((b - e).abs().max()) > 1e-3


def test_pairs_of_one_protein_serve_every_sample():
    network, (trans, rot, step) = tiny_network(), inputs()
    with torch.no_grad():
        shared = context_of(network)
        copies = dataclasses.replace(
            shared,
            tokens=shared.tokens.expand(3, -1, -1),
            pairs=shared.pairs.expand(3, -1, -1, -1),
            biases=shared.biases.expand(-1, 3, -1, -1, -1),
        )
        one_by_one = [network(shared, trans[k : k + 1], rot[k : k + 1], step[k : k + 1]) for k in range(3)]
        together, apart = network(shared, trans, rot, step), network(copies, trans, rot, step)
    for k in range(2):
        assert torch.allclose(together[k], apart[k], atol=1e-12)
        assert torch.allclose(together[k], torch.cat([x[k] for x in one_by_one]), atol=1e-12)


def test_tiles_change_nothing(monkeypatch):
    network, (trans, rot, step) = tiny_network(), inputs()
    with torch.no_grad():
        context = context_of(network)
        whole = network(context, trans, rot, step)
        monkeypatch.setattr(module, "TILE", 3 * TINY.heads * 7 * 2)
        tiled = network(context, trans, rot, step)
        monkeypatch.setattr(module, "TILE", 1)
        single = network(context, trans, rot, step)
    for other in (tiled, single):
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(whole, other, strict=True))


def test_padded_residues_say_nothing():
    network, (trans, rot, step) = tiny_network(), inputs()
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[:, 5:] = False
    with torch.no_grad():
        context = context_of(network)
        a = network(context, trans, rot, step, mask)
        other = trans.clone()
        other[:, 5:] += 30.0
        b = network(context, other, rot, step, mask)
    assert all(torch.allclose(x[:, :5], y[:, :5], atol=1e-12) for x, y in zip(a, b, strict=True))


def test_derivatives():
    """Arrays are changed in place on the way; derivatives are still those of the formula, forward and backward."""
    network, (trans, rot, step) = tiny_network(), inputs()
    context = context_of(network)
    network.requires_grad_(False)
    frozen = dataclasses.replace(
        context, tokens=context.tokens.detach(), pairs=context.pairs.detach(), biases=context.biases.detach()
    )
    direction = torch.randn(trans.shape, generator=seeded(7), dtype=torch.float64)

    def value(x):
        a, b = network(frozen, x, rot, step)
        return (a**2).sum() + b.sum()

    h = 1e-5
    with torch.no_grad():
        slope = (value(trans + h * direction) - value(trans - h * direction)) / (2 * h)
    x = trans.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)
    assert float(torch.func.jvp(value, (trans,), (direction,))[1]) == pytest.approx(float(slope), rel=1e-6)
    network.requires_grad_(True)
    a, b = network(context, trans, rot, step)
    (a.square().sum() + b.square().sum()).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())
