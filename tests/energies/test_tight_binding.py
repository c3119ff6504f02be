"""The carbon model against its published values, finite differences, an independent program of a few lines, and its invariances."""

import itertools
import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, graphene
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal
from ase.units import GPa

from equilibra.energies.tight_binding import CarbonTightBinding, KGrid, carbon, tight_binding_calculator
from equilibra.energies.tight_binding.kpoints import k_points
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.geometry import so3

F64 = torch.float64
TRICLINIC = torch.tensor([[3.1, 0.2, -0.3], [0.4, 2.9, 0.5], [-0.6, 0.3, 3.3]], dtype=F64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tensors(atoms):
    """Fractional coordinates and cell of ASE atoms, as a batch of one."""
    frac = torch.tensor(atoms.get_scaled_positions(wrap=False), dtype=F64)
    return frac[None], torch.tensor(atoms.cell.array, dtype=F64)[None]


def diamond(a=3.555):
    return tensors(bulk("C", "diamond", a=a))


def distorted(count=1, seed=3):
    """Cubic diamond cells of eight atoms, shaken so that no level is degenerate."""
    random = generator(seed)
    frac, cell = tensors(bulk("C", "diamond", a=3.6, cubic=True))
    frac = frac + 0.03 * torch.randn(count, 8, 3, dtype=F64, generator=random)
    return frac, cell + 0.15 * torch.randn(count, 3, 3, dtype=F64, generator=random)


def dense(seed=3):
    """A metallic crystal of five atoms in a triclinic cell."""
    return torch.rand(1, 5, 3, dtype=F64, generator=generator(seed)), TRICLINIC[None]


def model(size=(2, 2, 2), smearing=0.1, **known):
    return CarbonTightBinding(kgrid=KGrid(size=size, **known), smearing=smearing)


CRYSTALS = {"gap": distorted, "metal": dense}
each_crystal = pytest.mark.parametrize("make", CRYSTALS.values(), ids=CRYSTALS)


# the functions of the paper


def test_tails_join_with_their_slopes():
    for function, begin in ((carbon.hopping_scale, 2.45), (carbon.repulsion, 2.57)):
        for r in (begin, carbon.CUTOFF):
            values, slopes = [], []
            for side in (-1e-7, 1e-7):
                x = torch.tensor(r + side, dtype=F64, requires_grad=True)
                value = function(x)
                value.backward()
                values.append(value.item())
                slopes.append(x.grad.item())
            scale = abs(function(torch.tensor(begin, dtype=F64)).item())
            assert abs(values[0] - values[1]) < 1e-6 * scale + 3e-7 * abs(slopes[0])
            assert abs(slopes[0] - slopes[1]) < 1e-3 * scale
    r = torch.tensor([1.536329, 2.6, 3.0], dtype=F64)
    torch.testing.assert_close(carbon.hopping_scale(r), torch.tensor([1.0, 0.0, 0.0], dtype=F64))
    torch.testing.assert_close(carbon.repulsion(torch.tensor(1.64, dtype=F64)), torch.tensor(8.18555, dtype=F64))


def test_an_isolated_atom_has_the_energy_of_its_orbitals():
    found = model((1, 1, 1), 0.001).evaluate(torch.zeros(1, 1, 3, dtype=F64), 9 * torch.eye(3, dtype=F64)[None])
    # two electrons are in s, two in the three p orbitals, whose entropy counts
    entropy = 0.001 * 6 * (math.log(3) / 3 + 2 / 3 * math.log(1.5))
    assert found.energy.item() == pytest.approx(2 * -2.99 + 2 * 3.71 + carbon.EMBEDDING[0] - entropy, abs=1e-9)
    assert found.signed_gap.item() == pytest.approx(0.0, abs=1e-9)


def by_loops(frac, cell, kappa, filled):
    """Energy without smearing and gap by loops over atoms and images, with phases of the full vectors between atoms."""
    x, n = frac @ cell, len(frac)
    s = np.vectorize(lambda r: float(carbon.hopping_scale(torch.tensor(r, dtype=F64))))
    phi = np.vectorize(lambda r: float(carbon.repulsion(torch.tensor(r, dtype=F64))))
    images = list(itertools.product(range(-3, 4), repeat=3))
    near = [
        (i, j, x[j] + np.array(m) @ cell - x[i])
        for i, j, m in itertools.product(range(n), range(n), images)
        if 1e-9 < np.linalg.norm(x[j] + np.array(m) @ cell - x[i]) < 2.6
    ]
    energy = 0.0
    for i in range(n):
        total = sum(phi(np.linalg.norm(d)) for first, _, d in near if first == i)
        energy += sum(c * total**p for p, c in enumerate(carbon.EMBEDDING))
    levels = []
    for point in kappa:
        k = 2 * np.pi * np.linalg.solve(cell, point)
        h = np.kron(np.eye(n), np.diag([-2.99, 3.71, 3.71, 3.71])).astype(complex)
        for i, j, d in near:
            r = np.linalg.norm(d)
            along = d / r
            block = np.zeros((4, 4))
            block[0, 0] = -5.0
            block[0, 1:], block[1:, 0] = 4.7 * along, -4.7 * along
            block[1:, 1:] = 5.5 * np.outer(along, along) - 1.55 * (np.eye(3) - np.outer(along, along))
            h[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] += s(r) * np.exp(1j * k @ d) * block
        levels.append(np.linalg.eigvalsh(h))
    levels = np.array(levels)
    energy += 2 * levels[:, :filled].sum() / len(kappa)
    return energy, levels[:, filled].min() - levels[:, filled - 1].max()


def test_energy_and_gap_are_those_of_an_independent_program():
    frac, cell = tensors(crystal("C", [(0.1,) * 3], spacegroup=206, cellpar=[4.4] * 3 + [90] * 3, primitive_cell=True))
    frac = frac + 0.02 * torch.randn(frac.shape, dtype=F64, generator=generator())
    whole = np.array(list(itertools.product((0.0, 0.5), (0.0, 1 / 3, 2 / 3), (0.0,))))
    energy, gap = by_loops(frac[0].numpy(), cell[0].numpy(), whole, 16)
    assert gap > 1.0
    found = model((2, 3, 1), 0.01)(frac, cell)
    assert found.energy.item() == pytest.approx(energy, abs=1e-8)
    assert found.signed_gap.item() == pytest.approx(gap, abs=1e-8)


def test_the_energy_rises_towards_short_distances():
    x = torch.tensor([50.0, 99.9, 100.0, 100.1, 200.0], dtype=F64, requires_grad=True)
    value = carbon.embedding(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value[0].item() == pytest.approx(sum(c * 50.0**p for p, c in enumerate(carbon.EMBEDDING)))
    assert slope[2].item() == pytest.approx(slope[1].item(), abs=1e-3)
    assert (slope[3:] == slope[2]).all()
    frac, cell = diamond(1.0)
    a = torch.linspace(1.0, 3.4, 25, dtype=F64)
    energies = model((3, 3, 3))(frac.expand(25, 2, 3), a[:, None, None] * cell).energy
    assert (energies.diff() < 0).all()


# published values


def test_diamond():
    frac, cell = diamond(1.0)
    a = torch.linspace(0.9 * 3.555, 1.1 * 3.555, 15, dtype=F64)
    energies = model((6, 6, 6), 0.01)(frac.expand(15, 2, 3), a[:, None, None] * cell).energy
    volume, _, modulus = EquationOfState((a**3 / 4).numpy(), energies.numpy(), eos="murnaghan").fit(warn=False)
    assert (4 * volume) ** (1 / 3) == pytest.approx(3.555, abs=0.004)
    assert modulus / GPa == pytest.approx(456, rel=0.005)
    near = torch.linspace(3.54, 3.57, 5, dtype=F64)
    stress = model((6, 6, 6), 0.01).evaluate(frac.expand(5, 2, 3), near[:, None, None] * cell).stress
    zero = np.interp(0.0, stress[:, 0, 0], near)
    assert zero == pytest.approx(3.555, abs=0.002)


def test_the_bond_of_graphite():
    sheet = graphene(a=1.0, vacuum=1.0)
    frac, cell = tensors(sheet)
    a = torch.linspace(2.42, 2.50, 9, dtype=F64)
    cells = (a[:, None, None] * cell).clone()
    cells[:, 2, 2] = 6.7
    energies = model((12, 12, 1), 0.05)(frac.expand(9, 2, 3), cells).energy
    fit = np.polyfit(a.numpy(), energies.numpy(), 4)
    lowest = [x.real for x in np.roots(np.polyder(fit)) if abs(x.imag) < 1e-9 and 2.42 < x.real < 2.5]
    assert lowest[0] / math.sqrt(3) == pytest.approx(1.42, abs=0.004)


def phases():
    """Phases near their equilibrium in this model, from the lowest energy on."""
    hexagonal = [[2.511, 0, 0], [-2.511 / 2, 2.511 * math.sqrt(3) / 2, 0], [0, 0, 4.109]]
    layer = graphene(a=2.455, vacuum=3.0)
    layer.pbc = True
    return {
        "graphite": layer,
        "lonsdaleite": Atoms(
            "C4", cell=hexagonal, scaled_positions=[[1 / 3, 2 / 3, z] for z in (0.0625, 0.4375)] + [[2 / 3, 1 / 3, z] for z in (0.5625, 0.9375)]
        ),
        "diamond": bulk("C", "diamond", a=3.554),
        "BC8": crystal("C", [(0.098,) * 3], spacegroup=206, cellpar=[4.38] * 3 + [90] * 3, primitive_cell=True),
        "chain": Atoms("C", cell=[6, 6, 1.304]),
        "simple cubic": bulk("C", "sc", a=1.87),
        "body-centred cubic": bulk("C", "bcc", a=2.291),
        "face-centred cubic": bulk("C", "fcc", a=2.902),
    }  # fmt: skip


def test_the_order_of_the_phases():
    batch = [tensors(atoms) for atoms in phases().values()]
    counts = torch.tensor([frac.shape[1] for frac, _ in batch])
    frac = torch.stack([torch.nn.functional.pad(f[0], (0, 0, 0, 8 - f.shape[1])) for f, _ in batch])
    found = CarbonTightBinding(kgrid=KGrid(spacing=0.2))(frac, torch.cat([cell for _, cell in batch]), counts)
    per_atom = found.energy / counts
    assert per_atom.tolist() == sorted(per_atom.tolist())
    relative = (per_atom - per_atom[2]).tolist()
    # of grids of 0.1 per Å
    expected = [-0.015, -0.008, 0.0, 0.481, 1.193, 3.046, 3.717, 3.947]
    assert relative == pytest.approx(expected, abs=0.015)
    assert found.signed_gap[2].item() == pytest.approx(6.36, abs=0.01)
    assert (found.signed_gap[5:] < -2).all()


# derivatives


def differences(function, x, step=1e-5):
    """Central differences by all entries of x; the function takes a batch of such arrays."""
    moves = step * torch.eye(x.numel(), dtype=F64).view(-1, *x.shape)
    ahead, behind = function(torch.cat((x + moves, x - moves))).view(2, -1)
    return ((ahead - behind) / (2 * step)).view_as(x)


def bands_of(used, frac, cell):
    """Bands of batches of positions or of cells."""
    count = max(len(frac), len(cell))
    return used(frac.expand(count, -1, -1), cell.expand(count, -1, -1))


@each_crystal
def test_forces_and_stress_are_derivatives_of_the_energy(make):
    frac, cell = make()
    used = model()
    found = used.evaluate(frac, cell)
    inverse = torch.linalg.inv(cell)
    forces = -differences(lambda x: bands_of(used, x @ inverse, cell).energy, (frac @ cell)[0])
    torch.testing.assert_close(found.forces[0], forces, rtol=1e-6, atol=1e-6)
    assert found.forces.sum(1).abs().max() < 1e-10
    unit = torch.eye(3, dtype=F64)
    by_strain = differences(lambda e: bands_of(used, frac, cell @ (unit + e)).energy, torch.zeros(3, 3, dtype=F64))
    stress = by_strain / torch.linalg.det(cell[0])
    torch.testing.assert_close(stress, stress.T, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.stress[0], stress, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.energy, used(frac, cell).energy)
    torch.testing.assert_close(found.atom_energies.sum(1), found.energy)


@each_crystal
def test_the_derivative_of_the_gap(make):
    frac, cell = make()
    used = model()
    f, a = frac.clone().requires_grad_(True), cell.clone().requires_grad_(True)
    gap = used(f, a).signed_gap
    by_frac, by_cell = torch.autograd.grad(gap.sum(), (f, a))
    assert (gap > 1) if make is distorted else (gap < 0)
    expected = differences(lambda x: bands_of(used, x, cell).signed_gap, frac[0])
    torch.testing.assert_close(by_frac[0], expected, rtol=1e-6, atol=1e-6)
    expected = differences(lambda x: bands_of(used, frac, x).signed_gap, cell[0])
    torch.testing.assert_close(by_cell[0], expected, rtol=1e-6, atol=1e-6)


def test_degenerate_levels_have_symmetric_derivatives():
    frac, cell = diamond()
    f, a = frac.requires_grad_(True), cell.requires_grad_(True)
    bands = model((4, 4, 4), 0.01)(f, a)
    for value in bands:
        by_frac, by_cell = torch.autograd.grad(value.sum(), (f, a), retain_graph=True)
        strain = (cell.mT @ by_cell)[0].detach()
        assert by_frac.abs().max() < 1e-10
        assert strain[0, 0].abs() > 0.01
        torch.testing.assert_close(strain, strain[0, 0] * torch.eye(3, dtype=F64), rtol=0, atol=1e-8)


def test_a_second_derivative_is_refused():
    frac, cell = distorted()
    (force,) = torch.autograd.grad(model()(frac.requires_grad_(True), cell).energy.sum(), frac, create_graph=True)
    with pytest.raises(InputError, match="second derivative"):
        force.sum().backward()


# what must not matter


@each_crystal
def test_supercells(make):
    frac, cell = make()
    small = model((4, 2, 3)).evaluate(frac, cell)
    double = torch.cat((frac, frac + torch.tensor([1.0, 0, 0], dtype=F64)), dim=1) / torch.tensor([2.0, 1, 1], dtype=F64)
    large = model((2, 2, 3)).evaluate(double, cell * torch.tensor([2.0, 1, 1], dtype=F64)[:, None])
    torch.testing.assert_close(large.energy, 2 * small.energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(large.signed_gap, small.signed_gap, rtol=0, atol=1e-9)
    torch.testing.assert_close(large.forces, torch.cat((small.forces, small.forces), dim=1), rtol=0, atol=1e-8)
    torch.testing.assert_close(large.stress, small.stress, rtol=0, atol=1e-9)


@each_crystal
@pytest.mark.parametrize("grid", [KGrid(size=(3, 3, 3)), KGrid(spacing=0.7)], ids=["size", "spacing"])
def test_the_choice_of_cell(make, grid):
    frac, cell = make()
    change = torch.tensor([[1.0, 2, 0], [0, 1, 0], [1, 3, 1]], dtype=F64) @ torch.tensor(
        [[1.0, 0, 0], [3, 1, 0], [-1, 0, -1]], dtype=F64
    )
    used = CarbonTightBinding(kgrid=grid, smearing=0.1)
    before, after = used.evaluate(frac, cell), used.evaluate(frac @ torch.linalg.inv(change), change @ cell)
    for name in ("energy", "signed_gap", "forces", "stress", "atom_energies", "fermi_level"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=1e-8)


@each_crystal
def test_origin_order_orientation_and_images(make):
    frac, cell = make()
    random = generator(5)
    used = CarbonTightBinding(kgrid=KGrid(spacing=0.8), smearing=0.1)
    before = used.evaluate(frac, cell)
    order = torch.randperm(frac.shape[1], generator=random)
    shift = torch.randint(-3, 4, frac.shape, generator=random) + torch.rand(3, dtype=F64, generator=random)
    rotation = so3.uniform((1,), generator=random, dtype=F64)
    after = used.evaluate((frac + shift)[:, order], cell @ rotation)
    torch.testing.assert_close(after.energy, before.energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(after.signed_gap, before.signed_gap, rtol=0, atol=1e-9)
    torch.testing.assert_close(after.forces, before.forces[:, order] @ rotation, rtol=0, atol=1e-8)
    torch.testing.assert_close(after.stress, rotation.mT @ before.stress @ rotation, rtol=0, atol=1e-8)
    torch.testing.assert_close(after.atom_energies, before.atom_energies[:, order], rtol=0, atol=1e-8)


def mixed():
    """Crystals of two, eight, five and eight atoms in cells that ask for different grids, padded with numbers that are none."""
    parts = [diamond(), distorted(seed=1), dense(), distorted(seed=2)]
    frac = torch.stack([torch.nn.functional.pad(f[0], (0, 0, 0, 8 - f.shape[1]), value=torch.nan) for f, _ in parts])
    return parts, frac, torch.cat([cell for _, cell in parts]), torch.tensor([f.shape[1] for f, _ in parts])


def test_a_batch_is_its_crystals():
    parts, frac, cell, atoms = mixed()
    used = CarbonTightBinding(kgrid=KGrid(spacing=0.6))
    together = used.evaluate(frac, cell, atoms)
    for i, (f, a) in enumerate(parts):
        n = f.shape[1]
        alone = used.evaluate(f, a)
        for name in ("energy", "signed_gap", "stress", "fermi_level"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0], rtol=0, atol=1e-10)
        for name in ("forces", "atom_energies"):
            torch.testing.assert_close(getattr(together, name)[i, :n], getattr(alone, name)[0], rtol=0, atol=1e-10)
            assert (getattr(together, name)[i, n:] == 0).all()


def test_single_precision():
    frac, cell = distorted(3)
    exact, rough = (model().evaluate(frac.to(t), cell.to(t)) for t in (F64, torch.float32))
    assert rough.energy.dtype == rough.forces.dtype == torch.float32
    assert (rough.energy - exact.energy).abs().max() < 1e-3
    assert (rough.forces - exact.forces).abs().max() < 1e-3
    assert (rough.signed_gap - exact.signed_gap).abs().max() < 1e-4


# what cannot be evaluated


def test_bad_crystals_leave_the_others_alone():
    frac, cell = distorted(4)
    good = model()(frac, cell)
    frac, cell = frac.clone(), cell.clone()
    frac[0, 3, 1] = torch.nan
    cell[1, 2] = cell[1, 1] - cell[1, 0]
    cell[2] = cell[2] * torch.tensor([1, 1, 0.1], dtype=F64)[:, None]
    f, a = frac.requires_grad_(True), cell.requires_grad_(True)
    found = model()(f, a)
    assert found.energy[:3].isnan().all()
    assert found.signed_gap[:3].isnan().all()
    torch.testing.assert_close(found.energy[3], good.energy[3])
    by_frac, by_cell = torch.autograd.grad(found.energy.nan_to_num().sum(), (f, a))
    assert (by_frac[:3] == 0).all()
    assert (by_cell[:3] == 0).all()
    assert by_frac[3].abs().max() > 0.1
    whole = model().evaluate(frac, cell)
    assert whole.forces[:3].isnan().all()
    torch.testing.assert_close(whole.energy[3], good.energy[3])


def test_atoms_on_top_of_each_other_are_finite():
    frac, cell = distorted()
    frac[0, 1] = frac[0, 0]
    found = model().evaluate(frac, cell)
    assert torch.isfinite(found.energy).all()
    assert torch.isfinite(found.forces).all()
    assert torch.isfinite(found.stress).all()


def test_inputs_are_checked():
    frac, cell = diamond()
    used = CarbonTightBinding()
    with pytest.raises(ShapeError, match="frac"):
        used(frac[0], cell)
    with pytest.raises(ShapeError, match="cell"):
        used(frac, cell[0])
    with pytest.raises(ShapeError, match="atoms"):
        used(frac, cell, torch.tensor([2, 2]))
    with pytest.raises(InputError, match="got 3 atoms in a crystal, expected 1 to 2"):
        used(frac, cell, torch.tensor([3]))
    with pytest.raises(ConfigError, match="smearing"):
        CarbonTightBinding(smearing=0.0)
    with pytest.raises(ConfigError, match="spacing"):
        KGrid(spacing=-1.0)
    with pytest.raises(ConfigError, match="size"):
        KGrid(size=(2, 0, 1))


# k-points


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 4), (4, 4, 4), (5, 1, 2)])
def test_grids_are_halved(size, centred):
    points, weights = k_points(size, centred)
    assert weights.sum().item() == pytest.approx(1.0)
    # those that are their own opposites count once
    own = math.prod(2 - n % 2 for n in size) if centred else math.prod(n % 2 for n in size)
    assert len(points) == (math.prod(size) + own) / 2
    both = torch.cat((points, -points))
    whole = torch.unique(torch.round(torch.remainder(both + 1e-9, 1), decimals=6), dim=0)
    assert len(whole) == math.prod(size)


