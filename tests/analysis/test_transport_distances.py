import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from equilibra.analysis.tica_w2 import fit_tica, tica_w2, torsion_features
from equilibra.analysis.torus_w2 import torus_cost, torus_w2
from equilibra.analysis.transport import euclidean_w2, exact_transport, w1_1d, w2_1d
from equilibra.errors import InputError, ShapeError


def wrapped(mean, std, n, rng):
    return np.mod(mean + std * rng.standard_normal((n, len(mean))) + np.pi, 2 * np.pi) - np.pi


def test_exact_transport_equals_assignment():
    rng = np.random.default_rng(0)
    cost = rng.random((60, 60))
    assert exact_transport(cost) == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=1e-12)


def test_w2_of_a_translated_sample_is_the_translation():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((80, 3))
    assert euclidean_w2(x, x + np.asarray([0.3, -0.4, 1.2])) == pytest.approx(1.3, rel=1e-9)
    assert w2_1d(x[:, 0], x[:, 0] - 0.7) == pytest.approx(0.7)


def test_one_dimension_against_transport_and_scipy():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(30), 1.4 * rng.standard_normal(45) + 0.2
    assert w2_1d(a, b) == pytest.approx(euclidean_w2(a[:, None], b[:, None]), rel=1e-9)
    assert w1_1d(a, b) == pytest.approx(wasserstein_distance(a, b), rel=1e-9)


def test_w2_of_gaussians_on_the_line():
    rng = np.random.default_rng(3)
    values = [w2_1d(rng.normal(0, 1, 20000), rng.normal(1, 2, 20000)) for _ in range(10)]
    z = (np.mean(values) - np.sqrt(2)) / (np.std(values, ddof=1) / np.sqrt(10))
    assert abs(z) < 4


def test_torus_cost_takes_the_short_way():
    cost = torus_cost([[3.0, 0.0]], [[-3.0, 0.5], [3.0 + 4 * np.pi, 0.0]])
    np.testing.assert_allclose(cost, [[(2 * np.pi - 6) ** 2 + 0.25, 0.0]], atol=1e-12)


def test_torus_w2_of_a_turned_sample_is_the_turn():
    rng = np.random.default_rng(4)
    a = wrapped(np.asarray([3.0, -3.0]), 0.3, 150, rng)
    b = np.mod(a + np.asarray([0.6, 0.8]) + np.pi, 2 * np.pi) - np.pi
    assert torus_w2(a, b, rng=rng) == pytest.approx(1.0, rel=1e-9)


def test_torus_w2_of_independent_wrapped_distributions():
    rng = np.random.default_rng(5)
    a, b = wrapped(np.asarray([3.0]), 0.2, 1500, rng), wrapped(np.asarray([-2.5]), 0.2, 1500, rng)
    shift = 2 * np.pi - 5.5
    # equal widths: W2 is the shift of the means; its error is that of the two means
    z = (torus_w2(a, b, rng=rng) - shift) / (0.2 * np.sqrt(2 / 1500))
    assert abs(z) < 4


def test_torus_w2_subsample_is_reproducible_and_falls_with_n():
    rng = np.random.default_rng(6)
    a, b = rng.uniform(-np.pi, np.pi, (1200, 2)), rng.uniform(-np.pi, np.pi, (1200, 2))
    small = torus_w2(a, b, rng=np.random.default_rng(0), n=50)
    assert small == torus_w2(a, b, rng=np.random.default_rng(0), n=50)
    assert torus_w2(a, b, rng=rng, n=800) < 0.5 * small
    before = a.copy()
    torus_w2(a, a, rng=rng, n=20)
    np.testing.assert_array_equal(a, before)


def two_state_angles(frames, rng, flip=0.02):
    """φ jumps between two values with a known rate, ψ is noise."""
    state = np.cumsum(rng.random(frames) < flip) % 2
    phi = np.where(state == 0, -1.2, 1.2) + 0.05 * rng.standard_normal(frames)
    return np.stack([phi, 0.8 + 0.3 * rng.standard_normal(frames)], axis=1)


def test_tica_finds_the_slow_angle_and_its_time():
    rng = np.random.default_rng(7)
    runs = [two_state_angles(4000, rng) for _ in range(4)]
    projection = fit_tica(runs, lag=5)
    slow = projection(runs[0])[:, 0]
    assert abs(np.corrcoef(slow, np.sin(runs[0][:, 0]))[0, 1]) > 0.99
    # symmetric jumps with probability f: λ = 1 - 2 f
    exact = -1 / np.log(1 - 2 * 0.02)
    flips = 16000 * 0.02
    assert projection.relaxation_times[0] == pytest.approx(exact, rel=4 / np.sqrt(flips))
    assert projection.relaxation_times[1] < 3


def test_tica_projection_matches_deeptime():
    from deeptime.decomposition import TICA

    rng = np.random.default_rng(8)
    run = two_state_angles(2000, rng)
    features = torsion_features(run)
    model = TICA(lagtime=5, dim=2).fit(features).fetch_model()
    np.testing.assert_allclose(fit_tica([run], lag=5)(run), model.transform(features), atol=1e-8)


def test_tica_never_pairs_across_trajectories():
    rng = np.random.default_rng(9)
    # each run is stuck in one state: inside runs nothing is fast along φ, across runs it would be
    runs = [np.stack([s * 1.2 + 0.05 * rng.standard_normal(30), rng.standard_normal(30)], axis=1) for s in (-1, 1) * 20]
    split = fit_tica(runs, lag=10).relaxation_times[0]
    joined = fit_tica([np.concatenate(runs)], lag=10).relaxation_times[0]
    assert split > 5 * joined


def test_tica_w2_grows_with_a_lost_state():
    rng = np.random.default_rng(10)
    runs = [two_state_angles(2000, rng) for _ in range(2)]
    whole = two_state_angles(2000, rng)
    lost = whole[whole[:, 0] < 0]
    same = tica_w2(runs, whole, lag=5, rng=rng, n=300)
    assert tica_w2(runs, lost, lag=5, rng=rng, n=300) > 2 * same


def test_bad_input():
    rng = np.random.default_rng(11)
    with pytest.raises(InputError, match="no samples"):
        torus_w2(np.zeros((0, 2)), np.zeros((3, 2)), rng=rng)
    with pytest.raises(ShapeError):
        torus_w2(np.zeros((3, 2)), np.zeros((3, 3)), rng=rng)
    with pytest.raises(InputError, match="n = 0"):
        torus_w2(np.zeros((3, 2)), np.zeros((3, 2)), rng=rng, n=0)
    with pytest.raises(InputError, match="lag of 50 frames, expected 1 to 18"):
        fit_tica([np.zeros((20, 2))], lag=50)
    with pytest.raises(InputError, match="no runs"):
        fit_tica([], lag=1)
    with pytest.raises(ShapeError):
        fit_tica([two_state_angles(100, rng)], lag=1)(np.zeros((4, 3)))
    with pytest.raises(InputError, match="constant"):
        fit_tica([np.zeros((20, 2))], lag=1)
