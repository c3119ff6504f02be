"""The docking energy against sums over all pairs, its derivatives, its box, and what it refuses."""

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from small_pocket import POCKET, bent, every_pair, random_poses

from equilibra.energies.analytic import HarmonicCluster
from equilibra.energies.docking import Box, DockingEnergy, docking_ligand, ligand_positions, read_receptor
from equilibra.energies.docking.pdbqt import receptor_pdbqt
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.mmff import MMFFEnergy
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.units import KCAL_PER_MOL_EV


def reference(receptor, ligand, x):
    """Inter- and intramolecular energies (batch,) in kcal/mol, without lists of neighbours."""
    heavy = x[:, ligand.heavy]
    inter = bent(every_pair(heavy, receptor.positions[None], ligand.types, receptor.types).sum(2)).sum(1)
    i, j = ligand.pairs
    intra = bent(every_pair(heavy, heavy, ligand.types, ligand.types)[:, i, j]).sum(1)
    return inter, intra


@pytest.fixture(scope="module", params=[0, 1, 2])
def case(request, pocket, ligands, box):
    mol = ligands[request.param]
    x = ligand_positions(mol)
    poses = torch.cat((x, random_poses(x[0], 40, seed=request.param)))
    return DockingEnergy(pocket, docking_ligand(mol), box), docking_ligand(mol), poses


def test_scores_are_sums_over_all_pairs(case, pocket):
    energy, ligand, x = case
    inter, intra = reference(pocket, ligand, x)
    score = energy.score(x)
    assert torch.allclose(score.inter, inter, rtol=1e-12, atol=1e-12)
    assert torch.allclose(score.intra, intra, rtol=1e-12, atol=1e-12)
    assert torch.allclose(score.total, inter / (1 + 0.05846 * ligand.n_rot), rtol=1e-12)
    assert torch.allclose(energy.energy(x), (inter + intra) * KCAL_PER_MOL_EV, rtol=1e-12, atol=1e-12)
    # poses into the middle of the peptide are among them
    assert float(inter.max()) > 50.0


def test_energies_do_not_depend_on_the_box_around_a_pose(pocket, ligands, box):
    x = ligand_positions(ligands[0])
    ligand = docking_ligand(ligands[0])
    boxes = [box, Box.around(x, 0.01), Box.around(x, 30.0), Box((1.0, 2.0, 3.0), (90.0, 80.0, 70.0))]
    scores = torch.stack([DockingEnergy(pocket, ligand, each).energy(x) for each in boxes])
    assert torch.allclose(scores, scores[:1].expand_as(scores), rtol=1e-11)


def test_moving_everything_together_changes_nothing(pocket, ligands, tmp_path, box):
    moved = tmp_path / "moved.pdb"
    shift = torch.tensor([100.0, -50.0, 7.0], dtype=torch.float64)
    lines = []
    for line in POCKET.read_text().splitlines():
        if line.startswith(("ATOM", "HETATM")):
            xyz = [float(line[i : i + 8]) + float(by) for i, by in zip((30, 38, 46), shift, strict=True)]
            line = line[:30] + "".join(f"{each:8.3f}" for each in xyz) + line[54:]
        lines.append(line)
    moved.write_text("\n".join(lines))
    ligand, x = docking_ligand(ligands[1]), ligand_positions(ligands[1])
    there = DockingEnergy(read_receptor(moved), ligand, Box(tuple((torch.tensor(box.centre) + shift).tolist()), box.size))
    assert torch.allclose(there.energy(x + shift), DockingEnergy(pocket, ligand, box).energy(x), rtol=1e-9)


def test_forces_are_the_derivatives(case):
    energy, ligand, x = case
    x = x[:9]
    u, force = energy.energy_and_force(x)
    moving = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy.energy(moving).sum(), moving)
    assert torch.equal(gradient, -force)
    assert torch.equal(u, energy.energy(x))
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3))
    step = 1e-6
    slope = (energy.energy(x + step * direction) - energy.energy(x - step * direction)) / (2 * step)
    along = -(force * direction).sum((1, 2))
    # a pair may pass a kink within the step
    close = torch.isclose(slope, along, rtol=1e-5, atol=1e-6)
    assert close.sum() >= 8
    hydrogens = torch.ones(x.shape[1], dtype=torch.bool).index_fill(0, ligand.heavy, False)
    assert torch.equal(force[:, hydrogens], torch.zeros_like(force[:, hydrogens]))


