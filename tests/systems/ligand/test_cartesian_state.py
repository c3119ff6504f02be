"""The Cartesian state of ligands: hydrogens from heavy atoms, frames, densities, what a model remembers, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from toy_pocket import SIZE, cartesian_toy_denoiser, pocket_pdb, seeded, toy_input, toy_model, toy_system

from equilibra.density import flow
from equilibra.density.flow import FlowConfig
from equilibra.density.trace import Trace
from equilibra.energies.docking import Box
from equilibra.errors import ConfigError, EquilibraError, InputError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import ligand_systems
from equilibra.systems.ligand.network import cartesian_process, ligand_denoiser, ligand_network_config, state_of
from equilibra.systems.ligand.poses import cartesian_pose_state, pose_positions, random_state
from equilibra.systems.ligand.validity import check
from equilibra.systems.model import Model

LIGANDS = (
    "C[C@H](N)CCOC",
    "C[C@@H](O)/C=C/C(=O)Nc1ccccc1",
    "C#CC#C",  # a line
    "C[S@](=O)CC#N",
    "C[N@@H+](CC)CCO",
    "N/N=C/c1ccccc1O",
    "ClC(Cl)(Cl)Cl",  # no hydrogens
)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return toy_system(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("smiles", LIGANDS)
def test_hydrogens_are_where_they_were(tmp_path, smiles):
    """Of poses with the bonds and angles of the reference, hydrogens come back: exactly but for those opposite to three neighbours."""
    system = toy_system(tmp_path, smiles)
    x = pose_positions(system, random_state(system, 20, generator=seeded(1)))
    heavy = x[:, system.torsions.heavy]
    found = system.hydrogens.added(heavy)
    assert torch.equal(found[:, system.torsions.heavy], heavy)
    off = (found - x).norm(dim=-1)
    opposite = torch.zeros(system.atoms, dtype=torch.bool)
    opposite[[i for i in range(system.atoms) if i not in set(system.torsions.heavy)]] = system.hydrogens.opposite
    # geometries are rounded to 1e-4 Å
    assert float(off[:, ~opposite].max()) < 2e-3
    assert not opposite.any() or float(off[:, opposite].max()) < 0.25
    assert np.array_equal(check(found.numpy(), system).valid, check(x.numpy(), system).valid)


def test_hydrogens_turn_with_the_heavy_atoms_and_have_gradients(system):
    x = pose_positions(system, random_state(system, 5, generator=seeded(2)))[:, system.torsions.heavy]
    q, shift = so3.uniform((), generator=seeded(3), dtype=torch.float64), torch.tensor([1.0, -2.0, 3.0])
    there = system.hydrogens.added(x @ q.T + shift)
    assert torch.allclose(there, system.hydrogens.added(x) @ q.T + shift, atol=1e-9)
    few = x[:1].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(system.hydrogens.added, (few,), atol=1e-6)


def test_a_methyl_beyond_a_triple_bond_is_framed_by_what_is_not_in_line(tmp_path):
    system = toy_system(tmp_path, "CC(C)CC#CC")
    x = pose_positions(system, random_state(system, 20, generator=seeded(1)))
    found = system.hydrogens.added(x[:, system.torsions.heavy]).numpy()
    assert LigandEnsemble.check(found, system).passed[:, :3].all()  # finite, bonds, angles


def test_poses_go_into_the_state_and_come_back(system):
    x = pose_positions(system, random_state(system, 6, generator=seeded(4))).numpy()
    state = cartesian_pose_state(system, x)
    assert set(state.fields) == {"pos", "reference"}
    assert torch.equal(state.masks["pos"].sum(1), torch.full((6,), len(system.torsions.heavy)))
    back = pose_positions(system, state).numpy()
    heavy = system.torsions.heavy
    assert np.abs(back - x)[:, heavy].max() < 1e-12
    # the pocket is the frame: its atoms have their middle at the origin
    pocket = state.fields["reference"][0, len(heavy) :]
    assert float(pocket.mean(0).abs().max()) < 1e-12
    assert np.abs(pocket.numpy() + system.pocket_centre - system.receptor.positions.numpy()[system.pocket]).max() < 1e-12


def test_another_box_has_its_own_pocket(tmp_path):
    system = toy_system(tmp_path, size=(4,))
    moved = system.in_box(Box((2.5, 0.0, 0.0), system.box.size))
    assert moved != system
    assert moved.features.tokens == len(moved.pocket) + len(system.torsions.heavy)
    same = system.in_box(system.box)
    assert np.array_equal(same.pocket, system.pocket)
    for name, value in system.features.node.items():
        assert torch.equal(same.features.node[name], value)


def test_the_density_is_that_of_a_gaussian_where_the_network_is_silent(system):
    """With a head of zeros the model is N(0, scale^2) of the heavy atoms: ln p in closed form, of L atoms, whatever the number of tokens."""
    scale = 3.0
    denoiser = cartesian_toy_denoiser(scale=scale).double().requires_grad_(False)
    denoiser.network.head.mixing.weight.zero_()
    denoiser.network.head.mixing.bias.zero_()
    heavy = scale * torch.randn(4, len(system.torsions.heavy), 3, generator=seeded(5), dtype=torch.float64)
    bound = denoiser.bind(system.features.shared())
    found = flow.log_density(
        bound,
        system.cartesian_state(heavy),
        generator=seeded(6),
        config=FlowConfig(steps=60),
        trace=Trace(kind="exact"),
    )
    # data of the standard deviation scale, seen at the smallest noise
    variance = scale**2 + denoiser.process.fields["pos"].schedule.sigma_min ** 2
    degrees = 3 * len(system.torsions.heavy)
    exact = -0.5 * (degrees * math.log(2.0 * math.pi * variance) + heavy.square().sum((1, 2)) / variance)
    assert torch.allclose(found.log_density, exact, atol=2e-2)


def test_the_density_of_a_network_is_the_same_in_a_turned_frame(system):
    denoiser = cartesian_toy_denoiser().double().requires_grad_(False)
    state = system.cartesian_state(
        2.0 * torch.randn(2, len(system.torsions.heavy), 3, generator=seeded(7), dtype=torch.float64)
    )
    q = so3.uniform((), generator=seeded(8), dtype=torch.float64)
    config, trace = FlowConfig(steps=12), Trace(kind="exact")

    def density(x: State):
        return flow.log_density(denoiser.bind(system.features.shared()), x, generator=seeded(9), config=config, trace=trace)

    assert torch.allclose(density(state).log_density, density(state.map(lambda x: x @ q.T)).log_density, atol=1e-6)


def test_a_model_remembers_its_state(system, tmp_path):
    for kind in ("torsional", "cartesian"):
        model = toy_model(system, state=kind).save(tmp_path / kind)
        again = Model.read(tmp_path / kind)
        assert state_of(again.process) == kind
        like = again.template(system, 3)
        assert set(like.fields) == set(again.process.fields)
        t = torch.full((3,), 0.5)
        start = again.process.prior(like, generator=seeded(1))
        for name, value in model.bind(system)(start, t).displacements.items():
            assert torch.equal(again.bind(system)(start, t).displacements[name], value)
    with pytest.raises(ConfigError, match="got 3 noise levels, expected 1"):
        ligand_denoiser(cartesian_process(), ligand_network_config())
    pos = cartesian_process().fields["pos"]
    with pytest.raises(ConfigError, match="got the moving fields trans"):
        state_of(dataclasses.replace(cartesian_process(), fields={"trans": pos}))


def test_broken_poses_are_rejected_with_reasons(system):
    model = toy_model(system, state="cartesian")
    with pytest.raises(EquilibraError, match="only 0 of 10 samples passed the checks"):
        model.sample(system, 1, block_size=5)
    state = model.process.prior(model.template(system, 4), generator=seeded(1), t=0.0)
    found = check(pose_positions(system, state).numpy(), system)
    assert not found.valid.any()
    assert all(any(reason.startswith("bonds: bond") for reason in found.reasons(frame)) for frame in range(4))
    # a pose that is another stereoisomer is no pose of this ligand
    x = pose_positions(system, random_state(system, 1, generator=seeded(2)))
    mirrored = cartesian_pose_state(system, x.numpy() * np.array([1.0, 1.0, -1.0]))
    assert any("stereo" in reason for reason in check(pose_positions(system, mirrored).numpy(), system).reasons(0))


@pytest.mark.parametrize("way", [{"energy": "vina", "temperature": 300.0}, {"relax": "vina"}])
def test_no_weights_and_no_relaxation_in_a_score_without_bonds(system, way):
    with pytest.raises(InputError, match="is of the cartesian state"):
        toy_model(system, state="cartesian").sample(system, 1, **way)


def test_no_training_from_an_energy_starts_from_it(system, tmp_path):
    from equilibra.train.ligand_energy import train_ligand_on_energy

    with pytest.raises(InputError, match="is of the cartesian state"):
        train_ligand_on_energy([system], tmp_path / "run", network=SIZE, weights=toy_model(system, state="cartesian"))
    assert not (tmp_path / "run").exists()


def test_a_receptor_turned_and_shifted_with_its_ligand_is_the_same_scene(system, tmp_path):
    """From the files on: the State of the known pose turns, and what is written lies in the receptor's own frame."""
    pose = pose_positions(system, random_state(system, 1, generator=seeded(3))).numpy()
    q = so3.uniform((), generator=seeded(11), dtype=torch.float64).numpy()
    shift = np.array([20.0, -5.0, 8.0])
    lines = []
    for line in pocket_pdb().splitlines():
        if line.startswith("ATOM"):
            x = np.array([float(line[30:38]), float(line[38:46]), float(line[46:54])]) @ q.T + shift
            line = line[:30] + "".join(f"{v:8.3f}" for v in x) + line[54:]
        lines.append(line)
    (tmp_path / "turned").mkdir()
    (tmp_path / "turned" / "toy.pdb").write_text("\n".join(lines) + "\n")
    given = dataclasses.replace(toy_input(tmp_path), receptor=tmp_path / "turned" / "toy.pdb", centre=tuple(shift))
    other = ligand_systems(given)[0]
    here, there = cartesian_pose_state(system, pose), cartesian_pose_state(other, pose @ q.T + shift)
    for name, value in here.fields.items():
        assert torch.allclose(there.fields[name], value @ torch.from_numpy(q).T, atol=2e-3)  # files have three digits
    heavy = system.torsions.heavy
    written = pose_positions(other, there).numpy()
    assert np.abs(written - (pose @ q.T + shift))[:, heavy].max() < 1e-9
