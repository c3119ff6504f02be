"""The released checkpoint to a model folder: same outputs, nothing executed, and one sentence for each file that does not fit."""

import argparse

import pytest
import torch
from released import released_case, released_tensors

from equilibra.errors import CheckpointError, InputError
from equilibra.state import Features, State
from equilibra.systems.model import Model
from equilibra.systems.protein.dig_release.checkpoint import convert_checkpoint, read_checkpoint, released_model


def write(folder, tensors, **more):
    path = folder / "checkpoint.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in tensors.items()}, **more}, path)
    return path


def test_a_converted_model_gives_the_outputs_of_the_release(tmp_path):
    model = convert_checkpoint(write(tmp_path, released_tensors()), tmp_path / "model")
    again = Model.read(tmp_path / "model")
    assert again.sha256 == model.sha256
    assert again.network == {**model.network, "kind": "dig-release"}
    assert (again.domain, again.sampler, again.scope.transferable) == ("protein", model.sampler, True)
    case = released_case("plain")
    features = Features(node={"extra": case["single"][0]}, pair={"extra": case["pair"][0]}).shared()
    rot = case["IR"][:1].float().transpose(-1, -2)
    t = 1.0 - case["step"][:1].float() / 500.0
    with torch.no_grad():
        found = again.denoiser(State({"trans": case["T"][:1].float(), "rot": rot}), t, features).displacements
    sigma = 0.1 ** (1.0 - t) * 35.0**t
    expected = sigma[:, None, None] * (case["out_T_eps"][:1] - case["out_T_eps"][:1].mean(1, keepdim=True)).float()
    assert torch.allclose(found["trans"], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    direction = -(rot @ case["out_IR_eps"][:1].float()[..., None])[..., 0]
    assert torch.allclose(found["rot"] / found["rot"].norm(), direction / direction.norm(), atol=1e-5)


def test_names_with_and_without_prefix_and_container(tmp_path):
    tensors = released_tensors()
    plain = tmp_path / "plain.pth"
    torch.save(tensors, plain, _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(plain)) == set(read_checkpoint(write(tmp_path, tensors))) == set(tensors)
    del tensors["step_emb.dummy"]
    assert released_model({name: value.half() for name, value in tensors.items()}).parameters() > 0


def test_more_than_tensors_is_not_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    with pytest.raises(CheckpointError, match="holds more than tensors, which is not read since it could run code"):
        read_checkpoint(write(tmp_path, released_tensors(), arguments=argparse.Namespace(lr=1e-4)))
    path = tmp_path / "trap.pth"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()
    torch.save({"state_dict": {"epoch": 3}}, path)
    with pytest.raises(CheckpointError, match="'epoch' in its 'state_dict' is no tensor"):
        read_checkpoint(path)


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"no such file: '.*nothing\.pth'"):
        read_checkpoint(tmp_path / "nothing.pth")
    text = tmp_path / "text.pth"
    text.write_text("weights")
    with pytest.raises(CheckpointError, match="is not a PyTorch file"):
        read_checkpoint(text)
    whole = write(tmp_path, released_tensors())
    text.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_checkpoint(text)
    torch.save([1, 2], text)
    with pytest.raises(CheckpointError, match="got a list, expected tensors by name"):
        read_checkpoint(text)


def test_tensors_that_do_not_fit():
    tensors = released_tensors()
    name = "st_module.encoder.layers.1.attn.fc_out.bias"
    with pytest.raises(CheckpointError, match=f"missing '{name}'"):
        released_model({key: value for key, value in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=r"unknown 'extra\.weight'; expected"):
        released_model({**tensors, "extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"unknown .* and missing .* and \d+ more"):
        released_model({"x": torch.zeros(1)})
    with pytest.raises(
        CheckpointError, match=rf"'{name}' has the shape \(7,\), expected \(64,\) for a network of width 64 with 4 heads"
    ):
        released_model({**tensors, name: torch.zeros(7)})
    with pytest.raises(CheckpointError, match="no finite real numbers"):
        released_model({**tensors, name: torch.full((64,), torch.nan)})
    weight = "st_module.encoder.layers.0.attn.trained_point_weight"
    with pytest.raises(CheckpointError, match="a width of 64 does not fit 5 heads"):
        released_model({**tensors, weight: torch.zeros(5)})
