import json
import math

import pytest
import torch

from equilibra.errors import CheckpointError, ConfigError
from equilibra.train.average import WeightAverage
from equilibra.train.checkpoint import optimiser_tensors, read_checkpoint, restore_optimiser, write_checkpoint
from equilibra.train.config import TrainConfig, learning_rate


def test_cosine_schedule():
    c = TrainConfig(steps=1000, warmup=100, learning_rate=2e-3)
    assert learning_rate(c, 0) == pytest.approx(2e-5)
    assert learning_rate(c, 49) == pytest.approx(1e-3)
    assert learning_rate(c, 99) == pytest.approx(2e-3)
    assert learning_rate(c, 550) == pytest.approx(1e-3)
    assert learning_rate(c, 325) == pytest.approx(1e-3 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(c, 1000) == pytest.approx(0.0, abs=1e-12)
    assert 0.0 < learning_rate(c, 999) < 1e-8
    rates = [learning_rate(c, s) for s in range(100, 1000)]
    assert rates == sorted(rates, reverse=True)


def test_inverse_square_root_schedule():
    c = TrainConfig(steps=1000, warmup=100, learning_rate=2e-3, schedule="inverse-sqrt")
    assert learning_rate(c, 49) == pytest.approx(1e-3)
    assert learning_rate(c, 99) == pytest.approx(2e-3)
    assert learning_rate(c, 399) == pytest.approx(1e-3)
    assert learning_rate(c, 899) == pytest.approx(2e-3 / 3)


def test_constant_schedule_and_no_warmup():
    c = TrainConfig(steps=1000, warmup=0, learning_rate=2e-3, schedule="constant")
    assert {learning_rate(c, s) for s in (0, 1, 500, 5000)} == {2e-3}
    assert learning_rate(TrainConfig(warmup=0, learning_rate=2e-3, schedule="inverse-sqrt"), 3) == pytest.approx(1e-3)
    assert learning_rate(TrainConfig(warmup=0, learning_rate=2e-3), 0) == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: got 0"),
        ({"batch_size": -1}, "batch_size: got -1"),
        ({"learning_rate": 0.0}, "learning_rate: got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"clip": -1.0}, "clip"),
        ({"noise_width": 0.0}, "noise_width"),
        ({"ema": 1.0}, "ema: got 1"),
        ({"warmup": -1}, "warmup: got -1"),
        ({"weight_decay": -0.1}, "weight_decay: got -0.1"),
        ({"threads": 0}, "threads: got 0"),
        ({"schedule": "linear"}, "schedule: got 'linear'"),
        ({"precision": "fp16"}, "precision: got 'fp16'"),
        ({"batch_size": 9, "devices": 2}, "multiple of the number of processes, 2"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**changes)


def test_average_follows_its_formula():
    module = torch.nn.Linear(3, 2)
    average = WeightAverage(module, 0.6)
    expected = module.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            module.weight += 0.1 * (step + 1)
            module.bias.fill_(step)
        average.update(module, step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
        torch.testing.assert_close(average.state_of()["weight"], expected)
    assert set(average.state_of()) == {"weight", "bias"}
    assert not any(value.requires_grad for value in average.state_of().values())
    assert list(average.parameters()) == []


def test_average_is_a_copy():
    module = torch.nn.Linear(2, 2)
    average = WeightAverage(module, 0.9)
    before = average.state_of()["weight"].clone()
    with torch.no_grad():
        module.weight.zero_()
    assert torch.equal(average.state_of()["weight"], before)


def tensors():
    g = torch.Generator().manual_seed(0)
    return {"a": torch.randn(5, 7, generator=g), "step": torch.tensor(3.0), "n": torch.arange(4), "b": torch.zeros(0)}


def test_checkpoints_come_back(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, tensors(), {"step": 12, "recent": [{"loss": 0.25}]})
    got, header = read_checkpoint(path)
    assert got.keys() == tensors().keys()
    for name, value in tensors().items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value)
    assert header["step"] == 12
    assert header["recent"] == [{"loss": 0.25}]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("where", ["cut", "start", "data", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path, where):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, tensors(), {"step": 12})
    content = bytearray(path.read_bytes())
    if where == "cut":
        content = content[:-10]
    elif where == "empty":
        content = bytearray()
    else:
        content[{"start": 3, "data": len(content) - 30}[where]] ^= 0x55
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="corrupted"):
        read_checkpoint(path)


def test_missing_checkpoints_and_other_schemas_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "none.safetensors")
    from safetensors.torch import save_file

    save_file(tensors(), tmp_path / "other.safetensors", metadata={"header": json.dumps({"schema_version": 99})})
    with pytest.raises(CheckpointError, match="schema version 99"):
        read_checkpoint(tmp_path / "other.safetensors")


def test_an_optimiser_goes_on_as_if_never_stopped():
    def steps(module, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            (module(torch.ones(1, 3)) ** 2).sum().backward()
            optimiser.step()

    def fresh():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = torch.nn.Linear(3, 2)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1)

    whole, optimiser = fresh()
    steps(whole, optimiser, 6)
    first, optimiser = fresh()
    steps(first, optimiser, 3)
    second, later = fresh()
    second.load_state_dict(first.state_dict())
    restore_optimiser(later, optimiser_tensors(optimiser))
    steps(second, later, 3)
    assert torch.equal(second.weight, whole.weight)
