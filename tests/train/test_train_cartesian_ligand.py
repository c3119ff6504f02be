"""Training of the Cartesian state of ligands from complexes and dynamics: the loss falls, and what is drawn are poses of the ligand that load again."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "ligand"))
from moving_complex import ligand, moving_complex
from toy_pocket import SIZE, pocket_pdb, seeded, toy_system

from equilibra.cli.main import app
from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import ConfigError
from equilibra.state import State
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.network import state_of
from equilibra.systems.ligand.poses import pose_positions, random_state
from equilibra.systems.ligand.trajectory import ComplexTrajectory
from equilibra.systems.ligand.validity import check
from equilibra.systems.model import load
from equilibra.train.ligand import COPIES, DEFAULTS, LigandSources, fine_tune_ligand, shift_scale, train_ligand

TYK2 = Path(__file__).parents[1] / "systems" / "ligand" / "tyk2"
NETWORK = {"dim": 32, "pair_dim": 16, "layers": 2, "heads": 4, "basis": 24, "channels": 8}


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def complexes(tmp_path_factory):
    """A folder of one complex whose pose passes the checks."""
    folder = tmp_path_factory.mktemp("complex")
    system = toy_system(folder)
    (folder / "toy.pdb").unlink()
    x = pose_positions(system, random_state(system, 40, generator=seeded(2))).numpy()
    (folder / "c_protein.pdb").write_text(pocket_pdb())
    LigandEnsemble.write(folder / "c_ligand.sdf", x[check(x, system).valid][:1], system)
    return folder


def test_what_is_learned_are_heavy_atoms_among_the_pockets_of_several_boxes():
    sources = LigandSources.read([LigandInput(receptor=TYK2 / "pocket.pdb", ligand=TYK2 / "ligand.sdf", keep_geometry=True)])
    data = sources.data(state="cartesian")
    assert len(data.entries) == COPIES
    assert sum(data.weights) == pytest.approx(1.0)
    assert len({entry.system.digest for entry in data.entries}) == COPIES
    (system,) = sources.systems
    for entry in data.entries:
        x = pose_positions(entry.system, as_state(entry)).numpy()
        heavy = system.torsions.heavy
        assert np.abs(x - system.pose)[:, heavy].max() < 1e-4
    pockets = [frozenset(entry.system.pocket.tolist()) for entry in data.entries]
    assert len(set(pockets)) > 1
    batch = data.batch(6, generator=seeded(1))
    mask = batch.state.masks["pos"]
    assert torch.equal(mask.sum(1), torch.full((6,), len(system.torsions.heavy)))
    assert not batch.state.fields["pos"][~mask].any()
    own = [entry.fields["pos"][:, : len(system.torsions.heavy)].square().mean() for entry in data.entries]
    assert shift_scale(data) == pytest.approx(float(torch.stack(own).mean().sqrt()), abs=1e-3)


def as_state(entry):
    return State(dict(entry.fields))


def test_the_loss_falls_in_a_pocket_of_a_protein(tmp_path):
    source = LigandInput(receptor=TYK2 / "pocket.pdb", ligand=TYK2 / "ligand.sdf", keep_geometry=True)
    config = dataclasses.replace(
        DEFAULTS["cartesian"], steps=60, batch_size=16, learning_rate=5e-3, warmup=5, threads=1, log_every=15
    )
    losses = []
    model = train_ligand(
        [source], tmp_path, config, state="cartesian", network=SIZE, progress=lambda step, values: losses.append(values["loss"])
    )
    assert 0.7 < losses[0] < 1.5
    assert losses[-1] < 0.95 * losses[0]
    assert "cartesian state" in model.card.summary
    again = load(tmp_path)
    assert state_of(again.process) == "cartesian"
    assert again.systems(source)[0] in ligand_systems(source)


def test_an_unknown_state_is_named(tmp_path):
    with pytest.raises(ConfigError, match="unknown state 'internal'"):
        train_ligand([], tmp_path, state="internal")


@pytest.mark.slow
def test_a_model_is_trained_sampled_and_evaluated_from_the_command_line(complexes, tmp_path):
    words = (
        "train",
        "ligand",
        "--data",
        complexes,
        "--state",
        "cartesian",
        "--keep-geometry",
        "--steps",
        450,
        "--batch-size",
        32,
    )
    words += ("--learning-rate", 8e-3, "--warmup", 20, "--ema", 0.98, "--threads", 1)
    words += tuple(word for key, value in NETWORK.items() for word in ("--network", f"{key}={value}"))
    done = run(*words, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "cartesian state" in " ".join(done.output.split())
    inputs = (complexes / "c_protein.pdb", complexes / "c_ligand.sdf", "--keep-geometry", "--model", tmp_path / "run" / "model")
    done = run("sample", "ligand", *inputs, "-n", 10, "--block-size", 20, "--no-report", "-o", tmp_path / "poses")
    assert done.exit_code == 0, done.output
    poses = LigandEnsemble.read(tmp_path / "poses")
    assert len(poses) == 10
    assert np.median(poses.rmsd) < 0.5
    done = run("evaluate", tmp_path / "poses", complexes / "c_ligand.sdf", "--json", tmp_path / "m.json")
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row["value"] for row in json.loads((tmp_path / "m.json").read_text())["rows"]}
    assert rows["success of 1"] == 1.0
    tuned = run(
        "fine-tune", tmp_path / "run" / "model", "--data", complexes, "--keep-geometry", "--steps", 2, "--batch-size", 4,
        "--threads", 1, "-o", tmp_path / "tuned",
    )  # fmt: skip
    assert tuned.exit_code == 0, tuned.output
    assert state_of(load(tmp_path / "tuned").process) == "cartesian"
    # the folder of one state is not gone on with in the other
    other = run(
        "train", "ligand", "--data", complexes, "--keep-geometry", "--steps", 450, "--threads", 1, "-o", tmp_path / "run"
    )
    assert other.exit_code == 2
    assert "holds another run" in other.output
    for way in (("--relax", "vina"), ("--energy", "vina", "--temperature", 300)):
        done = run("sample", "ligand", *inputs, "-n", 1, *way, "-o", tmp_path / "other")
        assert done.exit_code == 2
        assert "is of the cartesian state" in " ".join(done.output.split())


def test_frames_of_dynamics_are_learned_as_they_are(tmp_path):
    moving_complex(tmp_path, ligand(), 8)
    files = TrajectoryFiles(topology=tmp_path / "complex.pdb", trajectories=(tmp_path / "md.xtc",))
    sources = LigandSources.read([ComplexTrajectory(files=files, residue="LIG")])
    (entry,) = sources.data(state="cartesian").entries
    (trajectory,) = sources.trajectories
    heavy = trajectory.system.torsions.heavy
    x = pose_positions(entry.system, as_state(entry)).numpy()
    assert np.abs(x - trajectory.positions)[:, heavy].max() < 1e-4
    config = dataclasses.replace(DEFAULTS["cartesian"], steps=2, batch_size=4, threads=1)
    model = train_ligand(sources, tmp_path / "run", config, state="cartesian", network=SIZE)
    tuned = fine_tune_ligand(model, sources, tmp_path / "tuned", config)
    assert state_of(tuned.process) == "cartesian"
    assert (tmp_path / "tuned" / "complexes" / "000" / "poses" / "ensemble.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "ligand", "a", "b", "--energy", "vina", "--state", "cartesian"), "--state: got 'cartesian' with --energy"),
        (("train", "ligand", "--data", ".", "--state", "internal"), "unknown state 'internal'"),
        (("train", "molecule", "CCO", "--energy", "mmff94", "--state", "cartesian"), "--state has a meaning for ligands only"),
        (("train", "adsorbate", "--energy", "emt", "--state", "cartesian"), "--state has a meaning for ligands only"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, message):
    done = run(*words, "-o", "x")
    assert done.exit_code == 2
    assert re.search(re.escape(message), " ".join(done.output.split()))
