"""The report of an ensemble of crystals: rotatable cells, densities and space groups, checks, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.errors import InputError
from equilibra.report.crystal_structures import cell_pdb
from equilibra.report.distributions import Distribution, distributions
from equilibra.report.elements import CellLike, Element, Figure, Highlights, Table
from equilibra.report.ensemble_facts import cost, is_weighted, limits, provenance, validity_rows, weighting
from equilibra.report.guidance import guidance_elements, guided_properties, label_elements, parity_elements
from equilibra.report.page import Page
from equilibra.report.sections import (
    card_elements,
    evaluation_elements,
    percent,
    provenance_elements,
    reference_name,
    validity_elements,
    weight_elements,
)
from equilibra.report.structure_view import Molecules

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable
    from equilibra.systems.crystal.ensemble import CrystalEnsemble

MOST_STRUCTURES = 8
"""So many structures can be turned in the hand."""

_CRITERIA = {
    "finite": "every coordinate and cell vector is a finite number",
    "cell": "a right-handed cell of at least 0.1 Å³",
    "distances": "no two atoms, periodic images included, within 0.5 Å",
    "all": "every check above",
}
_GROUPS = 12  # of the table of space groups
_FLOORS = (
    "Floor: two disjoint random parts of the reference at the same N; a perfect sampler scores it. Baseline: random structures of the training set, which is what a "
    "model scores that has learned its data by heart."
)


def report_page(
    ensemble: CrystalEnsemble,
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
        reference: An ensemble of crystals, a folder or a file of structures to compare densities with, or None.
        model: The model that made it.
        temperature: Not used: data of crystals have none.
        evaluation: Metrics to show.
        label: What to call the reference.
        seed: Not used: nothing here is drawn.

    Raises:
        InputError: If the reference cannot be read.
    """
    compared = None if reference is None else _densities(reference)
    called = reference_name(reference, label)
    table = ensemble.validity_table()
    tiles: dict[str, object] = {"structures": len(ensemble), "valid": percent(table[-1][1], table[-1][2])}
    tiles |= {"mean density (g/cm³)": round(float(np.average(ensemble.densities, weights=ensemble.weights)), 3)}
    tiles |= {"space groups": len(set(ensemble.space_groups.tolist())), **cost(ensemble)}
    verdict, facts = weighting(ensemble)
    subtitle = f"{len(ensemble):,} crystal structures of {ensemble.system.formula}, {ensemble.system.atoms} atoms in the cell."
    page = Page(ensemble.system.name, subtitle, lead=(Highlights(tiles),))
    card = limits(ensemble.provenance.get("model") if model is None else model)
    guided = guided_properties(ensemble)
    return page.extend(
        ("Structures", _structures(ensemble)),
        ("Weights", weight_elements(ensemble.log_weights if is_weighted(ensemble) else None, verdict, facts)),
        (
            "Guidance",
            [*label_elements(ensemble), *guidance_elements(guided, ensemble.weights if is_weighted(ensemble) else None)],
        ),
        ("Guide and judge", parity_elements(ensemble)),
        ("Distributions", _distributions(ensemble, compared, called)),
        ("Space groups", _space_groups(ensemble)),
        ("Validity", validity_elements(validity_rows(ensemble, _CRITERIA))),
        ("Evaluation", evaluation_elements(evaluation, _FLOORS)),
        ("What this is not good for", card_elements(card)),
        ("Provenance", provenance_elements(provenance(ensemble))),
    )


def _densities(reference: Any) -> np.ndarray:
    if hasattr(reference, "densities"):
        return np.asarray(reference.densities)
    if isinstance(reference, Sequence) and reference and all(hasattr(item, "densities") for item in reference):
        return np.concatenate([item.densities for item in reference])
    if not isinstance(reference, str | Path):
        raise InputError("reference: expected an ensemble of crystals, or a folder or file of structures")
    from equilibra.systems.crystal.data.read import read_structures
    from equilibra.systems.crystal.ensemble import CrystalEnsemble

    path = Path(reference)
    if (path / "ensemble.json").is_file():
        return CrystalEnsemble.read(path).densities
    return np.array([structure.density for structure in read_structures(path)])


