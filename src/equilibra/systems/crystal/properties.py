"""Properties of crystals that a guide can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from equilibra.errors import InputError, unknown_key_message
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

XTB = "xtb"
"""Name of the semi-empirical method GFN1-xTB."""

GAPS = ("megnet", "cgcnn", TIGHT_BINDING, XTB)
"""What gives band gaps."""

SPELLINGS = ("density", "volume", "band-gap:megnet", f"energy:{TIGHT_BINDING}")
"""How properties are written; what follows a colon is an example."""

_UNITS = {"density": "g/cm³", "volume": "Å³ per atom", "band-gap": "eV", "energy": "eV per atom"}
_FLATTEST = 0.1  # Å³ per atom: densities of collapsing cells stay finite


def crystal_properties(system: CrystalSystem) -> dict[str, Maker]:
    """Returns the makers of the properties by their spelling.

    `density` is in g/cm³ and `volume` in Å³ per atom. `band-gap:MODEL` is in eV, by the networks `megnet` and `cgcnn`, for carbon by `tight-binding`, of which a gap
    is negative where bands overlap, and by `xtb`, which has no gradient; `energy:tight-binding` is in eV per atom. They are partial: a crystal that cannot be
    evaluated, such as one in a collapsed cell, gets nan.

    Arguments:
        system: What is in the cell.
    """

    def maker(head: str) -> Maker:
        return lambda argument: evaluator(f"{head}:{argument}" if argument else head, system)

    return {spelling: maker(spelling.partition(":")[0]) for spelling in SPELLINGS}


def evaluator(name: str, system: CrystalSystem) -> Property:
    """Returns a property of crystals by its name, with nan for a crystal that it cannot evaluate.

    Arguments:
        name: One of the names that `crystal_properties` tells of.
        system: What is in the cell.

    Raises:
        InputError: If there is no such property, or it does not know an element.
        MissingDependencyError: If it needs a package that is not installed.
    """
    head, colon, model = name.partition(":")
    if name == "density":
        return Property(name, lambda state: _density(state, system), unit_of(name))
    if name == "volume":
        return Property(name, lambda state: _volume(state) / system.atoms, unit_of(name))
    if head == "band-gap" and colon:
        return _band_gap(model, system)
    if head == "energy" and colon:
        return _energy(model, system)
    known = ("density", "volume", *(f"band-gap:{model}" for model in GAPS), f"energy:{TIGHT_BINDING}")
    raise InputError(unknown_key_message("property of crystals", name, known))


def unit_of(name: str) -> str:
    """Returns the unit of a property by its name; empty where there is no such property."""
    return _UNITS.get(name.partition(":")[0], "")


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
        return Property(
            f"band-gap:{model}", lambda state: bands(*coordinates(state)).signed_gap, unit_of("band-gap"), partial=True
        )
    if model == XTB:
        return _xtb_gap(system)
    if model not in GAPS:
        raise InputError(f"band-gap: got '{model}', expected {', '.join(GAPS[:-1])} or {GAPS[-1]}")
    from equilibra.properties.band_gap import band_gap

    gap = band_gap(model)  # type: ignore[arg-type]
    unknown = sorted(set(system.numbers) - set(gap.elements))
    if unknown:
        raise InputError(f"band-gap:{model}: {system.name} has {formula_of(unknown)}, which the network does not know")
    numbers = torch.tensor(system.numbers)
    return Property(
        f"band-gap:{model}", lambda state: gap(numbers, *coordinates(state)), gap.unit, known=gap.known, partial=True
    )


def _xtb_gap(system: CrystalSystem) -> Property:
    from equilibra.properties.xtb_gap import require_tblite, xtb_band_gap

    require_tblite(f"band-gap:{XTB}")
    numbers = np.array(system.numbers)

    def compute(state: State) -> Tensor:
        frac, cell = (value.detach().double().cpu().numpy() for value in coordinates(state))
        gaps = [xtb_band_gap(numbers, x, a) for x, a in zip(frac, cell, strict=True)]
        return torch.tensor(gaps, dtype=state.dtype, device=state.device)

    return Property(f"band-gap:{XTB}", compute, unit_of("band-gap"), differentiable=False, partial=True)


def _energy(model: str, system: CrystalSystem) -> Property:
    if model != TIGHT_BINDING:
        raise InputError(f"energy: got '{model}', expected {TIGHT_BINDING}")
    _require_carbon(f"energy:{model}", system)
    bands = _tight_binding()
    return Property(
        f"energy:{model}",
        lambda state: bands(*coordinates(state)).energy / system.atoms,
        unit_of("energy"),
        partial=True,
    )


def _tight_binding() -> CarbonTightBinding:
    from equilibra.energies.tight_binding import CarbonTightBinding

    return CarbonTightBinding()


def _require_carbon(name: str, system: CrystalSystem) -> None:
    if set(system.numbers) != {6}:
        raise InputError(f"{name}: is a model of carbon, but the crystal is {system.formula}; use megnet or cgcnn")
