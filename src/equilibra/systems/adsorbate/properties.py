"""Properties of adsorbed atoms that a guide can name; mobile atoms are counted from 1, as in messages about them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from equilibra.energies.confinement import PlanarDistance
from equilibra.errors import InputError
from equilibra.guidance.guide import Property
from equilibra.state import State
from equilibra.systems.adsorbate.energy import EMT, adsorbate_energy
from equilibra.systems.adsorbate.system import LIFT, AdsorbateSystem
from equilibra.systems.properties import Maker, Positions, distance, pair_of

FAILED = 1e4
"""Energy in eV of a structure that a calculator cannot evaluate, without a gradient: far above that of any other, so that it fulfils no wish for an energy but `max`."""


def adsorbate_properties(system: AdsorbateSystem, positions: Positions) -> dict[str, Maker]:
    r"""Returns the makers of the properties by their spelling.

    `height:I` is the height of a mobile atom over the top of the surface, in Å. `distance:I,J` is that of a mobile atom from the nearest image of another, in Å, and `tilt:I,J` the angle
    :math:`\arctan_2(|d_{xy}|, d_z)` of the vector d from I to that image with the normal of the surface, in degrees: 0 where J is straight above I, 180 where it is below. `energy:NAME` is
    that of an energy of the system (`adsorbate_energy`), walls included, in eV, as `energy_ev` in the files of samples.

    Arguments:
        system: The system.
        positions: Gives the positions of its mobile atoms, relative to its level, of any images.
    """
    apart = PlanarDistance(system.plane)

    def between(x: Tensor, i: int, j: int) -> Tensor:
        return apart(x[:, j] - x[:, i])

    def tilt(argument: str) -> Property:
        i, j, name = pair_of("tilt", argument, partial(_atom, system, "tilt"))

        def compute(state: State) -> Tensor:
            x = positions(state)
            d = apart.vectors(x[:, j] - x[:, i])
            # the length has a gradient of zero at zero, where the angle has a kink
            return torch.rad2deg(torch.atan2(torch.linalg.vector_norm(d[:, :2], dim=-1), d[:, 2]))

        return Property(name, compute, "degrees")

    def height(argument: str) -> Property:
        index = _atom(system, "height", argument)
        return Property(f"height:{argument}", lambda state: positions(state)[:, index, 2] + LIFT, "Å")

    def energy(name: str) -> Property:
        made = adsorbate_energy(system, name)

        def compute(state: State) -> Tensor:
            x = positions(state).double()
            values, force = made.energy_and_force(x.detach())
            known = torch.isfinite(values) & torch.isfinite(force).flatten(1).all(1)
            values = torch.where(known, values, torch.full_like(values, FAILED))
            force = torch.where(known[:, None, None], force, torch.zeros_like(force))
            # the values with minus the force as their gradient, which a structure that cannot be evaluated has not
            return values - (force * (x - x.detach())).flatten(1).sum(1)

        return Property(f"energy:{name}", compute, "eV")

    return {
        "height:I": height,
        "distance:I,J": distance(positions, partial(_atom, system, "distance"), between),
        "tilt:I,J": tilt,
        f"energy:{EMT}": energy,
    }


def _atom(system: AdsorbateSystem, kind: str, text: str) -> int:
    from ase.data import chemical_symbols

    if not text.isdecimal() or not 1 <= int(text) <= system.atoms:
        known = ", ".join(f"{k + 1} ({chemical_symbols[z]})" for k, z in enumerate(system.numbers))
        raise InputError(f"{kind}: there is no mobile atom '{text}'; those of {system.name} are {known}")
    return int(text) - 1
