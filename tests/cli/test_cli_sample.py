"""`equilibra sample`: files, resume, several sources, and every wrong input with one sentence and exit code 2."""

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


def contents(folder):
    """The bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stamps(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# alanine dipeptide; its conformer is embedded with a fixed seed, so that the exact denoiser is the same one in every run
SMILES = "CC(=O)N[C@@H](C)C(=O)NC"


def sample(run, model_folder, out, *options, n=20):
    return run(
        "sample", "molecule", SMILES, "-n", n, "-o", out, "--model", model_folder, "--block-size", 8, "--no-report", *options
    )


def test_the_folder_holds_what_the_summary_says(run, model_folder, exact, tmp_path):
    out = tmp_path / "my results"
    done = sample(run, model_folder, out, "--format", "xtc", "--format", "npz", n=10)
    assert done.exit_code == 0, done.output
    assert "10 conformations" in done.stdout
    assert "4 network calls each" in done.stdout
    ensemble = load_ensemble(out)
    assert len(ensemble) == 10
    assert (out / "samples.xtc").is_file()
    provenance = json.loads((out / "ensemble.json").read_text())["provenance"]
    assert (provenance["model"], provenance["seed"], provenance["network_calls"]) == ("tiny", 0, 4)
    # the exact denoiser's samples lie about the reference
    assert ensemble.validity.valid.all()
    assert 0.0 < ensemble.positions.std(axis=0).mean() < 0.05


def test_a_finished_run_is_left_alone_and_a_larger_one_adds_to_it(run, model_folder, exact, tmp_path):
    assert sample(run, model_folder, tmp_path / "a", n=10).exit_code == 0
    before, times = contents(tmp_path / "a"), stamps(tmp_path / "a")
    for n in (10, 5):
        done = sample(run, model_folder, tmp_path / "a", n=n)
        assert done.exit_code == 0
        assert "already holds 10 conformations" in done.stdout
    assert contents(tmp_path / "a") == before
    assert stamps(tmp_path / "a") == times
    grown = sample(run, model_folder, tmp_path / "a", n=20)
    assert "going on" in grown.stdout
    fresh = sample(run, model_folder, tmp_path / "b", n=20)
    assert fresh.exit_code == 0
    assert (tmp_path / "a" / "samples.xtc").read_bytes() == (tmp_path / "b" / "samples.xtc").read_bytes()


def test_a_format_may_be_added_later(run, model_folder, exact, tmp_path):
    assert sample(run, model_folder, tmp_path / "a", n=10).exit_code == 0
    blocks = stamps(tmp_path / "a" / "blocks")
    assert sample(run, model_folder, tmp_path / "a", "--format", "npz", n=5).exit_code == 0
    assert stamps(tmp_path / "a" / "blocks") == blocks
    assert len(np.load(tmp_path / "a" / "samples.npz")["positions"]) == 10


def test_lost_and_damaged_blocks_are_drawn_again(run, model_folder, exact, tmp_path):
    assert sample(run, model_folder, tmp_path / "a", n=30).exit_code == 0
    whole = contents(tmp_path / "a")
    blocks = sorted((tmp_path / "a" / "blocks").iterdir())
    assert len(blocks) == 4
    blocks[-1].unlink()
    blocks[1].write_bytes(blocks[1].read_bytes()[:100])
    (tmp_path / "a" / "ensemble.json").unlink()
    assert sample(run, model_folder, tmp_path / "a", n=30).exit_code == 0
    again = contents(tmp_path / "a")
    assert set(again) == set(whole)
    same = [name for name in whole if name != "ensemble.json"]
    assert all(again[name] == whole[name] for name in same)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(model_folder, tmp_path):
    def command(out):
        options = ["-n", "3000", "-o", str(tmp_path / out), "--model", str(model_folder), "--block-size", "100", "--no-report"]
        return [sys.executable, str(HERE), "sample", "molecule", SMILES, *options]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "blocks" / "block-00001.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = list((tmp_path / "killed" / "blocks").glob("block-*.npz"))
    assert 2 <= len(finished) < 30
    for out in ("killed", "whole"):
        done = subprocess.run(command(out), env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    killed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    names = [name for name in whole if name != "ensemble.json"]  # which says how long it took
    assert len(names) > 30
    assert all(killed[name] == whole[name] for name in names)


def test_the_batch_size_changes_nothing(run, model_folder, exact, tmp_path):
    for size in (7, 32, 40):
        done = run(
            "sample", "molecule", SMILES, "-n", 40, "-o", tmp_path / str(size), "--model", model_folder, "--block-size", 40,
            "--batch-size", size, "--no-report", "--format", "npz",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    arrays = [np.load(tmp_path / str(size) / "samples.npz")["positions"] for size in (7, 32, 40)]
    np.testing.assert_array_equal(arrays[0], arrays[2])
    np.testing.assert_array_equal(arrays[1], arrays[2])


def test_too_few_valid_samples_of_the_network_is_a_failure_that_keeps_the_blocks(refuses, model_folder, tmp_path):
    """An untrained network makes no molecule; its blocks still do not depend on the batch size."""
    for size in (3, 8):
        options = ["-n", 4, "-o", tmp_path / str(size), "--model", model_folder, "--block-size", 8, "--batch-size", size]
        sentence = refuses("sample", "molecule", "ACE-ALA-NME", *options, code=1)
        assert "only 0 of 16 samples passed the checks" in sentence
    for name in ("block-00000.npz", "block-00001.npz"):
        a, b = (np.load(tmp_path / str(size) / "blocks" / name) for size in (3, 8))
        np.testing.assert_allclose(a["pos"], b["pos"], atol=1e-4)
        assert not a["valid"].any()


def test_several_sources_go_to_folders_of_their_own_and_a_bad_one_sinks_none(run, model_folder, exact, tmp_path):
    smiles = tmp_path / "two.smi"
    smiles.write_text("CC(=O)N[C@@H](C)C(=O)NC mine\nC(C\n")
    options = ["-n", 4, "-o", tmp_path / "out", "--model", model_folder, "--block-size", 4, "--no-report"]
    done = run("sample", "molecule", "ACE-ALA-NME", "ACE-FOO-NME", smiles, *options)
    assert done.exit_code == 2
    assert "unknown residue 'FOO'" in done.stderr
    assert "line 2" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ACE-ALA-NME", "mine"]
    for name in ("ACE-ALA-NME", "mine"):
        assert len(load_ensemble(tmp_path / "out" / name)) == 4
    assert "mine" in done.stdout


def test_the_report_is_written_beside_the_samples(run, model_folder, exact, tmp_path):
    options = ["-n", 12, "-o", tmp_path / "out", "--model", model_folder, "--block-size", 12]
    done = run("sample", "molecule", "ACE-ALA-NME", *options)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ACE-ALA-NME" in page
    assert "Anything at all." in page


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("ACE-ALO-NME", "unknown residue 'ALO'"),
        ("CC(=O", "nor a valid SMILES"),
        ("CCO", "was trained on"),
        ("CCS", "has S, but the model 'tiny' was trained on"),
        ("CC(=O)N[C@H](C)C(=O)NC", "was trained on"),  # the mirror image is another molecule
        ("nowhere.pdb", "no such file"),
        ("[Na+].[Cl-]", "fragments"),
    ],
)
def test_a_wrong_molecule_is_refused(refuses, model_folder, tmp_path, source, words):
    assert words in refuses("sample", "molecule", source, "-o", tmp_path / "out", "--model", model_folder)
    assert not (tmp_path / "out").exists()


def test_a_malformed_pdb_is_refused(refuses, model_folder, tmp_path):
    (tmp_path / "bad.pdb").write_text("ATOM      1  N   ALA A   1       x.000   0.000   0.000\n")
    sentence = refuses("sample", "molecule", tmp_path / "bad.pdb", "-o", tmp_path / "out", "--model", model_folder)
    assert "bad.pdb" in sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n", 0], "-n: got 0, expected at least 1"),
        (["--steps", 0], "--steps: got 0"),
        (["--batch-size", 0], "--batch-size: got 0"),
        (["--seed", -1], "--seed: got -1"),
        (["--sampler", "dpm2"], "unknown sampler 'dpm2'; did you mean 'dpm2m'?"),
        (["--spacing", "linear"], "unknown spacing 'linear'"),
        (["--format", "trr"], "unknown format 'trr'"),
        (["--churn", 0.1], "'dpm2m' cannot be combined with churn"),
        (["--eta", 0.5], "--eta: has no effect on the sampler 'dpm2m'"),
        (["--model", "molecule-ala9"], "unknown model 'molecule-ala9'"),
    ],
)
def test_a_wrong_option_is_refused(refuses, model_folder, tmp_path, options, words):
    model = [] if "--model" in options else ["--model", model_folder]
    assert words in refuses("sample", "molecule", "ACE-ALA-NME", "-o", tmp_path / "out", *model, *options)
    assert not (tmp_path / "out").exists()


def test_options_reach_the_sampler(run, model_folder, exact, tmp_path):
    done = sample(run, model_folder, tmp_path / "a", "--sampler", "sde", "--eta", 0.5, "--steps", 5, "--spacing", "karras", n=4)
    assert done.exit_code == 0, done.output
    used = json.loads((tmp_path / "a" / "run.json").read_text())["sampler"]
    assert (used["name"], used["eta"], used["grid"]["steps"], used["grid"]["spacing"]) == ("sde", 0.5, 5, "karras")


def test_another_domain_is_refused(refuses, tmp_path):
    assert "unknown domain 'molecul'; did you mean 'molecule'?" in refuses("sample", "molecul", "X", "-o", tmp_path / "out")


def test_a_file_in_place_of_the_folder(refuses, model_folder, tmp_path):
    (tmp_path / "out").write_text("precious")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        assert "is a file" in refuses("sample", "molecule", "ACE-ALA-NME", "-o", out, "--model", model_folder)
    assert (tmp_path / "out").read_text() == "precious"


def test_a_folder_of_another_run_or_of_no_run(run, refuses, model_folder, exact, tmp_path):
    assert sample(run, model_folder, tmp_path / "a", n=4).exit_code == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("precious")
    before = contents(tmp_path)
    arguments = ["sample", "molecule", SMILES, "-n", 4, "--model", model_folder, "--block-size", 8, "--no-report"]
    assert "holds another run: its seed is 0, this run's is 1" in refuses(*arguments, "--seed", 1, "-o", tmp_path / "a")
    assert "holds no run" in refuses(*arguments, "-o", tmp_path / "b")
    assert contents(tmp_path) == before


def test_corrupted_weights(refuses, model_folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("model.json", "model.safetensors"):
        (broken / name).write_bytes((model_folder / name).read_bytes())
    content = bytearray((broken / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    sentence = refuses("sample", "molecule", "ACE-ALA-NME", "-o", tmp_path / "out", "--model", broken)
    assert "the weights are corrupted" in sentence
    assert not (tmp_path / "out").exists()
