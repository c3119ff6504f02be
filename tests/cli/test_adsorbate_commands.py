"""Adsorbates from the command line: train from an energy and from trajectories, sample with weights, map, evaluate; what is refused."""

import csv
import json

import ase.db
import ase.io
import numpy as np
import pytest

from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble

TINY = ["--network", "dim=16", "--network", "pair_dim=8", "--network", "layers=1", "--network", "heads=2"]
TINY += ["--network", "basis=8", "--network", "channels=2", "--batch-size", "8"]
SLAB = "Pt(111) 1x1x3"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from typer.testing import CliRunner

    from equilibra.cli.main import app

    out = tmp_path_factory.mktemp("runs") / "metals"
    command = [
        "train",
        "adsorbate",
        "--slab",
        SLAB,
        "--slab",
        "Cu(100) 2x2x2",
        "--adsorbate",
        "O",
        "--energy",
        "emt",
        "-o",
        str(out),
    ]
    command += ["--steps", "4", "--walkers", "4", "--rungs", "3", "--sweeps", "4", *TINY]
    for _ in range(2):  # a finished run is not done again
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "2 system(s): O@Pt(111) 1x1x3, O@Cu(100) 2x2x2" in done.output
    assert json.loads((out / "model" / "model.json").read_text())["scope"]["temperatures"] == [300.0, 1500.0]
    assert len(AdsorbateEnsemble.read(out / "walkers" / "001")) > 0
    return out


