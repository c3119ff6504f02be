"""Each check passes for a network that has the symmetry and fails for one that is broken in that way alone."""

import pytest
import torch
from torch import nn

from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, CentredEuclidean, SymmetricMatrices
from equilibra.geometry import so3
from equilibra.state import Features, State
from equilibra.testing.invariance import (
    check_batch_composition,
    check_chirality,
    check_finite_gradients,
    check_network,
    check_permutation_equivariance,
    check_rotation_equivariance,
    check_translation_invariance,
    randomise_parameters_,
    relative_errors,
)

SCHEDULE = VarianceExploding(sigma_min=0.05, sigma_max=5.0)
PROCESS = Process({"pos": Field(space=CentredEuclidean(), schedule=SCHEDULE)})


class Particles(nn.Module):
    """Pairwise vectors weighted by learned functions of distances, and a chiral cross product; `broken` spoils one symmetry."""

    def __init__(self, broken=""):
        super().__init__()
        self.broken = broken
        self.embed = nn.Embedding(4, 8)
        self.pair = nn.Sequential(nn.Linear(18, 16), nn.SiLU(), nn.Linear(16, 1))
        self.turn = nn.Parameter(torch.zeros(1))
        if broken == "gradient":
            self.idle = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, levels, features):
        x, mask = inputs["pos"], features.mask.to(inputs["pos"].dtype)
        h = self.embed(features.node["element"]) + levels[:, :, None].mean(1, keepdim=True).to(x.dtype)
        if self.broken == "permutation":
            h = h + torch.arange(x.shape[1], dtype=x.dtype)[None, :, None]
        difference = x[:, :, None] - x[:, None]
        distance = difference.square().sum(-1, keepdim=True)
        n = x.shape[1]
        ends = [h[:, :, None].expand(-1, -1, n, -1), h[:, None].expand(-1, n, -1, -1)]
        both = torch.cat([*ends, distance, torch.sqrt(distance + 1e-6)], dim=-1)
        weight = self.pair(both) * mask[:, None, :, None] * mask[:, :, None, None]
        out = (weight * difference).sum(2)
        if self.broken == "batch":
            out = out + 0.1 * out.mean((0, 1), keepdim=True)
        if self.broken == "padding":
            out = out + 0.1 * difference.abs().mean(2) * out
        if self.broken == "rotation":
            out = out * torch.tensor([1.0, 1.0, 1.01], dtype=x.dtype)
        if self.broken == "translation":
            out = out + 0.01 * x.square().sum(-1, keepdim=True) * out
        if self.broken != "mirror":
            other = (distance.detach() * weight * difference).sum(2)
            sign = features.node["chiral_sign"].to(x.dtype)[..., None] * self.turn
            out = out + sign * torch.linalg.cross(out, other)
        if self.broken == "gradient-nan":
            out = out * (1.0 + (self.turn - self.turn.detach()).abs().sqrt())
        return {"pos": out}


def system(tokens, seed):
    g = torch.Generator().manual_seed(seed)
    sign = torch.zeros(tokens)
    sign[1] = 1.0
    features = Features(node={"element": torch.randint(4, (tokens,), generator=g), "chiral_sign": sign})
    x = torch.randn(1, tokens, 3, generator=g, dtype=torch.float64)
    return State({"pos": x - x.mean(1, keepdim=True)}), features


