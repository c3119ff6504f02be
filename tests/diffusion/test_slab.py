"""The Space above a periodic plane of any cell: its prior, the score that displacements in the cover teach, and what it does not know without a cell."""

import math

import pytest
import torch

from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.slab import Slab
from equilibra.diffusion.text import process_from_dict, process_to_dict
from equilibra.errors import SpaceError
from equilibra.state import Features

SKEW = ((3.0, 0.0), (4.1, 2.5))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_prior_is_uniform_in_a_skew_cell():
    space, n = Slab(cell=SKEW), 20_000
    like, width = torch.zeros(n, 1, 3, dtype=torch.float64), torch.full((n,), 2.0, dtype=torch.float64)
    x = space.prior(like, width, 1.0, None, generator=seeded(0))
    frac = x[:, 0, :2] @ torch.linalg.inv(torch.tensor(SKEW, dtype=torch.float64))
    assert float(frac.abs().max()) <= 0.5
    counts = torch.histogramdd(frac, bins=[5, 4], range=[-0.5, 0.5, -0.5, 0.5]).hist
    assert float(((counts - n / 20) ** 2 / (n / 20)).sum()) < 50.0  # chi-squared, 19 degrees of freedom: p = 1e-4
    # the density integrates to one: over the cell it is the inverse area, along the normal a Gaussian
    log_p = space.log_prior(x, width, 1.0, None)
    expected = -math.log(7.5) - 0.5 * (math.log(2 * math.pi * 5.0) + x[:, 0, 2] ** 2 / 5.0)
    assert torch.allclose(log_p, expected)


def test_displacements_in_the_cover_teach_the_score_on_the_torus():
    """The regression of x0 - x on functions of x that have the lattice's period is sigma^2 times the score of the wrapped law."""
    space, n, sigma = Slab(cell=SKEW), 200_000, 1.1
    cell = torch.tensor(SKEW, dtype=torch.float64)
    x0 = torch.tensor([0.4, -0.3, 0.0], dtype=torch.float64).expand(n, 1, 3)
    x = space.perturb(x0, torch.full((n,), sigma, dtype=torch.float64), None, generator=seeded(1))
    target = space.kernel_displacement(x0, x, torch.full((n,), sigma, dtype=torch.float64))[:, 0, :2]
    k = 2 * math.pi * torch.linalg.inv(cell)[:, 0]  # a reciprocal vector
    wave = torch.sin(x[:, 0, :2] @ k)
    # integration by parts: E[score . f] = -E[div f] for periodic f
    product = (target / sigma**2) @ k * wave
    expected = -float((torch.cos(x[:, 0, :2] @ k) * (k @ k)).mean())
    assert abs(float(product.mean()) - expected) < 4 * float(product.std()) / math.sqrt(n) + 4 * float(k @ k) / math.sqrt(n)


def test_points_return_to_the_cell():
    space = Slab(cell=SKEW)
    x = 20 * torch.randn(50, 2, 3, generator=seeded(2), dtype=torch.float64)
    clean = space.clean(x, None)
    cell = torch.tensor(SKEW, dtype=torch.float64)
    moved = (clean - x)[..., :2] @ torch.linalg.inv(cell)
    assert torch.allclose(moved, moved.round(), atol=1e-9)
    assert torch.equal(clean[..., 2], x[..., 2])
    assert torch.allclose(space.clean(clean, None), clean)


def test_a_process_is_bound_to_a_system():
    process = Process({"pos": Field(space=Slab(), schedule=VarianceExploding(sigma_min=0.01, sigma_max=8.0))})
    cell = torch.zeros(3, 3)
    cell[:2, :2], cell[2, 2] = torch.tensor(SKEW), 20.0
    features = Features(node={"element": torch.zeros(1, dtype=torch.int64)}, graph={"cell": cell})
    for given in (features, features.shared()):
        bound = process.of_system(given)
        assert torch.allclose(torch.tensor(bound.fields["pos"].space.cell), torch.tensor(SKEW))
    assert process_from_dict(process_to_dict(bound)).fields == bound.fields
    assert Process({"pos": bound.fields["pos"]}).fields["pos"].space == bound.fields["pos"].space
    like = torch.zeros(2, 1, 3)
    with pytest.raises(SpaceError, match="bind the process to one system first"):
        process.fields["pos"].space.prior(like, torch.ones(2), 1.0, None, generator=seeded(3))