def chosen(ensemble: CrystalEnsemble) -> list[int]:
    """Returns the structures that a page shows: those of lowest energy where energies are known, else evenly spaced in density."""
    count = min(MOST_STRUCTURES, len(ensemble))
    if ensemble.energies is not None:
        return np.argsort(ensemble.energies, kind="stable")[:count].tolist()
    order = np.argsort(ensemble.densities, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))].tolist()


def _structures(ensemble: CrystalEnsemble) -> list[Element]:
    rows = chosen(ensemble)
    names = [f"{index + 1}" for index in rows]
    frac, cells = ensemble.frac, ensemble.cells
    assert cells is not None
    how = "lowest energy" if ensemble.energies is not None else "low to high density"
    view = Molecules(
        [cell_pdb(frac[i], cells[i].astype(np.float64), ensemble.system.numbers) for i in rows],
        [f"sample {name}" for name in names],
        f"Structures of {how}, each in its cell with the atoms at its faces. Drag to turn; click, then scroll, to zoom.",
        "crystal",
    )
    energy = ensemble.energies
    head = [
        "sample",
        "density (g/cm³)",
        "volume (Å³ per atom)",
        "space group",
        *([] if energy is None else ["energy (eV per atom)"]),
    ]
    lines: list[list[CellLike]] = [
        [
            name,
            round(float(ensemble.densities[i]), 3),
            round(float(ensemble.volumes[i]) / ensemble.system.atoms, 3),
            int(ensemble.space_groups[i]),
            *([] if energy is None else [round(float(energy[i]) / ensemble.system.atoms, 4)]),
        ]
        for i, name in zip(rows, names, strict=True)
    ]
    return [view, Table(head, lines)]


def _distributions(ensemble: CrystalEnsemble, reference: np.ndarray | None, label: str) -> list[Element]:
    """Returns the histograms of the density, of energies and of all values that samples were guided by or judged with."""
    from equilibra.systems.crystal.properties import unit_of

    weights = ensemble.weights if is_weighted(ensemble) else None
    panels = [Distribution(name="density (g/cm³)", values=ensemble.densities, weights=weights, reference=reference)]
    if ensemble.energies is not None:
        energies = ensemble.energies / ensemble.system.atoms
        panels.append(Distribution(name="energy (eV per atom)", values=energies, weights=weights))
    missing = []
    for name, values in ensemble.values.items():
        known = np.isfinite(values)
        if known.sum() > 1:
            some = None if weights is None else weights[known]
            unit = unit_of(name)
            called = f"{name} ({unit})" if unit else name
            panels.append(Distribution(name=called, values=values[known], weights=some))
        if not known.all():
            missing.append(f"{name} is not known of {int((~known).sum()):,} of {len(values):,} structures")
    caption = f"Distributions over the structures{'' if reference is None else f'; grey: {label}'}."
    caption += f" {'; '.join(missing)}." if missing else ""
    alt = f"Histograms of {', '.join(panel.name for panel in panels)}."
    return [Figure(distributions(panels, reference_label=label), caption, alt)]


def _space_groups(ensemble: CrystalEnsemble) -> list[Element]:
    from equilibra.systems.crystal.symmetry import TOLERANCE, symbol

    counts = Counter(ensemble.space_groups.tolist()).most_common()
    rows: list[list[CellLike]] = [
        ["none found" if number == 0 else f"{number} ({symbol(number)})", count, percent(count, len(ensemble))]
        for number, count in counts[:_GROUPS]
    ]
    others = sum(count for _, count in counts[_GROUPS:])
    if others:
        rows.append([f"{len(counts) - _GROUPS} others", others, percent(others, len(ensemble))])
    return [
        Table(
            ["space group", "structures", "share"],
            rows,
            f"Found with a tolerance of {TOLERANCE:g} Å, without relaxing anything.",
        )
    ]
