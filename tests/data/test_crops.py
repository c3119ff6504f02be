import math

import pytest
import torch

from equilibra.data.conformations import ConformationData, Conformations, shares
from equilibra.data.crops import evenly_spaced, window
from equilibra.diffusion.space import SO3, CentredEuclidean
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.geometry import so3
from equilibra.state import Features, System

SPACES = {"trans": CentredEuclidean(), "rot": SO3()}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def chain(length, offset=0):
    """A system whose pair feature tells how far apart its tokens are."""
    numbers = torch.arange(length) + offset
    features = Features(node={"residue": numbers % 20}, pair={"offset": numbers[None, :] - numbers[:, None] + 500})
    return System(name=f"chain of {length}", features=features, digest=f"{length}-{offset}")


def frames(length, count, *, observed=None, seed=0):
    """Frames along a line, so that the residue of a position is known: token k is at x = k."""
    trans = torch.zeros(count, length, 3)
    trans[..., 0] = torch.arange(length)
    rot = so3.uniform((count, length), generator=seeded(seed), dtype=torch.float32)
    return Conformations(chain(length), {"trans": trans, "rot": rot}, observed=observed)


def test_a_window_is_contiguous_and_every_start_is_as_likely():
    observed = torch.ones(10, dtype=torch.bool)
    g, draws = seeded(0), 4000
    starts = torch.zeros(10)
    for _ in range(draws):
        tokens = window(observed, 7, generator=g)
        assert torch.equal(tokens, torch.arange(7) + tokens[0])
        starts[tokens[0]] += 1
    assert (starts[:4] - draws / 4).abs().max() < 4 * math.sqrt(draws * 0.25 * 0.75)
    assert starts[4:].sum() == 0
    # nothing is drawn where nothing is cut
    before = g.get_state()
    assert torch.equal(window(observed, 10, generator=g), torch.arange(10))
    assert torch.equal(window(observed, None, generator=g), torch.arange(10))
    assert torch.equal(g.get_state(), before)


def test_a_window_leaves_out_what_was_not_observed():
    observed = torch.tensor([1, 1, 0, 0, 1, 1, 1, 0]).bool()
    assert window(observed, None, generator=seeded(0)).tolist() == [0, 1, 4, 5, 6]
    found = {tuple(window(observed, 3, generator=seeded(s)).tolist()) for s in range(30)}
    assert found == {(0, 1, 4), (1, 4, 5), (4, 5, 6)}


def test_evenly_spaced_windows_cover_everything():
    assert evenly_spaced(9, None) == evenly_spaced(9, 9) == [slice(0, 9)]
    windows = evenly_spaced(103, 20)
    assert {part.stop - part.start for part in windows} == {20}
    assert set().union(*(range(part.start, part.stop) for part in windows)) == set(range(103))


def test_crops_keep_relative_offsets_and_centre_the_window():
    data = ConformationData([frames(40, 5)], crop=12, spaces=SPACES)
    batch = data.batch(30, generator=seeded(1))
    x, rot = batch.state.fields["trans"], batch.state.fields["rot"]
    # the bucket is of sixteen tokens, of which twelve are real
    assert x.shape == (30, 16, 3)
    mask = batch.state.mask("trans")
    assert torch.equal(mask, torch.arange(16).expand(30, 16) < 12)
    assert x[:, :12].mean(1).abs().max() < 1e-5
    assert x[:, 12:].abs().max() == 0.0
    # the distance along the line is the difference of the residue numbers
    offset = batch.features.pair["offset"][:, :12, :12] - 500
    assert torch.equal((x[:, None, :12, 0] - x[:, :12, None, 0]).round().long(), offset)
    # types go with positions: token k has the type k % 20
    types = batch.features.node["residue"][:, :12]
    assert torch.equal((types - types[:, :1]) % 20, torch.arange(12).expand(30, 12))
    assert len(set(types[:, 0].tolist())) > 5
    torch.testing.assert_close(rot[:, 12:], torch.eye(3).expand(30, 4, 3, 3))
    torch.testing.assert_close(rot @ rot.mT, torch.eye(3).expand(30, 16, 3, 3), atol=1e-5, rtol=0.0)


def test_rotations_belong_to_their_residues():
    entry = frames(20, 1)
    batch = ConformationData([entry], crop=8, spaces=SPACES).batch(10, generator=seeded(3))
    for row, types in zip(batch.state.fields["rot"], batch.features.node["residue"], strict=True):
        start = int(types[0])
        torch.testing.assert_close(row[:8], entry.fields["rot"][0, start : start + 8], atol=1e-6, rtol=0.0)


