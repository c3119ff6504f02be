"""The report of poses of a ligand: binding modes in their pocket to turn in the hand, populations, contacts, checks, provenance."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from equilibra.report.canvas import LINE, SAMPLE, png, sheet
from equilibra.report.elements import CellLike, Element, Facts, Figure, Highlights, Table, Text
from equilibra.report.ensemble_facts import cost, is_weighted, limits, provenance, validity_rows, weighting
from equilibra.report.page import Page
from equilibra.report.sections import evaluation_elements, percent, validity_elements, weight_elements
from equilibra.report.structure_view import Molecules
from equilibra.systems.ligand.contacts import contact_table
from equilibra.systems.ligand.files import receptor_pdb
from equilibra.systems.ligand.validity import CONTACT

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable
    from equilibra.systems.ligand.ensemble import LigandEnsemble

MOST_MODES = 6
"""So many binding modes can be turned in the hand."""

_POCKET = 5.0  # Å: residues of the receptor so near to a shown pose are shown
_CONTACTS = 20
_CRITERIA = {
    "finite": "every coordinate is a finite number",
    "bonds": "within 25 % of the bounds of distance geometry",
    "angles": "1-3 distances within 25 % of their bounds",
    "clash": "no two atoms of the ligand run into each other",
    "stereo": "every stereo-centre as in the input",
    "double bonds": "every double bond cis or trans as in the input",
    "pocket": "all heavy atoms in the box",
    "receptor": f"heavy atoms at least {CONTACT} of the sum of van der Waals radii from the receptor's",
    "all": "every check above",
}


def report_page(
    ensemble: LigandEnsemble,
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
        reference: Not used: what is compared with it is in the evaluation.
        model: The model that made it.
        temperature: Not used: that of the provenance counts.
        evaluation: Metrics to show.
        label: Not used.
        seed: Not used: nothing here is drawn.
    """
    table = ensemble.validity_table()
    first = ensemble.clusters[0]
    tiles: dict[str, object] = {
        "poses": len(ensemble),
        "valid": percent(table[-1][1], table[-1][2]),
        "binding modes": len(ensemble.clusters),
    }
    tiles |= {"largest population": f"{100 * first.population:.1f} %", **cost(ensemble)}
    if ensemble.rmsd is not None:
        tiles["RMSD of the best mode (Å)"] = round(float(ensemble.rmsd[first.best]), 2)
    verdict, facts = weighting(ensemble)
    size = " x ".join(f"{edge:.1f}" for edge in ensemble.system.box.size)
    page = Page(ensemble.system.name, f"{len(ensemble):,} poses in a box of {size} Å.", lead=(Highlights(tiles),))
    card = limits(ensemble.provenance.get("model") if model is None else model)
    said = [*ensemble.system.notes, *(f"Look at this: {warning}" for warning in ensemble.system.warnings)]
    for title, elements in (
        ("Binding modes", _modes(ensemble)),
        ("Distance from the known pose", _distances(ensemble)),
        ("Weights", weight_elements(ensemble.log_weights if is_weighted(ensemble) else None, verdict, facts)),
        ("Contacts", _contacts(ensemble)),
        ("Validity", validity_elements(validity_rows(ensemble, _CRITERIA))),
        ("Evaluation", evaluation_elements(evaluation, "Every metric is defined below the table of `equilibra evaluate`.")),
        ("Input", [Text(sentence) for sentence in said]),
        ("What this is not good for", [Text(card)] if card.strip() else []),
        ("Provenance", [Facts(provenance(ensemble))] if ensemble.provenance else []),
    ):
        if elements:
            page.add(title, *elements)
    return page


def _modes(ensemble: LigandEnsemble) -> list[Element]:
    from rdkit import Chem

    shown = ensemble.clusters[:MOST_MODES]
    poses = ensemble.positions[[cluster.best for cluster in shown]].astype(np.float64)
    models = [receptor_pdb(ensemble.system.receptor, torch.from_numpy(poses.reshape(-1, 3)), _POCKET)]
    mol = Chem.Mol(ensemble.system.mol)
    for pose in poses:
        mol.RemoveAllConformers()
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(pose)
        mol.AddConformer(conformer)
        models.append(Chem.MolToPDBBlock(mol))
    caption = "The best pose of each binding mode, and the residues of the receptor about them. Drag to turn; click, then scroll, to zoom."
    view = Molecules(models, ["pocket", *(f"mode {cluster.number}" for cluster in shown)], caption)
    head = [
        "mode",
        "poses",
        "population",
        "free energy (kcal/mol)",
        *([] if ensemble.rmsd is None else ["RMSD of the best pose (Å)"]),
    ]
    rows: list[list[CellLike]] = [
        [
            cluster.number,
            cluster.poses,
            cluster.in_words(),
            "-" if cluster.free_energy is None else round(cluster.free_energy, 2),
            *([] if ensemble.rmsd is None else [round(float(ensemble.rmsd[cluster.best]), 2)]),
        ]
        for cluster in ensemble.clusters[: 2 * MOST_MODES]
    ]
    relaxed = (
        f" Poses were relaxed by {ensemble.relaxed_by} as they were drawn: populations are shares of these minima, not of a distribution."
        if ensemble.relaxed_by
        else ""
    )
    units = "independent poses" if ensemble.populations() is None else "whole populations, whose poses are relatives"
    note = f"Poses within 2 Å of the best pose of a mode, in the frame of the receptor and up to symmetry, belong to it. Errors are a bootstrap of {units}.{relaxed}"
    return [view, Table(head, rows, note)]


def _distances(ensemble: LigandEnsemble) -> list[Element]:
    if ensemble.rmsd is None:
        return []
    edges = np.linspace(0.0, max(6.0, float(np.quantile(ensemble.rmsd, 0.98))), 41)
    figure = sheet(7.2, 3.2)
    ax = figure.subplots()
    ax.stairs(np.histogram(ensemble.rmsd, edges, weights=ensemble.weights)[0], edges, color=SAMPLE, lw=2.0)
    ax.set(xlim=(edges[0], edges[-1]), xlabel="RMSD (Å)", ylabel="population")
    ax.grid(axis="y", color=LINE, lw=0.6)
    share = float(ensemble.weights[ensemble.rmsd <= 2.0].sum())
    caption = f"RMSD of heavy atoms from the known pose, in the frame of the receptor, up to symmetry; {100 * share:.1f} % of the population within 2 Å."
    return [Figure(png(figure), caption, f"Histogram of RMSDs from the known pose, {100 * share:.0f} % within 2 Å.")]


def _contacts(ensemble: LigandEnsemble) -> list[Element]:
    rows = list(csv.reader(io.StringIO(contact_table(ensemble.system, ensemble.positions, ensemble.weights))))
    if len(rows) < 2:
        return []
    lines: list[list[CellLike]] = [
        [residue, kind, f"{100 * float(share):.1f} %"] for residue, kind, share in rows[1 : 1 + _CONTACTS]
    ]
    return [
        Table(
            ["residue", "contact", "share of the population"],
            lines,
            "By the atom types of the Vina score; all of them in contacts.csv.",
        )
    ]
