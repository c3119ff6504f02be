"""The report of a protein's ensemble: is it valid, what does it look like, how does it move, and how near is it to the reference."""

from __future__ import annotations

import numpy as np

from equilibra.analysis.protein.secondary_structure import CODES
from equilibra.analysis.table import EvaluationTable
from equilibra.report import plots, protein_plots
from equilibra.report.distributions import Distribution, distributions
from equilibra.report.elements import CellLike, Element, Facts, Figure, Highlights, Table
from equilibra.report.guidance import guidance_elements
from equilibra.report.page import Page
from equilibra.report.plane_surface import plane_surface
from equilibra.report.protein_data import ProteinReportData, ProteinStructure, RelaxationSummary
from equilibra.report.sections import (
    card_elements,
    evaluation_elements,
    provenance_elements,
    share,
    significant,
    validity_elements,
    weight_elements,
)
from equilibra.report.structure_view import Molecules

SHORTEST_CARTOON = 8
"""Shorter peptides are drawn as balls and sticks."""


def protein_report(data: ProteinReportData) -> Page:
    """Builds the report page of a protein's ensemble.

    Arguments:
        data: What to show. Parts that are empty or None are left out.

    Returns:
        The page; `write` it to a file.
    """
    count = len(data.samples.weights)
    kelvin = "" if data.temperature is None else f" at {data.temperature:g} K"
    compared = "" if data.reference is None else f", compared with {data.reference_label}"
    subtitle = f"{count:,} conformations of {len(data.residues):,} residues{kelvin}{compared}."
    page = Page(data.name, subtitle, lead=(Highlights(data.highlights),) if data.highlights else ())
    return page.extend(
        ("Structures", _structures(data)),
        ("Weights", weight_elements(data.log_weights, data.weight_verdict, data.weight_facts)),
        ("Guidance", guidance_elements(data.guided, None if data.log_weights is None else data.samples.weights)),
        ("Flexibility", _flexibility(data)),
        ("Contacts", _contacts(data)),
        ("Size", _size(data)),
        ("Likeness to the native structure", _native(data)),
        ("Where it goes", _projections(data)),
        ("Backbone torsions", _torsions(data)),
        ("Secondary structure", _secondary_structure(data)),
        ("Validity", _validity(data)),
        ("All atoms", [] if data.relaxation is None else _relaxation(data.relaxation)),
        ("Evaluation", evaluation_elements(data.evaluation, _floors(data.evaluation))),
        ("What this is not good for", card_elements(data.limits)),
        ("Provenance", provenance_elements(data.provenance)),
    )


def _floors(table: EvaluationTable | None) -> str:
    """Returns what floors and baselines of an evaluation are."""
    sides = (
        "groups of different runs" if table is not None and table.split == "runs" else "the contiguous halves of the only run"
    )
    return (
        f"Floor: two independent draws of the reference at the same N ({sides}); a perfect sampler scores it. For a metric with a value of the "
        "reference it is the mean difference of two such draws, and the value should be as near to the reference's. Baseline: a Gaussian with "
        "the mean and covariance of the reference."
    )


def drawing_of(residues: int) -> str:
    """Returns how a protein of so many residues is drawn."""
    return "cartoon" if residues >= SHORTEST_CARTOON else "sticks"


def _structures(data: ProteinReportData) -> list[Element]:
    chosen = data.structures
    if not chosen:
        return []
    names = list(dict.fromkeys(name for item in chosen for name in item.values))
    caption = (
        f"Conformations that stand for clusters by C-alpha RMSD, superposed on {data.superposed_on or 'one of them'}, with the share of the ensemble "
        "that is nearest to each. Drag to turn; click, then scroll, to zoom."
    )
    view = Molecules(
        [item.pdb for item in chosen],
        [f"{i + 1} · {_title(item)}" for i, item in enumerate(chosen)],
        caption,
        "cartoon" if drawing_of(len(data.residues)) == "cartoon" else "sticks",
    )
    rows: list[list[CellLike]] = [
        [
            f"{i + 1} · {item.label}",
            None if item.population is None else share(item.population),
            None if item.frame is None else item.frame + 1,
            *(significant(item.values.get(name)) for name in names),
        ]
        for i, item in enumerate(chosen)
    ]
    return [view, Table(["structure", "population", "sample", *names], rows)]