def test_several_lengths_are_padded_with_identities():
    data = ConformationData([frames(5, 10), frames(9, 10), frames(12, 10)], spaces=SPACES)
    assert list(data.buckets) == [16]
    batch = data.batch(20, generator=seeded(0))
    mask = batch.state.mask("rot")
    assert torch.equal(mask, batch.features.mask)
    assert torch.equal(mask, batch.state.mask("trans"))
    assert {int(n) for n in mask.sum(1)} == {5, 9, 12}
    assert (batch.state.fields["rot"][~mask] == torch.eye(3)).all()
    assert (batch.state.fields["trans"].sum(1).abs() < 1e-4).all()


def test_unobserved_tokens_are_not_in_a_batch():
    observed = torch.ones(2, 6, dtype=torch.bool)
    observed[0, 2:4] = False
    entry = frames(6, 2, observed=observed)
    batch = ConformationData([entry], spaces=SPACES).batch(20, generator=seeded(0))
    counts = batch.state.mask("trans").sum(1)
    assert set(counts.tolist()) == {4, 6}
    short = batch.features.pair["offset"][counts == 4][0]
    assert (short[0, :4] - 500).tolist() == [0, 1, 4, 5]


def test_batches_are_bounded_in_pairs():
    data = ConformationData([frames(40, 4), frames(10, 4)], weights=[1.0, 1.0], budget=3200)
    sizes = {}
    for seed in range(20):
        state = data.batch(64, generator=seeded(seed)).state
        sizes[state.fields["trans"].shape[1]] = state.batch_size
    assert sizes == {40: 2, 10: 32}
    assert ConformationData([frames(40, 4)], budget=10).batch(64, generator=seeded(0)).state.batch_size == 1


def test_systems_are_drawn_by_their_weights():
    data = ConformationData([frames(4, 1000), frames(5, 1), frames(6, 1)], weights=[1.0, 2.0, 1.0], spaces=SPACES)
    counts = data.batch(4000, generator=seeded(0)).state.mask("trans").sum(1)
    for length, share in ((4, 0.25), (5, 0.5), (6, 0.25)):
        found = float((counts == length).double().mean())
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / 4000)


def test_shares_of_a_set():
    assert shares([100, 400], "systems") == [0.5, 0.5]
    assert shares([100, 300], "frames") == [0.25, 0.75]
    assert shares([100, 400], "sqrt") == pytest.approx([1 / 3, 2 / 3])
    with pytest.raises(ConfigError, match="balance: got 'none', expected one of systems, sqrt, frames"):
        shares([1], "none")


def test_scale_is_that_of_the_windows():
    entry = frames(40, 3)
    centred = torch.arange(40.0).double() - 19.5
    plain = ConformationData(
        [Conformations(entry.system, {**entry.fields, "trans": entry.fields["trans"] - torch.tensor([19.5, 0.0, 0.0])})]
    )
    assert plain.scale("trans") == pytest.approx(math.sqrt(float((centred**2).sum()) / (39 * 3)))
    part = torch.arange(12.0).double() - 5.5
    assert ConformationData([entry], crop=12).scale("trans") == pytest.approx(math.sqrt(float((part**2).sum()) / (11 * 3)))
    # a system counts as often as it is drawn
    short, long = frames(5, 1), frames(9, 100)
    both = ConformationData([short, long], weights=[3.0, 1.0], crop=100)
    assert both.scale("trans") < ConformationData([short, long], crop=100).scale("trans")


def test_crops_depend_on_the_generator_alone_and_data_stay_as_they_are():
    entry = frames(30, 3)
    before = entry.fields["rot"].clone()
    data = ConformationData([entry], crop=10, spaces=SPACES)
    first, second, third = (data.batch(6, generator=seeded(s)).state.fields["rot"] for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    first.zero_()
    assert torch.equal(entry.fields["rot"], before)


def test_impossible_fields_are_refused():
    entry = frames(5, 3)
    fields = dict(entry.fields)
    with pytest.raises(ShapeError, match=r"rotations of chain of 5: got shape \(3, 5, 3\), expected \(frames, 5, 3, 3\)"):
        Conformations(entry.system, {"trans": fields["trans"], "rot": fields["trans"]})
    with pytest.raises(ShapeError, match="2 frames"):
        Conformations(entry.system, {"trans": fields["trans"], "rot": fields["rot"][:2]})
    with pytest.raises(ShapeError, match="observed tokens"):
        Conformations(entry.system, fields, observed=torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(ShapeError, match="forces of chain of 5"):
        Conformations(entry.system, fields, {"pos": fields["trans"]})
    observed = torch.ones(3, 5, dtype=torch.bool)
    observed[1] = False
    with pytest.raises(InputError, match="nothing is observed in frame 1"):
        Conformations(entry.system, fields, observed=observed)
    with pytest.raises(InputError, match="different fields"):
        ConformationData([entry, Conformations(chain(4), {"trans": torch.zeros(2, 4, 3)})])
    for options in ({"crop": 1}, {"budget": 0}, {"weights": [1.0, 2.0]}, {"weights": [0.0]}, {"weights": [float("nan")]}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            ConformationData([entry], **options)
