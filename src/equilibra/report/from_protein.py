"""The report of an ensemble of a protein: gathers what the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from equilibra.analysis.samples import FloatArray
from equilibra.analysis.superposition import superpose
from equilibra.errors import InputError
from equilibra.report.backbone_profile import BackboneProfile, alpha_positions, backbone_profile, chain_of, joint_weights
from equilibra.report.canvas import effective_number
from equilibra.report.ensemble_facts import cost, is_weighted, limits, provenance, validity_rows, weighting
from equilibra.report.guidance import guided_properties
from equilibra.report.page import Page
from equilibra.report.protein import protein_report
from equilibra.report.protein_data import Projection, ProteinReportData, ProteinStructure, Rejections
from equilibra.report.protein_structures import backbone_pdb, laid_out, structure_bytes
from equilibra.report.relaxation import read_relaxation
from equilibra.report.rmsd_representatives import medoid, rmsd_representatives
from equilibra.report.sections import percent, reference_name
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.statistics import statistical_inefficiency

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable
    from equilibra.systems.protein.ensemble import ProteinEnsemble
    from equilibra.systems.protein.system import ProteinSystem

MOST_STRUCTURES = 6
"""So many representative conformations are shown at most."""

LAG = 10
"""Lag of the slow coordinates (TICA) of a reference that is a time series, in frames."""

_MOST_BYTES = 1_500_000  # of the structures in a page
_CRITERIA = {
    "finite": "every coordinate is a finite number",
    "chain": "C-alpha atoms of bonded neighbours 2.5 to 4.5 Å apart",
    "peptide bonds": "C and N of bonded neighbours less than 2.0 Å apart",
    "C-alpha distances": "C-alpha atoms of residues more than two apart keep 3.0 Å",
    "clash": "no two atoms of residues more than two apart closer than 1.0 Å",
    "peptide angles": "angles CA-C-N and C-N-CA between 90 and 150 degrees",
    "peptide planes": "every peptide bond within 60 degrees of cis or trans",
    "chirality": "every residue but glycine is an L residue",
    "all": "every check above",
}


def report_page(ensemble: ProteinEnsemble, **options: Any) -> Page:
    """Returns the page of an ensemble; options and errors are those of `report_data`."""
    return protein_report(report_data(ensemble, **options))


def report_data(
    ensemble: ProteinEnsemble,
    *,
    reference: Any | None = None,
    model: str | Path | None = None,
    temperature: float | None = None,
    evaluation: EvaluationTable | None = None,
    label: str | None = None,
    seed: int = 0,
    native: Any | None = None,
    relaxation: str | Path | None = None,
    folder: Path | None = None,
) -> ProteinReportData:
    """Gathers what the report of an ensemble shows; arguments and errors are those of `write_report`.

    Arguments:
        ensemble: The ensemble.
        reference: What to compare with, or None.
        model: The model that made it.
        temperature: Temperature in K.
        evaluation: Metrics.
        label: What to call the reference.
        seed: Not used: nothing here is drawn.
        native: The native structure.
        relaxation: `relaxation.csv` of the all-atom structures.
        folder: Where to look for it if it is not given.
    """
    system = ensemble.system
    runs = None if reference is None else _reference_runs(reference, system)
    native_atoms = None if native is None else _native(native, system)
    structure = None if native_atoms is None else native_atoms[0, system.atom_index[:, 1]].astype(np.float64)
    ca = alpha_positions(ensemble)
    others = None if runs is None else np.concatenate([alpha_positions(run) for run in runs])
    target, words = _target(ca, ensemble.weights, structure, others, None if runs is None else joint_weights(runs))
    ours = backbone_profile([ensemble], target, structure)
    model = ensemble.provenance.get("model") if model is None else model
    kelvin = ensemble.provenance.get("temperature_k") if temperature is None else temperature
    verdict, facts = weighting(ensemble)
    starts = np.unique(system.chain_index, return_index=True)[1].tolist()
    return ProteinReportData(
        name=system.name,
        residues=_residue_names(system),
        chain_starts=starts,
        samples=ours,
        reference=None if runs is None else backbone_profile(runs, target, structure),
        reference_label=reference_name(reference, label),
        temperature=None if kelvin is None else float(kelvin),
        superposed_on=words,
        highlights=_highlights(ensemble, ours),
        validity=validity_rows(ensemble, _CRITERIA),
        rejections=_rejections(ensemble),
        log_weights=ensemble.log_weights if is_weighted(ensemble) else None,
        weight_verdict=verdict,
        weight_facts=facts,
        projections=_projections(ensemble, ca, runs, others, target, words),
        structures=_structures(ensemble, ca, ours, target, native_atoms),
        evaluation=evaluation,
        relaxation=read_relaxation(relaxation, folder, len(ensemble)),
        guided=guided_properties(ensemble),
        provenance=provenance(ensemble),
        limits=limits(model),
    )


def _reference_runs(reference: Any, system: ProteinSystem) -> list[ProteinEnsemble]:
    from equilibra.systems.protein.runs import load_runs, same_system

    runs = [run for run in load_runs(reference) if len(run)]
    if not runs:
        raise InputError("reference: there is no conformation in it")
    same_system([system, *(run.system for run in runs)])
    return runs


def _native(native: Any, system: ProteinSystem) -> np.ndarray:
    """Returns the written atoms (1, atoms, 3) of the native structure, in Å."""
    from equilibra.geometry.backbone import frames_from_backbone
    from equilibra.systems.protein.ensemble import ProteinEnsemble
    from equilibra.systems.protein.frames import written_atoms
    from equilibra.systems.protein.runs import same_system
    from equilibra.systems.protein.sources import structure

    if isinstance(native, ProteinEnsemble):
        same_system([system, native.system])
        return native.positions[:1]
    found = structure(str(native) if isinstance(native, Path) else native, system)
    atoms = (torch.from_numpy(np.array(x, dtype=np.float64))[None] for x in (found.n, found.ca, found.c))
    trans, rot = frames_from_backbone(*atoms)
    return written_atoms(trans.numpy(), rot.numpy(), system)


def _target(
    ca: FloatArray,
    weights: FloatArray,
    native: FloatArray | None,
    reference: FloatArray | None,
    reference_weights: FloatArray | None,
) -> tuple[FloatArray, str]:
    """Returns what conformations are superposed on, and its name in words."""
    if native is not None:
        return native, "the native structure"
    if reference is not None:
        return reference[medoid(reference, reference_weights)], "the central conformation of the reference"
    return ca[medoid(ca, weights)], "the central conformation"


def _residue_names(system: ProteinSystem) -> list[str]:
    several = len(system.chain_ids) > 1
    chains = [f"{system.chain_ids[k]}:" if several else "" for k in system.chain_index]
    return [
        f"{chain}{letter}{number}"
        for chain, letter, number in zip(chains, system.sequence, system.residue_numbers, strict=True)
    ]


def _highlights(ensemble: ProteinEnsemble, profile: BackboneProfile) -> dict[str, object]:
    tiles: dict[str, object] = {"conformations": len(ensemble)}
    if is_weighted(ensemble):
        tiles["effective samples of these weights"] = f"{effective_number(ensemble.weights):,.0f}"
    _, passed, total = ensemble.validity_table()[-1]
    tiles["pass every check, before any filter"] = percent(passed, total)
    tiles["residues"] = ensemble.system.length
    tiles["radius of gyration (Å)"] = str(_mean(ensemble, profile.gyration))
    if profile.native_rmsd is not None:
        tiles["C-alpha RMSD to the native structure (Å)"] = str(_mean(ensemble, profile.native_rmsd))
    return {**tiles, **cost(ensemble)}


def _mean(ensemble: ProteinEnsemble, values: FloatArray) -> Estimate:
    """Returns the weighted mean of numbers (F,) with its standard error, which counts correlated frames of a trajectory as fewer."""
    weights = ensemble.weights
    mean = float(weights @ values)
    variance = float(weights @ (values - mean) ** 2)
    count = effective_number(weights)
    if variance > 0.0 and "model" not in ensemble.provenance and len(values) > 3:
        count /= statistical_inefficiency(values)
    error = np.sqrt(variance / (count - 1.0)) if count > 1.0 else np.inf
    return Estimate.normal(mean, float(error), len(values))


def _rejections(ensemble: ProteinEnsemble) -> list[Rejections]:
    """Returns for each check how many conformations failed it, rejected or kept, and one example."""
    kept = [reason for i in np.flatnonzero(~ensemble.validity.valid) for reason in ensemble.validity.reasons(int(i))]
    reasons = [*(part for text in ensemble.rejected_reasons for part in text.split("; ")), *kept]
    found: dict[str, list[str]] = {}
    for reason in reasons:
        check, _, example = reason.partition(": ")
        found.setdefault(check, []).append(example)
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))
    return [Rejections(check=check, count=len(examples), example=examples[0]) for check, examples in ranked]


def _projections(
    ensemble: ProteinEnsemble,
    ca: FloatArray,
    runs: Sequence[ProteinEnsemble] | None,
    others: FloatArray | None,
    target: FloatArray,
    words: str,
) -> list[Projection]:
    from equilibra.analysis.protein.pca_w2 import principal_components

    ours, theirs = superpose(ca, target), None if others is None else superpose(others, target)
    fitted = ours if theirs is None else theirs
    try:
        plane = principal_components(fitted)
    except InputError:
        # fewer than three conformations, or such that hardly move, have no plane
        return []
    total = float(fitted.var(axis=0, ddof=1).sum())
    first, second = (100.0 * float(value) / total for value in plane.variances[:2])
    whose = "the samples" if theirs is None else "the reference"
    found = [
        Projection(
            title=f"the first two principal components of {whose}, C-alpha atoms superposed on {words}",
            axes=(
                f"first component (Å; {first:.0f} % of the variance)",
                f"second component (Å; {second:.0f} % of the variance)",
            ),
            samples=plane.project(ours),
            reference=None if theirs is None else plane.project(theirs),
        )
    ]
    if runs is not None and not any("model" in run.provenance for run in runs):
        found += _slow_coordinates(ensemble, runs)
    return found


def _slow_coordinates(ensemble: ProteinEnsemble, runs: Sequence[ProteinEnsemble]) -> list[Projection]:
    """Returns the plane of the slow coordinates of a reference that is a time series; none where it is too short."""
    from equilibra.analysis.protein.backbone import backbone_torsions
    from equilibra.analysis.protein.tica_jsd import fit_torsion_tica
    from equilibra.analysis.tica_w2 import torsion_features

    def angles(run: ProteinEnsemble) -> FloatArray:
        backbones = run.positions[:, run.system.atom_index[:, :3]]
        return backbone_torsions(backbones, chain_of(run.system)).select(("phi", "psi")).angles

    each = [angles(run) for run in runs]
    try:
        slow = fit_torsion_tica(each, lag=LAG)
    except InputError:
        return []
    return [
        Projection(
            title=f"the two slowest coordinates of the reference (TICA of φ and ψ, lag {LAG} frames)",
            axes=("first slow coordinate", "second slow coordinate"),
            samples=slow.project(torsion_features(angles(ensemble))),
            reference=slow.project(torsion_features(np.concatenate(each))),
        )
    ]


def _structures(
    ensemble: ProteinEnsemble, ca: FloatArray, profile: BackboneProfile, target: FloatArray, native: np.ndarray | None
) -> list[ProteinStructure]:
    """Returns the representatives, and the native structure last."""
    system = ensemble.system
    most = int(np.clip(_MOST_BYTES // structure_bytes(system), 1, MOST_STRUCTURES))
    chosen = rmsd_representatives(ca, most, ensemble.weights)
    found = []
    for number, (frame, population) in enumerate(zip(chosen.frames.tolist(), chosen.populations.tolist(), strict=True)):
        values = {"radius of gyration (Å)": float(profile.gyration[frame]), "end-to-end (Å)": float(profile.ends[frame])}
        if profile.native_rmsd is not None:
            values["RMSD to native (Å)"] = float(profile.native_rmsd[frame])
        pdb = backbone_pdb(laid_out(ensemble.positions[frame : frame + 1], target, system)[0], system)
        found.append(
            ProteinStructure(
                pdb=pdb, frame=int(frame), label=f"cluster {number + 1}", population=float(population), values=values
            )
        )
    if native is not None:
        pdb = backbone_pdb(laid_out(native, target, system)[0], system)
        found.append(ProteinStructure(pdb=pdb, frame=None, label="native structure"))
    return found
