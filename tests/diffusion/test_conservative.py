import math

import pytest
import torch
from diffusion_exact import NO_FEATURES, exact_probes, seeded, tensor
from torch import nn

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.fokker_planck import log_density_residual
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.slab import Slab
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, SymmetricMatrices, Torus
from equilibra.errors import SpaceError
from equilibra.geometry import so3
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import State

VE = VarianceExploding(sigma_min=0.01, sigma_max=50.0)
T = tensor([0.0, 0.4, 0.9])


class Potential(nn.Module):
    """A small smooth potential of all fields, with an offset that depends on the first level."""

    def __init__(self, process, *, scale=1.0):
        super().__init__()
        self.names, self.scale = process.moving, scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner = nn.Sequential(nn.LazyLinear(16), nn.Tanh(), nn.Linear(16, len(self.names)))
            self.offset = nn.Parameter(torch.tensor(0.7))

    def forward(self, inputs, levels, features):
        flat = []
        for name in self.names:
            x = inputs[name]
            flat += (
                [torch.sin(2 * math.pi * x).flatten(1), torch.cos(2 * math.pi * x).flatten(1)]
                if name == "torus"
                else [x.flatten(1)]
            )
        values = self.scale * self.inner(torch.cat([*flat, levels], dim=1))
        return {n: values[:, k] for k, n in enumerate(self.names)}, self.offset * (1 + levels[:, 0])


class Attraction(nn.Module):
    """Half the squared distances of the first two particles."""

    def forward(self, inputs, levels, features):
        return {"x": (inputs["x"][:, 0] - inputs["x"][:, 1]).square().sum(1)}, torch.zeros_like(levels[:, 0])


def make(space, x, schedule=VE, scale=1.0, name="x"):
    process = Process({name: Field(space=space, schedule=schedule, data_scale=1.3)})
    denoiser = ConservativeDenoiser(Potential(process, scale=scale), process).double()
    state = State({name: x})
    denoiser(state, tensor([0.5] * len(x)), NO_FEATURES)  # sizes the first layer
    return denoiser.double(), state


def points(shape, seed=1):
    return torch.randn(3, *shape, generator=seeded(seed), dtype=torch.float64)


CASES = {
    "euclidean": lambda: make(Euclidean(), points((2, 3))),
    "preserving": lambda: make(Euclidean(), points((2, 3)), VarianceLinear(scale=1.3)),
    "centred": lambda: make(CentredEuclidean(), points((4, 3)) - points((4, 3)).mean(1, keepdim=True)),
    "symmetric": lambda: make(SymmetricMatrices(), SymmetricMatrices().project(points((3, 3)), None)),
    "torus": lambda: make(Torus(), Torus().clean(points((2, 2)), None), name="torus"),
    "rotations": lambda: make(SO3(), so3.uniform((3, 2), generator=seeded(2), dtype=torch.float64)),
}


