"""The report of a molecule's ensemble: is it right, where does it live, what does it look like, and what may it be used for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equilibra.report import plots
from equilibra.report.canvas import effective_number, finite, frame_weights
from equilibra.report.elements import CellLike, Element, Figure, Highlights, Table, Text
from equilibra.report.guidance import guidance_elements
from equilibra.report.molecule_data import BondTable, EvaluationRow, MoleculeReportData, RepresentativeStructure
from equilibra.report.page import Page
from equilibra.report.representatives import Representatives, choose_representatives, superpose_pdb
from equilibra.report.sections import (
    ValidityRow,
    card_elements,
    percent,
    provenance_elements,
    share,
    significant,
    validity_elements,
    weight_elements,
)
from equilibra.report.structure_view import Molecules

__all__ = [
    "BondTable",
    "EvaluationRow",
    "MoleculeReportData",
    "RepresentativeStructure",
    "Representatives",
    "ValidityRow",
    "choose_representatives",
    "molecule_report",
    "percent",
]

_MOST_SURFACES = 4


def molecule_report(data: MoleculeReportData) -> Page:
    """Builds the report page of a molecule's ensemble.

    Arguments:
        data: What to show. Parts that are empty or None are left out.

    Returns:
        The page; `write` it to a file.
    """
    compared = "" if data.reference_torsions is None else f", compared with {data.reference_label}"
    subtitle = f"{data.count:,} conformations at {data.temperature:g} K{compared}."
    page = Page(data.name, subtitle, lead=(Highlights(_highlights(data)),))
    return page.extend(
        ("Weights", weight_elements(data.log_weights, data.weight_verdict, data.weight_facts)),
        ("Guidance", guidance_elements(data.guided, data.weights)),
        ("Free energy", _surfaces(data)),
        ("Torsions", _marginals(data)),
        ("Structures", _structures(data)),
        ("Validity", validity_elements(data.validity)),
        ("Bond lengths", _bonds(data)),
        ("Energy", _energy(data)),
        ("Evaluation", _evaluation(data)),
        ("What this is not good for", card_elements(data.limits)),
        ("Provenance", provenance_elements(data.provenance)),
    )


def torsion_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs of names that differ only in `phi` and `psi`, or φ and ψ, such as ("phi 2", "psi 2")."""
    known = set(names)
    swapped = [(name, name.replace("phi", "psi").replace("φ", "ψ")) for name in names]
    return [(a, b) for a, b in swapped if a != b and b in known]


def _highlights(data: MoleculeReportData) -> dict[str, object]:
    tiles: dict[str, object] = {"conformations": data.count}
    if data.weights is not None:
        tiles["effective samples of these weights"] = f"{effective_number(data.weights):,.0f}"
    if data.validity:
        worst = min(data.validity, key=lambda row: row.passed / max(row.total, 1))
        tiles[f"lowest pass rate ({worst.check})"] = percent(worst.passed, worst.total)
    tiles["temperature"] = f"{data.temperature:g} K"
    return {**tiles, **data.highlights}


def _surfaces(data: MoleculeReportData) -> list[Element]:
    reference = data.reference_torsions
    pairs = torsion_pairs(list(data.torsions))
    elements: list[Element] = []
    for phi, psi in pairs[:_MOST_SURFACES]:
        both = (reference[phi], reference[psi]) if reference is not None and phi in reference and psi in reference else None
        marks = [(s.torsions[phi], s.torsions[psi]) for s in data.representatives if phi in s.torsions and psi in s.torsions]
        marks = marks if len(marks) == len(data.representatives) else []
        image = plots.ramachandran_surface(
            data.torsions[phi],
            data.torsions[psi],
            data.weights,
            temperature=data.temperature,
            reference=both,
            reference_label=data.reference_label,
            marks=marks,
            names=(greek(phi), greek(psi)),
        )
        beside = f", samples on the left and {data.reference_label} on the right, on the same colour scale" if both else ""
        where = " Numbers mark the representative structures shown below." if marks else ""
        caption = (
            f"Free energy F = −kT ln p over {greek(phi)} and {greek(psi)}{beside}. Lines are 1 kT apart; white was not visited."
            f"{where}"
        )
        alt = f"Ramachandran free-energy surface over {greek(phi)} and {greek(psi)} in kT{beside}. {_extremes(data, phi, psi)}"
        elements.append(Figure(image, caption, alt))
    if len(pairs) > _MOST_SURFACES:
        elements.append(
            Text(f"The first {_MOST_SURFACES} of {len(pairs)} pairs are drawn; the marginals below show every torsion.")
        )
    return elements


def greek(name: str) -> str:
    """Returns a torsion's name with its Greek letters: `phi 2` becomes φ 2."""
    for word, letter in (("phi", "φ"), ("psi", "ψ"), ("omega", "ω"), ("chi", "χ")):
        name = name.replace(word, letter)
    return name


