"""The plots: right numbers, and pictures that show something."""

import io

import numpy as np
import pytest

from equilibra.errors import InputError, ShapeError
from equilibra.report.elements import Figure
from equilibra.report.free_energy_surface import free_energy_surface, smoothing_width
from equilibra.report.plots import bond_lengths, energy_histogram, quality_curve, ramachandran_surface, torsion_marginals
from equilibra.report.weight_plot import weight_plot


def pixels(png):
    from matplotlib.image import imread

    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return imread(io.BytesIO(png), format="png")


def assert_picture(png, width, height):
    image = pixels(png)
    assert abs(image.shape[1] - width * 160) <= 1
    assert abs(image.shape[0] - height * 160) <= 1
    assert 0.005 < float(np.mean(image[..., :3].min(axis=2) < 0.9)) < 0.9
    return image


def torsions(n, seed=0, centre=(-1.4, 2.6), kappa=10.0):
    rng = np.random.default_rng(seed)
    return rng.vonmises(centre[0], kappa, n), rng.vonmises(centre[1], kappa, n)


def test_surface_of_von_mises_is_its_potential():
    phi, psi = torsions(200_000)
    surface = free_energy_surface(phi, psi, bins=90)
    centres = np.radians(-180.0 + 4.0 * (np.arange(90) + 0.5))
    exact = 10.0 * (2.0 - np.cos(centres + 1.4)[:, None] - np.cos(centres - 2.6)[None, :])
    near = exact < 4.0
    assert np.isfinite(surface[near]).all()
    # smoothing by 4 degrees adds a variance of 0.0049 to 0.1: a slope of 1/1.05
    assert np.polyfit(exact[near], surface[near], 1)[0] == pytest.approx(1.0 / 1.049, abs=0.03)
    assert np.isnan(surface).any()
    assert np.nanmin(surface) == 0.0


def test_surface_does_not_depend_on_the_turn_and_takes_weights():
    phi, psi = torsions(500)
    plain = free_energy_surface(phi, psi)
    np.testing.assert_allclose(free_energy_surface(phi + 2 * np.pi, psi - 2 * np.pi), plain, atol=1e-9)
    doubled = free_energy_surface(np.tile(phi, 2), np.tile(psi, 2), width=9.0)
    weighted = free_energy_surface(phi, psi, np.full(500, 2.0), width=9.0)
    both = np.isfinite(doubled) & np.isfinite(weighted)
    np.testing.assert_allclose(doubled[both], weighted[both], atol=1e-9)


def test_weights_shift_the_surface():
    a, b = torsions(2000, 1, (-1.5, 0.0)), torsions(2000, 2, (1.5, 0.0))
    phi, psi = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
    weights = np.repeat([1.0, np.exp(-2.0)], 2000)
    surface = free_energy_surface(phi, psi, weights)
    assert np.nanmin(surface[45:]) - np.nanmin(surface[:45]) == pytest.approx(2.0, abs=0.15)


def test_smoothing_narrows_with_data():
    assert smoothing_width(1000) == pytest.approx(9.0)
    assert smoothing_width(1e9) == 4.0
    assert smoothing_width(1) == 20.0