@pytest.mark.parametrize("centred", [True, False])
def test_half_the_grid_gives_what_the_whole_does(centred):
    """A grid is that of one point in the supercell; a whole one comes from there."""
    frac, cell = dense()
    used = model((2, 1, 1), centred=centred)
    folded = model((1, 1, 1))
    double = torch.cat((frac, frac + torch.tensor([1.0, 0, 0], dtype=F64)), dim=1) / torch.tensor([2.0, 1, 1], dtype=F64)
    long = cell * torch.tensor([2.0, 1, 1], dtype=F64)[:, None]
    if centred:
        torch.testing.assert_close(folded(double, long).energy, 2 * used(frac, cell).energy)
        return
    points, weights = k_points((2, 1, 1), False)
    assert points.tolist() == [[-0.25, 0.0, 0.0]]
    assert weights.tolist() == [1.0]


def test_the_spacing_counts_points():
    cube = torch.diag(torch.tensor([2 * math.pi, 4 * math.pi, 20.0], dtype=F64))[None]
    assert KGrid(spacing=0.25).sizes(cube) == [(4, 2, 2)]
    assert KGrid(spacing=5.0).sizes(cube) == [(1, 1, 1)]
    assert KGrid(size=(3, 1, 2)).sizes(cube) == [(3, 1, 2)]


