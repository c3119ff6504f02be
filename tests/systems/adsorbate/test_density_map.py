"""Maps against each other and against what is known: exact integration, path weights in a skew plane, counts, files."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from ase.io.cube import read_cube_data

from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels
from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.energies.adapters import CallableEnergy
from equilibra.errors import InputError, ShapeError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state import State
from equilibra.systems.adsorbate.density_map import boltzmann_map, correlation, jensen_shannon, occupancy, read_map
from equilibra.systems.adsorbate.domain import absolute
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.network import adsorbate_process
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.units import thermal_energy

KELVIN = 600.0
KT = thermal_energy(KELVIN)
STIFF = 8.0 * KT  # eV/Å²


@pytest.fixture(scope="module")
def system():
    return AdsorbateSystem.of("Pt(111) 1x1x3", "O")


@pytest.fixture(scope="module")
def energy(system):
    """Waves in the plane with the period of the lattice, a spring along the normal."""
    reciprocal = 2.0 * math.pi * torch.linalg.inv(system.plane).T

    def waves(x):
        plane = (x[:, 0, :2] @ reciprocal.T.to(x)).cos() * torch.tensor([1.0, 0.6]).to(x)
        return KT * plane.sum(1) + 0.5 * STIFF * x[:, 0, 2] ** 2

    return CallableEnergy(waves, 1, name="waves", invariant=False)


class Spring(Denoiser):
    """Knows the spring, and nothing of the waves."""

    def __init__(self, process):
        self.process = process

    def __call__(self, state, t):
        sigma = self.process.sigma("pos", t)[:, None]
        x = state.fields["pos"]
        pull = torch.zeros_like(x)
        pull[..., 2] = -(sigma**2) / (sigma**2 + KT / STIFF) * x[..., 2]
        return Prediction({"pos": pull})


@pytest.fixture(scope="module")
def weighted(system, energy):
    """Paths of a model that is wrong, with their weights."""
    process = adsorbate_process().of_system(system.features)
    model = Spring(process)
    kernels = path_kernels(process, noise_grid(process, GridConfig(steps=40, spacing="log", end="noisy")))
    g = torch.Generator().manual_seed(0)
    like = State({"pos": torch.zeros(4000, 1, 3, dtype=torch.float64)})
    start = process.prior(like[:400], generator=g)
    start.fields["pos"][..., 2] *= math.sqrt(KT / STIFF) / 8.06
    kernels = fit_variances(model, start, kernels, generator=g)
    return draw_weighted(model, like, kernels, lambda state: energy.energy(state.fields["pos"]) / KT, generator=g)


def test_weights_of_paths_in_a_skew_plane_are_exact(system, energy, weighted):
    u = torch.linspace(0, 1, 401, dtype=torch.float64)[:-1] + 0.5 / 400
    grid = torch.stack(torch.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2) @ system.plane
    flat = torch.exp(-energy.energy(torch.nn.functional.pad(grid, (0, 1))[:, None]) / KT)
    area = float(torch.linalg.det(system.plane).abs())
    log_z = math.log(area * float(flat.mean()) * math.sqrt(2 * math.pi * KT / STIFF))
    w = torch.exp(weighted.log_weights - log_z)
    assert abs(float(w.mean()) - 1.0) < 4 * float(w.std()) / math.sqrt(len(w))
    assert float(w.std()) < 2.5
    reciprocal = 2.0 * math.pi * torch.linalg.inv(system.plane).T
    for row in reciprocal:
        exact = float((flat * (grid @ row).cos()).sum() / flat.sum())
        value = (weighted.state.fields["pos"][:, 0, :2] @ row).cos()
        mean = float((w * value).sum() / w.sum())
        error = float(torch.sqrt((w**2 * (value - mean) ** 2).sum()) / w.sum())
        assert abs(mean - exact) < 4 * error
        assert abs(exact) > 8 * error


def test_weighted_occupancy_follows_the_exact_map(system, energy, weighted):
    ensemble = AdsorbateEnsemble(
        system=system,
        positions=absolute(system, weighted.state.fields["pos"]),
        log_weights=weighted.log_weights.numpy(),
        provenance={"temperature_k": KELVIN},
    )
    shape = (6, 6, 3)
    exact = boltzmann_map(system, energy, KELVIN, shape=shape)
    even = dataclasses.replace(ensemble, log_weights=np.zeros(len(ensemble)))
    z, of_raw = scores(ensemble, exact), scores(even, exact)
    assert np.square(z).mean() < 1.6
    assert np.abs(z).max() < 4.0
    assert np.square(of_raw).mean() > 20.0
    # the numbers themselves are limited by the noise of these samples
    near, raw = occupancy(ensemble, shape=shape).difference(exact), occupancy(even, shape=shape).difference(exact)
    assert near["js_bits_plane"] < 0.2 * raw["js_bits_plane"]


def scores(ensemble, exact):
    """How far the share of each cell of the plane is from the exact one, in units of its own error, for normalised weights w: the variance is the sum of w^2 (inside - p)^2."""
    p = exact.plane
    squares = dataclasses.replace(ensemble, log_weights=2.0 * ensemble.log_weights)
    inside = occupancy(squares, shape=exact.density.shape).plane  # shares of the sum of w^2
    variance = np.square(ensemble.weights).sum() * (inside * (1.0 - 2.0 * p) + p**2)
    return (occupancy(ensemble, shape=exact.density.shape).plane - p) / np.sqrt(variance)


def test_the_exact_map_converges(system, energy):
    coarse, fine = (boltzmann_map(system, energy, KELVIN, shape=(5, 5, 4), finer=(n, n, n)) for n in (4, 8))
    assert coarse.probability.sum() == pytest.approx(1.0)
    assert float(np.abs(coarse.probability - fine.probability).max()) < 2e-3
    assert coarse.difference(fine)["js_bits"] < 1e-4


def test_counts_smoothing_and_files(system, tmp_path):
    top = system.slab.positions[-1]
    x = np.stack([top + np.array([0.0, 0.0, 1.3]), top + np.array([1.3, 0.8, 1.3])])[:, None]
    ensemble = AdsorbateEnsemble(system=system, positions=x, log_weights=np.log([0.75, 0.25]))
    counts = occupancy(ensemble, shape=(8, 8, 6))
    assert counts.density.sum() * counts.voxel == pytest.approx(1.0)
    assert sorted(counts.probability.ravel())[-2:] == pytest.approx([0.25, 0.75])
    smooth = occupancy(ensemble, shape=(8, 8, 6), smooth=0.3)
    assert smooth.density.sum() * smooth.voxel == pytest.approx(1.0, rel=0.02)
    assert (smooth.density >= 0).all()
    cube, table = smooth.save(tmp_path)
    data, atoms = read_cube_data(str(cube))
    assert data.shape == (8, 8, 6)
    assert np.allclose(data, smooth.density, rtol=1e-4, atol=1e-8)
    assert np.allclose(atoms.positions, system.slab.positions, atol=1e-4)
    again = read_map(table, system)
    assert again.difference(smooth)["js_bits"] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ShapeError, match="density map to compare with"):
        again.difference(counts if counts.density.shape != (8, 8, 6) else occupancy(ensemble, shape=(4, 8, 6)))


def test_numbers_of_differences():
    p = np.array([0.5, 0.5, 0.0])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    # a cold map has probabilities of which the half is zero
    assert jensen_shannon(np.array([1.0, 5e-324]), np.array([1.0, 0.0])) == pytest.approx(0.0)
    assert correlation(p, 2 * p + 1) == pytest.approx(1.0)
    assert math.isnan(correlation(p, np.ones(3)))


def test_what_a_map_cannot_be(system, energy):
    two = AdsorbateSystem.of("Pt(111) 2x2x3", ["O", "O"])
    with pytest.raises(InputError, match="2 atoms move, and a grid serves one"):
        boltzmann_map(two, energy, KELVIN)
    with pytest.raises(InputError, match="expected the lower first"):
        boltzmann_map(system, energy, KELVIN, heights=(2.0, 1.0))
    with pytest.raises(InputError, match="positive number in K"):
        boltzmann_map(system, energy, 0.0)
    ensemble = AdsorbateEnsemble(system=system, positions=np.zeros((1, 1, 3)) + system.slab.positions[-1] + 1.0)
    with pytest.raises(InputError, match="but the mobile atoms are O"):
        occupancy(ensemble, element="C")
