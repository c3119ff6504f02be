"""Correct where the release is wrong: on frames with exact scores our samplers give the widths and weights of the law, the released rule does not."""

import math

import pytest
import torch
from released import ExactFrames, random_features, seeded

from equilibra.geometry import so3
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import integrate
from equilibra.systems.protein.dig_release.checkpoint import SAMPLER
from equilibra.systems.protein.dig_release.denoiser import DigReleaseDenoiser, released_process

N = 800
SAMPLERS = {
    "default": SAMPLER,
    "heun": SamplerConfig(name="heun", grid=GridConfig(steps=20)),
    "sde": SamplerConfig(name="sde", grid=GridConfig(steps=120)),
}


@pytest.fixture(scope="module")
def network():
    return ExactFrames().requires_grad_(False)


def statistics(network, trans, rot):
    """Share of the first state, and in each state the width of the positions and the rms angle to the centre."""
    gap = network.means[0] - network.means[1]
    first = ((trans * gap).sum((1, 2)) > 0).long()
    found = [float(first.double().mean())]
    for label, chosen in ((0, first == 1), (1, first == 0)):
        shift = trans[chosen] - network.means[label]
        turn = so3.angle(rot[chosen] @ network.rotations[label].transpose(-1, -2))
        # six directions are free of the centre
        found += [float((shift.square().sum((1, 2)) / 6.0).mean().sqrt()), float(turn.square().mean().sqrt())]
    return found


def exact_statistics(network):
    state = network.law.sample(20 * N, generator=seeded(9))
    return statistics(network, state.fields["trans"], state.fields["rot"])


def released_rule(network, n, steps=250):
    """The release's own sampler from the same start: full drifts, no noise, uniform in time; rotations as Q = R^T."""
    start = network.law.sample_noised(n, 1.0, generator=seeded(6))
    trans, q = start.fields["trans"], start.fields["rot"].transpose(-1, -2)
    for step in range(steps):
        t = torch.full((n,), 1.0 - step / steps, dtype=torch.float64)
        score_t, score_q = network.scores(trans, q, t)
        sigma_t, sigma_r = 0.1 ** (1.0 - t[0]) * 35.0 ** t[0], 0.02 ** (1.0 - t[0]) * 1.65 ** t[0]
        trans = trans + 2.0 * math.log(35.0 / 0.1) / steps * sigma_t**2 * score_t
        q = so3.exp(2.0 * 2.0 * math.log(1.65 / 0.02) / steps * sigma_r**2 * score_q) @ q
    return trans, q.transpose(-1, -2)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_weights_and_widths(network, name):
    denoiser = DigReleaseDenoiser(network, released_process()).bind(random_features(3))
    # the law has a mean, unlike those of proteins in every orientation: the start is that of the law
    start = network.law.sample_noised(N, 1.0, generator=seeded(6))
    levels = noise_grid(denoiser.process, SAMPLERS[name].grid)
    state = integrate(SAMPLERS[name].make(), denoiser, start, levels, generator=seeded(5))
    found = statistics(network, state.fields["trans"], state.fields["rot"])
    exact = exact_statistics(network)
    assert abs(found[0] - 0.7) < 4.0 * math.sqrt(0.21 / N), found
    assert found[1:] == pytest.approx(exact[1:], rel=0.05), (found, exact)


def test_the_released_rule_fails_the_same_assertions(network):
    found, exact = statistics(network, *released_rule(network, N // 2)), exact_statistics(network)
    assert found[0] - 0.7 > 4.0 * math.sqrt(0.42 / N), found
    assert all(value < 0.3 * right for value, right in zip(found[1:], exact[1:], strict=True)), (found, exact)
