"""Exact distributions behind the interface that training calls."""

import torch

from equilibra.diffusion.schedule import Schedule
from equilibra.state import Features, State

NO_FEATURES = Features(node={"element": torch.zeros(1, 1, dtype=torch.int64)}, mask=torch.ones(1, 1, dtype=torch.bool))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


class Exact:
    """The exact denoiser of a distribution, as training calls it."""

    def __init__(self, distribution):
        self.distribution, self.process = distribution, distribution.process

    def __call__(self, state, t, features):
        return self.distribution(state, t)

    def log_density(self, state, t, features):
        return self.distribution.log_density(state, t)


class LinearVariance(Schedule):
    """A schedule with a given variance at a time and a constant rate: what a textbook case needs."""

    preserves_variance = False

    def __init__(self, variance, rate, at):
        self.variance, self.rate, self.at = variance, rate, at
        self.sigma_min, self.sigma_max = (variance - rate * at) ** 0.5, (variance + rate * (1 - at)) ** 0.5

    def sigma(self, t):
        return torch.sqrt(self.variance + self.rate * (t - self.at))

    def alpha(self, t):
        return torch.ones_like(t)

    def time(self, sigma):
        return (sigma**2 - self.variance) / self.rate + self.at


def exact_probes(process, state):
    """Probes whose mean of p J p is the trace: an orthonormal basis of all fields, one after the other, times the root of their number."""
    probes = []
    zero = {}
    for name in process.moving:
        space, x = process.fields[name].space, state.fields[name]
        zero[name] = space.from_frame(torch.zeros(len(x), space.frame_size(x), dtype=x.dtype), x, None)
    sizes = {name: process.fields[name].space.frame_size(state.fields[name]) for name in process.moving}
    total = sum(sizes.values())
    for name, size in sizes.items():
        for k in range(size):
            x = state.fields[name]
            one = torch.zeros(len(x), size, dtype=x.dtype)
            one[:, k] = total**0.5
            probes.append({**zero, name: process.fields[name].space.from_frame(one, x, None)})
    return probes


def state_of(*values, name="x"):
    return State({name: tensor(values)})
