"""The network of crystals: one answer for every description of a crystal."""

import itertools

import pytest
import torch

from equilibra.errors import ConfigError
from equilibra.nn.crystal import upright
from equilibra.state import Features, State
from equilibra.systems.crystal.network import crystal_denoiser, crystal_network_config, crystal_process
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.testing.invariance import randomise_parameters_

SMALL = {"dim": 16, "pair_dim": 8, "layers": 2, "heads": 4, "basis": 10, "channels": 4}
TOLERANCE = 1e-9


def turns():
    """The 24 rotations of a cube: permutations and inversions of lattice vectors."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            u = torch.zeros(3, 3, dtype=torch.float64)
            u[range(3), order] = torch.tensor(signs, dtype=torch.float64)
            if torch.linalg.det(u) > 0:
                yield u


@pytest.fixture(scope="module")
def denoiser():
    made = crystal_denoiser(crystal_process(2.0, 0.5), crystal_network_config(**SMALL), seed=0).double()
    randomise_parameters_(made.network, generator=torch.Generator().manual_seed(1), scale=0.1)
    return made


@pytest.fixture(scope="module")
def batch(denoiser):
    """Noisy crystals from nearly clean to the prior, among them a flat cell, with their times and features."""
    g = torch.Generator().manual_seed(2)
    system = CrystalSystem.of([6, 6, 6, 14, 8])
    cell = 2.0 * torch.eye(3, dtype=torch.float64) + 0.2 * torch.randn(5, 3, 3, generator=g, dtype=torch.float64)
    cell = 0.5 * (cell + cell.transpose(1, 2))
    cell[0] = torch.diag(torch.tensor([3.2, 3.0, 0.7]))
    clean = State({"frac": torch.rand(5, 5, 3, generator=g, dtype=torch.float64), "cell": cell})
    t = torch.tensor([0.01, 0.2, 0.45, 0.7, 1.0], dtype=torch.float64)
    return denoiser.process.noise(clean, t, generator=g), t, system.features.shared()


def agree(got, expected):
    for name, value in expected.items():
        # each crystal by itself: at large noise what is known of the prior is thousands of times larger
        size = value.flatten(1).abs().amax(1).reshape(-1, *[1] * (value.ndim - 1))
        error = float(((got[name] - value).abs() / size).max())
        assert error < TOLERANCE, f"{name}: {error:.2g}"


@pytest.fixture(scope="module")
def plain(denoiser, batch):
    with torch.no_grad():
        return denoiser(*batch).displacements


def test_it_says_something(plain):
    assert all(float(value.abs().max()) > 1e-6 for value in plain.values())
    assert torch.allclose(plain["cell"], plain["cell"].transpose(1, 2))
    assert float(plain["frac"].sum(1).abs().max()) < 1e-12


@torch.no_grad()
def test_the_origin_and_images_change_nothing(denoiser, batch, plain):
    state, t, features = batch
    g = torch.Generator().manual_seed(3)
    moved = state.fields["frac"] + torch.rand(5, 1, 3, generator=g, dtype=torch.float64)
    agree(denoiser(state.replace(frac=moved), t, features).displacements, plain)
    wrapped = state.fields["frac"] + torch.randint(-3, 4, (5, 5, 3), generator=g)
    agree(denoiser(state.replace(frac=wrapped), t, features).displacements, plain)


@torch.no_grad()
def test_the_order_of_atoms_changes_nothing(denoiser, batch, plain):
    state, t, _ = batch
    order = torch.tensor([3, 0, 4, 2, 1])
    numbers = torch.tensor(CrystalSystem.of([6, 6, 6, 14, 8]).numbers)[order]
    same = torch.where(numbers[:, None] == numbers[None], 1, 2).fill_diagonal_(0)
    features = Features(node={"element": numbers}, pair={"same": same}).shared()
    found = denoiser(state.replace(frac=state.fields["frac"][:, order]), t, features).displacements
    agree(found, {"frac": plain["frac"][:, order], "cell": plain["cell"]})


@torch.no_grad()
def test_permuted_and_inverted_lattice_vectors_turn_the_output(denoiser, batch, plain):
    state, t, features = batch
    count = 0
    for u in turns():
        turned = state.replace(frac=state.fields["frac"] @ u.T, cell=u @ state.fields["cell"] @ u.T)
        found = denoiser(turned, t, features).displacements
        agree(found, {"frac": plain["frac"] @ u.T, "cell": u @ plain["cell"] @ u.T})
        count += 1
    assert count == 24


@torch.no_grad()
def test_padding_and_company_change_nothing(denoiser, batch, plain):
    state, t, _ = batch
    large = CrystalSystem.of([6] * 7)
    small = CrystalSystem.of([6, 6, 6, 14, 8])
    features = Features.collate([*[small.features] * 5, large.features], tokens=8)
    g = torch.Generator().manual_seed(4)
    frac = torch.rand(6, 8, 3, generator=g, dtype=torch.float64)
    frac[:5, :5] = state.fields["frac"]
    cell = torch.cat([state.fields["cell"], 2.0 * torch.eye(3, dtype=torch.float64)[None]])
    both = State({"frac": frac, "cell": cell}, {"frac": features.mask})
    found = denoiser(both, torch.cat([t, t[:1]]), features).displacements
    assert float(found["frac"][:5, 5:].abs().max()) == 0.0
    agree({"frac": found["frac"][:5, :5], "cell": found["cell"][:5]}, plain)


@torch.no_grad()
def test_the_cut_off_is_smooth(denoiser, batch):
    """An image that comes into reach changes the output by little, not by a jump."""
    state, t, features = batch
    config = denoiser.network.config
    values = []
    for step in (-1e-7, 1e-7):
        # two atoms whose images are at the cut-off
        cell = torch.eye(3, dtype=torch.float64)[None] * (config.image_cutoff + step) / 5 ** (1 / 3)
        frac = torch.zeros(1, 5, 3, dtype=torch.float64)
        frac[0, :, 0] = torch.arange(5) / 5.0
        one = State({"frac": frac + 0.01 * state.fields["frac"][:1], "cell": cell})
        values.append(denoiser(one, t[:1], features).displacements["cell"])
    assert torch.allclose(*values, rtol=1e-4)


def test_gradients_are_finite_for_a_cubic_cell(denoiser, batch):
    _, t, features = batch
    frac = batch[0].fields["frac"][1:2].clone().requires_grad_()
    cell = (2.0 * torch.eye(3, dtype=torch.float64)[None]).requires_grad_()
    found = denoiser(State({"frac": frac, "cell": cell}), t[1:2], features).displacements
    total = found["frac"].square().sum() + found["cell"].square().sum()
    for gradient in torch.autograd.grad(total, [frac, cell]):
        assert torch.isfinite(gradient).all()


def test_collapsing_cells_are_kept_open():
    g = torch.Generator().manual_seed(5)
    x = torch.randn(50, 3, 3, generator=g, dtype=torch.float64)
    x = 0.5 * (x + x.transpose(1, 2))
    assert float(torch.linalg.eigvalsh(upright(x, 0.25)).min()) > 0.25 - 1e-12
    good = torch.eye(3, dtype=torch.float64)[None] + 0.1 * x
    good = good[torch.linalg.eigvalsh(good)[:, 0] > 0.3]
    assert torch.equal(upright(good, 0.25), good)


def test_wrong_processes_are_refused():
    config = crystal_network_config(**SMALL)
    with pytest.raises(ConfigError, match="no conservative network"):
        crystal_denoiser(crystal_process(2.0, 0.5), config, parametrisation="energy")
    with pytest.raises(ConfigError, match="image_cutoff"):
        crystal_network_config(image_cutoff=0.0)
