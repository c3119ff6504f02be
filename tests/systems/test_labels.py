"""Labels: what a network is told of them, what is left out, and what a user is told of bad ones."""

import math

import pytest
import torch

from equilibra.data.conformations import ConformationData, Conformations, Telling
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.state import Features, System
from equilibra.systems.labels import Label, conditions, label_doubts, wanted_values
from equilibra.systems.scope import Scope

GAP = Label(name="gap", mean=2.0, deviation=0.5, low=0.0, high=6.0)
ENERGY = Label(name="energy", mean=-9.0, deviation=0.1, low=-9.2, high=-8.0, share=0.5)


def test_a_label_is_measured_with_the_weights_of_the_samples():
    values = torch.tensor([1.0, 3.0, math.nan, 5.0], dtype=torch.float64)
    found = Label.measured("gap", values, torch.tensor([2.0, 1.0, 1.0, 1.0]))
    assert (found.low, found.high, found.share) == (1.0, 5.0, 0.8)
    assert found.mean == pytest.approx((2 * 1 + 3 + 5) / 4)
    assert found.deviation == pytest.approx(math.sqrt((2 * 1.5**2 + 0.5**2 + 2.5**2) / 4))
    with pytest.raises(InputError, match="1 of 2 samples have a value"):
        Label.measured("gap", torch.tensor([1.0, math.nan]), torch.ones(2))
    with pytest.raises(InputError, match="all samples have the value 1"):
        Label.measured("gap", torch.ones(3), torch.ones(3))


def test_a_network_is_told_the_value_and_whether_there_is_one():
    values = torch.tensor([[3.0, math.nan], [math.nan, -9.1], [math.nan, math.nan]], dtype=torch.float64)
    expected = torch.tensor([[2.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.allclose(conditions([GAP, ENERGY], values), expected, atol=1e-6)
    assert conditions([], values[:, :0]).shape == (3, 0)


def test_a_scope_keeps_its_labels_and_says_what_is_wrong():
    scope = Scope.from_dict(Scope(labels=(GAP, ENERGY)).to_dict())
    assert scope.labels == (GAP, ENERGY)
    assert torch.allclose(scope.told({"gap": 3.0}, "m"), torch.tensor([[2.0, 1.0, 0.0, 0.0]]))
    assert torch.equal(scope.told(None, "m"), torch.zeros(1, 4))
    assert Scope().told(None, "m").numel() == 0
    with pytest.raises(InputError, match=r"'m' has no label 'gpa'; did you mean 'gap'\? \(its labels are gap, energy\)"):
        scope.told({"gpa": 3.0}, "m")
    with pytest.raises(InputError, match="it was trained without labels; train one with --label"):
        Scope().told({"gap": 3.0}, "m")
    with pytest.raises(InputError, match="label 'gap': got nan"):
        wanted_values([GAP], {"gap": math.nan}, "m")
    with pytest.raises(ConfigError, match="labels and a range of temperatures"):
        Scope(labels=(GAP,), temperature=300.0, temperatures=(300.0, 600.0))
    (doubt,) = label_doubts([GAP, ENERGY], {"gap": 9.0, "energy": -9.0})
    assert "label 'gap': 9 lies outside 0 to 6" in doubt


def _batches(dropout, labels):
    features = [Features(node={"element": torch.full((n,), n)}) for n in (2, 3)]
    systems = [System(name=f"{i}", features=f, digest=f"{i}") for i, f in enumerate(features)]
    entries = [
        Conformations(s, torch.zeros(4, s.features.tokens, 3), labels=values) for s, values in zip(systems, labels, strict=True)
    ]
    return ConformationData(entries, bucket=4, telling=Telling(lambda v: torch.nan_to_num(v, nan=-1.0).float(), dropout))


def test_batches_carry_the_labels_of_their_samples_and_leave_some_out():
    labels = [torch.full((4, 1), 2.0), torch.full((4, 1), 3.0)]
    generator = torch.Generator().manual_seed(0)
    batch = _batches(0.0, labels).batch(64, generator=generator)
    assert torch.equal(batch.features.graph["conditions"][:, 0], batch.features.node["element"][:, 0].float())
    batch = _batches(0.25, labels).batch(4000, generator=generator)
    lost = (batch.features.graph["conditions"][:, 0] == -1.0).float()
    assert abs(float(lost.mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    # of two labels: both are lost with the probability p, and each by itself
    both = torch.tensor([[1.0, 2.0]]).expand(4000, 2)
    told = Telling(torch.isfinite, 0.2).told(both, generator=generator)
    assert abs(float((~told[:, 0]).double().mean()) - 0.36) < 4 * math.sqrt(0.36 * 0.64 / 4000)
    assert abs(float((~told).all(1).double().mean()) - (0.2 + 0.8 * 0.04)) < 4 * math.sqrt(0.232 * 0.768 / 4000)


def test_bad_labels_of_data_are_refused():
    one = Features(node={"element": torch.ones(2, dtype=torch.int64)})
    system = System(name="a", features=one, digest="a")
    with pytest.raises(ShapeError, match="labels of a"):
        Conformations(system, torch.zeros(4, 2, 3), labels=torch.zeros(3, 1))
    with pytest.raises(InputError, match="a system has no labels"):
        ConformationData([Conformations(system, torch.zeros(4, 2, 3))], telling=Telling(torch.isfinite))
    with pytest.raises(ConfigError, match=r"label_dropout: got 1\.0"):
        Telling(torch.isfinite, 1.0)
