import pytest
import torch
from frames_of_proteins import seeded

from equilibra.geometry import so3
from equilibra.nn.invariant_points import FrameGeometry, InvariantPointAttention
from equilibra.testing.invariance import randomise_parameters_

BATCH, TOKENS, DIM, HEADS, POINTS, PAIRS = 2, 5, 12, 3, 2, 4


@pytest.fixture
def attention():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = InvariantPointAttention(DIM, HEADS, POINTS, PAIRS).double()
    randomise_parameters_(made, generator=seeded(1), scale=0.3)
    return made


def inputs(seed=0):
    g = seeded(seed)
    h = torch.randn(BATCH, TOKENS, DIM, generator=g, dtype=torch.float64)
    bias = torch.randn(BATCH, HEADS, TOKENS, TOKENS, generator=g, dtype=torch.float64)
    bias[..., -1] = float("-inf")
    trans = torch.randn(BATCH, TOKENS, 3, generator=g, dtype=torch.float64)
    pairs = torch.randn(BATCH, TOKENS, TOKENS, PAIRS, generator=g, dtype=torch.float64)
    return h, bias, FrameGeometry(trans, so3.uniform((BATCH, TOKENS), generator=g, dtype=torch.float64), pairs)


def as_defined(attention, h, bias, geometry):
    """Algorithm 22 of Jumper et al., one pair and one point at a time."""
    trans, rot, pairs = geometry
    q, k, v = attention.qkv(h).reshape(BATCH, TOKENS, 3, HEADS, -1).unbind(2)
    local = attention.local_points(h).reshape(BATCH, TOKENS, HEADS, 4 * POINTS, 3)
    placed = torch.einsum("biac,bihpc->bihpa", rot, local) + trans[:, :, None, None]
    gamma = torch.nn.functional.softplus(attention.strength)
    factor = gamma * (2.0 / (9.0 * POINTS)) ** 0.5 / 2.0
    difference = placed[:, :, None, :, :POINTS] - placed[:, None, :, :, POINTS : 2 * POINTS]
    distances = difference.square().sum((-1, -2))  # (batch, i, j, heads)
    scalar = torch.einsum("bihc,bjhc->bijh", q, k) / (DIM // HEADS) ** 0.5
    a = torch.softmax(scalar - factor * distances + bias.permute(0, 2, 3, 1), dim=2)
    values = torch.einsum("bijh,bjhc->bihc", a, v).flatten(2)
    gathered = torch.einsum("bijh,bjhpc->bihpc", a, placed[..., 2 * POINTS :, :]) - trans[:, :, None, None]
    points = torch.einsum("biac,bihpa->bihpc", rot, gathered)
    pooled = torch.einsum("bijh,bijc->bihc", a, pairs).flatten(2)
    return attention.out(torch.cat([values, points.flatten(2), points.norm(dim=-1).flatten(2), pooled], dim=-1))


def test_it_is_the_attention_of_the_definition(attention):
    h, bias, geometry = inputs()
    torch.testing.assert_close(attention(h, bias, geometry), as_defined(attention, h, bias, geometry), rtol=0.0, atol=1e-9)


def test_it_is_invariant_under_rigid_motions_and_not_under_reflections(attention):
    h, bias, (trans, rot, pairs) = inputs(1)
    plain = attention(h, bias, FrameGeometry(trans, rot, pairs))
    q = so3.uniform((), generator=seeded(2), dtype=torch.float64)
    moved = attention(h, bias, FrameGeometry(trans @ q.T + 3.0, q @ rot, pairs))
    torch.testing.assert_close(moved, plain, rtol=0.0, atol=1e-10)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    mirrored = attention(h, bias, FrameGeometry(trans @ mirror, mirror @ rot @ mirror, pairs))
    assert (mirrored - plain).abs().max() > 1e-2


def test_padded_keys_have_no_weight(attention):
    h, bias, (trans, rot, pairs) = inputs(3)
    other = h.clone(), trans.clone()
    other[0][:, -1], other[1][:, -1] = 7.0, 90.0
    changed = attention(other[0], bias, FrameGeometry(other[1], rot, pairs))
    torch.testing.assert_close(changed[:, :-1], attention(h, bias, FrameGeometry(trans, rot, pairs))[:, :-1])


def test_single_precision_keeps_squared_distances(attention):
    """Positions of order one, as the network sees them: the expanded squares lose nothing that matters."""
    h, bias, geometry = inputs(4)
    exact = attention(h, bias, geometry)
    single = attention.float()(h.float(), bias.float(), FrameGeometry(*(x.float() for x in geometry)))
    torch.testing.assert_close(single.double(), exact, rtol=0.0, atol=2e-5)


def test_heads_start_with_ranges_of_their_own():
    gamma = torch.nn.functional.softplus(InvariantPointAttention(16, 5, 2, 2).strength)
    torch.testing.assert_close(gamma, torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
