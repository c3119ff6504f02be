import pytest
import torch

from equilibra.data.conformations import ConformationData, Conformations
from equilibra.errors import InputError, ShapeError
from equilibra.state import Features, System


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def system(tokens):
    node = {"element": torch.arange(1, tokens + 1), "charge": torch.full((tokens,), 8)}
    features = Features(node=node, pair={"bond": torch.ones(tokens, tokens, dtype=torch.int64)})
    return System(name=f"chain of {tokens}", features=features, digest=str(tokens))


def conformations(tokens, frames, *, forces=False, seed=0):
    x = torch.randn(frames, tokens, 3, generator=seeded(seed + tokens))
    x = x - x.mean(1, keepdim=True)
    return Conformations(system(tokens), x, -2.0 * x if forces else None)


def test_one_system_has_shared_features_and_no_padding():
    entry = conformations(5, 30, forces=True)
    batch = ConformationData([entry]).batch(12, generator=seeded(0))
    assert batch.state.fields["pos"].shape == (12, 5, 3)
    assert batch.state.mask("pos") is None
    assert batch.features.mask.shape == (1, 5)
    assert batch.classes.tolist() == [[1, 2, 3, 4, 5]]
    # every row is a frame, with the force of that frame
    same = (batch.state.fields["pos"][:, None] == entry.positions[None]).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    assert torch.equal(batch.forces["pos"], -2.0 * batch.state.fields["pos"])


def test_systems_are_grouped_by_padded_size():
    data = ConformationData([conformations(n, 4) for n in (3, 7, 8, 9, 20)], bucket=8)
    assert data.buckets == {8: [0, 1, 2], 16: [3], 24: [4]}
    assert data.frames == 20


def test_several_systems_are_padded_to_their_bucket():
    entries = [conformations(n, 50, forces=True) for n in (3, 7, 6)]
    batch = ConformationData(entries, bucket=8).batch(40, generator=seeded(1))
    x, mask = batch.state.fields["pos"], batch.state.mask("pos")
    assert x.shape == (40, 8, 3)
    assert torch.equal(mask, batch.features.mask)
    assert {int(n) for n in mask.sum(1)} == {3, 7, 6}
    assert x[~mask].abs().max() == 0.0
    assert torch.equal(batch.forces["pos"], -2.0 * x)
    assert torch.equal(batch.classes, torch.where(mask, torch.arange(1, 9), 0))
    assert batch.features.pair["bond"].shape == (40, 8, 8)
    for row, keep in zip(x, mask, strict=True):
        source = next(e for e in entries if e.positions.shape[1] == int(keep.sum()))
        assert (source.positions == row[keep]).all(-1).all(-1).any()


def test_a_bucket_of_one_system_is_not_padded():
    batch = ConformationData([conformations(5, 3), conformations(30, 1)], bucket=8).batch(4, generator=seeded(0))
    assert batch.state.fields["pos"].shape[1] in (5, 30)
    assert batch.state.mask("pos") is None


def test_frames_are_drawn_in_proportion():
    data = ConformationData([conformations(3, 300), conformations(4, 100), conformations(20, 400)], bucket=8)
    g, draws = seeded(3), 600
    small = sum(data.batch(1, generator=g).state.fields["pos"].shape[1] == 8 for _ in range(draws))
    assert abs(small / draws - 0.5) < 4 * (0.25 / draws) ** 0.5
    batch = ConformationData([conformations(3, 300), conformations(4, 100)], bucket=8).batch(4000, generator=g)
    share = float((batch.state.mask("pos").sum(1) == 3).double().mean())
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5


def test_batches_depend_on_the_generator_alone():
    data = ConformationData([conformations(3, 20), conformations(4, 20), conformations(20, 20)], bucket=8)
    for seed in range(4):
        first, second = (data.batch(6, generator=seeded(seed)) for _ in range(2))
        assert torch.equal(first.state.fields["pos"], second.state.fields["pos"])
        assert torch.equal(first.features.node["element"], second.features.node["element"])
    others = [data.batch(6, generator=seeded(s)).state.fields["pos"] for s in range(4)]
    assert len({(*x.shape, float(x.sum())) for x in others}) == 4


