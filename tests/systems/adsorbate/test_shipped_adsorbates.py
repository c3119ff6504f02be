"""The shipped model of adsorbates: sound structures on surfaces of its training and on others, where its energy wants them."""

import numpy as np
import pytest

import equilibra
from equilibra.errors import InputError
from equilibra.systems.adsorbate.density_map import boltzmann_map, occupancy, voxel_positions
from equilibra.systems.adsorbate.energy import adsorbate_energy

KELVIN = 600.0
SHAPE = (10, 10, 6)


@pytest.fixture(scope="module")
def model():
    return equilibra.load("adsorbate-metals")


@pytest.mark.parametrize("source", ["O@Pt(111) 2x2x4", "N@Pd(100) 2x2x4"])
def test_atoms_are_where_the_energy_wants_them(model, source):
    """The second surface is of a metal that the training has in alloys only."""
    ensemble = model.sample(source, 200, seed=1, temperature=KELVIN)
    assert len(ensemble) == 200
    passed, total = ensemble.validity_table()[-1][1:]
    assert passed / total > 0.8
    slab = ensemble.system.slab.positions
    assert all(np.array_equal(atoms.positions[: len(slab)], slab) for atoms in ensemble.to_ase()[:3])
    exact = boltzmann_map(ensemble.system, adsorbate_energy(ensemble.system, "emt"), KELVIN, shape=SHAPE, finer=(2, 2, 6))
    found = occupancy(ensemble, shape=SHAPE)
    flat = exact.difference(found)["js_bits"]
    floor = exact.drawn(200, np.random.default_rng(0)).difference(exact)["js_bits"]
    assert flat < floor + 0.15
    which = ensemble.sites.nearest(voxel_positions(ensemble.system, SHAPE, exact.heights).reshape(-1, 3))[0]
    shares = [np.bincount(which, weights=grid.probability.ravel()) for grid in (exact, found)]
    assert 0.5 * np.abs(shares[0] - shares[1]).sum() < 0.2
    known = {site.label for site, share in zip(ensemble.sites.kinds, shares[0], strict=True) if share > 0.05}
    assert known <= set(ensemble.site_labels)


def test_it_knows_what_it_was_not_trained_on(model):
    with pytest.raises(InputError, match="has S, but the model 'adsorbate-metals' was trained on"):
        model.sample("S@Pt(111) 2x2x4", 1)
    with pytest.raises(InputError, match="has the adsorbate"):
        model.sample("NNH@Pt(111) 2x2x4", 1)