def _extremes(data: MoleculeReportData, phi: str, psi: str) -> str:
    positive = float(np.average(np.sin(finite(phi, data.torsions[phi])) > 0.0, weights=frame_weights(data.weights, data.count)))
    return f"{100.0 * positive:.1f} % of the samples have positive {greek(phi)}."


def _marginals(data: MoleculeReportData) -> list[Element]:
    if not data.torsions:
        return []
    samples = {greek(name): values for name, values in data.torsions.items()}
    reference = (
        None if data.reference_torsions is None else {greek(name): values for name, values in data.reference_torsions.items()}
    )
    image = plots.torsion_marginals(samples, reference, weights=data.weights, reference_label=data.reference_label)
    against = "" if reference is None else f" Blue: samples; grey: {data.reference_label}."
    names = ", ".join(samples)
    return [
        Figure(image, f"Distribution of each torsion.{against}", f"Histograms of {names} from −180 to 180 degrees.{against}")
    ]


def _structures(data: MoleculeReportData) -> list[Element]:
    chosen = data.representatives
    if not chosen:
        return []
    models = superpose_pdb([s.pdb for s in chosen], data.superposed_atoms)
    labels = [f"{i + 1} · {s.label} · {share(s.population)}" for i, s in enumerate(chosen)]
    caption = "Representative structures, superposed, with the share of the ensemble each stands for. Drag to turn; click, then scroll, to zoom."
    names = list(dict.fromkeys(name for s in chosen for name in s.torsions))
    rows: list[list[CellLike]] = [
        [f"{i + 1} · {s.label}", share(s.population), *(_degrees(s.torsions.get(name)) for name in names)]
        for i, s in enumerate(chosen)
    ]
    table = Table(["structure", "population", *(f"{greek(name)} (degrees)" for name in names)], rows)
    return [Molecules(models, labels, caption), table]


def _degrees(angle: float | None) -> int | None:
    return None if angle is None else round(float((np.degrees(angle) + 180.0) % 360.0 - 180.0))


def _bonds(data: MoleculeReportData) -> list[Element]:
    bonds = data.bonds
    if bonds is None:
        return []
    image = plots.bond_lengths(bonds.names, bonds.mean, bonds.std, bonds.reference_mean, bonds.reference_std)
    if bonds.reference_mean is None or bonds.reference_std is None:
        return [Figure(image, "Mean and standard deviation of each bond length.", "Dot plot of bond lengths in Å.")]
    error = np.abs(np.asarray(bonds.mean) - np.asarray(bonds.reference_mean))
    ratio = np.asarray(bonds.std) / np.asarray(bonds.reference_std)
    summary = (
        f"Mean error {error.mean():.4f} Å, largest {error.max():.4f} Å ({bonds.names[int(error.argmax())]}); "
        f"ratio of standard deviations {ratio.min():.2f} to {ratio.max():.2f}."
    )
    caption = f"Bond lengths against {data.reference_label}. {summary} Shaded: within 0.005 Å, and within 10 %."
    return [Figure(image, caption, f"Dot plot of each bond's error and ratio of fluctuations. {summary}")]


def _energy(data: MoleculeReportData) -> list[Element]:
    if data.energies is None:
        return []
    image = plots.energy_histogram(
        data.energies,
        data.reference_energies,
        temperature=data.temperature,
        weights=data.weights,
        reference_label=data.reference_label,
    )
    filled = data.weights is not None and data.reference_energies is None
    caption = "Potential energy of the samples as they are, without minimisation."
    caption += " Grey: as drawn, without their weights." if filled else ""
    return [Figure(image, caption, "Histogram of the potential energy in kT.")]


def _evaluation(data: MoleculeReportData) -> list[Element]:
    elements: list[Element] = []
    if data.evaluation:
        rows: list[list[CellLike]] = [
            [
                r.metric,
                significant(r.value),
                significant(r.floor),
                f"{r.value / r.floor:.2f} ×" if r.floor else None,
                significant(r.baseline),
                r.n,
            ]
            for r in data.evaluation
        ]
        caption = (
            "Floor: two independent draws of the reference at the same N; a perfect sampler scores it. Baseline: a simple alternative. "
            "Smaller is better where a floor is given."
        )
        elements.append(Table(["metric", "value", "floor", "value / floor", "baseline", "N"], rows, caption))
    if data.quality is not None:
        metric = data.evaluation[0].metric if data.evaluation else "metric"
        floor = data.evaluation[0].floor if data.evaluation else None
        image = plots.quality_curve(*data.quality, floor, metric=metric)
        elements.append(
            Figure(image, f"{metric} against network calls per sample.", f"Line plot of {metric} falling with network calls.")
        )
    return elements
