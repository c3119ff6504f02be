"""Relaxation: what it lowers, holds and reports, and all-atom ensembles in resumable blocks."""

import csv

import numpy as np
import pytest
import torch

from equilibra.energies.molecular_mechanics import molecular_mechanics
from equilibra.energies.openmm_system import ForceFieldConfig
from equilibra.errors import CheckpointError, ConfigError, EquilibraError, InputError, ShapeError
from equilibra.systems.protein.all_atom import PDBFixerEngine, side_chain_engine
from equilibra.systems.protein.all_atom_checks import CLASH, Checks
from equilibra.systems.protein.all_atom_ensemble import COLUMNS, all_atom_ensemble
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import atom5_of, extended_frames, written_atoms
from equilibra.systems.protein.peptides import all_atom_protein
from equilibra.systems.protein.relax import RelaxConfig, Relaxer
from equilibra.systems.protein.system import ProteinSystem

QUICK = RelaxConfig(tolerance=0.1, iterations=200)


@pytest.fixture(scope="module")
def system():
    return ProteinSystem.of_chains(["CAITC"], name="pentapeptide")


@pytest.fixture(scope="module")
def protein(system):
    return all_atom_protein(system)


@pytest.fixture(scope="module")
def frames(system):
    """Three written backbones (3, atoms, 3), extended, a little different."""
    trans, rot = extended_frames(system)
    trans = trans + 0.05 * torch.from_numpy(np.random.default_rng(0).normal(size=(3, system.length, 3)))
    return written_atoms(trans.numpy(), rot.expand(3, -1, -1, -1).numpy(), system)


@pytest.fixture(scope="module")
def built(system, protein, frames):
    return side_chain_engine("pdbfixer", protein)(atom5_of(frames, system)[0].astype(np.float64))


def test_the_energy_falls_to_what_the_springs_allow(protein, built):
    start = built.copy()
    done = Relaxer(protein, RelaxConfig(tolerance=0.01, iterations=2000))(built)
    np.testing.assert_array_equal(built, start)
    assert (done.status, done.reason) == ("relaxed", "")
    mechanics = molecular_mechanics(protein.topology, ForceFieldConfig(name="amber14-obc2"))
    for energy, positions in ((done.energy_before, built), (done.energy_after, done.positions)):
        assert energy == pytest.approx(float(mechanics.energy(torch.from_numpy(positions)[None])), abs=2e-3)
    assert done.energy_after < done.energy_before
    # at the minimum the springs balance the force on the backbone, and nothing pulls at the rest
    _, force = mechanics.energy_and_force(torch.from_numpy(done.positions)[None])
    held = np.concatenate([protein.backbone.flatten(), protein.index("CB")])
    springs = np.zeros_like(built)
    springs[held] = -0.5 * (done.positions - built)[held]
    assert np.sqrt(((force[0].numpy() + springs) ** 2).mean()) < 0.02
    moved = np.linalg.norm(done.positions - built, axis=1)
    ca = moved[protein.backbone[:, 1]]
    assert done.ca_rmsd == pytest.approx(np.sqrt((ca**2).mean()))
    assert (done.ca_max, done.heavy_max) == pytest.approx((ca.max(), moved[protein.heavy].max()))
    assert done.ca_max < 0.3
    assert (done.clashes_after, done.inverted, done.stretched, done.close_sulfurs) == (0, 0, 0, 0)


def test_stiffer_springs_hold_the_backbone_better(protein, built):
    moved = [Relaxer(protein, RelaxConfig(stiffness=k))(built).ca_rmsd for k in (0.05, 5.0)]
    assert moved[1] < 0.5 * moved[0]


def test_atoms_on_top_of_each_other_part_without_turning_a_stereocentre(protein, built):
    tangled = built.copy()
    first, second = protein.index("SG")[[0, 4]]
    tangled[second] = tangled[first] + 0.1
    done = Relaxer(protein, RelaxConfig(stiffness=0.2))(tangled)
    assert done.clashes_before > 0
    assert (done.clashes_after, done.inverted) == (0, 0)
    assert done.energy_after < 0.0


def test_what_cannot_be_relaxed_is_reported(protein, built):
    broken = built.copy()
    broken[3, 0] = np.nan
    done = Relaxer(protein)(broken)
    assert (done.status, done.reason) == ("failed", "the structure is not finite")
    np.testing.assert_array_equal(done.positions, broken)
    assert np.isnan(done.energy_after)
    with pytest.raises(ShapeError, match="all-atom positions"):
        Relaxer(protein)(built[:-1])
    with pytest.raises(ConfigError, match="positive tolerance"):
        RelaxConfig(tolerance=0.0)
    with pytest.raises(InputError, match="unknown force field"):
        RelaxConfig(force_field="amber")


