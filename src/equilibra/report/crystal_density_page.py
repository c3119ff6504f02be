"""The report of log-densities of crystals: their distribution for each size of cells, the most and the least probable structures, and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equilibra.report.crystal_structures import cell_pdb
from equilibra.report.distributions import Distribution, distributions
from equilibra.report.elements import CellLike, Figure, Highlights, Table, Text
from equilibra.report.page import Page
from equilibra.report.sections import provenance_elements
from equilibra.report.structure_view import Molecules
from equilibra.systems.crystal.density import MEASURE

if TYPE_CHECKING:
    from equilibra.systems.crystal.density import CrystalDensity

_LISTED = 6
_SHOWN = 2
_SIZES = 6  # numbers of atoms with a histogram of their own: the most frequent ones


def crystal_density_report(result: CrystalDensity) -> Page:
    """Builds the page of log-densities of crystals; `write` it to a file."""
    error = result.integration_error
    tiles: dict[str, object] = {"structures": len(result), "integration error (mean)": f"{error.mean():.2g} nats"}
    if result.trace_error.any():
        tiles["trace error (mean)"] = f"{result.trace_error.mean():.2g} nats"
    subtitle = f"{len(result):,} structures under the model {result.provenance.get('model', '')}."
    page = Page("Crystals: log-density", subtitle, lead=(Highlights(tiles),))
    sizes, counts = np.unique(result.atoms, return_counts=True)
    shown = sorted(int(size) for size in sizes[np.argsort(-counts, kind="stable")][:_SIZES])
    panels = [
        Distribution(name=f"ln p of cells of {size} atoms (nats)", values=result.log_density[result.atoms == size])
        for size in shown
    ]
    caption = f"Natural logarithm of the density. It is a {MEASURE}."
    alt = f"Histograms of ln p of cells of {', '.join(map(str, shown))} atoms."
    # of each size by itself: densities of cells of different sizes are in different units
    ranked = [(size, _ranked(result, size)) for size in shown]
    text = "The density says how the model weighs structures, right or wrong; it is that of its data, which need not be at equilibrium."
    rows: list[list[CellLike]] = [["integration error", f"{error.mean():.2g}", f"{error.max():.2g}"]]
    rows.append(["trace error", f"{result.trace_error.mean():.2g}", f"{result.trace_error.max():.2g}"])
    errors = Table(["error of ln p (nats)", "mean", "largest"], rows, "A trace error of zero is that of the exact trace.")
    return page.extend(
        ("Distribution", [Figure(distributions(panels), caption, alt)]),
        ("Most and least probable", [_table(result, ranked), _view(result, ranked)]),
        ("Errors and measure", [errors, *(Text(part) for part in (text, *result.notes))]),
        ("Provenance", provenance_elements(dict(result.provenance))),
    )


def write_crystal_density_report(result: CrystalDensity, path: str | Path) -> Path:
    """Writes the report of log-densities, one self-contained HTML page, and returns its path."""
    return crystal_density_report(result).write(path)


def _ranked(result: CrystalDensity, size: int) -> np.ndarray:
    """Returns the structures with so many atoms from the most to the least probable."""
    members = np.flatnonzero(result.atoms == size)
    return np.asarray(members[np.argsort(-result.log_density[members], kind="stable")])


def _ends(order: np.ndarray, most: int) -> list[int]:
    """Returns the first and the last few of a ranking, each once."""
    return list(dict.fromkeys([*order[:most].tolist(), *order[-most:].tolist()]))


def _table(result: CrystalDensity, ranked: Sequence[tuple[int, np.ndarray]]) -> Table:
    rows: list[list[CellLike]] = []
    for size, order in ranked:
        for i in _ends(order, _LISTED):
            structure = result.structures[i]
            place = int(np.flatnonzero(order == i)[0]) + 1
            row: list[CellLike] = [structure.name or structure.formula, size, f"{place} of {len(order)}"]
            row += [f"{result.log_density[i]:.2f}".replace("-", "−"), f"{result.integration_error[i]:.2g}"]
            rows.append([*row, round(structure.density, 3), None if structure.energy is None else round(structure.energy, 4)])
    head = ["structure", "atoms", "rank", "ln p (nats)", "integration error", "density (g/cm³)", "energy (eV per atom)"]
    return Table(head, rows, f"The {_LISTED} structures of highest and of lowest density of each size of cells.")


def _view(result: CrystalDensity, ranked: Sequence[tuple[int, np.ndarray]]) -> Molecules:
    chosen = [i for _, order in ranked for i in _ends(order, _SHOWN)][: 2 * _SHOWN * 2]
    structures = [result.structures[i].right_handed() for i in chosen]
    labels = [f"{len(result.structures[i])} atoms: ln p {result.log_density[i]:.1f}".replace("-", "−") for i in chosen]
    caption = "Structures of highest and lowest density, each in its cell. Drag to turn; click, then scroll, to zoom."
    models = [cell_pdb(item.frac, item.cell, item.numbers.tolist()) for item in structures]
    return Molecules(models, labels, caption, "crystal")
