"""The adsorbate's domain, as a Model uses it: input, network, scope, checks and ensemble."""

from __future__ import annotations

import hashlib
import json
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
from equilibra.nn.surface import POSITIONS, SurfaceNetworkConfig
from equilibra.state import State
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.network import adsorbate_denoiser
from equilibra.systems.adsorbate.properties import adsorbate_properties
from equilibra.systems.adsorbate.sources import adsorbate_systems
from equilibra.systems.adsorbate.system import AdsorbateSystem, slab_values
from equilibra.systems.adsorbate.validity import check
from equilibra.systems.adsorbate.whole import whole_molecules
from equilibra.systems.blocks import Block
from equilibra.systems.properties import Maker
from equilibra.systems.scope import Scope

WITH_GRADIENTS = 100
"""Samples whose gradients are held in memory at once by default."""

_SHOWN = 8  # systems of a scope that a message names


def systems(source: Any) -> list[AdsorbateSystem]:
    """Reads the systems of a source; see `adsorbate_systems`."""
    return adsorbate_systems(source)


def denoiser(
    process: Process, network: Mapping[str, Any], parametrisation: Parametrisation | Literal["energy"]
) -> TrainedDenoiser:
    """Makes the denoiser from the JSON form of its network."""
    return adsorbate_denoiser(process, read_fields(SurfaceNetworkConfig, network), parametrisation=parametrisation)


def meant(source: Any, scope: Scope) -> Any:
    """Returns the source as it is: a slab and an adsorbate have one meaning."""
    return source


def template(system: AdsorbateSystem, n: int) -> State:
    """Makes a State with the shapes of n samples."""
    return State({POSITIONS: torch.zeros(n, system.atoms, 3)})


def identifier(system: AdsorbateSystem) -> str:
    """Returns the text by which a scope names a system: the adsorbates, and what the slab is of with the head of its hash."""
    slab = hashlib.sha256(json.dumps(slab_values(system.slab), sort_keys=True).encode()).hexdigest()[:8]
    formula = system.slab.symbols.get_chemical_formula("metal")
    return f"{','.join(sorted(item.name for item in system.adsorbates))}@{formula}-{slab}"


def elements(systems: Sequence[AdsorbateSystem]) -> tuple[int, ...]:
    """Returns the atomic numbers in some systems, ascending."""
    return tuple(sorted({int(z) for system in systems for z in (*system.numbers, *system.slab.numbers)}))


def check_scope(system: AdsorbateSystem, scope: Scope, name: str) -> None:
    """Checks that a model was trained for a system: for any surface of its elements with adsorbates that it has seen, if it is transferable.

    Raises:
        InputError: If it was not.
    """
    from ase.data import chemical_symbols

    unknown = [z for z in elements([system]) if z not in scope.elements]
    if unknown:
        raise InputError(
            f"{system.name}: has {', '.join(chemical_symbols[z] for z in unknown)}, but the model '{name}' was trained on "
            f"{', '.join(chemical_symbols[z] for z in scope.elements)} only; train a model for it"
        )
    if identifier(system) in scope.systems:
        return
    seen = {part for text in scope.systems for part in text.partition("@")[0].split(",")}
    strange = sorted({item.name for item in system.adsorbates} - seen)
    if scope.transferable and not strange:
        return
    what = f"has the adsorbate {', '.join(strange)}, " if strange else "is on a slab that was not in the training, "
    others = len(scope.systems) - _SHOWN
    known = (
        ", ".join(sorted(seen))
        if strange
        else ", ".join(scope.systems[:_SHOWN]) + (f" and {others} others" if others > 0 else "")
    )
    raise InputError(
        f"{system.name}: {what}but the model '{name}' was trained on {known} only; train a model for it, or allow it with --outside-scope, when nothing is known of "
        "the result"
    )


def check_features(system: AdsorbateSystem, network: Mapping[str, Any], name: str) -> None:
    """Passes: a slab and an adsorbate have all that a network reads."""


def fitting_batch(
    system: AdsorbateSystem, network: Mapping[str, Any], wanted: int | None, most: int, gradients: bool = False
) -> int:
    """Returns the wanted batch size, by default a whole block: only mobile atoms are tokens; with gradients at most `WITH_GRADIENTS` samples."""
    return wanted or (min(most, WITH_GRADIENTS) if gradients else most)


def absolute(system: AdsorbateSystem, relative: torch.Tensor | np.ndarray) -> np.ndarray:
    """Returns positions (batch, atoms, 3) of a State as they are in space, molecules whole and in the cell, in Å, float64."""
    x = np.asarray(relative, dtype=np.float64) + np.array([0.0, 0.0, system.level])
    return np.asarray(whole_molecules(system, torch.from_numpy(x)).numpy())


def valid(system: AdsorbateSystem, state: State) -> np.ndarray:
    """Tells which samples pass all checks, with shape (batch,)."""
    return check(absolute(system, state.fields[POSITIONS].cpu().numpy()), system).valid


def energy(system: AdsorbateSystem, name: str) -> Energy:
    """Makes the energy of a system by its name; see `adsorbate_energy`."""
    return adsorbate_energy(system, name)


def positions(system: AdsorbateSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, atoms, 3) of a State, relative to the system's level, in Å."""
    return state.fields[POSITIONS]


def reference(system: AdsorbateSystem) -> torch.Tensor:
    """Returns one sensible structure (1, atoms, 3), relative to the system's level, in Å, float64."""
    return torch.tensor(system.placed(1, seed=0))


def properties(system: AdsorbateSystem) -> dict[str, Maker]:
    """Returns the makers of the properties that a guide can name; see `adsorbate_properties`."""
    return adsorbate_properties(system, lambda state: positions(system, state))


def written(system: AdsorbateSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, atoms, 3) of the mobile atoms, molecules whole and in the cell, in Å, with gradients."""
    level = torch.tensor([0.0, 0.0, system.level], dtype=state.dtype, device=state.device)
    return whole_molecules(system, state.fields[POSITIONS] + level)


def ensemble(system: AdsorbateSystem, blocks: Sequence[Block], n: int, provenance: Mapping[str, Any]) -> AdsorbateEnsemble:
    """Makes the ensemble of the first n valid samples; see `Ensemble.from_blocks`."""
    frames = [absolute(system, block.fields[POSITIONS]) for block in blocks]
    return AdsorbateEnsemble.from_blocks(system, frames, blocks, n, provenance)


def interpolate(model: Any, a: Any, b: Any, **options: Any) -> Any:
    """Refuses: paths between adsorbed structures are not made.

    Raises:
        InputError: Always.
    """
    raise InputError("interpolate: is for molecules and proteins; there are no paths between adsorbed structures")
