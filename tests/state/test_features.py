import pytest
import torch

from equilibra.errors import ShapeError
from equilibra.state import Features, System


def features(tokens):
    return Features(
        node={"element": torch.arange(1, tokens + 1), "vector": torch.ones(tokens, 3)},
        pair={"bond": torch.ones(tokens, tokens, dtype=torch.int64), "edge": torch.full((tokens, tokens, 2), 2.0)},
        graph={"charge": torch.tensor(tokens)},
    )


def test_collate_pads_with_zeros():
    batch = Features.collate([features(2), features(4)])
    assert batch.tokens == 4
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.node["element"].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]
    assert batch.node["vector"].shape == (2, 4, 3)
    assert float(batch.node["vector"][0, 2:].abs().max()) == 0.0
    assert batch.pair["edge"].shape == (2, 4, 4, 2)
    for block in (
        batch.pair["edge"][0, 2:],
        batch.pair["edge"][0, :, 2:],
        batch.pair["bond"][0, 2:],
        batch.pair["bond"][0, :, 2:],
    ):
        assert float(block.abs().max()) == 0.0
    assert float(batch.pair["edge"][0, :2, :2].min()) == 2.0
    assert batch.graph["charge"].tolist() == [2, 4]


def test_collate_to_a_given_width():
    batch = Features.collate([features(2)], tokens=6)
    assert batch.tokens == 6
    assert batch.mask.sum().item() == 2
    with pytest.raises(ShapeError, match="a system of 4 tokens, expected at most 3"):
        Features.collate([features(4)], tokens=3)


def test_collate_refuses_systems_of_different_kinds():
    other = Features(node={"element": torch.arange(2)})
    with pytest.raises(ShapeError, match="the same node features"):
        Features.collate([features(2), other])
    with pytest.raises(ShapeError, match="at least one"):
        Features.collate([])


def test_shared_features_serve_any_batch():
    one = features(3)
    shared = one.shared()
    assert shared.mask.tolist() == [[True] * 3]
    assert shared.node["element"].shape == (1, 3)
    assert shared.pair["bond"].shape == (1, 3, 3)
    assert shared.rows(slice(0, 7)) is shared
    with pytest.raises(ShapeError, match="features of one system"):
        shared.shared()


def test_rows_of_shared_features_with_conditions_of_each_sample():
    batch = features(3).shared().conditioned(torch.arange(8.0)[:, None])
    part = batch.rows(slice(2, 5))
    assert part.graph["conditions"][:, 0].tolist() == [2.0, 3.0, 4.0]
    assert part.node["element"].shape == (1, 3)
    assert features(3).conditioned([0.5]).graph["conditions"].tolist() == [0.5]


def test_rows():
    batch = Features.collate([features(2), features(4), features(3)])
    part = batch.rows(torch.tensor([2, 0]))
    assert part.node["element"].tolist() == [[1, 2, 3, 0], [1, 2, 0, 0]]
    assert part.graph["charge"].tolist() == [3, 2]
    assert part.mask.sum(1).tolist() == [3, 2]
    with pytest.raises(ShapeError, match="expected a batch"):
        features(2).rows(slice(1))


def test_features_are_frozen_and_move_between_devices():
    one = features(2)
    with pytest.raises(TypeError):
        one.node["element"] = torch.zeros(2)
    moved = one.shared().to("cpu")
    assert torch.equal(moved.node["element"], one.node["element"][None])
    assert one.to("cpu").mask is None


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match="one number of tokens"):
        Features(node={"element": torch.zeros(3)}, pair={"bond": torch.zeros(4, 4)})


def test_systems_are_keyword_only_and_frozen():
    system = System(name="ACE-ALA-NME", features=features(2), digest="0")
    with pytest.raises(AttributeError):
        system.name = "other"
