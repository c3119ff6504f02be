"""Effective medium theory in torch against ASE's, whatever moves, in cells of any shape; what it refuses."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, fcc110, fcc111, molecule
from ase.calculators.emt import EMT, parameters
from ase.cluster import Octahedron

from equilibra.energies.emt import ELEMENTS, SlabEMT
from equilibra.energies.energy import ReducedEnergy
from equilibra.errors import InputError, ShapeError


def adsorbed(slab, what, height, site, **known):
    add_adsorbate(slab, what, height, site, **known)
    return slab


def platinum_with_co():
    return adsorbed(fcc111("Pt", (3, 3, 4), vacuum=8.0), molecule("CO"), 1.8, "ontop", mol_index=1)


def three_dimensional():
    slab = adsorbed(fcc100("Cu", (2, 2, 3), vacuum=6.0), "N", 1.0, "hollow")
    slab.pbc = True
    return slab


def thin_cell():
    return adsorbed(fcc110("Al", (1, 1, 4), vacuum=6.0), "O", 1.2, "hollow")


def skewed_silver():
    """A cell far from reduced, of the same crystal."""
    silver = bulk("Ag") * (1, 1, 2)
    silver.set_cell(np.array([[1, 0, 0], [3, 1, 0], [-4, 2, 1]]) @ silver.cell[:], scale_atoms=False)
    return silver


def alloy():
    crystal = bulk("Au", cubic=True, a=3.9)
    crystal.symbols[1:] = "Cu"
    return crystal


def alloy_slab():
    slab = fcc111("Pd", (2, 2, 3), a=4.0, vacuum=7.0)
    slab.symbols[[0, 3, 5, 10]] = "Ag"
    return adsorbed(slab, "H", 1.1, "fcc")


def every_element():
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(*3 * [np.arange(3)], indexing="ij"), -1).reshape(-1, 3)[: len(ELEMENTS)]
    return Atoms(list(ELEMENTS), 2.6 * grid + 0.2 * rng.normal(size=grid.shape), cell=[9.0, 8.5, 8.0], pbc=True)


def wire():
    """Periodic along one vector; the others are none."""
    return Atoms(
        "Ni2C", [[0, 0, 0], [0.2, 2.3, 0.1], [1.9, 1.0, 0.3]], cell=[[0, 0, 0], [0.3, 4.7, 0.2], [0, 0, 0]], pbc=[0, 1, 0]
    )


def standing_slab():
    """The normal along the first vector, and not at right angles to it."""
    slab = adsorbed(fcc111("Ni", (2, 2, 2), vacuum=5.0), "O", 1.3, "hcp")
    slab.set_cell(slab.cell[[2, 0, 1]] + np.array([[1.0, 2.0, 0.0], [0, 0, 0], [0, 0, 0]]))
    slab.pbc = [False, True, True]
    return slab


SYSTEMS = {
    "Pt(111) with CO": platinum_with_co,
    "Cu(100) with N in a 3-D cell": three_dimensional,
    "Al(110) 1x1 with O": thin_cell,
    "Cu crystal of one atom": lambda: bulk("Cu"),
    "Ag crystal in a skew cell": skewed_silver,
    "Cu3Au": alloy,
    "PdAg(111) with H": alloy_slab,
    "Au octahedron": lambda: Octahedron("Au", 3, cutoff=1),
    "methanol": lambda: molecule("CH3OH"),
    "one H": lambda: Atoms("H"),
    "all elements": every_element,
    "NiC wire": wire,
    "Ni(111) with O, standing": standing_slab,
}


def moved(atoms, mobile, count=3, width=0.15, seed=0):
    """Positions (count, mobile, 3) around those of the atoms."""
    noise = torch.randn(count, len(mobile), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(atoms.positions[mobile]) + width * noise


def by_ase(atoms, mobile, x, **known):
    """Energies and forces on the mobile atoms by ASE's calculator."""
    atoms = atoms.copy()
    atoms.set_constraint()
    atoms.calc = EMT(**known)
    energies, forces = [], []
    for positions in x.numpy():
        atoms.positions[mobile] = positions
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces()[mobile])
    return torch.tensor(energies), torch.tensor(np.array(forces))


