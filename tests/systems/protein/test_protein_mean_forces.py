"""Mean forces on frames against a system that is solved by quadrature, and against the forces of rigid residues."""

import dataclasses

import numpy as np
import pytest
import torch

from equilibra.data.conformations import Conformations
from equilibra.errors import ConfigError, DivergenceError, InputError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.systems.protein.energy import protein_energy
from equilibra.systems.protein.frames import extended_frames
from equilibra.systems.protein.held_frames import HeldFrames
from equilibra.systems.protein.mean_forces import FrameForceConfig, FrameForceRun, mean_frame_force
from equilibra.systems.protein.rigid import frames_of
from equilibra.systems.protein.snapshots import mean_forces
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import KJ_PER_MOL_EV, NM, thermal_energy

TEMPERATURE = 300.0
KT = thermal_energy(TEMPERATURE)

BACKBONE = np.array([[0, 1, 2], [3, 4, 5]])
RESIDUE = np.array([0, 0, 0, 1, 1, 1, 0])
ROD, BENT = 1.4, 2.4
"""Lengths of the springs N-CA and CA-C, and N-C of a residue, in Å."""

SOFT, PEPTIDE, SIDE = 60.0, 20.0, 5.0
"""Constants of the springs within a residue, from C to the next N, and from the side atom to both CA, in kT/Å²."""


def springs():
    """Two residues and one side atom of the first, bonded by springs; those between residues have no length."""
    import openmm

    system = openmm.System()
    for _ in range(7):
        system.addParticle(12.0)
    force = openmm.HarmonicBondForce()
    bonds = [(n, ca, ROD, SOFT) for n, ca, _ in BACKBONE.tolist()] + [(ca, c, ROD, SOFT) for _, ca, c in BACKBONE.tolist()]
    bonds += [(n, c, BENT, SOFT) for n, _, c in BACKBONE.tolist()] + [
        (2, 3, 0.0, PEPTIDE),
        (1, 6, 0.0, SIDE),
        (6, 4, 0.0, SIDE),
    ]
    for first, second, length, constant in bonds:
        force.addBond(first, second, length / NM, constant * KT / KJ_PER_MOL_EV * NM**2)
    system.addForce(force)
    return system


def placed(n, a, b, place, turn):
    """N, CA and C of a residue from the coordinates that its frame leaves free."""
    local = np.stack([np.stack([n, 0 * n, 0 * n], -1), np.zeros((*n.shape, 3)), np.stack([a, b, 0 * a], -1)], -2)
    return local @ turn.T + place


@pytest.fixture(scope="module")
def two_residues():
    """Positions, and the exact mean force and torque on both frames in units of kT, by quadrature over the six free coordinates."""
    turn = torch.linalg.qr(torch.tensor([[0.3, 1.0, -0.2], [0.9, -0.1, 0.4], [0.1, 0.5, 1.0]], dtype=torch.float64))[0].numpy()
    turns = [np.eye(3), turn * np.linalg.det(turn)]
    places = [np.zeros(3), np.array([0.4, 2.2, 1.0])]
    n, a, b = np.meshgrid(np.linspace(0.75, 2.05, 40), np.linspace(-1.4, 0.5, 48), np.linspace(0.5, 2.1, 40), indexing="ij")
    own = SOFT * (0.5 * (n - ROD) ** 2 + 0.5 * (np.hypot(a, b) - ROD) ** 2 + 0.5 * (np.sqrt((n - a) ** 2 + b**2) - BENT) ** 2)
    weight = np.exp(-own) * n**2 * b
    # what pulls are the C of the first and the N of the second residue
    c_weight, n_weight = weight.sum(0), weight.sum((1, 2))
    c = (np.stack([a[0], b[0], 0 * a[0]], -1) @ turns[0].T + places[0]).reshape(-1, 1, 3)
    nn = (n[:, 0, 0, None] * turns[1][:, 0] + places[1])[None]
    joint = c_weight.reshape(-1, 1) * n_weight * np.exp(-0.5 * PEPTIDE * ((nn - c) ** 2).sum(-1))
    joint = joint[..., None] / joint.sum()
    pull = PEPTIDE * (nn - c)
    side = 0.5 * SIDE * (places[1] - places[0])
    force = np.stack([(joint * pull).sum((0, 1)) + side, -(joint * pull).sum((0, 1)) - side])
    torque = np.stack(
        [(joint * np.cross(c - places[0], pull)).sum((0, 1)), (joint * np.cross(nn - places[1], -pull)).sum((0, 1))]
    )
    middle = np.array([1.3]), np.array([-0.4]), np.array([1.3])
    positions = [placed(*middle, place, r)[0] for place, r in zip(places, turns, strict=True)]
    return np.concatenate([*positions, [[0.1, 0.9, 0.7]]]), force, torque


