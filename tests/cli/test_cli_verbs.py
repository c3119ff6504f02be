"""`simulate`, `evaluate`, `interpolate`, `report`, `train` and `fine-tune`: thin, and strict with what they are given."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from equilibra.systems.molecule import MoleculeEnsemble, load_ensemble, molecule_system
from equilibra.systems.molecule.files import write_frames
from equilibra.systems.molecule.reference import write_reference


@pytest.fixture(scope="module")
def system():
    return molecule_system("ACE-ALA-NME")


def frames_of(system, count, seed, width=0.02):
    rng = np.random.default_rng(seed)
    return (system.reference + width * rng.normal(size=(count, system.atoms, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def files(system, tmp_path_factory):
    """A topology, trajectories with forces, and one trajectory each with NaN, and of other atoms."""
    folder = tmp_path_factory.mktemp("files")
    x = frames_of(system, 40, 0)
    write_frames(folder / "top.pdb", x[:1], system)
    write_frames(folder / "good.xtc", x, system)
    np.savez(folder / "good.npz", positions=x)
    np.savez(folder / "forces.npz", forces=np.zeros_like(x))
    bad = x.copy()
    bad[7, 3, 1] = np.nan
    np.savez(folder / "nan.npz", positions=bad)
    np.savez(folder / "short.npz", positions=x[:, :-1])
    np.savez(folder / "few-forces.npz", forces=np.zeros((3, system.atoms, 3)))
    return folder


@pytest.fixture(scope="module")
def samples(system, tmp_path_factory):
    """Folders of two ensembles."""
    folder = tmp_path_factory.mktemp("samples")
    for name, seed in (("a", 1), ("b", 2)):
        provenance = {"temperature_k": 300.0, "frame_interval_ps": 1.0}
        ensemble = MoleculeEnsemble.from_frames(system, frames_of(system, 60, seed), provenance=provenance)
        assert len(ensemble) > 50
        ensemble.save(folder / name)
    return folder


def test_simulate_prints_a_summary_and_writes_the_runs(run, tmp_path):
    arguments = ["simulate", "ACE-ALA-NME", "--frame-interval", "2fs", "--platform", "Reference", "-o", tmp_path / "md"]
    done = run(*arguments, "--time", "0.4ps", "--replica-exchange", 2, "--top-temperature", 400, "--runs", 1)
    assert done.exit_code == 0, done.output
    assert "200 frames" in done.stdout
    assert "300 - 400 K" in done.stdout
    assert "phi>0 of ALA2" in done.stdout
    assert load_ensemble(tmp_path / "md" / "trajectory-0.dcd", tmp_path / "md" / "topology.pdb").positions.shape == (200, 22, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time", "0ns"], "--time: got '0ns'"),
        (["--time", "5 hours"], "--time: got '5 hours'"),
        (["--time", "1ns", "--time-step", "fast"], "--time-step: got 'fast'"),
        (["--time", "1ns", "--runs", 0], "--runs: got 0"),
        (["--time", "1ns", "--constraints", "all"], "unknown constraints 'all'"),
        (["--time", "1ns", "--platform", "GPU"], "unknown platform 'GPU'; did you mean 'CPU'?"),
        (["--time", "1ns", "--replica-exchange", 3, "--top-temperature", 250], "--top-temperature: got 250 K"),
        (["--time", "1ns", "--force-field", "amber99sbildn"], "did you mean 'amber99sbildn-obc'?"),
        (["--time", "1ns", "--temperature", -3], "temperature: got -3"),
    ],
)
def test_simulate_refuses_wrong_options(refuses, tmp_path, options, words):
    assert words in refuses("simulate", "ACE-ALA-NME", "-o", tmp_path / "md", *options)
    assert not (tmp_path / "md").exists()


def test_simulate_refuses_an_unknown_residue_and_a_file_for_a_folder(refuses, tmp_path):
    assert "unknown residue 'ALX'" in refuses("simulate", "ACE-ALX-NME", "--time", "1ns", "-o", tmp_path / "md")
    (tmp_path / "file").write_text("precious")
    assert "is a file" in refuses("simulate", "ACE-ALA-NME", "--time", "1ns", "-o", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_evaluate_prints_the_table_and_writes_its_numbers(run, samples, tmp_path):
    done = run("evaluate", samples / "a", samples / "b", "-n", 30, "--lag", 0, "--json", tmp_path / "out" / "m.json")
    assert done.exit_code == 0, done.output
    assert "floor" in done.stdout
    table = json.loads((tmp_path / "out" / "m.json").read_text())
    assert table["ensemble_frames"] > 50
    names = [row["metric"] for row in table["rows"]]
    assert any("stereo" in name for name in names)
    pair = f"{samples / 'a' / 'samples.xtc'}:{samples / 'a' / 'topology.pdb'}"
    again = run("evaluate", pair, samples / "b", "-n", 30, "--lag", 0)
    assert again.exit_code == 0, again.output


def test_evaluate_refuses_what_cannot_be_compared(refuses, samples, system, tmp_path):
    assert "no such file or folder" in refuses("evaluate", samples / "a", tmp_path / "none")
    assert "-n: got 0" in refuses("evaluate", samples / "a", samples / "b", "-n", 0)
    (tmp_path / "empty").mkdir()
    assert "holds no ensemble" in refuses("evaluate", tmp_path / "empty", samples / "b")
    other = molecule_system("CCO")
    MoleculeEnsemble(system=other, positions=np.repeat(other.reference[None], 9, axis=0)).save(tmp_path / "ethanol")
    assert "different molecules" in refuses("evaluate", tmp_path / "ethanol", samples / "b")
    from rdkit import Chem

    shuffled = molecule_system(Chem.RenumberAtoms(system.mol, list(range(system.atoms))[::-1]))
    MoleculeEnsemble(system=shuffled, positions=np.repeat(shuffled.reference[None], 9, axis=0)).save(tmp_path / "shuffled")
    assert "different order" in refuses("evaluate", tmp_path / "shuffled", samples / "b")


def ends(system, folder):
    """Two conformations, the second turned and moved."""
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    a, b = frames_of(system, 2, 5, width=0.005)
    write_frames(folder / "a.pdb", a[None], system)
    write_frames(folder / "b.pdb", (b @ turn.T + 7.0)[None], system)
    return folder / "a.pdb", folder / "b.pdb"


def test_interpolate_writes_the_path(run, model_folder, exact, system, tmp_path):
    a, b = ends(system, tmp_path)
    write_reference(model_folder / "reference.npz", frames_of(system, 300, 3), system, "the reference")
    done = run("interpolate", a, b, "--steps", 5, "--network-steps", 40, "--model", model_folder, "-o", tmp_path / "path")
    (model_folder / "reference.npz").unlink()
    assert done.exit_code == 0, done.output
    assert "5 conformations, 5 of them valid" in done.stdout
    with (tmp_path / "path" / "path.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["fraction"] for row in rows] == ["0.000000", "0.250000", "0.500000", "0.750000", "1.000000"]
    path = load_ensemble(tmp_path / "path" / "path.xtc", tmp_path / "path" / "path.pdb")
    torsions = path.torsions()
    first, last = (load_ensemble(end).torsions() for end in (a, b))
    for name, values in torsions.items():
        assert float(rows[2][f"{name} (degrees)"]) == pytest.approx(np.degrees(values[2]), abs=1.5)
        assert values[0] == pytest.approx(first[name][0], abs=0.1)
        assert values[-1] == pytest.approx(last[name][0], abs=0.1)
    page = (tmp_path / "path" / "report.html").read_text()
    assert "the reference" in page
    assert "not its mechanism" in page or "hypothesis" in page


def test_interpolate_refuses_two_molecules_and_wrong_numbers(refuses, model_folder, system, tmp_path):
    a, b = ends(system, tmp_path)
    other = molecule_system("CCO")
    write_frames(tmp_path / "c.pdb", other.reference[None], other)
    rest = ["--model", model_folder, "-o", tmp_path / "path"]
    assert "--steps: got 1" in refuses("interpolate", a, b, "--steps", 1, *rest)
    assert "no such file" in refuses("interpolate", a, tmp_path / "d.pdb", *rest)
    assert "different molecules" in refuses("interpolate", a, tmp_path / "c.pdb", *rest)
    assert not (tmp_path / "path").exists()


def test_report_compares_two_folders(run, refuses, samples, tmp_path):
    out = tmp_path / "new" / "page.html"
    done = run("report", samples / "a", "--reference", samples / "b", "--no-evaluate", "-o", out)
    assert done.exit_code == 0, done.output
    assert "ACE-ALA-NME" in out.read_text()
    assert "no such file or folder" in refuses("report", tmp_path / "none", "-o", out)
    pair = f"{samples / 'a' / 'samples.xtc'}:{samples / 'a' / 'topology.pdb'}"
    assert "the temperature of the ensemble is not known" in refuses("report", pair, "-o", out)


TINY = ["--steps", "4", "--batch-size", "4", "--no-compile", "--precision", "fp32", "--accelerator", "cpu", "--log-every", "2"]
NETWORK = [
    word for size in ("dim=16", "pair_dim=8", "layers=1", "heads=2", "basis=8", "channels=2") for word in ("--network", size)
]


def test_train_and_fine_tune_write_models_that_load(run, files, tmp_path):
    data = ["--trajectory", files / "good.npz", "--topology", files / "top.pdb", "--forces", files / "forces.npz"]
    done = run("train", "molecule", *data, "-o", tmp_path / "run", "--name", "mine", *TINY, *NETWORK)
    assert done.exit_code == 0, done.output
    assert "mine" in run("models", tmp_path / "run").stdout
    tuned = run("fine-tune", tmp_path / "run", *data, "-o", tmp_path / "tuned", *TINY)
    assert tuned.exit_code == 0, tuned.output
    assert "mine-tuned" in run("models", tmp_path / "tuned").stdout
    again = run("train", *data, "-o", tmp_path / "run", "--name", "mine", *TINY, *NETWORK)
    assert again.exit_code == 0, again.output
    assert "going on" in again.stdout


def test_fine_tune_takes_a_model_of_several_temperatures_at_one(run, refuses, model_folder, files, tmp_path):
    from equilibra.systems.model import load
    from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config

    tiny = load(model_folder)
    network = molecule_network_config(dim=16, pair_dim=8, layers=1, heads=2, basis=8, channels=2, conditions=1)
    dataclasses.replace(
        tiny,
        denoiser=molecule_denoiser(tiny.process, network, seed=0),
        network=dataclasses.asdict(network),
        scope=dataclasses.replace(tiny.scope, temperatures=(300.0, 600.0)),
    ).save(tmp_path / "several")
    data = [tmp_path / "several", "--trajectory", files / "good.npz", "--topology", files / "top.pdb", *TINY]
    for number, (options, kelvin) in enumerate((([], 300.0), (["--temperature", 450], 450.0))):
        done = run("fine-tune", *data, *options, "-o", tmp_path / f"tuned-{number}")
        assert done.exit_code == 0, done.output
        scope = load(tmp_path / f"tuned-{number}").scope
        assert (scope.temperature, scope.temperatures) == (kelvin, None)
    sentence = refuses("fine-tune", *data, "--temperature", 650, "-o", tmp_path / "hot")
    assert "temperature: got 650 K, but the model 'tiny' was trained from 300 to 600 K; give one of that range" in sentence
    assert "--temperature: got -5" in refuses("fine-tune", *data, "--temperature", -5, "-o", tmp_path / "hot")
    assert not (tmp_path / "hot").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trajectory", "nan.npz"], "nan.npz"),
        (["--trajectory", "short.npz"], "short.npz"),
        (["--trajectory", "none.xtc"], "no such file"),
        (["--trajectory", "good.npz", "--forces", "few-forces.npz"], "few-forces.npz"),
        (["--trajectory", "good.npz", "--batch-size", 0], "batch_size: got 0"),
        (["--trajectory", "good.npz", "--schedule", "step"], "schedule: got 'step'"),
        (["--trajectory", "good.npz", "--temperature", 0], "--temperature: got 0"),
        (["--trajectory", "good.npz", "--network", "width=3"], "unknown size 'width'"),
        (["--trajectory", "good.npz", "--network", "dim=big"], "--network: got 'dim=big'"),
    ],
)
def test_train_refuses_wrong_data_and_options(refuses, files, tmp_path, options, words):
    named = [files / o if isinstance(o, str) and o.endswith((".npz", ".xtc")) else o for o in options]
    assert words in refuses("train", *named, "--topology", files / "top.pdb", "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_folder_of_something_else(refuses, files, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    data = ["--trajectory", files / "good.npz", "--topology", files / "top.pdb"]
    assert "holds no run" in refuses("train", *data, "-o", tmp_path / "run", *TINY, *NETWORK)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]
    assert "unknown model 'none'" in refuses("fine-tune", "none", *data, "-o", tmp_path / "tuned")
