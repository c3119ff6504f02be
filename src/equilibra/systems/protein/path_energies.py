"""Energies along a path of a protein: all atoms are built on each conformation, and relaxed with the backbone held."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equilibra.systems.protein.all_atom_ensemble import all_atom_ensemble
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.peptides import require_all_atom_form
from equilibra.systems.protein.relax import RelaxConfig
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import KCAL_PER_MOL_EV

ENGINE = "pdbfixer"
"""What places the side chains; see `all_atom`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PathEnergies:
    """Potential energies along a path, of one relaxed structure for each conformation.

    They are no free energies: one structure has no entropy but what an implicit solvent adds, and its side chains are a guess.

    Attributes:
        force_field: Name of the force field.
        built: Energies (steps,) of the structures as built, in eV, NaN where there is none; large where atoms overlap.
        relaxed: Energies (steps,) after relaxation, without the springs that hold the backbone, in eV; NaN where it failed.
        ca_moved: Root mean square displacement (steps,) of the C-alpha atoms by the relaxation, in Å.
        clashes: Pairs of heavy atoms that clash (steps, 2), as built and after relaxation.
        status: `relaxed`, `suspect` or `failed` (steps,); see `Relaxation`.
    """

    force_field: str
    built: np.ndarray
    relaxed: np.ndarray
    ca_moved: np.ndarray
    clashes: np.ndarray
    status: np.ndarray

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Values (steps,) by name, energies in kcal/mol."""
        return {
            "energy as built (kcal/mol)": self.built / KCAL_PER_MOL_EV,
            "energy relaxed (kcal/mol)": self.relaxed / KCAL_PER_MOL_EV,
            "C-alpha displacement (Å)": self.ca_moved,
            "clashes as built": self.clashes[:, 0],
            "clashes relaxed": self.clashes[:, 1],
            "relaxation": self.status,
        }

    def summary(self) -> str:
        """Returns a sentence on what was found."""
        text = ", ".join(
            f"{int((self.status == name).sum())} {name}" for name in ("relaxed", "suspect", "failed") if name in self.status
        )
        done = np.flatnonzero(np.isfinite(self.relaxed))
        if len(done):
            above = (self.relaxed - self.relaxed[done].min()) / KCAL_PER_MOL_EV
            text += f"; above the lowest, {above[0]:.0f} kcal/mol at A, {above[-1]:.0f} at B, {above[done].max():.0f} at most"
        return f"potential energies of {self.force_field}, backbone held: {text}"


def check_energy(system: ProteinSystem, force_field: str) -> RelaxConfig:
    """Checks that all atoms of a protein can be built, before any of them is needed; returns how to relax them.

    Raises:
        InputError: If the force field is unknown, or the protein has no all-atom form.
    """
    config = RelaxConfig(force_field=force_field)
    require_all_atom_form(system)
    return config


def path_energies(
    ensemble: ProteinEnsemble,
    config: RelaxConfig,
    *,
    folder: str | Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PathEnergies:
    """Builds and relaxes all atoms on each conformation of a path; see `all_atom_ensemble`.

    Arguments:
        ensemble: The conformations in their order.
        config: How to relax, from `check_energy`.
        folder: Where the all-atom structures go, and the finished blocks of an interrupted run; None to keep only the numbers.
        progress: Called with the finished conformations and their number.

    Raises:
        CheckpointError: If the folder holds the structures of another run.
        MissingDependencyError: If what places side chains is not installed.
    """
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder
        report = all_atom_ensemble(ensemble, place, engine=ENGINE, config=config, progress=progress).report
    return PathEnergies(
        force_field=config.force_field,
        built=report["energy_before"],
        relaxed=report["energy_after"],
        ca_moved=report["ca_rmsd"],
        clashes=np.stack([report["clashes_before"], report["clashes_after"]], axis=1),
        status=report["status"],
    )
