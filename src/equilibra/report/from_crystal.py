"""The report of an ensemble of crystals: rotatable cells, densities and space groups, checks, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.errors import InputError
from equilibra.report.canvas import LINE, SAMPLE, filled, finite, histogram_density, png, sheet
from equilibra.report.crystal_structures import cell_pdb
from equilibra.report.elements import CellLike, Element, Facts, Figure, Highlights, Table, Text
from equilibra.report.ensemble_facts import cost, is_weighted, limits, provenance, validity_rows, weighting
from equilibra.report.page import Page
from equilibra.report.sections import percent, validity_elements, weight_elements
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
    called = label or (Path(reference).name if isinstance(reference, str | Path) else "reference")
    table = ensemble.validity_table()
    tiles: dict[str, object] = {"structures": len(ensemble), "valid": percent(table[-1][1], table[-1][2])}
    tiles |= {"mean density (g/cm³)": round(float(np.average(ensemble.densities, weights=ensemble.weights)), 3)}
    tiles |= {"space groups": len(set(ensemble.space_groups.tolist())), **cost(ensemble)}
    verdict, facts = weighting(ensemble)
    subtitle = f"{len(ensemble):,} crystal structures of {ensemble.system.formula}, {ensemble.system.atoms} atoms in the cell."
    page = Page(ensemble.system.name, subtitle, lead=(Highlights(tiles),))
    card = limits(ensemble.provenance.get("model") if model is None else model)
    for title, elements in (
        ("Structures", _structures(ensemble)),
        ("Weights", weight_elements(ensemble.log_weights if is_weighted(ensemble) else None, verdict, facts)),
        ("Density", _density(ensemble, compared, called)),
        ("Space groups", _space_groups(ensemble)),
        ("Validity", validity_elements(validity_rows(ensemble, _CRITERIA))),
        ("Evaluation", [] if evaluation is None else _evaluation(evaluation)),
        ("What this is not good for", [Text(card)] if card.strip() else []),
        ("Provenance", [Facts(provenance(ensemble))] if ensemble.provenance else []),
    ):
        if elements:
            page.add(title, *elements)
    return page


def _evaluation(table: EvaluationTable) -> list[Element]:
    from equilibra.report.protein import evaluation_elements

    return evaluation_elements(table)


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


def _density(ensemble: CrystalEnsemble, reference: np.ndarray | None, label: str) -> list[Element]:
    x = finite("densities", ensemble.densities)
    y = x if reference is None else finite("densities of the reference", reference)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = max(0.05 * (high - low), 0.05)
    edges = np.linspace(low - margin, high + margin, 41)
    figure = sheet(7.2, 3.4)
    ax = figure.subplots()
    if reference is not None:
        filled(ax, np.histogram(y, edges, density=True)[0], edges, label)
    ax.stairs(histogram_density(x, ensemble.weights, edges), edges, color=SAMPLE, lw=2.0, label="samples")
    ax.set(xlim=(edges[0], edges[-1]), xlabel="density (g/cm³)", ylabel="share per g/cm³")
    ax.grid(axis="y", color=LINE, lw=0.6)
    if reference is not None:
        ax.legend(frameon=False, fontsize=9, loc="upper right")
    alt = f"Histogram of mass densities from {x.min():.2f} to {x.max():.2f} g/cm³."
    return [Figure(png(figure), f"Mass density of the structures{'' if reference is None else f'; grey: {label}'}.", alt)]


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
