import math

import pytest
import torch

from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork
from equilibra.state import Features, State
from equilibra.testing.invariance import randomise_parameters_

SIZE = {"dim": 16, "pair_dim": 8, "layers": 2, "heads": 4, "basis": 8, "channels": 4}
NODE, PAIR = {"element": 6, "ring": 3}, {"bond": 3}


@pytest.fixture(scope="session")
def process():
    schedule = VarianceExploding(sigma_min=0.01, sigma_max=10.0)
    return Process({"pos": Field(space=CentredEuclidean(), schedule=schedule, data_scale=1.3)})


@pytest.fixture(scope="session")
def system():
    """Makes one system of a given number of tokens with a stereo-centre, and its clean positions."""

    def make(tokens, seed, *, chiral=True, extra=0):
        g = torch.Generator().manual_seed(seed)
        bond = torch.randint(3, (tokens, tokens), generator=g)
        neighbours, sign = torch.zeros(tokens, 3, dtype=torch.int64), torch.zeros(tokens)
        if chiral:
            neighbours[1], sign[1] = torch.tensor([0, 2, 3]), 1.0
        node = {name: torch.randint(size, (tokens,), generator=g) for name, size in NODE.items()}
        node |= {"chiral_neighbours": neighbours, "chiral_sign": sign}
        if extra:
            node["extra"] = torch.randn(tokens, extra, generator=g, dtype=torch.float64)
        features = Features(node=node, pair={"bond": torch.maximum(bond, bond.T)})
        x = 1.3 * torch.randn(1, tokens, 3, generator=g, dtype=torch.float64)
        return features, State({"pos": x - x.mean(1, keepdim=True)})

    return make


@pytest.fixture(scope="session")
def network(process):
    """Makes a denoiser with random weights."""

    def make(seed=0, dtype=torch.float64, scale=0.1, **changes):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inner = PositionNetwork(GraphormerConfig(node_vocabulary=NODE, pair_vocabulary=PAIR, **{**SIZE, **changes}))
        randomise_parameters_(inner, generator=torch.Generator().manual_seed(seed + 1), scale=scale)
        return NetworkDenoiser(inner, process).to(dtype)

    return make


@pytest.fixture(scope="session")
def relative():
    """Largest difference in units of the largest expected value."""

    def difference(got, expected):
        assert torch.isfinite(got).all()
        assert not math.isclose(float(expected.abs().max()), 0.0)
        return float((got - expected).abs().max() / expected.abs().max())

    return difference
