"""The program as a whole: help, version, errors, interruption, and units."""

import os
import subprocess
import sys

import pytest

from equilibra.cli.quantities import duration
from equilibra.errors import InputError

VERBS = (
    "sample",
    "train",
    "fine-tune",
    "simulate",
    "evaluate",
    "interpolate",
    "models",
    "report",
    "density",
    "free-energy",
    "convert",
)


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom equilibra.cli.main import main\nsys.argv = ['equilibra', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)
    loaded = set(done.stdout.split("LOADED")[1].split())
    heavy = {"torch", "numpy", "scipy", "rdkit", "openmm", "mdtraj", "lightning", "matplotlib", "safetensors", "jaxtyping"}
    assert not loaded & heavy


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_shows_an_example_and_explains_every_option(run, verb):
    done = run(verb, "--help")
    assert done.exit_code == 0
    assert f"equilibra {verb}" in done.stdout.split("Example")[1]

    from typer.main import get_command

    from equilibra.cli.main import app

    command = get_command(app).commands[verb]
    assert not [option.name for option in command.params if not getattr(option, "help", None)]


def test_version_and_usage(run):
    import equilibra

    assert run("--version").stdout.strip() == f"equilibra {equilibra.__version__}"
    assert run("sing").exit_code == 2
    assert run("sample", "molecule").exit_code == 2
    assert run("models", "--sing").exit_code == 2


def test_errors_are_shown_as_they_are_and_debug_shows_where(run, tmp_path):
    # square brackets are no markup
    done = run("sample", "molecule", "[red]C", "-n", 0)
    assert done.exit_code == 2
    sentence = run("evaluate", f"{tmp_path}/[bold]x", f"{tmp_path}/y")
    assert "[bold]x" in sentence.stderr
    assert "Traceback" not in sentence.stderr
    assert "Traceback" in run("--debug", "evaluate", f"{tmp_path}/x", f"{tmp_path}/y").stderr


def test_a_defect_is_one_sentence_and_exit_code_1(run, monkeypatch):
    from equilibra.systems import model

    def broken():
        raise KeyError("lost")

    monkeypatch.setattr(model, "shipped", broken)
    done = run("models")
    assert done.exit_code == 1
    assert "unexpected KeyError: 'lost'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="pipes of POSIX")
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
@pytest.mark.parametrize("arguments", [["simulate", "--help"], ["--version"], ["models", "TINY"]], ids=" ".join)
def test_output_that_nobody_reads_is_no_defect(model_folder, arguments, both):
    """As in `equilibra ... | head -1`, whose pipe is closed as soon as it has its line."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "equilibra", *(str(model_folder) if word == "TINY" else word for word in arguments)]
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=writing if both else subprocess.PIPE, text=True, timeout=120, check=False
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert not done.stderr


def test_another_closed_pipe_is_a_defect(run, monkeypatch):
    from equilibra.systems import model

    def broken():
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(model, "shipped", broken)
    done = run("models")
    assert done.exit_code == 1
    assert "unexpected BrokenPipeError" in done.stderr


def test_the_package_is_the_program():
    import equilibra

    done = subprocess.run(
        [sys.executable, "-m", "equilibra", "--version"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"equilibra {equilibra.__version__}\n", "")
    wrong = subprocess.run(
        [sys.executable, "-m", "equilibra", "evaluate", "nothing", "here"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("equilibra: ")


def test_an_interruption_says_how_to_go_on(run, model_folder, monkeypatch, tmp_path):
    from equilibra.systems.model import Model

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "sample", interrupted)
    done = run("sample", "molecule", "ACE-ALA-NME", "--model", model_folder, "-o", tmp_path / "out")
    assert done.exit_code == 130
    assert "repeat the same `equilibra sample` command to go on" in done.stderr


def test_models_lists_and_shows_cards(run, refuses, model_folder):
    assert run("models").exit_code == 0
    card = run("models", model_folder)
    assert card.exit_code == 0
    for words in ("tiny: molecule", "CNC(=O)[C@H](C)NC(C)=O", "300 K", "3 steps", "Anything at all."):
        assert words in card.stdout
    assert run("-q", "models", model_folder).stdout == ""
    assert "unknown model 'nothing'" in refuses("models", "nothing")


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [("200ns", "ns", 200.0), ("0.5us", "ns", 500.0), ("2fs", "fs", 2.0), ("1 ps", "fs", 1000.0), ("3", "ns", 3.0), ("1e3ps", "ns", 1.0), ("2µs", "ns", 2000.0)],
)  # fmt: skip
def test_times_have_units(text, unit, value):
    assert duration("--time", text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "ns", "-1ns", "0ns", "2 hours", "1..2ns", "1,5ns", "nan", "inf"])
def test_other_times_are_refused(text):
    with pytest.raises(InputError, match="--time: got"):
        duration("--time", text, "ns")


def test_the_choices_are_those_of_the_package():
    """They are named again in the command line, which must not import the package for its help."""
    from typing import get_args

    from equilibra.cli import sample, train
    from equilibra.nn.graphormer import GraphormerConfig
    from equilibra.sampling.choose import SAMPLERS
    from equilibra.sampling.grid import Spacing
    from equilibra.systems.domain import DOMAINS
    from equilibra.systems.molecule.files import FORMATS

    assert set(sample.SAMPLERS) == set(SAMPLERS)
    assert set(sample.SPACINGS) == set(get_args(Spacing))
    assert set(sample.FORMATS) == set(FORMATS)
    assert set(sample.DOMAINS) == set(DOMAINS)
    assert all(isinstance(getattr(GraphormerConfig(), name), int) for name in train.SIZES)
