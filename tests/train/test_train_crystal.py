import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "crystal"))
from known_crystals import diamond, graphite, poscar, rock_salt, triclinic, write_json

from equilibra.density.flow import FlowConfig
from equilibra.errors import CheckpointError, ConfigError, InputError
from equilibra.systems.crystal.density import crystal_log_density
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.model import load
from equilibra.train.crystal import CrystalEntry, cell_moments, crystal_data, fine_tune_crystal, train_crystal

SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2}


@pytest.fixture(scope="module")
def carbon():
    """Two compositions of carbon."""
    return [diamond(), diamond(3.6), graphite(), graphite(2.5, 6.9)]


@pytest.fixture(scope="module")
def tiny(carbon, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crystal") / "run"
    return train_crystal([CrystalEntry(data=carbon)], folder, config(steps=4), name="tiny", network=SIZE), folder


def test_sets_are_mixed_by_their_weights(carbon, tmp_path, caplog):
    path = write_json(tmp_path / "salt.json", [rock_salt()])
    path.write_text(
        path.read_text().replace(
            "{", '{"flat": ' + repr(poscar(diamond()).replace("1.7835", "0.0000")).replace("'", '"') + ", ", 1
        )
    )
    data, _ = crystal_data([CrystalEntry(data=carbon), CrystalEntry(data=path, weight=3.0)])
    assert [entry.system.formula for entry in data.entries] == ["C2", "C4", "NaCl"]
    assert data.weights == pytest.approx([0.5, 0.5, 3.0])
    assert "1 records were left out" in caplog.text
    batch = data.batch(16, generator=torch.Generator().manual_seed(0))
    state = batch.state
    assert state.fields["frac"].shape == (16, 4, 3)
    assert state.fields["cell"].shape == (16, 3, 3)
    assert set(state.masks) == {"frac"}
    # the volume of a cell is that of its atoms
    atoms = state.mask("frac").sum(1)
    density = 1.0 / torch.linalg.det(state.fields["cell"])
    assert torch.allclose(density[batch.features.node["element"][:, 0] == 11], torch.tensor(8 / 5.64**3), rtol=1e-4)
    assert set(atoms.tolist()) <= {2, 4}


def test_moments_of_cells():
    cube = Structure(numbers=np.array([6]), frac=np.zeros((1, 3)), cell=2.0 * np.eye(3))
    other = dataclasses.replace(cube, cell=2.5 * np.eye(3))
    centre, scale = cell_moments(crystal_data([CrystalEntry(data=[cube, other])])[0])
    assert centre == 2.25
    # of the six axes of a symmetric matrix the diagonal ones vary
    assert scale == pytest.approx((3 * 0.25**2 / 6) ** 0.5, abs=1e-4)
    assert cell_moments(crystal_data([CrystalEntry(data=[cube])])[0]) == (2.0, 0.02)


def test_a_training_ends_in_a_model_that_samples(tiny, tmp_path):
    model, folder = tiny
    again = load(folder)
    assert again.scope.systems == ("C2", "C4")
    assert again.scope.atoms == ((2, 2), (4, 2))
    assert again.process.fields["cell"].space.centre == model.process.fields["cell"].space.centre
    ensemble = again.sample("C2", n=3, block_size=8, seed=1, folder=tmp_path / "out")
    assert isinstance(ensemble, CrystalEnsemble)
    assert len(ensemble) == 3
    assert ensemble.validity.valid.all()
    same = again.sample("C2", n=3, block_size=8, batch_size=3, seed=1)
    assert np.allclose(same.cells, ensemble.cells, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"is C8, but the model 'tiny' was trained on C2, C4 only"):
        again.sample("C8", n=1)
    with pytest.raises(InputError, match="has Si, but the model"):
        again.sample("Si2", n=1)
    with pytest.raises(InputError, match="coordinates are periodic"):
        again.sample("C2", n=1, energy="mmff94", temperature=300.0)


def test_an_interrupted_training_goes_on(carbon, config, tiny, tmp_path):
    stopped = tmp_path / "run"

    def stop(step, values):
        if step == 2:
            raise KeyboardInterrupt

    settings = config(steps=4, checkpoint_every=2, log_every=1)
    entries = [CrystalEntry(data=carbon)]
    with pytest.raises(KeyboardInterrupt):
        train_crystal(entries, stopped, settings, name="tiny", network=SIZE, progress=stop)
    resumed = train_crystal(entries, stopped, settings, name="tiny", network=SIZE)
    whole = train_crystal(entries, tmp_path / "whole", settings, name="tiny", network=SIZE)
    assert resumed.sha256 == whole.sha256
    with pytest.raises(CheckpointError):
        train_crystal(entries[:1] * 2, stopped, settings, name="tiny", network=SIZE)


def test_a_model_is_trained_further(tiny, config, tmp_path):
    model, _ = tiny
    before = {name: value.clone() for name, value in model.denoiser.network.state_dict().items()}
    tuned = fine_tune_crystal(model, [CrystalEntry(data=[graphite(), graphite(2.4)])], tmp_path, config(steps=2))
    assert tuned.name == "tiny-tuned"
    assert tuned.scope.systems == ("C4",)
    assert tuned.sha256 != model.sha256
    assert tuned.process.fields["cell"].space.centre == model.process.fields["cell"].space.centre
    assert all(torch.equal(value, before[name]) for name, value in model.denoiser.network.state_dict().items())
    with pytest.raises(InputError, match="the data have Na, Cl, which 'tiny' has never seen"):
        fine_tune_crystal(model, [CrystalEntry(data=[rock_salt()])], tmp_path / "salt", config(steps=2))


def test_bad_sets_are_refused():
    with pytest.raises(ConfigError, match="weight"):
        CrystalEntry(data=[], weight=0.0)
    with pytest.raises(InputError, match="got no structure"):
        crystal_data([CrystalEntry(data=[])])


def test_log_density_is_the_same_for_every_description(tiny):
    model, _ = tiny
    copy = model.with_weights(model.denoiser.network.state_dict())
    copy.denoiser.double()
    with torch.no_grad():
        g = torch.Generator().manual_seed(0)
        for value in copy.denoiser.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=g, dtype=value.dtype))
    # lattice vectors of different lengths: the Niggli cell is then unique up to the gauge
    known = triclinic(2, 1)
    from known_crystals import other_description

    both = crystal_log_density(
        copy, [known, other_description(known, 3)], config=FlowConfig(solver="heun", steps=12, check="nodes")
    )
    assert np.isfinite(both.log_density).all()
    assert both.log_density[0] == pytest.approx(both.log_density[1], rel=1e-6)
    with pytest.raises(InputError, match="got no structure"):
        crystal_log_density(copy, [])
    with pytest.raises(InputError, match="has NaCl"):
        crystal_log_density(copy, [rock_salt()])
