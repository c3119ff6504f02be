"""Density maps of an ensemble of adsorbates with their reference: what `equilibra density-map` makes, and its files and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from equilibra.atomic import atomic_path, write_text
from equilibra.errors import InputError
from equilibra.report.density_map_plot import HeightMap, plane_maps
from equilibra.report.elements import Facts, Figure
from equilibra.report.page import Page
from equilibra.systems.adsorbate.density_map import (
    DensityMap,
    boltzmann_map,
    model_map,
    occupancy,
    read_map,
)

if TYPE_CHECKING:
    from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble


@dataclass(frozen=True, eq=False)
class Maps:
    """A map, and what it was compared with.

    Attributes:
        map: The map.
        reference: The other map, or None.
        differences: Numbers of `DensityMap.difference`; of samples against an exact map also those of as many independent draws from it, with `_floor` behind their names.
    """

    map: DensityMap
    reference: DensityMap | None = None
    differences: dict[str, float] = field(default_factory=dict)

    @property
    def reference_name(self) -> str:
        """What the reference is called."""
        return "" if self.reference is None else self.reference.name


def make_maps(
    ensemble: AdsorbateEnsemble,
    *,
    of: str = "samples",
    shape: tuple[int, int, int] = (20, 20, 10),
    heights: tuple[float, float] | None = None,
    element: str | None = None,
    smooth: float = 0.0,
    weighted: bool = True,
    exact: str | None = None,
    reference: Path | None = None,
    temperature: float | None = None,
    model: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Maps:
    """Makes the map of an ensemble or of the model that drew it, and compares it.

    Arguments:
        ensemble: The ensemble.
        of: `samples`, or `model` for the model's own density at the points.
        shape: Points of the grid.
        heights: Range of heights above the top of the surface, in Å.
        element: Count the atoms of this element only.
        smooth: Width in Å that counts are smoothed by.
        weighted: Use the weights of the samples.
        exact: Energy whose exact map is the reference.
        reference: Map, or folder of samples, that is the reference.
        temperature: Temperature in K; by default that of the samples.
        model: The model; by default the one that drew the samples.
        progress: Called with the number of finished points and of all.

    Raises:
        InputError: If something that is asked for does not exist for this system.
    """
    system = ensemble.system
    kelvin = ensemble.provenance.get("temperature_k") if temperature is None else temperature
    if exact is not None and reference is not None:
        raise InputError("density-map: got --exact and --reference; a map is compared with one of them")
    if of == "model":
        grid = model_map(_log_density(ensemble, model, kelvin), system, shape=shape, heights=heights, progress=progress)
    else:
        grid = occupancy(ensemble, shape=shape, heights=heights, element=element, smooth=smooth, weighted=weighted)
    other, floors = None, {}
    if exact is not None:
        from equilibra.systems.adsorbate.energy import adsorbate_energy

        if kelvin is None:
            raise InputError("--exact: the samples have no temperature; give one in K with --temperature")
        other = boltzmann_map(
            system, adsorbate_energy(system, exact), float(kelvin), shape=shape, heights=heights, progress=progress
        )
        if of == "samples":
            floor = other.drawn(len(ensemble), np.random.default_rng(0)).smoothed(smooth)
            other = other.smoothed(smooth)
            floors = {f"{name}_floor": value for name, value in floor.difference(other).items()}
    elif reference is not None and reference.is_dir():
        from equilibra.systems.adsorbate.runs import join_runs, load_runs

        theirs = join_runs(load_runs(reference))
        other = occupancy(theirs, shape=shape, heights=heights, element=element, smooth=smooth, weighted=weighted)
    elif reference is not None:
        other = read_map(reference, system)
    return Maps(grid, other, {} if other is None else {**grid.difference(other), **floors})


def _log_density(
    ensemble: AdsorbateEnsemble, model: str | None, kelvin: float | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the log-density of a model at positions relative to the system's level."""
    from equilibra.density.flow import log_density
    from equilibra.nn.surface import POSITIONS
    from equilibra.state import State
    from equilibra.state.randomness import generator_for
    from equilibra.systems.model import load

    name = model or ensemble.provenance.get("model")
    if name is None:
        raise InputError("--of model: the samples name no model; give one with --model")
    loaded = load(str(name))
    if loaded.domain != "adsorbate":
        raise InputError(f"--model: '{name}' is of the domain '{loaded.domain}', expected one of adsorbates")
    several = loaded.scope.temperatures is not None
    denoiser = loaded.bind(ensemble.system, temperature=None if kelvin is None or not several else float(kelvin))
    return lambda x: log_density(denoiser, State({POSITIONS: x}), generator=generator_for(0)).log_density


def write_map_report(found: Maps, ensemble: AdsorbateEnsemble, folder: Path) -> list[Path]:
    """Writes `density.cube`, `density.npz`, `density.png`, `density.html` and, with a reference, `reference.cube`, `difference.json`; returns the paths."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    maps = [found.map] + ([] if found.reference is None else [found.reference])
    minima = None
    if ensemble.energies is not None:
        rows = [row.lowest for row in ensemble.populations_of_sites()]
        minima = ensemble.positions[rows].astype(np.float64).reshape(-1, 3)[:, :2]
    picture = plane_maps(maps, ensemble.sites, minima)
    files = found.map.save(folder)
    with atomic_path(folder / "density.png") as temporary:
        temporary.write_bytes(picture)
    files.append(folder / "density.png")
    if found.reference is not None:
        files += found.reference.save(folder, "reference")
        write_text(folder / "difference.json", json.dumps(found.differences, indent=2) + "\n")
        files.append(folder / "difference.json")
    page = Page(
        f"{found.map.system.name}: density map",
        f"{found.map.name} of {found.map.element} mobile atoms; the slab is held fixed.",
    )
    crosses = "" if minima is None else "; red crosses: the lowest structures of the samples"
    caption = f"Density over the cell, summed over heights. White circles: atoms of the top layer; orange: sites{crosses}."
    page.add("In the plane", Figure(picture, caption, f"Density map of {found.map.system.name} in the plane of the surface."))
    page.add("By height", HeightMap(found.map, "The density at one height, or over all (slider at its right end)."))
    if found.reference is not None:
        page.add("Reference by height", HeightMap(found.reference, found.reference.name))
        page.add("Difference", Facts({name: f"{value:.4f}" for name, value in found.differences.items()}))
    files.append(page.write(folder / "density.html"))
    return files
