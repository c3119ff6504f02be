"""Energies with known answers, and the z-scores that judge the engines."""

import math

import torch

from equilibra.energies.energy import Energy


class Harmonic(Energy):
    """Independent wells with the spring constants (items, axes): variance 1/k, on the full space."""

    invariant = False

    def __init__(self, stiffness):
        self.stiffness = torch.as_tensor(stiffness, dtype=torch.float64)
        self.items, self.axes = self.stiffness.shape
        self.name = "harmonic"

    def energy(self, x):
        return 0.5 * (self.stiffness * x.square()).flatten(1).sum(1)

    @property
    def log_z(self):
        return float(0.5 * (2.0 * math.pi / self.stiffness).log().sum())


class Springs(Energy):
    """All pairs joined by springs k: on the mean-free space a Gaussian with the variance 1/(k items) per orthonormal coordinate."""

    def __init__(self, items=4, axes=3, k=0.7):
        self.items, self.axes, self.k, self.name = items, axes, k, "springs"

    def energy(self, x):
        return 0.5 * self.k * self.items * (x - x.mean(1, keepdim=True)).square().flatten(1).sum(1)

    @property
    def variance(self):
        return 1.0 / (self.k * self.items)

    @property
    def log_z(self):
        return 0.5 * self.degrees * math.log(2.0 * math.pi * self.variance)


class DoubleWell(Energy):
    """One coordinate in h (x^2 - 1)^2 + tilt x."""

    items, axes, invariant, name = 1, 1, False, "double well"

    def __init__(self, height=6.0, tilt=0.4):
        self.height, self.tilt = height, tilt

    def energy(self, x):
        x = x.flatten(1).squeeze(1)
        return self.height * (x.square() - 1.0).square() + self.tilt * x

    def right(self, beta=1.0):
        """Population of x > 0."""
        grid = torch.linspace(-3.0, 3.0, 20_001, dtype=torch.float64)
        density = (-beta * self.energy(grid[:, None, None])).exp()
        return float(density[grid > 0].sum() / density.sum())


class FourWells(Energy):
    """DW4: four particles in the plane, 0.9 (r - 4)^4 - 4 (r - 4)^2 per pair. log Z = 29.668 +- 0.004."""

    items, axes, name = 4, 2, "four double-well particles"

    def energy(self, x):
        first, second = torch.triu_indices(4, 4, 1)
        d = (x[:, first] - x[:, second]).norm(dim=-1) - 4.0
        return (0.9 * d.pow(4) - 4.0 * d.square()).sum(1)


def z_score(values, expected):
    """Distance of the mean of independent values from the truth, in standard errors."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return float((values.mean() - expected) / (values.std() / math.sqrt(len(values))))
