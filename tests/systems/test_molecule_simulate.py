"""Simulations of molecules: files with the right units, exact resume, growth, and refusals before any work."""

import dataclasses
import json

import mdtraj
import numpy as np
import pytest

from equilibra.errors import CheckpointError, InputError
from equilibra.systems.molecule import molecule_system
from equilibra.systems.molecule.runs import join_runs, load_runs
from equilibra.systems.molecule.simulate import simulate
from equilibra.units import NM

OPTIONS = {"frame_interval_ps": 0.01, "block_frames": 3, "platform": "Reference", "runs": 2, "seed": 5}


@pytest.fixture(autouse=True)
def _short_equilibration(monkeypatch):
    from equilibra.energies.replica_exchange import ReplicaExchange

    start = ReplicaExchange.start
    monkeypatch.setattr(ReplicaExchange, "start", lambda self, x: start(self, x, equilibration=0.05))


SYSTEM = []


def run(folder, blocks=2, **changes):
    # one system for all: the hydrogens of a peptide are placed at random
    if not SYSTEM:
        SYSTEM.append(molecule_system("ACE-ALA-NME"))
    return simulate(SYSTEM[0], folder, time_ns=blocks * 0.03e-3, **{**OPTIONS, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        from equilibra.energies.replica_exchange import ReplicaExchange

        start = ReplicaExchange.start
        patch.setattr(ReplicaExchange, "start", lambda self, x: start(self, x, equilibration=0.05))
        folder = tmp_path_factory.mktemp("md") / "plain"
        return run(folder)


def test_the_files_hold_frames_forces_and_energies_in_their_units(finished):
    folder = finished.folder
    assert finished.frames == (6, 6)
    blocks = [np.load(folder / "run-1" / f"block-0000{k}.npz") for k in (0, 1)]
    trajectory = mdtraj.load(str(folder / "trajectory-1.dcd"), top=str(folder / "topology.pdb"))
    expected = np.concatenate([block["positions"] for block in blocks])
    np.testing.assert_allclose(trajectory.xyz * NM, expected, atol=1e-4)
    # a bond of carbon and hydrogen, in Å
    bond = next((i.index, j.index) for i, j in trajectory.topology.bonds if {i.element.symbol, j.element.symbol} == {"C", "H"})
    assert np.linalg.norm(expected[:, bond[0]] - expected[:, bond[1]], axis=-1).mean() == pytest.approx(1.09, abs=0.08)
    with np.load(folder / "forces-1.npz") as arrays:
        np.testing.assert_array_equal(arrays["forces"], np.concatenate([block["forces"] for block in blocks]))
        assert arrays["forces"].shape == (6, 22, 3)
        assert arrays["energies"].shape == (6,)
    description = json.loads((folder / "simulation.json").read_text())
    assert description["force_field"] == "amber99sbildn-obc"
    assert description["temperatures"] == [300.0]
    runs = load_runs(folder)
    assert [len(ensemble) for ensemble in runs] == [6, 6]
    assert not np.array_equal(runs[0].positions, runs[1].positions)
    assert runs[0].system == finished.system
    assert runs[0].system.name == "ACE-ALA-NME"
    assert runs[0].provenance["temperature_k"] == 300.0
    joined = join_runs(runs)
    assert len(joined) == 12
    np.testing.assert_array_equal(joined.energies[6:], runs[1].energies)


def test_a_resumed_simulation_is_an_uninterrupted_one(finished, tmp_path):
    names = [f"run-{k}/block-0000{b}.npz" for k in (0, 1) for b in (0, 1)]
    run(tmp_path / "md", blocks=1, runs=1)
    resumed = run(tmp_path / "md")
    assert resumed.frames == finished.frames
    for name in names:
        with np.load(finished.folder / name) as a, np.load(tmp_path / "md" / name) as b:
            np.testing.assert_array_equal(a["positions"], b["positions"])
    assert (tmp_path / "md" / "forces-0.npz").read_bytes() == (finished.folder / "forces-0.npz").read_bytes()


def test_a_finished_simulation_is_left_alone(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    run(finished.folder)
    assert run(finished.folder, blocks=1, runs=1).frames == (6, 6)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()} == before


def test_a_longer_simulation_keeps_what_there_is(tmp_path):
    run(tmp_path / "md", blocks=1, runs=1)
    first = load_runs(tmp_path / "md")[0].positions
    grown = run(tmp_path / "md", blocks=2, runs=1)
    assert grown.frames == (6,)
    np.testing.assert_array_equal(load_runs(tmp_path / "md")[0].positions[:3], first)


def test_every_run_starts_where_the_first_did(tmp_path):
    """Even if the molecule is built a little differently the next time."""
    run(tmp_path / "md", blocks=1, runs=1)
    kept = np.load(tmp_path / "md" / "start.npy")
    np.testing.assert_array_equal(kept, SYSTEM[0].reference / NM)
    other = dataclasses.replace(SYSTEM[0], reference=SYSTEM[0].reference + 0.05)
    simulate(other, tmp_path / "md", time_ns=0.03e-3, **OPTIONS)
    run(tmp_path / "same", blocks=1)
    for name in ("run-0/block-00000.npz", "run-1/block-00000.npz"):
        with np.load(tmp_path / "md" / name) as a, np.load(tmp_path / "same" / name) as b:
            np.testing.assert_array_equal(a["positions"], b["positions"])


def test_replica_exchange_keeps_the_lowest_temperature(tmp_path):
    done = run(tmp_path / "md", runs=1, rungs=2, top_temperature=400.0)
    assert done.temperatures == (300.0, 400.0)
    assert len(done.acceptance[0]) == 1
    assert 0.0 <= done.acceptance[0][0] <= 1.0
    assert json.loads((tmp_path / "md" / "simulation.json").read_text())["temperatures"] == [300.0, 400.0]


def test_a_folder_of_another_simulation_is_refused(finished):
    before = (finished.folder / "run.json").read_bytes()
    with pytest.raises(CheckpointError, match="holds another run: its temperature is 300"):
        run(finished.folder, temperature=310.0)
    assert (finished.folder / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": 0}, "runs: got 0"),
        ({"rungs": 0}, "rungs: got 0"),
        ({"rungs": 3, "top_temperature": 290.0}, "a higher top"),
        ({"force_field": "amber98"}, "unknown force field 'amber98'"),
        ({"constraints": "all"}, "expected 'none' or 'h-bonds'"),
        ({"time_step": 0.0}, "time_step: got 0.0"),
        ({"hydrogen_mass": 9.0}, "hydrogen_mass: got 9.0"),
        ({"platform": "TPU"}, "platform: got 'TPU'"),
        ({"seed": -1}, "seed: got -1"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"blocks": float("nan")}, "time_ns: got nan"),
    ],
)
def test_options_are_checked_before_any_work(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        run(tmp_path / "md", **changes)
    assert not (tmp_path / "md").exists()


def test_a_molecule_without_templates_is_refused(tmp_path):
    with pytest.raises(InputError, match="force field 'amber99sbildn-obc' cannot describe this molecule"):
        simulate("CCO", tmp_path / "md", time_ns=0.001, **OPTIONS)
    assert not (tmp_path / "md").exists()


def test_an_unfinished_simulation_is_not_read(tmp_path, finished):
    (tmp_path / "md").mkdir()
    (tmp_path / "md" / "run.json").write_bytes((finished.folder / "run.json").read_bytes())
    with pytest.raises(InputError, match="unfinished run; repeat its `equilibra simulate` command"):
        load_runs(tmp_path / "md")