def _title(item: ProteinStructure) -> str:
    return item.label if item.population is None else f"{item.label} · {share(item.population)}"


def _flexibility(data: ProteinReportData) -> list[Element]:
    ours, theirs = data.samples, data.reference
    image = protein_plots.flexibility(
        data.residues,
        ours.rmsf,
        None if theirs is None else theirs.rmsf,
        None if theirs is None else theirs.rmsf_band,
        chain_starts=data.chain_starts,
        reference_label=data.reference_label,
    )
    stiff, soft = int(ours.rmsf.argmin()), int(ours.rmsf.argmax())
    words = (
        f"Mean {ours.rmsf.mean():.2f} Å; smallest {ours.rmsf[stiff]:.2f} Å ({data.residues[stiff]}), largest {ours.rmsf[soft]:.2f} Å "
        f"({data.residues[soft]})."
    )
    if theirs is not None:
        words += f" {data.reference_label}: mean {theirs.rmsf.mean():.2f} Å."
    on = f", superposed on {data.superposed_on}" if data.superposed_on else ""
    return [Figure(image, f"Fluctuation of each C-alpha about its mean{on}. {words}", f"RMSF of each residue. {words}")]


def _contacts(data: ProteinReportData) -> list[Element]:
    theirs = data.reference
    image = protein_plots.contact_maps(
        data.residues,
        data.samples.contacts,
        None if theirs is None else theirs.contacts,
        chain_starts=data.chain_starts,
        reference_label=data.reference_label,
    )
    half = "" if theirs is None else f" Above the diagonal: samples; below: {data.reference_label}."
    caption = f"Share of conformations in which two C-alpha atoms are nearer than 8 Å; neighbours up to two apart are left white.{half}"
    formed = int((np.triu(data.samples.contacts, 3) > 0.5).sum())
    return [Figure(image, caption, f"Contact map. {formed} contacts are formed in more than half of the samples.{half}")]


def _size(data: ProteinReportData) -> list[Element]:
    ours, theirs = data.samples, data.reference
    panels = [
        _distribution(data, "radius of gyration of C-alpha (Å)", "gyration"),
        _distribution(data, "end-to-end distance (Å)", "ends"),
    ]
    image = distributions(panels, reference_label=data.reference_label)
    words = f"Samples: mean radius of gyration {ours.mean(ours.gyration):.2f} Å, mean end-to-end distance {ours.mean(ours.ends):.2f} Å."
    if theirs is not None:
        words += f" {data.reference_label}: {theirs.mean(theirs.gyration):.2f} Å and {theirs.mean(theirs.ends):.2f} Å."
    ends = "" if len(data.chain_starts) == 1 else " The ends are those of the first chain."
    return [Figure(image, f"Size of the conformations. {words}{ends}", f"Histograms of both. {words}")]


def _native(data: ProteinReportData) -> list[Element]:
    ours, theirs = data.samples, data.reference
    if ours.native_rmsd is None or ours.tm is None:
        return []
    panels = [
        _distribution(data, "C-alpha RMSD to the native structure (Å)", "native_rmsd"),
        _distribution(data, "TM-score to the native structure", "tm", "tm_weights"),
    ]
    image = distributions(panels, reference_label=data.reference_label)
    words = f"Samples: mean RMSD {ours.mean(ours.native_rmsd):.2f} Å, mean TM-score {np.average(ours.tm, weights=ours.tm_weights):.2f}."
    if theirs is not None and theirs.native_rmsd is not None and theirs.tm is not None:
        tm = np.average(theirs.tm, weights=theirs.tm_weights)
        words += f" {data.reference_label}: {theirs.mean(theirs.native_rmsd):.2f} Å and {tm:.2f}."
    return [Figure(image, words, f"Histograms of the RMSD and the TM-score to the native structure. {words}")]


