"""A small protein in extended conformations, its files, and an exact model of it, for the commands."""

from extended_protein import atoms, bind
from extended_protein import system as protein_of

from equilibra.systems.protein.ensemble import ProteinEnsemble

SEQUENCE = "GYDPETGTWG"


def system(source=SEQUENCE):
    """The system of a sequence."""
    return protein_of(source)


def frames_of(system, frames, *, seed=0, width=0.02):
    """Written atoms (F, atoms, 3) about the extended chain, their C-alpha atoms with Gaussian noise."""
    return atoms(system, frames, trans=width, seed=seed)


def ensemble_of(system, frames, *, seed=0, width=0.02, **provenance):
    """An ensemble of such frames."""
    return ProteinEnsemble(system=system, positions=frames_of(system, frames, seed=seed, width=width), provenance=provenance)


__all__ = ["SEQUENCE", "bind", "ensemble_of", "frames_of", "system"]
