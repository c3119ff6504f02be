import pytest
import torch
from torch import nn

from equilibra.nn.frames import FrameNetwork, FrameNetworkConfig
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork
from equilibra.nn.normalisation import LayerNorm


@pytest.mark.parametrize("t", [-0.4, 0.7])
def test_derivatives_of_every_order_are_exact(t):
    r"""Of (t, 0) with eps = 1/4 the first component is t / sqrt(1 + t²), whose derivatives are known; PyTorch's own fails from the third on."""
    root = (1.0 + t**2) ** -0.5
    exact = [root**3, -3.0 * t * root**5, (12.0 * t**2 - 3.0) * root**7, (45.0 * t - 60.0 * t**3) * root**9]
    found = {}
    for kind in (LayerNorm, nn.LayerNorm):
        x = torch.tensor(t, dtype=torch.float64, requires_grad=True)
        y = kind(2, eps=0.25, elementwise_affine=False)(torch.stack([x, torch.zeros_like(x)])[None])[0, 0]
        assert float(y.detach()) == pytest.approx(t * root, rel=1e-12)
        found[kind] = []
        for _ in exact:
            (y,) = torch.autograd.grad(y, x, create_graph=True)
            found[kind].append(float(y.detach()))
    assert found[LayerNorm] == pytest.approx(exact, rel=1e-10)
    assert found[nn.LayerNorm][:2] == pytest.approx(exact[:2], rel=1e-10)


def test_it_is_the_same_function_as_pytorchs_with_and_without_gradients():
    generator = torch.Generator().manual_seed(0)
    own, theirs = LayerNorm(7), nn.LayerNorm(7)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    theirs.load_state_dict(own.state_dict())
    x = 3.0 + torch.randn(4, 5, 7, generator=generator)
    with torch.no_grad():
        assert torch.equal(own(x), theirs(x))
    x.requires_grad_(True)
    torch.testing.assert_close(own(x), theirs(x))
    gradients = [torch.autograd.grad(kind(x).square().sum(), [x, *kind.parameters()]) for kind in (own, theirs)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = x.to(torch.bfloat16)
        assert torch.equal(own(half), theirs(half))


def test_networks_have_no_other():
    frames = FrameNetworkConfig(node_vocabulary={"a": 2}, pair_vocabulary={"b": 2}, extra_node=3, extra_pair=3)
    for network in (FrameNetwork(frames), PositionNetwork(GraphormerConfig())):
        kinds = [type(module) for module in network.modules() if isinstance(module, nn.LayerNorm)]
        assert kinds
        assert set(kinds) == {LayerNorm}
