"""Crystals that are asked for a property, from the command line: labels, guides, judges, relaxation, densities, a check by other means."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "crystal"))
from known_crystals import diamond, graphite, write_json

from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.files import write_table
from equilibra.systems.crystal.judge import judge

TINY = ["--network", "dim=16", "--network", "pair_dim=8", "--network", "layers=1", "--network", "heads=2"]
TINY += ["--network", "basis=8", "--network", "channels=2", "--batch-size", "8", "--precision", "fp32"]
FEW = ["--block-size", "6", "--steps", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A table of carbon with a band gap for all but one."""
    path = tmp_path_factory.mktemp("data") / "carbon.csv"
    cells = [diamond(), graphite(), diamond(3.6), diamond(3.5), graphite(2.5)]
    gaps = [5.5, 0.0, 5.2, 5.8, None]
    named = [
        dataclasses.replace(cell, name=f"c{i}", energy=-9.0 + 0.01 * i, values={} if gap is None else {"band_gap": gap})
        for i, (cell, gap) in enumerate(zip(cells, gaps, strict=True))
    ]
    write_table(path, named)
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    from typer.testing import CliRunner

    from equilibra.cli.main import app

    out = tmp_path_factory.mktemp("runs") / "carbon"
    options = ["--data", str(data), "--label", "band_gap", "--label-dropout", "0.2", "-o", str(out), "--steps", "3", *TINY]
    done = CliRunner().invoke(app, ["train", "crystal", *options])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "composition(s), with the label band_gap." in words
    assert "label band_gap: 0 to 5.8" in words
    assert "known of 80 %" in words
    return out


def test_tables_keep_the_values_of_structures(data, tmp_path):
    found = read_structures(data)
    assert [item.values for item in found[:2]] == [{"band_gap": 5.5}, {"band_gap": 0.0}]
    assert found[4].values == {}
    write_table(tmp_path / "again.extxyz", found)
    assert [item.values.get("band_gap") for item in read_structures(tmp_path / "again.extxyz")] == [5.5, 0.0, 5.2, 5.8, None]


def test_a_computed_property_becomes_a_label(run, refuses, data, tmp_path):
    out = tmp_path / "more.csv"
    done = run("convert", "crystals", data, "--add", "band-gap:megnet", "--add", "volume", "-o", out)
    assert done.exit_code == 0, done.output
    assert "band-gap:megnet: 5 of 5 structures have a value" in done.output
    found = read_structures(out)
    assert found[0].values["band_gap"] == 5.5
    assert found[0].values["band-gap:megnet"] == pytest.approx(4.6, abs=0.5)
    assert found[1].values["volume"] == pytest.approx(graphite().volume / 4)
    assert "did you mean 'band-gap:megnet'" in refuses("convert", "crystals", data, "--add", "band-gap-megnet", "-o", out)


def test_samples_are_asked_for_a_label(run, refuses, trained, tmp_path):
    out = tmp_path / "out"
    fixed = ["sample", "crystal", "C2", "-n", "3", *FEW, "--model", trained]
    done = run(*fixed, "--label", "band_gap=9.0", "--strength", "2", "-o", out)
    assert done.exit_code == 0, done.output
    assert "9 lies outside 0 to 5.8" in " ".join(done.output.split())
    record = json.loads((out / "ensemble.json").read_text())["provenance"]
    assert (record["labels"], record["label_strength"]) == ({"band_gap": 9.0}, 2.0)
    page = (out / "report.html").read_text()
    assert "Asked for band_gap = 9" in page
    assert "classifier-free guidance" in page
    assert "holds another run: its labels.band_gap is 9.0" in refuses(
        *fixed, "--label", "band_gap=5.0", "--strength", "2", "-o", out
    )
    for options, words in (
        (["--label", "bandgap=3"], "has no label 'bandgap'; did you mean 'band_gap'?"),
        (["--label", "band_gap"], "expected the name of a label and a value"),
        (["--label", "band_gap=1", "--label", "band_gap=2"], "is given twice"),
        (["--label", "band_gap=1", "--guide", "density=3", "--strength", "2"], "cannot be that of both"),
        (["--training", "none.csv"], "no such file"),
        (["--label", "band-gap:xtb=3", "--judge", "band-gap:xtb"], "is what the model learned its label from"),
    ):
        assert words in refuses(*fixed, *options, "-o", tmp_path / "none")
    assert "no structure has such a value" in refuses(
        "train", "crystal", "--data", out / "samples.extxyz", "--label", "gap", "-o", tmp_path / "t"
    )
    assert "has an effect with --label only" in refuses(
        "train", "crystal", "--data", out, "--label-dropout", "0.3", "-o", tmp_path / "t"
    )
    assert "for crystals only" in refuses("train", "molecule", "CCO", "--label", "gap", "-o", tmp_path / "t")


