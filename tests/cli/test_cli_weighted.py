"""`equilibra sample --energy`: weights in the files and in words, resume, the report, and wrong options in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from gaussian_model import HERE

from equilibra.systems.molecule import load_ensemble
from equilibra.thermo.weights import diagnose

SMILES = "CC(=O)N[C@@H](C)C(=O)NC"
ENERGY = ["--energy", "mmff94", "--levels", 6]


def sample(run, model_folder, out, *options, n=10):
    fixed = ["-n", n, "-o", out, "--model", model_folder, "--block-size", 5, *ENERGY]
    return run("sample", "molecule", SMILES, *fixed, *options)


def test_weights_are_in_the_files_in_words_and_on_the_page(run, model_folder, exact, tmp_path):
    done = sample(run, model_folder, tmp_path / "out", "--format", "npz")
    assert done.exit_code == 0, done.output
    ensemble = load_ensemble(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "ensemble.json").read_text())["provenance"]["path_weights"]
    diagnosis = diagnose(ensemble.log_weights)
    assert record["sentence"] == diagnosis.sentence
    assert "Weights for mmff94 at 300 K: ESS" in done.stdout
    assert "of 10 (" in done.stdout
    assert "log Z" in done.stdout
    assert diagnosis.sentence in done.stdout
    assert "6 network calls each" in done.stdout
    assert np.isfinite(ensemble.energies).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Weights</h2>" in page or ">Weights<" in page
    assert diagnosis.sentence in page
    assert "mmff94, 10 calls" in page
    again = sample(run, model_folder, tmp_path / "out", "--format", "npz")
    assert "already holds 10 conformations" in again.stdout
    assert diagnosis.sentence in again.stdout
    grown = sample(run, model_folder, tmp_path / "out", "--format", "npz", n=15)
    assert "going on" in grown.stdout
    longer = load_ensemble(tmp_path / "out")
    np.testing.assert_array_equal(longer.log_weights[:10], ensemble.log_weights)


def test_a_finished_run_of_another_energy_is_not_taken_for_this_one(run, refuses, model_folder, exact, tmp_path):
    assert sample(run, model_folder, tmp_path / "out", "--no-report").exit_code == 0
    fixed = ["sample", "molecule", SMILES, "-n", 10, "-o", tmp_path / "out", "--model", model_folder, "--block-size", 5]
    assert "holds another run: its energy is" in refuses(*fixed, "--energy", "mmff94s", "--levels", 6)
    assert "holds another run" in refuses(*fixed)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(model_folder, tmp_path):
    def command(out):
        options = ["-n", "600", "-o", str(tmp_path / out), "--model", str(model_folder), "--block-size", "20", "--no-report"]
        return [sys.executable, str(HERE), "sample", "molecule", SMILES, *options, *map(str, ENERGY)]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "blocks" / "block-00001.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(list((tmp_path / "killed" / "blocks").glob("block-*.npz"))) < 30
    for out in ("killed", "whole"):
        done = subprocess.run(command(out), env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    for name in ("samples.csv", "samples.xtc", "blocks/kernels.json", "blocks/block-00001.npz", "blocks/block-00029.npz"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--energy", "mmff49"], "unknown energy 'mmff49'; did you mean 'mmff94'?"),
        (["--energy", "amber99sbildn-obc"], "cannot describe this molecule"),
        (["--energy", "mmff94", "--sampler", "sde"], "--sampler: cannot be combined with --energy"),
        (["--energy", "mmff94", "--steps", 20], "--steps: cannot be combined with --energy"),
        (["--energy", "mmff94", "--levels", 1], "--levels: got 1, expected at least 2"),
        (["--levels", 100], "--levels: has an effect with --energy only"),
        (["--energy", "mmff94", "--temperature", 0], "--temperature: got 0 K, expected a positive number"),
        (["--temperature", 310], "knows one temperature, 300 K"),
    ],
)
def test_wrong_options_are_refused(refuses, model_folder, tmp_path, options, words):
    out = tmp_path / "out"
    assert words in refuses("sample", "molecule", SMILES, "-o", out, "--model", model_folder, *options)
    assert not out.exists()
