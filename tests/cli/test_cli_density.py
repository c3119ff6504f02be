"""`equilibra density`: the closed form of a Gaussian, the shipped model, resumed blocks, files, and refusals in one sentence."""

import csv
import json

import numpy as np
import pytest
import torch
from gaussian_model import WIDTH

import equilibra
from equilibra.density import flow
from equilibra.density.flow import FlowConfig
from equilibra.density.trace import Trace
from equilibra.errors import InputError
from equilibra.geometry.superposition import centre
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.molecule import MoleculeEnsemble, molecule_system
from equilibra.systems.molecule.density import log_density
from equilibra.systems.molecule.energy import molecule_energy
from equilibra.systems.molecule.files import write_frames
from equilibra.systems.molecule.network import FIELD
from equilibra.units import thermal_energy


@pytest.fixture(scope="module")
def system():
    return molecule_system("ACE-ALA-NME")


def frames(system, count, seed=0):
    noise = np.random.default_rng(seed).normal(size=(count, system.atoms, 3))
    return (system.reference + np.sqrt(2.0) * WIDTH * noise).astype(np.float32)


def ensemble_of(system, count, **options):
    return MoleculeEnsemble(system=system, positions=frames(system, count), **options)


def closed_form(model, ensemble):
    """The log-density that the flow of the Gaussian denoiser gives: the prior, carried down by a linear map."""
    x = centre(torch.from_numpy(ensemble.positions.astype(np.float64)))
    mean = centre(torch.from_numpy(np.array(ensemble.system.reference)))
    low, high = (float(model.process.sigma(FIELD, torch.tensor(t, dtype=torch.float64))) for t in (model.process.t_min, 1.0))
    stretch = np.sqrt((high**2 + WIDTH**2) / (low**2 + WIDTH**2))
    latent = State({FIELD: mean + (x - mean) * stretch})
    degrees = 3 * (ensemble.system.atoms - 1)
    return (model.process.log_prior(latent, t=1.0) + degrees * np.log(stretch)).numpy()


