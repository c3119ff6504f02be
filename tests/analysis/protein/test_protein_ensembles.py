"""Metrics of coordinates against Gaussian ensembles, whose values are known."""

import numpy as np
import pytest

from equilibra.analysis.protein.contacts import contact_agreement, contact_map, jaccard
from equilibra.analysis.protein.distances import end_to_end, js_marginals, js_pwd, js_rg, pair_distances, radius_of_gyration
from equilibra.analysis.protein.flexibility import flexibility_correlation, pearson, rmsf
from equilibra.analysis.protein.pairwise_rmsd import mean_pairwise_rmsd
from equilibra.analysis.protein.pca_w2 import joint_pca_w2, md_pca_w2, pc_similarity, principal_components
from equilibra.analysis.protein.rmwd import gaussian_w2_squared, rmwd
from equilibra.analysis.superposition import superpose
from equilibra.errors import InputError, ShapeError

ATOMS = 40


@pytest.fixture(scope="module")
def scaffold():
    """A large structure: small noise hardly changes its superposition."""
    return 30 * np.random.default_rng(0).standard_normal((ATOMS, 3))


def noisy(scaffold, widths, n, seed):
    noise = np.random.default_rng(seed).standard_normal((n, len(scaffold), 3))
    return scaffold + np.asarray(widths)[:, None] * noise


def test_rmsf_of_independent_atoms(scaffold):
    # the first ten atoms hardly move and decide the superposition
    widths = np.where(np.arange(ATOMS) < 10, 1e-3, np.linspace(0.2, 1.0, ATOMS))
    n = 4000
    found = rmsf(noisy(scaffold, widths, n, 1), scaffold, fit=np.arange(10))
    assert found[:10].max() < 0.01
    # a root mean square over 3 n numbers has the relative error sqrt(1 / 6 n)
    z = (found[10:] / (np.sqrt(3) * widths[10:]) - 1) * np.sqrt(6 * n)
    assert np.abs(z).max() < 4
    with pytest.raises(InputError, match="fit"):
        rmsf(scaffold[None], scaffold, fit=[ATOMS])
    with pytest.raises(InputError, match="no atoms to fit"):
        rmsf(scaffold[None], scaffold, fit=[])


def test_rmsf_does_not_see_rigid_motion(scaffold, moved):
    frames = noisy(scaffold, np.full(ATOMS, 0.5), 50, 3)
    np.testing.assert_allclose(rmsf(moved(frames, 4), scaffold), rmsf(frames, scaffold), atol=1e-9)


def test_correlations_over_proteins():
    one, two = np.asarray([1.0, 2.0, 3.0]), np.asarray([10.0, 12.0])
    result = flexibility_correlation([one, two], [2 * one, -two])
    np.testing.assert_allclose(result.per_protein, [1.0, -1.0])
    assert result.median == pytest.approx(0.0)
    expected = np.corrcoef(np.concatenate([one, two]), np.concatenate([2 * one, -two]))[0, 1]
    assert result.pooled == pytest.approx(expected)
    assert np.isnan(pearson(one, np.ones(3)))
    with pytest.raises(ShapeError):
        pearson(one, two)
    with pytest.raises(InputError, match="one for each"):
        flexibility_correlation([one], [])


def test_w2_of_gaussians():
    rng = np.random.default_rng(5)
    a, b = (x @ np.swapaxes(x, -1, -2) for x in rng.standard_normal((2, 7, 3, 3)))
    from scipy.linalg import sqrtm

    expected = [np.trace(s + t - 2 * np.real(sqrtm(sqrtm(s) @ t @ sqrtm(s)))) for s, t in zip(a, b, strict=True)]
    np.testing.assert_allclose(gaussian_w2_squared(a, b), expected, atol=1e-9)
    np.testing.assert_allclose(gaussian_w2_squared(a, a), 0, atol=1e-9)


