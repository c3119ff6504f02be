"""Facts F1 and the contracts of the Process: rescaled variable, products, masks, forbidden pairs."""

import math

import pytest
import torch

from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear, VarianceSigmoid
from equilibra.diffusion.slab import Slab
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Fixed, SymmetricMatrices, Torus
from equilibra.errors import ConfigError, SpaceError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.testing import GaussianMixture

EXPLODING = VarianceExploding(sigma_min=0.02, sigma_max=5.0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def process():
    return Process(
        {
            "pocket": Field(space=Fixed(), schedule=VarianceLinear()),
            "pos": Field(space=CentredEuclidean(), schedule=VarianceLinear(scale=2.0), data_scale=2.0),
            "turn": Field(space=SO3(), schedule=EXPLODING),
        }
    )


@pytest.fixture
def state():
    g = seeded(0)
    mask = torch.arange(4)[None] < torch.tensor([[4], [2]])
    pos = CentredEuclidean().clean(torch.randn(2, 4, 3, generator=g, dtype=torch.float64), mask)
    pocket = torch.randn(2, 6, 3, generator=g, dtype=torch.float64)
    turn = so3.uniform((2,), generator=g, dtype=torch.float64)
    return State({"pocket": pocket, "pos": pos, "turn": turn}, {"pos": mask})


def test_rescaled_density_is_the_density_of_the_noised_variable():
    """F1: ln p_x(x) = ln p_xbar(x / a) - D_eff ln a, on a Gaussian, where the left side is N(a m, a^2 s^2 + b^2)."""
    schedule = VarianceLinear(scale=1.0)
    d = GaussianMixture(torch.ones(1), torch.tensor([[0.7, -0.3, 0.2]]), torch.tensor([0.6]), schedule=schedule)
    x = torch.randn(5, 3, generator=seeded(1), dtype=torch.float64)
    t = torch.linspace(0.1, 1.0, 5, dtype=torch.float64)
    a = schedule.alpha(t)
    rescaled = d.process.from_signal(State({"x": x}), t)
    got = d.log_density(rescaled, t) - 3.0 * torch.log(a)
    # alpha^2 (s^2 + sigma^2) with b^2 = 1 - a^2 for unit scale
    variance = (a**2 * 0.36 + 1.0 - a**2)[:, None]
    mean = a[:, None] * torch.tensor([[0.7, -0.3, 0.2]]).double()
    expected = (-0.5 * (x - mean) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)).sum(1)
    assert torch.allclose(got, expected, rtol=0, atol=1e-6)
    exact = GaussianMixture(
        torch.ones(1),
        torch.tensor([[0.7, -0.3, 0.2]], dtype=torch.float64),
        torch.tensor([0.6], dtype=torch.float64),
        schedule=schedule,
    )
    mean = a[:, None] * torch.tensor([[0.7, -0.3, 0.2]], dtype=torch.float64)
    expected = (-0.5 * (x - mean) ** 2 / variance - 0.5 * torch.log(2 * math.pi * variance)).sum(1)
    assert torch.allclose(exact.log_density(rescaled, t) - 3.0 * torch.log(a), expected, rtol=0, atol=1e-12)


def test_signal_conversions_are_inverse_and_leave_other_fields_alone(process, state):
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    signal = process.to_signal(state, t)
    alpha = VarianceLinear(scale=2.0).alpha(t)
    assert torch.allclose(signal.fields["pos"], state.fields["pos"] * alpha[:, None, None])
    assert torch.equal(signal.fields["turn"], state.fields["turn"])
    assert torch.equal(signal.fields["pocket"], state.fields["pocket"])
    back = process.from_signal(signal, t)
    assert torch.allclose(back.fields["pos"], state.fields["pos"], rtol=1e-14)


def test_fields_and_reference(process, state):
    assert process.moving == ["pos", "turn"]
    assert process.reference == "pos"
    assert process.degrees(state).tolist() == [12.0, 6.0]
    sigma = torch.tensor([0.5, 3.0], dtype=torch.float64)
    assert torch.allclose(process.sigma("pos", process.time(sigma)), sigma)


def test_noise_and_prior_respect_masks_and_fixed_fields(process, state):
    t = torch.tensor([0.4, 0.9], dtype=torch.float64)
    for drawn in (process.noise(state, t, generator=seeded(2)), process.prior(state, generator=seeded(3))):
        assert torch.equal(drawn.fields["pocket"], state.fields["pocket"])
        assert float(drawn.fields["pos"][1, 2:].abs().max()) == 0.0
        assert float(drawn.fields["pos"].sum(1).abs().max()) < 1e-12
        assert torch.equal(drawn.masks["pos"], state.masks["pos"])
        r = drawn.fields["turn"]
        assert torch.allclose(r @ r.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(2, 3, 3))


def test_each_batch_element_has_its_own_noise(process):
    n = 4000
    state = State({"pocket": torch.zeros(n, 1, 3), "pos": torch.zeros(n, 2, 3), "turn": torch.eye(3).expand(n, 3, 3)}).to(
        dtype=torch.float64
    )
    t = torch.where(torch.arange(n) % 2 == 0, 0.2, 0.6).double()
    x = process.noise(state, t, generator=seeded(4)).fields["pos"]
    for start, time in ((0, 0.2), (1, 0.6)):
        squares = x[start::2].square().flatten(1).sum(1) / 3.0  # D_eff = 3
        sigma = float(process.sigma("pos", torch.tensor(time, dtype=torch.float64)))
        assert abs(float(squares.mean()) / sigma**2 - 1.0) < 4.0 * float(squares.std() / squares.mean()) / math.sqrt(n / 2)


def test_same_generator_same_noise(process, state):
    t = torch.tensor([0.4, 0.9], dtype=torch.float64)
    a, b, c = (process.noise(state, t, generator=seeded(s)).fields["pos"] for s in (5, 5, 6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("schedule", [VarianceLinear(), VarianceSigmoid()])
@pytest.mark.parametrize("space", [SO3(), Torus(), Torus(centred=True), Slab()])
def test_variance_preserving_schedules_need_vectors(space, schedule):
    with pytest.raises(SpaceError, match=f"needs a linear Space; got {type(space).__name__}"):
        Field(space=space, schedule=schedule)


@pytest.mark.parametrize("schedule", [VarianceLinear(), VarianceSigmoid(), EXPLODING])
@pytest.mark.parametrize("space", [Euclidean(), CentredEuclidean(), SymmetricMatrices()])
def test_flat_spaces_take_every_schedule(space, schedule):
    assert Field(space=space, schedule=schedule).schedule is schedule


def test_wrong_processes_are_refused():
    with pytest.raises(ConfigError, match=r"data_scale: got 0\.0"):
        Field(space=Euclidean(), schedule=EXPLODING, data_scale=0.0)
    with pytest.raises(ConfigError, match="no field moves"):
        Process({"pocket": Field(space=Fixed(), schedule=EXPLODING)})
    with pytest.raises(TypeError):
        Process({"x": Field(space=Euclidean(), schedule=EXPLODING)}).fields["x"] = None
