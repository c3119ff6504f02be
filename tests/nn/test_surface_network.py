"""Symmetries of the network of adsorbates: lattice, cell, rotation about the normal, order, padding; what it must tell apart."""

import math

import numpy as np
import pytest
import torch
from ase.build import fcc111

from equilibra.nn.surface import Neighbours, Seen, SurfaceAttention
from equilibra.state import Features, State
from equilibra.systems.adsorbate.network import adsorbate_denoiser, adsorbate_network_config, adsorbate_process
from equilibra.systems.adsorbate.system import AdsorbateSystem

CLOSE = 2e-5  # positions of the surface are features, which are single precision


@pytest.fixture(scope="module")
def denoiser():
    config = adsorbate_network_config(dim=24, heads=4, pair_dim=16, layers=2, basis=16, channels=4, conditions=1)
    made = adsorbate_denoiser(adsorbate_process(), config, seed=3).double()
    with torch.no_grad():  # gates of layers start small: what they add must be seen
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return made


def made(slab, adsorbates):
    return AdsorbateSystem.of(slab, adsorbates, whole=True)


def platinum(*size, turned=0.0, moved=(0.0, 0.0)):
    slab = fcc111("Pt", size, vacuum=10.0)
    slab.rotate(turned, "z", rotate_cell=True)
    slab.positions[:, :2] += np.array(moved)
    return slab


def displacement(denoiser, system, x, sigma=0.4, temperature=0.3):
    t = adsorbate_process().time(torch.full((len(x),), sigma, dtype=torch.float64))
    bound = denoiser.bind(system.features.shared().conditioned([temperature]))
    with torch.no_grad():
        return bound(State({"pos": x}), t).displacements["pos"]


