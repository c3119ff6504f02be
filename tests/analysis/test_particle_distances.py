import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from equilibra.analysis.baseline import isotropic_gaussian
from equilibra.analysis.particle_evaluation import evaluate_particles, particle_floors, particle_metrics
from equilibra.analysis.particle_w2 import distance_w2, energy_w2, geometric_w2, pair_distances
from equilibra.analysis.symmetry_distance import squared_distances
from equilibra.errors import ConfigError, InputError, ShapeError


def arrangements(seed, n, items, axes):
    return np.random.default_rng(seed).standard_normal((n, items, axes))


def moved(x, seed):
    """The same arrangements: every one turned, half of them mirrored, permuted and shifted."""
    rng = np.random.default_rng(seed)
    axes = x.shape[2]
    if axes == 3:
        turn = Rotation.random(len(x), random_state=seed).as_matrix()
    else:
        angle = rng.uniform(0, 2 * np.pi, len(x))
        turn = np.moveaxis(np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 2, 0)
    turn[::2, :, 0] *= -1
    out = np.stack([one[rng.permutation(x.shape[1])] for one in x]) @ turn
    return out + rng.standard_normal((len(x), 1, axes))


def harmonic(x):
    return 0.5 * ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))


def test_exact_distance_sees_through_all_symmetries():
    x = arrangements(0, 40, 4, 2)
    y = moved(x, 1)
    cost = squared_distances(x, y, method="exact")
    assert np.sqrt(np.diag(cost)).max() < 1e-6
    assert np.sqrt(cost[~np.eye(40, dtype=bool)]).min() > 0.1
    assert geometric_w2(x, y[::-1], method="exact", rng=np.random.default_rng(0)) < 1e-6


def test_exact_distance_against_brute_force():
    x, y = arrangements(2, 3, 3, 2), arrangements(3, 4, 3, 2)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, 4001)
    turns = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 2, 2)
    turns = np.concatenate([turns, turns @ np.diag([1.0, -1.0])])
    found = squared_distances(x, y, method="exact")
    for i, one in enumerate(x):
        for j, other in enumerate(y):
            orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
            brute = min(((one - other[order] @ turns) ** 2).sum(axis=(1, 2)).min() for order in orders)
            assert found[i, j] <= brute + 1e-12
            assert found[i, j] == pytest.approx(brute, abs=1e-4)


def test_hungarian_kabsch_is_an_upper_bound_that_a_reflection_cannot_change():
    x, y = arrangements(4, 30, 4, 2), arrangements(5, 30, 4, 2)
    exact, bound = squared_distances(x, y, method="exact"), squared_distances(x, y)
    assert (bound >= exact - 1e-10).all()
    assert bound.mean() > exact.mean()
    a = arrangements(6, 20, 13, 3)
    order = np.random.default_rng(7).permutation(13)
    # only a small motion: the assignment is found on unaligned coordinates
    small = Rotation.from_rotvec([0.02, -0.01, 0.03]).as_matrix()
    assert np.sqrt(np.diag(squared_distances(a, a[:, order] @ small + 3.0))).max() < 1e-6
    np.testing.assert_allclose(squared_distances(-a, -a[::-1]), squared_distances(a, a[::-1]), atol=1e-10)


def test_hungarian_kabsch_of_one_pair_step_by_step():
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    x, y = (z[0] - z[0].mean(0) for z in (arrangements(8, 1, 6, 3), arrangements(9, 1, 6, 3)))
    y = y[linear_sum_assignment(cdist(x, y, "sqeuclidean"))[1]]
    proper = Rotation.align_vectors(x, y)[1] ** 2
    mirrored = Rotation.align_vectors(x, -y)[1] ** 2
    assert squared_distances(x[None], y[None])[0, 0] == pytest.approx(min(proper, mirrored), rel=1e-9)


def test_chunks_do_not_change_the_distances(monkeypatch):
    x, y, done = arrangements(10, 7, 4, 2), arrangements(11, 9, 4, 2), []
    whole = {method: squared_distances(x, y, method=method) for method in ("exact", "hungarian-kabsch")}
    monkeypatch.setattr("equilibra.analysis.symmetry_distance._CHUNK", 40)
    for method, cost in whole.items():
        np.testing.assert_allclose(squared_distances(x, y, method=method, progress=done.append), cost, atol=1e-12)
    assert done[-1] == 1.0
    assert len(done) > 2


def test_geometric_w2_of_a_scaled_gaussian_pair():
    # two particles on a line through their centre: D = sqrt(2) |r - r'|/2 with the distances r, so W2 is one-dimensional
    rng = np.random.default_rng(12)
    x, y = arrangements(13, 60, 2, 3), 1.3 * arrangements(14, 50, 2, 3)
    expected = energy_w2(pair_distances(x)[:, 0], pair_distances(y)[:, 0]) / np.sqrt(2)
    assert geometric_w2(x, y, rng=rng) == pytest.approx(expected, rel=1e-7)
    assert distance_w2(x, y) == pytest.approx(np.sqrt(2) * expected, rel=1e-12)


def test_subsample_is_reproducible():
    x, y = arrangements(15, 60, 4, 2), arrangements(16, 60, 4, 2)
    values = [geometric_w2(x, y, method="exact", n=n, rng=np.random.default_rng(1)) for n in (20, 20, 60)]
    assert values[0] == values[1] > values[2]


