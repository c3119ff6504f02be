"""Poses from shift, turn and torsions: geometry is kept, forces are the derivative, and the order of bonds does not matter."""

import math

import pytest
import torch

from equilibra.geometry import so3
from equilibra.geometry.torsion_tree import TorsionTree, placed, pulled_back, tangents, turned_bonds

# a branched chain of nine atoms: bonds 1-2, 2-3 and 2-6 turn; the root is atoms 0, 1, 4
AXES = torch.tensor([[[1, 2], [2, 3], [2, 6]]])
BEYOND = [[3, 5, 6, 7, 8], [5], [7, 8]]


def tree(atoms=9):
    moving = torch.zeros(1, 3, atoms, dtype=torch.bool)
    for k, rows in enumerate(BEYOND):
        moving[0, k, rows] = True
    weights = torch.zeros(1, atoms, dtype=torch.float64)
    weights[0, :8] = 1 / 8
    return TorsionTree(AXES, moving, weights)


def chain(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 9, 3, generator=generator, dtype=torch.float64).expand(batch, -1, -1) * 2


def pose(batch=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    angles = 2 * math.pi * torch.rand(batch, 3, generator=generator, dtype=torch.float64)
    return shift, so3.uniform((batch,), generator=generator, dtype=torch.float64), angles


def test_distances_within_rigid_parts_stay_and_the_centre_is_where_it_should_be():
    y, (shift, turn, angles) = chain(), pose()
    x = placed(y, shift, turn, angles, tree())
    for part in ([0, 1, 4, 2], [1, 2, 3, 6], [2, 3, 5], [2, 6, 7, 8]):
        assert torch.allclose(torch.cdist(x[:, part], x[:, part]), torch.cdist(y[:, part], y[:, part]), atol=1e-12)
    assert torch.allclose(tree().centre(x), shift, atol=1e-12)

    # handedness of a rigid part is kept
    def volume(z):
        return torch.linalg.det(z[:, [1, 3, 6]] - z[:, [2]])

    assert torch.allclose(volume(x), volume(y), atol=1e-10)


def test_a_torsion_is_a_dihedral_angle_with_iupac_sign():
    from equilibra.geometry.internal_coordinates import dihedrals

    y, angles = chain(), pose()[2]
    quads = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 5], [1, 2, 6, 7]]).numpy()
    before, after = (dihedrals(z.numpy(), quads) for z in (y, turned_bonds(y, angles, tree())))
    gained = torch.from_numpy(after - before) - angles
    assert torch.allclose(torch.cos(gained), torch.ones_like(gained), atol=1e-12)


def test_the_order_of_bonds_does_not_matter():
    y, angles = chain(), pose()[2]
    order = torch.tensor([2, 0, 1])
    other = TorsionTree(tree().axes[:, order], tree().moving[:, order], tree().weights)
    assert torch.allclose(turned_bonds(y, angles, tree()), turned_bonds(y, angles[:, order], other), atol=1e-12)


def test_forces_along_the_tangent_vectors_are_the_derivative_of_the_energy():
    y, (shift, turn, angles) = chain(), pose()
    wells = chain(seed=5)

    def energy(v, w, a):
        x = placed(y, shift + v, so3.exp(w) @ turn, angles + a, tree())
        return ((x - wells) ** 2).sum((1, 2)) + torch.sin(x[:, 3, 0] * x[:, 7, 1])

    zeros = [torch.zeros(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    expected = torch.autograd.grad(energy(*zeros).sum(), zeros)
    x = placed(y, shift, turn, angles, tree()).detach().requires_grad_(True)
    u = ((x - wells) ** 2).sum((1, 2)) + torch.sin(x[:, 3, 0] * x[:, 7, 1])
    force = -torch.autograd.grad(u.sum(), x)[0]
    for got, gradient in zip(pulled_back(x.detach(), force, tree()), expected, strict=True):
        assert torch.allclose(got, -gradient, atol=1e-9)


@pytest.mark.parametrize("choice", ["root", "centre"])
def test_the_product_measure_does_not_depend_on_root_or_centre(choice):
    """The Jacobian from one choice of (shift, turn, torsions) to another is one: poses are the same, volumes are the same."""
    first = tree()
    x = placed(chain(1), *pose(1), first)
    if choice == "centre":
        weights = torch.zeros(1, 9, dtype=torch.float64)
        weights[0, 8] = 1.0
        second = TorsionTree(first.axes, first.moving, weights)
    else:
        # the part with atoms 6, 7 and 8 carries the turn: each bond turns the other side
        moving = torch.zeros(1, 3, 9, dtype=torch.bool)
        for k, rows in enumerate(([0, 4], [5], [0, 1, 3, 4, 5])):
            moving[0, k, rows] = True
        second = TorsionTree(torch.tensor([[[2, 1], [2, 3], [6, 2]]]), moving, first.weights)
    ours, theirs = _directions(x, first), _directions(x, second)
    change = torch.linalg.lstsq(theirs.T, ours.T).solution
    assert torch.allclose(theirs.T @ change, ours.T, atol=1e-9)
    assert abs(abs(float(torch.linalg.det(change))) - 1.0) < 1e-9


def _directions(x, one):
    """The velocities of all atoms along each tangent vector: forces that act on a single coordinate tell them one by one."""
    count = x.shape[1] * 3
    forces = torch.eye(count, dtype=x.dtype).reshape(count, x.shape[1], 3)
    shift, turn, torsions = pulled_back(x.expand(count, -1, -1), forces, one)
    return torch.cat([shift, turn, torsions], dim=1).T


def test_tangents_are_derivatives_whose_transpose_pulls_forces_back():
    y, (shift, turn, angles) = chain(), pose()
    x = placed(y, shift, turn, angles, tree())
    jacobian, h = tangents(x, tree()), 1e-6
    for place in range(9):
        step = torch.zeros(4, 9, dtype=torch.float64)
        step[:, place] = h

        def moved(sign, step=step):
            small = sign * step
            return placed(y, shift + small[:, :3], so3.exp(small[:, 3:6]) @ turn, angles + small[:, 6:], tree())

        assert torch.allclose((moved(1) - moved(-1)) / (2 * h), jacobian[:, place], atol=1e-7)
    forces = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    along = (jacobian * forces[:, None]).sum((2, 3))
    assert torch.allclose(torch.cat(pulled_back(x, forces, tree()), dim=1), along, atol=1e-12)
