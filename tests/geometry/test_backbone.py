import math

import numpy as np
import pytest
import torch

from equilibra.errors import ShapeError
from equilibra.geometry import so3
from equilibra.geometry.backbone import ATOMS, CARBONYL, PSI_END, backbone_from_frames, frames_from_backbone
from equilibra.geometry.chirality import signed_volume
from equilibra.geometry.internal_coordinates import dihedrals

N, CA, C, OXYGEN, CB = range(5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_frames(*shape, seed=0):
    g = seeded(seed)
    return 5.0 * torch.randn(*shape, 3, generator=g, dtype=torch.float64), so3.uniform(shape, generator=g, dtype=torch.float64)


def peptide(phi, psi, residues=6):
    """Positions (residues, 5, 3) of polyalanine in ideal geometry, in degrees, from an independent builder."""
    import PeptideBuilder

    structure = PeptideBuilder.make_structure("A" * residues, [phi] * (residues - 1), [psi] * (residues - 1))
    coordinates = [[residue[name].coord for name in ATOMS] for residue in structure.get_residues()]
    return torch.from_numpy(np.array(coordinates, dtype=np.float64))


def angle(a, b, c):
    u, v = torch.nn.functional.normalize(a - b, dim=-1), torch.nn.functional.normalize(c - b, dim=-1)
    return torch.rad2deg(torch.arccos((u * v).sum(-1)))


def test_frames_of_placed_atoms_are_the_frames():
    trans, rot = random_frames(4, 7)
    atoms = backbone_from_frames(trans, rot)
    assert atoms.shape == (4, 7, 5, 3)
    got_trans, got_rot = frames_from_backbone(*atoms[..., :3, :].unbind(-2))
    torch.testing.assert_close(got_trans, trans, rtol=0.0, atol=0.0)
    torch.testing.assert_close(got_rot, rot, rtol=0.0, atol=1e-14)


def test_frames_are_rotations_with_n_on_the_x_axis_and_c_beside_it():
    n, ca, c = torch.randn(3, 20, 3, generator=seeded(1), dtype=torch.float64)
    trans, rot = frames_from_backbone(n, ca, c)
    torch.testing.assert_close(rot @ rot.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rot), torch.ones(20, dtype=torch.float64))
    local_n, local_c = ((rot.transpose(-1, -2) @ (atom - trans)[..., None])[..., 0] for atom in (n, c))
    assert local_n[:, 1:].abs().max() < 1e-12
    assert local_n[:, 0].min() > 0.0
    assert local_c[:, 2].abs().max() < 1e-12
    assert local_c[:, 1].min() > 0.0


def test_frames_and_atoms_move_with_the_body():
    trans, rot = random_frames(2, 5, seed=2)
    q, shift = so3.uniform((), generator=seeded(3), dtype=torch.float64), torch.tensor([1.0, -2.0, 30.0], dtype=torch.float64)
    moved = backbone_from_frames(trans @ q.T + shift, q @ rot)
    torch.testing.assert_close(moved, backbone_from_frames(trans, rot) @ q.T + shift)


@pytest.mark.parametrize(("phi", "psi"), [(-60.0, -45.0), (-120.0, 130.0), (-75.0, 145.0)])
def test_atoms_agree_with_an_independent_builder(phi, psi):
    """Bond lengths differ by up to 0.02 Å and angles by up to 1.5 degrees between sources of ideal geometry."""
    reference = peptide(phi, psi)
    got = backbone_from_frames(*frames_from_backbone(*reference[:, :3].unbind(-2)))
    difference = (got - reference).norm(dim=-1)
    assert difference[:, [N, CA, C]].max() < 0.03
    assert difference[:, CB].max() < 0.06
    assert difference[:-1, OXYGEN].max() < 0.06


def test_the_carbonyl_is_planar_and_of_ideal_size():
    reference = peptide(-65.0, -40.0)
    atoms = backbone_from_frames(*frames_from_backbone(*reference[:, :3].unbind(-2)))
    torch.testing.assert_close((atoms[:, OXYGEN] - atoms[:, C]).norm(dim=-1), torch.full((6,), CARBONYL, dtype=torch.float64))
    arms = torch.stack([atoms[:-1, CA], atoms[1:, N], atoms[:-1, OXYGEN]], dim=1) - atoms[:-1, None, C]
    assert torch.linalg.det(arms).abs().max() < 1e-12
    for one in (
        angle(atoms[:-1, CA], atoms[:-1, C], atoms[:-1, OXYGEN]),
        angle(atoms[1:, N], atoms[:-1, C], atoms[:-1, OXYGEN]),
    ):
        assert (one - 121.5).abs().max() < 1.5


