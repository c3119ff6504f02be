"""Fact F3, and every parametrisation: the exact network output of each gives the same displacement."""

import math

import pytest
import torch
from torch import nn

from equilibra.diffusion.denoiser import BoundDenoiser, NetworkDenoiser, Prediction, preconditioning
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.slab import Slab
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Fixed, SymmetricMatrices, Torus, edm_preconditioning
from equilibra.errors import ConfigError, SpaceError
from equilibra.geometry import so3
from equilibra.state import Features, State
from equilibra.testing import GaussianMixture, IGSO3Mixture

EXPLODING = VarianceExploding(sigma_min=0.02, sigma_max=5.0)
NO_FEATURES = Features(node={"element": torch.zeros(1, 1)}, mask=torch.ones(1, 1, dtype=torch.bool))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Recorder(nn.Module):
    """Returns what it is told and remembers what it saw."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs, levels, features):
        self.inputs, self.levels = inputs, levels
        return self.outputs


def test_ideal_output_vanishes_for_gaussian_data():
    """F3: for data N(0, s^2 I) the exact displacement is c_shift x alone, and lambda c_out^2 = 1."""
    sigma = torch.logspace(-2, 2, 9, dtype=torch.float64)
    c = preconditioning(Euclidean(), "edm", sigma, 1.3)
    posterior = -(sigma**2) / (sigma**2 + 1.3**2)
    assert torch.allclose(c.c_shift, posterior, rtol=1e-12, atol=0)
    weight = (sigma**2 + 1.3**2) / (sigma * 1.3) ** 2
    assert torch.allclose(weight * c.c_out**2, torch.ones_like(sigma), rtol=1e-12, atol=0)
    assert torch.allclose(c.c_in, 1 / torch.sqrt(sigma**2 + 1.3**2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("space", [Euclidean(), CentredEuclidean()])
@pytest.mark.parametrize("parametrisation", ["edm", "eps", "x0", "score", "v"])
def test_every_parametrisation_gives_the_exact_displacement(parametrisation, space):
    """The definitions of the theory, in the variance-preserving picture with unit data scale s: x_t = a x0 + b eps."""
    scale = 1.4
    means = torch.randn(2, 3, 2, generator=seeded(0), dtype=torch.float64)
    if isinstance(space, CentredEuclidean):
        means = means - means.mean(1, keepdim=True)
    d = GaussianMixture(
        torch.tensor([0.6, 0.4]),
        means,
        torch.tensor([0.5, 0.9], dtype=torch.float64),
        schedule=VarianceLinear(scale=scale),
        space=space,
    )
    n = 5
    t = torch.linspace(0.05, 0.9, n, dtype=torch.float64)
    state = d.process.noise(d.sample(n, generator=seeded(1)), t, generator=seeded(2))
    x, delta = state.fields["x"], d(state, t).displacements["x"]
    sigma = d.process.sigma("x", t)[:, None, None]
    posterior = x + delta
    alpha = d.process.fields["x"].schedule.alpha(t)[:, None, None]
    b = torch.sqrt(1 - alpha**2)
    eps = (x - posterior) / sigma
    process = Process({"x": Field(space=space, schedule=VarianceLinear(scale=scale), data_scale=scale)})
    c = process.fields["x"].space.preconditioning(process.sigma("x", t), scale)
    exact = {
        "edm": (delta - c.c_shift[:, None, None] * x) / c.c_out[:, None, None],
        "eps": eps,
        "x0": posterior / scale,
        "score": delta / sigma,
        "v": alpha * eps - b * posterior / scale,
    }[parametrisation]
    denoiser = NetworkDenoiser(Recorder({"x": exact}), process, parametrisation)
    got = denoiser(state, t, NO_FEATURES)
    assert torch.allclose(got.displacements["x"], delta, rtol=1e-10, atol=1e-12)
    assert torch.allclose(got.score("x", sigma.flatten()), delta / sigma**2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parametrisation", ["edm", "eps", "score"])
def test_parametrisations_on_rotations(parametrisation):
    d = IGSO3Mixture(torch.ones(1), so3.exp(torch.tensor([[0.3, 0.2, -0.9]])), torch.tensor([0.5]), schedule=EXPLODING)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    state = d.process.noise(d.sample(2, generator=seeded(3)), t, generator=seeded(4))
    delta, sigma = d(state, t).displacements["x"], d.process.sigma("x", t)
    c = SO3().preconditioning(sigma, d.process.fields["x"].data_scale)
    exact = {"edm": delta / c.c_out[:, None], "eps": -delta / sigma[:, None], "score": delta / sigma[:, None]}[parametrisation]
    got = NetworkDenoiser(Recorder({"x": exact}), d.process, parametrisation)(state, t, NO_FEATURES)
    assert torch.allclose(got.displacements["x"], delta, rtol=1e-12)


@pytest.mark.parametrize("space", [SO3(), Torus(), Slab()])
@pytest.mark.parametrize("parametrisation", ["x0", "v"])
def test_parametrisations_that_need_vectors_are_refused_at_construction(space, parametrisation):
    process = Process({"x": Field(space=space, schedule=EXPLODING)})
    with pytest.raises(SpaceError, match=f"parametrisation '{parametrisation}' needs a linear Space"):
        NetworkDenoiser(nn.Identity(), process, parametrisation)


@pytest.mark.parametrize("space", [Euclidean(), Torus()])
def test_unknown_parametrisation(space):
    process = Process({"x": Field(space=space, schedule=EXPLODING)})
    with pytest.raises(ConfigError, match="got 'velocity', expected one of edm, eps, x0, score, v"):
        NetworkDenoiser(nn.Identity(), process, "velocity")


def test_network_sees_scaled_inputs_and_levels():
    process = Process(
        {
            "pos": Field(space=CentredEuclidean(), schedule=EXPLODING, data_scale=2.0),
            "pocket": Field(space=Fixed(), schedule=EXPLODING),
            "above": Field(space=Slab(), schedule=VarianceExploding(sigma_min=0.01, sigma_max=1.5), data_scale=0.5),
            "cell": Field(space=SymmetricMatrices(), schedule=VarianceLinear()),
        }
    )
    g = seeded(5)
    state = State(
        {
            n: torch.randn(2, *shape, generator=g, dtype=torch.float64)
            for n, shape in {"pos": (4, 3), "pocket": (5, 3), "above": (3, 3), "cell": (3, 3)}.items()
        }
    )
    raw = {n: torch.randn(state.fields[n].shape, generator=g, dtype=torch.float64) for n in ("pos", "above", "cell")}
    network = Recorder(raw)
    t = torch.tensor([0.3, 1.0], dtype=torch.float64)
    got = NetworkDenoiser(network, process)(state, t, NO_FEATURES).displacements
    assert set(got) == {"pos", "above", "cell"}
    assert torch.equal(network.inputs["pocket"], state.fields["pocket"])
    sigma = process.sigma("pos", t)
    assert torch.allclose(network.inputs["pos"], state.fields["pos"] / torch.sqrt(sigma**2 + 4.0)[:, None, None])
    assert network.levels.shape == (2, 3)
    assert torch.allclose(network.levels[:, 0], 0.25 * torch.log(sigma / 2.0))
    # outputs are tangent vectors: mean-free, symmetric; heights are pulled to the middle, the plane has none
    assert float(got["pos"].sum(1).abs().max()) < 1e-12
    assert torch.allclose(got["cell"], got["cell"].transpose(1, 2))
    wide = process.sigma("above", t)[:, None]
    assert torch.allclose(got["above"][..., :2], wide[..., None] * raw["above"][..., :2])
    line = edm_preconditioning(wide, 0.5)
    height = state.fields["above"][..., 2]
    assert torch.allclose(got["above"][..., 2], line.c_shift * height + line.c_out * raw["above"][..., 2])


def test_padded_items_get_no_displacement():
    process = Process({"x": Field(space=Euclidean(), schedule=EXPLODING)})
    mask = torch.tensor([[True, True, False]])
    state = State({"x": torch.zeros(1, 3, 3)}, {"x": mask})
    got = NetworkDenoiser(Recorder({"x": torch.ones(1, 3, 3)}), process)(state, torch.tensor([0.5]), NO_FEATURES)
    assert float(got.displacements["x"][0, 2].abs().max()) == 0.0
    assert float(got.displacements["x"][0, :2].abs().min()) > 0.0


def test_bound_denoiser_hands_its_features_on():
    process = Process({"x": Field(space=Euclidean(), schedule=EXPLODING)})
    seen = []

    class Watching(NetworkDenoiser):
        def forward(self, state, t, features):
            seen.append(features)
            return Prediction({"x": torch.zeros_like(state.fields["x"])})

    bound = Watching(nn.Identity(), process).bind(NO_FEATURES)
    assert isinstance(bound, BoundDenoiser)
    assert bound.process is process
    bound(State({"x": torch.zeros(4, 2)}), torch.full((4,), 0.5))
    assert seen == [NO_FEATURES]


def test_half_precision_outputs_are_promoted():
    process = Process({"x": Field(space=Euclidean(), schedule=EXPLODING)})
    state = State({"x": torch.ones(1, 2, 3)})
    raw = torch.full((1, 2, 3), math.pi).to(torch.bfloat16)
    got = NetworkDenoiser(Recorder({"x": raw}), process)(state, torch.tensor([0.5]), NO_FEATURES).displacements["x"]
    assert got.dtype == torch.float32
