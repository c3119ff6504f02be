"""The report of an ensemble of adsorbates: occupied sites with free energies, density map, representatives, anomalies, checks, provenance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.errors import InputError
from equilibra.report.crystal_structures import cell_pdb
from equilibra.report.density_map_plot import HeightMap, plane_maps
from equilibra.report.distributions import Distribution, distributions
from equilibra.report.elements import CellLike, Element, Figure, Highlights, Table
from equilibra.report.ensemble_facts import cost, is_weighted, limits, provenance, validity_rows, weighting
from equilibra.report.guidance import guidance_elements, guided_properties
from equilibra.report.page import Page
from equilibra.report.sections import (
    card_elements,
    evaluation_elements,
    percent,
    provenance_elements,
    reference_name,
    share,
    validity_elements,
    weight_elements,
)
from equilibra.report.structure_view import Molecules
from equilibra.systems.adsorbate.anomalies import ANOMALIES
from equilibra.systems.adsorbate.density_map import occupancy

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable
    from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble

MOST_SITES = 8
"""So many kinds of sites have a structure that can be turned in the hand."""

_CRITERIA = {
    "finite": "every coordinate is a finite number",
    "height": "all mobile atoms in the window of heights that the distribution is of",
    "bonds": "no bond longer than 1.4 times its length in the molecule",
    "distances": "no two atoms within half the sum of their covalent radii",
    "all": "every check above",
}
_WORDS = {
    "dissociated": "bonds within the adsorbates are not those of the system",
    "desorbed": "an adsorbate has no neighbour in the slab",
    "intercalated": "an adsorbate is bonded to an atom below the surface",
    "surface_changed": "a bond of the slab has formed or broken",
}
_GRID = (32, 32, 12)
_SMOOTH = 0.25  # Å
_FLOORS = "Floor: two disjoint random parts of the reference at the same N, of whole chains where it is made of these; a perfect sampler scores it. Baseline: positions uniform in the cell."


def report_page(
    ensemble: AdsorbateEnsemble,
    *,
    reference: Any | None = None,
    model: str | Path | None = None,
    temperature: float | None = None,
    evaluation: EvaluationTable | None = None,
    label: str | None = None,
    seed: int = 0,
) -> Page:
    """Returns the page of an ensemble.

    Arguments:
        ensemble: The ensemble.
        reference: An ensemble of the same system or its folder, to draw the map of beside, or None.
        model: The model that made it.
        temperature: Not used: the provenance has it.
        evaluation: Metrics to show.
        label: What to call the reference.
        seed: Not used: nothing here is drawn.

    Raises:
        InputError: If the reference cannot be read or is of another system.
    """
    table = ensemble.validity_table()
    kelvin = ensemble.provenance.get("temperature_k")
    tiles: dict[str, object] = {"samples": len(ensemble), "valid": percent(table[-1][1], table[-1][2])}
    tiles |= {"kinds of sites": len(ensemble.sites.kinds), "occupied": len(set(ensemble.site_labels)), **cost(ensemble)}
    verdict, facts = weighting(ensemble)
    at = "" if kelvin is None else f" at {kelvin:g} K"
    system = ensemble.system
    subtitle = f"{len(ensemble):,} structures of {', '.join(item.name for item in system.adsorbates)} on a slab of {len(system.slab)} atoms{at}. The slab does not move."
    page = Page(system.name, subtitle, lead=(Highlights(tiles),))
    card = limits(ensemble.provenance.get("model") if model is None else model)
    return page.extend(
        ("Sites", _sites(ensemble)),
        ("Where they are", _maps(ensemble, reference, label)),
        ("Structures", _structures(ensemble)),
        ("Weights", weight_elements(ensemble.log_weights if is_weighted(ensemble) else None, verdict, facts)),
        ("Relaxed structures", _relaxed(ensemble)),
        ("Guidance", guidance_elements(guided_properties(ensemble), ensemble.weights if is_weighted(ensemble) else None)),
        ("Distributions", _distributions(ensemble)),
        ("Anomalies", _anomalies(ensemble)),
        ("Validity", validity_elements(validity_rows(ensemble, _CRITERIA))),
        ("Evaluation", evaluation_elements(evaluation, _FLOORS)),
        ("What this is not good for", card_elements(card)),
        ("Provenance", provenance_elements(provenance(ensemble))),
    )


def _sites(ensemble: AdsorbateEnsemble) -> list[Element]:
    rows: list[list[CellLike]] = []
    for row in ensemble.populations_of_sites():
        lowest = None if ensemble.energies is None else round(float(ensemble.energies[row.lowest]), 4)
        free = None if row.free_energy is None else round(row.free_energy, 4)
        error = None if row.known_error is None else share(row.known_error)
        rows.append([row.label, share(row.population), error, free, row.samples, lowest])
    head = ["site", "population", "error", "free energy (eV)", "samples", "lowest energy (eV)"]
    caption = "The site nearest to the atom that is bound, of each adsorbate. Populations are weighted where samples have weights; the free energy counts all equivalent sites of a kind as one."
    return [Table(head, rows, caption)]


def _maps(ensemble: AdsorbateEnsemble, reference: Any | None, label: str | None) -> list[Element]:
    grid = occupancy(ensemble, shape=_GRID, smooth=_SMOOTH)
    maps, titles = [grid], ["samples"]
    if reference is not None:
        other = _reference(reference)
        if other.system != ensemble.system:
            raise InputError(f"reference: it is of {other.system.name}, the ensemble of {ensemble.system.name}")
        maps.append(occupancy(other, shape=_GRID, smooth=_SMOOTH))
        titles.append(reference_name(reference, label))
    caption = f"Density of all mobile atoms over the cell, smoothed by {_SMOOTH} Å. Circles: atoms of the top layer; triangles, bars and squares: hollow, bridge and fourfold sites."
    alt = f"Map of where the mobile atoms are over the cell of {ensemble.system.name}."
    return [
        Figure(plane_maps(maps, ensemble.sites, titles=titles), caption, alt),
        HeightMap(grid, "The same at one height, or over all (slider at its right end)."),
    ]


def _reference(reference: Any) -> AdsorbateEnsemble:
    from equilibra.systems.adsorbate.runs import join_runs, load_runs

    return join_runs(load_runs(reference))


def _structures(ensemble: AdsorbateEnsemble) -> list[Element]:
    rows = ensemble.populations_of_sites()[:MOST_SITES]
    cell = np.asarray(ensemble.system.slab.cell)
    texts = []
    for row in rows:
        atoms = ensemble.system.slab.positions
        x = np.concatenate([atoms, ensemble.positions[row.lowest].astype(np.float64)])
        # down to the bottom of the cell: where a slab is in it has no meaning
        x = x - np.array([0.0, 0.0, x[:, 2].min() - 0.5])
        texts.append(cell_pdb(x @ np.linalg.inv(cell), cell, [*ensemble.system.slab.numbers, *ensemble.system.numbers]))
    how = "lowest energy" if ensemble.energies is not None else "largest weight"
    return [
        Molecules(
            texts,
            [f"{row.label} ({share(row.population)})" for row in rows],
            f"The structure of {how} at each site. Drag to turn; click, then scroll, to zoom.",
            "crystal",
        )
    ]


def _relaxed(ensemble: AdsorbateEnsemble) -> list[Element]:
    """Returns the table of relaxed structures, one of each site; nothing where none were."""
    rows: Any = ensemble.provenance.get("relaxed_sites")
    if not rows:
        return []
    head = [
        "site",
        "population",
        "relaxed to",
        "energy (eV)",
        "above the lowest (eV)",
        "slab moved (Å)",
        "small forces",
        "flags",
    ]
    cells: list[list[CellLike]] = []
    for row in rows:
        after, above = (None if row[key] is None else round(row[key], 4) for key in ("energy_after_ev", "above_lowest_ev"))
        moved = None if row["slab_moved_a"] is None else round(row["slab_moved_a"], 3)
        flags = ", ".join(row["flags"]) or "none"
        small = "yes" if row["converged"] else "no"
        cells.append([row["site"], share(row["population"]), row["relaxed_site"], after, above, moved, small, flags])
    layers = ensemble.provenance.get("relaxed_layers", 0)
    slab = f"the top {layers} layers of the slab free" if layers else "the slab held"
    by = ensemble.provenance.get("relaxed_by")
    return [Table(head, cells, f"The structure of each site that is shown above, relaxed by {by} with {slab}.")]


def _distributions(ensemble: AdsorbateEnsemble) -> list[Element]:
    weights = ensemble.weights if is_weighted(ensemble) else None
    heights = ensemble.positions[..., 2].astype(np.float64).min(1) - ensemble.system.top
    panels = [Distribution(name="height of the lowest mobile atom (Å)", values=heights, weights=weights)]
    if ensemble.energies is not None:
        panels.append(Distribution(name="energy (eV)", values=ensemble.energies, weights=weights))
    return [Figure(distributions(panels), "Distributions over the samples.", "Histograms of heights and energies.")]


def _anomalies(ensemble: AdsorbateEnsemble) -> list[Element]:
    rows: list[list[CellLike]] = [
        [name, int(ensemble.flags[name].sum()), percent(int(ensemble.flags[name].sum()), len(ensemble)), _WORDS[name]]
        for name in ANOMALIES
    ]
    return [
        Table(
            ["flag", "samples", "share", "meaning"],
            rows,
            "By the definitions of the Open Catalyst project; flagged samples count.",
        )
    ]
