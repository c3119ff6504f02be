"""Checks of adsorbed atoms: numbers, the window of heights, bonds, and distances to the surface and to each other.

Heights are those of the walls of the target distribution (`energies.confinement`). The wall of a bond is part of it: where an energy would rather break the bond, much of its law leans
on the wall, so that a bond may be longer than where its wall begins, by `SLACK`.
"""

from __future__ import annotations

import numpy as np
import torch

from equilibra.energies.confinement import PlanarDistance
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.validity import Result, Validity, finite, furthest, judge, nothing_to_check, within

CHECKS = ("finite", "height", "bonds", "distances")

CLOSEST = 0.5
"""Atoms closer than this times the sum of their covalent radii are within each other."""

SLACK = 0.3
"""How far into its wall a bond may be, in Å: the wall has risen by 0.9 eV there, seven times kT at 1500 K."""

_FRAMES_AT_ONCE = 256


def check(positions: np.ndarray, system: AdsorbateSystem) -> Validity:
    """Checks positions (F, atoms, 3) of the mobile atoms of a system, absolute, in Å."""
    from ase.data import covalent_radii

    low, high = (limit + system.level for limit in system.window)
    longest = np.array(system.longest_bonds) + SLACK
    bonds = np.array(system.bonds, dtype=np.int64).reshape(-1, 2)
    apart = PlanarDistance(system.plane)
    radii, ground = covalent_radii[system.numbers], covalent_radii[system.slab.numbers]
    itself = np.eye(system.atoms, dtype=bool)
    surface = torch.tensor(system.slab.positions.copy())

    def lengths(d: torch.Tensor) -> np.ndarray:
        return np.asarray(apart(torch.nan_to_num(d)).numpy())

    def results(x: np.ndarray) -> list[Result]:
        mobile = torch.from_numpy(x)
        stretched = nothing_to_check(x)
        if len(bonds):
            d = lengths(mobile[:, bonds[:, 1]] - mobile[:, bonds[:, 0]])
            stretched = furthest(np.asarray((d <= longest).all(1)), d - longest, d)
        # the gap in units of the sum of radii, over the nearest of all other atoms
        to_slab = lengths(surface[None, None] - mobile[:, :, None]) / (radii[:, None] + ground[None])
        own = lengths(mobile[:, None] - mobile[:, :, None]) / (radii[:, None] + radii[None])
        nearest = np.minimum(to_slab.min(2), np.where(itself[None], np.inf, own).min(2))
        return [
            finite(x),
            within(x[..., 2], low, high),
            stretched,
            furthest((nearest > CLOSEST).all(1), CLOSEST - nearest, nearest),
        ]

    def not_finite(item: int, value: float) -> str:
        return f"mobile atom {item + 1} has a coordinate that is not a finite number"

    def outside(item: int, value: float) -> str:
        return f"mobile atom {item + 1} is {value - system.top:.2f} Å above the surface, expected {low - system.top:.2f} to {high - system.top:.2f} Å"

    def broken(item: int, value: float) -> str:
        i, j = bonds[item]
        return f"mobile atoms {i + 1} and {j + 1} are {value:.2f} Å apart, expected a bond of at most {longest[item]:.2f} Å"

    def too_close(item: int, value: float) -> str:
        return f"mobile atom {item + 1} is within another atom: {value:.2f} of the sum of their radii apart, expected more than {CLOSEST}"

    return judge(positions, CHECKS, results, (not_finite, outside, broken, too_close), frames_at_once=_FRAMES_AT_ONCE)
