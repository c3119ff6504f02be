"""The report of log-densities: their distribution, their calibration against an energy, and the conformations at both ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equilibra.report.density_plots import calibration, log_density_histogram
from equilibra.report.elements import CellLike, Element, Facts, Figure, Highlights, Table, Text
from equilibra.report.from_molecule import frame_pdb
from equilibra.report.molecule import greek
from equilibra.report.page import Page
from equilibra.report.representatives import superpose_pdb
from equilibra.report.structure_view import Molecules

if TYPE_CHECKING:
    from equilibra.systems.molecule.conformation_density import ConformationDensity

_LISTED, _SHOWN, _MOST_TORSIONS = 6, 2, 6


def density_report(result: ConformationDensity) -> Page:
    """Builds the page of a molecule's log-densities; `write` it to a file."""
    at = "" if result.temperature is None else f" at {result.temperature:g} K"
    name = result.ensemble.system.name
    page = Page(
        f"{name}: log-density",
        f"{len(result):,} conformations under the model {result.provenance.get('model', '')}{at}.",
        lead=(Highlights(_highlights(result)),),
    )
    page.add("Distribution", _histogram(result))
    found = _calibration(result)
    if found:
        page.add("Calibration", *found)
    page.add("Most and least probable", *_extremes(result))
    page.add("Errors and measure", *_errors(result))
    page.add("Provenance", Facts(dict(result.provenance)))
    return page


def write_density_report(result: ConformationDensity, path: str | Path) -> Path:
    """Writes the report of log-densities, one self-contained HTML page, and returns its path."""
    return density_report(result).write(path)


def _highlights(result: ConformationDensity) -> dict[str, object]:
    values = result.log_density
    tiles: dict[str, object] = {"conformations": len(result), "mean ln p": f"{values.mean():.2f} nats".replace("-", "−")}
    tiles["integration error (mean)"] = f"{result.integration_error.mean():.2g} nats"
    if result.trace == "hutchinson":
        tiles["trace error (mean)"] = f"{result.trace_error.mean():.2g} nats"
    found = result.calibration()
    if found is not None:
        tiles["slope against −u"] = str(found.slope).replace("-", "−")
        tiles["Spearman"] = f"{found.spearman:.3f}".replace("-", "−")
    return tiles


def _histogram(result: ConformationDensity) -> Figure:
    caption = f"Natural logarithm of the density of each conformation, N = {len(result):,}. It is a {result.measure}."
    values = result.log_density
    alt = f"Histogram of ln p from {values.min():.1f} to {values.max():.1f} nats, mean {values.mean():.2f}."
    return Figure(log_density_histogram(values), caption, alt)


def _calibration(result: ConformationDensity) -> list[Element]:
    found = result.calibration()
    if found is None or result.u is None or result.temperature is None:
        return []
    error = result.trace_error if result.trace == "hutchinson" else None
    image = calibration(
        -result.u,
        result.log_density,
        slope=found.slope.value,
        energy=result.energy_name,
        temperature=result.temperature,
        error=error,
    )
    bars = " Bars: standard error of the trace." if error is not None else ""
    caption = (
        f"ln p against −u, u = E/kT of {result.energy_name} at {result.temperature:g} K, both less their means; N = {found.n:,}. A perfect model lies "
        f"on the dashed line.{bars}"
    )
    alt = f"Scatter plot of ln p over −u: slope {found.slope.value:.2f}, Spearman correlation {found.spearman:.2f}."
    rows: list[list[CellLike]] = [
        ["slope of ln p over −u", str(found.slope).replace("-", "−"), "1"],
        ["Spearman's rank correlation", f"{found.spearman:.3f}".replace("-", "−"), "1"],
        ["standard deviation of ln p + u (nats)", f"{found.spread:.2f}", "0"],
    ]
    table = Table(
        ["", "value", "perfect model"],
        rows,
        "± is a bootstrap standard error over conformations. A few conformations of very high energy can decide the slope; the rank correlation does not "
        "know how high they are. The standard deviation of ln p + u is the spread of the log-weights that would turn these conformations into the Boltzmann "
        "distribution: above 2 or so, few of them would carry the weight.",
    )
    return [Figure(image, caption, alt), table]