def points(atoms, n=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 2.5 * torch.rand(n, atoms, 3, generator=g, dtype=torch.float64)
    return x - torch.tensor([0.0, 0.0, 1.2], dtype=torch.float64)


def test_images_of_single_atoms_are_the_same(denoiser):
    system = made(platinum(1, 1, 3), "CO")
    x = points(2)
    moved = x.clone()
    a, b = system.plane
    moved[:, 0, :2] += 2 * a - b
    moved[:, 1, :2] -= 3 * b
    here, there = displacement(denoiser, system, x), displacement(denoiser, system, moved)
    assert float(here.std()) > 0.02
    assert torch.allclose(here, there, atol=1e-9)


def test_a_supercell_is_the_same_surface(denoiser):
    small, large = made(platinum(1, 1, 3), "O"), made(platinum(2, 3, 3), ["O"] * 6)
    x = points(1)
    a, b = torch.nn.functional.pad(small.plane, (0, 1))
    every = torch.cat([x + i * a + j * b for i in range(2) for j in range(3)], dim=1)
    here = displacement(denoiser, small, x)
    assert torch.allclose(displacement(denoiser, large, every), here.expand(-1, 6, -1), atol=CLOSE)


def test_another_cell_of_the_same_lattice(denoiser):
    slab = platinum(1, 1, 3)
    other = slab.copy()
    cell = np.array(other.cell)
    cell[1] += 2 * cell[0]
    other.set_cell(cell)
    x = points(1)
    assert torch.allclose(displacement(denoiser, made(slab, "O"), x), displacement(denoiser, made(other, "O"), x), atol=CLOSE)


@pytest.mark.parametrize("angle", [37.0, 120.0])
def test_turning_and_moving_the_surface_turns_the_output(denoiser, angle):
    shift = torch.tensor([0.7, -1.9, 0.0], dtype=torch.float64)
    first, second = made(platinum(2, 2, 3), "CO"), made(platinum(2, 2, 3, turned=angle, moved=shift[:2].numpy()), "CO")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    x = points(2)
    here = displacement(denoiser, first, x)
    there = displacement(denoiser, second, x @ turn.T + shift)
    assert torch.allclose(here @ turn.T, there, atol=CLOSE)


def test_order_of_equivalent_atoms(denoiser):
    system = made(platinum(2, 2, 3), ["O", "O"])
    x = points(2)
    assert torch.allclose(displacement(denoiser, system, x.flip(1)), displacement(denoiser, system, x).flip(1), atol=1e-9)


def test_padding_and_batches_do_not_matter(denoiser):
    one, two = made(platinum(1, 1, 3), "O"), made(platinum(2, 2, 3), "NH3")
    x, y = points(1, 1), points(4, 1, seed=1)
    t = adsorbate_process().time(torch.full((2,), 0.4, dtype=torch.float64))
    both = Features.collate([one.features.conditioned([0.3]), two.features.conditioned([0.3])], tokens=6)
    padded = torch.zeros(2, 6, 3, dtype=torch.float64)
    padded[0, :1], padded[1, :4] = x[0], y[0]
    with torch.no_grad():
        found = denoiser(State({"pos": padded}, {"pos": both.mask}), t, both).displacements["pos"]
    assert torch.allclose(found[0, :1], displacement(denoiser, one, x)[0], atol=1e-9)
    assert torch.allclose(found[1, :4], displacement(denoiser, two, y)[0], atol=1e-9)
    assert float(found[0, 1:].abs().max()) == 0.0


def test_what_is_different_is_told_apart(denoiser):
    x = points(1)
    here = displacement(denoiser, made(platinum(2, 2, 3), "O"), x)
    copper = platinum(2, 2, 3)
    copper.numbers[:] = 29
    for other in (
        displacement(denoiser, made(copper, "O"), x),
        displacement(denoiser, made(platinum(2, 2, 3), "N"), x),
        displacement(denoiser, made(platinum(2, 2, 3), "O"), x, temperature=1.0),
        displacement(denoiser, made(platinum(2, 2, 3), "O"), x, sigma=0.6),
    ):
        assert float((here - other).abs().max()) > 1e-3


def test_mirror_images_are_told_apart(denoiser):
    """A molecule and its mirror image above a mirrored surface: outputs are not mirror images of each other."""
    slab = platinum(2, 2, 3)
    mirrored = slab.copy()
    mirrored.positions[:, 0] *= -1
    cell = np.array(mirrored.cell)
    cell[:, 0] *= -1
    mirrored.set_cell(cell)
    x = points(4)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    here = displacement(denoiser, made(slab, "NH3"), x)
    there = displacement(denoiser, made(mirrored, "NH3"), x * flip)
    assert float((here * flip - there).abs().max()) > 1e-3


def test_far_from_everything_an_atom_knows_its_height(denoiser):
    system = made(platinum(1, 1, 3), "O")
    x = torch.tensor([[[0.3, 0.4, 15.0]], [[0.3, 0.4, 25.0]]], dtype=torch.float64)
    found = displacement(denoiser, system, x, sigma=8.0)
    assert float(found[..., :2].abs().max()) < 1e-9
    # the pull to the middle of a Gaussian of unit width at this noise, and what the network adds
    assert (found[..., 2] < 0).all()
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("logit", [0.0, 120.0, 400.0])
@pytest.mark.parametrize("smooth", [0.0, 3e-8, 1.0])
def test_a_neighbour_at_the_cutoff_leaves_attention_finite(logit, smooth):
    """Weights are c e^l / (1 + c e^l): zero where the neighbour is cut off, however large its logit is."""
    attention = SurfaceAttention(8, 2)
    with torch.no_grad():
        attention.query.weight.zero_()
        attention.out.weight.zero_()
        attention.out.weight[:, :8] = torch.eye(8)
        attention.out.bias.zero_()
    one = torch.zeros(1, dtype=torch.long)
    none = torch.zeros(0, dtype=torch.long)
    cut = torch.tensor([smooth], requires_grad=True)
    near = Neighbours(
        batch=1,
        tokens=1,
        receiver=one,
        item=one,
        sender=none,
        pair=none,
        direction=torch.tensor([[0.0, 0.0, 1.0]]),
        radial=torch.zeros(1, 4),
        smooth=cut,
    )
    surface = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    bias = torch.full((1, 2), logit, requires_grad=True)
    found = attention(torch.zeros(1, 1, 8), bias, Seen(near, surface))
    value = attention.key_value(surface)[:, 8:]
    share = smooth / (smooth + math.exp(-logit))
    assert torch.allclose(found[0], share * value, rtol=1e-5, atol=1e-7)
    gradients = torch.autograd.grad(found.sum(), (bias, cut))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
