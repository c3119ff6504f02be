"""Relaxation of what samples found: one structure of each site, with the slab held or with its top layers free to move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equilibra.atomic import atomic_path
from equilibra.energies.confinement import ConfinedEnergy
from equilibra.energies.energy import Energy
from equilibra.energies.fire import minimise
from equilibra.errors import InputError
from equilibra.systems.adsorbate.anomalies import anomalies
from equilibra.systems.adsorbate.energy import adsorbate_energy, bare_energy, whole_atoms
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.placement import AT_A_WALL, FORCE
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.adsorbate.whole import whole_molecules

STEPS = 500
"""Most steps of a relaxation."""

_LAYER = 0.3  # Å between atoms of one layer


@dataclass(frozen=True, kw_only=True, eq=False)
class RelaxedSites:
    """One relaxed structure of each occupied site, the most occupied first.

    Attributes:
        system: The system.
        samples: Indices (K,) of the samples that were relaxed: of each site that of the lowest energy, or of the largest weight where there are no energies.
        sites: Labels of the sites before.
        populations: Their populations (K,).
        relaxed_sites: Labels of the sites after.
        before: Energies (K,) of the samples, in eV.
        after: Energies (K,) after, in eV, without walls; nan where the energy failed.
        positions: Positions (K, atoms, 3) of the mobile atoms after, absolute, in Å.
        slabs: Positions (K, slab, 3) of the atoms of the slab after, in Å; those that were held are as they were, to the last bit.
        moved: Largest displacement (K,) of an atom of the slab, in Å.
        calls: Energy calls (K,).
        converged: Whether all forces (K,) are small.
        flags: Anomalies (K,) by name; and `at_a_wall`, for those that walls kept whole or in the window.
    """

    system: AdsorbateSystem
    samples: np.ndarray
    sites: list[str]
    populations: np.ndarray
    relaxed_sites: list[str]
    before: np.ndarray
    after: np.ndarray
    positions: np.ndarray
    slabs: np.ndarray
    moved: np.ndarray
    calls: np.ndarray
    converged: np.ndarray
    flags: dict[str, np.ndarray]

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row for each structure, as JSON."""
        lowest = np.nanmin(self.after) if np.isfinite(self.after).any() else np.nan
        made = []
        for k, site in enumerate(self.sites):
            numbers = {
                "energy_before_ev": self.before[k],
                "energy_after_ev": self.after[k],
                "above_lowest_ev": self.after[k] - lowest,
                "slab_moved_a": self.moved[k],
            }
            row: dict[str, Any] = {"sample": int(self.samples[k]), "site": site, "population": float(self.populations[k])}
            row |= {"relaxed_site": self.relaxed_sites[k]}
            row |= {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
            row |= {"calls": int(self.calls[k]), "converged": bool(self.converged[k])}
            made.append({**row, "flags": [name for name, flag in self.flags.items() if flag[k]]})
        return made

    def to_ase(self) -> list[Any]:
        """Returns ASE `Atoms` of the structures, with their energies and, in `info`, site and population."""
        from ase.calculators.singlepoint import SinglePointCalculator

        frames = []
        for row, x, slab in zip(self.rows(), self.positions, self.slabs, strict=True):
            atoms = whole_atoms(self.system, x)
            atoms.positions[: len(slab)] = slab
            atoms.info.update({key: row[key] for key in ("sample", "site", "population", "relaxed_site")})
            if row["energy_after_ev"] is not None:
                atoms.calc = SinglePointCalculator(atoms, energy=row["energy_after_ev"])
            frames.append(atoms)
        return frames

    def write(self, path: Path) -> None:
        """Writes the structures to a file, extxyz or traj by the end of its name; the second keeps positions to the last bit."""
        import ase.io

        with atomic_path(path) as temporary:
            ase.io.write(str(temporary), self.to_ase(), format=path.suffix.removeprefix("."))


def top_layers(slab: Any, layers: int) -> np.ndarray:
    """Returns the indices of the atoms of the top layers of a slab, ascending, without those that a constraint fixes.

    Atoms within 0.3 Å of each other's height are one layer.

    Raises:
        InputError: If there are not more layers than that: one at least is held.
    """
    from ase.constraints import FixAtoms
    from ase.geometry import get_layers

    number, heights = get_layers(slab, (0, 0, 1), tolerance=_LAYER)
    if not 0 <= layers < len(heights):
        raise InputError(
            f"layers: got {layers}, expected from 0 to {len(heights) - 1}; the slab has {len(heights)} layers, and one at least is held"
        )
    fixed = {int(index) for item in slab.constraints if isinstance(item, FixAtoms) for index in item.index}
    chosen = [int(k) for k in np.flatnonzero(number >= len(heights) - layers) if int(k) not in fixed]
    if layers and not chosen:
        raise InputError(
            f"layers: all atoms of the top {layers} layers are fixed by a constraint of the slab; free them in its file"
        )
    return np.array(chosen, dtype=np.int64)


def relax_sites(
    ensemble: AdsorbateEnsemble,
    energy: str,
    *,
    layers: int = 0,
    force: float = FORCE,
    steps: int = STEPS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RelaxedSites:
    """Relaxes one structure of each occupied site.

    The walls of the distribution keep molecules whole and in the window; the free atoms of the slab have none.

    Arguments:
        ensemble: The samples.
        energy: Name of the energy, as `adsorbate_energy` takes it.
        layers: So many top layers of the slab move as well.
        force: Largest force of an atom at the end, in eV/Å.
        steps: Most steps.
        progress: Called with the number of finished steps and of all.

    Raises:
        InputError: If there is no such energy, or not so many layers.
        MissingDependencyError: If the energy needs a package that is not installed.
    """
    system = ensemble.system
    rows = ensemble.populations_of_sites()
    free = top_layers(system.slab, layers)
    level = torch.tensor([0.0, 0.0, system.level], dtype=torch.float64)
    whole = _WithLayers(bare_energy(system, energy, free.tolist()), adsorbate_energy(system, energy), len(free), level)
    samples = np.array([row.lowest for row in rows], dtype=np.int64)
    start = torch.tensor(ensemble.positions[samples].astype(np.float64))
    held = torch.tensor(system.slab.positions[free]).reshape(-1, 3)
    x = torch.cat([held.expand(len(start), -1, -1), start], dim=1)
    found = minimise(whole, x, force=force, steps=steps, progress=progress)
    with torch.no_grad():
        before = whole.inner.energy(x).double().numpy()
        walls = whole.walls(found.x).numpy()
    positions = whole_molecules(system, found.x[:, len(free) :]).numpy()
    slabs = np.tile(system.slab.positions, (len(start), 1, 1))
    slabs[:, free] = found.x[:, : len(free)].numpy()
    known = np.isfinite(found.energy.numpy())
    return RelaxedSites(
        system=system,
        samples=samples,
        sites=[row.label for row in rows],
        populations=np.array([row.population for row in rows]),
        relaxed_sites=AdsorbateEnsemble(system=system, positions=positions).site_labels,
        before=before,
        after=np.where(known, found.energy.numpy() - walls, np.nan),
        positions=positions,
        slabs=slabs,
        moved=np.linalg.norm(slabs - system.slab.positions, axis=-1).max(1),
        calls=found.calls.numpy(),
        converged=found.converged.numpy(),
        flags={**anomalies(system, positions, slabs, sites=ensemble.sites), "at_a_wall": walls > AT_A_WALL},
    )


class _WithLayers(Energy):
    """An energy of free atoms of a slab and mobile atoms, at absolute positions, with the walls of the latter."""

    invariant = False

    def __init__(self, inner: Energy, walled: ConfinedEnergy, free: int, level: Tensor) -> None:
        self.inner, self.items, self.name = inner, inner.items, inner.name
        self._walled, self._free, self._level = walled, free, level

    def walls(self, x: Tensor) -> Tensor:
        """Returns the energy of the walls (batch,)."""
        return self._walled.walls(x[:, self._free :] - self._level)

    def energy(self, x: Tensor) -> Tensor:
        """Returns the energies (batch,) of positions (batch, items, 3), walls included."""
        return self.inner.energy(x) + self.walls(x)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energies (batch,) and forces (batch, items, 3), walls included, detached."""
        energy, force = self.inner.energy_and_force(x)
        with torch.enable_grad():
            moving = x.detach().requires_grad_(True)
            wall = self.walls(moving)
            (gradient,) = torch.autograd.grad(wall.sum(), moving)
        return energy + wall.detach(), force - gradient