def test_second_derivatives(case):
    energy, _, x = case
    x = x[:3]
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(4))
    moving = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy.energy(moving).sum(), moving, create_graph=True)
    (product,) = torch.autograd.grad((gradient * direction).sum(), moving)
    step = 1e-6
    difference = -(energy.energy_and_force(x + step * direction)[1] - energy.energy_and_force(x - step * direction)[1]) / (
        2 * step
    )
    # atoms with a pair at a kink see its jump
    close = torch.isclose(product, difference, rtol=1e-4, atol=1e-5)
    assert float(close.double().mean()) > 0.97


def test_single_precision_and_batches(case):
    energy, _, x = case
    whole, force = energy.energy_and_force(x)
    single, single_force = energy.energy_and_force(x.float())
    assert single.dtype == single_force.dtype == torch.float32
    assert torch.allclose(single.double(), whole, rtol=1e-5, atol=2e-6)
    rms = force.square().mean().sqrt()
    assert float((single_force.double() - force).abs().max()) < 1e-4 * float(rms)
    parts = torch.cat([energy.energy(part) for part in x.split(7)])
    assert torch.allclose(parts, whole, rtol=1e-14)
    assert energy.energy(x[:0]).shape == (0,)
    assert energy.score(x[:0]).total.shape == (0,)


def test_outside_the_box_the_wall_draws_back(pocket, ligands, box):
    mol = ligands[2]
    ligand, x = docking_ligand(mol), ligand_positions(mol)
    energy = DockingEnergy(pocket, ligand, box, wall=7.0)
    low, high = box.corners
    away = x + torch.tensor([40.0, 0.0, -3.0], dtype=torch.float64)
    heavy = away[:, ligand.heavy]
    clamped = torch.minimum(torch.maximum(heavy, low), high)
    inter, _ = reference(pocket, ligand, away.index_copy(1, ligand.heavy, clamped))
    _, intra = reference(pocket, ligand, away)
    wall = 3.5 * (heavy - clamped).square().sum((1, 2))
    u, force = energy.energy_and_force(away)
    assert torch.allclose(u, (inter + intra + wall) * KCAL_PER_MOL_EV, rtol=1e-12)
    assert float(force[0, ligand.heavy, 0].max()) < 0
    step = torch.zeros_like(away)
    step[..., 0] = 1e-6
    slope = (energy.energy(away + step) - energy.energy(away - step)) / 2e-6
    assert torch.allclose(slope, -force[..., 0].sum(1), rtol=1e-6)
    # the score is of the pose alone
    assert torch.allclose(energy.score(away).inter, inter, rtol=1e-12)


def test_atoms_on_top_of_each_other_have_finite_energies_and_forces(pocket, ligands, box):
    ligand = docking_ligand(ligands[0])
    energy = DockingEnergy(pocket, ligand, box)
    x = pocket.positions[20].expand(2, ligand.items, 3).clone()
    x[1] = 0.0
    u, force = energy.energy_and_force(x)
    assert torch.isfinite(u).all()
    assert torch.isfinite(force).all()
    # an atom has at most 1000 kcal/mol, and a pair within the ligand at most 12
    assert float(u.max()) < (1000.0 * len(ligand.types) + 15.0 * ligand.pairs.shape[1]) * KCAL_PER_MOL_EV
    moving = x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy.energy(moving).sum(), moving)
    assert torch.isfinite(gradient).all()


def test_another_energy_of_the_ligand_takes_the_place_of_vinas(pocket, ligands, box):
    mol = ligands[0]
    ligand, x = docking_ligand(mol), torch.cat((ligand_positions(mol), random_poses(ligand_positions(mol)[0], 3)))
    strain = MMFFEnergy(mol)
    score = DockingEnergy(pocket, ligand, box).score(x)
    alone = DockingEnergy(pocket, ligand, box, internal=None)
    both = DockingEnergy(pocket, ligand, box, internal=strain)
    assert torch.allclose(alone.energy(x), score.inter * KCAL_PER_MOL_EV, rtol=1e-12)
    assert torch.allclose(both.energy(x), alone.energy(x) + strain.energy(x), rtol=1e-12)
    for ours, one, other in zip(both.energy_and_force(x), alone.energy_and_force(x), strain.energy_and_force(x), strict=True):
        assert torch.allclose(ours, one + other, rtol=1e-12)
    moving = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(both.energy(moving).sum(), moving)
    assert torch.allclose(gradient, -both.energy_and_force(x)[1], rtol=1e-9, atol=1e-12)
    assert torch.equal(both.score(x).intra, score.intra)


