"""Training on proteins with and without features, and the memory of a step."""

import dataclasses
import logging
import tracemalloc

import numpy as np
import pytest
import torch

from equilibra.errors import CheckpointError, ConfigError, InputError
from equilibra.systems import model as models
from equilibra.systems.protein import memory
from equilibra.systems.protein.data.backbones import Backbones
from equilibra.systems.protein.frames import extended_frames, written_atoms
from equilibra.systems.protein.providers import ArrayProvider, FolderProvider, NoProvider
from equilibra.systems.protein.sources import protein_system
from equilibra.train.protein import ProteinEntry, fine_tune_protein, protein_data, train_protein
from equilibra.train.protein_features import FeatureDropout, feature_options

SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "points": 2, "pair_value": 4}
RICH, BARE = "GYDPETGTWG", "MKVLAAGHTRGG"
WIDTHS = {"extra_node": 5, "extra_pair": 3}


def backbones(sequence, frames=4):
    """Frames of an extended chain."""
    system = protein_system(sequence)
    trans, rot = (value.repeat(frames, *[1] * (value.ndim - 1)).numpy() for value in extended_frames(system))
    return Backbones(system, written_atoms(trans, rot, system)[:, system.atom_index[:, :3]])


def arrays(sequence, seed=0, pair=3):
    rng, length = np.random.default_rng(seed), len(sequence)
    return rng.normal(size=(length, 5)).astype(np.float32), rng.normal(size=(length, length, pair)).astype(np.float32)


@pytest.fixture(scope="module")
def provider():
    return ArrayProvider(*arrays(RICH))


@pytest.fixture(scope="module")
def sets(provider):
    """A protein with features, and one of a set without."""
    return [
        ProteinEntry(data=[backbones(RICH)], provider=provider),
        ProteinEntry(data=[backbones(BARE)], provider=NoProvider()),
    ]


@pytest.fixture(scope="module")
def both(sets, config, tmp_path_factory):
    """A model that was trained on both."""
    return train_protein(sets, tmp_path_factory.mktemp("both") / "run", config(steps=3), name="both", network=SIZE)


def test_a_set_without_features_makes_them_optional(both, sets, provider, tmp_path):
    assert {name: both.network[name] for name in WIDTHS} == WIDTHS
    assert both.network["optional_features"] is True
    assert "8 conformations of 2 protein(s), 1 of them without features" in both.card.summary
    data = protein_data(sets)
    batch = data.batch(64, generator=torch.Generator().manual_seed(0))
    known = batch.features.graph["extra_known"].bool()
    lengths = batch.features.mask.sum(1)
    assert torch.equal(known, lengths == len(RICH))
    assert 10 < int(known.sum()) < 54
    assert batch.features.pair["extra"].shape == (64, 16, 16, 3)
    assert (batch.features.pair["extra"][~known] == 0.0).all()
    assert (batch.features.pair["extra"][known][:, 0, 1] == torch.from_numpy(arrays(RICH)[1][0, 1])).all()
    # the zeros of a whole protein take no memory
    assert data.entries[1].system.pair_extra.untyped_storage().nbytes() == 4
    assert data.entries[1].system.digest == sets[1].data[0].system.digest

    back = models.load(both.save(tmp_path / "model") and tmp_path / "model")
    state, t = models.domain("protein").template(protein_system(RICH), 2), torch.full((2,), 0.5)
    without, with_them = (back.bind(s)(state, t).displacements for s in (protein_system(RICH), protein_system(RICH, provider)))
    assert not torch.equal(without["rot"], with_them["rot"])
    with pytest.raises(InputError, match=r"the width 4 .* needs the width 5"):
        back.bind(protein_system(RICH, ArrayProvider(arrays(RICH)[0][:, :4])))
    with pytest.raises(InputError, match="needs features of pairs of the width 3, but the protein has none"):
        back.bind(protein_system(RICH, ArrayProvider(arrays(RICH)[0])))


