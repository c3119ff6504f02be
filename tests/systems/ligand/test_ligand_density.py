"""The density on R^3 x SO(3) x T^m: path weights of an untrained model against quadrature, and the walkers of a training against both."""

import math

import pytest
import torch
from toy_pocket import seeded, toy_denoiser, toy_system

from equilibra.density.path_annealing import anneal_paths
from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels
from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.walkers import evaluate
from equilibra.geometry import so3
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.engine import PoseEnergy, PosePacking, pose_moves
from equilibra.systems.ligand.network import ligand_process
from equilibra.systems.ligand.poses import pose_positions, random_state


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return toy_system(tmp_path_factory.mktemp("toy"), "CCCOC", size=(6,))


@pytest.fixture(scope="module")
def known(system):
    """Z and the mean energy at 600 K by quadrature: poses drawn evenly, in float64."""
    n, edge = 60_000, 9.0
    g = seeded(0)
    torsions = len(system.torsions.axes)
    shift = edge * (torch.rand(n, 3, generator=g, dtype=torch.float64) - 0.5)
    angles = 2 * math.pi * (torch.rand(n, torsions, generator=g, dtype=torch.float64) - 0.5)
    state = system.state(shift, so3.uniform((n,), generator=g, dtype=torch.float64), angles, torch.zeros(n))
    u = ReducedEnergy.at(ligand_energy(system, "vina"), 600.0)(pose_positions(system, state)).detach()
    w = torch.exp(-u)
    volume = edge**3 * (2 * math.pi) ** torsions
    mean = float((w * u).sum() / w.sum())
    spread = float(torch.sqrt((w**2 * (u - mean) ** 2).sum()) / w.sum())
    return volume * float(w.mean()), volume * float(w.std()) / math.sqrt(n), mean, spread


def test_path_weights_find_the_partition_function(system, known):
    z, z_error, mean, mean_error = known
    model = toy_denoiser().double().requires_grad_(False).eval().bind(system.features.shared())
    energy = ReducedEnergy.at(ligand_energy(system, "vina"), 600.0)
    n = 500
    kernels = path_kernels(model.process, noise_grid(model.process, GridConfig(steps=15, spacing="log", end="noisy")))
    like = random_state(system, n, generator=seeded(1))
    kernels = fit_variances(model, like[:200], kernels, generator=seeded(5))
    made = draw_weighted(model, like, kernels, lambda state: energy(pose_positions(system, state)), generator=seeded(2))
    w = torch.exp(made.log_weights)
    error = math.hypot(float(w.std()) / math.sqrt(n), z_error)
    assert abs(float(w.mean()) - z) < 4 * error
    assert error < 0.35 * z
    average = float((w * made.reduced_energy).sum() / w.sum())
    own = float(torch.sqrt((w**2 * (made.reduced_energy - average) ** 2).sum()) / w.sum())
    assert abs(average - mean) < 4 * math.hypot(own, mean_error)


class Wide(Denoiser):
    """The exact denoiser of poses with a Gaussian shift, any turn and any torsions, which are even and stay so."""

    def __init__(self, std):
        self.process, self.std = ligand_process(std), std

    def __call__(self, state, t):
        sigma = self.process.sigma("shift", t)[:, None, None]
        shift = -state.fields["shift"] * sigma**2 / (sigma**2 + self.std**2)
        turn, torsions = state.fields["turn"][..., 0] * 0.0, torch.zeros_like(state.fields["torsions"])
        return Prediction({"shift": shift, "turn": turn, "torsions": torsions})


def test_annealed_poses_have_the_partition_function_and_the_energy_of_the_score(system, known):
    z, z_error, mean, mean_error = known
    model = Wide(1.5)
    energy = ReducedEnergy.at(ligand_energy(system, "vina"), 600.0)
    kernels = path_kernels(model.process, noise_grid(model.process, GridConfig(steps=11, spacing="log", end="noisy")))
    kernels = fit_variances(model, random_state(system, 400, generator=seeded(5)), kernels, generator=seeded(6))

    def u(state):
        return energy(pose_positions(system, state)).detach()

    like, populations = random_state(system, 120, generator=seeded(7)), 10
    lambdas = anneal_paths(model, like, kernels, u, generator=seeded(99)).lambdas
    rows = []
    for seed in range(populations):
        made = anneal_paths(model, like, kernels, u, generator=seeded(seed), moves=2, lambdas=lambdas)
        w = torch.exp(made.log_weights)
        rows.append((float(w.mean()), float((w * (made.reduced_energy - mean)).mean())))
    found, difference = torch.tensor(rows, dtype=torch.float64).T
    error = float(found.std()) / math.sqrt(populations)
    assert abs(float(found.mean()) - z) < 4 * math.hypot(error, z_error)
    assert error < 0.2 * z
    spread = float(difference.std()) / math.sqrt(populations) / z
    assert abs(float(difference.mean()) / z) < 4 * math.hypot(spread, mean_error)


def test_walkers_have_the_mean_energy_and_forces_are_derivatives(system, known):
    packing = PosePacking(system)
    reduced = ReducedEnergy.at(PoseEnergy(ligand_energy(system, "vina"), packing), 600.0)
    moves = pose_moves(packing, step=0.6, leapfrog=3)
    g = seeded(3)
    walkers = evaluate(packing.array(random_state(system, 200, generator=g)), reduced)
    walkers, _ = moves(walkers, reduced, generator=g, moves=25)
    _, _, mean, mean_error = known
    u = walkers.u
    assert abs(float(u.mean()) - mean) < 4 * math.hypot(float(u.std()) / math.sqrt(len(u)), mean_error)
    # forces against finite differences along each tangent vector
    x = walkers.x[:4]
    forces = packing.numbers.forces(evaluate(x, reduced).force)
    process, h = moves.process, 1e-5
    for name, force in forces.items():
        for place in range(force[0].numel()):
            step = torch.zeros_like(force).flatten(1)
            step[:, place] = h
            step = step.reshape(force.shape)
            fields = packing.numbers.split(x)
            ends = [
                reduced(packing.numbers.joined({**fields, name: process.fields[name].space.retract(fields[name], sign * step)}))
                for sign in (1.0, -1.0)
            ]
            slope = (ends[0] - ends[1]) / (2 * h)
            assert torch.allclose(-slope, force.flatten(1)[:, place], atol=2e-3, rtol=1e-3)


def test_packed_poses_are_undone(system):
    packing = PosePacking(system)
    state = random_state(system, 4, generator=seeded(4))
    x = packing.array(state)
    back = packing.state(x)
    for name, value in state.fields.items():
        assert torch.allclose(back.fields[name], value, atol=1e-6)
    assert torch.equal(back.masks["torsions"], state.masks["torsions"])
