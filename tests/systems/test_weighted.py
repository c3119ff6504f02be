"""Weighted samples of a molecule: exact weights, the same whatever the batch size and wherever a run was interrupted, and honest records."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from gaussian_molecule import make

import equilibra
from equilibra.density.path_weights import draw_weighted
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import Torus
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.errors import ConfigError, InputError, ShapeError, SpaceError
from equilibra.sampling.choose import SamplerConfig
from equilibra.state.randomness import generator_for
from equilibra.systems import weighted
from equilibra.systems.blocks import Block
from equilibra.systems.molecule import load_ensemble, molecule_system
from equilibra.systems.molecule.domain import template
from equilibra.systems.molecule.energy import molecule_energy
from equilibra.systems.molecule.network import FIELD
from equilibra.thermo.free_energy import log_z, log_z_error
from equilibra.thermo.weights import diagnose
from equilibra.units import thermal_energy

torch.set_num_threads(1)
KT = thermal_energy(300.0)
DEGREES = 21  # of eight atoms without their centre


class Spring(Energy):
    """An energy whose Boltzmann distribution at 300 K is a Gaussian about a conformation; forbids what `allowed` says no to."""

    name = "spring"

    def __init__(self, system, width, allowed=None):
        self.items, self.width, self.allowed = system.atoms, width, allowed
        self.centre = torch.tensor(system.reference - system.reference.mean(axis=0)).double()

    def energy(self, x):
        found = KT * ((x - self.centre) ** 2).sum((1, 2)) / (2.0 * self.width**2)
        return found if self.allowed is None else torch.where(self.allowed(x - self.centre), found, math.nan)


@pytest.fixture(scope="module")
def ethane():
    return molecule_system("CC")


def test_log_z_of_a_spring_is_exact_and_the_weights_are_good(ethane):
    ensemble = make(ethane).sample(ethane, 600, energy=Spring(ethane, 0.025), levels=60, block_size=200)
    record = ensemble.provenance["path_weights"]
    exact = 0.5 * DEGREES * math.log(2.0 * math.pi * 0.025**2)
    assert record["rejected"] == 0
    assert abs(record["log_z"] - exact) < 4 * record["log_z_error"]
    assert record["log_z_error"] < 0.25
    assert record["elbo"] - 4 * record["elbo_error"] < exact
    # the weights turn the width of the model into that of the energy: a squared distance of 21 w^2
    x = ensemble.positions.astype(float) - np.asarray(ethane.reference) + np.asarray(ethane.reference).mean(axis=0)
    squared = np.average((x**2).sum(axis=(1, 2)), weights=ensemble.weights) / (DEGREES * 0.025**2)
    assert abs(squared - 1.0) < 4 * math.sqrt(2.0 / DEGREES / record["ess"])
    np.testing.assert_allclose(ensemble.energies, KT * (x**2).sum(axis=(1, 2)) / (2 * 0.025**2), rtol=1e-4)


def test_weights_are_those_of_the_path_sampler(ethane, tmp_path):
    model = make(ethane)
    ensemble = model.sample(ethane, 20, energy="mmff94", levels=12, block_size=10, seed=4, folder=tmp_path / "run")
    kernels = dataclasses.replace(
        weighted.path_of(model.process, 12),
        variances=json.loads((tmp_path / "run" / "blocks" / "kernels.json").read_text())["variances"],
    )
    energy = molecule_energy(ethane, "mmff94")
    u = ReducedEnergy.at(energy, 300.0)
    for index in range(2):
        direct = draw_weighted(
            model.bind(ethane),
            template(ethane, 10),
            kernels,
            lambda state: u(state.fields[FIELD].double()),
            generator=generator_for(4, index),
        )
        rows = ensemble.blocks == index
        np.testing.assert_array_equal(ensemble.log_weights[rows], direct.log_weights.numpy()[: rows.sum()])
        np.testing.assert_array_equal(ensemble.positions[rows], direct.state.fields[FIELD].numpy()[: rows.sum()])
    np.testing.assert_allclose(
        ensemble.energies, energy.energy(torch.from_numpy(ensemble.positions.copy()).double()).numpy(), rtol=1e-12
    )
    provenance = ensemble.provenance
    assert (provenance["energy"], provenance["levels"], provenance["network_calls"]) == ("mmff94", 12, 12)
    assert provenance["kt_ev"] == KT


class Killed(Exception):
    pass


def test_an_interrupted_run_and_any_batch_size_give_the_same_samples(ethane, tmp_path):
    def draw(**options):
        return make(ethane).sample(ethane, 40, energy="mmff94", levels=8, block_size=10, seed=1, **options)

    def stop(progress):
        if progress.drawn == 20 and progress.fraction > 0.5:
            raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        draw(folder=folder, progress=stop)
    assert len(list((folder / "blocks").glob("block-*.npz"))) == 2
    kernels = (folder / "blocks" / "kernels.json").read_bytes()
    notes = []
    whole = draw(progress=lambda progress: notes.append(progress.note))
    runs = [draw(folder=folder, batch_size=3), draw(folder=folder), draw(batch_size=7)]
    assert (folder / "blocks" / "kernels.json").read_bytes() == kernels
    for run in runs:
        for name in ("positions", "log_weights", "energies", "blocks"):
            np.testing.assert_array_equal(getattr(run, name), getattr(whole, name))
        assert run.provenance["path_weights"] == whole.provenance["path_weights"]
    assert any(note.startswith("fitting") for note in notes)
    # what can be made again is made again
    (folder / "blocks" / "kernels.json").write_text('{"variances": {"pos": [1.0]}}')
    (folder / "blocks" / "block-00001.npz").unlink()
    np.testing.assert_array_equal(draw(folder=folder).log_weights, whole.log_weights)
    assert (folder / "blocks" / "kernels.json").read_bytes() == kernels


def test_rejected_samples_have_no_weight(ethane, tmp_path):
    # wide enough for broken bonds; four in ten conformations are forbidden
    energy = Spring(ethane, 0.1, allowed=lambda d: d[:, 0, 0] > -0.02)
    ensemble = make(ethane, width=0.1).sample(ethane, 60, energy=energy, levels=40, block_size=50, folder=tmp_path / "run")
    record = ensemble.provenance["path_weights"]
    infinite = [reason for reason in ensemble.rejected_reasons if "infinite energy" in reason]
    broken = [reason for reason in ensemble.rejected_reasons if reason != "infinite energy"]
    assert len(infinite) > 20
    assert len(broken) > 5
    assert len(ensemble) == 60
    assert np.isfinite(ensemble.log_weights).all()
    assert (record["n"], record["drawn"], record["rejected"]) == (60, 60 + len(ensemble.rejected), len(ensemble.rejected))
    assert record["infinite_energy"] == len(infinite)
    assert 0.0 < record["rejected_weight"] < 1.0
    assert record["energy_calls"] == ensemble.provenance["drawn"] >= record["drawn"]
    # the same from the ensemble alone
    diagnosis = diagnose(ensemble.log_weights)
    assert (record["ess"], record["pareto_k"], record["verdict"]) == (diagnosis.ess, diagnosis.pareto_k, diagnosis.verdict)
    assert record["sentence"] == diagnosis.sentence
    everything = np.append(ensemble.log_weights, np.full(len(ensemble.rejected), -np.inf))
    assert record["log_z"] == pytest.approx(log_z(everything, np.random.default_rng(0)).value, abs=1e-12)
    assert record["log_z"] == pytest.approx(np.log(np.exp(ensemble.log_weights).sum() / record["drawn"]), abs=1e-9)
    assert record["log_z_error"] == pytest.approx(log_z_error(everything), rel=0.2)
    assert record["elbo"] == pytest.approx(ensemble.log_weights.mean() + math.log(60 / record["drawn"]), abs=1e-12)
    # files keep everything
    ensemble.save(tmp_path / "run")
    again = load_ensemble(tmp_path / "run")
    np.testing.assert_array_equal(again.log_weights, ensemble.log_weights)
    np.testing.assert_array_equal(again.energies, ensemble.energies)
    assert again.provenance["path_weights"] == record
    assert again.rejected_reasons == ensemble.rejected_reasons


def test_what_is_not_finite_is_none_in_the_record():
    values = {weighted.LOG_WEIGHT: np.zeros(3), weighted.ENERGY: np.zeros(3)}
    record = weighted.weight_record([Block({}, np.array([False, True, True]), values)], 1, 0)
    assert (record["drawn"], record["rejected"], record["pareto_k"], record["elbo_error"]) == (2, 1, None, None)
    json.dumps(record, allow_nan=False)
    numbers, verdict = weighted.weight_lines(record)
    assert "ESS 1 of 1 (100.0 %)" in numbers
    assert "1 of 2 drawn have no weight" in numbers
    assert "not to be trusted" in verdict


def test_temperatures(ethane):
    several = make(ethane, temperatures=(250.0, 600.0))
    found = several.sample(ethane, 5, energy=Spring(ethane, 0.02), levels=5, block_size=5, temperature=400.0)
    assert several.denoiser.conditions == {round(math.log(400.0 / 300.0), 6)}
    assert (found.provenance["temperature_k"], found.provenance["kt_ev"]) == (400.0, thermal_energy(400.0))
    # a model of one temperature is weighted for any other: log Z of a spring is proportional to ln T
    hot = make(ethane).sample(ethane, 400, energy=Spring(ethane, 0.02), levels=60, block_size=200, temperature=360.0)
    exact = 0.5 * DEGREES * math.log(2.0 * math.pi * 0.02**2 * 360.0 / 300.0)
    record = hot.provenance["path_weights"]
    assert abs(record["log_z"] - exact) < 4 * record["log_z_error"]
    with pytest.raises(InputError, match="knows one temperature"):
        make(ethane).sample(ethane, 5, temperature=360.0)


class Three(Spring):
    """An energy of three atoms."""

    def __init__(self, system):
        super().__init__(system, 0.1)
        self.items = 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"energy": "mmff9"}, InputError, "unknown energy 'mmff9'; did you mean"),
        ({"energy": "amber99sbildn-obc"}, InputError, "cannot describe this molecule"),
        ({"energy": Three}, ShapeError, "positions for the energy 'spring'"),
        ({"energy": lambda system: Spring(system, 0.1, lambda d: d[:, 0, 0] > 9)}, InputError, "has the energy nan kT"),
        ({"energy": "mmff94", "temperature": -3.0}, InputError, "got -3.0 K, expected a positive number"),
        ({"energy": "mmff94", "sampler": SamplerConfig()}, InputError, "no sampler gives their weights"),
        ({"energy": "mmff94", "levels": 1}, ConfigError, "levels: got 1, expected at least 2"),
        ({"levels": 100}, InputError, "samples with an energy only"),
    ],
)
def test_wrong_options_are_refused_before_any_work(ethane, tmp_path, options, error, words):
    model = make(ethane)
    model.denoiser.centre = None  # a call would fail
    options = {**options, **({"energy": options["energy"](ethane)} if callable(options.get("energy")) else {})}
    with pytest.raises(error, match=words):
        model.sample(ethane, 5, folder=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_model_without_temperature_and_noise_without_a_density_are_refused(ethane):
    with pytest.raises(InputError, match="has none"):
        make(ethane, temperature=None).sample(ethane, 5, energy="mmff94")
    angles = Process({"phi": Field(space=Torus(centred=True), schedule=VarianceExploding(sigma_min=0.01, sigma_max=10.0))})
    with pytest.raises(SpaceError, match="path weights"):
        weighted.path_of(angles, 10)


def test_another_energy_or_number_of_levels_is_another_run(ethane, tmp_path):
    def draw(**options):
        return make(ethane).sample(ethane, 4, block_size=4, folder=tmp_path / "run", **options)

    draw(energy="mmff94", levels=6)
    for options, key in (
        ({"energy": "mmff94s", "levels": 6}, "energy"),
        ({"energy": "mmff94", "levels": 7}, "levels"),
        ({"energy": "mmff94", "levels": 6, "temperature": 310.0}, "kt_ev"),
        ({}, "energy"),
    ):
        with pytest.raises(InputError, match=f"its {key} is"):
            draw(**options)


def test_the_shipped_model_is_weighted_for_its_own_force_field(monkeypatch):
    monkeypatch.setattr(weighted, "FITTED_ON", 10)
    model = equilibra.load("molecule-ala2")
    ensemble = model.sample("ACE-ALA-NME", 6, energy="amber99sbildn-obc", levels=20, block_size=7)
    energy = molecule_energy(ensemble.system, "amber99sbildn-obc")
    expected = energy.energy(torch.from_numpy(ensemble.positions.copy()).double()).numpy()
    np.testing.assert_allclose(ensemble.energies, expected, atol=1e-6)
    # thermal energies: far below that of any clash, and the weights within what six samples can spread
    assert np.ptp(ensemble.energies) < 3.0
    assert np.ptp(ensemble.log_weights) < 60.0
    assert 1.0 <= ensemble.provenance["path_weights"]["ess"] <= 6.0


def test_annealed_blocks_have_the_right_distribution_and_honest_numbers(ethane, tmp_path):
    # the model is half as wide again as the target: in 21 dimensions few of its paths count
    model = make(ethane, width=0.032)
    options = {"energy": Spring(ethane, 0.02), "levels": 30, "block_size": 100, "seed": 2}
    plain = model.sample(ethane, 1000, **options)
    annealed = model.sample(ethane, 1000, smc=3, folder=tmp_path / "run", **options)
    record = annealed.provenance["path_weights"]
    assert plain.provenance["path_weights"]["ess_fraction"] < 0.05
    assert record["ess_fraction"] > 2.0 * plain.provenance["path_weights"]["ess_fraction"]
    exact = 0.5 * DEGREES * math.log(2.0 * math.pi * 0.02**2)
    assert abs(record["log_z"] - exact) < 4.0 * record["log_z_error"] + 0.05
    assert record["elbo"] < record["log_z"]
    assert record["energy_calls"] > 4000
    x = annealed.positions.astype(float) - ethane.reference + ethane.reference.mean(axis=0)
    x -= x.mean(axis=1, keepdims=True)
    variance = float(annealed.weights @ (x**2).sum((1, 2))) / DEGREES
    assert variance == pytest.approx(0.02**2, rel=0.06)
    again = model.sample(ethane, 1000, smc=3, folder=tmp_path / "run", **options)
    assert np.array_equal(again.positions, annealed.positions)
    assert again.provenance["path_weights"] == record


def test_annealing_needs_an_energy_and_a_positive_number(ethane):
    with pytest.raises(InputError, match="anneals samples to an energy"):
        make(ethane).sample(ethane, 5, smc=2)
    with pytest.raises(InputError, match="at least 1 move"):
        make(ethane).sample(ethane, 5, energy=Spring(ethane, 0.02), smc=0)
