"""Divergences: exact against closed forms and dense Jacobians, Hutchinson's mean against the exact trace."""

import pytest
import torch
from known import EVERY, Function, centred, euclidean, joint, network, positions, relative, rotations, seeded, tensor

from equilibra.density.differentiation import differentiation
from equilibra.density.trace import Divergence, Trace, draw_probes
from equilibra.errors import ConfigError, EquilibraError
from equilibra.geometry import so3
from equilibra.state import Features, State

MODES = ("vmap", "forward", "reverse")


def times(denoiser, state, t=0.4):
    return torch.full((state.batch_size,), t, dtype=state.dtype)


def divergence(denoiser, state, mode="vmap", trace=None, generator=None):
    trace = trace or Trace(kind="exact")
    probes = draw_probes(denoiser, state, trace, generator=generator or seeded(0))
    return Divergence(denoiser, state, trace, probes, mode)(state, times(denoiser, state))


def by_differences(denoiser, state, name, step=1e-4):
    """Sums central differences along an orthonormal frame made by projecting and orthonormalising the axes."""
    space, x = denoiser.process.fields[name].space, state.fields[name]
    raw = torch.eye(space.project(space.tangent_noise(x, None, generator=seeded(0)), None)[0].numel(), dtype=torch.float64)
    shape = space.tangent_noise(x, None, generator=seeded(0)).shape
    projected = space.project(raw.reshape(-1, *shape[1:]), None).flatten(1)
    u, s, _ = torch.linalg.svd(projected.T)
    total = 0.0
    for e in u[:, s > 0.5].T:
        v = e.reshape(shape[1:]).expand(shape)
        there, back = (
            denoiser(state.replace(**{name: space.retract(x, sign * step * v)}), times(denoiser, state)).displacements[name]
            for sign in (1, -1)
        )
        total = total + ((there - back) / (2 * step) * v).flatten(1).sum(1)
    return total


@pytest.mark.parametrize("name", EVERY)
def test_exact_divergence_on_every_space(name):
    target = EVERY[name]()
    state = target.sample_noised(3, 0.4, generator=seeded(1))
    found = {mode: divergence(target, state, mode) for mode in MODES}
    for field in target.process.moving:
        expected = by_differences(target, state, field)
        for mode in MODES:
            assert torch.allclose(found[mode][field][0], expected, atol=2e-5, rtol=1e-5), (mode, field)


def test_small_chunks_give_the_same():
    target = joint()
    state = target.sample_noised(5, 0.4, generator=seeded(1))
    whole, parts = (divergence(target, state, trace=Trace(kind="exact", rows=rows)) for rows in (1000, 7))
    for name in whole:
        assert torch.allclose(whole[name], parts[name], atol=1e-12)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("make", [centred, euclidean, relative, rotations, joint])
def test_mean_of_hutchinson_is_the_exact_trace(make, orthogonal):
    target = make()
    state = target.sample_noised(2, 0.35, generator=seeded(1))
    exact = divergence(target, state)
    generator = seeded(2)
    if orthogonal and make is joint:
        pytest.skip("a single torsion has no two orthogonal directions")
    trace = Trace(kind="hutchinson", probes=2 if orthogonal else 4, orthogonal=orthogonal)
    runs = [divergence(target, state, "reverse", trace, generator) for _ in range(80)]
    for name, value in exact.items():
        means = torch.stack([run[name].mean(0) for run in runs])
        spread = means.std(0) / len(means) ** 0.5
        assert ((means.mean(0) - value[0]).abs() < 4 * spread + 1e-9).all(), name


def test_rademacher_probes_know_the_trace_of_a_multiple_of_the_identity():
    target = Function(torch.zeros_like)
    state = State({"x": torch.randn(2, 5, 3, generator=seeded(0), dtype=torch.float64)})
    exact = divergence(target, state)["x"]
    probed = divergence(target, state, trace=Trace(kind="hutchinson", probes=3))["x"]
    assert torch.allclose(probed, exact.expand(3, -1), atol=1e-12)


def test_as_many_orthogonal_probes_as_degrees_are_exact():
    target = centred()
    state = target.sample_noised(3, 0.4, generator=seeded(1))
    probed = divergence(target, state, trace=Trace(kind="hutchinson", probes=4, orthogonal=True))["x"].mean(0)
    assert torch.allclose(probed, divergence(target, state)["x"][0], atol=1e-10)
    with pytest.raises(ConfigError, match="5 orthogonal probes"):
        draw_probes(target, state, Trace(kind="hutchinson", probes=5, orthogonal=True), generator=seeded(0))


def test_auto_looks_at_the_largest_element():
    assert Trace().exact(tensor([3.0, 100.0]))
    assert not Trace().exact(tensor([3.0, 101.0]))
    assert Trace(kind="exact").exact(tensor([1000.0]))