def _extremes(result: ConformationDensity) -> list[Element]:
    order = np.argsort(-result.log_density, kind="stable")
    listed = min(_LISTED, max(1, len(order) // 2)) if len(order) > 1 else 1
    chosen = [*order[:listed], *(order[-listed:][::-1] if len(order) > 1 else [])]
    torsions = dict(list(result.ensemble.torsions().items())[:_MOST_TORSIONS])
    heads = ["", "conformation", "ln p (nats)", "integration error"]
    heads += ["trace error"] if result.trace == "hutchinson" else []
    heads += ["u (kT)"] if result.u is not None else []
    rows: list[list[CellLike]] = []
    for rank, i in enumerate(chosen):
        side, place = ("most probable", rank + 1) if rank < listed else ("least probable", rank - listed + 1)
        row: list[CellLike] = [
            f"{place}. {side}",
            int(result.index[i]),
            f"{result.log_density[i]:.2f}".replace("-", "−"),
            f"{result.integration_error[i]:.2g}",
        ]
        row += [f"{result.trace_error[i]:.2g}"] if result.trace == "hutchinson" else []
        row += [f"{result.u[i]:.2f}".replace("-", "−")] if result.u is not None else []
        row += [round(float(np.degrees(values[i]))) for values in torsions.values()]
        rows.append([*row, "; ".join(result.ensemble.validity.reasons(int(i))) or "valid"])
    table = Table(
        [*heads, *(f"{greek(name)} (degrees)" for name in torsions), "checks"],
        rows,
        f"The {listed} conformations of highest and of lowest density of {len(order):,}; numbered as in the source, from 0.",
    )
    models = [*order[:_SHOWN], *(order[-_SHOWN:][::-1] if len(order) > 2 * _SHOWN else [])]
    labels = [
        f"{'most' if k < _SHOWN else 'least'} probable {k % _SHOWN + 1}: ln p {result.log_density[i]:.1f}".replace("-", "−")
        for k, i in enumerate(models)
    ]
    caption = "Conformations of highest and lowest density, superposed. Drag to turn; click, then scroll, to zoom."
    return [table, Molecules(superpose_pdb([frame_pdb(result.ensemble, int(i)) for i in models]), labels, caption)]


def _errors(result: ConformationDensity) -> list[Element]:
    words = {
        "estimate": "expected of what was left out, and of the steps; 95 to 100 of 100 true errors are below it; a lower tolerance makes it smaller",
        "halving": "difference to a second run with half the steps; more steps make it smaller",
        "nodes": "difference to the same nodes in pairs of steps; more steps make it smaller",
    }
    checked = words[str(result.provenance.get("check", "nodes"))]
    rows: list[list[CellLike]] = [
        [
            "integration error",
            f"{result.integration_error.mean():.2g}",
            f"{result.integration_error.max():.2g}",
            checked,
        ],
    ]
    if result.trace == "hutchinson":
        noise = "standard error over the random probes; a variance v in ln p shifts a log Z made of it by about v/2"
        rows.append(["trace error", f"{result.trace_error.mean():.2g}", f"{result.trace_error.max():.2g}", noise])
    else:
        rows.append(["trace error", "0", "0", f"the trace is exact, over {result.degrees} directions"])
    table = Table(["error of ln p (nats)", "mean", "largest", "what it is"], rows)
    text = (
        f"The value is a {result.measure}. Its absolute height depends on the unit Å; differences between conformations of one molecule do not. "
        "The density says how the model weighs conformations, right or wrong."
    )
    return [table, *[Text(part) for part in (text, *result.notes)]]
