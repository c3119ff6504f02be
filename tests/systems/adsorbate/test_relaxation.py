"""Relaxed sites: with layers of the slab free they are ASE's own minima; held atoms stay to the last bit; layers and constraints."""

import ase.io
import numpy as np
import pytest
from ase.build import fcc111, fcc211
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from equilibra.errors import InputError
from equilibra.systems.adsorbate.energy import whole_atoms
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.relaxation import relax_sites, top_layers
from equilibra.systems.adsorbate.system import AdsorbateSystem


def sampled(layers=3):
    """Oxygen at two sites, of which one is more occupied."""
    system = AdsorbateSystem.of(fcc111("Cu", (2, 2, layers), vacuum=9.0), "O")
    top = system.slab.positions[-4]
    fcc, ontop = np.array([0.0, 2.553 / np.sqrt(3), 1.3]), np.array([0.0, 0.0, 1.8])
    x = np.stack([top + fcc, top + fcc + [0.1, 0.0, 0.1], top + ontop])[:, None]
    return AdsorbateEnsemble(
        system=system, positions=x, log_weights=np.log([0.5, 0.3, 0.2]), provenance={"temperature_k": 300.0}
    )


def test_with_free_layers_they_are_minima_of_ase(tmp_path):
    ensemble = sampled()
    found = relax_sites(ensemble, "emt", layers=1, force=0.005)
    assert found.samples.tolist() == [0, 2]
    assert found.populations == pytest.approx([0.8, 0.2])
    assert found.converged.all()
    slab = ensemble.system.slab
    free = top_layers(slab, 1)
    np.testing.assert_array_equal(free, [8, 9, 10, 11])
    for k, sample in enumerate(found.samples):
        atoms = whole_atoms(ensemble.system, ensemble.positions[sample])
        atoms.set_constraint(FixAtoms(range(8)))
        atoms.calc = EMT()
        assert found.before[k] == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        BFGS(atoms, logfile=None).run(fmax=0.005)
        assert found.after[k] == pytest.approx(atoms.get_potential_energy(), abs=2e-3)
        np.testing.assert_array_equal(found.slabs[k, :8], slab.positions[:8])
        assert 0.005 < found.moved[k] == pytest.approx(np.linalg.norm(found.slabs[k] - slab.positions, axis=1).max())
    held = relax_sites(ensemble, "emt", force=0.005)
    assert (held.slabs == slab.positions).all()
    assert (held.moved == 0.0).all()
    assert (held.after > found.after + 1e-3).all()
    # another program's energy of the same atoms
    other = relax_sites(ensemble, "ase.calculators.emt:EMT", layers=1, force=0.05)
    again = relax_sites(ensemble, "emt", layers=1, force=0.05)
    np.testing.assert_allclose(other.after, again.after, atol=1e-9)
    found.write(tmp_path / "relaxed.traj")
    frames = ase.io.read(tmp_path / "relaxed.traj", index=":")
    np.testing.assert_array_equal([atoms.positions[:12] for atoms in frames], found.slabs)
    np.testing.assert_allclose([atoms.get_potential_energy() for atoms in frames], found.after)
    rows = found.rows()
    assert [row["site"] for row in rows] == found.sites
    assert min(row["above_lowest_ev"] for row in rows) == 0.0


def test_layers_of_slabs():
    slab = fcc111("Pt", (2, 2, 4), vacuum=9.0)
    assert top_layers(slab, 0).tolist() == []
    assert top_layers(slab, 2).tolist() == list(range(8, 16))
    # rumpled atoms are of one layer
    slab.positions[-1, 2] += 0.2
    assert top_layers(slab, 1).tolist() == list(range(12, 16))
    slab.set_constraint(FixAtoms([*range(8), 12]))
    assert top_layers(slab, 2).tolist() == [8, 9, 10, 11, 13, 14, 15]
    slab.set_constraint(FixAtoms(range(16)))
    with pytest.raises(InputError, match="all atoms of the top 2 layers are fixed"):
        top_layers(slab, 2)
    with pytest.raises(InputError, match="got 4, expected from 0 to 3; the slab has 4 layers"):
        top_layers(slab, 4)
    assert len(top_layers(fcc211("Pt", (3, 2, 3), vacuum=9.0), 3)) < 18
