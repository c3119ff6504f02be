import dataclasses

import numpy as np
import pytest
import torch

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import InputError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import State
from equilibra.systems import model as models
from equilibra.systems.molecule.system import molecule_system
from equilibra.train.molecule import fine_tune, read_molecule, train_molecule


@pytest.fixture(scope="module")
def tiny(ethanol, config, network, tmp_path_factory):
    """A model after a few steps, and its folder."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    return train_molecule([ethanol], folder, config(), name="tiny", network=network), folder


def test_positions_are_centred_and_forces_are_reduced(ethanol):
    entry = read_molecule(ethanol, temperature=300.0)
    assert entry.positions.mean(1).abs().max() < 1e-5
    with np.load(ethanol.forces[0]) as arrays:
        np.testing.assert_allclose(entry.forces.numpy(), arrays["forces"] / 0.0258520, rtol=1e-4)
    assert read_molecule(dataclasses.replace(ethanol, forces=()), temperature=300.0).forces is None
    with pytest.raises(InputError, match="temperature: got -1"):
        read_molecule(ethanol, temperature=-1.0)


def test_another_stereoisomer_in_the_data_is_refused(make_files, tmp_path):
    files = make_files(tmp_path, "C[C@H](F)Cl", 6)
    with np.load(files.trajectories[0]) as arrays:
        positions = arrays["positions"].copy()
    positions[4] *= np.float32([1, 1, -1])
    np.savez(files.trajectories[0], positions=positions)
    with pytest.raises(InputError, match=r"1 of 6 training frames \(the first is 4\) are another stereoisomer"):
        read_molecule(files, temperature=300.0)


def test_the_saved_model_is_the_returned_one(tiny):
    model, folder = tiny
    loaded = models.load(folder)
    assert loaded.sha256 == model.sha256
    assert loaded.name == "tiny"
    assert loaded.scope.systems == ("CCO",)
    assert loaded.scope.elements == (1, 6, 8)
    assert loaded.scope.temperature == 300.0
    assert "40 conformations of 1 molecule(s) at 300 K" in loaded.card.summary
    for name, value in model.denoiser.network.state_dict().items():
        assert torch.equal(value, loaded.denoiser.network.state_dict()[name])
    assert not any(p.requires_grad for p in loaded.denoiser.parameters())


def test_the_same_call_on_a_finished_run_gives_the_same_model(tiny, ethanol, config, network):
    model, folder = tiny
    again = train_molecule([ethanol], folder, config(), name="tiny", network=network)
    assert again.sha256 == model.sha256


def test_fine_tuning_starts_from_the_weights_and_leaves_the_model_alone(tiny, ethanol, make_files, config, tmp_path):
    model, _ = tiny
    before = {name: value.clone() for name, value in model.denoiser.network.state_dict().items()}
    # a learning rate of nearly zero: what comes out is what went in
    frozen = fine_tune(model, [ethanol], tmp_path / "frozen", config(steps=2, learning_rate=1e-12))
    for name, value in frozen.denoiser.network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-9, rtol=0.0)
    other = make_files(tmp_path / "methanol", "CO", 10, seed=3)
    tuned = fine_tune(model, [other], tmp_path / "tuned", config(steps=3), name="methanol", temperature=310.0)
    assert any(not torch.equal(value, before[name]) for name, value in tuned.denoiser.network.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.denoiser.network.state_dict().items())
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    assert (tuned.name, frozen.name) == ("methanol", "tiny-tuned")
    assert tuned.scope.systems == ("CO",)
    assert tuned.scope.temperature == 310.0
    assert tuned.process.fields["pos"].data_scale == model.process.fields["pos"].data_scale
    assert models.load(tmp_path / "tuned").sha256 == tuned.sha256


def test_fine_tuning_on_an_unknown_element_is_refused(tiny, make_files, config, tmp_path):
    other = make_files(tmp_path / "thiol", "CS", 4)
    with pytest.raises(InputError, match="the data have S, which 'tiny' has never seen"):
        fine_tune(tiny[0], [other], tmp_path / "run", config())
    assert not (tmp_path / "run").exists()


def test_molecules_of_different_sizes_in_one_training(propanols, config, network, tmp_path, log_of):
    model = train_molecule(propanols, tmp_path / "run", config(steps=6), network=network)
    assert len(model.scope.systems) == 3
    assert all(np.isfinite(line["loss"]) for line in log_of(tmp_path / "run"))
    without = [dataclasses.replace(propanols[0], forces=()), *propanols[1:]]
    # molecules without forces are denoised
    train_molecule(without, tmp_path / "mixed", config(steps=4), network=network)
    assert all(np.isfinite(line["loss"]) for line in log_of(tmp_path / "mixed"))


def bonds(mol):
    return np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()])


def lengths(positions, pairs):
    return np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1)


def test_ten_structures_are_learned(make_files, config, tmp_path):
    files = make_files(tmp_path / "data", "CO", 10, spread=0.02)
    network = {"dim": 32, "pair_dim": 16, "layers": 2, "heads": 4, "basis": 16, "channels": 8}
    learn = config(
        steps=250,
        batch_size=32,
        learning_rate=8e-3,
        warmup=20,
        ema=0.97,
        noise_median=0.2,
        noise_width=1.3,
        checkpoint_every=250,
    )
    train_molecule(
        [TrajectoryFiles(topology=files.topology, trajectories=files.trajectories)], tmp_path / "run", learn, network=network
    )
    model = models.load(tmp_path / "run")
    system = molecule_system(files.topology)
    levels = noise_grid(model.process, GridConfig(steps=15))
    like = State({"pos": torch.zeros(64, system.atoms, 3)})
    x = (
        draw(model.sampler.make(), model.bind(system), like, levels, generator=torch.Generator().manual_seed(0))
        .fields["pos"]
        .numpy()
    )
    pairs = bonds(system.mol)
    with np.load(files.trajectories[0]) as arrays:
        expected = lengths(arrays["positions"], pairs).mean(0)
    assert np.abs(np.median(lengths(x, pairs), axis=0) - expected).max() < 0.08
    ensemble = model.sample(system, 10, seed=1, block_size=64)
    assert len(ensemble) == 10
    assert np.abs(lengths(ensemble.positions, pairs).mean(0) - expected).max() < 0.15
