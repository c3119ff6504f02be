"""Energies by name, conformers to start from, and models of a range of temperatures."""

import math

import numpy as np
import pytest
import torch

from equilibra.diffusion.denoiser import Prediction
from equilibra.errors import InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.state import State
from equilibra.systems.card import Card
from equilibra.systems.conformation_checks import check
from equilibra.systems.model import Model
from equilibra.systems.molecule.domain import elements, identifier
from equilibra.systems.molecule.energy import conformers, energy_names, molecule_energy
from equilibra.systems.molecule.network import FIELD, molecule_denoiser, molecule_network_config, molecule_process
from equilibra.systems.molecule.system import molecule_system
from equilibra.systems.scope import Scope

WIDTH = 0.02


@pytest.fixture(scope="module")
def ethanol():
    return molecule_system("CCO")


def test_energies_by_name_are_those_of_the_molecule(ethanol):
    x = torch.tensor(np.array(ethanol.reference))[None]
    for name in ("mmff94", "mmff94s"):
        energy = molecule_energy(ethanol, name)
        assert (energy.name, energy.items) == (name, 9)
        e, force = energy.energy_and_force(x)
        step = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        change = energy.energy(x + step) - energy.energy(x - step)
        assert float(change) == pytest.approx(-2.0 * float((force * step).sum()), rel=1e-4)
        assert bool(torch.isfinite(e).all())
    peptide = molecule_system("ACE-ALA-NME")
    energy = molecule_energy(peptide, "amber99sbildn-obc")
    assert (energy.name, energy.items) == ("amber99sbildn-obc", 22)
    assert bool(torch.isfinite(energy.energy(torch.tensor(np.array(peptide.reference))[None])).all())


def test_names_are_listed_and_unknown_ones_refused(ethanol):
    assert {"mmff94", "gaff2", "so3lr", "amber99sbildn-obc"} <= set(energy_names())
    with pytest.raises(InputError, match="unknown energy 'mmff49'; did you mean 'mmff94'"):
        molecule_energy(ethanol, "mmff49")
    with pytest.raises(InputError):
        molecule_energy(ethanol, "amber99sbildn-obc")  # a force field of peptides


def test_conformers_are_valid_varied_and_of_the_right_stereoisomer():
    system = molecule_system("C[C@H](F)CCO")
    found = conformers(system, 12, seed=3)
    assert 6 <= len(found) <= 12
    np.testing.assert_array_equal(found[0], system.reference)
    assert check(found, system).valid[1:].all()
    pairs = np.linalg.norm(found[:, :, None] - found[:, None], axis=-1).reshape(len(found), -1)
    assert (np.abs(pairs[1:] - pairs[0]).max(axis=1) > 0.1).any()
    np.testing.assert_array_equal(found, conformers(system, 12, seed=3))
    assert not np.array_equal(found[1], conformers(system, 12, seed=4)[1])
    assert len(conformers(system, 1, seed=3)) == 1


class Warm(torch.nn.Module):
    """Exact denoiser of springs about the reference conformation, whose variance goes with the temperature that it is told."""

    parametrisation = "edm"

    def __init__(self, system):
        super().__init__()
        self.process = molecule_process(1.0)
        self.network = torch.nn.Linear(1, 1)
        self.centre = torch.tensor(system.reference - system.reference.mean(axis=0)).float()

    def forward(self, state, t, features):
        variance = WIDTH**2 * torch.exp(features.graph["conditions"][0, 0])
        square = self.process.sigma(FIELD, t)[:, None, None].to(torch.float32) ** 2
        return Prediction({FIELD: (self.centre - state.fields[FIELD]) * square / (square + variance)})


def model_of(system, denoiser, **scope):
    known = {"systems": (identifier(system),), "elements": elements([system]), "temperature": 300.0}
    return Model(
        name="warm",
        domain="molecule",
        denoiser=denoiser,
        network={},
        sampler=SamplerConfig(grid=GridConfig(steps=40, end="flow", spacing="log")),
        scope=Scope(**{**known, **scope}),
        card=Card(summary="For tests."),
    )


@pytest.mark.parametrize("temperature", [None, 300.0, 450.0, 600.0])
def test_samples_have_the_temperature_that_was_asked_for(ethanol, temperature):
    model = model_of(ethanol, Warm(ethanol), temperatures=(300.0, 600.0))
    ensemble = model.sample(ethanol, 500, seed=1, temperature=temperature)
    assert ensemble.provenance["temperature_k"] == (temperature or 300.0)
    centre = ethanol.reference - ethanol.reference.mean(axis=0)
    variance = float(((ensemble.positions - centre) ** 2).sum() / (500 * 24))
    assert variance == pytest.approx(WIDTH**2 * (temperature or 300.0) / 300.0, rel=0.02 + 4.0 * math.sqrt(2.0 / (500 * 24)))


def test_binding_tells_the_network_the_logarithm_of_the_temperature(ethanol, tmp_path):
    config = molecule_network_config(dim=16, pair_dim=8, layers=1, heads=2, basis=8, channels=2, conditions=1)
    import dataclasses

    made = model_of(ethanol, molecule_denoiser(molecule_process(1.0), config, seed=0), temperatures=(300.0, 660.0))
    dataclasses.replace(made, network=dataclasses.asdict(config)).save(tmp_path / "model")
    model = Model.read(tmp_path / "model")
    for temperature, expected in ((None, 0.0), (300.0, 0.0), (450.0, math.log(1.5)), (660.0, math.log(2.2))):
        features = model.bind(ethanol, temperature=temperature).features
        assert float(features.graph["conditions"]) == pytest.approx(expected, abs=1e-6)
    state = State({FIELD: torch.randn(3, 9, 3, generator=torch.Generator().manual_seed(0))})
    t = torch.full((3,), 0.4)
    cold, hot = (model.bind(ethanol, temperature=kelvin)(state, t).displacements[FIELD] for kelvin in (None, 660.0))
    assert not torch.allclose(cold, hot)
    for temperature in (299.0, 661.0, -1.0):
        with pytest.raises(
            InputError, match=rf"temperature: got {temperature:g} K, but the model 'warm' was trained from 300 to 660 K"
        ):
            model.bind(ethanol, temperature=temperature)


def test_a_model_of_one_temperature_knows_no_other(ethanol):
    config = molecule_network_config(dim=16, pair_dim=8, layers=1, heads=2, basis=8, channels=2)
    model = model_of(ethanol, molecule_denoiser(molecule_process(1.0), config, seed=0))
    assert "conditions" not in model.bind(ethanol, temperature=300.0).features.graph
    with pytest.raises(
        InputError, match="temperature: got 310 K, but the model 'warm' knows one temperature, 300 K; train one for a range"
    ):
        model.bind(ethanol, temperature=310.0)
    without = model_of(ethanol, molecule_denoiser(molecule_process(1.0), config, seed=0), temperature=None)
    with pytest.raises(InputError, match="knows one temperature, none"):
        without.bind(ethanol, temperature=300.0)
    assert without.bind(ethanol).features.graph.keys() == model.bind(ethanol).features.graph.keys()