def test_energy_w2_of_translated_gaussians_and_infinite_energies():
    rng = np.random.default_rng(17)
    u = rng.standard_normal(500)
    assert energy_w2(u, u) == 0.0
    assert energy_w2(u, u + 2.5) == pytest.approx(2.5)
    values = [energy_w2(rng.normal(0, 1, 20000), rng.normal(1, 2, 15000)) for _ in range(10)]
    assert abs((np.mean(values) - np.sqrt(2)) / (np.std(values, ddof=1) / np.sqrt(10))) < 4
    assert energy_w2(u, [np.inf, 0.0]) == np.inf
    with pytest.raises(InputError, match="second energies: some are NaN"):
        energy_w2(u, [np.nan])


def test_isotropic_gaussian_has_the_moments():
    rng = np.random.default_rng(18)
    x = isotropic_gaussian(2.0 * arrangements(19, 4000, 4, 2) + 5.0, 4000, rng)
    assert np.abs(x.mean(axis=1)).max() < 1e-12
    square = (x**2).sum(axis=(1, 2))
    # |x|^2 is 4 times chi-squared of 6 degrees, in both sets
    assert abs(square.mean() - 24.0) < 4 * 4.0 * np.sqrt(2 * 12.0 / 4000)


def test_evaluation_of_a_perfect_and_of_a_hot_sampler():
    rng = np.random.default_rng(20)
    reference = [x - x.mean(1, keepdims=True) for x in (arrangements(seed, 120, 4, 2) for seed in (21, 22, 23, 24))]
    metrics = particle_metrics(harmonic, method="exact", n=100, geometric_n=60, geometric_repeats=3)
    good = evaluate_particles(arrangements(25, 150, 4, 2), reference, harmonic, name="cluster", rng=rng, metrics=metrics)
    hot = evaluate_particles(1.5 * arrangements(25, 150, 4, 2), reference, harmonic, name="cluster", rng=rng, metrics=metrics)
    for metric in ("energy W2", "distance W2", "geometric W2"):
        assert 0 < good[metric].value < 3 * good[metric].floor
        assert hot[metric].value > good[metric].value + 4 * hot[metric].error > good[metric].value
        # the reference is the Gaussian itself
        assert good[metric].baseline < 3 * good[metric].floor
    assert (good["energy W2"].n, good["geometric W2"].n) == (100, 60)
    row = good["mean energy"]
    assert abs(row.value - 3.0) < 4 * row.error
    assert abs(row.reference - 3.0) < 4 * row.reference_error
    assert "geometric W2: W2 of arrangements" in good.to_text()


def test_floors_fall_with_n_and_use_what_the_reference_holds():
    reference = [arrangements(26, 400, 4, 2)]
    floors = [
        particle_floors(reference, particle_metrics(harmonic, method="exact", n=n, geometric_n=n), np.random.default_rng(0))
        for n in (30, 5000)
    ]
    for name in ("energy W2", "distance W2", "geometric W2"):
        assert floors[1][name].mean < floors[0][name].mean
    assert floors[1]["energy W2"].n == 200
    assert floors[1]["energy W2"].split == "halves"


def test_bad_input_is_explained():
    x = arrangements(27, 5, 8, 2)
    with pytest.raises(InputError, match="expected at most 7 in the plane"):
        squared_distances(x, x, method="exact")
    with pytest.raises(ConfigError, match="exact"):
        squared_distances(x, x, method="exakt")
    with pytest.raises(ShapeError, match="second arrangements"):
        squared_distances(x, x[:, :4])
    with pytest.raises(InputError, match="at least 2"):
        pair_distances(x[:, :1])
    with pytest.raises(ConfigError, match="geometric_n = 0"):
        particle_metrics(harmonic, geometric_n=0)
    with pytest.raises(ShapeError, match="samples"):
        evaluate_particles(x, [x[:, :4]], harmonic, name="cluster", rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="at least 2 are needed"):
        evaluate_particles(x, [x[:2]], harmonic, name="cluster", rng=np.random.default_rng(0))
    with pytest.raises(ShapeError, match="one per conformation"):
        evaluate_particles(x, [x], lambda x: x, name="cluster", rng=np.random.default_rng(0))


def test_dw4_floors_of_an_annealed_reference():
    torch = pytest.importorskip("torch")
    from equilibra.energies.analytic import dw4
    from equilibra.energies.annealing import anneal
    from equilibra.energies.annealing_path import GaussianReference
    from equilibra.energies.energy import ReducedEnergy
    from equilibra.energies.hamiltonian import HamiltonianMoves
    from equilibra.energies.resampling import systematic_indices
    from equilibra.energies.walkers import Walkers

    energy, generator = dw4(), torch.Generator().manual_seed(0)
    reduced, moves = ReducedEnergy(energy), HamiltonianMoves(0.05, leapfrog=3)
    population = anneal(GaussianReference(4, 2, 2.2), reduced, 2000, moves=moves, groups=4, generator=generator)
    drawn = Walkers(population.x, population.u, population.force)[
        systematic_indices(population.log_weights, generator=generator)
    ]
    moves = moves.with_step(population.schedule.steps[-1])
    reference = moves(drawn, reduced, generator=generator, moves=20)[0].x.numpy()
    metrics = particle_metrics(
        lambda x: energy.energy(torch.from_numpy(x)).numpy(), method="exact", n=1000, geometric_repeats=1, floor_repeats=3
    )
    floors = particle_floors([reference], metrics, np.random.default_rng(0))
    # measured with perfect samplers at N = 1000: 0.15 +- 0.06, 0.046, 0.22 to 0.26
    assert 0.05 < floors["energy W2"].mean < 0.35
    assert 0.01 < floors["distance W2"].mean < 0.15
    assert 0.18 < floors["geometric W2"].mean < 0.40