def test_checks_see_clashes_mirror_images_long_bonds_and_close_sulfurs(protein, built):
    checks = Checks(protein)
    assert (len(checks.inverted(built)), checks.stretched(built)) == (0, 0)
    assert checks.inverted(-built).tolist() == [0, 1, 2, 3, 4]
    sulfurs = protein.index("SG")[[0, 4]]
    moved = built.copy()
    moved[sulfurs[1]] = moved[sulfurs[0]] + [0.0, 0.0, 2.1]
    assert checks.stretched(moved) == 1
    assert checks.close_sulfurs(moved) == 1
    graph = np.eye(protein.atoms, dtype=int)
    graph[tuple(protein.bonds.T)] = graph[tuple(protein.bonds.T[::-1])] = 1
    far = (np.linalg.matrix_power(graph, 3) == 0) & protein.heavy & protein.heavy[:, None]
    distances = np.linalg.norm(moved[:, None] - moved, axis=2)
    assert checks.clashes(moved) == int((np.triu(far) & (distances < CLASH)).sum()) > 0


def test_an_ensemble_is_written_resumed_and_kept_apart_from_other_runs(system, protein, frames, tmp_path, monkeypatch):
    import mdtraj

    ensemble = ProteinEnsemble(system=system, positions=frames)
    seen = []
    arguments = {"config": QUICK, "block_size": 2}
    made = all_atom_ensemble(ensemble, tmp_path, **arguments, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    trajectory = mdtraj.load(str(made.trajectory), top=str(made.topology))
    assert (trajectory.n_frames, trajectory.n_atoms) == (3, protein.atoms)
    ca = 10.0 * trajectory.xyz[:, protein.backbone[:, 1]]
    np.testing.assert_allclose(ca, frames[:, system.atom_index[:, 1]], atol=0.5)
    with (tmp_path / "relaxation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert set(rows[0]) == {"frame", *COLUMNS}
    assert [row["status"] for row in rows] == made.report["status"].tolist()
    assert made.summary().startswith(f"{len(made.having('relaxed'))} of 3 frames relaxed")

    def never(self, positions):
        raise AssertionError("finished blocks are not made again")

    first = (tmp_path / "all-atom.xtc").read_bytes()
    (tmp_path / "all-atom-blocks" / "block-00001.npz").unlink()
    again = all_atom_ensemble(frames, tmp_path, system, **arguments)
    assert (tmp_path / "all-atom.xtc").read_bytes() == first
    monkeypatch.setattr(Relaxer, "__call__", never)
    monkeypatch.setattr(PDBFixerEngine, "heavy_atoms", never)
    again = all_atom_ensemble(atom5_of(frames, system), tmp_path, system, **arguments)
    np.testing.assert_array_equal(again.report["energy_after"], made.report["energy_after"])
    # finished blocks serve a run of more or fewer frames, those of other backbones do not
    assert all_atom_ensemble(frames[:2], tmp_path, system, **arguments).frames == 2
    with pytest.raises(AssertionError, match="made again"):
        all_atom_ensemble(frames[1:], tmp_path, system, **arguments)
    with pytest.raises(CheckpointError, match="seed"):
        all_atom_ensemble(frames, tmp_path, system, **arguments, seed=1)


def test_no_frame_is_dropped(system, frames, tmp_path, monkeypatch):
    build, calls = PDBFixerEngine.heavy_atoms, []

    def stumbling(self, backbone, seed):
        calls.append(seed)
        if len(calls) == 2:
            raise RuntimeError("no luck")
        return build(self, backbone, seed)

    monkeypatch.setattr(PDBFixerEngine, "heavy_atoms", stumbling)
    broken = frames.copy()
    broken[0, 4] = np.nan
    # the last of the three does not reach the engine: its backbone is not finite
    made = all_atom_ensemble(broken[[1, 2, 0]], tmp_path, system, config=QUICK)
    report = made.report
    assert made.frames == 3
    assert report["engine"].tolist() == ["pdbfixer", "rigid", "rigid"]
    assert report["reason"][1].startswith("pdbfixer failed: no luck")
    assert report["status"][2] == "failed"
    assert "the backbone is not finite" in report["reason"][2]
    assert "1 could not be relaxed and are as they were built: frames 2" in made.summary()


def test_frames_that_do_not_fit_are_refused(system, frames, tmp_path):
    with pytest.raises(InputError, match="give system="):
        all_atom_ensemble(frames, tmp_path)
    with pytest.raises(ShapeError, match="frames"):
        all_atom_ensemble(frames[:, :-1], tmp_path, system)
    with pytest.raises(InputError, match="got no frame"):
        all_atom_ensemble(frames[:0], tmp_path, system)
    with pytest.raises(InputError, match="block_size"):
        all_atom_ensemble(frames, tmp_path, system, block_size=0)
    with pytest.raises(EquilibraError, match="disulfides"):
        all_atom_ensemble(frames, tmp_path, system, disulfides=[(0, 1)])
    assert not list(tmp_path.iterdir())
