"""A model of a molecule without training: the exact denoiser of a Gaussian about its reference conformation."""

import torch

from equilibra.diffusion.denoiser import Prediction
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.molecule.domain import elements, identifier
from equilibra.systems.molecule.network import FIELD, molecule_process
from equilibra.systems.scope import Scope


class Gaussian:
    """The exact denoiser of a Gaussian about a conformation."""

    parametrisation = "edm"

    def __init__(self, system, width):
        self.process, self.width = molecule_process(1.4), width
        self.centre = torch.tensor(system.reference - system.reference.mean(axis=0)).float()
        self.conditions = set()

    def __call__(self, state, t, features):
        if "conditions" in features.graph:
            self.conditions.add(round(float(features.graph["conditions"]), 6))
        variance = self.process.sigma(FIELD, t)[:, None, None].float() ** 2
        return Prediction({FIELD: (self.centre - state.fields[FIELD]) * variance / (variance + self.width**2)})


def make(system, width=0.02, steps=15, **scope):
    """The model; its samples have the width in Å."""
    known = {"systems": (identifier(system),), "elements": elements([system]), "temperature": 300.0}
    return Model(
        name="exact",
        domain="molecule",
        denoiser=Gaussian(system, width),
        network={},
        sampler=SamplerConfig(grid=GridConfig(steps=steps, end="flow")),
        scope=Scope(**{**known, **scope}),
        card=Card(summary="For tests.", not_good_for="Anything else."),
    )