# ASE


def test_ase_relaxes_with_it():
    atoms = bulk("C", "diamond", a=3.45)
    atoms.positions[0] += [0.1, -0.05, 0.02]
    used = model((5, 5, 5), 0.05)
    atoms.calc = tight_binding_calculator(used)
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=60)
    assert atoms.cell.cellpar() == pytest.approx([3.554 / math.sqrt(2)] * 3 + [60] * 3, abs=0.01)
    found = used.evaluate(*tensors(atoms))
    assert atoms.get_potential_energy() == pytest.approx(found.energy.item())
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    assert atoms.calc.results["gap"] == pytest.approx(6.36, abs=0.02)


def test_ase_is_told_what_the_model_does_not_know():
    atoms = bulk("Si", "diamond", a=5.4)
    atoms.calc = tight_binding_calculator()
    with pytest.raises(InputError, match="got the element Si"):
        atoms.get_potential_energy()
    atoms = bulk("C", "diamond", a=3.5)
    atoms.calc = tight_binding_calculator()
    atoms.pbc = (True, True, False)
    with pytest.raises(InputError, match="set pbc=True"):
        atoms.get_potential_energy()
    atoms.pbc = True
    atoms.set_cell(atoms.cell.array * [1, 1, 0.01])
    with pytest.raises(InputError, match="cannot be evaluated"):
        atoms.get_potential_energy()
