"""What is wrong with adsorbed structures, by the definitions of the Open Catalyst project.

Connectivity is that of ASE's neighbour lists there: two atoms are connected if they are closer than m times the sum of their covalent radii plus a skin of 0.3 Å for each.

dissociated      the bonds within the adsorbates are not those of the system (m = 1)
desorbed         an adsorbate has no neighbour in the slab (m = 1.5)
intercalated     an adsorbate has a neighbour in the slab below its surface (m = 1)
surface_changed  a bond of the slab has formed or broken, beyond a cushion of m = 1.5 (never where the slab does not move)
"""

from __future__ import annotations

import numpy as np
import torch

from equilibra.energies.confinement import PlanarDistance
from equilibra.systems.adsorbate.sites import Sites
from equilibra.systems.adsorbate.system import AdsorbateSystem

ANOMALIES = ("dissociated", "desorbed", "intercalated", "surface_changed")
"""Names of the flags."""

_SKIN = 0.6  # Å, of both atoms
_WIDE = 1.5


def anomalies(
    system: AdsorbateSystem, positions: np.ndarray, slab: np.ndarray | None = None, *, sites: Sites | None = None
) -> dict[str, np.ndarray]:
    """Returns the flags (F,) of frames by name.

    Arguments:
        system: The system.
        positions: Positions (F, atoms, 3) of the mobile atoms, absolute, in Å.
        slab: Positions (F, slab, 3) of the atoms of the slab, where they were relaxed.
        sites: The sites of the slab, if they are known already.
    """
    from ase.data import covalent_radii

    apart = PlanarDistance(system.plane)
    x = torch.tensor(np.asarray(positions, dtype=np.float64))
    ground = torch.tensor(system.slab.positions.copy() if slab is None else np.asarray(slab, dtype=np.float64))
    radii, wide = covalent_radii[system.numbers], covalent_radii[system.slab.numbers]
    to_slab = apart((ground[:, None] if slab is not None else ground[None, None]) - x[:, :, None]).numpy()
    own = apart(x[:, None] - x[:, :, None]).numpy()
    reach, own_reach = radii[:, None] + wide, radii[:, None] + radii
    touches = to_slab < reach + _SKIN
    touches_far = (to_slab < _WIDE * reach + _SKIN).any(2)
    bonded = own < own_reach + _SKIN
    bonded[:, np.arange(len(radii)), np.arange(len(radii))] = False
    wanted = np.zeros((system.atoms, system.atoms), dtype=bool)
    for molecule in system.molecules:
        # the connectivity of the reference geometry, by the same rule
        item = system.adsorbates[system.molecules.index(molecule)]
        gaps = np.linalg.norm(item.positions[:, None] - item.positions[None], axis=-1)
        part = slice(molecule.start, molecule.stop)
        wanted[part, part] = (gaps < own_reach[part, part] + _SKIN) & ~np.eye(len(item), dtype=bool)
    surface = (sites or Sites(system.slab)).exposed
    return {
        "dissociated": (bonded != wanted).any((1, 2)),
        "desorbed": np.any([~touches_far[:, part].any(1) for part in system.molecules], axis=0),
        "intercalated": touches[:, :, ~surface].any((1, 2)),
        "surface_changed": np.zeros(len(x), dtype=bool) if slab is None else _changed(system, np.asarray(slab), apart, wide),
    }


def _changed(system: AdsorbateSystem, slab: np.ndarray, apart: PlanarDistance, radii: np.ndarray) -> np.ndarray:
    reach = radii[:, None] + radii
    before = torch.tensor(system.slab.positions.copy())
    start = apart(before[None] - before[:, None]).numpy()
    flags = []
    for frame in torch.tensor(slab):
        end = apart(frame[None] - frame[:, None]).numpy()
        formed = (end < reach + _SKIN) & ~(start < _WIDE * reach + _SKIN)
        broken = (start < reach + _SKIN) & ~(end < _WIDE * reach + _SKIN)
        flags.append(bool((formed | broken).any()))
    return np.array(flags)
