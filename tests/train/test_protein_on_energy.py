"""Physics-informed training of proteins: snapshots with forces beside plain data, and the score equation through the network of frames."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from equilibra.data.conformations import ConformationData, Conformations
from equilibra.diffusion.space import SO3, CentredEuclidean
from equilibra.errors import CheckpointError, ConfigError, InputError
from equilibra.systems import model as models
from equilibra.systems.protein.data.backbones import Backbones
from equilibra.systems.protein.frames import extended_frames, written_atoms
from equilibra.systems.protein.mean_forces import FrameForceConfig
from equilibra.systems.protein.network import protein_denoiser, protein_network_config, protein_process
from equilibra.systems.protein.sources import protein_system
from equilibra.train.checkpoint import read_checkpoint
from equilibra.train.protein import ProteinEntry, fine_tune_protein, train_protein
from equilibra.train.protein_energy import ProteinEnergy, with_mean_forces

SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "points": 2, "pair_value": 4}
FORCES = FrameForceConfig(
    temperature=310.0, snapshots=2, average=2, starts=1, interval=0.01, spacing=0.01, equilibration=0.02, platform="Reference"
)
ENERGY = ProteinEnergy(forces=FORCES, share=0.5)


class Stop(Exception):
    """Any failure in the middle of a run."""


def backbones(sequence, frames=6, seed=0):
    """Frames about the extended chain, the first of them on it."""
    system = protein_system(sequence)
    trans, rot = (value.repeat(frames, *[1] * (value.ndim - 1)).numpy() for value in extended_frames(system))
    trans[1:] += 0.3 * np.random.default_rng(seed).normal(size=trans[1:].shape)
    return Backbones(system, written_atoms(trans, rot, system)[:, system.atom_index[:, :3]])


@pytest.fixture(scope="module")
def entries():
    """Three alanines with forces, and a longer protein without."""
    return [ProteinEntry(data=[backbones("AAA", 3)], weight=3.0), ProteinEntry(data=[backbones("GYDPETG", 4)], plain=True)]


@pytest.fixture(scope="module")
def trained(entries, config, tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("physics") / "run", []
    model = train_protein(entries, folder, config(steps=4), name="tiny", network=SIZE, energy=ENERGY, collecting=told.append)
    return model, folder, told


def test_snapshots_and_physical_terms_join_the_training(trained, log_of):
    model, folder, told = trained
    assert {path.name for path in folder.iterdir()} == {"run.json", "mean-forces", "training", "model"}
    assert [state.snapshot for state in told] == [1, 2]
    assert model.card.summary == (
        "Trained on 7 conformations of 2 protein(s) at 310 K, and 2 snapshots with mean forces of amber14-obc2 at 310 K "
        f"({told[-1].calls} energy calls)."
    )
    assert (model.scope.temperature, model.scope.systems) == (310.0, ("AAA", "GYDPETG"))
    assert models.load(folder).sha256 == model.sha256
    rows = log_of(folder / "training")
    for row in rows:
        assert row["loss"] == pytest.approx(sum(row[f"loss_{name}"] for name in ("data", "residual", "force")), rel=1e-5)
        assert row["loss_residual"] > 0.0
        assert row["loss_force"] > 0.0
    energy = json.loads((folder / "run.json").read_text())["energy"]
    assert (energy["forces"]["temperature"], energy["pidp"]["smoothed"]) == (310.0, True)


def test_an_interrupted_run_goes_on_as_if_never_stopped(trained, entries, config, tmp_path):
    model, folder, told = trained
    options = {"name": "tiny", "network": SIZE, "energy": ENERGY}

    def stop(state):
        raise Stop

    with pytest.raises(Stop):
        train_protein(entries, tmp_path / "run", config(steps=4), **options, collecting=stop)

    def fail(step, values):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train_protein(entries, tmp_path / "run", config(steps=4), **options, progress=fail)
    assert read_checkpoint(tmp_path / "run" / "training" / "checkpoint.safetensors")[1]["step"] == 3
    again = []
    resumed = train_protein(entries, tmp_path / "run", config(steps=4), **options, collecting=again.append)
    assert resumed.sha256 == model.sha256
    assert [state.snapshot for state in again] == [2]
    assert again[0].calls == told[-1].calls
    assert (tmp_path / "run/training/log.jsonl").read_text() == (folder / "training/log.jsonl").read_text()


def test_a_model_is_fine_tuned_with_an_energy(trained, config, tmp_path):
    model, folder, _ = trained
    data = [ProteinEntry(data=[backbones("AAA", 1)])]
    energy = dataclasses.replace(ENERGY, forces=dataclasses.replace(FORCES, average=1))
    tuned = fine_tune_protein(model, data, tmp_path / "tuned", config(steps=2), energy=energy)
    assert (tuned.name, tuned.scope.temperature) == ("tiny-tuned", 310.0)
    assert "tiny, trained further on 1 conformations of 1 protein(s) at 310 K, and 2 snapshots with instantaneous forces" in (
        tuned.card.summary
    )
    # no forces are computed for a folder of another run
    told = []
    with pytest.raises(CheckpointError, match=r"another run: its energy.*average"):
        fine_tune_protein(model, data, tmp_path / "tuned", config(steps=2), energy=ENERGY, collecting=told.append)
    with pytest.raises(CheckpointError, match="another run"):
        fine_tune_protein(model, data, folder, config(steps=2), energy=energy, collecting=told.append)
    assert not told


def test_plain_sets_stay_data_alone(entries, tmp_path):
    parts = [entry.data[0].conformations() for entry in entries]
    spaces = {"trans": CentredEuclidean(), "rot": SO3()}
    data = ConformationData(parts, weights=[3.0, 1.0], crop=None, spaces=spaces)
    made = with_mean_forces(data, [False, True], ENERGY, tmp_path / "run", identity={}, progress=lambda state: None)
    assert made.data.weights == [1.5, 1.0, 1.5]
    assert [bool(entry.scores) for entry in made.data.entries] == [False, False, True]
    assert made.snapshots == 2
    assert made.data.has_forces
    batch = made.data.batch(400, generator=torch.Generator().manual_seed(0))
    share = float(batch.known.double().mean())
    assert abs(share - 1.5 / 4.0) < 4 * (0.375 * 0.625 / 400) ** 0.5
    assert set(batch.state.mask("trans").sum(1)[batch.known].tolist()) == {3}
    for force in batch.forces.values():
        assert not force[~batch.known].any()
        assert force[batch.known].flatten(1).any(1).all()
    with pytest.raises(InputError, match="all sets are plain"):
        with_mean_forces(data, [True, True], ENERGY, tmp_path / "none", identity={}, progress=lambda state: None)
    assert not (tmp_path / "none").exists()


def test_the_loss_is_differentiated_through_the_network_of_frames(config):
    """In double precision the gradient of the whole loss is that of finite differences: residual, force and data, on a padded batch."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for sequence, forces in (("GYDPE", True), ("AAA", False)):
        system = protein_system(sequence)
        trans, rot = (value.repeat(4, *[1] * (value.ndim - 1)) for value in extended_frames(system))
        scores = {name: torch.randn(4, system.length, 3, generator=generator) for name in ("trans", "rot")}
        parts.append(Conformations(system, {"trans": trans.float(), "rot": rot.float()}, scores if forces else None))
    batch = ConformationData(parts, spaces={"trans": CentredEuclidean(), "rot": SO3()}, bucket=8).batch(8, generator=generator)
    batch = dataclasses.replace(
        batch, state=batch.state.to(dtype=torch.float64), forces={name: value.double() for name, value in batch.forces.items()}
    )
    assert batch.known.any()
    assert not batch.known.all()
    denoiser = protein_denoiser(protein_process(3.0), protein_network_config(**SIZE), seed=1).double()
    objective = ENERGY.objective(denoiser, config())
    assert objective.mixture is None
    parameters = list(denoiser.parameters())

    def losses():
        return objective(denoiser, batch, generator=torch.Generator().manual_seed(3))

    def move(by):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(by * direction)

    gradients = torch.autograd.grad(losses()["loss"], parameters, allow_unused=True)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    along = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    move(1e-5)
    above = losses()
    move(-2e-5)
    below = losses()
    assert along == pytest.approx(float((above["loss"] - below["loss"]).detach()) / 2e-5, rel=1e-5)
    for name in ("residual", "force", "data"):
        assert above[f"loss_{name}"] != below[f"loss_{name}"]


def test_impossible_trainings_are_refused(entries, config, tmp_path):
    with pytest.raises(InputError, match="got 300 K for the data and 310 K for the energy"):
        train_protein(entries, tmp_path / "run", config(), network=SIZE, energy=ENERGY, temperature=300.0)
    modified = [ProteinEntry(data=[backbones("AXA", 1)])]
    with pytest.raises(InputError, match="has no all-atom form"):
        train_protein(modified, tmp_path / "modified", config(), network=SIZE, energy=ENERGY)
    with pytest.raises(ConfigError, match=r"share: got 0\.0"):
        ProteinEnergy(share=0.0)
    assert not list(tmp_path.iterdir())