def _distribution(data: ProteinReportData, name: str, values: str, weights: str = "weights") -> Distribution:
    ours, theirs = data.samples, data.reference
    return Distribution(
        name=name,
        values=getattr(ours, values),
        weights=getattr(ours, weights),
        reference=None if theirs is None else getattr(theirs, values),
        reference_weights=None if theirs is None else getattr(theirs, weights),
    )


def _projections(data: ProteinReportData) -> list[Element]:
    elements: list[Element] = []
    for projection in data.projections:
        points = np.asarray(projection.samples, dtype=np.float64)
        frames = [item.frame for item in data.structures if item.frame is not None]
        image = plane_surface(
            points,
            data.samples.weights,
            axes=projection.axes,
            reference=projection.reference,
            reference_weights=None if data.reference is None else data.reference.weights,
            reference_label=data.reference_label,
            marks=[(float(points[frame, 0]), float(points[frame, 1])) for frame in frames],
        )
        marks = " Numbers mark the structures shown above." if frames else ""
        caption = f"Free energy F = −kT ln p in the plane of {projection.title}; white was not visited.{marks}"
        elements.append(Figure(image, caption, caption))
    return elements


def _torsions(data: ProteinReportData) -> list[Element]:
    ours, theirs = data.samples, data.reference
    if not ours.phi.size:
        return []
    image = plots.ramachandran_surface(
        ours.phi,
        ours.psi,
        ours.torsion_weights,
        temperature=data.temperature,
        reference=None if theirs is None else (theirs.phi, theirs.psi),
        reference_weights=None if theirs is None else theirs.torsion_weights,
        reference_label=data.reference_label,
    )
    right = 100.0 * float(np.average(ours.phi > 0.0, weights=ours.torsion_weights))
    words = f"{right:.1f} % of the samples' residues have positive φ."
    caption = f"φ and ψ of every residue that has both, in every conformation. {words}"
    return [Figure(image, caption, f"Ramachandran plot of all residues together. {words}")]


def _secondary_structure(data: ProteinReportData) -> list[Element]:
    theirs = data.reference
    image = protein_plots.structure_shares(
        data.residues,
        data.samples.structure,
        None if theirs is None else theirs.structure,
        chain_starts=data.chain_starts,
        reference_label=data.reference_label,
    )

    def words(shares: np.ndarray) -> str:
        helix, strand = (100.0 * float(shares[:, CODES.index(code)].mean()) for code in ("H", "E"))
        return f"{helix:.1f} % helix, {strand:.1f} % strand"

    text = f"Samples: {words(data.samples.structure)}."
    if theirs is not None:
        text += f" {data.reference_label}: {words(theirs.structure)}."
    caption = f"Share of conformations in which each residue is helix, strand or coil, by the hydrogen bonds of the backbone (DSSP). {text}"
    return [Figure(image, caption, f"Stacked bars for each residue. {text}")]


def _validity(data: ProteinReportData) -> list[Element]:
    elements = validity_elements(data.validity)
    if data.rejections:
        rows: list[list[CellLike]] = [[item.check, item.count, item.example] for item in data.rejections]
        elements.append(
            Table(["reason", "conformations", "for example"], rows, "Why conformations failed; one may have several reasons.")
        )
    return elements


def _relaxation(summary: RelaxationSummary) -> list[Element]:
    moved, clashes = np.asarray(summary.moved, dtype=np.float64), np.asarray(summary.clashes, dtype=np.float64)
    elements: list[Element] = [Facts(summary.facts)]
    if moved.size:
        image = distributions(
            [
                Distribution(name="C-alpha RMSD of the relaxation (Å)", values=moved),
                Distribution(
                    name="clashes of heavy atoms; grey: before relaxation", values=clashes[:, 1], reference=clashes[:, 0]
                ),
            ],
            reference_label="before",
        )
        words = f"C-alpha atoms moved by {np.median(moved):.2f} Å (median), {moved.max():.2f} Å at most."
        elements.append(
            Figure(image, f"What side chains and relaxation did. {words}", f"Histograms of displacements and clashes. {words}")
        )
    if summary.reasons:
        rows: list[list[CellLike]] = [[reason, count] for reason, count in summary.reasons.items()]
        elements.append(Table(["what is wrong", "conformations"], rows))
    return elements
