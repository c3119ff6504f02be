import pytest
import torch

from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.errors import ConfigError
from equilibra.geometry import so3
from equilibra.nn.distance import pair_vectors, safe_norm
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.inputs import GraphInputs
from equilibra.state import Features, State
from equilibra.testing import invariance

MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
T = torch.tensor([0.35], dtype=torch.float64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class DistanceOnly(torch.nn.Module):
    """Forces along the lines between the atoms, from their distances alone."""

    def __init__(self):
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, inputs, levels, features):
        vectors = pair_vectors(inputs["pos"])
        weights = torch.exp(-self.strength * safe_norm(vectors)) * features.mask[:, None, :]
        return {"pos": (weights[..., None] * vectors).sum(2)}


def test_all_checks_of_a_network(network, system):
    systems = [system(n, seed=n) for n in (7, 5, 6)]
    invariance.check_network(
        network(),
        [state for _, state in systems],
        [features for features, _ in systems],
        generator=seeded(1),
        index_features=("chiral_neighbours",),
        tolerance=1e-10,
    )


@pytest.mark.parametrize("seed", range(3))
def test_equivariant_under_proper_rotations_at_every_noise(network, system, seed):
    features, state = system(6, seed=seed)
    denoiser = network(seed)
    states = State({"pos": state.fields["pos"].expand(4, -1, -1)})
    t = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    q = so3.uniform((), generator=seeded(seed), dtype=torch.float64)
    with torch.no_grad():
        plain = denoiser(states, t, features.shared()).displacements["pos"]
        turned = denoiser(State({"pos": states.fields["pos"] @ q.T}), t, features.shared()).displacements["pos"]
    for got, expected in zip(turned, plain @ q.T, strict=True):
        assert float((got - expected).abs().max()) < 1e-10 * float(expected.abs().max())


def test_the_graphormer_sees_handedness_and_a_distance_only_network_does_not(network, system, process):
    features, state = system(6, seed=3)
    denoiser = network()
    invariance.check_chirality(denoiser, state, T, features.shared(), least=1e-2)
    blind = NetworkDenoiser(DistanceOnly(), process)
    with pytest.raises(AssertionError, match="commutes with a reflection"):
        invariance.check_chirality(blind, state, T, features.shared(), least=1e-6)


def test_handedness_is_seen_without_any_stereo_feature(network, system):
    features, state = system(6, seed=4, chiral=False)
    invariance.check_chirality(network(), state, T, features.shared(), least=1e-3)


def test_the_wanted_handedness_changes_the_output(network, system, relative):
    features, state = system(6, seed=5)
    denoiser = network()
    other = Features(node={**features.node, "chiral_sign": -features.node["chiral_sign"]}, pair=features.pair)
    with torch.no_grad():
        wanted, opposite = (denoiser(state, T, f.shared()).displacements["pos"] for f in (features, other))
    assert relative(opposite, wanted) > 1e-3


def test_handedness_input_is_the_signed_volume(system):
    features, state = system(6, seed=6)
    graph = GraphInputs.read(features.shared(), {"element": 6}, {"bond": 3})
    x = state.fields["pos"]
    got = graph.handedness(x)
    arms = torch.nn.functional.normalize(x[0, [0, 2, 3]] - x[0, 1], dim=-1)
    torch.testing.assert_close(got[0, 1, 0], torch.linalg.det(arms), atol=1e-5, rtol=0.0)
    assert got[0, 1, 1] == 1.0
    assert got[0, [0, 2, 3, 4, 5]].abs().max() == 0.0
    torch.testing.assert_close(graph.handedness(x @ MIRROR)[..., 0], -got[..., 0])
    plain = GraphInputs(node={}, pair={}, mask=features.shared().mask)
    assert plain.handedness(x).shape == (1, 6, 2)
    assert plain.handedness(x).abs().max() == 0.0


def test_the_trunk_ignores_translations(network, system, relative):
    features, state = system(7, seed=7)
    trunk = network().network.trunk
    graph = GraphInputs.read(features.shared(), *(trunk.config.node_vocabulary, trunk.config.pair_vocabulary))
    x, levels = state.fields["pos"], torch.zeros(1, 1, dtype=torch.float64)
    with torch.no_grad():
        vectors, tokens = trunk(x, levels, graph)
        shifted, shifted_tokens = trunk(x + torch.tensor([3.0, -40.0, 11.0], dtype=torch.float64), levels, graph)
    assert relative(shifted, vectors) < 1e-10
    assert relative(shifted_tokens, tokens) < 1e-10


@pytest.mark.parametrize("seed", range(2))
def test_permuted_tokens_permute_the_output(network, system, seed):
    features, state = system(8, seed=seed)
    invariance.check_permutation_equivariance(
        network(), state, T, features.shared(), generator=seeded(seed), index_features=("chiral_neighbours",), tolerance=1e-10
    )