def test_held_frames_give_the_gradient_of_the_potential_of_mean_force(two_residues):
    """The force of the springs, averaged over everything that frames leave free, within four standard errors of the quadrature."""
    positions, force, torque = two_residues
    held = HeldFrames(springs(), BACKBONE, temperature=TEMPERATURE, time_step=2.0, friction=10.0, seed=3)
    warm = [x for x, _ in held.samples(positions, 2, every=1000)][-1]
    found = mean_frame_force(held.samples(warm, 4000, every=20), RESIDUE, BACKBONE[:, 1])
    for mean, error, exact in ((found.force, found.force_error, force), (found.torque, found.torque_error, torque)):
        z = (mean / KT - exact) / (error / KT)
        assert np.abs(z).max() < 4.0
        assert np.abs(exact).max() > 50.0 * (error / KT).max()


QUICK = FrameForceConfig(
    snapshots=4, average=3, starts=2, interval=0.02, spacing=0.01, equilibration=0.05, friction=10.0, platform="Reference"
)


@pytest.fixture(scope="module")
def trialanine():
    """Two conformations of three alanines, extended and bent."""
    system = ProteinSystem.of_chains(["AAA"], name="trialanine")
    trans, rot = extended_frames(system)
    generator = torch.Generator().manual_seed(1)
    bent = so3.exp(0.1 * torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)) @ rot
    return Conformations(system, {"trans": trans.repeat(2, 1, 1).float(), "rot": torch.cat([rot, bent]).float()})


