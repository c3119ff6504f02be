"""`equilibra train --energy`: what it prints, what it writes, and what it refuses."""

import json
import re

import numpy as np
import pytest

from equilibra.systems.molecule import molecule_system
from equilibra.systems.molecule.files import write_frames
from equilibra.train import molecule_energy
from equilibra.train.budget import Cost

NETWORK = [
    word for size in ("dim=16", "pair_dim=8", "layers=1", "heads=2", "basis=8", "channels=2") for word in ("--network", size)
]
PLAIN = ["--batch-size", 4, "--no-compile", "--precision", "fp32", "--accelerator", "cpu", "--log-every", 2, *NETWORK]
TINY = ["--steps", 4, "--rounds", 2, "--rungs", 2, "--walkers", 2, "--sweeps", 2, *PLAIN]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Frames of ethanol to start from, a topology of it and one of another molecule."""
    folder = tmp_path_factory.mktemp("start")
    system = molecule_system("CCO")
    x = (system.reference + 0.02 * np.random.default_rng(0).normal(size=(6, system.atoms, 3))).astype(np.float32)
    write_frames(folder / "top.pdb", x[:1], system)
    np.savez(folder / "good.npz", positions=x)
    other = molecule_system("COC")
    write_frames(folder / "other.pdb", np.asarray(other.reference, dtype=np.float32)[None], other)
    return folder


@pytest.fixture(scope="module")
def quick():
    """Shorter burn-in and paths than the command line has options for."""
    from equilibra.cli import train
    from equilibra.train.energy_config import MOLECULE

    patch = pytest.MonkeyPatch()
    import dataclasses

    patch.setattr(train, "MOLECULE", dataclasses.replace(MOLECULE, burn_in=6, path_levels=8, path_samples=6, leapfrog=4))
    yield
    patch.undo()


def test_a_molecule_without_data_from_training_to_its_card(run, quick, tmp_path):
    arguments = ["train", "molecule", "CCO", "--energy", "mmff94", "-o", tmp_path / "run", "--name", "mine", *TINY]
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    for number in (1, 2):
        (line,) = [line for line in lines if line.startswith(f"round {number} of 2: ")]
        assert re.fullmatch(
            rf"round {number} of 2: [\d,]+ energy calls, ESS \d+\.\d % of the model's samples, log Z (between|at most|unknown).*, "
            r"\d+ % of its proposals accepted",
            line,
        )
    assert any(line.startswith("Own samples of the energy. At the end the ESS of 6 samples was") for line in lines)
    assert f"sample it: equilibra sample molecule CCO --model {tmp_path / 'run' / 'model'} --energy mmff94" in lines
    assert "trained from the energy 'mmff94' at 300 to 660 K" in run("models", tmp_path / "run" / "model").stdout
    calls = json.loads((tmp_path / "run" / "round-001.json").read_text())["calls_judged"]
    assert f"{calls:,} energy calls" in done.stdout
    again = run(*arguments)
    assert again.exit_code == 0, again.output
    assert f"going on with '{tmp_path / 'run'}'" in again.stdout
    assert [line for line in again.stdout.splitlines() if line.startswith("round")] == [
        line for line in lines if line.startswith("round")
    ]
    refused = run(*arguments[:-2], "--network", "channels=3")
    assert refused.exit_code == 2
    assert "another run: its network.channels is 2, this run's is 3" in refused.stderr


def test_open_stereochemistry_is_closed_aloud_and_the_model_understands_it(run, quick, refuses, tmp_path):
    done = run("train", "molecule", "CC(N)O", "--energy", "mmff94", "-o", tmp_path / "run", *TINY)
    assert done.exit_code == 0, done.output
    first = done.stdout.splitlines()[0]
    taken = re.fullmatch(
        r"'CC\(N\)O' leaves its stereochemistry open, and may be 2 molecules: taking (\S+); give another .*", first
    )[1]
    assert "@" in taken
    assert f"equilibra sample molecule '{taken}'" in done.stdout
    sample = ["sample", "molecule", "--model", tmp_path / "run" / "model", "-n", 1, "--steps", 2, "-o", tmp_path / "out"]
    # it is sampled, if in vain: an untrained network makes no molecules
    assert "passed the checks" in refuses(*sample, "CC(N)O", code=1)
    mirror = taken.replace("@@", "@") if "@@" in taken else taken.replace("@", "@@")
    assert "was trained on" in refuses(*sample, mirror)


def test_it_starts_from_frames_and_at_a_temperature(run, quick, files, tmp_path):
    start = [
        "--trajectory",
        files / "good.npz",
        "--topology",
        files / "top.pdb",
        "--temperature",
        350,
        "--top-temperature",
        500,
    ]
    done = run("train", "molecule", "--energy", "mmff94s", *start, "--objective", "tsm", "-o", tmp_path / "run", *TINY)
    assert done.exit_code == 0, done.output
    assert "proposals" not in done.stdout
    scope = json.loads((tmp_path / "run" / "model" / "model.json").read_text())["scope"]
    assert (scope["temperature"], scope["temperatures"]) == (350.0, [350.0, 500.0])
    wrong = run("train", "molecule", "COC", "--energy", "mmff94s", *start, "-o", tmp_path / "other", *TINY)
    assert wrong.exit_code == 2
    assert "start: " in wrong.stderr
    assert not (tmp_path / "other").exists()


def test_minutes_set_the_size_of_the_run(run, quick, refuses, monkeypatch, tmp_path):
    monkeypatch.setattr(molecule_energy, "measured", lambda *arguments: Cost(sweep=1.0, step=0.2, call=0.001, overhead=1.0))
    arguments = ["train", "molecule", "O", "--energy", "mmff94", "--rounds", 1, "--rungs", 2, "--walkers", 2, *PLAIN]
    sentence = refuses(*arguments, "--minutes", 0.2, "-o", tmp_path / "run")
    assert re.search(
        r"minutes: got 0.2, which leaves \d+ steps of training on this machine; expected at least 0\.7 minutes", sentence
    )
    assert not (tmp_path / "run").exists()
    done = run(*arguments, "--minutes", 0.8, "--checkpoint-every", 1000, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert plan["steps"] >= 100
    last = (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == plan["steps"]
    assert "holds a run of 0.8 minutes, got one of 2 minutes" in refuses(*arguments, "--minutes", 2, "-o", tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["CCO", "--energy", "mmff49"], "unknown energy 'mmff49'; did you mean 'mmff94'"),
        (["CCO", "--energy", "mmff94", "--temperature", 0], "--temperature: got 0"),
        (["CCO", "--energy", "mmff94", "--objective", "aneal"], "unknown objective 'aneal'; did you mean 'anneal'"),
        (["CCO", "--energy", "mmff94", "--minutes", 0], "--minutes: got 0"),
        (["CCO", "--energy", "mmff94", "--rounds", 0], "--rounds: got 0"),
        (["CCO", "--energy", "mmff94", "--rungs", 0], "--rungs: got 0"),
        (["CCO", "--energy", "mmff94", "--walkers", 0], "--walkers: got 0"),
        (["CCO", "--energy", "mmff94", "--sweeps", 0], "--sweeps: got 0"),
        (
            ["CCO", "--energy", "mmff94", "--top-temperature", 250],
            "--top-temperature: got 250 K, expected more than the lowest, 300 K",
        ),
        (["CCO", "--energy", "mmff94", "--rungs", 1, "--top-temperature", 500], "--top-temperature: got one with --rungs 1"),
        (["CCO", "--energy", "mmff94", "--minutes", 5, "--steps", 10], "got --steps and --minutes, which sets it"),
        (["CCO", "--energy", "mmff94", "--minutes", 5, "--sweeps", 10], "got --sweeps and --minutes, which sets it"),
        (["CCO", "--energy", "mmff94", "--ignore-forces"], "--use-forces has no meaning with --energy"),
        (["CCO", "--energy", "mmff94", "--devices", 2], "devices: got 2, but training from an energy runs on one device"),
        (["CCO", "--energy", "mmff94", "--trajectory", "good.npz"], "needs its --topology"),
        (["CCO", "--energy", "mmff94", "--topology", "top.pdb"], "needs its --topology, and the other way round"),
        (["--energy", "mmff94"], "got no molecule"),
        (["C[Se]C", "--energy", "mmff94"], "mmff94 has no parameters"),
        (["C1CC", "--energy", "mmff94"], "C1CC"),
        (["CCO", "--energy", "mmff94", "--steps", 3], "steps: got 3, expected at least one for each of the 6 rounds"),
        (["CCO"], "got neither --energy nor a --trajectory"),
        (["--trajectory", "good.npz", "--topology", "top.pdb", "--minutes", 5], "--minutes has a meaning with --energy only"),
        (["--trajectory", "good.npz", "--topology", "top.pdb", "--rungs", 3], "--rungs has a meaning with --energy only"),
        (["CCO", "--trajectory", "good.npz", "--topology", "top.pdb"], "the molecule 'CCO' has a meaning with --energy only"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(refuses, files, tmp_path, options, words):
    named = [files / o if isinstance(o, str) and o.endswith((".npz", ".pdb")) else o for o in options]
    assert words in refuses("train", "molecule", *named, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_training_that_diverges_is_a_failure_with_the_step(refuses, quick, tmp_path):
    wild = ["--steps", 400, "--rounds", 2, "--rungs", 2, "--walkers", 2, "--sweeps", 2, *PLAIN, "--learning-rate", 1e6]
    sentence = refuses(
        "train", "molecule", "O", "--energy", "mmff94", "--checkpoint-every", 1, "-o", tmp_path / "run", *wild, code=1
    )
    assert re.search(r"training diverged (at|before) step \d+.*is kept; use a smaller --learning-rate", sentence)
    assert (tmp_path / "run" / "training" / "checkpoint.safetensors").exists()


def test_help_names_what_belongs_to_an_energy(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    text = " ".join(run("train", "--help").output.split())
    assert "--energy mmff94 --minutes 30" in text
    for option in ("--energy", "--minutes", "--objective", "--rounds", "--rungs", "--top-temperature", "--walkers", "--sweeps"):
        assert option in text
    for name in ("anneal", "tsm", "pidp", "scalar-fp", "idem", "adjoint"):
        assert name in text
