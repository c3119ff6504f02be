"""A small protein in extended conformations, and a model of it without training, for the tests of this folder."""

import dataclasses

import numpy as np
import torch

from equilibra.diffusion.denoiser import BoundDenoiser, Prediction
from equilibra.geometry import so3
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.protein.frames import extended_frames, written_atoms
from equilibra.systems.protein.network import protein_denoiser, protein_network_config, protein_process
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.scope import Scope

SEQUENCE = "GYDPETGTWGAK"
SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "points": 2, "pair_value": 4}


def extended(system, frames=1, *, trans=0.0, rot=0.0, seed=0):
    """Frames (F, L, 3) and (F, L, 3, 3) about the extended chain, with Gaussian noise of a width in Å and in rad."""
    x, r = (value[0].numpy() for value in extended_frames(system))
    rng = np.random.default_rng(seed)
    noise = so3.exp(torch.from_numpy(rot * rng.normal(size=(frames, *x.shape)))).numpy()
    return x + trans * rng.normal(size=(frames, *x.shape)), noise @ r


def atoms(system, frames=1, **noise):
    """Written atoms (F, atoms, 3) of such frames."""
    return written_atoms(*extended(system, frames, **noise), system)


def tiny_model(*, transferable=False, sequence=SEQUENCE, **size):
    """An untrained model with a sampler of five steps."""
    config = protein_network_config(**SIZE | size)
    return Model(
        name="tiny",
        domain="protein",
        denoiser=protein_denoiser(protein_process(8.0), config, seed=0).requires_grad_(False).eval(),
        network=dataclasses.asdict(config),
        sampler=SamplerConfig(grid=GridConfig(steps=5)),
        scope=Scope(systems=(sequence,), temperature=300.0, transferable=transferable),
        card=Card(summary="A model for tests.", not_good_for="Anything at all."),
    )


def bind(self, system, **options):
    """Replaces `Model.bind`: the exact score of the extended chain alone, whose noise at the end is that of the schedule."""
    trans, rot = extended_frames(system)
    clean = {"trans": trans.float(), "rot": rot.float()}

    def function(state, t, features):
        found = {}
        for name, field in self.process.fields.items():
            x = state.fields[name]
            found[name] = field.space.kernel_displacement(clean[name].expand_as(x), x, field.schedule.sigma(t))
        return Prediction(found)

    return BoundDenoiser(self.process, function, system.features.shared())


def system(source=SEQUENCE):
    """The system of a sequence."""
    return protein_system(source)