def assert_agrees(atoms, mobile, x, **known):
    """The promise is 1e-6: only rounding may differ."""
    energy, force = SlabEMT(atoms, mobile, **known).energy_and_force(x)
    expected, expected_force = by_ase(atoms, mobile, x, **known)
    torch.testing.assert_close(energy, expected, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(force, expected_force, rtol=1e-10, atol=1e-10)


def test_the_elements_and_their_parameters_are_those_of_ase():
    assert {symbol: tuple(values) for symbol, values in ELEMENTS.items()} == parameters


@pytest.mark.parametrize("asap_cutoff", [False, True])
@pytest.mark.parametrize("name", SYSTEMS)
def test_all_atoms_move(name, asap_cutoff):
    atoms = SYSTEMS[name]()
    every = list(range(len(atoms)))
    assert_agrees(atoms, every, moved(atoms, every), asap_cutoff=asap_cutoff)


@pytest.mark.parametrize("seed", range(6))
def test_random_cells_and_periodicities(seed):
    rng = np.random.default_rng(seed)
    atoms = Atoms(
        "Pt2AlHO", 4.0 * rng.normal(size=(5, 3)), cell=4.0 * np.eye(3) + 2.0 * rng.normal(size=(3, 3)), pbc=rng.random(3) < 0.6
    )
    assert_agrees(atoms, [4, 0, 3], moved(atoms, [4, 0, 3], width=5.0))


@pytest.mark.parametrize("mobile", [[36, 37], [37, 36], [37], [*range(27, 38)]])
def test_adsorbates_anywhere_over_a_fixed_slab(mobile):
    atoms = platinum_with_co()
    x = moved(atoms, mobile, count=8)
    # over, in and far above the slab, and in other cells
    x[:, -1] += torch.tensor([9.0, 14.0, 3.0]) * torch.randn(
        8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    assert_agrees(atoms, mobile, x)


@pytest.mark.parametrize("name", ["Pt(111) with CO", "Al(110) 1x1 with O", "PdAg(111) with H", "NiC wire"])
def test_what_is_fixed_does_not_change_the_energy(name):
    atoms = SYSTEMS[name]()
    every = list(range(len(atoms)))
    full = SlabEMT(atoms)
    assert full.invariant
    for mobile in ([len(atoms) - 1], every[::2], every[::-1]):
        part = SlabEMT(atoms, mobile)
        assert part.items == len(mobile)
        assert part.invariant == (len(mobile) == len(atoms))
        x = torch.tensor(atoms.positions).expand(3, -1, -1).clone()
        x[:, mobile] = moved(atoms, mobile)
        energy, force = full.energy_and_force(x)
        ours, our_force = part.energy_and_force(x[:, mobile])
        torch.testing.assert_close(ours, energy, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(our_force, force[:, mobile], rtol=1e-11, atol=1e-11)


def test_masks_and_degrees():
    atoms = platinum_with_co()
    mask = atoms.numbers != 78
    energy = SlabEMT(atoms, mask)
    assert energy.mobile.tolist() == [36, 37]
    assert ReducedEnergy.at(energy, 300.0).energy.degrees == 6


@pytest.mark.parametrize("mobile", [[12], [8, 9, 10, 11, 12]])
def test_derivatives_of_first_and_second_order(mobile):
    atoms = alloy_slab()
    energy = SlabEMT(atoms, mobile)
    x = moved(atoms, mobile, count=2).requires_grad_(True)
    assert torch.autograd.gradcheck(energy.energy, (x,))
    assert torch.autograd.gradgradcheck(energy.energy, (x,))
    value, force = energy.energy_and_force(x)
    assert not value.requires_grad
    assert not force.requires_grad
    (gradient,) = torch.autograd.grad(energy.energy(x).sum(), x)
    torch.testing.assert_close(force, -gradient, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(value, energy.energy(x.detach()))


def test_isolated_atoms_have_no_force():
    atoms = Atoms("HPt", [[0, 0, 0], [0, 0, 1.6]])
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 20.0]]], dtype=torch.float64, requires_grad=True)
    energy, force = SlabEMT(atoms).energy_and_force(x)
    torch.testing.assert_close(energy, torch.tensor([3.21 + 5.85], dtype=torch.float64))
    assert not force.any()
    (gradient,) = torch.autograd.grad(SlabEMT(atoms).energy(x).sum(), x)
    assert not gradient.any()


