"""A model of alanine dipeptide without training: files of a tiny network, and an exact denoiser that replaces it where samples must be valid."""

import sys
from pathlib import Path

import torch

from equilibra.diffusion.denoiser import BoundDenoiser, Prediction
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.molecule import molecule_system
from equilibra.systems.molecule.domain import elements, identifier
from equilibra.systems.molecule.network import FIELD, molecule_denoiser, molecule_network_config, molecule_process
from equilibra.systems.scope import Scope

WIDTH = 0.01  # Å, of the Gaussian about the reference conformation


def tiny_model(folder, source="ACE-ALA-NME"):
    """Writes an untrained model with a sampler of three steps."""
    import dataclasses

    system = molecule_system(source)
    config = molecule_network_config(dim=16, pair_dim=8, layers=1, heads=2, basis=8, channels=2)
    model = Model(
        name="tiny",
        domain="molecule",
        denoiser=molecule_denoiser(molecule_process(1.4), config, seed=0),
        network=dataclasses.asdict(config),
        sampler=SamplerConfig(grid=GridConfig(steps=3)),
        scope=Scope(systems=(identifier(system),), elements=elements([system]), temperature=300.0),
        card=Card(summary="A model for tests.", not_good_for="Anything at all."),
    )
    return model.save(folder)


def bind(self, system, *, temperature=None, compile=False, precision="fp32"):
    """Replaces `Model.bind`: the denoiser of a Gaussian about the system's reference conformation, exact at every noise level."""
    centred = torch.from_numpy(system.reference - system.reference.mean(axis=0)).float()

    def function(state, t, features):
        sigma = self.process.sigma(FIELD, t)[:, None, None].to(torch.float32)
        x = state.fields[FIELD]
        return Prediction({FIELD: (centred - x) * sigma**2 / (sigma**2 + WIDTH**2)})

    return BoundDenoiser(self.process, function, system.features.shared())


if __name__ == "__main__":
    # the command line with the exact denoiser, for tests that kill it
    torch.set_num_threads(1)
    Model.bind = bind
    from equilibra.cli.main import main

    sys.argv = ["equilibra", *sys.argv[1:]]
    main()

HERE = Path(__file__)
