import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

# models are shared by the modules of this folder, that of a protein with those of the domain
sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "protein"))
sys.path.insert(0, str(Path(__file__).parent))

from gaussian_model import bind, tiny_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A model folder with an untrained network."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model(folder)
    return folder


@pytest.fixture
def exact(monkeypatch):
    """Makes every model the exact one of a narrow Gaussian, whose samples are valid."""
    from equilibra.systems.model import Model

    monkeypatch.setattr(Model, "bind", bind)


@pytest.fixture
def run():
    """Runs the command line in this process; returns exit code, stdout and stderr."""
    from equilibra.cli.main import app

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def refuses(run):
    """Runs a command that must fail: one sentence on stderr, no traceback; returns the sentence."""

    def call(*arguments, code=2):
        done = run(*arguments)
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("equilibra: ")
        return lines[0]

    return call
