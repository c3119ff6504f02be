"""Ligands from the command line: training from the score alone and from complexes, poses with weights, evaluation, batches."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "ligand"))
from moving_complex import ligand, moving_complex
from toy_pocket import SIZE, SMILES, pocket_pdb, toy_model, toy_system

from equilibra.cli.main import app
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.poses import pose_positions, random_state

NETWORK = [word for key, value in SIZE.items() for word in ("--network", f"{key}={value}")]


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("cli")
    (made / "toy.pdb").write_text(pocket_pdb())
    return made


@pytest.fixture(scope="module")
def model(folder):
    """An untrained model: its poses lie anywhere in the wide pocket, and mostly pass the checks."""
    toy_model(toy_system(folder)).save(folder / "model")
    return folder / "model"


POCKET = ("--center", 0, 0, 0, "--size", 12)


@pytest.fixture(scope="module")
def poses(folder, model):
    out = folder / "poses"
    done = run(
        "sample",
        "ligand",
        folder / "toy.pdb",
        SMILES,
        *POCKET,
        "-n",
        12,
        "--model",
        model,
        "--block-size",
        20,
        "-o",
        out,
    )
    assert done.exit_code == 0, done.output
    assert "binding modes" in done.output
    return out


def test_poses_come_with_their_numbers_and_the_receptor(poses):
    mols = list(Chem.SDMolSupplier(str(poses / "poses.sdf"), removeHs=False))
    assert len(mols) == 12
    assert {"log_weight", "weight", "cluster"} <= set(mols[0].GetPropsAsDict())
    assert all(Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles(SMILES) for mol in mols)
    clusters = list(csv.DictReader((poses / "clusters.csv").open()))
    assert sum(int(row["poses"]) for row in clusters) == 12
    assert sum(float(row["population"]) for row in clusters) == pytest.approx(1.0, abs=1e-4)
    for name in ("best.sdf", "contacts.csv", "receptor.pdb", "report.html", "samples.csv", "ensemble.json"):
        assert (poses / name).is_file()
    ensemble = LigandEnsemble.read(poses)
    assert len(ensemble) == 12
    low, high = (corner.numpy() for corner in ensemble.system.box.corners)
    assert ((ensemble.heavy >= low) & (ensemble.heavy <= high)).all()
    if len(ensemble.rejected):
        assert all(reason for reason in ensemble.rejected_reasons)


def test_the_same_command_changes_nothing(folder, model, poses):
    before = (poses / "samples.csv").read_bytes()
    words = (
        "sample",
        "ligand",
        folder / "toy.pdb",
        SMILES,
        *POCKET,
        "-n",
        12,
        "--model",
        model,
        "--block-size",
        20,
        "-o",
        poses,
    )
    done = run(*words)
    assert done.exit_code == 0
    assert "already holds 12" in done.output
    assert (poses / "samples.csv").read_bytes() == before


def test_evaluation_against_a_known_pose_and_an_ensemble(folder, poses, tmp_path):
    system = toy_system(folder)
    ensemble = LigandEnsemble.read(poses)
    known = tmp_path / "known.sdf"
    ensemble.write(known, ensemble.positions[3:4], system)
    done = run("evaluate", poses, known, "--json", tmp_path / "m.json")
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row["value"] for row in json.loads((tmp_path / "m.json").read_text())["rows"]}
    assert rows["best of 10"] <= rows["best of 5"] <= rows["best of 1"]
    assert rows["best of 12, centred (DiG)"] < 1e-3  # the known pose is among them
    assert rows["success of 1"] >= 1 / 12 - 1e-9
    again = run("evaluate", poses, poses)
    assert again.exit_code == 0, again.output
    assert "TV of binding modes" in again.output


def test_annealed_poses_are_weighted_and_their_errors_are_of_populations(folder, model, tmp_path):
    words = (
        "sample",
        "ligand",
        folder / "toy.pdb",
        "CCCOC",
        *POCKET,
        "-n",
        40,
        "--model",
        model,
        "--outside-scope",
        "--no-report",
    )
    words += (
        "--energy",
        "vina",
        "--temperature",
        600,
        "--levels",
        6,
        "--smc",
        2,
        "--block-size",
        30,
        "-o",
        tmp_path / "annealed",
    )
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "Weights for vina at 600 K" in done.output
    ensemble = LigandEnsemble.read(tmp_path / "annealed")
    assert ensemble.provenance["smc"] == 2
    families = ensemble.populations()
    assert len(families) >= 2
    record = ensemble.provenance["path_weights"]
    assert record["energy_calls"] > record["n"]
    first = ensemble.clusters[0]
    # the error is that of ratios of sums over whole populations, not of poses
    w, inside = ensemble.weights, ensemble._cluster_of == 0
    sums = np.array([[w[rows].sum(), (w * inside)[rows].sum()] for rows in families])
    draws = np.random.default_rng(1).integers(len(sums), size=(4000, len(sums)))
    ratio = sums[draws].sum(1)
    assert first.error == pytest.approx(float((ratio[:, 1] / ratio[:, 0]).std()), rel=0.2)
    one = dataclasses.replace(ensemble, blocks=np.zeros(len(ensemble), dtype=np.int64))
    assert np.isnan(one.clusters[0].error)
    assert "±" not in one.clusters[0].in_words()
    refused = run(*[word for word in words if word not in ("--energy", "vina", "--levels", 6)])
    assert refused.exit_code == 2
    assert "--smc: has an effect with --energy only" in refused.output


def test_a_table_with_a_bad_row_samples_the_others(folder, model, tmp_path):
    table = folder / "pairs.csv"
    table.write_text(
        f"receptor,ligand,name,center_x,center_y,center_z,size\ntoy.pdb,{SMILES},good,0,0,0,12\ntoy.pdb,C1CC,bad,0,0,0,12\n"
    )
    done = run("sample", "ligand", table, "-n", 2, "--model", model, "--block-size", 5, "--no-report", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert (tmp_path / "out" / "good" / "poses.sdf").is_file()
    assert "bad" in done.output


@pytest.mark.slow
def test_training_from_the_score_alone_gives_weighted_poses(folder, tmp_path, monkeypatch):
    from equilibra.train import ligand_energy

    few = {"burn_in": 4, "leapfrog": 3, "path_levels": 6, "path_samples": 8, "every": 1}
    monkeypatch.setattr(ligand_energy, "LIGAND", dataclasses.replace(ligand_energy.LIGAND, **few))
    quick = dataclasses.replace(ligand_energy.SAMPLER, grid=dataclasses.replace(ligand_energy.SAMPLER.grid, steps=6))
    monkeypatch.setattr(ligand_energy, "SAMPLER", quick)
    out = tmp_path / "run"
    words = (
        "train",
        "ligand",
        folder / "toy.pdb",
        "CCCOC",
        *POCKET,
        "--energy",
        "vina",
        "--rounds",
        2,
        "--rungs",
        2,
        "--walkers",
        6,
        "--sweeps",
        4,
    )
    done = run(*words, "--steps", 6, "--batch-size", 4, "--threads", 1, *NETWORK, "-o", out)
    assert done.exit_code == 0, done.output
    assert "round 2 of 2" in done.output
    assert (out / "walkers" / "clusters.csv").is_file()
    done = run(
        "sample", "ligand", folder / "toy.pdb", "CCCOC", *POCKET, "-n", 4, "--model", out / "model", "--energy", "vina", "--levels", 8, "--block-size", 24,
        "--no-report", "-o", tmp_path / "weighted",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Weights for vina at 300 K" in done.output
    ensemble = LigandEnsemble.read(tmp_path / "weighted")
    assert ensemble.energies is not None
    assert np.ptp(ensemble.log_weights) > 0
    assert ensemble.clusters[0].free_energy == 0.0


@pytest.mark.slow
def test_training_from_the_score_in_many_pockets_with_known_complexes(folder, tmp_path, monkeypatch):
    import torch

    from equilibra.train import ligand_energy

    few = {"burn_in": 2, "leapfrog": 2, "path_levels": 4, "path_samples": 6}
    monkeypatch.setattr(ligand_energy, "LIGAND", dataclasses.replace(ligand_energy.LIGAND, **few))
    table = folder / "pockets.csv"
    rows = ("toy.pdb,CCCOC,one,0,0,0,12", f"toy.pdb,{SMILES},two,0,0,0,12", "toy.pdb,C1CC,bad,0,0,0,12")
    table.write_text("\n".join(("receptor,ligand,name,center_x,center_y,center_z,size", *rows)) + "\n")
    system = toy_system(folder)
    pose = pose_positions(system, random_state(system, 1, generator=torch.Generator().manual_seed(0))).numpy()
    known = tmp_path / "known"
    known.mkdir()
    (known / "c_protein.pdb").write_text(pocket_pdb())
    LigandEnsemble.write(known / "c_ligand.sdf", pose, system)
    out = tmp_path / "run"
    words = ("train", "ligand", table, "--energy", "vina", "--data", known, "--data-share", 0.5, "--rounds", 1, "--rungs", 2)
    words += ("--walkers", 4, "--sweeps", 1, "--steps", 3, "--batch-size", 4, "--threads", 1, *NETWORK, "-o", out)
    done = run(*words)
    assert done.exit_code == 0, done.output
    for part in ("left out: bad", "2 systems: one, two", "mean ESS of 2 systems", "and 1 complex", "systems.csv"):
        assert part in " ".join(done.output.split())
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert "going on with" in again.output
    assert len(list(csv.DictReader((out / "systems.csv").open()))) == 2
    done = run(
        "sample", "ligand", table, "-n", 2, "--model", out / "model", "--block-size", 20, "--no-report", "-o", tmp_path / "poses"
    )  # fmt: skip
    assert done.exit_code == 2  # the bad row
    assert (tmp_path / "poses" / "two" / "poses.sdf").is_file()


@pytest.mark.slow
def test_training_from_complexes(folder, tmp_path):
    import torch

    system = toy_system(folder)
    x = pose_positions(system, random_state(system, 2, generator=torch.Generator().manual_seed(0))).numpy()
    for row, pose in enumerate(x):
        (tmp_path / f"c{row}_protein.pdb").write_text(pocket_pdb())
        LigandEnsemble.write(tmp_path / f"c{row}_ligand.sdf", pose[None], system)
    out = tmp_path / "run"
    done = run("train", "ligand", "--data", tmp_path, "--steps", 4, "--batch-size", 4, "--threads", 1, *NETWORK, "-o", out)
    assert done.exit_code == 0, done.output
    assert "Trained on 2 complexes" in done.output
    assert (out / "model" / "model.json").is_file()
    own = run(
        "fine-tune", out / "model", "--data", tmp_path, "--keep-geometry", "--steps", 2, "--batch-size", 4, "--threads", 1,
        "-o", tmp_path / "own",
    )  # fmt: skip
    assert own.exit_code == 0, own.output
    # the geometries that are learned from are other ones: the folder of that run is not gone on with
    other = run(
        "fine-tune", out / "model", "--data", tmp_path, "--steps", 2, "--batch-size", 4, "--threads", 1, "-o", tmp_path / "own"
    )
    assert other.exit_code != 0


@pytest.mark.slow
def test_training_from_molecular_dynamics(tmp_path):
    mol = ligand()
    moving_complex(tmp_path, mol, 60)
    out, data = tmp_path / "run", f"{tmp_path / 'md.xtc'}:{tmp_path / 'complex.pdb'}"
    words = ("train", "ligand", "--data", data, "--ligand-residue", "LIG", "--stride", 2, "--steps", 4, "--batch-size", 4)
    words += ("--threads", 1, *NETWORK, "-o", out)
    done = run(*words)
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "of 30 frames are learned from" in told
    assert "frames of 1 trajectory" in told
    again = run(*words)
    assert again.exit_code == 0, again.output
    first = out / "complexes" / "000"
    fit = json.loads((first / "fit.json").read_text())
    assert fit["frames"] == 30
    assert max(fit["misfit"]) < 0.1
    poses = tmp_path / "poses"
    words = ("sample", "ligand", first / "receptor.pdb", first / "ligand.sdf", "--keep-geometry", "--model", out / "model")
    done = run(*words, "-n", 3, "--block-size", 40, "--no-report", "-o", poses)
    assert done.exit_code == 0, done.output
    assert LigandEnsemble.read(poses).system == LigandEnsemble.read(first / "poses").system
    done = run("evaluate", poses, first / "poses")
    assert done.exit_code == 0, done.output
    tuned = run(
        "fine-tune", out / "model", "--data", data, "--ligand-residue", "LIG", "--ligand-template", SMILES, "--steps", 2,
        "--batch-size", 4, "--threads", 1, "-o", tmp_path / "tuned",
    )  # fmt: skip
    assert tuned.exit_code == 0, tuned.output
    assert "trained further on" in tuned.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "ligand", "--data", "none.xtc:none.pdb", "-o", "x"), "no such file"),
        (("train", "ligand", "--data", ".", "--ligand-residue", "LIG", "-o", "x"), "with trajectories in --data only"),
        (
            ("train", "ligand", "--data", ".", "--stride", "2", "-o", "x"),
            "--stride: has a meaning for ligands with trajectories",
        ),
        (
            ("fine-tune", "molecule-ala2", "--ligand-residue", "LIG", "-o", "x"),
            "--ligand-residue has a meaning for ligands only",
        ),
        (("sample", "ligand", "toy.pdb"), "expected a receptor and a ligand|receptor 'toy.pdb' alone"),
        (("sample", "ligand", "toy.pdb", "CCO", "--size", "3"), "--size: has a meaning with --center only"),
        (("sample", "molecule", "CCO", "--ref-ligand", "x.sdf"), "--ref-ligand: has no meaning for molecules"),
        (("train", "ligand", "-o", "x"), "got no data of ligands"),
        (("train", "ligand", "toy.pdb", "-o", "x", "--energy", "vina"), "receptor 'toy.pdb' alone"),
        (("train", "ligand", "toy.pdb", "CCO", "-o", "x", "--energy", "mmff94"), "unknown energy|vina"),
        (("train", "ligand", "-o", "x", "--energy", "vina"), "expected a receptor and a ligand"),
        (("train", "ligand", "none.csv", "-o", "x", "--energy", "vina"), "cannot be read"),
        (("train", "ligand", "a", "b", "-o", "x", "--energy", "vina", "--data-share", "0.5"), "with --data only"),
        (("train", "ligand", "a", "b", "-o", "x", "--energy", "vina", "--data", "none.csv"), "none.csv"),
        (("train", "molecule", "CCO", "-o", "x", "--energy", "mmff94", "--data-share", "0.5"), "for ligands only"),
    ],
)
def test_what_cannot_be_is_one_sentence(model, words, message):
    import re

    extra = ("--model", model) if words[0] == "sample" and words[1] == "ligand" else ()
    done = run(*words, *extra)
    assert done.exit_code == 2
    assert re.search(message, " ".join(done.output.split()))
