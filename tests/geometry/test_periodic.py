"""Periodic images against brute force in random triclinic, flat and small cells."""

import itertools
import math

import pytest
import torch

from equilibra.errors import InputError, ShapeError
from equilibra.geometry import periodic, so3

FLAT = [[12.0, 0, 0], [0, 9.0, 0], [0, 0, 1.5]]
SMALL = [[2.0, 0, 0], [0, 2.5, 0], [0, 0, 2.2]]
SKEW = [[3.0, 0, 0], [7.0, 3.0, 0], [5.0, 8.0, 2.5]]


def cells():
    noise = torch.randn(6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    triclinic = 5 * torch.eye(3, dtype=torch.float64) + 1.3 * noise
    return torch.cat((triclinic, torch.tensor([FLAT, SMALL, SKEW], dtype=torch.float64)))


def block(n):
    return torch.tensor(list(itertools.product(range(-n, n + 1), repeat=3)), dtype=torch.float64)


def points(n, seed):
    return torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_plane_spacings():
    spacings = periodic.plane_spacings(cells())
    torch.testing.assert_close(spacings, 1 / torch.linalg.inv(cells()).norm(dim=-2))
    torch.testing.assert_close(spacings[6], torch.tensor([12.0, 9.0, 1.5], dtype=torch.float64))


def test_cube_of_four_angstrom():
    """F28."""
    cell = 4 * torch.eye(3, dtype=torch.float64)
    assert periodic.image_counts(cell, 20.0, wrapped=False).tolist() == [5, 5, 5]
    assert periodic.image_counts(cell, 20.0, wrapped=True).tolist() == [6, 6, 6]
    assert periodic.image_counts(cell, 20.0, wrapped=False, pbc=(True, True, False)).tolist() == [5, 5, 0]
    shifts = periodic.image_shifts(cell, 20.0, wrapped=False)
    assert shifts.shape == (1331, 3)
    assert shifts[0].tolist() == [0, 0, 0]
    assert int(((shifts.double() @ cell).norm(dim=-1) <= 20).sum()) == 515


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("index", range(9))
@pytest.mark.parametrize("cutoff", [2.0, 6.0])
def test_images_within_the_cutoff_are_complete(index, wrapped, cutoff):
    cell = cells()[index]
    difference = points(60, 1) - points(60, 2)
    if not wrapped:
        difference = periodic.minimum_image(difference)

    def neighbours(shifts):
        return ((difference[:, None] + shifts) @ cell).norm(dim=-1) <= cutoff

    # Twice the plane-spacing bound in each direction certainly contains every image.
    reach = int(2 * (cutoff / periodic.plane_spacings(cell)).max()) + 2
    everything = neighbours(block(reach)).sum(-1)
    assert torch.equal(neighbours(periodic.image_shifts(cell, cutoff, wrapped=wrapped).double()).sum(-1), everything)
    if everything.max() > 27:
        assert (neighbours(block(1)).sum(-1) < everything).any()


def test_counts_of_a_batch_and_shifts_that_suffice_for_all():
    counts = periodic.image_counts(cells(), 6.0, wrapped=False)
    shifts = periodic.image_shifts(cells(), 6.0, wrapped=False)
    assert counts.shape == (9, 3)
    assert shifts.abs().amax(0).tolist() == counts.amax(0).tolist()
    assert shifts.shape[0] == int((2 * counts.amax(0) + 1).prod())
    assert not periodic.image_shifts(cells(), 6.0, (True, False, True), wrapped=False)[:, 1].any()


def test_minimum_image_respects_open_axes():
    d = torch.tensor([0.7, -0.5, 1.6], dtype=torch.float64)
    torch.testing.assert_close(periodic.minimum_image(d), torch.tensor([-0.3, -0.5, -0.4], dtype=torch.float64))
    slab = periodic.minimum_image(d, pbc=(True, True, False))
    torch.testing.assert_close(slab, torch.tensor([-0.3, -0.5, 1.6], dtype=torch.float64))


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False), (False, False, False)])
@pytest.mark.parametrize("index", range(9))
def test_minimum_distances_by_brute_force(index, pbc):
    cell = cells()[index]
    x, y = points(40, 3) @ cell, points(40, 4) @ cell
    shifts = block(14) * torch.tensor(pbc)
    images = (y - x)[:, None] + shifts.unique(dim=0) @ cell
    torch.testing.assert_close(periodic.minimum_image_distance(x, y, cell, pbc=pbc), images.norm(dim=-1).amin(-1))


def test_rounding_alone_is_wrong_in_a_skew_cell():
    cell = cells()[-1]
    d = periodic.minimum_image(points(200, 5)) @ cell
    assert (periodic.minimum_image_distance(torch.zeros_like(d), d, cell) < d.norm(dim=-1) - 0.1).float().mean() > 0.3


def test_distances_do_not_depend_on_the_choice_of_cell():
    """F30, the part of geometry: unimodular changes, rotations, lattice translations; also an extreme skew."""
    cell = cells()[:6, None]
    x, y = points(20, 6) @ cells()[:6], points(20, 7) @ cells()[:6]
    distance = periodic.minimum_image_distance(x, y, cell)
    change = torch.tensor([[1.0, 3, 7], [0, 1, -12], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(periodic.minimum_image_distance(x, y, change @ cell), distance, rtol=1e-9, atol=1e-10)
    r = so3.uniform((6, 1), generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    torch.testing.assert_close(
        periodic.minimum_image_distance(x @ r[:, 0], y @ r[:, 0], cell @ r), distance, rtol=1e-9, atol=1e-10
    )
    moved = y + torch.tensor([[3.0, -2, 5]], dtype=torch.float64) @ cells()[:6]
    torch.testing.assert_close(periodic.minimum_image_distance(x, moved, cell), distance, rtol=1e-9, atol=1e-10)


def test_zero_vectors_on_open_axes_are_allowed():
    cell = torch.tensor([[4.0, 0, 0], [2.0, 3.5, 0], [0, 0, 0]], dtype=torch.float64)
    x, y = torch.zeros(3, dtype=torch.float64), torch.tensor([4.1, 0, 9.0], dtype=torch.float64)
    distance = periodic.minimum_image_distance(x, y, cell, pbc=(True, True, False))
    assert float(distance) == pytest.approx(math.hypot(0.1, 9.0))


def test_distances_are_differentiable_in_positions_and_cell():
    cell = cells()[[0, -1]][:, None].requires_grad_()
    x, y = (points(4, 9) * 7).requires_grad_(), (points(4, 10) * 7).requires_grad_()
    assert torch.autograd.gradcheck(periodic.minimum_image_distance, (x, y, cell))
    (gradient,) = torch.autograd.grad(periodic.minimum_image_distance(x, x.detach(), cell).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_wrong_input_is_explained():
    singular = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=torch.float64)
    with pytest.raises(InputError, match="do not span space"):
        periodic.image_counts(singular, 3.0, wrapped=False)
    with pytest.raises(InputError, match="not independent"):
        periodic.minimum_image_distance(torch.zeros(3).double(), torch.ones(3).double(), singular)
    with pytest.raises(InputError, match="cutoff: got -1"):
        periodic.image_shifts(torch.eye(3), -1.0, wrapped=False)
    with pytest.raises(ShapeError, match="leading axes that broadcast"):
        periodic.minimum_image_distance(torch.zeros(5, 3), torch.zeros(5, 3), torch.eye(3).expand(2, 3, 3))
    with pytest.raises(ShapeError, match="cell: got shape"):
        periodic.plane_spacings(torch.zeros(3))
