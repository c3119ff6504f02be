"""The crystal's domain, as a Model uses it: input, network, scope, checks and ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from equilibra.configuration import read_fields
from equilibra.diffusion.denoiser import Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Process
from equilibra.energies.energy import Energy
from equilibra.errors import InputError
from equilibra.nn.crystal import CELL, FRAC, CrystalNetworkConfig
from equilibra.state import State
from equilibra.systems.blocks import Block
from equilibra.systems.crystal.ensemble import CrystalEnsemble, sample_positions
from equilibra.systems.crystal.formula import formula_of, symbols
from equilibra.systems.crystal.network import crystal_denoiser
from equilibra.systems.crystal.properties import coordinates, crystal_properties
from equilibra.systems.crystal.sources import crystal_systems
from equilibra.systems.crystal.structures import cells_of
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.crystal.validity import check
from equilibra.systems.properties import Maker
from equilibra.systems.scope import Scope

WITH_GRADIENTS = 100
"""Samples whose gradients are held in memory at once by default."""

_SHOWN = 8  # formulas of a scope that a message names


def systems(source: Any) -> list[CrystalSystem]:
    """Reads the compositions of a source; see `crystal_systems`."""
    return crystal_systems(source)


def denoiser(
    process: Process, network: Mapping[str, Any], parametrisation: Parametrisation | Literal["energy"]
) -> TrainedDenoiser:
    """Makes the denoiser from the JSON form of its network."""
    return crystal_denoiser(process, read_fields(CrystalNetworkConfig, network), parametrisation=parametrisation)


def meant(source: Any, scope: Scope) -> Any:
    """Returns the source as it is: a formula has one meaning."""
    return source


def template(system: CrystalSystem, n: int) -> State:
    """Makes a State with the shapes of n samples."""
    return State({FRAC: torch.zeros(n, system.atoms, 3), CELL: torch.eye(3).repeat(n, 1, 1)})


def identifier(system: CrystalSystem) -> str:
    """Returns the formula by which a scope names a composition."""
    return system.formula


def check_scope(system: CrystalSystem, scope: Scope, name: str) -> None:
    """Checks that a model was trained for a composition; for any of its elements and numbers of atoms, if it is transferable.

    Raises:
        InputError: If the model has not seen the composition and is not meant for others.
    """
    if identifier(system) in scope.systems:
        return
    counts = [count for count, _ in scope.atoms]
    unknown = sorted(set(system.numbers) - set(scope.elements))
    if scope.transferable and not unknown and counts and min(counts) <= system.atoms <= max(counts):
        return
    if unknown:
        known = symbols()
        what = f"has {formula_of(unknown)}, but the model '{name}' was trained on {', '.join(known[z] for z in scope.elements)} only"
    elif scope.transferable:
        what = f"has {system.atoms} atoms, but the model '{name}' was trained on cells of {min(counts)} to {max(counts)} atoms"
    else:
        others = len(scope.systems) - _SHOWN
        shown = ", ".join(scope.systems[:_SHOWN])
        what = f"is {system.formula}, but the model '{name}' was trained on {shown}{f' and {others} others' if others > 0 else ''} only"
    raise InputError(
        f"{system.name}: {what}; train a model for it, or allow it with --outside-scope, when nothing is known of the result"
    )


def check_features(system: CrystalSystem, network: Mapping[str, Any], name: str) -> None:
    """Passes: a composition has all that a network of crystals reads."""


def fitting_batch(
    system: CrystalSystem, network: Mapping[str, Any], wanted: int | None, most: int, gradients: bool = False
) -> int:
    """Returns the wanted batch size, by default as many as are drawn at once: cells are small; with gradients at most `WITH_GRADIENTS` samples."""
    return wanted or (min(most, WITH_GRADIENTS) if gradients else most)


def valid(system: CrystalSystem, state: State) -> np.ndarray:
    """Tells which samples pass all checks, with shape (batch,)."""
    cells = cells_of(state.fields[CELL].cpu().numpy().astype(np.float64), system.atoms)
    return check(sample_positions(state.fields[FRAC].cpu().numpy(), cells), cells).valid


def energy(system: CrystalSystem, name: str) -> Energy:
    """Refuses: exact weights need noise on flat spaces, and fractional coordinates have none.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"energy: got '{name}', but samples of crystals cannot be weighted by an energy: their coordinates are periodic, for which paths have no "
        "exact weights"
    )


def positions(system: CrystalSystem, state: State) -> torch.Tensor:
    """Returns the Cartesian positions (batch, N, 3) of a State, in Å; coordinates and cells without noise."""
    frac, cell = coordinates(state)
    return frac @ cell


def reference(system: CrystalSystem) -> torch.Tensor:
    """Refuses: no structure is sensible for every composition.

    Raises:
        InputError: Always.
    """
    raise InputError(f"{system.name}: there is no structure to start from that suits every composition; give one")


def properties(system: CrystalSystem) -> dict[str, Maker]:
    """Returns what makes the properties that a guide can name; see `crystal_properties`."""
    return crystal_properties(system)


def written(system: CrystalSystem, state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the positions (batch, N, 3) of the atoms in the cell and the cells (batch, 3, 3), rows are lattice vectors, in Å."""
    frac, cell = coordinates(state)
    return frac @ cell, cell


def ensemble(system: CrystalSystem, blocks: Sequence[Block], n: int, provenance: Mapping[str, Any]) -> CrystalEnsemble:
    """Makes the ensemble of the first n valid samples; see `Ensemble.from_blocks`."""
    cells = [cells_of(block.fields[CELL].astype(np.float64), system.atoms) for block in blocks]
    atoms = [sample_positions(block.fields[FRAC], cell) for block, cell in zip(blocks, cells, strict=True)]
    return CrystalEnsemble.from_blocks(system, atoms, blocks, n, provenance, cells=cells)


def interpolate(model: Any, a: Any, b: Any, **options: Any) -> Any:
    """Refuses: two structures of one composition have no common order of atoms, nor a common cell.

    Raises:
        InputError: Always.
    """
    raise InputError(
        "interpolate: is for molecules and proteins; the atoms and cells of two crystals do not correspond to each other"
    )
