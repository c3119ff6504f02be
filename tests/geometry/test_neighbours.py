import numpy as np
import pytest
import torch

from equilibra.geometry.periodic import neighbours


def random_cells(batch, seed):
    g = torch.Generator().manual_seed(seed)
    cell = torch.randn(batch, 3, 3, generator=g, dtype=torch.float64) + 3.0 * torch.eye(3, dtype=torch.float64)
    cell[0] = torch.diag(torch.tensor([9.0, 9.0, 0.8]))  # flat
    cell[1, 2] = cell[1, 0] * 2.9 + cell[1, 1] * 1.9 + torch.tensor([0.0, 0.0, 1.0])  # skew
    return cell, 4.0 * torch.rand(batch, 3, 3, generator=g, dtype=torch.float64) - 2.0


def lengths(frac, cell, pairs, shifts):
    b, i, j = pairs.unbind(1)
    return torch.linalg.vector_norm(((frac[b, j] - frac[b, i] + shifts)[:, None] @ cell[b])[:, 0], dim=-1)


def test_all_images_in_flat_and_skew_cells_as_ase_finds_them():
    import ase
    from ase.neighborlist import neighbor_list

    cell, frac = random_cells(5, 0)
    pairs, shifts = neighbours(frac, cell, 4.5)
    r = lengths(frac, cell, pairs, shifts)
    for b in range(5):
        atoms = ase.Atoms("C3", positions=(frac[b] @ cell[b]).numpy(), cell=cell[b].numpy(), pbc=True)
        i, j, d = neighbor_list("ijd", atoms, 4.5)
        mine = pairs[:, 0] == b
        ours = sorted(zip(pairs[mine, 1].tolist(), pairs[mine, 2].tolist(), r[mine].round(decimals=8).tolist(), strict=True))
        theirs = sorted(zip(i.tolist(), j.tolist(), np.round(d, 8).tolist(), strict=True))
        assert np.allclose([x[2] for x in ours], [x[2] for x in theirs], atol=1e-7)
        assert [x[:2] for x in ours] == [x[:2] for x in theirs]


def test_padding_is_nobody_and_no_atom_is_its_own_neighbour():
    cell, frac = random_cells(3, 1)
    mask = torch.tensor([[True, True, False]] * 3)
    pairs, shifts = neighbours(frac, cell, 4.5, mask)
    alone, own = neighbours(frac[:, :2], cell, 4.5)
    assert torch.equal(pairs, alone)
    assert torch.equal(shifts, own)
    assert lengths(frac, cell, pairs, shifts).min() > 1e-6


def test_pairs_do_not_depend_on_how_coordinates_are_wrapped():
    cell, frac = random_cells(3, 2)
    r = lengths(frac, cell, *neighbours(frac, cell, 4.0)).sort().values
    wrapped = frac - torch.floor(frac)
    assert torch.allclose(lengths(wrapped, cell, *neighbours(wrapped, cell, 4.0)).sort().values, r)


def test_a_cell_without_volume_is_refused():
    from equilibra.errors import InputError

    with pytest.raises(InputError, match="three independent lattice vectors"):
        neighbours(torch.zeros(1, 2, 3), torch.zeros(1, 3, 3), 3.0)
