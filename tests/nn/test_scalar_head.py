import pytest
import torch

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.errors import ConfigError
from equilibra.geometry import so3
from equilibra.nn.graphormer import Graphormer, GraphormerConfig
from equilibra.nn.molecule import PositionNetwork, PotentialNetwork
from equilibra.state import Features, State
from equilibra.testing import invariance

SIZE = {"dim": 16, "pair_dim": 8, "layers": 2, "heads": 4, "basis": 8, "channels": 4}
CONFIG = GraphormerConfig(node_vocabulary={"element": 6, "ring": 3}, pair_vocabulary={"bond": 3}, **SIZE)
T = torch.tensor([0.35], dtype=torch.float64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def potential(process):
    """A conservative denoiser with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = PotentialNetwork(CONFIG)
    invariance.randomise_parameters_(inner, generator=seeded(1), scale=0.1)
    return ConservativeDenoiser(inner, process).double()


def test_all_checks_of_a_conservative_denoiser(potential, system):
    systems = [system(n, seed=n) for n in (7, 5, 6)]
    invariance.check_network(
        potential,
        [state for _, state in systems],
        [features for features, _ in systems],
        generator=seeded(1),
        index_features=("chiral_neighbours",),
        tolerance=1e-9,
    )


def test_the_log_density_is_invariant(potential, system):
    features, state = system(6, seed=2)
    x = state.fields["pos"]
    order = torch.tensor([5, 3, 0, 1, 4, 2])
    place = torch.argsort(order)
    node = {k: v[order] for k, v in features.node.items()}
    node["chiral_neighbours"] = place[node["chiral_neighbours"]]
    renumbered = Features(node=node, pair={k: v[order][:, order] for k, v in features.pair.items()})
    q = so3.uniform((), generator=seeded(3), dtype=torch.float64)
    plain = potential.log_density(state, T, features.shared())
    torch.testing.assert_close(potential.log_density(State({"pos": x @ q.T + 4.0}), T, features.shared()), plain)
    torch.testing.assert_close(potential.log_density(State({"pos": x[:, order]}), T, renumbered.shared()), plain)
    collated = Features.collate([features], tokens=9)
    wide = State({"pos": torch.cat([x, torch.zeros(1, 3, 3)], 1)}, {"pos": collated.mask})
    torch.testing.assert_close(potential.log_density(wide, T, collated), plain)


@pytest.mark.parametrize("coinciding", [False, True])
def test_second_derivatives_are_finite_and_right(potential, system, coinciding):
    features, state = system(5, seed=4)
    x = state.fields["pos"].clone()
    if coinciding:
        x[:, 1] = x[:, 0]
    x.requires_grad_(True)
    v = torch.randn(x.shape, generator=seeded(5), dtype=torch.float64)

    def push(at):
        return (potential(State({"pos": at}), T, features.shared()).displacements["pos"] * v).sum()

    (along,) = torch.autograd.grad(push(x), x)
    assert torch.isfinite(along).all()
    if not coinciding:
        numeric = (push((x + 1e-5 * v).detach()) - push((x - 1e-5 * v).detach())) / 2e-5
        torch.testing.assert_close((along * v).sum(), numeric, rtol=1e-6, atol=0.0)


def test_names_of_position_networks_are_what_they_were():
    network = PositionNetwork(CONFIG)
    names = set(network.state_dict())
    assert {"trunk.head.weights.weight", "trunk.norm.weight", "trunk.stack.0.attention.qkv.weight"} <= names
    trunk = {name for name in names if not name.startswith("trunk.head.")}
    others = set(PotentialNetwork(CONFIG).state_dict())
    assert trunk == {name for name in others if name.startswith("trunk.")}


def test_a_trunk_without_vectors_says_so():
    with pytest.raises(ConfigError, match="without a head of vectors"):
        Graphormer(CONFIG, vectors=False)(torch.zeros(1, 2, 3), torch.zeros(1, 1), None)
