"""Band gaps by GFN1-xTB, of crystals whose values are known from runs of tblite itself."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "crystal"))
from known_crystals import conventional_diamond, diamond, graphite, other_description, rock_salt

from equilibra.errors import InputError, MissingDependencyError
from equilibra.properties.xtb_gap import repeats_for, require_tblite, xtb_band_gap


def test_cells_are_repeated_to_a_length_and_hexagons_by_threes():
    assert repeats_for(np.diag([3.5, 7.0, 8.0])) == (2, 1, 1)
    assert repeats_for(graphite().cell) == (3, 3, 2)
    assert repeats_for(diamond().cell) == (3, 3, 3)
    assert repeats_for(np.diag([3.5, 3.5, 3.5]), extent=10.0) == (3, 3, 3)
    # two equal vectors of five at 120 degrees: two would reach, three hold the corner of the zone
    hexagon = np.array([[5.0, 0.0, 0.0], [-2.5, 5.0 * 3**0.5 / 2, 0.0], [0.0, 0.0, 9.0]])
    assert repeats_for(hexagon) == (3, 3, 1)


def test_gaps_of_carbon_are_those_of_tblite():
    pytest.importorskip("tblite")
    cube = conventional_diamond()
    assert xtb_band_gap(cube.numbers, cube.frac, cube.cell, repeats=(1, 1, 1)) == pytest.approx(5.97, abs=0.01)
    layers = graphite()
    assert xtb_band_gap(layers.numbers, layers.frac, layers.cell, repeats=(3, 3, 1)) == pytest.approx(0.0, abs=0.01)
    turned = other_description(cube, 1)
    assert xtb_band_gap(turned.numbers, turned.frac, turned.cell, repeats=(1, 1, 1)) == pytest.approx(5.97, abs=0.01)
    from ase.spacegroup import crystal

    bc8 = crystal("C", [(0.1003, 0.1003, 0.1003)], spacegroup=206, cellpar=[4.477] * 3 + [90] * 3, primitive_cell=True)
    assert xtb_band_gap(bc8.numbers, bc8.get_scaled_positions(), np.asarray(bc8.cell)) == pytest.approx(1.96, abs=0.02)


def test_what_cannot_be_evaluated_has_no_gap():
    pytest.importorskip("tblite")
    assert np.isnan(xtb_band_gap(np.array([6, 6]), np.zeros((2, 3)), 3.0 * np.eye(3)))
    salt = rock_salt()
    with pytest.raises(InputError, match="expected elements up to 86"):
        xtb_band_gap(np.array([92, 17]), salt.frac, salt.cell)


def test_a_missing_tblite_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"band-gap:xtb needs tblite; install it with: pip install 'equilibra\[xtb\]'"
    ):
        require_tblite("band-gap:xtb")
