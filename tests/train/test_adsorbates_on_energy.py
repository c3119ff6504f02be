"""Training of adsorbates from an energy: where walkers start, and what is known of the ensembles that they leave."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.special import i0, i1

from equilibra.energies.adapters import CallableEnergy
from equilibra.energies.energy import ReducedEnergy
from equilibra.errors import InputError
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.train.adsorbate_energy import LADDER, SPACING, starting_points, train_adsorbate_on_energy
from equilibra.train.config import TrainConfig

STIFF = 8.0  # kT/Å²
HEIGHTS = (1.0, 0.6)  # kT of the waves in the plane


@pytest.fixture(scope="module")
def system():
    return AdsorbateSystem.of("Pt(111) 1x1x3", "O")


@pytest.fixture(scope="module")
def waves(system):
    """Waves in the plane with the period of the lattice and a spring along the normal: in fractions of the cell a product of three known laws."""
    reciprocal = 2.0 * math.pi * torch.linalg.inv(system.plane)

    def energy(x):
        cosines = (x[:, 0, :2] @ reciprocal.to(x)).cos() * torch.tensor(HEIGHTS).to(x)
        return cosines.sum(1) + 0.5 * STIFF * x[:, 0, 2] ** 2

    return CallableEnergy(energy, 1, name="waves", invariant=False)


def test_single_atoms_start_in_equilibrium_on_every_rung(system, waves):
    config = dataclasses.replace(LADDER, rungs=3, hottest=2.0, columns=4000)
    x = starting_points(system, ReducedEnergy(waves), config, 0, cheap=True).unflatten(0, (3, 4000))[:, :, 0].numpy()
    waves_of = np.cos(2.0 * math.pi * x[..., :2] @ np.linalg.inv(system.plane.numpy()))
    for rung, beta in enumerate(config.betas):
        for axis, height in enumerate(HEIGHTS):
            exact = -i1(beta * height) / i0(beta * height)
            error = waves_of[rung, :, axis].std() / math.sqrt(config.columns)
            # cells of the grid of 0.18 Å in 2.8 Å smooth a wave by 0.7 %
            assert abs(waves_of[rung, :, axis].mean() - exact) < 4 * error + 0.01 * abs(exact)
        width = x[rung, :, 2].var()
        expected = 1.0 / (beta * STIFF) + SPACING**2 / 12.0
        assert abs(width / expected - 1.0) < 4 * math.sqrt(2.0 / config.columns) + 0.02


def test_molecules_start_apart_where_the_energy_is_low(system):
    carbon_monoxide = AdsorbateSystem.of("Pt(111) 2x2x3", "CO")
    reduced = ReducedEnergy.at(adsorbate_energy(carbon_monoxide, "emt"), 300.0)
    config = dataclasses.replace(LADDER, rungs=3, hottest=5.0, columns=50)
    x = starting_points(carbon_monoxide, reduced, config, 0, cheap=True)
    assert x.shape == (150, 2, 3)
    u = reduced(x).reshape(3, 50)
    anywhere = reduced(torch.tensor(carbon_monoxide.placed(200, seed=1)))
    assert float(u[0].mean()) < float(anywhere.mean()) - 5.0
    assert len(torch.unique(x[:50].flatten(1), dim=0)) > 5
    assert torch.equal(x, starting_points(carbon_monoxide, reduced, config, 0, cheap=True))


def test_an_energy_that_is_nowhere_finite_is_refused(system):
    broken = ReducedEnergy(CallableEnergy(lambda x: x[:, 0, 2] * math.nan, 1, name="broken", invariant=False))
    for cheap in (True, False):
        with pytest.raises(InputError, match="the energy 'broken' is not finite at any of"):
            starting_points(system, broken, LADDER, 0, cheap=cheap)


def test_walkers_are_written_as_chains(system, tmp_path):
    config = dataclasses.replace(
        LADDER, rungs=2, columns=3, burn_in=2, sweeps=4, every=2, leapfrog=2, path_levels=3, path_samples=3
    )
    train = TrainConfig(steps=2, batch_size=4, compile=False, precision="fp32", threads=1)
    size = {"dim": 8, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "cutoff": 4.0}
    model = train_adsorbate_on_energy([system], tmp_path, "emt", config, train, network=size)
    assert model.network["cutoff"] == 4.0
    from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble

    walkers = AdsorbateEnsemble.read(tmp_path / "walkers" / "000")
    chains = walkers.populations()
    assert chains is not None
    assert [len(chain) for chain in chains] == [2, 2, 2]
    assert all(len(set(walkers.blocks[chain].tolist())) == 1 for chain in chains)


def test_a_training_starts_from_the_weights_of_another_model(system, tmp_path):
    config = dataclasses.replace(
        LADDER, rungs=2, columns=3, burn_in=2, sweeps=4, every=2, leapfrog=2, path_levels=3, path_samples=3
    )
    # a rate of next to nothing leaves the weights where they start
    train = TrainConfig(steps=2, batch_size=4, compile=False, precision="fp32", threads=1, learning_rate=1e-12, warmup=0)
    size = {"dim": 8, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "cutoff": 4.0}
    first = train_adsorbate_on_energy(
        [system], tmp_path / "one", "emt", config, dataclasses.replace(train, seed=5), network=size
    )
    other = AdsorbateSystem.of("Cu(100) 2x2x3", "CO")
    second = train_adsorbate_on_energy([other], tmp_path / "two", "emt", config, train, network=size, weights=first)
    fresh = train_adsorbate_on_energy([other], tmp_path / "three", "emt", config, train, network=size)
    started, expected, random = (model.denoiser.network.state_dict() for model in (second, first, fresh))
    for key, value in expected.items():
        torch.testing.assert_close(started[key], value, atol=1e-6, rtol=1e-6)
    assert any(not torch.allclose(random[key], value, atol=1e-3) for key, value in expected.items())
    with pytest.raises(InputError, match=r"of another size \(dim 8\); choose the same with --network"):
        train_adsorbate_on_energy([other], tmp_path / "four", "emt", config, train, network={**size, "dim": 16}, weights=first)
    assert not (tmp_path / "four").exists()