def network(broken="", dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = Particles(broken)
    randomise_parameters_(inner, generator=torch.Generator().manual_seed(1))
    return NetworkDenoiser(inner, PROCESS).to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


SYSTEMS = [system(5, 0), system(7, 1), system(4, 2)]
STATE, FEATURES = SYSTEMS[0][0], Features.collate([SYSTEMS[0][1]])
T = torch.tensor([0.4], dtype=torch.float64)
TS = torch.tensor([0.4, 0.1, 0.9], dtype=torch.float64)
CHECKS = {
    "rotation": lambda d: check_rotation_equivariance(d, STATE, T, FEATURES, generator=seeded()),
    "translation": lambda d: check_translation_invariance(d, STATE, T, FEATURES, generator=seeded()),
    "permutation": lambda d: check_permutation_equivariance(d, STATE, T, FEATURES, generator=seeded()),
    "batch": lambda d: check_batch_composition(d, [s for s, _ in SYSTEMS], TS, [f for _, f in SYSTEMS]),
    "padding": lambda d: check_batch_composition(d, [s for s, _ in SYSTEMS], TS, [f for _, f in SYSTEMS]),
    "mirror": lambda d: check_chirality(d, STATE, T, FEATURES),
    "gradient": lambda d: check_finite_gradients(d, STATE, T, FEATURES),
    "gradient-nan": lambda d: check_finite_gradients(d, STATE, T, FEATURES),
}
MESSAGES = {
    "rotation": "rotation equivariance: largest relative error",
    "translation": "translation invariance: largest relative error",
    "permutation": "permutation equivariance: largest relative error",
    "batch": "batch composition, system 0: largest relative error",
    "padding": "batch composition, system 0: largest relative error",
    "mirror": "commutes with a reflection",
    "gradient": "does not depend on: network.idle",
    "gradient-nan": "gradients: not finite",
}


@pytest.mark.parametrize("name", list(CHECKS))
def test_check_passes_for_a_good_network(name):
    CHECKS[name](network())


@pytest.mark.parametrize("name", list(CHECKS))
def test_check_fails_for_a_broken_network(name):
    with pytest.raises(AssertionError, match=MESSAGES[name]):
        CHECKS[name](network(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_suite(dtype):
    states, features = [s.to(dtype=dtype) for s, _ in SYSTEMS], [f for _, f in SYSTEMS]
    check_network(network(dtype=dtype), states, features, generator=seeded(3))
    with pytest.raises(AssertionError, match="rotation"):
        check_network(network("rotation", dtype), states, features, generator=seeded(3))


def test_zero_output_is_refused():
    d = network()
    with torch.no_grad():
        for p in d.parameters():
            p.zero_()
    zero = NetworkDenoiser(d.network, PROCESS, parametrisation="eps")
    with pytest.raises(AssertionError, match="randomise_parameters_"):
        check_rotation_equivariance(zero, STATE, T, FEATURES, generator=seeded())


class Frames(nn.Module):
    """Tangent vectors and a symmetric matrix made of rotations: global-frame vectors turn, body-frame ones would not."""

    def __init__(self, body=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.body = body

    def forward(self, inputs, levels, features):
        r, cell = inputs["rot"], inputs["cell"]
        v = (r * self.weight.to(r)).sum(-1)
        if self.body:
            v = torch.einsum("bnij,bni->bnj", r, v)
        outer = v[:, 0, :, None] * v[:, 0, None, :]
        return {"rot": v, "cell": outer + cell @ cell}


def test_rotations_and_lattices_turn_as_they_should():
    process = Process(
        {"rot": Field(space=SO3(), schedule=SCHEDULE), "cell": Field(space=SymmetricMatrices(), schedule=SCHEDULE)}
    )
    cell = torch.randn(1, 3, 3, generator=seeded(2), dtype=torch.float64)
    state = State({"rot": so3.uniform((1, 4), generator=seeded(1), dtype=torch.float64), "cell": cell + cell.transpose(1, 2)})
    features = Features(node={"kind": torch.zeros(1, 4)}, mask=torch.ones(1, 4, dtype=torch.bool))
    check_rotation_equivariance(NetworkDenoiser(Frames(), process), state, T, features, generator=seeded(4))
    with pytest.raises(AssertionError, match="rotation equivariance"):
        check_rotation_equivariance(NetworkDenoiser(Frames(body=True), process), state, T, features, generator=seeded(4))
    with pytest.raises(AssertionError, match="nothing to check"):
        check_translation_invariance(NetworkDenoiser(Frames(), process), state, T, features, generator=seeded(4))


def test_permutation_remaps_token_numbers():
    """A feature that names tokens must be renumbered with them."""

    class Pointer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, inputs, levels, features):
            index = features.node["partner"][..., None].expand(-1, -1, 3)
            return {"pos": self.weight * (torch.gather(inputs["pos"], 1, index) - inputs["pos"])}

    features = Features(node={"partner": torch.tensor([[1, 2, 3, 4, 0]])}, mask=torch.ones(1, 5, dtype=torch.bool))
    denoiser = NetworkDenoiser(Pointer(), PROCESS)
    check_permutation_equivariance(denoiser, STATE, T, features, generator=seeded(5), index_features=("partner",))
    with pytest.raises(AssertionError, match="permutation equivariance"):
        check_permutation_equivariance(denoiser, STATE, T, features, generator=seeded(5))


def test_relative_errors():
    got = relative_errors({"a": torch.tensor([1.0, 2.2])}, {"a": torch.tensor([1.0, 2.0])})
    assert got["a"] == pytest.approx(0.1, rel=1e-5)
