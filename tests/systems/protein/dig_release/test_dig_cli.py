"""`equilibra convert`: what it writes, and its sentences."""

import importlib.util
import pickle

import numpy as np
import pytest
import torch
from released import released_tensors
from typer.testing import CliRunner

from equilibra.cli.main import app


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def refuses(run):
    def call(*arguments):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, done.stderr
        return lines[0]

    return call


def test_weights(run, tmp_path):
    torch.save({"state_dict": released_tensors()}, tmp_path / "checkpoint.pth")
    done = run("convert", "dig-protein", tmp_path / "checkpoint.pth", "-o", tmp_path / "model")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("dig-protein: ")
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}
    card = run("models", tmp_path / "model")
    assert card.exit_code == 0, card.output
    for words in ("dig-protein: protein", "(transferable)", "29 steps", "MIT, copyright Microsoft Corporation"):
        assert words in card.stdout


def test_features(run, tmp_path):
    single, pair = np.ones((4, 384), np.float32), np.ones((4, 4, 128), np.float32)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"single": single, "pair": pair}))
    done = run("convert", "dig-features", tmp_path / "x.pkl", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "single.npy, pair.npy" in done.stdout
    assert np.array_equal(np.load(tmp_path / "out" / "pair.npy", allow_pickle=False), pair)


def test_sentences(refuses, tmp_path, monkeypatch):
    text = tmp_path / "text.pth"
    text.write_text("weights")
    assert "no such file or folder" in refuses("convert", "dig-protein", tmp_path / "nothing.pth")
    assert "is not a PyTorch file" in refuses("convert", "dig-protein", text, "-o", tmp_path / "out")
    assert "is not read: it" in refuses("convert", "dig-features", text, "-o", tmp_path / "out")
    assert "did you mean 'dig-protein'?" in refuses("convert", "dig-protien", text)
    torch.save({"state_dict": released_tensors(), "arguments": print}, text)
    assert "holds more than tensors" in refuses("convert", "dig-protein", text, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "dig_release" in name else find(name))
    assert "install the whole of equilibra" in refuses("convert", "dig-protein", text)
