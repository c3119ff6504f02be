"""A model of adsorbed atoms without training: the exact denoiser of independent Gaussians about given places, periodic in the plane."""

import itertools

import torch

from equilibra.diffusion.denoiser import Prediction
from equilibra.nn.surface import POSITIONS
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.adsorbate.domain import elements, identifier
from equilibra.systems.adsorbate.network import adsorbate_process
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope


class WrappedGaussian:
    """The exact denoiser: the mean over all images of the places, by their share of the likelihood."""

    parametrisation = "edm"

    def __init__(self, system, centre, width):
        self.process, self.width = adsorbate_process(), width
        self.centre = torch.as_tensor(centre, dtype=torch.float32)
        shifts = torch.tensor(list(itertools.product(range(-9, 10), repeat=2)), dtype=torch.float64)
        self.images = torch.zeros(len(shifts), 3)
        self.images[:, :2] = (shifts @ system.plane).float()

    def __call__(self, state, t, features):
        noise = self.process.sigma(POSITIONS, t)[:, None, None].float() ** 2
        total = noise + self.width**2
        away = (self.centre - state.fields[POSITIONS])[:, :, None] + self.images
        share = torch.softmax(-0.5 * away.square().sum(-1) / total, dim=-1)
        return Prediction({POSITIONS: (share[..., None] * away).sum(2) * noise / total})


def make(system, centre, width=0.05, steps=40):
    """The model; its samples have the width in Å about the places (atoms, 3), whose heights are relative to the system's level."""
    return Model(
        name="exact",
        domain="adsorbate",
        denoiser=WrappedGaussian(system, centre, width),
        network={},
        sampler=SamplerConfig(grid=GridConfig(steps=steps, end="flow")),
        scope=Scope(systems=(identifier(system),), elements=elements([system]), temperature=300.0),
        card=Card(summary="For tests.", not_good_for="Anything else."),
    )
