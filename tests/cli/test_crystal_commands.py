import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "crystal"))
from known_crystals import conventional_diamond, diamond, graphite, rock_salt, triclinic, write_json

from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.ensemble import CrystalEnsemble

TINY = ["--network", "dim=16", "--network", "pair_dim=8", "--network", "layers=1", "--network", "heads=2"]
TINY += ["--network", "basis=8", "--network", "channels=2", "--batch-size", "8", "--precision", "bf16"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cells = [diamond(), graphite(), diamond(3.6)]
    return write_json(
        tmp_path_factory.mktemp("data") / "carbon.json.gz", [*cells[:2], *[_named(cells[2], f"d{i}") for i in range(3)]]
    )


def _named(structure, name):
    import dataclasses

    return dataclasses.replace(structure, name=name)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    from typer.testing import CliRunner

    from equilibra.cli.main import app

    out = tmp_path_factory.mktemp("runs") / "carbon"
    done = CliRunner().invoke(app, ["train", "crystal", "--data", f"{data}@2", "-o", str(out), "--steps", "3", *TINY])
    assert done.exit_code == 0, done.output
    assert "equilibra sample crystal FORMULA" in done.output
    assert "Trained on 5 structures of 2 composition(s)." in done.output
    return out


def test_structures_are_sampled_into_files(run, trained, tmp_path):
    out = tmp_path / "out"
    done = run("sample", "crystal", "C2", "-n", "4", "--block-size", "10", "--model", trained, "-o", out)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} >= {
        "samples.extxyz",
        "samples.cif.zip",
        "samples.csv",
        "ensemble.json",
        "report.html",
    }
    ensemble = CrystalEnsemble.read(out)
    assert len(ensemble) == 4
    rows = list(csv.DictReader((out / "samples.csv").open()))
    assert float(rows[0]["density_g_cm3"]) == pytest.approx(ensemble.densities[0], rel=1e-4)
    page = (out / "report.html").read_text()
    assert "CRYST1" in page
    assert "Space groups" in page
    again = run("sample", "crystal", "C2", "-n", "4", "--block-size", "10", "--model", trained, "-o", out)
    assert "nothing was changed" in again.output


def test_cells_of_several_sizes_come_as_often_as_in_the_training(run, trained, tmp_path):
    out = tmp_path / "mixed"
    done = run(
        "sample",
        "crystal",
        "C",
        "--atoms",
        "2..8",
        "-n",
        "6",
        "--seed",
        "4",
        "--block-size",
        "10",
        "--no-report",
        "--model",
        trained,
        "-o",
        out,
    )
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "structures.csv").open()))
    assert len(rows) == 6
    assert {row["formula"] for row in rows} == {"C2", "C4"}
    assert len(read_structures(out / "samples.extxyz")) == 6
    counts = {name: json.loads((out / name / "ensemble.json").read_text())["frames"] for name in ("C2", "C4")}
    assert counts["C2"] + counts["C4"] == 6


def test_what_has_no_meaning_is_refused(refuses, trained, tmp_path):
    sample = ["sample", "crystal", "C2", "--model", trained, "-o", tmp_path]
    assert "C8, NaCl or Si2O4" in refuses("sample", "crystal", "Xx3", "--model", trained, "-o", tmp_path)
    assert "has seen no cell of C2" in refuses(*sample, "--atoms", "6..24")
    assert "the smaller number first" in refuses(*sample, "--atoms", "8..6")
    assert "--all-atom: has no meaning for crystals" in refuses(*sample, "--all-atom")
    assert "coordinates are periodic" in refuses(*sample, "--energy", "mmff94")
    assert "cif.zip" in refuses(*sample, "--format", "pdb")
    assert "--atoms: has no meaning for molecules" in refuses("sample", "molecule", "CCO", "--atoms", "3", "-o", tmp_path)
    assert "no meaning for crystals" in refuses("train", "crystal", "--crop", "5", "-o", tmp_path)
    assert "got no data of crystals" in refuses("train", "crystal", "-o", tmp_path)
    assert "no such file" in refuses("train", "crystal", "--data", "none.csv", "-o", tmp_path)


def test_a_report_is_written_again(run, refuses, trained, tmp_path):
    out = tmp_path / "out"
    run("sample", "crystal", "C2", "-n", "3", "--block-size", "8", "--steps", "4", "--no-report", "--model", trained, "-o", out)
    done = run("report", out, "--reference", out / "samples.extxyz", "--no-evaluate")
    assert done.exit_code == 0, done.output
    page = (out / "report.html").read_text()
    assert "CRYST1" in page
    assert f"grey: {out / 'samples.extxyz'}" in page
    assert "for molecules" in refuses("free-energy", out, "--cv", "volume", "--states", "volume<10", "volume>10")


def test_structures_are_converted_without_duplicates(run, refuses, tmp_path):
    pytest.importorskip("pymatgen")
    import dataclasses

    a = write_json(tmp_path / "a.json", [diamond(), conventional_diamond(), graphite(), rock_salt(), triclinic(4)])
    b = write_json(tmp_path / "b.json", [dataclasses.replace(graphite(), name="known")])
    out = tmp_path / "unique.csv"
    done = run("convert", "crystals", a, "--deduplicate", "--without", b, "-o", out)
    assert done.exit_code == 0, done.output
    assert "5 structures read" in done.output
    assert "1 structures dropped that the other files have" in done.output
    assert "1 duplicates dropped (25.0 %)" in done.output
    found = read_structures(out)
    assert [item.name for item in found] == ["diamond", "rock salt", "triclinic 0"]
    assert np.isclose(found[0].volume, diamond().volume)
    assert "ends in .csv or .extxyz" in refuses("convert", "crystals", a, "-o", tmp_path / "out")
    assert "takes one file" in refuses("convert", "dig-features", a, b, "-o", tmp_path / "out")


def test_samples_are_evaluated_and_guided(run, trained, data, tmp_path):
    pytest.importorskip("pymatgen")
    out = tmp_path / "out"
    options = ["--block-size", "8", "--steps", "4", "--no-report", "--model", trained, "-o", out]
    done = run("sample", "crystal", "C2", "-n", "3", "--guide", "density=3.0+-0.3", "--uncorrected", *options)
    assert done.exit_code == 0, done.output
    assert "density" in (out / "samples.csv").read_text().splitlines()[0]
    done = run("evaluate", out, data, "--training", data, "--json", tmp_path / "table.json")
    assert done.exit_code == 0, done.output
    assert "METRe" in done.output
    rows = {row["metric"] for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert rows >= {"valid", "W(density)", "unique", "novel", "METRe", "cRMSE"}
