"""The report of free energies: profile with its error band, surface, states, and whether the numbers can be trusted."""

from __future__ import annotations

import math
from pathlib import Path

from equilibra.report.elements import Cell, CellLike, Element, Facts, Figure, Highlights, Table, Text, Tone
from equilibra.report.free_energies import FreeEnergies
from equilibra.report.free_energy_plots import axis_name, free_energy_map, free_energy_profile
from equilibra.report.molecule import greek
from equilibra.report.page import Page
from equilibra.thermo.estimate import Estimate

_TONES: dict[str, Tone] = {"good": "good", "usable": "warn", "not to be trusted": "bad"}


def free_energy_report(result: FreeEnergies) -> Page:
    """Builds the page of a molecule's free energies; `write` it to a file."""
    at = "" if result.temperature is None else f" at {result.temperature:g} K"
    over = greek(result.variable.name) + ("" if result.second is None else f" and {greek(result.second.name)}")
    page = Page(
        f"{result.name}: free energies",
        f"{result.samples.n:,} conformations{at}, over {over}.",
        lead=(Highlights(_highlights(result)),),
    )
    cautions = [Text(words) for words in (result.samples.warning, *result.notes) if words]
    if cautions:
        page.add("Read this first", *cautions)
    if result.states:
        page.add("States", *_states(result))
    page.add("Profile", _profile(result))
    if result.surface is not None and result.second is not None:
        page.add("Surface", _surface(result))
    if result.absolute is not None:
        page.add("Entropy and log Z", *_absolute(result))
    page.add("Can the numbers be trusted?", *_trust(result))
    if result.provenance:
        page.add("Provenance", Facts(dict(result.provenance)))
    return page


def write_free_energy_report(result: FreeEnergies, path: str | Path) -> Path:
    """Writes the report of free energies, one self-contained HTML page, and returns its path."""
    return free_energy_report(result).write(path)


def _highlights(result: FreeEnergies) -> dict[str, object]:
    tiles: dict[str, object] = {"conformations": result.samples.n, "effective number": f"{result.samples.effective:,.0f}"}
    for difference in result.differences[:2]:
        tiles[f"F({greek(difference.end)}) − F({greek(difference.start)})"] = f"{_minus(signed(difference.kt))} kT"
    if result.samples.diagnosis is not None:
        tiles["weights"] = result.samples.diagnosis.verdict
    return tiles


def _states(result: FreeEnergies) -> list[Element]:
    rows: list[list[CellLike]] = [
        [
            greek(s.name),
            percent(s.population.value),
            f"{percent(s.population.low)} to {percent(s.population.high)}",
            f"{s.count:,}",
            f"{s.effective:,.1f}",
            s.population.note,
        ]
        for s in result.states
    ]
    weighted = "share of the weight" if result.samples.log_weights is not None else "share of the conformations"
    caption = f"Population: {weighted} in each state, N = {result.samples.n:,}. Angles are in rad unless written otherwise. {result.samples.sentence}"
    elements: list[Element] = [
        _noted(["state", "population", "95 % interval", "conformations in it", "effective number", "note"], rows, caption)
    ]
    if result.differences:
        units = ["kT", *([] if result.temperature is None else ["kJ/mol"])]
        lines: list[list[CellLike]] = []
        for d in result.differences:
            values = [d.kt, *([] if result.temperature is None else [d.kj_per_mol])]
            cells = [
                cell
                for value in values
                for cell in (("–", "–") if value is None else (_minus(signed(value)), _minus(interval(value))))
            ]
            lines.append([f"{greek(d.start)} → {greek(d.end)}", *cells, d.kt.note])
        heads = [head for unit in units for head in (f"ΔF ({unit})", "95 % interval")]
        caption = "Free energy of the second state less that of the first, −kT ln of the ratio of populations; ± is one standard error."
        elements.append(_noted(["from → to", *heads, "note"], lines, caption))
    return elements


def _profile(result: FreeEnergies) -> Figure:
    found, variable = result.profile, result.variable
    width = (found.edges[0][1] - found.edges[0][0]) * (180.0 / math.pi if variable.unit == "rad" else 1.0)
    unit = "°" if variable.unit == "rad" else f" {variable.unit}"
    shaded = " Shaded: the states of the table." if any(state.spans for state in result.states) else ""
    caption = (
        f"Free energy F = −kT ln p along {greek(variable.name)}, lowest bin at zero; N = {result.samples.n:,}, worth {result.samples.effective:,.0f} independent "
        f"ones; {len(found.free_energy)} bins of {width:.3g}{unit}. Band: 95 % interval of each bin's −kT ln p. Gaps hold no conformation: F is high "
        f"there, and how high is not known.{shaded}"
    )
    alt = f"Line plot of the free energy over {axis_name(variable)} in kT, with its 95 % band."
    return Figure(free_energy_profile(found, variable, temperature=result.temperature, states=result.states), caption, alt)


