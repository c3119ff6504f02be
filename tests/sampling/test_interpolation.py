"""Encoding and decoding by the flow, and paths through latent space, on every Space."""

import math

import pytest
import torch
from targets import CURVED, LINEAR, make, schedule_of, seeded, tensor

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean, Fixed
from equilibra.errors import ConfigError
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.interpolation import decode, encode, latent_path
from equilibra.state.state import State
from equilibra.testing import GaussianMixture

SPACES = (*LINEAR, *CURVED)


@pytest.mark.parametrize("space", SPACES)
def test_decoding_returns_the_input_and_the_error_falls_with_the_steps(space):
    d = make(space, schedule_of(space, "exploding")).distribution
    x = d.sample(6, generator=seeded(0))
    errors = []
    for steps in (25, 100):
        levels = noise_grid(d.process, GridConfig(steps=steps))
        latent = encode(d, x, levels)
        back = decode(d, latent, [level for level in levels if not level.clean])
        errors.append(float(d.process.fields["x"].space.log(x.fields["x"], back.fields["x"]).norm(dim=-1).max()))
    # second order would give a factor of 16; the worst point of six, at coarse steps, need not be there yet
    assert errors[1] < errors[0] / 4.0, errors
    assert errors[1] < 0.02, errors


@pytest.mark.parametrize("space", SPACES)
def test_encoding_reaches_the_prior(space):
    """Encoded data have the moments of the law at the largest noise."""
    target = make(space, schedule_of(space, "exploding"))
    d = target.distribution
    n = 300 if space == "so3" else 1000
    low = d.sample_noised(n, 0.0, generator=seeded(1))
    latent = encode(d, low, noise_grid(d.process, GridConfig(steps=30)))
    high = d.sample_noised(40000, 1.0, generator=seeded(2))
    a, b = target.statistics(latent), target.statistics(high)
    z = (a.mean(0) - b.mean(0)) / torch.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert z.abs().max() < 4.0, z


@pytest.mark.parametrize("space", SPACES)
def test_paths_start_and_end_where_they_should(space):
    d = make(space, schedule_of(space, "exploding")).distribution
    ends = d.sample(2, generator=seeded(3))
    levels = noise_grid(d.process, GridConfig(steps=60))
    path = latent_path(lambda batch: d, ends, levels, steps=7)
    assert path.states.batch_size == 7
    assert path.round_trip.shape == (2,)
    assert float(path.round_trip.max()) < 0.05
    for k, end in ((0, 0), (6, 1)):
        difference = d.process.fields["x"].space.log(ends.fields["x"][[end]], path.states.fields["x"][[k]])
        if space == "relative":
            difference = difference - difference.mean(1, keepdim=True)
        assert float(difference.norm()) < 0.1
    steps = d.process.fields["x"].space.log(path.states.fields["x"][:-1], path.states.fields["x"][1:])
    assert torch.isfinite(steps).all()


def test_a_path_of_a_gaussian_keeps_the_shell():
    """For Gaussian data the flow is a scaling, so that the path itself is the great arc: its middle keeps the norm (F24)."""
    d = GaussianMixture(
        torch.ones(1), torch.zeros(1, 100, 3), torch.tensor([1.0]), schedule=VarianceExploding(sigma_min=0.01, sigma_max=50.0)
    )
    ends = d.sample(2, generator=seeded(4))
    path = latent_path(lambda batch: d, ends, noise_grid(d.process, GridConfig(steps=40)), steps=3)
    norms = path.states.fields["x"].flatten(1).norm(dim=1)
    assert float(norms[1]) == pytest.approx(float(norms[[0, 2]].mean()), rel=0.01)
    chord = 0.5 * (ends.fields["x"][0] + ends.fields["x"][1])
    assert float(chord.norm()) / float(norms[1]) == pytest.approx(math.sqrt(0.5), rel=0.08)


class Harmonic(Denoiser):
    """N(0, s^2) for any number of particles, with padding and a fixed field."""

    def __init__(self, std):
        schedule = VarianceExploding(sigma_min=0.01, sigma_max=20.0)
        self.std = std
        self.process = Process(
            {
                "pos": Field(space=CentredEuclidean(), schedule=schedule, data_scale=std),
                "slab": Field(space=Fixed(), schedule=schedule),
            }
        )

    def __call__(self, state, t):
        sigma = self.process.sigma("pos", t)[:, None, None]
        return Prediction({"pos": -(sigma**2) / (sigma**2 + self.std**2) * state.fields["pos"]})


def test_padding_and_fixed_fields_survive_the_round_trip():
    d = Harmonic(0.8)
    mask = torch.tensor([[True, True, True, False], [True, True, True, False]])
    pos = d.process.fields["pos"].space.clean(torch.randn(2, 4, 3, generator=seeded(5), dtype=torch.float64), mask)
    ends = State(
        {"pos": pos, "slab": torch.randn(2, 6, 3, generator=seeded(6), dtype=torch.float64)[:1].expand(2, 6, 3).clone()},
        {"pos": mask},
    )
    path = latent_path(lambda batch: d, ends, noise_grid(d.process, GridConfig(steps=50)), steps=5)
    assert float(path.states.fields["pos"][:, 3].abs().max()) == 0.0
    assert float(path.states.fields["pos"].sum(1).abs().max()) < 1e-12
    assert torch.equal(path.states.fields["slab"], ends.fields["slab"][:1].expand(5, 6, 3))
    assert float(path.round_trip.max()) < 1e-2


def test_wrong_numbers_are_refused():
    d = Harmonic(1.0)
    ends = State({"pos": tensor([[[0.0, 0.0, 0.0]]]).expand(3, 1, 3), "slab": torch.zeros(3, 1, 3)})
    levels = noise_grid(d.process, GridConfig(steps=5))
    with pytest.raises(ConfigError, match="got 3 states and 4 steps; expected 2 states"):
        latent_path(lambda batch: d, ends, levels, steps=4)
    with pytest.raises(ConfigError, match="1 steps"):
        latent_path(lambda batch: d, ends[:2], levels, steps=1)
