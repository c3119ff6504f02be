"""A small protein in extended conformations, its files, and an exact model of it, for the commands."""

import numpy as np

from equilibra.diffusion.denoiser import BoundDenoiser, Prediction
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import extended_frames, written_atoms
from equilibra.systems.protein.sources import protein_system

SEQUENCE = "GYDPETGTWG"


def frames_of(system, frames, *, seed=0, width=0.02):
    """Written atoms (F, atoms, 3) about the extended chain, their C-alpha atoms with Gaussian noise."""
    trans, rot = (np.repeat(value.numpy(), frames, axis=0) for value in extended_frames(system))
    return written_atoms(trans + width * np.random.default_rng(seed).normal(size=trans.shape), rot, system)


def ensemble_of(system, frames, *, seed=0, width=0.02, **provenance):
    """An ensemble of such frames."""
    return ProteinEnsemble(system=system, positions=frames_of(system, frames, seed=seed, width=width), provenance=provenance)


def bind(self, system, **options):
    """Replaces `Model.bind`: the exact score of the extended chain alone."""
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


__all__ = ["SEQUENCE", "bind", "ensemble_of", "frames_of", "system"]
