"""`equilibra sample --guide`: the summary in words, files, resume, the report, and wrong options in one sentence."""

import json

import numpy as np
import pytest

from equilibra.systems.molecule import load_ensemble

SMILES = "CC(=O)N[C@@H](C)C(=O)NC"
GUIDE = ["--guide", "distance:1,2=1.52+-0.02"]


def sample(run, model_folder, out, *options, n=20, report="--no-report"):
    fixed = ["-n", n, "-o", out, "--model", model_folder, "--block-size", 10, report]
    return run("sample", "molecule", SMILES, *fixed, *options)


def test_guides_are_in_the_files_in_words_and_on_the_page(run, model_folder, exact, tmp_path):
    out = tmp_path / "out"
    done = sample(run, model_folder, out, *GUIDE, "--guide", "radius-of-gyration=max+-0.01", report="--report")
    assert done.exit_code == 0, done.output
    assert "Guided to distance:1,2 1.52 ± 0.02 Å: weighted mean" in done.stdout
    assert "Guided to radius-of-gyration large, e-fold per 0.01 Å: weighted mean" in done.stdout
    assert "of 20 (" in done.stdout
    assert "average likelihood of the model's samples" in done.stdout
    assert "4 network calls each" in done.stdout
    ensemble = load_ensemble(out)
    record = json.loads((out / "ensemble.json").read_text())["provenance"]
    assert record["guidance"]["sentence"] in done.stdout
    assert record["guides"] == ["distance:1,2=1.52+-0.02", "radius-of-gyration=max+-0.01"]
    assert set(ensemble.values) == {"distance:1,2", "radius-of-gyration"}
    assert np.ptp(ensemble.log_weights) > 0.0
    page = (out / "report.html").read_text()
    assert ">Guidance<" in page
    assert "radius-of-gyration (Å)" in page
    assert "the model&#x27;s distribution times the likelihood" in page
    assert record["guidance"]["sentence"] in page.replace("&#x27;", "'")
    again = sample(run, model_folder, out, *GUIDE, "--guide", "radius-of-gyration=max+-0.01", report="--report")
    assert "already holds 20 conformations" in again.stdout
    assert "Guided to distance:1,2 1.52 ± 0.02 Å: weighted mean" in again.stdout
    grown = sample(run, model_folder, out, *GUIDE, "--guide", "radius-of-gyration=max+-0.01", n=30)
    assert "going on" in grown.stdout
    np.testing.assert_array_equal(load_ensemble(out).log_weights[:20], ensemble.log_weights)


def test_an_uncorrected_run_says_that_it_is_a_guess(run, model_folder, exact, tmp_path):
    options = ["--uncorrected", "--strength", 2, "--sampler", "euler"]
    done = sample(run, model_folder, tmp_path / "out", *GUIDE, *options, report="--report")
    assert done.exit_code == 0, done.output
    assert "to the power of 2: mean and deviation" in done.stdout
    assert "a guess of the wanted distribution: without the correction they have no weights" in done.stdout
    assert not load_ensemble(tmp_path / "out").log_weights.any()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a guess of the wanted distribution" in page
    assert ">Weights<" not in page


def test_an_own_function_and_one_without_gradient(run, model_folder, exact, tmp_path):
    path = tmp_path / "my own.py"
    path.write_text("def span(x, system):\n    return (x[:, 0] - x[:, -1]).norm(dim=-1)\n")
    done = sample(run, model_folder, tmp_path / "a", "--guide", f"{path}:span=..6")
    assert done.exit_code == 0, done.output
    assert "Guided to my own.py:span at most 6 (tolerance" in done.stdout
    assert "0.1 of the standard deviation in 200 samples of the model)" in done.stdout
    assert (tmp_path / "a" / "blocks" / "guides.json").is_file()
    done = sample(run, model_folder, tmp_path / "b", "--guide-external", f"{path}:span=..6+-0.1", "--guide", "distance:1,2=1.5")
    assert done.exit_code == 0, done.output
    assert "my own.py:span=..6+-0.1, by weights alone [" in (tmp_path / "b" / "ensemble.json").read_text()


def test_the_default_population_is_larger_than_the_default_block(run, model_folder, exact, tmp_path):
    for options, size in (([*GUIDE], 100), ([*GUIDE, "--uncorrected"], 50), ([], 50)):
        out = tmp_path / f"out{len(options)}"
        fixed = ["-n", 5, "-o", out, "--model", model_folder, "--no-report"]
        assert run("sample", "molecule", SMILES, *fixed, *options).exit_code == 0
        assert json.loads((out / "run.json").read_text())["block_size"] == size


def test_a_guided_run_is_not_taken_for_another(run, refuses, model_folder, exact, tmp_path):
    assert sample(run, model_folder, tmp_path / "out", *GUIDE).exit_code == 0
    fixed = ["sample", "molecule", SMILES, "-n", 20, "-o", tmp_path / "out", "--model", model_folder, "--block-size", 10]
    assert "holds another run: its guides is" in refuses(*fixed, "--guide", "distance:1,2=1.52+-0.03")
    assert "holds another run: its guides is" in refuses(*fixed, *GUIDE, "--strength", 2)
    assert "holds another run: its corrected is" in refuses(*fixed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--guide", "radius-of-gyraton=3"], "unknown property 'radius-of-gyraton'; did you mean 'radius-of-gyration'?"),
        (["--guide", "distance:1,99=3"], "there is no atom '99'"),
        (["--guide", "distance:1,2"], "expected NAME=WISH"),
        (["--guide", "distance:1,2=near"], "expected a value such as 3.0"),
        (["--guide", "missing.py:f=3"], "no such file: 'missing.py'"),
        ([*GUIDE, "--energy", "mmff94"], "--guide: cannot be combined with --energy"),
        ([*GUIDE, "--strength", 0], "--strength: got 0, expected a positive number"),
        ([*GUIDE, "--sampler", "heun"], "sampler: got 'heun', but guided samples with weights follow"),
        ([*GUIDE, "--eta", 0.5], "--eta: has no effect on the sampler 'sde2m'"),
        ([*GUIDE, "--churn", 0.5], "sampler 'sde2m' cannot be combined with churn"),
        ([*GUIDE, "--block-size", 1], "a guided block is one population"),
        (["--guide-external", "distance:1,2=1.5", "--uncorrected"], "steers by weights alone"),
        (["--strength", 2], "--strength: has an effect with --guide or --label only"),
        (["--uncorrected"], "--uncorrected: has an effect with --guide only"),
    ],
)
def test_wrong_options_are_refused(refuses, model_folder, tmp_path, options, words):
    out = tmp_path / "out"
    assert words in refuses("sample", "molecule", SMILES, "-o", out, "--model", model_folder, *options)
    assert not out.exists()


def test_the_reverse_diffusion_of_second_order_has_a_name(run, model_folder, exact, tmp_path):
    done = sample(run, model_folder, tmp_path / "out", "--sampler", "sde2m", "--steps", 7)
    assert done.exit_code == 0, done.output
    assert "8 network calls each" in done.stdout