def test_a_dropout_leaves_out_its_share(provider, config, tmp_path):
    entry = [ProteinEntry(data=[backbones(RICH, 30)])]
    data = FeatureDropout.of(protein_data(entry, provider=provider, feature_dropout=0.3), 0.3)
    assert feature_options(data) == {**WIDTHS, "optional_features": True}
    generator = torch.Generator().manual_seed(0)
    known = torch.cat([data.batch(50, generator=generator).features.graph["extra_known"] for _ in range(40)])
    assert set(known.tolist()) == {0.0, 1.0}
    assert abs(float(known.mean()) - 0.7) < 4.0 * (0.3 * 0.7 / 2000) ** 0.5
    options = {"network": SIZE, "provider": provider, "feature_dropout": 0.3}
    model = train_protein(entry, tmp_path / "run", config(steps=2), **options)
    assert model.network["optional_features"] is True
    model.bind(protein_system(RICH))
    with pytest.raises(CheckpointError, match=r"batches.feature_dropout is 0\.3, this run's is 0\.4"):
        train_protein(entry, tmp_path / "run", config(steps=2), **{**options, "feature_dropout": 0.4})
    for wrong in (1.0, -0.1):
        with pytest.raises(ConfigError, match="feature_dropout: got"):
            protein_data(entry, provider=provider, feature_dropout=wrong)
    with pytest.raises(InputError, match="feature_dropout: no protein of the training data has features"):
        protein_data(entry, feature_dropout=0.5)


def test_missing_features_are_refused_unless_allowed(tmp_path, caplog):
    folder = tmp_path / "features"
    folder.mkdir()
    np.savez(folder / f"{RICH}.npz", **dict(zip(("single", "pair"), arrays(RICH), strict=True)))
    entry, source = [ProteinEntry(data=[backbones(RICH), backbones(BARE)])], FolderProvider(folder)
    with pytest.raises(InputError, match=f"holds no features of '{BARE}'.*allow it .--allow-missing-features"):
        protein_data(entry, provider=source)
    for options in ({"allow_missing_features": True}, {"feature_dropout": 0.2}):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            data = protein_data(entry, provider=source, **options)
        assert f"no features of 1 of 2 proteins, and the network is told so: {BARE}" in caplog.text
        assert [part.system.extra_known for part in data.entries] == [True, False]
    (folder / f"{RICH}.npz").unlink()
    with pytest.raises(InputError, match="allow_missing_features: no protein of the training data has features"):
        protein_data(entry, provider=FolderProvider(folder), allow_missing_features=True)
    uneven = [ProteinEntry(data=[backbones(s)], provider=ArrayProvider(*arrays(s, pair=w))) for s, w in ((RICH, 3), (BARE, 2))]
    with pytest.raises(InputError, match=r"features of pairs have the widths \[2, 3\]"):
        protein_data(uneven)


def test_a_model_that_needs_features_can_be_tuned_to_do_without(provider, sets, both, config, tmp_path):
    strict = train_protein([sets[0]], tmp_path / "strict", config(steps=2), network=SIZE)
    assert "optional_features" not in strict.network
    with pytest.raises(InputError, match="needs features of residues of the width 5, but the protein has none"):
        strict.bind(protein_system(RICH))
    before = strict.denoiser.network.state_dict()
    tuned = fine_tune_protein(strict, sets, tmp_path / "tuned", config(steps=1, learning_rate=1e-12))
    assert tuned.network["optional_features"] is True
    tuned.bind(protein_system(BARE))
    for name, value in tuned.denoiser.network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-9, rtol=0.0)
    # one that knows both may go on with either
    for entry in sets:
        assert fine_tune_protein(both, [entry], tmp_path / entry.provider.name, config(steps=1)).network == both.network
    released = dataclasses.replace(strict, network={"kind": "dig-release", **WIDTHS})
    with pytest.raises(InputError, match="cannot do without features"):
        fine_tune_protein(released, sets, tmp_path / "released", config(steps=1))


def test_a_step_that_cannot_fit_is_refused_before_any_array_of_pairs(config, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**28)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    length = 9000
    residue = np.array([[1.4, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.5, 0.0]])
    line = residue + 3.8 * np.arange(length)[:, None, None] * np.array([0.0, 0.0, 1.0])
    long = [ProteinEntry(data=[Backbones(protein_system("A" * length), line[None].astype(np.float32))])]
    tracemalloc.start()
    with pytest.raises(
        InputError, match=r"training on 1 sample of 9000 residues at once needs about \d+\.\d GB, 0\.2 GB are free: cut"
    ):
        train_protein(long, tmp_path / "run", config(steps=1, batch_size=4), network=SIZE, crop=None)
    with pytest.raises(InputError, match="training on 4 samples of 5000 residues"):
        train_protein(long, tmp_path / "run", config(steps=1, batch_size=4), network=SIZE, crop=5000, budget=None)
    assert tracemalloc.get_traced_memory()[1] < length**2
    tracemalloc.stop()
    assert not (tmp_path / "run").exists()
    train_protein(long, tmp_path / "run", config(steps=1, batch_size=4, checkpoint_every=1), network=SIZE, crop=8)