def _surface(result: FreeEnergies) -> Figure:
    assert result.surface is not None  # asked before
    assert result.second is not None
    pair = (result.variable, result.second)
    a, b = result.surface.free_energy.shape
    caption = (
        f"Left: free energy over {greek(pair[0].name)} and {greek(pair[1].name)}, lowest bin at zero. Right: standard error of each bin. "
        f"N = {result.samples.n:,} in {a} × {b} bins; white bins hold no conformation, and in grey ones there are so few that the error has no upper end."
    )
    alt = f"Colour maps over {axis_name(pair[0])} and {axis_name(pair[1])}: free energy and its standard error in kT."
    return Figure(free_energy_map(result.surface, pair), caption, alt)


def _absolute(result: FreeEnergies) -> list[Element]:
    assert result.absolute is not None  # asked before
    rows: list[list[CellLike]] = [
        [name, _minus(str(value)), _minus(interval(value)), words]
        for name, value, words in (
            ("log Z", result.absolute.log_z, "logarithm of the integral of exp(−E/kT)"),
            (
                "entropy S/k",
                result.absolute.entropy,
                "⟨E⟩/kT + log Z; the negative log-likelihood that a perfect model reaches",
            ),
            ("heat capacity C/k", result.absolute.heat_capacity, "variance of E/kT, without kinetic energy"),
        )
    ]
    caption = f"Of the conformations that pass the checks, with respect to {result.absolute.measure}. N = {result.samples.n:,}; bootstrap errors. {result.absolute.note}"
    return [Table(["quantity", "value", "95 % interval", "what it is"], rows, caption.strip())]


def _trust(result: FreeEnergies) -> list[Element]:
    samples = result.samples
    rows: list[list[CellLike]] = [["conformations", f"{samples.n:,}", ""]]
    if result.rejected:
        rows.append(["failed the checks, left out", f"{result.rejected:,}", ""])
    if samples.diagnosis is not None:
        d = samples.diagnosis
        k = f"{d.pareto_k:.2f}" if math.isfinite(d.pareto_k) else "not fitted" if math.isnan(d.pareto_k) else "no tail"
        rows.append(
            [
                "effective sample size (Kish)",
                f"{d.ess:,.0f} of {d.n:,} ({100.0 * d.ess_fraction:.1f} %)",
                "100 or more is good, fewer than 10 is no estimate",
            ]
        )
        rows.append(["Pareto k of the largest weights", k, "below 0.5 is good, above 0.7 a few weights decide"])
        rows.append(["verdict", Cell(d.verdict, _TONES[d.verdict]), ""])
    elif samples.kind == "time series":
        rows.append(
            [
                "independent frames",
                f"about {samples.effective:,.0f}",
                "number of frames divided by the statistical inefficiency",
            ]
        )
    if samples.block is not None and samples.block > 1:
        rows.append(["block of the bootstrap", f"{samples.block:,} frames", "should be several relaxation times"])
    words = [samples.sentence]
    if samples.diagnosis is not None:
        words.append(samples.diagnosis.sentence)
    words.append("No error bar knows of a state that no conformation is in.")
    return [Table(["", "value", "how to read it"], rows), Text(" ".join(words))]


def signed(estimate: Estimate) -> str:
    """Returns an estimate as text; a dash where it is not defined."""
    return "–" if math.isnan(estimate.value) else str(estimate)


def interval(estimate: Estimate) -> str:
    """Returns the interval of an estimate, with one decimal more than its error needs."""
    if math.isnan(estimate.value):
        return "–"
    decimals = 2
    if 0.0 < estimate.error < math.inf:
        decimals = max(0, 1 - math.floor(math.log10(estimate.error)))
    low, high = (("-∞" if e < 0 else "∞") if math.isinf(e) else f"{e:.{decimals}f}" for e in (estimate.low, estimate.high))
    return f"{low} to {high}"


def percent(share: float) -> str:
    """Returns a share in per cent, with the digits that one close to 0 or to 100 % needs; only all is 100 %."""
    value = 100.0 * share
    rest = min(value, 100.0 - value)
    if rest <= 0.0:
        return f"{value:.0f} %"
    decimals = min(max(1, 1 - math.floor(math.log10(rest))), 6) if rest < 10.0 else 1
    return f"{value:.{decimals}f} %"


def _minus(text: str) -> str:
    """Returns a number as a table shows it: with a real minus sign, never broken across lines."""
    return text.replace("-", "−").replace(" ± ", "\u00a0±\u00a0")


def _noted(heads: list[str], rows: list[list[CellLike]], caption: str) -> Table:
    """Returns a table whose last column holds notes, without the column if there are none."""
    if any(row[-1] for row in rows):
        return Table(heads, rows, caption)
    return Table(heads[:-1], [row[:-1] for row in rows], caption)