def test_moving_changes_nothing():
    atoms = platinum_with_co()
    every = list(range(len(atoms)))
    full, part = SlabEMT(atoms), SlabEMT(atoms, [36, 37])
    x = moved(atoms, every)
    energy, force = full.energy_and_force(x)
    shifted, shifted_force = full.energy_and_force(x + torch.tensor([3.0, -17.0, 41.0], dtype=torch.float64))
    torch.testing.assert_close(shifted, energy, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(shifted_force, force, rtol=1e-9, atol=1e-9)
    # each mobile atom by a lattice vector of its own
    x = x[:, [36, 37]]
    vectors = torch.tensor(np.array([[2, -1, 0], [0, 5, 0]]) @ atoms.cell[:])
    torch.testing.assert_close(part.energy(x + vectors), part.energy(x), rtol=1e-11, atol=1e-10)


def test_a_supercell_has_its_cells_energies():
    atoms = thin_cell()
    large = atoms * (2, 3, 1)
    x = moved(atoms, list(range(len(atoms))), count=2)
    cells = torch.tensor(large.positions).unflatten(0, (6, len(atoms))) - torch.tensor(atoms.positions)
    energy, force = SlabEMT(atoms).energy_and_force(x)
    of_all, force_of_all = SlabEMT(large).energy_and_force((x[:, None] + cells).flatten(1, 2))
    torch.testing.assert_close(of_all, 6.0 * energy, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(force_of_all.unflatten(1, (6, -1)), force[:, None].expand(-1, 6, -1, -1), rtol=1e-10, atol=1e-10)


def test_a_batch_is_its_conformations_one_by_one():
    atoms = platinum_with_co()
    energy = SlabEMT(atoms, [36, 37])
    x = moved(atoms, [36, 37], count=500)  # more than one block
    kept = x.clone()
    value, force = energy.energy_and_force(x)
    assert torch.equal(x, kept)
    for index in (0, 95, 96, 499):
        alone, alone_force = energy.energy_and_force(x[index : index + 1])
        torch.testing.assert_close(alone[0], value[index], rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(alone_force[0], force[index], rtol=1e-11, atol=1e-11)
    none, no_force = energy.energy_and_force(x[:0])
    assert none.shape == (0,)
    assert no_force.shape == (0, 2, 3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("axis", [0, 2])
def test_a_position_that_is_not_finite_stays_with_its_conformation(wrong, axis):
    atoms = platinum_with_co()
    energy = SlabEMT(atoms, [36, 37])
    x = moved(atoms, [36, 37], count=4)
    good, good_force = energy.energy_and_force(x)
    x[2, 1, axis] = wrong
    value, force = energy.energy_and_force(x)
    assert value[2].isnan()
    assert force[2, 1].isnan().all()
    others = [0, 1, 3]
    assert torch.equal(value[others], good[others])
    assert torch.equal(force[others], good_force[others])


def test_atoms_on_top_of_each_other_have_finite_forces():
    atoms = platinum_with_co()
    energy = SlabEMT(atoms, [36, 37])
    x = torch.tensor(atoms.positions[[[36, 36], [35, 37]]])
    for dtype in (torch.float64, torch.float32):
        value, force = energy.energy_and_force(x.to(dtype))
        assert value.isfinite().all()
        assert force.isfinite().all()


def test_drift_of_single_precision():
    atoms = platinum_with_co()
    energy = SlabEMT(atoms, [36, 37])
    x = moved(atoms, [36, 37], count=50).float().double()
    value, force = energy.energy_and_force(x)
    single, single_force = energy.energy_and_force(x.float())
    assert single.dtype == single_force.dtype == torch.float32
    assert (single - value).abs().max() < 1e-4
    assert (single_force - force).abs().max() < 2e-5 * force.square().mean().sqrt()


@pytest.mark.slow  # a compiler runs
def test_compiled_is_the_same():
    atoms = alloy_slab()
    eager, compiled = SlabEMT(atoms, [11, 12]), SlabEMT(atoms, [11, 12], compile=True)
    x = moved(atoms, [11, 12], count=7)
    x[5, 0, 1] = torch.nan
    for ours, theirs in zip(compiled.energy_and_force(x), eager.energy_and_force(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11, equal_nan=True)
    assert compiled.energy(x[:0]).shape == (0,)
    isolated = SlabEMT(molecule("CH3OH"), compile=True)
    x = moved(molecule("CH3OH"), range(6))
    torch.testing.assert_close(isolated.energy(x), SlabEMT(molecule("CH3OH")).energy(x), rtol=1e-11, atol=1e-11)


def test_what_is_refused():
    atoms = platinum_with_co()
    with pytest.raises(
        InputError, match=r"no parameters for Fe \(2 atoms\), S \(1 atom\); it knows Al, Cu, .*, O\. Use another energy"
    ):
        SlabEMT(Atoms("FePtFeS", np.eye(4)[:, :3]))
    with pytest.raises(InputError, match="no atoms"):
        SlabEMT(Atoms())
    with pytest.raises(InputError, match="no atom moves"):
        SlabEMT(atoms, [])
    with pytest.raises(InputError, match="no atom moves"):
        SlabEMT(atoms, np.zeros(38, dtype=bool))
    with pytest.raises(ShapeError, match=r"mask: got shape \(3,\), expected \(38,\)"):
        SlabEMT(atoms, [True, False, True])
    with pytest.raises(ShapeError, match=r"mobile: got .* expected a list of indices"):
        SlabEMT(atoms, [[36], [37]])
    with pytest.raises(ShapeError, match="float64"):
        SlabEMT(atoms, np.array([36.0, 37.0]))
    with pytest.raises(InputError, match="index 38, expected 0 to 37"):
        SlabEMT(atoms, [36, 38])
    with pytest.raises(InputError, match="twice"):
        SlabEMT(atoms, [36, 37, 36])
    with pytest.raises(InputError, match=r"cell: its periodic vectors .* independent"):
        SlabEMT(Atoms("Pt", cell=[[2, 0, 0], [4, 0, 0], [0, 0, 9]], pbc=[True, True, False]))
    atoms.positions[4, 1] = np.nan
    with pytest.raises(InputError, match=r"fixed atom 4 .* not finite"):
        SlabEMT(atoms, [36, 37])


def test_shapes_of_positions():
    energy = SlabEMT(platinum_with_co(), [36, 37])
    for shape in ((2, 3), (4, 38, 3), (4, 2, 2)):
        with pytest.raises(ShapeError, match=r"positions for the energy 'emt': .* \(batch, 2, 3\)"):
            energy.energy_and_force(torch.zeros(shape, dtype=torch.float64))
