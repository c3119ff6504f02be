"""Errors and floors of the evaluation of poses: those of whole populations, where poses are relatives."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "ligand"))
from toy_pocket import seeded, toy_system

from equilibra.report.pose_evaluation import evaluate_poses
from equilibra.systems.ensemble import WALKERS
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.poses import pose_positions, random_state

CHAINS, LENGTH = 24, 10


@pytest.fixture(autouse=True)
def no_posebusters(monkeypatch):
    """PoseBusters takes a second per pose, and tells nothing of errors."""
    monkeypatch.setitem(sys.modules, "posebusters", None)


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Chains that stand still: each pose of a chain is the same, so that there are as many independent poses as chains."""
    system = toy_system(tmp_path_factory.mktemp("chains"))
    drawn = pose_positions(system, random_state(system, 40, generator=seeded(1))).numpy()
    poses = drawn[LigandEnsemble.check(drawn, system).valid][:CHAINS]
    assert len(poses) == CHAINS
    return system, np.repeat(poses, LENGTH, axis=0), np.repeat(np.arange(CHAINS), LENGTH)


def ensemble(chains, **options):
    system, poses, blocks = chains
    return LigandEnsemble.from_frames(system, poses, blocks=blocks, **options)


def known(ensemble, tmp_path):
    path = tmp_path / "known.sdf"
    ensemble.write(path, ensemble.positions[:1], ensemble.system)
    return path


def rows_of(a, b, **options):
    return {row.metric: row for row in evaluate_poses(a, b, n=CHAINS * LENGTH, **options).rows}


def test_errors_are_those_of_whole_chains(chains, tmp_path):
    walkers = ensemble(chains, provenance={"kind": WALKERS})
    row = rows_of(walkers, known(walkers, tmp_path))["best of 1"]
    # the best of one is the mean: its error is that of the mean of independent chains
    from equilibra.geometry.symmetric_rmsd import symmetric_rmsd

    each = symmetric_rmsd(walkers.heavy, walkers.heavy[0], walkers.symmetries)[::LENGTH]
    assert row.value == pytest.approx(each.mean(), rel=1e-3)  # files keep four decimals
    expected = each.std() / np.sqrt(CHAINS)
    assert abs(row.error / expected - 1.0) < 4.0 / np.sqrt(2 * 200)


def test_poses_that_are_no_relatives_are_drawn_one_by_one(chains, tmp_path):
    walkers, alone = ensemble(chains, provenance={"kind": WALKERS}), ensemble(chains)
    file = known(walkers, tmp_path)
    ratio = rows_of(walkers, file)["best of 1"].error / rows_of(alone, file)["best of 1"].error
    assert abs(ratio / np.sqrt(LENGTH) - 1.0) < 4.0 / np.sqrt(200)


def test_the_floor_is_between_halves_of_chains(chains):
    """Halves of poses of chains that stand still are much alike, those of chains are not: their floor is the wider one."""
    walkers, alone = ensemble(chains, provenance={"kind": WALKERS}), ensemble(chains)
    floors = [rows_of(walkers, each)["JSD of torsions"].floor for each in (walkers, alone)]
    assert floors[0] > 2.0 * floors[1] > 0.0


def test_one_population_tells_no_error(chains, tmp_path):
    system, poses, blocks = chains
    walkers = LigandEnsemble.from_frames(system, poses, blocks=0 * blocks, provenance={"kind": WALKERS})
    found = rows_of(walkers, known(walkers, tmp_path))
    assert np.isnan(found["median RMSD"].error)
    assert np.isfinite(found["median RMSD"].value)


def test_divergence_of_centroids_of_two_places(chains):
    """Two places along one axis, with weights 0.9 and 0.1 against halves: the divergence is that of two coins, and a third of it the mean over the axes."""
    system, poses, _ = chains
    places = np.stack([poses[0], poses[0] + np.array([1.5, 0.0, 0.0])])
    ours = LigandEnsemble(system=system, positions=places, log_weights=np.log([0.9, 0.1]))
    theirs = LigandEnsemble(system=system, positions=places)
    p, q, m = np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([0.7, 0.3])
    coins = 0.5 * (p * np.log(p / m)).sum() + 0.5 * (q * np.log(q / m)).sum()
    found = rows_of(ours, theirs)
    assert found["JSD of the centroid"].value == pytest.approx(coins / 3)
    assert found["JSD of torsions"].value == pytest.approx(0.0, abs=1e-12)
    # halves of two poses are one place each
    assert found["JSD of the centroid"].floor == pytest.approx(np.log(2) / 3)
