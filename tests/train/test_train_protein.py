import dataclasses

import numpy as np
import pytest
import torch

from equilibra.errors import CheckpointError, ConfigError, InputError
from equilibra.systems import model as models
from equilibra.systems.protein.data.backbones import Backbones
from equilibra.systems.protein.frames import extended_frames, written_atoms
from equilibra.systems.protein.network import protein_denoiser, protein_network_config
from equilibra.systems.protein.providers import ArrayProvider
from equilibra.systems.protein.sources import protein_system
from equilibra.train import protein as proteins
from equilibra.train.checkpoint import read_checkpoint
from equilibra.train.protein import ProteinEntry, fine_tune_protein, protein_data, read_proteins, train_protein

SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "points": 2, "pair_value": 4}


class Stop(Exception):
    """Any failure in the middle of a run."""


def backbones(sequence, frames=6, seed=0):
    """Frames about the extended chain."""
    system = protein_system(sequence)
    trans, rot = (value.repeat(frames, *[1] * (value.ndim - 1)).numpy() for value in extended_frames(system))
    trans = trans + 0.3 * np.random.default_rng(seed).normal(size=trans.shape)
    return Backbones(system, written_atoms(trans, rot, system)[:, system.atom_index[:, :3]])


@pytest.fixture(scope="module")
def entries():
    """Structures of three proteins, and a longer run of one of them."""
    structures = [backbones(s, 1) for s in ("GYDPETGTWG", "ACDEFGHIKLMNPQRSTVWY", "MKVLAAGHTR")]
    return [ProteinEntry(data=structures), ProteinEntry(data=[backbones("GYDPETGTWG", 20, seed=1)], weight=2.0)]


@pytest.fixture(scope="module")
def tiny(entries, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("protein") / "run"
    return train_protein(entries, folder, config(steps=4), name="tiny", network=SIZE, crop=8), folder


def test_sets_are_mixed_by_their_weights(entries):
    assert len(read_proteins(entries[0])) == 3
    data = protein_data(entries)
    assert data.weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2.0])
    both = [
        dataclasses.replace(entries[0], weight=1.0),
        ProteinEntry(data=[backbones("AAAA", 9), backbones("GGGG", 1)], balance="frames"),
    ]
    assert protein_data(both).weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.9, 0.1])
    batch = protein_data(entries, crop=8).batch(64, generator=torch.Generator().manual_seed(0))
    assert batch.state.mask("rot").sum(1).max() == 8
    assert batch.state.fields["trans"].sum(1).abs().max() < 1e-3
    with pytest.raises(ConfigError, match=r"weight: got 0\.0"):
        ProteinEntry(data=[], weight=0.0)
    with pytest.raises(InputError, match="got no system"):
        protein_data([])


def test_the_saved_model_is_the_returned_one(tiny):
    model, folder = tiny
    loaded = models.load(folder)
    assert loaded.sha256 == model.sha256
    assert loaded.domain == "protein"
    assert loaded.scope.systems == ("ACDEFGHIKLMNPQRSTVWY", "GYDPETGTWG", "MKVLAAGHTR")
    assert loaded.scope.temperature is None
    assert not loaded.scope.transferable
    assert "23 conformations of 3 protein(s)" in loaded.card.summary
    for name, value in model.denoiser.network.state_dict().items():
        assert torch.equal(value, loaded.denoiser.network.state_dict()[name])


def test_an_interrupted_run_goes_on_as_if_never_stopped(tiny, entries, config, tmp_path):
    model, folder = tiny

    def fail(step, values):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train_protein(entries, tmp_path / "run", config(steps=4), name="tiny", network=SIZE, crop=8, progress=fail)
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == 3
    again = train_protein(entries, tmp_path / "run", config(steps=4), name="tiny", network=SIZE, crop=8)
    assert again.sha256 == model.sha256
    assert (tmp_path / "run" / "log.jsonl").read_text() == (folder / "log.jsonl").read_text()
    got, expected = (read_checkpoint(f / "checkpoint.safetensors")[0] for f in (tmp_path / "run", folder))
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_run_with_other_batches_is_another_run(tiny, entries, config):
    _, folder = tiny
    for options in ({"crop": 9}, {"crop": 8, "budget": 10_000}):
        with pytest.raises(CheckpointError, match="another run"):
            train_protein(entries, folder, config(steps=4), name="tiny", network=SIZE, **options)
    other = [entries[0], dataclasses.replace(entries[1], weight=3.0)]
    with pytest.raises(CheckpointError, match="another run"):
        train_protein(other, folder, config(steps=4), name="tiny", network=SIZE, crop=8)