@pytest.mark.parametrize("mode", MODES)
def test_networks_and_padding(mode):
    model, features = network()
    state = positions(3)
    expected = divergence(model.bind(features.shared()), state, mode)["pos"]
    padded = State(
        {"pos": torch.nn.functional.pad(state.fields["pos"], (0, 0, 0, 2))}, {"pos": (torch.arange(6) < 4).expand(3, 6)}
    )
    wide = Features.collate([features] * 3, tokens=6)
    found = divergence(model.bind(wide), padded, mode)["pos"]
    assert torch.allclose(found, expected, atol=1e-10)
    assert all(p.grad is None for p in model.parameters())


def test_different_systems_in_one_batch():
    model, features = network()
    small = Features(node={"kind": features.node["kind"][:3]}, pair={"bond": features.pair["bond"][:3, :3]})
    a, b = positions(1), positions(1, tokens=3)
    both = State(
        {"pos": torch.cat([a.fields["pos"], torch.nn.functional.pad(b.fields["pos"], (0, 0, 0, 1))])},
        {"pos": torch.arange(4) < torch.tensor([[4], [3]])},
    )
    found = divergence(model.bind(Features.collate([features, small])), both)["pos"][0]
    alone = [divergence(model.bind(f.shared()), s)["pos"][0, 0] for f, s in ((features, a), (small, b))]
    assert torch.allclose(found, torch.stack(alone), atol=1e-10)


class Opaque(torch.autograd.Function):
    """Knows its backward pass only, as a compiled network does."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / torch.cosh(x) ** 2


def in_place(x):
    y = torch.zeros(x.shape, dtype=x.dtype)
    y[..., 0] = torch.tanh(x[..., 0])
    return y


def gradient(x):
    """A conservative field, by automatic differentiation inside the network."""
    with torch.enable_grad():
        y = x if x.requires_grad else x.detach().requires_grad_(True)
        return torch.autograd.grad(torch.log(torch.cosh(y)).sum(), y, create_graph=True)[0]


def gradient_along_tangents(x):
    """The same from a zero tangent vector, as the conservative denoiser does it."""
    with torch.enable_grad():
        u = torch.zeros(x.shape, dtype=x.dtype).requires_grad_(True)
        return torch.autograd.grad(torch.log(torch.cosh(x + u)).sum(), u, create_graph=torch.is_grad_enabled())[0]


class TestDifferentiation:
    def find(self, function, mode="auto"):
        denoiser = Function(function)
        state = State({"x": torch.randn(2, 4, 3, generator=seeded(0), dtype=torch.float64)})
        t = times(denoiser, state, 0.5)
        return differentiation(denoiser, state, t, mode, generator=seeded(1))

    def test_forward_mode_over_shared_evaluations_comes_first(self):
        assert self.find(torch.tanh) == "vmap"

    def test_networks_of_other_habits(self):
        assert self.find(in_place) == "vmap"
        assert self.find(gradient) == "reverse"
        assert self.find(gradient_along_tangents) == "forward"

    def test_a_network_that_knows_its_backward_pass_only(self):
        assert self.find(Opaque.apply) == "reverse"

    def test_a_derivative_that_is_lost_is_noticed(self):
        with pytest.raises(EquilibraError, match=r"cannot be computed.*disagrees with the difference quotient"):
            self.find(lambda x: torch.tanh(3 * x.detach().clone()))

    def test_in_single_precision(self):
        denoiser = Function(torch.tanh)
        state = State({"x": torch.randn(2, 4, 3, generator=seeded(0))})
        assert differentiation(denoiser, state, times(denoiser, state, 0.5), "auto", generator=seeded(1)) == "vmap"


def test_frames_are_orthonormal():
    for make in EVERY.values():
        process, state = make().process, make().sample(2, generator=seeded(0))
        for name in process.moving:
            space, x = process.fields[name].space, state.fields[name]
            n = space.frame_size(x)
            vectors = space.from_frame(torch.eye(n, dtype=torch.float64), x[:1].expand(n, *x.shape[1:]), None)
            assert torch.allclose(vectors.flatten(1) @ vectors.flatten(1).T, torch.eye(n, dtype=torch.float64), atol=1e-12)
            assert torch.allclose(space.project(vectors, None), vectors, atol=1e-12)
            assert n == int(space.degrees(x, None)[0])


def test_velocity_of_a_rotation_vector():
    u = torch.randn(6, 3, generator=seeded(0), dtype=torch.float64) * tensor([1e-4, 0.05, 0.099, 0.5, 1.0, 1.4])[:, None]
    v = torch.randn(6, 3, generator=seeded(1), dtype=torch.float64)
    du = so3.exp_inverse_differential(u, v)
    step = 1e-5
    moved = so3.log(so3.exp(u + step * du) @ so3.exp(u - step * du).transpose(-1, -2)) / (2 * step)
    assert torch.allclose(moved, v, atol=1e-8)