def test_rmwd_of_shift_and_width(scaffold):
    # rigid motion can't undo a shift of one atom in a large structure
    n, width = 5000, 0.5
    shifted = scaffold.copy()
    shifted[7] += [2.0, 0.0, 0.0]
    fit = np.delete(np.arange(ATOMS), 7)
    widths = np.full(ATOMS, width)
    result = rmwd(noisy(scaffold, widths, n, 6), noisy(shifted, 2 * widths, n, 7), scaffold, fit=fit)
    assert result.translation == pytest.approx(2.0 / np.sqrt(ATOMS), rel=0.05)
    # sqrt(3) (2 width - width) for each atom, less what superposition takes
    assert result.variance == pytest.approx(np.sqrt(3) * width, rel=0.06)
    assert result.value == pytest.approx(np.hypot(result.translation, result.variance))
    zero = rmwd(noisy(scaffold, widths, 50, 6), noisy(scaffold, widths, 50, 6), scaffold)
    assert zero.value == pytest.approx(0.0, abs=1e-6)


def test_pca_w2_of_a_shift_along_the_first_component(scaffold):
    direction = np.zeros((ATOMS, 3))
    direction[0, 0], direction[1, 1] = 1.0, -1.0
    rng = np.random.default_rng(8)
    motion = rng.standard_normal((200, 1, 1)) * 3 * direction + 0.1 * rng.standard_normal((200, ATOMS, 3))
    fit = scaffold - scaffold.mean(axis=0)
    frames = fit + motion
    plane = principal_components(frames)
    assert abs((plane.directions[0] * direction / np.sqrt(2)).sum()) > 0.999
    assert plane.variances[0] == pytest.approx((np.sqrt(2) * 3) ** 2, rel=0.3)
    np.testing.assert_allclose(plane.project(frames).var(axis=0, ddof=1), plane.variances)
    # more frames than coordinates, and fewer
    for some in (frames, frames[:50]):
        _, s, vt = np.linalg.svd((some - some.mean(axis=0)).reshape(len(some), -1), full_matrices=False)
        found = principal_components(some)
        np.testing.assert_allclose(found.variances, s[:2] ** 2 / (len(some) - 1), rtol=1e-9)
        np.testing.assert_allclose(np.abs(vt[:2] @ found.directions.reshape(2, -1).T), np.eye(2), atol=1e-9)
    shift = 2.5 * direction
    expected = 2.5 * np.sqrt(2) / np.sqrt(ATOMS)
    for distance in (md_pca_w2, joint_pca_w2):
        assert distance(frames + shift, frames, fit) == pytest.approx(expected, rel=0.05)
        assert distance(frames, frames, fit) == pytest.approx(0.0, abs=1e-9)
    assert pc_similarity(frames, frames[::-1], fit) == pytest.approx(1.0)
    with pytest.raises(InputError, match="components"):
        principal_components(frames[:2])


def test_pca_w2_does_not_see_rigid_motion(scaffold, moved):
    a, b = (noisy(scaffold, np.full(ATOMS, 0.5), 60, seed) for seed in (9, 10))
    assert md_pca_w2(moved(a, 1), moved(b, 2), scaffold) == pytest.approx(md_pca_w2(a, b, scaffold), abs=1e-9)


def test_pairwise_rmsd_of_independent_atoms(scaffold, moved):
    frames = noisy(scaffold, np.full(ATOMS, 0.5), 200, 11)
    # two frames differ by 0.5 sqrt(2) in each of 3 N directions; superposition of each on the scaffold removes 6 from each frame
    expected = 0.5 * np.sqrt(2 * (3 * ATOMS - 6) / ATOMS)
    assert mean_pairwise_rmsd(frames, native=scaffold) == pytest.approx(expected, rel=0.02)
    assert mean_pairwise_rmsd(moved(frames, 3)) <= mean_pairwise_rmsd(frames, native=scaffold)
    twice = np.stack([scaffold, scaffold])
    assert mean_pairwise_rmsd(twice, native=scaffold) == pytest.approx(0.0, abs=1e-6)
    two = superpose(frames[:2], scaffold)
    assert mean_pairwise_rmsd(frames[:2], native=scaffold) == pytest.approx(np.sqrt(((two[0] - two[1]) ** 2).sum() / ATOMS))
    with pytest.raises(InputError, match="at least 2"):
        mean_pairwise_rmsd(frames[:1])