def test_guided_samples_are_judged_and_relaxed(run, refuses, trained, data, tmp_path):
    pytest.importorskip("pymatgen")
    out = tmp_path / "out"
    guided = [
        "sample",
        "crystal",
        "C2",
        "-n",
        "3",
        *FEW,
        "--model",
        trained,
        "--guide",
        "band-gap:megnet=3.0+-1",
        "--uncorrected",
    ]
    judged = ["--judge", "band-gap:cgcnn", "--judge", "energy:tight-binding", "--relax", "tight-binding", "--training", data]
    done = run(*guided, *judged, "-o", out)
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "Judged by band-gap:cgcnn: mean and deviation" in words
    assert "% within 3 ± 1 eV, asked of band-gap:megnet" in words
    assert "are not in 'carbon.csv'" in words
    assert "structures relaxed by tight-binding" in words
    rows = list(csv.DictReader((out / "design.csv").open()))
    assert len(rows) == 3
    assert set(rows[0]) >= {
        "target:band-gap:megnet",
        "band-gap:megnet",
        "band-gap:cgcnn",
        "unique",
        "novel",
        "above_diamond_before_ev",
        "above_diamond_after_ev",
    }
    ensemble = CrystalEnsemble.read(out)
    assert set(ensemble.values) == {"band-gap:megnet", "band-gap:cgcnn", "energy:tight-binding"}
    relaxed = read_structures(out / "relaxed.extxyz")
    assert len(relaxed) == 3
    # judged as they are, not as they were
    for name in ("band-gap:cgcnn", "energy:tight-binding"):
        again = judge(relaxed, name)
        assert [item.values[name] for item in relaxed] == pytest.approx(again.tolist(), abs=1e-4)
        assert [float(row[f"relaxed:{name}"]) for row in rows] == pytest.approx(again.tolist(), abs=1e-4)
    assert [float(row["energy:tight-binding"]) for row in rows] != pytest.approx(again.tolist(), abs=1e-3)
    assert "band-gap:megnet" not in relaxed[0].values
    page = (out / "report.html").read_text()
    for title in ("Guidance", "Guide and judge", "Distributions"):
        assert f">{title}<" in page
    again = run(*guided, *judged, "-o", out)
    assert "nothing was changed" in again.output
    assert "guides these samples as well" in refuses(*guided, "--judge", "band-gap:megnet", "-o", tmp_path / "none")
    assert "unknown calculator" in refuses(*guided, "--relax", "dft", "-o", tmp_path / "none")
    assert "--judge: has no meaning for molecules" in refuses("sample", "molecule", "CCO", "--judge", "density", "-o", tmp_path)


def test_densities_of_samples_and_of_files(run, refuses, trained, data, tmp_path):
    out = tmp_path / "out"
    fixed = ["--steps", "2", "--check", "nodes", "--model", trained]
    done = run("density", data, *fixed, "--max", "3", "-o", out)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "density.csv").open()))
    assert [row["name"] for row in rows] == ["c0", "c2", "c4"]
    assert np.isfinite([float(row["log_density"]) for row in rows]).all()
    summary = json.loads((out / "density.json").read_text())
    assert set(summary["by_number_of_atoms"]) == {"2", "4"}
    assert "CRYST1" in (out / "density.html").read_text()
    assert (out / "blocks" / "C2" / "block-00000.npz").is_file()
    again = run("density", data, *fixed, "--max", "3", "-o", out)
    assert again.exit_code == 0
    assert list(csv.DictReader((out / "density.csv").open())) == rows
    told = run("density", data, *fixed, "--max", "3", "--label", "band_gap=5.0", "--no-report", "-o", tmp_path / "told")
    assert told.exit_code == 0, told.output
    other = list(csv.DictReader((tmp_path / "told" / "density.csv").open()))
    assert other[0]["log_density"] != rows[0]["log_density"]
    assert "has no meaning for crystals" in refuses(
        "density", data, "--model", trained, "--energy", "mmff94", "-o", tmp_path / "none"
    )
    assert "say which model drew them" in refuses("density", data, "-o", tmp_path / "none")


def test_a_few_structures_are_checked_by_other_means(run, refuses, data, tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n"
        "from ase.calculators.calculator import Calculator, all_changes\n\n\n"
        "class Levels(Calculator):\n"
        "    implemented_properties = ['energy']\n\n"
        "    def calculate(self, atoms=None, properties=('energy',), system_changes=all_changes):\n"
        "        super().calculate(atoms, properties, system_changes)\n"
        "        self.results = {'energy': -7.0 * len(atoms)}\n\n"
        "    def get_ibz_k_points(self):\n        return np.zeros((2, 3))\n\n"
        "    def get_number_of_spins(self):\n        return 1\n\n"
        "    def get_fermi_level(self):\n        return 1.0\n\n"
        "    def get_eigenvalues(self, kpt=0, spin=0):\n        return np.array([-2.0, 0.5 * kpt, 3.0 - kpt])\n\n\n"
        "def levels():\n    return Levels()\n"
    )
    out = tmp_path / "table.csv"
    done = run("verify", data, "--calculator", f"{path}:levels", "-n", "2", "-o", out)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(out.open()))
    # the highest filled level is 0.5 at the second point, the lowest empty one 2.0 there
    assert [float(row["gap_ev"]) for row in rows] == [1.5, 1.5]
    assert float(rows[0]["energy_per_atom_ev"]) == -7.0
    assert rows[0]["band_gap"] == "5.5"
    assert "say how" in refuses("verify", data, "-o", out)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "apt-get install libxc-dev" in refuses("verify", data, "--dft", "-o", out)


def test_evaluation_without_pymatgen_says_what_is_missing(run, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatgen.analysis.structure_matcher", None)
    monkeypatch.setitem(sys.modules, "pymatgen.core", None)
    done = run("evaluate", data, data, "--judge", "band-gap:megnet")
    assert done.exit_code == 0, done.output
    assert "Not computed: unique, METRe and cRMSE: " in done.output
    assert "pip install 'equilibra[crystal]'" in done.output
    assert "W(density)" in done.output
    assert "W(band-gap:megnet)" in done.output


def test_what_a_json_file_gives_goes_along(tmp_path):
    path = write_json(tmp_path / "a.json", [diamond()])
    assert read_structures(path)[0].values == {}
    text = json.loads(path.read_text())["diamond"]
    path.write_text(json.dumps({"x": {"poscar": text, "band_gap": 5.4, "note": "from a table", "energy_per_atom": -9.0}}))
    (found,) = read_structures(path)
    assert (found.energy, found.values) == (-9.0, {"band_gap": 5.4})