def test_padding_and_companions_change_nothing(network, system, relative):
    systems = [system(n, seed=n) for n in (9, 4, 6)]
    denoiser = network()
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    invariance.check_batch_composition(
        denoiser, [s for _, s in systems], t, [f for f, _ in systems], padding=5, tolerance=1e-10
    )
    # what lies in the padding does not matter
    features, state = systems[1]
    padded = Features.collate([features], tokens=7)
    junk = Features(
        node={k: torch.where(padded.mask.reshape(1, 7, *[1] * (v.ndim - 2)), v, 1) for k, v in padded.node.items()},
        pair={k: torch.where(padded.mask[:, :, None] & padded.mask[:, None], v, 2) for k, v in padded.pair.items()},
        mask=padded.mask,
    )
    x = torch.cat([state.fields["pos"], torch.zeros(1, 3, 3, dtype=torch.float64)], dim=1)
    wide = State({"pos": x}, {"pos": padded.mask})
    with torch.no_grad():
        alone = denoiser(state, t[:1], features.shared()).displacements["pos"]
        got = denoiser(wide, t[:1], junk).displacements["pos"]
    assert relative(got[:, :4], alone) < 1e-10
    assert got[:, 4:].abs().max() == 0.0


def test_shared_features_are_collated_features(network, system, relative):
    features, state = system(6, seed=8)
    denoiser = network()
    x = state.fields["pos"] * torch.tensor([1.0, 0.8, 1.2], dtype=torch.float64)[:, None, None]
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    with torch.no_grad():
        shared = denoiser(State({"pos": x}), t, features.shared()).displacements["pos"]
        collated = denoiser(State({"pos": x}), t, Features.collate([features] * 3)).displacements["pos"]
    assert relative(shared, collated) < 1e-12


def test_every_parameter_has_a_finite_gradient(network, system):
    features, state = system(6, seed=9, extra=5)
    states = State({"pos": state.fields["pos"].expand(3, -1, -1)})
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    invariance.check_finite_gradients(network(extra_node=5), states, t, features.shared())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coinciding_atoms_give_finite_outputs_and_gradients(network, system, dtype):
    features, state = system(6, seed=10)
    x = state.fields["pos"].clone()
    x[:, 1] = x[:, 0]
    x[:, 3] = x[:, 2]
    x = torch.cat([x, torch.zeros_like(x)]).to(dtype).requires_grad_()
    denoiser = network(dtype=dtype)
    t = torch.tensor([0.0, 0.4], dtype=dtype)
    out = denoiser(State({"pos": x}), t, features.shared()).displacements["pos"]
    gradients = torch.autograd.grad((out**2).sum(), [x, *denoiser.parameters()])
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(g).all() for g in gradients)


def test_extra_node_features_are_read(network, system, relative):
    features, state = system(6, seed=11, extra=5)
    denoiser = network(extra_node=5)
    doubled = Features(node={**features.node, "extra": 2 * features.node["extra"]}, pair=features.pair)
    with torch.no_grad():
        one, two = (denoiser(state, T, f.shared()).displacements["pos"] for f in (features, doubled))
    assert relative(two, one) > 1e-4
    invariance.check_rotation_equivariance(denoiser, state, T, features.shared(), generator=seeded(0), tolerance=1e-10)


def test_bfloat16_autocast_is_close_to_full_precision(network, system, relative):
    features, state = system(8, seed=12)
    denoiser = network(dtype=torch.float32, scale=0.02)
    state, t = state.to(dtype=torch.float32), T.float()
    with torch.no_grad():
        full = denoiser(state, t, features.shared()).displacements["pos"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = denoiser(state, t, features.shared()).displacements["pos"]
    assert half.dtype == torch.float32
    assert 0.0 < relative(half, full) < 0.03


@pytest.mark.slow
def test_compiled_is_eager(network, system, relative):
    features, state = system(6, seed=13)
    denoiser = network(dtype=torch.float32)
    state, t = state.to(dtype=torch.float32), T.float()
    with torch.no_grad():
        eager = denoiser(state, t, features.shared()).displacements["pos"]
        denoiser.network.compile(dynamic=False)
        compiled = denoiser(state, t, features.shared()).displacements["pos"]
    assert relative(compiled, eager) < 1e-4


def test_layers_start_close_to_the_identity_and_the_output_near_one(process, system):
    """A fresh network has outputs of order one, not zero and not huge, so that the first loss is that of Gaussian data."""
    from equilibra.nn.molecule import PositionNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vocabulary = {"node_vocabulary": {"element": 6, "ring": 3}, "pair_vocabulary": {"bond": 3}}
        denoiser = NetworkDenoiser(PositionNetwork(GraphormerConfig(**vocabulary)), process).double()
    features, state = system(8, seed=14)
    with torch.no_grad():
        raw = denoiser.network({"pos": state.fields["pos"] / 1.3}, torch.zeros(1, 1, dtype=torch.float64), features.shared())[
            "pos"
        ]
    assert 1e-4 < float(raw.std()) < 1.0


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="multiple of heads"):
        GraphormerConfig(dim=10, heads=4)
    with pytest.raises(ConfigError, match="layers is 0"):
        GraphormerConfig(layers=0)
    with pytest.raises(ValueError, match="collate"):
        GraphInputs.read(Features(node={"element": torch.zeros(3, dtype=torch.int64)}), {"element": 2}, {})