def test_it_is_an_energy_like_others(case):
    energy, ligand, x = case
    reduced = ReducedEnergy.at(energy, 300.0)
    reduced.check(x)
    assert reduced.calls == len(x)
    assert energy.degrees == 3 * ligand.items
    assert not energy.invariant


@pytest.mark.slow  # a compiler runs
def test_compiled_is_the_same(pocket, ligands, box):
    ligand, x = docking_ligand(ligands[1]), random_poses(ligand_positions(ligands[1])[0], 50)
    eager, compiled = DockingEnergy(pocket, ligand, box), DockingEnergy(pocket, ligand, box, compile=True)
    for ours, theirs in zip(compiled.energy_and_force(x), eager.energy_and_force(x), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    moving = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(compiled.energy(moving).sum(), moving)
    assert torch.allclose(gradient, -eager.energy_and_force(x)[1], rtol=1e-10, atol=1e-10)


def test_an_element_without_a_type_matters_near_the_box_only(pocket, ligands, box, tmp_path):
    def receptor(x):
        path = tmp_path / "receptor.pdb"
        atoms = [line for line in POCKET.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
        path.write_text(
            "\n".join([*atoms, f"HETATM 9999 AS   UNL Z 901    {x:8.3f}   0.000   0.000  1.00  0.00          AS"]) + "\n"
        )
        return read_receptor(path)

    ligand, x = docking_ligand(ligands[0]), ligand_positions(ligands[0])
    edge = box.centre[0] + box.size[0] / 2
    far = receptor(edge + 8.5)
    assert torch.equal(DockingEnergy(far, ligand, box).energy(x), DockingEnergy(pocket, ligand, box).energy(x))
    assert [far.label(place) for place in far.foreign] == ["Z:UNL901:AS"]
    assert "UNL" not in receptor_pdbqt(far)
    with pytest.raises(InputError, match=r"near the ligand: the docking score has no type for Z:UNL901:AS \(As\)"):
        DockingEnergy(receptor(edge + 7.5), ligand, box)


def test_what_it_refuses(pocket, ligands, box):
    ligand = docking_ligand(ligands[0])
    with pytest.raises(InputError, match=r"no atom of the receptor is within 8 Å of the box with centre \(500.0, 0.0, 0.0\)"):
        DockingEnergy(pocket, ligand, Box((500.0, 0.0, 0.0), (20.0, 20.0, 20.0)))
    with pytest.raises(ConfigError, match=r"wall 0\.0"):
        DockingEnergy(pocket, ligand, box, wall=0.0)
    with pytest.raises(ConfigError, match="internal energy 'mmff'"):
        DockingEnergy(pocket, ligand, box, internal="mmff")
    with pytest.raises(InputError, match="of 5 atoms, the ligand has 35"):
        DockingEnergy(pocket, ligand, box, internal=HarmonicCluster(5))
    with pytest.raises(ShapeError, match=r"\(batch, 35, 3\)"):
        DockingEnergy(pocket, ligand, box).energy(torch.zeros(2, 34, 3))


@pytest.mark.parametrize(
    ("centre", "size"),
    [((0.0, 0.0, 0.0), (1.0, 0.0, 1.0)), ((0.0, float("nan"), 0.0), (1.0, 1.0, 1.0)), ((0.0, 0.0), (1.0, 1.0, 1.0))],
)
def test_boxes_that_are_none(centre, size):
    with pytest.raises(InputError, match="box: got centre"):
        Box(centre, size)


def test_box_around_a_ligand():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=0)
    x = ligand_positions(mol)
    low, high = Box.around(x, 4.0).corners
    assert torch.allclose(low, x[0].amin(0) - 4.0)
    assert torch.allclose(high, x[0].amax(0) + 4.0)
    with pytest.raises(ShapeError, match="positions of a box"):
        Box.around(x[:0])