@pytest.mark.parametrize("psi", [PSI_END, -0.8, 3.0])
def test_the_end_of_a_chain_has_the_given_psi(psi):
    trans, rot = random_frames(3, 4, seed=4)
    atoms = backbone_from_frames(trans, rot, psi_end=psi)
    got = dihedrals(atoms[:, -1].numpy(), np.array([[N, CA, C, OXYGEN]]))[:, 0]
    np.testing.assert_allclose(np.cos(got - psi - math.pi), 1.0, atol=1e-12)
    torch.testing.assert_close(
        (atoms[:, -1, OXYGEN] - atoms[:, -1, C]).norm(dim=-1), torch.full((3,), CARBONYL, dtype=torch.float64)
    )
    torch.testing.assert_close(
        angle(atoms[:, -1, CA], atoms[:, -1, C], atoms[:, -1, OXYGEN]), torch.full((3,), 120.1, dtype=torch.float64)
    )


def test_a_break_ends_a_chain():
    trans, rot = random_frames(2, 5, seed=5)
    breaks = torch.tensor([False, True, False, False])
    broken = backbone_from_frames(trans, rot, breaks)
    parts = [backbone_from_frames(trans[:, part], rot[:, part]) for part in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(broken, torch.cat(parts, dim=1))
    per_system = backbone_from_frames(trans, rot, torch.stack([breaks, torch.zeros_like(breaks)]))
    torch.testing.assert_close(per_system[0], broken[0])
    torch.testing.assert_close(per_system[1], backbone_from_frames(trans, rot)[1])
    alone = backbone_from_frames(trans[:, :1], rot[:, :1], torch.zeros(0, dtype=torch.bool))
    torch.testing.assert_close(alone, backbone_from_frames(trans[:, :1], rot[:, :1]))


def test_residues_are_left_handed():
    """C-beta of an L residue: seen from the hydrogen, the order is CO, R, N clockwise."""
    built = peptide(-60.0, -45.0)
    ours = backbone_from_frames(*random_frames(6, seed=6))
    centre = torch.tensor([[CA, N, C, CB]])
    volumes = signed_volume(ours, centre)
    torch.testing.assert_close(volumes, volumes[:1].expand_as(volumes))
    torch.testing.assert_close(volumes, signed_volume(built, centre), atol=0.03, rtol=0.0)
    assert volumes.min() > 0.6


def test_gradients_are_right_and_finite():
    trans, rot = random_frames(1, 4, seed=7)
    breaks = torch.tensor([False, True, False])

    def atoms(shift, turn):
        return backbone_from_frames(trans + shift, so3.exp(turn) @ rot, breaks)

    zero = torch.zeros(1, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(atoms, (zero, zero.clone().detach().requires_grad_(True)))

    positions = atoms(zero, zero).detach().requires_grad_(True)
    _, got = frames_from_backbone(*positions[..., :3, :].unbind(-2))
    (gradient,) = torch.autograd.grad((got * torch.arange(9.0).reshape(3, 3)).sum(), positions)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0.0


def test_residues_at_one_point_have_finite_gradients():
    trans = torch.zeros(1, 3, 3, requires_grad=True)
    rot = torch.eye(3).expand(1, 3, 3, 3)
    (gradient,) = torch.autograd.grad(backbone_from_frames(trans, rot).square().sum(), trans)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_inputs_untouched(dtype):
    trans, rot = (x.to(dtype) for x in random_frames(2, 3, seed=8))
    before = trans.clone(), rot.clone()
    atoms = backbone_from_frames(trans, rot)
    frames = frames_from_backbone(*atoms[..., :3, :].unbind(-2))
    assert {x.dtype for x in (atoms, *frames)} == {dtype}
    assert torch.equal(trans, before[0])
    assert torch.equal(rot, before[1])


def test_wrong_shapes_are_named():
    trans, rot = random_frames(2, 5)
    with pytest.raises(ShapeError, match=r"rot: got shape \(2, 4, 3, 3\)"):
        backbone_from_frames(trans, rot[:, 1:])
    with pytest.raises(ShapeError, match=r"breaks: got shape \(5,\), expected \(..., 4\)"):
        backbone_from_frames(trans, rot, torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ShapeError, match="trans"):
        backbone_from_frames(trans[..., :2], rot)
    with pytest.raises(ShapeError, match=r"n: got shape \(2, 4, 3\)"):
        frames_from_backbone(trans[:, 1:], trans, trans)