def test_ramachandran_picture_beside_the_reference():
    phi, psi = torsions(800)
    reference = torsions(900, 3)
    png = ramachandran_surface(phi, psi, temperature=300.0, reference=reference, marks=[(-1.4, 2.6)])
    image = assert_picture(png, 10.4, 4.9)
    assert len(np.unique((image[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 200
    assert_picture(ramachandran_surface(phi, psi, temperature=300.0), 6.2, 4.9)
    assert png == ramachandran_surface(phi, psi, temperature=300.0, reference=reference, marks=[(-1.4, 2.6)])


def test_samples_change_the_picture():
    first = ramachandran_surface(*torsions(300), temperature=300.0)
    other = ramachandran_surface(*torsions(300, centre=(1.0, 0.5)), temperature=300.0)
    assert not np.array_equal(pixels(first), pixels(other))


@pytest.mark.parametrize(("count", "size"), [(1, (6.2, 3.4)), (2, (10.4, 3.4)), (5, (11.6, 6.4))])
def test_marginals(count, size):
    samples = {f"torsion {i}": torsions(300, i)[0] for i in range(count)}
    reference = {"torsion 0": torsions(400, 9)[0]}
    weights = np.linspace(0.5, 1.0, 300)
    assert_picture(torsion_marginals(samples, reference, weights=weights), *size)


def test_bonds_with_and_without_reference():
    names, mean, std = ["N–CA", "CA–C", "C–O"], np.array([1.45, 1.52, 1.23]), np.array([0.03, 0.031, 0.02])
    assert_picture(bond_lengths(names, mean, std, mean + 0.004, std * 1.2), 10.4, 0.27 * 3 + 1.2)
    assert_picture(bond_lengths(names, mean, std), 7.2, 0.27 * 3 + 1.2)
    with pytest.raises(ShapeError, match=r"std: got shape \(2,\), expected \(3,\)"):
        bond_lengths(names, mean, std[:2])


def test_energies_and_quality():
    rng = np.random.default_rng(0)
    energies = rng.normal(-0.5, 0.1, 500)
    energies[:3] = 50.0  # broken samples: counted in the plot, not hidden, and they do not stretch the axis
    assert_picture(energy_histogram(energies, rng.normal(-0.5, 0.1, 500), temperature=300.0), 7.2, 3.7)
    assert_picture(energy_histogram(np.full(10, -1.0), temperature=300.0), 7.2, 3.7)
    assert_picture(quality_curve([30, 10, 20], [0.02, 0.08, 0.03], 0.018), 7.2, 3.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: torsion_marginals({}), "no torsion"),
        (lambda: ramachandran_surface([0.0], [np.nan], temperature=300.0), "psi: got 1 values of 1 that are not finite"),
        (lambda: ramachandran_surface([0.0, 1.0], [0.0], temperature=300.0), r"psi: got shape \(1,\), expected \(2,\)"),
        (lambda: ramachandran_surface([], [], temperature=300.0), "no values"),
        (lambda: free_energy_surface([0.0], [0.0], [-1.0]), "negative weight"),
        (lambda: quality_curve([0, 1], [1.0, 1.0]), "not positive"),
        (lambda: quality_curve([1, 2], [1.0]), r"values: got shape \(1,\), expected \(2,\)"),
    ],
)
def test_wrong_arrays_say_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_plots_leave_inputs_and_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    phi, psi = torsions(200)
    kept = phi.copy(), psi.copy()
    ramachandran_surface(phi, psi, temperature=300.0)
    assert np.array_equal(phi, kept[0])
    assert np.array_equal(psi, kept[1])
    assert dict(matplotlib.rcParams) == before


def test_a_page_shows_pictures_at_their_size_in_inches():
    html = Figure(quality_curve([1, 2], [2.0, 1.0]), "caption", "alt").html("f")
    assert 'width="691" height="374"' in html


def test_weights_are_drawn_as_they_are():
    rng = np.random.default_rng(0)
    pictures = {weight_plot(x) for x in (rng.normal(size=300), 3.0 * rng.normal(size=300), np.zeros(50), np.array([-3.0]))}
    assert len(pictures) == 4
    shifted = rng.normal(size=100)
    assert weight_plot(np.round(shifted, 2)) == weight_plot(np.round(shifted, 2)[::-1])
    # a sample without weight counts among those of equal weights, not in the histogram
    assert weight_plot(np.append(shifted, -np.inf)) != weight_plot(shifted)
    for wrong in ([0.0, np.nan], [0.0, np.inf], [-np.inf]):
        with pytest.raises(InputError, match="NaN or"):
            weight_plot(np.array(wrong))


def test_energies_with_weights_show_what_was_drawn_too():
    energies, weights = np.linspace(-1.0, 1.0, 200), np.linspace(0.1, 2.0, 200)
    plain = energy_histogram(energies, temperature=300.0)
    assert energy_histogram(energies, temperature=300.0, weights=weights) != plain
