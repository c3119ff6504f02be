"""Properties of crystals that a guide can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equilibra.errors import InputError
from equilibra.geometry.lattice import volume
from equilibra.guidance.guide import Property
from equilibra.nn.crystal import CELL, FRAC
from equilibra.state import State
from equilibra.systems.crystal.formula import formula_of
from equilibra.systems.crystal.structures import DALTON_PER_CUBIC_ANGSTROM
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.properties import Maker

if TYPE_CHECKING:
    from equilibra.energies.tight_binding import CarbonTightBinding

TIGHT_BINDING = "tight-binding"
"""Name of the tight-binding model of carbon."""

_FLATTEST = 0.1  # Å³ per atom: densities of collapsing cells stay finite


def crystal_properties(system: CrystalSystem) -> dict[str, Maker]:
    """Returns the makers of the properties by their spelling.

    `density` is in g/cm³ and `volume` in Å³ per atom. `band-gap:MODEL` is in eV, by the networks `megnet` and `cgcnn` and for carbon by `tight-binding`, of which a gap
    is negative where bands overlap; `energy:tight-binding` is in eV per atom. A crystal that these cannot evaluate, such as one in a collapsed cell, gets zero without
    a gradient.

    Arguments:
        system: What is in the cell.
    """
    return {
        "density": lambda _: Property("density", lambda state: _density(state, system), "g/cm³"),
        "volume": lambda _: Property("volume", lambda state: _volume(state) / system.atoms, "Å³ per atom"),
        "band-gap:megnet": lambda model: _band_gap(model, system),
        "energy:tight-binding": lambda model: _energy(model, system),
    }


def coordinates(state: State) -> tuple[Tensor, Tensor]:
    """Returns fractional coordinates (batch, n, 3) and cells (batch, 3, 3), in Å, of a State."""
    frac = state.fields[FRAC]
    return frac, state.fields[CELL] * frac.shape[1] ** (1 / 3)


def _volume(state: State) -> Tensor:
    return volume(coordinates(state)[1])


def _density(state: State, system: CrystalSystem) -> Tensor:
    from ase.data import atomic_masses

    mass = sum(float(atomic_masses[number]) for number in system.numbers)
    return DALTON_PER_CUBIC_ANGSTROM * mass / _volume(state).clamp(min=_FLATTEST * system.atoms)


def _band_gap(model: str, system: CrystalSystem) -> Property:
    if model == TIGHT_BINDING:
        _require_carbon(f"band-gap:{model}", system)
        bands = _tight_binding()
        return Property(f"band-gap:{model}", _usable(lambda state: bands(*coordinates(state)).signed_gap), "eV")
    if model not in ("megnet", "cgcnn"):
        raise InputError(f"band-gap: got '{model}', expected megnet, cgcnn or {TIGHT_BINDING}")
    from equilibra.properties.band_gap import band_gap

    gap = band_gap(model)  # type: ignore[arg-type]
    unknown = sorted(set(system.numbers) - set(gap.elements))
    if unknown:
        raise InputError(f"band-gap:{model}: {system.name} has {formula_of(unknown)}, which the network does not know")
    numbers = torch.tensor(system.numbers)
    return Property(f"band-gap:{model}", _usable(lambda state: gap(numbers, *coordinates(state))), gap.unit, known=gap.known)


def _energy(model: str, system: CrystalSystem) -> Property:
    if model != TIGHT_BINDING:
        raise InputError(f"energy: got '{model}', expected {TIGHT_BINDING}")
    _require_carbon(f"energy:{model}", system)
    bands = _tight_binding()
    return Property(f"energy:{model}", _usable(lambda state: bands(*coordinates(state)).energy / system.atoms), "eV per atom")


def _tight_binding() -> CarbonTightBinding:
    from equilibra.energies.tight_binding import CarbonTightBinding

    return CarbonTightBinding()


def _require_carbon(name: str, system: CrystalSystem) -> None:
    if set(system.numbers) != {6}:
        raise InputError(f"{name}: is a model of carbon, but the crystal is {system.formula}; use megnet or cgcnn")


def _usable(compute: Callable[[State], Tensor]) -> Callable[[State], Tensor]:
    """Returns the function with zero, without a gradient, in place of what is not a number."""

    def computed(state: State) -> Tensor:
        values = compute(state).to(state.dtype)
        return torch.where(torch.isfinite(values), values, torch.zeros_like(values))

    return computed
