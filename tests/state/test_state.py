import dataclasses

import pytest
import torch

from equilibra.errors import ShapeError
from equilibra.state import State


@pytest.fixture
def state():
    g = torch.Generator().manual_seed(0)
    return State(
        {"pos": torch.randn(3, 5, 3, generator=g), "cell": torch.randn(3, 3, 3, generator=g)},
        {"pos": torch.arange(5)[None] < torch.tensor([[5], [2], [4]])},
    )


def test_properties(state):
    assert state.batch_size == 3
    assert state.dtype == torch.float32
    assert state.device == torch.device("cpu")
    assert state.mask("cell") is None
    assert state.mask("pos").sum(1).tolist() == [5, 2, 4]


def test_a_state_cannot_be_changed(state):
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.fields = {}
    with pytest.raises(TypeError):
        state.fields["pos"] = torch.zeros(3, 5, 3)
    with pytest.raises(TypeError):
        state.masks["pos"] = torch.zeros(3, 5, dtype=torch.bool)


def test_a_state_does_not_follow_the_dictionary_it_was_made_of():
    fields = {"x": torch.zeros(2, 3)}
    state = State(fields)
    fields["x"] = torch.ones(2, 3)
    fields["y"] = torch.ones(2, 3)
    assert list(state.fields) == ["x"]
    assert float(state.fields["x"].sum()) == 0.0


def test_replace_keeps_the_rest(state):
    new = state.replace(cell=torch.zeros(3, 3, 3))
    assert new.fields["pos"] is state.fields["pos"]
    assert float(new.fields["cell"].abs().max()) == 0.0
    assert float(state.fields["cell"].abs().max()) > 0.0
    assert new.masks["pos"] is state.masks["pos"]
    with pytest.raises(ShapeError, match=r"got shape \['posn'\], expected names among \['cell', 'pos'\]"):
        state.replace(posn=torch.zeros(3, 5, 3))
    with pytest.raises(ShapeError, match="one batch size"):
        state.replace(cell=torch.zeros(2, 3, 3))
    with pytest.raises(ShapeError, match="mask of 'pos'"):
        state.replace(pos=torch.zeros(3, 6, 3))


def test_map_and_conversion(state):
    doubled = state.map(lambda x: 2 * x)
    assert torch.equal(doubled.fields["pos"], 2 * state.fields["pos"])
    assert torch.equal(doubled.masks["pos"], state.masks["pos"])
    wide = state.to(dtype=torch.float64)
    assert wide.dtype == torch.float64
    assert wide.masks["pos"].dtype == torch.bool
    assert torch.equal(wide.to("cpu", torch.float32).fields["pos"], state.fields["pos"])


@pytest.mark.parametrize("index", [slice(1, 3), [1, 2], torch.tensor([1, 2]), torch.tensor([False, True, True])])
def test_indexing_takes_masks_along(state, index):
    part = state[index]
    assert part.batch_size == 2
    for name in state.fields:
        assert torch.equal(part.fields[name], state.fields[name][1:])
    assert torch.equal(part.masks["pos"], state.masks["pos"][1:])


def test_an_integer_would_lose_the_batch_axis(state):
    with pytest.raises(ShapeError, match=r"such as \[3\]"):
        state[1]


def test_cat_undoes_indexing(state):
    whole = State.cat([state[:1], state[[1]], state[2:]])
    for name in state.fields:
        assert torch.equal(whole.fields[name], state.fields[name])
    assert torch.equal(whole.masks["pos"], state.masks["pos"])


def test_cat_of_different_kinds_is_refused(state):
    with pytest.raises(ShapeError, match="same fields"):
        State.cat([state, State({"pos": state.fields["pos"]}, state.masks)])
    with pytest.raises(ShapeError, match="same masks"):
        State.cat([state, State(state.fields)])
    with pytest.raises(ShapeError, match="no state"):
        State.cat([])


@pytest.mark.parametrize(
    ("fields", "masks", "message"),
    [
        ({}, {}, "at least one field"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(3, 3)}, {}, "one batch size"),
        ({"a": torch.zeros(2, 3, 3)}, {"a": torch.ones(2, 4, dtype=torch.bool)}, r"mask of 'a': got shape \(2, 4\)"),
        ({"a": torch.zeros(2, 3, 3)}, {"b": torch.ones(2, 3, dtype=torch.bool)}, "no such field"),
    ],
)
def test_wrong_shapes_are_refused(fields, masks, message):
    with pytest.raises(ShapeError, match=message):
        State(fields, masks)