def test_scale_counts_the_degrees_that_move():
    x = 0.7 * torch.randn(4000, 6, 3, generator=seeded(5))
    data = ConformationData([Conformations(system(6), x - x.mean(1, keepdim=True))])
    assert data.scale() == pytest.approx(0.7, rel=0.01)


def test_batches_are_copies():
    entry = conformations(4, 5)
    before = entry.positions.clone()
    batch = ConformationData([entry]).batch(5, generator=seeded(0))
    batch.state.fields["pos"].zero_()
    assert torch.equal(entry.positions, before)


def test_impossible_data_are_refused():
    x = torch.zeros(5, 4, 3)
    with pytest.raises(ShapeError, match=r"positions of chain of 4.*\(5, 3, 3\)"):
        Conformations(system(4), x[:, :3])
    with pytest.raises(ShapeError, match="forces of chain of 4"):
        Conformations(system(4), x, x[:2])
    with pytest.raises(InputError, match="no frame"):
        Conformations(system(4), x[:0])
    for bad in (float("nan"), float("inf")):
        broken = x.clone()
        broken[3, 1, 2] = bad
        with pytest.raises(InputError, match="positions of chain of 4: frame 3"):
            Conformations(system(4), broken)
        with pytest.raises(InputError, match="forces of chain of 4: frame 3"):
            Conformations(system(4), x, broken)
    with pytest.raises(InputError, match="no system"):
        ConformationData([])
    joint = {"trans": torch.zeros(2, 4, 3), "rot": torch.eye(3).expand(2, 4, 3, 3)}
    one = Conformations(system(4), joint, {"trans": torch.zeros(2, 4, 3)})
    both = Conformations(system(4), joint, {name: torch.zeros(2, 4, 3) for name in joint})
    with pytest.raises(InputError, match="forces of different fields"):
        ConformationData([one, both])


@pytest.mark.parametrize("tokens", [3, 5], ids=["padded", "one system"])
def test_samples_with_and_without_forces_are_told_apart(tokens):
    data = ConformationData(
        [conformations(5, 30), conformations(tokens, 40, forces=True, seed=7)], bucket=8, weights=[3.0, 1.0]
    )
    assert data.has_forces
    batch = data.batch(4000, generator=seeded(2))
    x, known = batch.state.fields["pos"], batch.known
    assert x.shape[1] == (8 if tokens == 3 else 5)
    share = float(known.double().mean())
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert torch.equal(batch.forces["pos"], torch.where(known[:, None, None], -2.0 * x, torch.zeros_like(x)))
    # the rows of one entry are spread over the batch, and each is one of its frames
    halves = known[:2000].double().mean(), known[2000:].double().mean()
    assert abs(halves[0] - halves[1]) < 4 * (2 * 0.25 * 0.75 / 2000) ** 0.5
    for entry, rows in zip(data.entries, (~known, known), strict=True):
        own = entry.positions[:, None] == x[rows][:50][None, :, : entry.positions.shape[1]]
        assert (own.flatten(2).all(2).sum(0) == 1).all()
    part = batch.rows(torch.argsort(known, descending=True, stable=True)[:10])
    assert part.known.all()
    assert torch.equal(batch.to("cpu").known, known)


def test_forces_of_all_samples_need_no_telling():
    entries = [conformations(5, 9, forces=True), conformations(5, 9, forces=True, seed=1)]
    batch = ConformationData(entries, bucket=8).batch(40, generator=seeded(0))
    assert batch.known is None
    assert batch.state.mask("pos") is None
    assert torch.equal(batch.forces["pos"], -2.0 * batch.state.fields["pos"])
    bare = ConformationData([conformations(5, 9), conformations(7, 9)], bucket=8).batch(40, generator=seeded(0))
    assert bare.known is None
    assert not bare.forces