@pytest.fixture(scope="module")
def sampled(trained, tmp_path_factory):
    from typer.testing import CliRunner

    from equilibra.cli.main import app

    out = tmp_path_factory.mktemp("samples") / "oxygen"
    command = ["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "-n", "6", "--block-size", "20", "--levels", "4"]
    command += [
        "--energy",
        "emt",
        "--temperature",
        "700",
        "--model",
        str(trained / "model"),
        "-o",
        str(out),
        "--format",
        "traj",
    ]
    command += ["--format", "extxyz", "--format", "db", "--format", "npz"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "Weights for emt at 700 K" in done.output
    assert "occupied sites" in done.output
    assert "free energy (eV)" in done.output
    again = CliRunner().invoke(app, command)
    assert "nothing was changed" in again.output
    return out


def test_files_of_samples(sampled):
    names = {path.name for path in sampled.iterdir()}
    assert names >= {
        "samples.traj",
        "samples.extxyz",
        "samples.db",
        "samples.npz",
        "samples.csv",
        "ensemble.json",
        "report.html",
    }
    ensemble = AdsorbateEnsemble.read(sampled)
    assert len(ensemble) == 6
    frames = ase.io.read(sampled / "samples.traj", index=":")
    assert len(frames) == 6
    assert all(np.array_equal(atoms.positions[:3], ensemble.system.slab.positions) for atoms in frames)
    assert np.allclose([atoms.get_potential_energy() for atoms in frames], ensemble.energies)
    with ase.db.connect(sampled / "samples.db") as table:
        assert len(table) == 6
    rows = list(csv.DictReader((sampled / "samples.csv").open()))
    assert {row["site_1"] for row in rows} <= {"0", "1", "2", "3"}
    assert {row["desorbed"] for row in rows} <= {"0", "1"}
    assert set(rows[0]) >= {"log_weight", "energy_ev", "site_1", "desorbed", "intercalated"}
    told = json.loads((sampled / "ensemble.json").read_text())["adsorbate"]
    assert sum(row["population"] for row in told["populations"]) == pytest.approx(1.0)
    page = (sampled / "report.html").read_text()
    for heading in ("Sites", "Where they are", "Structures", "Anomalies", "Validity"):
        assert f"<h2>{heading}</h2>" in page or heading in page


def test_guided_samples(run, trained, tmp_path):
    out = tmp_path / "guided"
    own = tmp_path / "own.py"
    own.write_text("def high(x, system):\n    return x[:, 0, 2] - system.top\n")
    command = ["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "-n", "2", "--block-size", "20", "--steps", "6"]
    command += ["--model", trained / "model", "--guide", "height:1=1.5..3+-0.2", "--guide", f"{own}:high=2+-1", "-o", out]
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert "Guided to height:1 1.5 to 3 Å: weighted mean" in done.output
    ensemble = AdsorbateEnsemble.read(out)
    heights = ensemble.positions[:, 0, 2] - ensemble.system.top
    assert np.allclose(ensemble.values["height:1"], heights, atol=1e-4)
    assert np.allclose(ensemble.values["own.py:high"], heights, atol=1e-4)
    assert "Guidance" in (out / "report.html").read_text()
    again = run(*command)
    assert "already holds 2" in again.output


def test_relaxed_sites(run, sampled, trained):
    command = ["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "-n", "6", "--block-size", "20", "--levels", "4"]
    command += ["--energy", "emt", "--temperature", "700", "--model", trained / "model", "-o", sampled]
    command += [part for name in ("traj", "extxyz", "db", "npz") for part in ("--format", name)]
    done = run(*command, "--relax", "emt", "--relax-layers", "1")
    assert done.exit_code == 0, done.output
    assert "one of each site, relaxed by emt with the top 1 layers free; lowest at" in " ".join(done.output.split())
    rows = list(csv.DictReader((sampled / "relaxed.csv").open()))
    frames = ase.io.read(sampled / "relaxed.traj", index=":")
    ensemble = AdsorbateEnsemble.read(sampled)
    assert [row["site"] for row in rows] == [row.label for row in ensemble.populations_of_sites()]
    assert len(frames) == len(rows) == len(ase.io.read(sampled / "relaxed.extxyz", index=":"))
    for row, atoms in zip(rows, frames, strict=True):
        assert float(row["energy_after_ev"]) <= float(row["energy_before_ev"]) + 1e-6
        assert np.array_equal(atoms.positions[:2], ensemble.system.slab.positions[:2])
        assert atoms.info["site"] == row["site"]
    assert "Relaxed structures" in (sampled / "report.html").read_text()
    assert "nothing was changed" in run(*command, "--relax", "emt", "--relax-layers", "1").output
    assert "nothing was changed" not in run(*command, "--relax", "emt").output


def test_maps(run, sampled):
    done = run("density-map", sampled, "--grid", "6,6,4", "--exact", "emt", "--smooth", "0.3")
    assert done.exit_code == 0, done.output
    folder = sampled / "density-map"
    assert {path.name for path in folder.iterdir()} >= {
        "density.cube",
        "density.npz",
        "density.png",
        "density.html",
        "reference.cube",
        "difference.json",
    }
    difference = json.loads((folder / "difference.json").read_text())
    assert -1.0 <= difference["correlation"] <= 1.0
    assert difference["js_bits_floor"] > 0.0  # six draws of a perfect sampler
    assert 0.0 <= difference["js_bits_plane"] <= 1.0
    again = run(
        "density-map",
        sampled,
        "--grid",
        "6,6,4",
        "--smooth",
        "0.3",
        "--reference",
        folder / "density.npz",
        "-o",
        folder / "two",
    )
    assert again.exit_code == 0, again.output
    assert json.loads((folder / "two" / "difference.json").read_text())["js_bits"] == pytest.approx(0.0, abs=1e-9)


def test_evaluation_against_itself(run, sampled, tmp_path):
    done = run("evaluate", sampled, sampled, "--placement", "emt", "--json", tmp_path / "metrics.json")
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row for row in json.loads((tmp_path / "metrics.json").read_text())["rows"]}
    assert rows["TV(sites)"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert rows["JS(map)"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert rows["site recall"]["value"] == 1.0
    assert 0.0 <= rows["SR@1"]["value"] <= rows["SR@5"]["value"] <= 1.0
    assert rows["energy calls"]["value"] > 1


def test_training_on_trajectories(run, sampled, tmp_path):
    out = tmp_path / "run"
    done = run("train", "adsorbate", "--data", sampled / "samples.traj", "-o", out, "--steps", "3", *TINY)
    assert done.exit_code == 0, done.output
    assert "Trained on 6 frames of 1 slab(s) with adsorbates." in done.output
    tuned = run(
        "fine-tune",
        out / "model",
        "--data",
        sampled / "samples.traj",
        "-o",
        tmp_path / "tuned",
        "--steps",
        "2",
        "--batch-size",
        "4",
    )
    assert tuned.exit_code == 0, tuned.output
    assert "trained further on 6 frames" in tuned.output
    drawn = run(
        "sample",
        "adsorbate",
        "O@Pt(111) 1x1x3",
        "-n",
        "1",
        "--block-size",
        "20",
        "--model",
        out / "model",
        "-o",
        tmp_path / "o",
    )
    assert drawn.exit_code in (0, 1), drawn.output  # three steps teach little: there may be no valid sample


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "COO2"], "is no file and none of the"),
        (["sample", "adsorbate", "--adsorbate", "O"], "got one without a --slab"),
        (["sample", "adsorbate"], "give a --slab with an --adsorbate"),
        (["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "S"], "has S, but the model"),
        (["sample", "adsorbate", "--slab", "Pt(111) 3x3x3", "--adsorbate", "N"], "has N, but the model"),
        (["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "--guide", "height:2=1"], "there is no mobile atom '2'"),
        (
            ["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "--relax-layers", "1"],
            "--relax-layers: has an effect with --relax only",
        ),
        (
            ["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "--relax", "emt", "--relax-layers", "3"],
            "--relax-layers: got 3, expected from 0 to 2",
        ),
        (["sample", "adsorbate", "--slab", SLAB, "--adsorbate", "O", "--relax", "nothing"], "nothing"),
        (["sample", "molecule", "CCO", "--relax", "emt"], "--relax: has no meaning for molecules"),
        (["sample", "crystal", "C8", "--relax-layers", "1"], "--relax-layers: has no meaning for crystals"),
        (["sample", "molecule", "CCO", "--slab", SLAB], "--slab: has no meaning for molecules"),
        (["sample", "molecule"], "got nothing to sample"),
        (["train", "adsorbate", "--slab", SLAB, "--adsorbate", "O"], "expected either --energy"),
        (["train", "molecule", "--slab", SLAB, "--energy", "mmff94"], "--slab has a meaning for adsorbates only"),
    ],
)
def test_what_is_refused(run, trained, tmp_path, command, message):
    extra = ["--model", trained / "model"] if command[:2] == ["sample", "adsorbate"] else []
    done = run(*command, *extra, "-o", tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
