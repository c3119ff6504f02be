r"""Placement and relaxation: the baselines that search for the lowest structure, and how often a source of structures finds it.

`random` puts an adsorbate anywhere in the plane, `heuristic` on the sites of the Delaunay triangulation in turn, each turned at random about every axis, and so low that no two atoms are closer than the
sum of their covalent radii and a small gap: the recipe of the Open Catalyst project. Every start is relaxed with the same calculator. Success after k structures is a lowest energy, among those
without an anomaly, within 0.1 eV of the best energy that is known.

References:
    | AdsorbML: a leap in efficiency for adsorption energy calculations using generalizable machine learning potentials (Lan et al., 2023)
    | https://arxiv.org/abs/2211.16486
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from equilibra.energies.fire import minimise
from equilibra.errors import ConfigError
from equilibra.systems.adsorbate.anomalies import anomalies
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.sites import Sites
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.adsorbate.whole import whole_molecules

Mode = Literal["random", "heuristic"]

WITHIN = 0.1
"""Energy in eV above the best up to which a structure is a success."""

FORCE = 0.02
"""Largest force of an atom in a relaxed structure, in eV/Å."""

STEPS = 200
"""Most steps of a relaxation."""

AT_A_WALL = 1e-3
"""Energy of walls in eV above which a structure is at one."""

_GAP = 0.1  # Å between an adsorbate and the surface at the start


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Relaxed structures.

    Attributes:
        positions: Positions (F, atoms, 3), absolute, molecules whole, in Å.
        energies: Energies (F,), in eV, without walls.
        calls: Energy calls (F,) of each.
        anomalous: Which (F,) have an anomaly.
        converged: Which (F,) have small forces.
    """

    positions: np.ndarray
    energies: np.ndarray
    calls: np.ndarray
    anomalous: np.ndarray
    converged: np.ndarray


def place(system: AdsorbateSystem, n: int, mode: Mode, *, seed: int, sites: Sites | None = None) -> np.ndarray:
    """Returns starting points (n, atoms, 3), relative to the system's level, in Å; see the module.

    Raises:
        ConfigError: If there is no such way.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"placement: got '{mode}', expected one of {', '.join(get_args(Mode))}")
    x = system.placed(n, seed=seed, spread=0.0)
    if mode == "heuristic":
        rng = np.random.default_rng([seed, 0x48455552])
        points = np.concatenate([site.points for site in (sites or Sites(system.slab)).kinds])
        order = np.concatenate([rng.permutation(len(points)) for _ in range(-(-n // len(points)))])[:n]
        x = system.placed(n, seed=seed, spread=0.0, at=points[order, :2])
    return x + np.array([0.0, 0.0, _GAP])


def relax(
    system: AdsorbateSystem,
    positions: np.ndarray,
    energy: str,
    *,
    force: float = FORCE,
    steps: int = STEPS,
    sites: Sites | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Relaxed:
    """Relaxes structures with the slab held, all of a batch at once (`energies.fire`).

    Walls keep molecules whole and in the window, where the energy would let them go; structures that end at a wall are anomalous.

    Arguments:
        system: The system.
        positions: Starting points (F, atoms, 3), relative to the system's level, in Å.
        energy: Name of the energy, as `adsorbate_energy` takes it.
        force: Largest force of an atom at the end, in eV/Å.
        steps: Most steps.
        sites: The sites of the slab, if they are known.
        progress: Called with the number of finished steps and of all.
    """
    walled = adsorbate_energy(system, energy)
    found = minimise(walled, torch.tensor(np.asarray(positions, dtype=np.float64)), force=force, steps=steps, progress=progress)
    walls, u = walled.walls(found.x).numpy(), found.energy.numpy()
    whole = whole_molecules(system, found.x + torch.tensor([0.0, 0.0, system.level], dtype=found.x.dtype)).numpy()
    flags = anomalies(system, whole, sites=sites)
    bad = np.any(list(flags.values()), axis=0) | (walls > AT_A_WALL) | ~np.isfinite(u)
    return Relaxed(whole, u - walls, found.calls.numpy(), bad, found.converged.numpy())


def success(found: Relaxed, best: float, ks: tuple[int, ...] = (1, 2, 5, 10)) -> dict[int, float]:
    """Returns the probability (by k) that the lowest of k structures drawn from those found, anomalous ones left out, is within 0.1 eV of the best energy.

    It is the share over all subsets of k, so that the order has no meaning.

    Arguments:
        found: Relaxed structures.
        best: The best energy that is known, in eV.
        ks: Numbers of structures.
    """
    from math import comb

    n = len(found.energies)
    good = int(((found.energies <= best + WITHIN) & ~found.anomalous).sum())
    return {k: 1.0 - comb(n - good, k) / comb(n, k) for k in ks if k <= n}
