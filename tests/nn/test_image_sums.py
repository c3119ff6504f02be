import pytest
import torch

from equilibra.geometry.periodic import image_shifts
from equilibra.nn.distance import GaussianBasis, image_sums
from equilibra.nn.graphormer import Graphormer, GraphormerConfig
from equilibra.nn.inputs import GraphInputs

CUTOFF = 4.0
CELL = torch.tensor([[5.1, 0.0, 0.0], [1.3, 4.4, 0.0], [-0.7, 0.9, 6.0]], dtype=torch.float64)
FRAC = torch.tensor([[0.05, 0.2, 0.9], [0.6, 0.4, 0.1], [0.55, 0.95, 0.5]], dtype=torch.float64)
UNIMODULAR = torch.tensor([[1, 2, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.float64)


@pytest.fixture(scope="module")
def basis():
    return GaussianBasis(10, r_max=6.0).double()


def sums(basis, frac, cell):
    """The basis between all atoms (tokens, tokens, size), for positions wrapped into their cell."""
    shifts = image_shifts(cell, CUTOFF, wrapped=True).double() @ cell
    return image_sums(basis, (frac % 1.0 @ cell)[None], shifts[None], CUTOFF)[0][0]


def vectors(basis, frac, cell):
    """The relative positions between all atoms (tokens, tokens, 3)."""
    shifts = image_shifts(cell, CUTOFF, wrapped=True).double() @ cell
    return image_sums(basis, (frac % 1.0 @ cell)[None], shifts[None], CUTOFF)[1][0]


def test_equals_the_plain_sum_over_many_images(basis):
    got = sums(basis, FRAC, CELL)
    n = torch.cartesian_prod(*[torch.arange(-4.0, 5.0, dtype=torch.float64)] * 3)
    for i in range(3):
        for j in range(3):
            r = ((FRAC[j] - FRAC[i] + n) @ CELL).norm(dim=-1)
            r = r[(r < CUTOFF) & (r > 1e-9)]
            expected = (basis(r) * (0.5 + 0.5 * torch.cos(torch.pi * r / CUTOFF))[:, None]).sum(0)
            torch.testing.assert_close(got[i, j], expected, atol=1e-9, rtol=1e-9)


def test_does_not_depend_on_the_choice_of_the_cell(basis):
    expected = sums(basis, FRAC, CELL)
    assert torch.linalg.det(UNIMODULAR).abs() == pytest.approx(1.0)
    torch.testing.assert_close(
        sums(basis, FRAC @ torch.linalg.inv(UNIMODULAR), UNIMODULAR @ CELL), expected, atol=1e-9, rtol=0.0
    )


def test_does_not_depend_on_the_origin(basis):
    shift = torch.tensor([0.37, -0.81, 0.55], dtype=torch.float64)
    torch.testing.assert_close(sums(basis, FRAC + shift, CELL), sums(basis, FRAC, CELL), atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("axis", range(3))
def test_a_supercell_gives_each_atom_the_same_surroundings(basis, axis):
    expected = sums(basis, FRAC, CELL).sum(1)
    stretch = torch.eye(3, dtype=torch.float64)
    stretch[axis, axis] = 2.0
    offset = torch.zeros(3, dtype=torch.float64)
    offset[axis] = 1.0
    doubled = torch.cat([FRAC, FRAC + offset]) @ torch.linalg.inv(stretch)
    got = sums(basis, doubled, stretch @ CELL).sum(1)
    torch.testing.assert_close(got, torch.cat([expected, expected]), atol=1e-9, rtol=0.0)


def test_is_smooth_at_the_cutoff_and_without_images_it_is_the_plain_basis(basis):
    zero = torch.zeros(1, 1, 3, dtype=torch.float64)

    def pair(r):
        x = torch.stack([torch.zeros(3, dtype=torch.float64), torch.tensor([r, 0.0, 0.0], dtype=torch.float64)])[None]
        return image_sums(basis, x, zero, CUTOFF)[0][0, 0, 1]

    inside, outside = pair(CUTOFF - 1e-4), pair(CUTOFF + 1e-4)
    assert inside.abs().max() < 1e-8
    assert outside.abs().max() == 0.0
    expected = basis(torch.tensor(1.5, dtype=torch.float64)) * (0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * 1.5 / CUTOFF)))
    torch.testing.assert_close(pair(1.5), expected, atol=1e-6, rtol=1e-6)


def test_gradient_is_finite_for_coinciding_atoms(basis):
    x = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    shifts = image_shifts(CELL, CUTOFF, wrapped=True).double() @ CELL
    out = image_sums(basis, x, shifts[None], CUTOFF)[0]
    (gradient,) = torch.autograd.grad((out**2).sum(), x)
    assert torch.isfinite(out).all()
    assert torch.isfinite(gradient).all()


def test_vectors_depend_neither_on_the_cell_nor_on_the_origin_and_vanish_for_own_images(basis):
    expected = vectors(basis, FRAC, CELL)
    other = vectors(basis, FRAC @ torch.linalg.inv(UNIMODULAR), UNIMODULAR @ CELL)
    torch.testing.assert_close(other, expected, atol=1e-9, rtol=0.0)
    shift = torch.tensor([0.37, -0.81, 0.55], dtype=torch.float64)
    torch.testing.assert_close(vectors(basis, FRAC + shift, CELL), expected, atol=1e-9, rtol=0.0)
    assert expected.diagonal().abs().max() < 1e-12
    torch.testing.assert_close(expected, -expected.transpose(0, 1), atol=1e-12, rtol=0.0)


def test_a_periodic_network_does_not_see_how_positions_are_wrapped():
    config = GraphormerConfig(
        node_vocabulary={"element": 9}, pair_vocabulary={"bond": 2}, dim=16, pair_dim=8, layers=2, heads=2, basis=8
    )
    torch.manual_seed(0)
    network = Graphormer(config).double()
    shifts = image_shifts(CELL, config.image_cutoff, wrapped=True).double() @ CELL
    graph = GraphInputs(
        node={"element": torch.tensor([[1, 6, 8]])},
        pair={"bond": torch.zeros(1, 3, 3, dtype=torch.int64)},
        mask=torch.ones(1, 3, dtype=torch.bool),
        translations=shifts[None],
    )
    levels = torch.zeros(1, 1, dtype=torch.float64)
    outputs = [
        network((((FRAC + shift) % 1.0) @ CELL)[None], levels, graph)[0]
        for shift in (torch.zeros(3, dtype=torch.float64), torch.tensor([0.41, 0.77, -0.3], dtype=torch.float64))
    ]
    assert outputs[0].abs().max() > 1e-3
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-9, rtol=0.0)