def test_fine_tuning_starts_from_the_weights_and_leaves_the_model_alone(tiny, config, tmp_path, monkeypatch):
    model, _ = tiny
    before = {name: value.clone() for name, value in model.denoiser.network.state_dict().items()}
    other = [ProteinEntry(data=[backbones("WKLMNAG", 8)])]
    frozen = fine_tune_protein(model, other, tmp_path / "frozen", config(steps=2, learning_rate=1e-12), temperature=310.0)
    for name, value in frozen.denoiser.network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-9, rtol=0.0)
    assert (frozen.name, frozen.scope.systems, frozen.scope.temperature) == ("tiny-tuned", ("WKLMNAG",), 310.0)
    assert frozen.process == model.process
    assert "8 conformations of 1 protein(s) at 310 K" in frozen.card.summary
    monkeypatch.setattr(proteins, "TRANSFERABLE", 0)
    tuned = fine_tune_protein(model, other, tmp_path / "tuned", config(steps=2), name="mine")
    assert any(not torch.equal(value, before[name]) for name, value in tuned.denoiser.network.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.denoiser.network.state_dict().items())
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    assert tuned.name == "mine"
    assert tuned.scope.transferable


@pytest.mark.parametrize("temperature", [None, 340.0])
def test_a_model_of_several_temperatures_is_fine_tuned_at_one(tiny, config, tmp_path, temperature):
    network = protein_network_config(**SIZE, conditions=1)
    model = dataclasses.replace(
        tiny[0],
        denoiser=protein_denoiser(tiny[0].process, network, seed=3),
        network=dataclasses.asdict(network),
        scope=dataclasses.replace(tiny[0].scope, temperature=320.0, temperatures=(320.0, 450.0)),
    )
    data = [ProteinEntry(data=[backbones("WKLMNAG", 8)])]
    frozen = fine_tune_protein(model, data, tmp_path / "run", config(steps=1, learning_rate=1e-12), temperature=temperature)
    kelvin = temperature or 320.0
    assert (frozen.scope.temperature, frozen.scope.temperatures) == (kelvin, None)
    assert frozen.network["conditions"] == 0
    expected = model.at_temperature(kelvin).denoiser.network.state_dict()
    for name, value in frozen.denoiser.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-9, rtol=0.0)
    with pytest.raises(InputError, match="temperature: got 300 K, but the model 'tiny' was trained from 320 to 450 K"):
        fine_tune_protein(model, data, tmp_path / "cold", config(steps=1), temperature=300.0)
    assert not (tmp_path / "cold").exists()


def test_extra_features_set_the_width_of_the_network(config, tmp_path, tiny):
    sequence = "GYDPETGTWG"
    rng = np.random.default_rng(0)
    provider = ArrayProvider(rng.normal(size=(10, 5)).astype(np.float32), rng.normal(size=(10, 10, 3)).astype(np.float32))
    entry = [ProteinEntry(data=[backbones(sequence)])]
    model = train_protein(entry, tmp_path / "run", config(steps=2), network=SIZE, provider=provider, crop=6)
    assert (model.network["extra_node"], model.network["extra_pair"]) == (5, 3)
    batch = protein_data(entry, provider=provider, crop=6).batch(4, generator=torch.Generator().manual_seed(0))
    assert batch.features.pair["extra"].shape == (4, 16, 16, 3)
    with pytest.raises(InputError, match="needs features of residues of the width 5, but the protein has none"):
        fine_tune_protein(model, entry, tmp_path / "tuned", config(steps=2))
    with pytest.raises(InputError, match="knows none"):
        fine_tune_protein(tiny[0], entry, tmp_path / "tuned", config(steps=2), provider=provider)


def test_impossible_trainings_are_refused(tiny, entries, config, tmp_path, ethanol, network):
    from equilibra.train.molecule import train_molecule

    with pytest.raises(InputError, match="temperature: got -1"):
        train_protein(entries, tmp_path / "run", config(), network=SIZE, temperature=-1.0)
    molecule = train_molecule([ethanol], tmp_path / "molecule", config(steps=1), network=network)
    with pytest.raises(InputError, match="is of the domain 'molecule', expected 'protein'"):
        fine_tune_protein(molecule, entries, tmp_path / "run", config())
    assert not (tmp_path / "run").exists()


def test_frames_are_learned(config, tmp_path):
    """One conformation of a short peptide: the loss falls far below that of an untrained network, which is one."""
    entry = [ProteinEntry(data=[backbones("GAGA", 1)])]
    learn = config(steps=150, batch_size=32, learning_rate=5e-3, warmup=20, ema=0.97, checkpoint_every=150)
    size = SIZE | {"dim": 32, "pair_dim": 16}
    losses = []
    train_protein(entry, tmp_path / "run", learn, network=size, progress=lambda step, values: losses.append(values["loss"]))
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:3])
