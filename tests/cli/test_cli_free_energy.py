"""`equilibra free-energy`: exact numbers of made-up ensembles, honoured weights, files, and refusals in one sentence."""

import csv
import json
import math

import numpy as np
import pytest
from turned_alanine import turned

import equilibra
from equilibra.cli.free_energy import spread
from equilibra.systems.molecule.files import write_frames
from equilibra.units import KJ_PER_MOL_EV, thermal_energy

RNG = np.random.default_rng(0)
# 30 of 120 frames have a positive phi
PHI = np.concatenate([RNG.uniform(-2.8, -0.5, 90), RNG.uniform(0.5, 1.5, 30)])[RNG.permutation(120)]
PSI = RNG.uniform(-3.0, 3.0, 120)
MODEL = {"model": "tiny", "temperature_k": 310.0, "timing": {"seconds": 1.0}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a plain ensemble, a weighted one, one whose weights are bad, and a trajectory with its topology."""
    folder = tmp_path_factory.mktemp("ensembles")
    plain = turned(PHI, PSI, provenance=MODEL)
    plain.save(folder / "plain", formats=("npz",))
    write_frames(folder / "md.npz", plain.positions, plain.system)
    write_frames(folder / "top.pdb", plain.positions[:1], plain.system)
    log_weights = np.where(PHI > 0, math.log(3.0), 0.0)
    energies = -log_weights * thermal_energy(310.0)
    weighted = turned(
        PHI, PSI, log_weights=log_weights, energies=energies, provenance={**MODEL, "path_weights": {"log_z": 1.0, "n": 120}}
    )
    weighted.save(folder / "weighted", formats=("npz",))
    bad = turned(PHI, log_weights=7.0 * RNG.normal(size=120), provenance=MODEL)
    bad.save(folder / "bad", formats=("npz",))
    return folder


def test_populations_and_differences_are_exact(run, folders, tmp_path):
    out = tmp_path / "out"
    done = run("free-energy", folders / "plain", "--cv", "phi", "--states", "phi<0", "phi>0", "-o", out)
    assert done.exit_code == 0, done.output
    assert "75.0 %" in done.stdout
    assert "those of the model" in done.stdout
    values = json.loads((out / "free-energy.json").read_text())
    assert [s["count"] for s in values["states"]] == [90, 30]
    assert [s["population"]["value"] for s in values["states"]] == [0.75, 0.25]
    (difference,) = values["differences"]
    assert difference["kt"]["value"] == pytest.approx(math.log(3.0))
    assert difference["kj_per_mol"]["value"] == pytest.approx(math.log(3.0) * thermal_energy(310.0) / KJ_PER_MOL_EV)
    assert (values["samples"], values["temperature_k"], values["schema_version"]) == ("independent", 310.0, 1)
    assert values["collective_variable"] == {"name": "phi ALA2", "unit": "rad"}
    with (out / "profile.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["count"]) for row in rows) == 120
    assert min(float(row["free_energy_kt"]) for row in rows if row["free_energy_kt"]) == 0.0
    assert float(rows[0]["phi ALA2 from (rad)"]) == pytest.approx(-np.pi, abs=1e-6)
    page = (out / "free-energy.html").read_text()
    assert "φ&lt;0" in page
    assert "75.0 %" in page
    assert not (out / "surface.csv").exists()


def test_weights_count_and_give_absolute_quantities(run, folders):
    done = run("free-energy", folders / "weighted", "--cv", "phi", "--second-cv", "psi", "--states", "phi<0", "0 < phi < 2")
    assert done.exit_code == 0, done.output
    out = folders / "weighted" / "free-energy"
    values = json.loads((out / "free-energy.json").read_text())
    assert [s["population"]["value"] for s in values["states"]] == pytest.approx([0.5, 0.5])
    assert values["differences"][0]["kt"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert values["weights"]["effective_samples"] == pytest.approx(180**2 / (90 + 9 * 30))
    assert values["absolute"]["log_z"]["value"] == pytest.approx(math.log(180 / 120))
    # u is 0 or -ln 3, each with half of the weight
    assert values["absolute"]["entropy_k"]["value"] == pytest.approx(-0.5 * math.log(3.0) + math.log(1.5))
    assert values["absolute"]["heat_capacity_k"]["value"] == pytest.approx(0.25 * math.log(3.0) ** 2)
    with (out / "surface.csv").open() as file:
        assert sum(int(row["count"]) for row in csv.DictReader(file)) == 120
    assert "log Z" in done.stdout
    assert "Effective sample size 90 of 120" in done.stdout


def test_weights_that_cannot_be_trusted_are_refused(run, refuses, folders, tmp_path):
    arguments = ["free-energy", folders / "bad", "--cv", "phi", "--states", "phi<0", "phi>0", "-o", tmp_path / "out"]
    sentence = refuses(*arguments)
    assert "not to be trusted" in sentence
    assert "--allow-untrusted" in sentence
    assert not (tmp_path / "out").exists()
    done = run(*arguments, "--allow-untrusted")
    assert done.exit_code == 0
    assert "do not build on them" in done.stdout


def test_a_trajectory_has_blocks_and_needs_a_temperature_for_units(run, folders, tmp_path):
    pair = f"{folders / 'md.npz'}:{folders / 'top.pdb'}"
    done = run("free-energy", pair, "--cv", "phi", "--states", "phi<0", "phi>0", "-o", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "statistical inefficiency" in done.stdout
    assert "temperature is not known" in done.stdout
    options = ["--topology", folders / "top.pdb", "--block", 10, "--temperature", 300, "-o", tmp_path / "b"]
    done = run("free-energy", folders / "md.npz", "--cv", "phi", "--states", "phi<0", "phi>0", *options)
    assert done.exit_code == 0, done.output
    assert "12 contiguous blocks of 10 frames (as given)" in done.stdout
    values = json.loads((tmp_path / "b" / "free-energy.json").read_text())
    assert (values["samples"], values["block_frames"], values["temperature_k"]) == ("time series", 10, 300.0)


def test_other_variables(run, folders, tmp_path):
    for cv, unit in (("distance:1,19", "angstrom"), ("angle:2,9,19", "rad"), ("dihedral:2,7,9,19", "rad"), ("rg", "angstrom")):
        done = run("free-energy", folders / "plain", "--cv", cv, "--states", "psi>0", "-o", tmp_path / "out")
        assert done.exit_code == 0, done.output
        values = json.loads((tmp_path / "out" / "free-energy.json").read_text())
        assert values["collective_variable"] == {"name": cv, "unit": unit}
        assert values["states"][0]["count"] == int((PSI > 0).sum())
        assert values["differences"] == []


def test_an_empty_state_is_a_bound_in_words(run, folders, tmp_path):
    done = run("free-energy", folders / "plain", "--cv", "phi", "--states", "phi<0", "2<phi", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "No sample with weight is in '2<phi'" in done.stdout
    values = json.loads((tmp_path / "out" / "free-energy.json").read_text())
    assert values["differences"][0]["kt"]["value"] is None
    assert values["differences"][0]["kt"]["low"] == pytest.approx(-math.log(1 / 0.05 ** (1 / 90) - 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cv", "chi1"], "unknown collective variable 'chi1' (known: phi ALA2, psi ALA2"),
        (["--cv", "phi", "--second-cv", "phi ALA2"], "the second collective variable is the first"),
        (["--cv", "phi", "--states", "phi<0", "phi<0.6"], "overlap: 9"),
        (["--cv", "phi", "--states", "phi<0", "phi < 0", "phi<0"], "the same state is given twice"),
        (["--cv", "phi", "--states", "phi<180"], "write 180deg"),
        (["--cv", "phi", "--states", "open('x')"], "unknown collective variable 'open'"),
        (["--cv", "phi", "--states", "2<phi<3"], "none of 120 conformations is in '2<phi<3'"),
        (["--cv", "phi", "--temperature", 400], "free energies at another temperature need an ensemble of that temperature"),
        (["--cv", "phi", "--temperature", 0], "--temperature: got 0"),
        (["--cv", "phi", "--block", 61], "block: got 61 frames, expected 1 to 60"),
        (["--cv", "phi", "--bins", 1], "--bins: got 1"),
        (["--cv", "distance:1,99"], "no atom 99; the molecule's atoms are 1 to 22"),
    ],
)
def test_wrong_questions_are_one_sentence(refuses, folders, tmp_path, options, words):
    assert words in refuses("free-energy", folders / "plain", *options, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_need_a_place_to_write_to(refuses, folders, tmp_path):
    assert "no such file" in refuses("free-energy", tmp_path / "none", "--cv", "phi")
    assert "say where to write" in refuses("free-energy", folders / "top.pdb", "--cv", "phi")
    assert "is a file" in refuses("free-energy", folders / "plain", "--cv", "phi", "-o", folders / "top.pdb")


def test_states_are_taken_up_to_the_next_option():
    assert spread(["out", "--states", "phi<0", "-2<phi", "--cv", "phi"]) == [
        "out", "--states=phi<0", "--states=-2<phi", "--cv", "phi",
    ]  # fmt: skip
    assert spread(["--states=a", "x", "-o", "y"]) == ["--states=a", "x", "-o", "y"]


def test_the_python_function_is_the_same(folders):
    result = equilibra.free_energy(folders / "plain", cv="phi", states=["phi<0", "phi>0"], resamples=50)
    assert result.differences[0].kt.value == pytest.approx(math.log(3.0))
    assert result.states[0].spans[0] == (pytest.approx(-np.pi), pytest.approx(0.0, abs=0.005))
    with pytest.raises(AttributeError):
        result.name = "other"
    pieces = [turned(PHI[:60], provenance=MODEL), turned(PHI[60:], provenance=MODEL)]
    assert equilibra.free_energy(pieces, cv="phi", states="phi<0", resamples=50).states[0].count == 90