def test_an_average_of_one_is_the_force_on_rigid_residues(trialanine):
    config = dataclasses.replace(QUICK, average=1)
    run = FrameForceRun(trialanine.system, config)
    start = run.built(*(trialanine.fields[name][0].numpy() for name in ("trans", "rot")))
    made = list(run.snapshots(start, 2, seed=5))
    positions = torch.from_numpy(np.stack([x for x, _, _ in made]))
    trans, rot = frames_of(run.protein, positions)
    energy = protein_energy(run.protein, config.force_field, temperature=TEMPERATURE, structure=positions)
    _, scores = energy.with_scores(State({"trans": trans, "rot": rot}))
    for row, (_, force, calls) in enumerate(made):
        np.testing.assert_allclose(force.force / KT, scores["trans"][row], rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(force.torque / KT, scores["rot"][row], rtol=1e-6, atol=1e-4)
        assert np.isnan(force.force_error).all()
        # the time steps, and the force itself
        assert calls == (25 if row == 0 else 10) + 1


def test_frames_stay_while_the_rest_moves_and_nothing_pushes_the_whole(trialanine):
    run = FrameForceRun(trialanine.system, QUICK)
    backbone, residue = run.protein.backbone, run.protein.residue
    start = run.built(*(trialanine.fields[name][1].numpy() for name in ("trans", "rot")))
    held = HeldFrames(run.openmm_system, backbone, friction=10.0, platform="Reference", seed=2)
    made = list(held.samples(start, 40, every=5))
    x = torch.from_numpy(np.stack([positions for positions, _ in made]))
    assert torch.equal(x[0], torch.from_numpy(start))
    trans, rot = frames_of(run.protein, x)
    torch.testing.assert_close(trans, trans[:1].expand_as(trans), atol=1e-10, rtol=0.0)
    torch.testing.assert_close(rot, rot[:1].expand_as(rot), atol=1e-10, rtol=0.0)
    moved = (x[-1] - x[0]).norm(dim=-1)
    assert (moved[backbone[:, 1]] < 1e-10).all()
    assert (moved[np.setdiff1d(np.arange(len(moved)), backbone[:, 1])] > 1e-3).all()
    found = mean_frame_force(made, residue, backbone[:, 1])
    assert np.abs(found.force.sum(0)).max() < 1e-8
    assert np.abs((found.torque + np.cross(start[backbone[:, 1]], found.force)).sum(0)).max() < 1e-7
    # the instantaneous force of a stiff bond scatters far more than the mean of forty
    single = mean_frame_force(made[20:21], residue, backbone[:, 1])
    assert np.abs(single.force - found.force).mean() > 2.0 * found.force_error.mean()


def test_snapshots_are_training_data_and_an_interrupted_run_goes_on(trialanine, tmp_path):
    reports = []
    (whole,) = mean_forces([trialanine], QUICK, tmp_path / "whole", progress=reports.append)
    data = whole.conformations
    assert (len(data), data.system is trialanine.system, whole.skipped) == (4, True, ())
    assert [(report.snapshot, report.snapshots, report.protein) for report in reports] == [
        (k, 4, "trialanine") for k in (1, 2, 3, 4)
    ]
    # two starts of two snapshots, 25 and 10 steps apart; each has two more conformations 5 steps apart, and three forces
    assert whole.calls == reports[-1].calls == 2 * (25 + 10) + 4 * (2 * 5 + 3)
    assert data.fields["trans"].mean(1).abs().max() < 1e-5
    for name in ("trans", "rot"):
        assert data.scores[name].shape == whole.errors[name].shape == (4, 3, 3)
        assert (whole.errors[name] > 0.0).all()

    class Stop(Exception):
        """Any failure in the middle of a run."""

    def fail(report):
        if report.snapshot == 3:
            raise Stop

    with pytest.raises(Stop):
        mean_forces([trialanine], QUICK, tmp_path / "stopped", progress=fail)
    (first,) = (tmp_path / "stopped").iterdir()
    assert first.name in {path.name for path in (tmp_path / "whole").iterdir()}
    before, reports = first.read_bytes(), []
    (again,) = mean_forces([trialanine], QUICK, tmp_path / "stopped", progress=reports.append)
    assert first.read_bytes() == before
    assert [report.snapshot for report in reports] == [2, 3, 4]
    assert again.calls == whole.calls
    for name in ("trans", "rot"):
        assert torch.equal(again.conformations.fields[name], data.fields[name])
        assert torch.equal(again.conformations.scores[name], data.scores[name])
    # a damaged file is made again, and other options make other files
    first.write_bytes(before[:100])
    (mended,) = mean_forces([trialanine], QUICK, tmp_path / "stopped")
    assert torch.equal(mended.conformations.scores["rot"], data.scores["rot"])
    (warm,) = mean_forces([trialanine], dataclasses.replace(QUICK, temperature=350.0), tmp_path / "stopped")
    assert len(list((tmp_path / "stopped").iterdir())) == 4
    assert not torch.equal(warm.conformations.scores["rot"], data.scores["rot"])


def test_what_cannot_be_built_is_refused_by_name(trialanine, tmp_path, monkeypatch):
    joint = {name: value[:1] for name, value in trialanine.fields.items()}
    unknown = Conformations(ProteinSystem.of_chains(["AXA"], name="modified"), joint)
    progress = []
    with pytest.raises(InputError, match=r"modified: the residue .* has no all-atom form"):
        mean_forces([trialanine, unknown], QUICK, progress=progress.append)
    assert not progress
    hidden = Conformations(trialanine.system, joint, observed=torch.tensor([[True, False, True]]))
    with pytest.raises(InputError, match="mean forces of trialanine: no conformation shows every residue"):
        mean_forces([hidden], QUICK)
    # one conformation in two: what is wrong with the other is told
    seen = Conformations(trialanine.system, dict(trialanine.fields), observed=torch.tensor([[True] * 3, [True, False, True]]))
    (found,) = mean_forces([seen], dataclasses.replace(QUICK, snapshots=1))
    assert len(found.conformations) == 1
    mirrored = {name: value.clone() for name, value in joint.items()}
    mirrored["trans"][:, 1] += 40.0
    (found,) = mean_forces(
        [Conformations(trialanine.system, {name: torch.cat([joint[name], mirrored[name]]) for name in joint})], QUICK
    )
    assert (len(found.conformations), len(found.skipped)) == (2, 1)
    assert "conformation 1: " in found.skipped[0]
    with pytest.raises(InputError, match="trialanine: no conformation can be built with all its atoms"):
        mean_forces([Conformations(trialanine.system, mirrored)], QUICK)
    with pytest.raises(DivergenceError, match=r"mean forces of trialanine: dynamics .* use a smaller time step"):
        mean_forces([trialanine], dataclasses.replace(QUICK, time_step=50.0, equilibration=5.0))


def test_options_out_of_range_are_refused():
    for options in ({"snapshots": 0}, {"average": 0}, {"temperature": -1.0}, {"spacing": 0.0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))}: got"):
            FrameForceConfig(**options)
    with pytest.raises(ConfigError, match="platform: got 'GPU'"):
        FrameForceConfig(platform="GPU")
    with pytest.raises(InputError, match="unknown force field 'amber14-obc3'; did you mean"):
        FrameForceConfig(force_field="amber14-obc3")
    with pytest.raises(InputError, match="side_chains: got 'scwrl'"):
        FrameForceConfig(side_chains="scwrl")
