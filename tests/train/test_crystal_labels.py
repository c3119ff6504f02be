"""Models of crystals that were trained with labels, and samples that are asked for values of them."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "crystal"))
from known_crystals import diamond, graphite

from equilibra.errors import CheckpointError, ConfigError, InputError
from equilibra.guidance.classifier_free import ClassifierFree
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.crystal.ensemble import state_of
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.model import load
from equilibra.train.crystal import CrystalEntry, crystal_data, fine_tune_crystal, train_crystal

FEW = SamplerConfig(grid=GridConfig(steps=10))
SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2}


def cubes(count=64):
    """Simple cubic crystals of one atom, half of them narrow and half of them wide, with a label that tells which."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        wide = index % 2
        edge = (2.0, 3.0)[wide] + 0.03 * rng.normal()
        made.append(
            Structure(numbers=np.array([6]), frac=np.zeros((1, 3)), cell=edge * np.eye(3), values={"size": float(wide)})
        )
    return [CrystalEntry(data=made)]


@pytest.fixture(scope="module")
def labelled(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled") / "run"
    settings = config(steps=120, batch_size=24, learning_rate=1e-2, warmup=10, ema=0.95)
    train_crystal(
        cubes(), folder, settings, name="cubes", labels=["size"], label_dropout=0.2, network={**SIZE, "image_cutoff": 3.0}
    )
    return load(folder)


def test_samples_have_the_label_that_they_were_asked_for(labelled):
    (label,) = labelled.scope.labels
    assert (label.name, label.low, label.high, label.mean) == ("size", 0.0, 1.0, 0.5)

    def volumes(**options):
        return labelled.sample("C", n=24, seed=1, block_size=24, sampler=FEW, **options).volumes

    narrow, wide, either = volumes(labels={"size": 0.0}), volumes(labels={"size": 1.0}), volumes()
    assert np.median(narrow) < 14.0 < 20.0 < np.median(wide)
    assert (either < 17.0).any()
    assert (either > 17.0).any()
    stronger = labelled.sample("C", n=12, seed=1, sampler=FEW, labels={"size": 1.0}, label_strength=1.5)
    plain = labelled.sample("C", n=12, seed=1, sampler=FEW, labels={"size": 1.0})
    assert np.median(stronger.volumes) > np.median(plain.volumes) - 1.0
    assert stronger.provenance["network_calls"] == 2 * plain.provenance["network_calls"]
    assert stronger.provenance["labels"] == {"size": 1.0}
    assert stronger.provenance["label_strength"] == 1.5


def test_the_score_is_extrapolated_from_the_one_without_the_label(labelled):
    system = CrystalSystem.of([6])
    state = state_of([Structure(numbers=np.array([6]), frac=np.zeros((1, 3)), cell=2.5 * np.eye(3))] * 3).to(
        dtype=torch.float32
    )
    free, told = labelled.bind(system), labelled.bind(system, labels={"size": 1.0})
    t = torch.full((3,), 0.5)
    first, second = (denoiser(state, t).displacements["cell"] for denoiser in (free, told))
    assert not torch.allclose(first, second, atol=1e-3)
    found = ClassifierFree(free, told, 3.0)(state, t).displacements["cell"]
    assert torch.allclose(found, first + 3.0 * (second - first), atol=1e-5)


def test_labels_that_the_data_do_not_have_are_refused(config, labelled, tmp_path):
    carbon = [dataclasses.replace(item, values={"band_gap": 1.0 * i}) for i, item in enumerate((diamond(), graphite()))]
    with pytest.raises(InputError, match="label 'bandgap': no structure has such a value; did you mean 'band_gap'"):
        crystal_data([CrystalEntry(data=carbon)], ["bandgap"])
    with pytest.raises(InputError, match="expected each once"):
        crystal_data([CrystalEntry(data=carbon)], ["band_gap", "band_gap"])
    with pytest.raises(ConfigError, match=r"label_dropout: got -0\.1"):
        crystal_data([CrystalEntry(data=carbon)], ["band_gap"], label_dropout=-0.1)
    with pytest.raises(InputError, match="label_strength: has an effect on samples with labels only"):
        labelled.sample("C", n=1, label_strength=2.0)
    with pytest.raises(InputError, match="label_strength: got -1"):
        labelled.sample("C", n=1, labels={"size": 1.0}, label_strength=-1.0)
    with pytest.raises(InputError, match="'cubes' has no label 'gap'"):
        labelled.sample("C", n=1, labels={"gap": 1.0})
    run = [CrystalEntry(data=carbon)], tmp_path / "run", config(steps=1)
    train_crystal(*run, labels=["band_gap"], network=SIZE)
    with pytest.raises(CheckpointError):
        train_crystal(*run, labels=["band_gap"], label_dropout=0.3, network=SIZE)


def test_labels_stay_when_a_model_is_trained_further(config, labelled, tmp_path):
    plain = [Structure(numbers=np.array([6]), frac=np.zeros((1, 3)), cell=2.4 * np.eye(3))]
    tuned = fine_tune_crystal(labelled, [CrystalEntry(data=plain)], tmp_path, config(steps=2))
    assert tuned.scope.labels == labelled.scope.labels
    assert len(tuned.sample("C", n=2, block_size=4, sampler=FEW, labels={"size": 0.5})) == 2


def test_energies_are_labels_too():
    carbon = [diamond(energy=-9.0), diamond(3.6, energy=-8.5), graphite()]
    data, (label,) = crystal_data([CrystalEntry(data=carbon)], ["energy_per_atom"], label_dropout=0.0)
    assert (label.low, label.high, label.share) == (-9.0, -8.5, pytest.approx(2 / 3))
    told = data.batch(32, generator=torch.Generator().manual_seed(1)).features.graph["conditions"]
    assert set(told[:, 1].tolist()) == {0.0, 1.0}
