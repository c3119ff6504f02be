"""A molecule from its energy alone: the model that comes out, what it may be asked, and what is refused before any training."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from equilibra.energies.adapters import CallableEnergy
from equilibra.errors import CheckpointError, InputError, ShapeError
from equilibra.report.free_energies import free_energy
from equilibra.state import State
from equilibra.systems import model as models
from equilibra.systems.molecule.runs import load_runs
from equilibra.systems.molecule.system import molecule_system
from equilibra.train import molecule_energy as module
from equilibra.train.budget import Cost
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.molecule import fine_tune
from equilibra.train.molecule_energy import train_molecule_on_energy
from equilibra.train.rounds import Rounds
from equilibra.units import thermal_energy

TINY = EnergyConfig(
    rounds=2,
    rungs=2,
    hottest=1.5,
    columns=4,
    leapfrog=5,
    moves=1,
    burn_in=20,
    sweeps=6,
    every=2,
    path_levels=10,
    path_samples=8,
)


@pytest.fixture(scope="module")
def trained(config, network, tmp_path_factory):
    """A model of ethanol after a few steps, its folder, and what progress told."""
    folder, told = tmp_path_factory.mktemp("ethanol-energy") / "run", []
    options = {"name": "tiny", "network": network, "progress": told.append}
    return train_molecule_on_energy("CCO", folder, "mmff94", TINY, config(), **options), folder, told


def test_the_saved_model_is_the_returned_one_and_says_what_it_is(trained):
    model, folder, _ = trained
    loaded = models.load(folder)
    assert loaded.sha256 == model.sha256
    assert loaded.scope == model.scope
    assert loaded.scope.systems == ("CCO",)
    assert loaded.scope.elements == (1, 6, 8)
    assert loaded.scope.temperature == 300.0
    assert tuple(loaded.scope.temperatures) == (300.0, 450.0)
    calls = json.loads((folder / "round-001.json").read_text())["calls_judged"]
    assert f"CCO, trained from the energy 'mmff94' at 300 to 450 K with {calls:,} energy calls (anneal)" in loaded.card.summary
    assert "Any other molecule" in loaded.card.not_good_for
    assert "ESS of 8 samples" in loaded.card.data
    assert "log Z" in loaded.card.data
    for name, value in model.denoiser.network.state_dict().items():
        assert torch.equal(value, loaded.denoiser.network.state_dict()[name])
    assert not any(p.requires_grad for p in loaded.denoiser.parameters())


def test_progress_counts_the_first_check_as_well(trained):
    _, _, told = trained
    assert told[0].calls == 32
    assert told[-1].doing == "judged"


def test_the_same_call_goes_on_and_another_is_refused(trained, config, network):
    model, folder, _ = trained
    again = train_molecule_on_energy("CCO", folder, "mmff94", TINY, config(), name="tiny", network=network)
    assert again.sha256 == model.sha256
    for change, words in (
        ({"energy": "mmff94s"}, 'another run: its potential is "mmff94", this run\'s is "mmff94s"'),
        ({"temperature": 310.0}, "another run: its kt is"),
        ({"network": {**network, "dim": 32}}, "another run: its network.dim is 16, this run's is 32"),
        ({"source": "COC"}, "another run: its start is"),
        ({"minutes": 5.0}, "holds a run without a time budget, got one of 5 minutes"),
    ):
        values = {"source": "CCO", "energy": "mmff94", "network": network, "name": "tiny", **change}
        with pytest.raises(CheckpointError, match=words):
            train_molecule_on_energy(folder=folder, config=TINY, train=config(), **values)


@pytest.fixture(scope="module")
def water(config, tmp_path_factory):
    """A model of water that has learned something, in some seconds."""
    size = {"dim": 32, "pair_dim": 16, "layers": 1, "heads": 4, "basis": 16, "channels": 8}
    learn = config(steps=160, batch_size=32, warmup=20, learning_rate=3e-3, ema=0.98, log_every=40, checkpoint_every=1000)
    ladder = dataclasses.replace(TINY, columns=8, burn_in=60, sweeps=40, leapfrog=10)
    return train_molecule_on_energy("O", tmp_path_factory.mktemp("water") / "run", "mmff94", ladder, learn, network=size)


def test_a_model_from_an_energy_samples_at_its_temperatures(water):
    frames = {}
    for temperature in (300.0, 450.0):
        ensemble = water.sample("O", 400, seed=0, temperature=temperature)
        assert len(ensemble) == 400
        assert ensemble.provenance["temperature_k"] == temperature
        bonds = np.linalg.norm(ensemble.positions[:, 1:] - ensemble.positions[:, :1], axis=-1)
        assert abs(bonds.mean() - 0.97) < 0.03
        assert 0.015 < bonds.std() < 0.08
        frames[temperature] = ensemble.positions
    # the same noise, another temperature
    assert not np.allclose(frames[300.0][:5], frames[450.0][:5], atol=1e-4)
    with pytest.raises(InputError, match="temperature: got 500 K, but the model 'molecule' was trained from 300 to 450 K"):
        water.sample("O", 10, temperature=500.0)


def test_weighted_samples_and_the_judgement_agree_on_log_z(water):
    ensemble = water.sample("O", 200, seed=1, energy="mmff94", levels=20)
    record = ensemble.provenance["path_weights"]
    assert math.isfinite(record["log_z"])
    assert record["elbo"] < record["log_z"] + 1e-9
    low, high = (float(word) for word in water.card.data.split("between ")[1].split(" at ")[0].split(" and "))
    assert low < record["log_z"] < high + 5.0


@pytest.mark.parametrize("temperature", [None, 375.0])
def test_a_model_of_several_temperatures_is_fine_tuned_at_one(trained, ethanol, config, tmp_path, temperature):
    model, _, _ = trained
    before = {name: value.clone() for name, value in model.denoiser.network.state_dict().items()}
    # a learning rate of nearly zero: what comes out is what went in
    frozen = fine_tune(
        model, [ethanol], tmp_path / "run", config(steps=2, learning_rate=1e-12, weight_decay=0.0), temperature=temperature
    )
    kelvin = temperature or 300.0
    assert (frozen.scope.temperature, frozen.scope.temperatures) == (kelvin, None)
    assert f"40 conformations of 1 molecule(s) at {kelvin:g} K" in frozen.card.summary
    assert frozen.network == {**model.network, "conditions": 0}
    assert all(torch.equal(value, before[name]) for name, value in model.denoiser.network.state_dict().items())
    system = molecule_system("CCO")
    x = torch.randn(4, system.atoms, 3, generator=torch.Generator().manual_seed(0))
    state, t = State({"pos": x - x.mean(1, keepdim=True)}), torch.tensor([0.1, 0.4, 0.6, 0.9])
    old, new, other = (
        made.bind(system, temperature=asked)(state, t).displacements["pos"]
        for made, asked in ((model, kelvin), (models.load(tmp_path / "run"), kelvin), (model, 450.0))
    )
    assert float((new - old).abs().max()) < 1e-6 * float(old.abs().max())
    assert float((other - old).abs().max()) > 1e-4 * float(old.abs().max())
    with pytest.raises(InputError, match=f"knows one temperature, {kelvin:g} K"):
        frozen.sample("CCO", 1, temperature=450.0)
    # the data are the same, but not where the training starts
    plain = dataclasses.replace(ethanol, forces=())
    tune = config(steps=2, forces=False)
    fine_tune(model, [plain], tmp_path / "plain", tune, temperature=kelvin)
    with pytest.raises(CheckpointError, match=f"start_temperature is {kelvin}, this run's is 450"):
        fine_tune(model, [plain], tmp_path / "plain", tune, temperature=450.0)


@pytest.mark.parametrize("temperature", [299.0, 451.0, 0.0, math.nan])
def test_a_temperature_outside_its_range_is_refused(trained, ethanol, config, tmp_path, temperature):
    with pytest.raises(
        InputError, match=f"temperature: got {temperature:g} K, but the model 'tiny' was trained from 300 to 450 K; give one of"
    ):
        fine_tune(trained[0], [ethanol], tmp_path / "run", config(), temperature=temperature)
    assert not (tmp_path / "run").exists()


def test_at_its_one_temperature_a_model_is_itself(trained, ethanol, config, tmp_path):
    warm = trained[0].at_temperature(330.0)
    assert (warm.scope.temperature, warm.scope.temperatures, warm.sha256) == (330.0, None, "")
    assert warm.at_temperature(330.0) is warm.at_temperature() is warm
    with pytest.raises(InputError, match="knows one temperature, 330 K"):
        warm.at_temperature(300.0)
    warm.save(tmp_path / "warm")
    read = models.Model.read(tmp_path / "warm")
    assert read.scope == warm.scope
    assert read.network["conditions"] == 0
    # without a temperature the data have that of the model
    tuned = fine_tune(warm, [ethanol], tmp_path / "run", config(steps=1))
    assert tuned.scope.temperature == 330.0
    nowhere = dataclasses.replace(warm, scope=dataclasses.replace(warm.scope, temperature=None))
    with pytest.raises(InputError, match="temperature: got none, and the model 'tiny' has none"):
        fine_tune(nowhere, [ethanol], tmp_path / "none", config(steps=1))


def test_one_rung_makes_a_model_of_one_temperature(config, network, tmp_path):
    ladder = dataclasses.replace(TINY, rungs=1, objective="tsm")
    model = train_molecule_on_energy("O", tmp_path / "run", "mmff94", ladder, config(), network=network)
    assert model.scope.temperatures is None
    assert "at 300 K" in model.card.summary
    with pytest.raises(InputError, match="knows one temperature, 300 K"):
        model.scope.conditions(310.0, model.name)


def test_a_function_of_the_users_own_and_frames_to_start_from(ethanol, config, network, tmp_path):
    system = molecule_system(ethanol.topology)
    centre = torch.tensor(system.reference - system.reference.mean(axis=0)).float()

    def springs(x):
        return 12.0 * (x - x.mean(1, keepdim=True) - centre.to(x)).square().sum((1, 2))

    own = CallableEnergy(springs, system.atoms, name="springs")
    model = train_molecule_on_energy(system, tmp_path / "run", own, TINY, config(), network=network, start=[ethanol])
    assert "trained from the energy 'springs'" in model.card.summary
    rounds = json.loads((tmp_path / "run" / "run.json").read_text())
    assert rounds["potential"] == "springs"


def refuses(match, tmp_path, *, error=InputError, source="CCO", energy="mmff94", **options):
    with pytest.raises(error, match=match):
        train_molecule_on_energy(source, tmp_path / "run", energy, TINY, **options)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_trained_is_refused_before_anything_is_written(make_files, ethanol, config, tmp_path):
    options = {"train": config()}
    refuses("unknown energy 'mmff95'; did you mean 'mmff94'", tmp_path, energy="mmff95", **options)
    for temperature in (0.0, -300.0, math.nan):
        refuses("temperature: got", tmp_path, temperature=temperature, **options)
    other = make_files(tmp_path / "other", "COC", 5)
    refuses("start: .* other atoms, bonds or stereochemistry than CCO", tmp_path, start=[other], **options)
    system = molecule_system("CCO")

    def function(value):
        return CallableEnergy(value, system.atoms, name="mine")

    refuses(
        "energy 'mine': conformation 0 of .* has the energy nan kT",
        tmp_path,
        source=system,
        energy=function(lambda x: x.sum((1, 2)) * math.nan),
        **options,
    )
    refuses(
        r"energy 'mine': got shape \(\d+, 9\), expected one per conformation",
        tmp_path,
        error=ShapeError,
        source=system,
        energy=function(lambda x: x.square().sum(2)),
        **options,
    )
    refuses(
        r"positions for the energy 'mine': got shape",
        tmp_path,
        error=ShapeError,
        source=system,
        energy=CallableEnergy(lambda x: x.square().sum((1, 2)), 4, name="mine"),
        **options,
    )
    refuses("mmff94 has no parameters for this molecule: it has no atom types for Se", tmp_path, source="C[Se]C", **options)


def test_a_time_budget_is_planned_once(monkeypatch, config, network, tmp_path):
    measured = []

    def measure(*arguments):
        measured.append(arguments)
        return Cost(sweep=0.5, step=0.25, call=0.01, overhead=0.2)

    monkeypatch.setattr(module, "measured", measure)

    def go(minutes, **options):
        return train_molecule_on_energy(
            "O", tmp_path / "run", "mmff94", ladder, config(), network=network, minutes=minutes, **options
        )

    ladder = dataclasses.replace(TINY, burn_in=4)
    with pytest.raises(InputError, match=r"minutes: got 0\.5, which leaves \d+ steps .* expected at least 0\.7 minutes"):
        go(0.5)
    assert not (tmp_path / "run").exists()

    def stop(state):
        if state.doing == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(0.8, progress=stop)
    assert len(measured) == 2
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert plan["minutes"] == 0.8
    assert plan["cost"]["sweep"] == 0.5
    model = go(0.8)
    assert len(measured) == 2
    rounds = [json.loads((tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()[-1])]
    assert rounds[0]["step"] == plan["steps"] >= 100
    assert model.scope.systems == ("O",)
    for minutes, words in (
        (0.9, "of 0.8 minutes, got one of 0.9 minutes"),
        (None, "0.8 minutes, got one without a time budget"),
    ):
        with pytest.raises(CheckpointError, match=words):
            go(minutes)


def test_calls_of_a_measurement_are_no_calls_of_the_run(monkeypatch, config, network, tmp_path):
    original, told, ladder = module.measured, [], dataclasses.replace(TINY, burn_in=2, rounds=1)

    def measure(*arguments):
        cost = original(*arguments)
        assert all(value >= 0.0 for value in dataclasses.astuple(cost))
        assert min(cost.sweep, cost.step, cost.call) > 0.0
        return Cost(sweep=1.0, step=0.2, call=0.0, overhead=0.0)

    monkeypatch.setattr(module, "measured", measure)
    monkeypatch.setattr("equilibra.train.budget.TRIAL", 0.0)
    options = {"network": network, "minutes": 0.6, "progress": told.append}
    train_molecule_on_energy("O", tmp_path / "run", "mmff94", ladder, config(checkpoint_every=100), **options)
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert plan["sweeps"] == 6
    # the check before any work, that of the engine, placing 2 x 4 walkers; then sweeps of 5 leapfrog steps, 8 judged samples and
    # 4 proposals on the other rung
    assert told[-1].calls == 2 * told[0].calls + 8 + (2 + 6) * 8 * 5 + 8 + 4


def test_training_starts_from_the_weights_of_another_molecules_model(trained, config, network, tmp_path):
    model, _, _ = trained
    options = {"network": network, "name": "second"}
    # without steps to speak of, the weights are still those of the start
    train = dataclasses.replace(config(), steps=2, learning_rate=1e-9)
    started = train_molecule_on_energy("CC", tmp_path / "a", "mmff94", TINY, train, weights=model, **options)
    fresh = train_molecule_on_energy("CC", tmp_path / "b", "mmff94", TINY, train, **options)
    old = model.denoiser.network.state_dict()
    near, far = (
        max(float((value - old[key]).abs().max()) for key, value in made.denoiser.network.state_dict().items())
        for made in (started, fresh)
    )
    assert near < 1e-6 < 1e-3 < far
    with pytest.raises(CheckpointError, match="another run"):
        train_molecule_on_energy("CC", tmp_path / "b", "mmff94", TINY, train, weights=model, **options)


def test_weights_of_another_network_are_refused(trained, config, network, tmp_path):
    model, _, _ = trained
    with pytest.raises(InputError, match="of another size"):
        train_molecule_on_energy("CC", tmp_path, "mmff94", TINY, config(), weights=model, network={**network, "layers": 3})
    scalar = dataclasses.replace(TINY, objective="scalar-fp")
    with pytest.raises(InputError, match="objective 'scalar-fp', whose network is of another kind"):
        train_molecule_on_energy("CC", tmp_path, "mmff94", scalar, config(), weights=model, network=network)
    assert not any(tmp_path.iterdir())


def test_walkers_are_a_simulation_that_other_commands_read(trained):
    _, folder, _ = trained
    runs = load_runs(folder / "walkers")
    assert len(runs) == TINY.columns
    frames, _, _ = Rounds(folder).read(TINY.rounds - 1)
    kept = TINY.sweeps // TINY.every
    assert all(len(run) == kept for run in runs)  # the newest half of two rounds
    for number, run in enumerate(runs):
        own = frames.x[0].reshape(kept, TINY.columns, -1, 3)[:, number].numpy()
        assert np.allclose(run.positions, own, atol=0.006)  # XTC rounds to 0.01 Å
        assert run.energies is not None
        assert np.allclose(run.energies, frames.u[0].reshape(kept, TINY.columns)[:, number].numpy() * thermal_energy(300.0))
    found = free_energy(folder / "walkers", cv="distance:1,2", block=1)
    assert found.samples.kind == "independent"
    assert found.temperature == 300.0
