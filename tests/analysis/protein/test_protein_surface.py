"""The MD-emulation score: closed forms, and the values of perfect samples and of a Gaussian on the benchmark's own data."""

import numpy as np
import pytest

from equilibra.analysis.protein.free_energy_surface import (
    SurfaceProjection,
    compare_surfaces,
    surface_error,
    surface_features,
)
from equilibra.errors import ConfigError, InputError, ShapeError


def test_features_by_hand():
    x = np.zeros((1, 8, 3))
    x[0, :, 0] = 8.0 * np.arange(8)
    features = surface_features(x)[0]
    assert features.shape == (10,)  # 4 residues are left, 10 pairs with the diagonal
    i, j = np.triu_indices(4)
    np.testing.assert_allclose(features, np.where(j - i <= 2, 1.0, np.exp(-3.0)))
    with pytest.raises(InputError, match="more than 4"):
        surface_features(x[:, :4])


def test_projection_is_the_linear_map():
    rng = np.random.default_rng(0)
    x = 5 * rng.standard_normal((6, 9, 3))
    features = surface_features(x)
    matrix = rng.standard_normal((features.shape[1], 2))
    projection = SurfaceProjection(mean=features.mean(axis=0), sqrt_inv_cov=matrix)
    np.testing.assert_allclose(projection(x).mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(projection(x), (features - features.mean(axis=0)) @ matrix)
    with pytest.raises(ShapeError, match="residues"):
        projection(x[:, :-1])


def test_samples_of_the_reference_have_no_error():
    rng = np.random.default_rng(1)
    points = rng.standard_normal((20_000, 2))
    result = surface_error(points, points, rng, resamples=400_000)
    # 400,000 points on at most 2500 cells: kT / sqrt(count) each, most at the rim
    assert result.mae_kcal < 0.15
    assert result.coverage > 0.97
    assert result.clamped_mae_kcal < result.mae_kcal


def test_error_of_a_gaussian_of_another_width():
    # F = kT r²/2 (1 + noise²) up to a constant; a width ratio s changes it by kT r²/2 (1 - 1/s²) at equal noise
    rng = np.random.default_rng(2)
    noise, s, kt = 0.25, 1.3, 0.0019872036 * 300
    reference, samples = rng.standard_normal((200_000, 2)), s * rng.standard_normal((200_000, 2))
    result = surface_error(samples, reference, rng, resamples=1_000_000, noise=noise, cutoff_kcal=1.5)
    a, b = 1 + noise**2, s**2 + noise**2
    radius = np.sqrt(2 * 1.5 / kt * a)
    r2 = radius**2 * np.random.default_rng(0).random(200_000)  # uniform on the disc of low cells
    difference = kt * r2 / 2 * (1 / b - 1 / a)
    assert result.mae_kcal == pytest.approx(np.abs(difference - np.median(difference)).mean(), rel=0.05)
    assert result.rmse_kcal == pytest.approx(difference.std(), rel=0.05)
    assert result.coverage == 1.0


def test_missing_half_is_seen_by_coverage_and_by_the_clamped_error():
    rng = np.random.default_rng(3)
    left, right = (centre + 0.3 * rng.standard_normal((10_000, 2)) for centre in ([-5.0, 0.0], [5.0, 0.0]))
    result = surface_error(left, np.concatenate([left, right]), rng, resamples=200_000)
    assert 0.4 < result.coverage < 0.6
    assert result.mae_kcal < 0.2  # the plain score does not see what is missing
    assert result.clamped_mae_kcal > 0.7
    nothing = surface_error(left + 1e3, left, rng, resamples=1000)
    assert nothing.coverage == 0.0
    assert np.isnan(nothing.mae_kcal)
    assert nothing.clamped_mae_kcal > 0
    with pytest.raises(ConfigError, match="bins"):
        surface_error(left, right, rng, bins=1)


def load(folder, name):
    with np.load(folder / "multiconf" / "md_emulation_benchmark_0.1" / "md_emulation" / f"{name}.npz") as arrays:
        return dict(arrays)


def scores(shared_data, resamples):
    rng = np.random.default_rng(0)
    references = load(shared_data, "reference_projections")
    assert len(references) == 17
    compared = [compare_surfaces(points[:1], points, rng, resamples=resamples) for points in references.values()]
    return {
        kind: np.mean([[getattr(c, kind).mae_kcal, getattr(c, kind).coverage] for c in compared], axis=0)
        for kind in ("floor", "gaussian")
    }


def test_maps_of_the_benchmark_fit_the_features(shared_data):
    """Features of pairs up to two residues apart are 1 in the benchmark's means: the order of the pairs is right."""
    means, maps = load(shared_data, "projections_mean"), load(shared_data, "projections_sqrt_inv_cov")
    for name in ("cath1_1bl0A02", "cath1_1w0tA00"):
        length = round((np.sqrt(8 * len(means[name]) + 1) - 1) / 2)
        x = np.cumsum(np.random.default_rng(0).standard_normal((3, length + 4, 3)), axis=1)
        i, j = np.triu_indices(length)
        np.testing.assert_allclose(means[name][j - i <= 2], 1.0)
        assert means[name][j - i > 2].max() < 0.8
        projection = SurfaceProjection(mean=means[name], sqrt_inv_cov=maps[name])
        assert projection(x).shape == (3, 2)


def test_benchmark_at_a_tenth_of_its_points(shared_data):
    found = scores(shared_data, 100_000)
    # with fewer points both the noise and the empty cells grow; measured over seeds to ±0.01
    np.testing.assert_allclose(found["floor"], [0.18, 0.99], atol=0.02)
    np.testing.assert_allclose(found["gaussian"], [0.87, 0.70], atol=0.03)


@pytest.mark.slow
def test_benchmark_scores_of_perfect_samples_and_of_a_gaussian(shared_data):
    found = scores(shared_data, 1_000_000)
    np.testing.assert_allclose(found["floor"], [0.11, 1.00], atol=0.02)  # 0.108 to 0.121 over seeds
    np.testing.assert_allclose(found["gaussian"], [1.00, 0.75], atol=0.05)  # 0.96 to 0.99 over seeds
