"""Configurations make what they say, and pairs that do not work are refused before any work; the loop reports divergence."""

import math

import pytest
import torch
from targets import SCHEDULES, euclidean_1d, make, schedule_of, seeded

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean, Fixed
from equilibra.errors import ConfigError, DivergenceError
from equilibra.sampling.choose import SAMPLERS, SamplerConfig
from equilibra.sampling.churn import Churn
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.langevin import LangevinCorrected
from equilibra.sampling.ode import Euler, Heun
from equilibra.sampling.sampler import draw, integrate
from equilibra.sampling.sde import ReverseDiffusion
from equilibra.state.state import State


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SamplerConfig(), DPMSolver2M()),
        (SamplerConfig(name="heun"), Heun()),
        (SamplerConfig(name="euler"), Euler()),
        (SamplerConfig(name="sde", eta=0.3), ReverseDiffusion(eta=0.3)),
        (SamplerConfig(name="heun", churn=0.1, noise_scale=0.9), Churn(Heun(), gamma=0.1, noise_scale=0.9)),
        (
            SamplerConfig(name="sde", corrections=2, correction_size=0.05),
            LangevinCorrected(ReverseDiffusion(), corrections=2, step_size=0.05),
        ),
    ],
)
def test_configurations_make_what_they_say(config, expected):
    assert config.make() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "dpm2m", "churn": 0.1}, "'dpm2m' cannot be combined with churn"),
        ({"name": "dpm2m", "corrections": 1}, "'dpm2m' cannot be combined"),
        ({"name": "huen"}, "did you mean 'heun'"),
        ({"name": "heun", "noise_scale": 0.9}, "without churn, where it has no effect"),
        ({"nam": "heun"}, "did you mean 'name'"),
        ({"grid": {"step": 5}}, "did you mean 'steps'"),
        ({"grid": {"steps": 0}}, "steps: got 0"),
        ({"grid": {"spacing": "cosine"}}, "spacing: got 'cosine'"),
        ({"grid": {"rho": 0.0}}, "rho: got 0.0"),
    ],
)
def test_wrong_configurations_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SamplerConfig.from_dict(values)


@pytest.mark.parametrize(
    ("make_sampler", "message"),
    [
        (lambda: ReverseDiffusion(eta=1.2), "eta: got 1.2"),
        (lambda: Churn(Heun(), gamma=0.0), "gamma 0.0"),
        (lambda: Churn(Heun(), noise_scale=-1.0), "noise_scale -1.0"),
        (lambda: LangevinCorrected(Heun(), corrections=0), "0 corrections"),
        (lambda: LangevinCorrected(Heun(), step_size=1.5), "size 1.5"),
    ],
)
def test_wrong_parameters_are_refused(make_sampler, message):
    with pytest.raises(ConfigError, match=message):
        make_sampler()


def test_grids_outside_the_noise_are_refused():
    target = euclidean_1d([0.0], [1.0], [1.0], SCHEDULES["exploding"])
    with pytest.raises(ConfigError, match="0 < sigma_min < sigma_max"):
        noise_grid(target.process, GridConfig(sigma_min=2.0, sigma_max=1.0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_configuration_round_trips_and_draws(name):
    config = SamplerConfig.from_dict({"name": name, "grid": {"steps": 12, "spacing": "karras"}})
    target = make("torus", schedule_of("torus", "exploding")).distribution
    levels = noise_grid(target.process, config.grid)
    state = draw(config.make(), target, target.sample(5, generator=seeded(0)), levels, generator=seeded(1))
    assert float(state.fields["x"].abs().max()) <= math.pi


def test_divergence_is_reported():
    class Broken(Denoiser):
        process = euclidean_1d([0.0], [1.0], [1.0], SCHEDULES["exploding"]).process

        def __call__(self, state, t):
            return Prediction({"x": state.fields["x"] / 0.0})

    levels = noise_grid(Broken.process, GridConfig(steps=3))
    with pytest.raises(DivergenceError, match=r"field 'x' has values that are not finite; use more steps"):
        draw(Euler(), Broken(), State({"x": torch.ones(2, 1)}), levels, generator=seeded(0))


@pytest.mark.parametrize(
    "sampler", [Euler(), Heun(), DPMSolver2M(), ReverseDiffusion(), Churn(Heun()), LangevinCorrected(Heun())]
)
def test_padding_and_fixed_fields_with_every_sampler(sampler):
    """Systems of different sizes in one batch: padded particles stay at zero, fixed fields are bit-identical, widths follow D_eff."""

    class Harmonic(Denoiser):
        schedule = VarianceExploding(sigma_min=0.01, sigma_max=30.0)
        process = Process(
            {"surface": Field(space=Fixed(), schedule=schedule), "pos": Field(space=CentredEuclidean(), schedule=schedule)}
        )

        def __call__(self, state, t):
            sigma = self.process.sigma("pos", t)[:, None, None]
            return Prediction({"pos": -(sigma**2) / (sigma**2 + 1.0) * state.fields["pos"]})

    n = 1000
    lengths = torch.where(torch.arange(n) % 2 == 0, 2, 5)
    mask = torch.arange(5)[None] < lengths[:, None]
    like = State(
        {"surface": torch.randn(n, 3, 3, generator=seeded(0)).double(), "pos": torch.zeros(n, 5, 3).double()}, {"pos": mask}
    )
    steps = 200 if sampler.order == 1 and not isinstance(sampler, Churn | LangevinCorrected) else 40
    state = draw(sampler, Harmonic(), like, noise_grid(Harmonic.process, GridConfig(steps=steps)), generator=seeded(1))
    assert torch.equal(state.fields["surface"], like.fields["surface"])
    x = state.fields["pos"]
    assert float(x[~mask].abs().max()) == 0.0
    assert float(x.sum(1).abs().max()) < 1e-10
    for start, degrees in ((0, 3.0), (1, 12.0)):
        squares = x[start::2].square().flatten(1).sum(1) / degrees
        assert abs(float(squares.mean()) - 1.0) < 4.0 * math.sqrt(2.0 / degrees / (n / 2))


def test_same_seed_same_samples_and_inputs_untouched():
    target = make("euclidean", schedule_of("euclidean", "exploding")).distribution
    like = target.sample(5, generator=seeded(0))
    before = like.fields["x"].clone()
    levels = noise_grid(target.process, GridConfig(steps=10))
    a, b, c = (draw(ReverseDiffusion(), target, like, levels, generator=seeded(s)).fields["x"] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    start = target.process.prior(like, generator=seeded(3))
    kept = start.fields["x"].clone()
    integrate(Churn(Heun()), target, start, levels, generator=seeded(4))
    assert torch.equal(start.fields["x"], kept)
    assert torch.equal(like.fields["x"], before)