def test_the_density_of_a_gaussian_is_its_closed_form(run, model_folder, exact, system, tmp_path):
    ensemble = ensemble_of(system, 20, provenance={"temperature_k": 300.0})
    ensemble.save(tmp_path / "out", formats=("npz",))
    done = run("density", tmp_path / "out", "--model", model_folder, "--energy", "mmff94", "--tolerance", 0.01)
    assert done.exit_code == 0, done.output
    assert "exact trace" in done.stdout
    assert "density of the model at sigma_min = 0.01 Å" in done.stdout.lower().replace("å", "Å")
    folder = tmp_path / "out" / "density"
    with (folder / "density.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "log_density", "integration_error", "trace_error", "energy_ev", "u"]
    column = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    expected = closed_form(equilibra.load(model_folder), ensemble)
    # single precision of the positions at the largest noise
    np.testing.assert_allclose(column["log_density"], expected, atol=0.02)
    assert column["integration_error"].max() < 0.1
    assert (column["trace_error"] == 0.0).all()
    energies = molecule_energy(system, "mmff94").energy(torch.from_numpy(ensemble.positions.astype(np.float64))).numpy()
    np.testing.assert_allclose(column["energy_ev"], energies, rtol=1e-6)
    np.testing.assert_allclose(column["u"], energies / thermal_energy(300.0), rtol=1e-6)
    values = json.loads((folder / "density.json").read_text())
    assert (values["schema_version"], values["conformations"], values["trace"]) == (1, 20, "exact")
    assert values["mean_log_density"] == pytest.approx(column["log_density"].mean())
    assert values["provenance"]["network_calls"] > 40 * 4
    assert "Lebesgue measure on the mean-free space" in values["measure"]
    page = (folder / "density.html").read_text()
    assert "ideal" in page.lower() or "perfect model" in page
    assert "most probable" in page


def test_the_shipped_model_agrees_with_the_flow_itself():
    model = equilibra.load("molecule-ala2")
    ensemble = model.sample("ACE-ALA-NME", n=8, seed=1, block_size=8)
    found = equilibra.log_density(model, ensemble, trace="hutchinson", probes=2, steps=2, check="nodes", seed=5, batch_size=3)
    state = State({FIELD: centre(torch.from_numpy(np.array(ensemble.positions)))})
    expected = flow.log_density(
        model.bind(ensemble.system),
        state,
        generator=generator_for(5, 0),
        config=FlowConfig(steps=2, solver="rk4", check="nodes"),
        trace=Trace(kind="hutchinson", probes=2),
    )
    np.testing.assert_allclose(found.log_density, expected.log_density.numpy(), atol=0.01)
    np.testing.assert_allclose(found.trace_error, expected.trace_error.numpy(), atol=0.01)
    assert (found.trace, found.degrees, found.temperature) == ("hutchinson", 63, 300.0)
    assert any("more steps" in note for note in found.notes)


def test_a_stopped_run_goes_on_with_the_missing_blocks(model_folder, exact, system, tmp_path):
    ensemble = ensemble_of(system, 10)
    options = {"trace": "hutchinson", "probes": 3, "steps": 4, "block_size": 4, "seed": 2}
    whole = log_density(model_folder, ensemble, **options)
    folder = tmp_path / "run"

    def stop(state):
        if state.done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log_density(model_folder, ensemble, folder=folder, progress=stop, **options)
    blocks = folder / "blocks"
    assert sorted(path.name for path in blocks.iterdir()) == ["block-00000.npz", "block-00001.npz"]
    stamp = (blocks / "block-00001.npz").stat().st_mtime_ns
    (blocks / "block-00000.npz").write_bytes(b"damaged")
    seen = []
    resumed = log_density(model_folder, ensemble, folder=folder, progress=seen.append, **options)
    np.testing.assert_array_equal(resumed.log_density, whole.log_density)
    np.testing.assert_array_equal(resumed.trace_error, whole.trace_error)
    assert (blocks / "block-00001.npz").stat().st_mtime_ns == stamp
    assert resumed.provenance["timing"]["conformations"] == 6
    assert (seen[-1].done, seen[-1].seconds_left) == (10, 0.0)
    again = log_density(model_folder, ensemble, folder=folder, **options)
    assert again.provenance["timing"]["conformations"] == 0
    np.testing.assert_array_equal(again.log_density, whole.log_density)
    with pytest.raises(InputError, match="holds another run: its steps is 4"):
        log_density(model_folder, ensemble, folder=folder, **{**options, "steps": 5})


def test_calibration_of_a_known_line(model_folder, exact, system):
    ensemble = ensemble_of(system, 12)
    plain = log_density(model_folder, ensemble, steps=4)
    assert plain.calibration() is None
    kt = thermal_energy(300.0)
    energies = -kt * (2.0 * plain.log_density + 7.0)
    found = log_density(model_folder, ensemble_of(system, 12, energies=energies), steps=4).calibration()
    assert found.slope.value == pytest.approx(0.5)
    assert found.slope.error == pytest.approx(0.0, abs=1e-9)
    assert found.spearman == pytest.approx(1.0)
    assert found.intercept == pytest.approx(-3.5)
    assert found.spread == pytest.approx(plain.log_density.std(ddof=1))


def test_conformations_are_spread_over_the_source(model_folder, exact, system):
    ensemble = ensemble_of(system, 11)
    found = log_density(model_folder, ensemble, max_conformations=3, steps=2, check="nodes")
    assert found.index.tolist() == [0, 5, 10]
    np.testing.assert_array_equal(found.ensemble.positions, ensemble.positions[[0, 5, 10]])


def test_rounded_coordinates_are_noticed(model_folder, exact, system):
    rounded = MoleculeEnsemble(system=system, positions=np.round(frames(system, 3), 2))
    found = log_density(model_folder, rounded, steps=2, check="nodes")
    assert any("rounded to 0.01 Å" in note for note in found.notes)
    exact_ones = log_density(model_folder, ensemble_of(system, 3), steps=2, check="nodes")
    assert not any("rounded" in note for note in exact_ones.notes)


@pytest.fixture(scope="module")
def files(system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    x = frames(system, 4)
    write_frames(folder / "top.pdb", x[:1], system)
    np.savez(folder / "md.npz", positions=x)
    x[2, 0, 0] = np.nan
    np.savez(folder / "nan.npz", positions=x)
    other = molecule_system("CCO")
    write_frames(folder / "ethanol.sdf", other.reference[None], other)
    return folder


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("md.npz", ["--steps", 1], "--steps: got 1"),
        ("md.npz", ["--max", 0], "--max: got 0"),
        ("md.npz", ["--trace", "guess"], "unknown trace 'guess'"),
        ("md.npz", ["--energy", "amber99"], "unknown energy 'amber99'"),
        ("md.npz", ["--temperature", -1], "--temperature: got -1"),
        ("md.npz", ["--temperature", 400], "knows one temperature, 300 K"),
        ("nan.npz", [], "conformation 2 has coordinates that are not finite"),
        ("ethanol.sdf", [], "was trained on"),
        ("none.xtc", [], "no such file"),
    ],
)
def test_wrong_input_is_one_sentence(refuses, model_folder, files, tmp_path, source, options, words):
    topology = ["--topology", files / "top.pdb"] if source.endswith("npz") else []
    arguments = [files / source, "--model", model_folder, *topology, *options, "-o", tmp_path / "out"]
    assert words in refuses("density", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_model_must_be_known(refuses, files, system, tmp_path):
    pair = f"{files / 'md.npz'}:{files / 'top.pdb'}"
    assert "name one" in refuses("density", pair, "-o", tmp_path / "out")
    assert "say where to write" in refuses("density", pair)
    ensemble_of(system, 2, provenance={"model": "mine", "weights": "abc"}).save(tmp_path / "mine")
    assert "drawn by 'mine'" in refuses("density", tmp_path / "mine")
    ensemble_of(system, 2, provenance={"model": "molecule-ala2", "weights": "abc"}).save(tmp_path / "old")
    assert "other weights" in refuses("density", tmp_path / "old")
