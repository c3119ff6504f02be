"""Fixed conditions folded into the weights: the same outputs as those of the network that is told them."""

import math

import pytest
import torch

from equilibra.errors import ConfigError, ShapeError
from equilibra.nn.fold_conditions import fold_conditions
from equilibra.nn.frames import FrameNetwork, FrameNetworkConfig, FramePotentialNetwork
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork, PotentialNetwork
from equilibra.state import Features
from equilibra.testing.invariance import randomise_parameters_

SIZE = {"dim": 16, "pair_dim": 8, "layers": 2, "heads": 4, "basis": 8, "channels": 4}
VOCABULARY = {"node_vocabulary": {"element": 6}, "pair_vocabulary": {"bond": 3}, **SIZE}
KINDS = {
    "positions": (PositionNetwork, GraphormerConfig),
    "potential": (PotentialNetwork, GraphormerConfig),
    "frames": (FrameNetwork, FrameNetworkConfig),
    "frame potential": (FramePotentialNetwork, FrameNetworkConfig),
}


def made(kind, conditions):
    network, config = KINDS[kind]
    return network(config(conditions=conditions, **VOCABULARY))


def outputs(network, inputs, levels, features):
    """All numbers that a network returns, in one tensor."""
    with torch.no_grad():
        found = network(inputs, levels, features)
    parts = [found] if isinstance(found, dict) else [found[0], {"offset": found[1]}]
    return torch.cat([value.flatten() for part in parts for value in part.values()])


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [(math.log(1.37),), (-0.4, 2.0, 0.7)])
def test_the_outputs_are_those_at_the_conditions(kind, values, dtype, most):
    g = torch.Generator().manual_seed(len(values))
    told = made(kind, len(values))
    randomise_parameters_(told, generator=g, scale=0.1)
    told = told.to(dtype)
    before = {name: value.clone() for name, value in told.state_dict().items()}
    plain = made(kind, 0).to(dtype)
    # strict: every weight is there, and none of the conditions
    plain.load_state_dict(fold_conditions(told, values))
    assert all(torch.equal(value, before[name]) for name, value in told.state_dict().items())

    node, pair = torch.randint(6, (5,), generator=g), torch.randint(3, (5, 5), generator=g)
    features = Features(node={"element": node}, pair={"bond": torch.maximum(pair, pair.T)}).shared()
    x = torch.randn(3, 5, 3, generator=g, dtype=dtype)
    rot = torch.linalg.qr(torch.randn(3, 5, 3, 3, generator=g, dtype=dtype))[0]
    inputs = {"pos": x, "trans": x, "rot": rot * torch.linalg.det(rot)[..., None, None]}
    levels = torch.randn(3, told.config.levels, generator=g, dtype=dtype)

    expected = outputs(told, inputs, levels, features.conditioned(values))
    got = outputs(plain, inputs, levels, features)
    elsewhere = outputs(told, inputs, levels, features.conditioned([value + 0.5 for value in values]))
    scale = float(expected.abs().max())
    assert float((got - expected).abs().max()) < most * scale
    assert float((elsewhere - expected).abs().max()) > 1e-3 * scale


def test_a_network_of_other_conditions_is_refused():
    with pytest.raises(ConfigError, match="PositionNetwork: it has no conditions"):
        fold_conditions(made("positions", 0), (0.0,))
    with pytest.raises(ShapeError, match=r"conditions of the network: got shape \(2,\), expected \(1,\)"):
        fold_conditions(made("frames", 1), (0.0, 1.0))