def test_contacts_that_open_and_form():
    line = np.zeros((4, 3))
    line[:, 0] = [0.0, 6.0, 20.0, 40.0]
    native = line.copy()
    open_, formed = line.copy(), line.copy()
    open_[1, 0] = -10.0  # breaks 0-1
    formed[2, 0] = 13.0  # makes 1-2
    ensemble = np.stack([native] * 6 + [open_] * 2 + [formed] * 2)
    chance = contact_map(ensemble)
    assert chance[0, 1] == pytest.approx(0.8)
    assert chance[1, 2] == pytest.approx(0.2)
    np.testing.assert_array_equal(chance, chance.T)
    assert contact_agreement(ensemble, ensemble, native).weak == 1.0
    rigid = np.stack([native] * 10)
    result = contact_agreement(rigid, ensemble, native)
    assert (result.weak, result.transient) == (0.0, 0.0)
    alone = contact_agreement(rigid, rigid, native)
    assert (alone.weak, alone.transient) == (1.0, 1.0)
    assert jaccard(np.asarray([True, True, False]), np.asarray([True, False, False])) == 0.5
    with pytest.raises(ShapeError):
        contact_agreement(ensemble, ensemble[:, :3], native)


def test_sizes_of_a_random_coil():
    # n bonds of length b in random directions: <R²> = n b²
    rng = np.random.default_rng(12)
    bonds = rng.standard_normal((4000, 50, 3))
    bonds *= 3.8 / np.linalg.norm(bonds, axis=-1, keepdims=True)
    coil = np.concatenate([np.zeros((4000, 1, 3)), np.cumsum(bonds, axis=1)], axis=1)
    squares = end_to_end(coil) ** 2
    z = (squares.mean() - 50 * 3.8**2) / (squares.std() / np.sqrt(len(squares)))
    assert abs(z) < 4
    gyration = radius_of_gyration(coil) ** 2
    n = 50
    expected = 3.8**2 * n * (n + 2) / (6 * (n + 1))
    assert abs(gyration.mean() - expected) < 4 * gyration.std() / np.sqrt(len(gyration))


def test_distances_of_distances(scaffold):
    scaffold = scaffold[:12]
    a, b = (noisy(scaffold, np.full(12, 1.0), 3000, seed) for seed in (13, 14))
    wide = noisy(scaffold, np.full(12, 3.0), 3000, 15)
    assert js_pwd(a, a) == pytest.approx(0.0, abs=1e-7)
    # (K - 1) / 4n nats between two samples in K well-filled bins; the tails are not
    assert js_pwd(a, b) == pytest.approx(np.sqrt(49 / (4 * 3000)), rel=0.25)
    assert js_pwd(wide, a) > 5 * js_pwd(b, a)
    assert js_rg(wide, a) > 5 * js_rg(b, a)
    assert js_pwd(b, a) == pytest.approx(js_marginals(pair_distances(b), pair_distances(a)).mean())
    from equilibra.analysis.histogram import histogram_1d, js_distance

    x, y = wide[:, 0, :1], a[:, 0, :1]
    limits = (float(y.min()), float(y.max()))
    for outside in ("clip", "drop"):
        single = [histogram_1d(z[:, 0], bins=50, limits=limits, outside=outside) + 1e-6 for z in (x, y)]
        assert js_marginals(x, y, outside=outside)[0] == pytest.approx(js_distance(*single))
    with pytest.raises(InputError, match="does not vary"):
        js_marginals(x, np.ones((5, 1)))
    with pytest.raises(InputError, match="offset"):
        pair_distances(a[:, :3])
    with pytest.raises(ShapeError):
        js_pwd(a, b[:, :-1])
