"""The report of an ensemble of a molecule: gathers what the page shows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.analysis.table import EvaluationTable
from equilibra.errors import InputError
from equilibra.report.ensemble_facts import cost, is_weighted, limits, provenance, validity_rows, weighting
from equilibra.report.guidance import guided_properties
from equilibra.report.molecule import molecule_report, torsion_pairs
from equilibra.report.molecule_data import BondTable, EvaluationRow, MoleculeReportData, RepresentativeStructure
from equilibra.report.page import Page
from equilibra.report.representatives import choose_representatives

if TYPE_CHECKING:
    from equilibra.systems.molecule.ensemble import MoleculeEnsemble
    from equilibra.systems.molecule.reference import Reference
    from equilibra.systems.molecule.system import MoleculeSystem

MOST_BONDS = 60
"""A molecule with more bonds is shown with those between heavy atoms only."""

_RIGID = 1e-4  # Å; a narrower bond of the reference is constrained, and its width cannot be compared
_MOST_STRUCTURES = 4
_CRITERIA = {
    "finite": "every coordinate is a finite number",
    "bonds": "every bond within 25 % of its bounds",
    "angles": "every 1-3 distance within 25 % of its bounds",
    "clash": "atoms more than three bonds apart keep their distance",
    "stereo": "every tetrahedral centre has its hand",
    "double bonds": "every double bond is cis or trans as it should be",
    "all": "every check above",
}


def report_page(ensemble: MoleculeEnsemble, **options: Any) -> Page:
    """Returns the page of an ensemble; options and errors are those of `report_data`."""
    return molecule_report(report_data(ensemble, **options))


def report_data(
    ensemble: MoleculeEnsemble,
    *,
    reference: MoleculeEnsemble | Sequence[MoleculeEnsemble] | Reference | str | Path | None = None,
    model: str | Path | None = None,
    temperature: float | None = None,
    evaluation: EvaluationTable | None = None,
    label: str | None = None,
    seed: int = 0,
) -> MoleculeReportData:
    """Gathers what the report of an ensemble shows; arguments and errors are those of `write_report`, the reference may also be a compact one."""
    from equilibra.systems.molecule.reference import model_reference

    if len(ensemble) == 0:
        raise InputError(f"{ensemble.system.name}: there is no conformation to report")
    model = ensemble.provenance.get("model") if model is None else model
    kelvin = ensemble.provenance.get("temperature_k") if temperature is None else temperature
    if kelvin is None:
        raise InputError(f"{ensemble.system.name}: the temperature of the ensemble is not known; give it in K")
    if reference is None:
        compared = None if model is None else model_reference(model, ensemble.system)
    else:
        compared = _compact(reference, ensemble.system, label)
    weighted = is_weighted(ensemble)
    weights = ensemble.weights if weighted else None
    verdict, facts = weighting(ensemble)
    torsions = ensemble.torsions()
    name = label or (compared.label if compared is not None else "reference")
    return MoleculeReportData(
        name=ensemble.system.name,
        temperature=float(kelvin),
        count=len(ensemble),
        torsions=torsions,
        guided=guided_properties(ensemble),
        provenance=provenance(ensemble),
        highlights=cost(ensemble),
        validity=validity_rows(ensemble, _CRITERIA),
        weights=weights,
        log_weights=ensemble.log_weights if weighted else None,
        weight_verdict=verdict,
        weight_facts=facts,
        reference_torsions=None if compared is None or not torsions else compared.torsions,
        reference_label=name,
        bonds=_bonds(ensemble, compared),
        energies=ensemble.energies,
        evaluation=[] if evaluation is None else _rows(evaluation),
        representatives=_representatives(ensemble, torsions, weights, np.random.default_rng(seed)),
        limits=limits(model),
    )


def basin(phi: float, psi: float) -> str:
    """Returns the name of the region of the Ramachandran plane that angles in rad lie in: alpha-R, beta or PII; alpha-L, C7ax or epsilon for φ > 0."""
    phi, psi = ((angle + np.pi) % (2 * np.pi) - np.pi for angle in (phi, psi))
    if 0.0 < phi < 2.0:
        if 0.0 < psi < 2.0:
            return "alpha-L"
        return "C7ax" if -2.0 < psi <= 0.0 else "epsilon"
    if -2.0 < psi < 1.0:
        return "alpha-R"
    return "PII" if -1.9 < phi <= 0.0 else "beta"


def _compact(reference: Any, system: MoleculeSystem, label: str | None) -> Reference:
    from equilibra.systems.molecule.reference import Reference, read_reference, reference_of
    from equilibra.systems.molecule.runs import load_runs, same_system

    if isinstance(reference, str | Path) and Path(reference).name == "reference.npz":
        reference = read_reference(reference)
    if isinstance(reference, Reference):
        if not reference.fits(system):
            raise InputError(f"the reference '{reference.label}' is not of {system.name}: its torsions or bonds are others")
        return reference
    runs = load_runs(reference)
    same_system([system, *(run.system for run in runs)])
    name = label or (str(reference) if isinstance(reference, str | Path) else "reference")
    return reference_of(np.concatenate([run.positions for run in runs]), system, name)


def _bonds(ensemble: MoleculeEnsemble, reference: Reference | None) -> BondTable | None:
    from equilibra.systems.molecule.reference import bond_pairs

    pairs = bond_pairs(ensemble.system)
    numbers = np.array([atom.GetAtomicNum() for atom in ensemble.system.mol.GetAtoms()])
    shown = np.ones(len(pairs), dtype=bool)
    if len(pairs) > MOST_BONDS:
        shown &= (numbers[pairs] > 1).all(axis=1)
    if reference is not None:
        shown &= reference.bond_std > _RIGID
    if not shown.any() or len(ensemble) < 2:
        return None
    x = ensemble.positions.astype(np.float64)
    lengths = np.linalg.norm(x[:, pairs[shown, 0]] - x[:, pairs[shown, 1]], axis=-1)
    mean = np.average(lengths, axis=0, weights=ensemble.weights)
    std = np.sqrt(np.average((lengths - mean) ** 2, axis=0, weights=ensemble.weights))
    return BondTable(
        names=[_bond_name(ensemble.system, i, j) for i, j in pairs[shown]],
        mean=mean,
        std=std,
        reference_mean=None if reference is None else reference.bond_mean[shown],
        reference_std=None if reference is None else reference.bond_std[shown],
    )


def _bond_name(system: MoleculeSystem, i: int, j: int) -> str:
    first, second = (system.topology.atom(int(k)) for k in (i, j))
    if first.residue is second.residue or first.residue.index == second.residue.index:
        several = system.topology.n_residues > 1
        return f"{first.residue} {first.name}–{second.name}" if several else f"{first.name}–{second.name}"
    return f"{first.residue} {first.name}–{second.residue} {second.name}"


def _representatives(
    ensemble: MoleculeEnsemble, torsions: Mapping[str, np.ndarray], weights: np.ndarray | None, rng: np.random.Generator
) -> list[RepresentativeStructure]:
    if not torsions:
        return [RepresentativeStructure(frame_pdb(ensemble, 0), "first sample", 1.0)]
    chosen = choose_representatives(torsions, _MOST_STRUCTURES, generator=rng, weights=weights)
    structures: list[RepresentativeStructure] = []
    for number, (frame, share) in enumerate(zip(chosen.frames.tolist(), chosen.populations.tolist(), strict=True), start=1):
        angles = {name: float(values[frame]) for name, values in torsions.items()}
        label = _label(angles) or f"basin {number}"
        if label in {structure.label for structure in structures}:
            label = f"{label} ({number})"
        structures.append(RepresentativeStructure(frame_pdb(ensemble, frame), label, float(share), angles))
    return structures


def _label(angles: Mapping[str, float]) -> str:
    """Returns the basins of up to three residues; longer peptides and other molecules have no short name."""
    pairs = torsion_pairs(list(angles))
    return " · ".join(basin(angles[phi], angles[psi]) for phi, psi in pairs) if len(pairs) <= 3 else ""


def frame_pdb(ensemble: MoleculeEnsemble, frame: int) -> str:
    """Returns one frame of an ensemble in PDB format."""
    from equilibra.systems.molecule.files import write_frames

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.pdb"
        write_frames(path, ensemble.positions[frame : frame + 1], ensemble.system)
        return path.read_text(encoding="utf-8")


def _rows(evaluation: EvaluationTable) -> list[EvaluationRow]:
    """Returns the rows that the report shows; an observable is shown by its distance from the reference, as its floor is."""
    rows = []
    for row in evaluation.rows:
        unit = "" if row.unit == "1" else f" ({row.unit})"
        observable = np.isfinite(row.reference)
        name = f"{row.metric}: difference from the reference{unit}" if observable else f"{row.metric}{unit}"
        value, baseline = row.value, row.baseline
        if observable:
            value, baseline = abs(value - row.reference), abs(baseline - row.reference)
        if np.isfinite(value):
            rows.append(EvaluationRow(name, float(value), _finite(row.floor), _finite(baseline), row.n))
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
