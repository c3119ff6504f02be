"""Graphs of crystals: bonds against ASE, sums by owner, shares of nearest neighbours."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from equilibra.errors import InputError, ShapeError
from equilibra.nn.cgcnn import nearest_weights
from equilibra.nn.crystal_graph import crystal_graph, mean_by, rows_of, softmax_by, sum_by

SKEW = [[1, 0, 0], [3, 1, 0], [-2, 4, 1]]
"""A change of basis that makes any cell long and flat."""


def graph_of(atoms, cutoff, dtype=torch.float64):
    numbers, frac = torch.from_numpy(atoms.numbers), torch.from_numpy(atoms.get_scaled_positions())
    return crystal_graph(numbers, frac[None].to(dtype), torch.from_numpy(atoms.cell.array)[None].to(dtype), cutoff)


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("cutoff", [3.0, 8.0])
def test_bonds_are_those_of_ase(cutoff, skewed):
    rng = np.random.default_rng(0)
    cell = np.eye(3) * [3.1, 4.0, 5.2] + 0.6 * rng.standard_normal((3, 3))
    atoms = Atoms("CSiO", scaled_positions=rng.uniform(-2, 3, (3, 3)), cell=np.array(SKEW) @ cell if skewed else cell, pbc=True)
    i, j, d = neighbor_list("ijd", atoms, cutoff)
    graph = graph_of(atoms, cutoff)
    order, expected = np.lexsort((graph.length, graph.sender, graph.receiver)), np.lexsort((d, j, i))
    np.testing.assert_array_equal(graph.receiver[order], i[expected])
    np.testing.assert_array_equal(graph.sender[order], j[expected])
    np.testing.assert_allclose(graph.length[order], d[expected], rtol=1e-12)
    assert (graph.bond_crystal == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("repeat", [(1, 1, 1), (3, 1, 2)])
def test_atoms_exactly_at_the_cutoff_are_neighbours_in_every_cell(repeat, dtype):
    # a = 5 Å: six neighbours at 5 Å
    atoms = Atoms("C", cell=np.eye(3) * 5.0, pbc=True).repeat(repeat)
    atoms.translate([0.37, 1.91, -0.77])
    assert len(graph_of(atoms, 5.0, dtype).length) == 6 * len(atoms)


def test_padding_and_crystals_that_cannot_be_used_have_no_atoms():
    frac = torch.rand(5, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cell = 4.0 * torch.eye(3, dtype=torch.float64).expand(5, 3, 3).clone()
    mask = torch.ones(5, 3, dtype=torch.bool)
    frac[0, 2], mask[0, 2] = torch.nan, False  # padding may hold anything
    frac[1, 0, 0] = torch.inf
    cell[2, 2] = cell[2, 0] + cell[2, 1]  # flat
    cell[3, 0] = torch.tensor([0.4, 0.0, 0.0])  # thinner than half an Å
    graph = crystal_graph(torch.tensor([6, 7, 8]), frac, cell, 5.0, mask)
    assert graph.usable.tolist() == [True, False, False, False, True]
    assert graph.crystal.tolist() == [0, 0, 4, 4, 4]
    assert graph.numbers.tolist() == [6, 7, 6, 7, 8]
    alone = crystal_graph(torch.tensor([6, 7, 8]), frac[4:], cell[4:], 5.0)
    torch.testing.assert_close(graph.length[graph.bond_crystal == 4], alone.length, rtol=1e-12, atol=0)


def test_sums_means_and_softmax_by_owner():
    x, owner = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 2])
    assert sum_by(x, owner, 3).flatten().tolist() == [1.0, 0.0, 6.0]
    assert mean_by(x, owner, 3).flatten().tolist() == [1.0, 0.0, 3.0]
    torch.testing.assert_close(softmax_by(x[:, 0], owner, 3), torch.cat([torch.ones(1), torch.softmax(x[1:, 0], 0)]))


def test_the_last_shell_shares_the_places_that_are_left():
    # body-centred cubic: 8 neighbours, then 6, of which 4 places are left; face-centred: 12
    for name, count, shares in (("bcc", 12, {1.0: 8, 4 / 6: 6}), ("fcc", 12, {1.0: 12}), ("bcc", 100, None)):
        graph = graph_of(bulk("Fe", name, 2.87), 5.0)
        weight = nearest_weights(graph.length, graph.receiver, 1, count)
        if shares is None:  # fewer than wanted: all of them
            assert (weight == 1.0).all()
            assert len(weight) < count
            continue
        kept = weight[weight > 0]
        assert float(kept.sum()) == pytest.approx(count)
        # a shell of twelve at one distance fills all places: shared, each has its own
        assert {round(w, 6): int((kept.sub(w).abs() < 1e-9).sum()) for w in kept.unique().tolist()} == {
            round(w, 6): n for w, n in shares.items()
        }


def test_elements_that_are_not_known_are_named():
    assert rows_of(torch.tensor([8, 6]), (6, 8)).tolist() == [1, 0]
    with pytest.raises(InputError, match="got 7, 92, which the network was not trained on; it knows 2 elements up to 8"):
        rows_of(torch.tensor([92, 6, 7]), (6, 8))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2,), (2, 3), (1, 3, 3), None), r"frac: got shape \(2, 3\), expected \(batch, atoms, 3\)"),
        (((2,), (4, 2, 3), (1, 3, 3), None), r"cell: got shape \(1, 3, 3\), expected \(4, 3, 3\)"),
        (((3,), (4, 2, 3), (4, 3, 3), None), r"numbers: got shape \(3,\), expected \(4, 2\) or \(2,\)"),
        (((2,), (4, 2, 3), (4, 3, 3), (4, 3)), r"mask: got shape \(4, 3\), expected \(4, 2\)"),
    ],
)
def test_wrong_shapes_are_refused(shapes, message):
    numbers, frac, cell, mask = shapes
    with pytest.raises(ShapeError, match=message):
        crystal_graph(
            torch.ones(numbers), torch.zeros(frac), torch.ones(cell), 5.0, None if mask is None else torch.ones(mask).bool()
        )