@pytest.mark.parametrize("case", CASES)
def test_displacement_is_the_gradient_of_the_log_density(case):
    """Along every direction of the tangent space, by finite differences of the density along the retraction."""
    denoiser, state = CASES[case]()
    (name,) = denoiser.process.moving
    space, x, h = denoiser.process.fields[name].space, state.fields[name], 1e-5
    t = tensor([0.3, 0.5, 0.9])
    prediction = denoiser(state, t, NO_FEATURES)
    score = prediction.score(name, denoiser.process.sigma(name, t))
    for probe in exact_probes(denoiser.process, state):
        v = probe[name]
        ends = [denoiser.log_density(State({name: space.retract(x, s * h * v)}), t, NO_FEATURES) for s in (1, -1)]
        torch.testing.assert_close(space.inner(score, v), (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(prediction.log_density, denoiser.log_density(state, t, NO_FEATURES))


@pytest.mark.parametrize("case", ["euclidean", "preserving", "centred", "symmetric"])
def test_the_network_output_is_that_of_the_edm_preconditioning(case):
    """delta = c_shift x + c_out F with F the negative gradient of the potential in the network's own input: of unit size at every noise."""
    denoiser, state = CASES[case]()
    field = denoiser.process.fields["x"]
    sigma = denoiser.process.sigma("x", T.clamp(min=denoiser.process.t_min))
    t = T.clamp(min=denoiser.process.t_min)
    own = field.space.preconditioning(sigma, field.data_scale)
    wide = [c.reshape(-1, *[1] * (state.fields["x"].ndim - 1)) for c in (own.c_in, own.c_shift, own.c_out)]
    inputs = (wide[0] * state.fields["x"]).requires_grad_(True)
    potentials, _ = denoiser.network({"x": inputs}, 0.25 * torch.log(sigma / 1.3)[:, None], NO_FEATURES)
    (gradient,) = torch.autograd.grad(potentials["x"].sum(), inputs)
    expected = wide[1] * state.fields["x"] - wide[2] * field.space.project(gradient, None)
    torch.testing.assert_close(denoiser(state, t, NO_FEATURES).displacements["x"], expected)


def test_normalised_gaussian_without_a_potential_and_at_large_noise():
    denoiser, state = make(CentredEuclidean(), points((4, 3)), scale=0.0)
    denoiser.network.offset.data.zero_()
    got = denoiser(state, T, NO_FEATURES)
    variance = denoiser.process.sigma("x", T) ** 2 + 1.3**2
    x = state.fields["x"] - state.fields["x"].mean(1, keepdim=True)
    expected = -0.5 * ((x**2).sum((1, 2)) / variance + 9 * torch.log(2 * math.pi * variance))
    torch.testing.assert_close(got.log_density, expected)
    # the exact score of Gaussian data, and no residual
    torch.testing.assert_close(got.score("x", denoiser.process.sigma("x", T)), -x / variance[:, None, None])
    t = tensor([0.2, 0.5, 0.8])
    residual = log_density_residual(denoiser, denoiser.process, state, t, NO_FEATURES, exact_probes(denoiser.process, state))
    assert residual.abs().max() < 1e-8
    # with a potential, density and score go to the Gaussian as the noise grows
    moved, _ = make(CentredEuclidean(), points((4, 3)))
    end = tensor([1.0] * 3)
    far = State({"x": 50.0 * state.fields["x"]})
    difference = (moved.log_density(far, end, NO_FEATURES) - denoiser.log_density(far, end, NO_FEATURES)).abs().max()
    assert 0.0 < difference < 0.05


def test_gradients_are_recorded_only_where_they_are_wanted():
    denoiser, state = CASES["centred"]()
    with torch.no_grad():
        quiet = denoiser(state, T, NO_FEATURES)
    assert not quiet.log_density.requires_grad
    assert not quiet.displacements["x"].requires_grad
    with torch.inference_mode():
        inferred = denoiser(State({"x": state.fields["x"].clone()}), T.clone(), NO_FEATURES)
    loud = denoiser(state, T, NO_FEATURES)
    for other in (quiet, inferred):
        torch.testing.assert_close(other.displacements["x"], loud.displacements["x"].detach())
    assert loud.rate is None
    gradients = torch.autograd.grad((loud.displacements["x"] ** 2).sum() + loud.log_density.sum(), denoiser.parameters())
    assert all(torch.isfinite(g).all() for g in gradients)
    assert state.fields["x"].grad is None
    assert not state.fields["x"].requires_grad


def test_rate_in_time_comes_with_the_score():
    denoiser, state = CASES["preserving"]()
    t = tensor([0.2, 0.5, 0.8])
    rate = denoiser(state, t.clone().requires_grad_(True), NO_FEATURES).rate
    ends = [denoiser.log_density(state, t + h, NO_FEATURES) for h in (1e-5, -1e-5)]
    torch.testing.assert_close(rate, (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert not denoiser(state, t.clone().requires_grad_(True), NO_FEATURES).rate.requires_grad


def test_padding_changes_nothing():
    denoiser, state = make(CentredEuclidean(), points((4, 3)) - points((4, 3)).mean(1, keepdim=True))
    denoiser.network = Attraction()
    x = state.fields["x"]
    wide = torch.cat([x, torch.full((3, 2, 3), 7.0, dtype=torch.float64)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 2]).expand(3, -1)
    plain = denoiser(state, T, NO_FEATURES)
    padded = denoiser(State({"x": wide}, {"x": mask}), T, NO_FEATURES)
    torch.testing.assert_close(padded.log_density, plain.log_density)
    torch.testing.assert_close(padded.displacements["x"][:, :4], plain.displacements["x"])
    assert padded.displacements["x"][:, 4:].abs().max() == 0.0


def test_several_fields_share_one_density():
    process = Process(
        {
            "place": Field(space=Euclidean(), schedule=VE, data_scale=1.3),
            "turn": Field(space=SO3(), schedule=VarianceExploding(sigma_min=0.05, sigma_max=3.0)),
        }
    )
    denoiser = ConservativeDenoiser(Potential(process), process)
    state = State({"place": points((2,)), "turn": so3.uniform((3,), generator=seeded(3), dtype=torch.float64)})
    denoiser.network.double()
    t = tensor([0.3, 0.5, 0.9])
    prediction = denoiser.double()(state, t, NO_FEATURES)
    h = 1e-5
    for probe in exact_probes(process, state):
        ends = []
        for s in (h, -h):
            fields = {n: process.fields[n].space.retract(state.fields[n], s * probe[n]) for n in process.moving}
            ends.append(denoiser.log_density(State(fields), t, NO_FEATURES))
        along = sum(process.fields[n].space.inner(prediction.score(n, process.sigma(n, t)), probe[n]) for n in process.moving)
        torch.testing.assert_close(along, (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-6)


def test_samplers_run_on_it_unchanged():
    denoiser, _ = make(Euclidean(), points((2, 3)), VarianceExploding(sigma_min=0.05, sigma_max=20.0), scale=0.0)
    denoiser.network.offset.data.zero_()
    bound = denoiser.bind(NO_FEATURES)
    sampler = SamplerConfig(name="dpm2m").make()
    like = State({"x": torch.zeros(4000, 2, 3, dtype=torch.float64)})
    levels = noise_grid(bound.process, GridConfig(steps=12))
    got = draw(sampler, bound, like, levels, generator=seeded(4)).fields["x"]
    variance = 1.3**2 + 0.05**2
    assert abs(got.var() - variance) < 4 * variance * math.sqrt(2.0 / got.numel()) + 0.01 * variance


def test_spaces_without_a_scalar_form_are_refused():
    process = Process({"x": Field(space=Slab(), schedule=VE)})
    with pytest.raises(SpaceError, match="Slab"):
        ConservativeDenoiser(nn.Identity(), process)
