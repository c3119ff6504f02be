"""The report of an ensemble of a molecule: gathers what the page shows, and writes it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.analysis.table import EvaluationTable
from equilibra.errors import EquilibraError, InputError
from equilibra.report.molecule import molecule_report, torsion_pairs
from equilibra.report.molecule_data import BondTable, EvaluationRow, MoleculeReportData, RepresentativeStructure, ValidityRow
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


def write_report(
    ensemble: MoleculeEnsemble,
    path: str | Path,
    *,
    reference: MoleculeEnsemble | Sequence[MoleculeEnsemble] | Reference | str | Path | None = None,
    model: str | Path | None = None,
    temperature: float | None = None,
    evaluation: EvaluationTable | None = None,
    label: str | None = None,
    seed: int = 0,
) -> Path:
    """Writes the report of an ensemble: one self-contained HTML page.

    Arguments:
        ensemble: What to show.
        path: The file to write, or a folder for `report.html` in it.
        reference: What to compare with: an ensemble or several runs, a folder or file of frames, or the compact reference of a model. By
            default the one in the model's folder, if there is one of this molecule.
        model: The model that made the ensemble, by name or folder; by default the one that its provenance names.
        temperature: Temperature in K; by default that of the provenance.
        evaluation: Metrics to show, from `evaluate`.
        label: What to call the reference.
        seed: Seed of the choice of frames that the representative structures are found among, in large ensembles.

    Returns:
        The path of the page.

    Raises:
        InputError: If the reference is another molecule, the temperature is unknown, or the file cannot be written.
    """
    path = Path(path)
    if path.is_dir() or not path.suffix:
        path = path / "report.html"
    data = report_data(
        ensemble, reference=reference, model=model, temperature=temperature, evaluation=evaluation, label=label, seed=seed
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}; choose a folder that you may write to") from error
    return molecule_report(data).write(path)


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
    """Gathers what the report of an ensemble shows; arguments and errors are those of `write_report`."""
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
    weighted = bool(np.ptp(ensemble.log_weights) > 0)
    weights = ensemble.weights if weighted else None
    verdict, facts = _weighting(ensemble) if weighted else ("", {})
    torsions = ensemble.torsions()
    timing: Any = ensemble.provenance.get("timing") or {}
    highlights = (
        {"network calls per sample": ensemble.provenance["network_calls"]} if "network_calls" in ensemble.provenance else {}
    )
    if timing.get("samples_per_second"):
        highlights["samples per second"] = timing["samples_per_second"]
    name = label or (compared.label if compared is not None else "reference")
    return MoleculeReportData(
        name=ensemble.system.name,
        temperature=float(kelvin),
        count=len(ensemble),
        torsions=torsions,
        provenance={key: value for key, value in ensemble.provenance.items() if key not in ("timing", "path_weights")},
        highlights=highlights,
        validity=[
            ValidityRow(check, good, total, _CRITERIA.get(check, "")) for check, good, total in ensemble.validity_table()
        ],
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
        limits=_limits(model),
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


def _weighting(ensemble: MoleculeEnsemble) -> tuple[str, dict[str, object]]:
    """Returns whether the weights of an ensemble can be trusted, and what is known of them."""
    from equilibra.thermo.estimate import Estimate
    from equilibra.thermo.weights import diagnose

    diagnosis = diagnose(ensemble.log_weights)
    facts: dict[str, object] = {
        "effective sample size": f"{diagnosis.ess:.0f} of {diagnosis.n:,} ({100 * diagnosis.ess_fraction:.1f} %)",
        "Pareto k": f"{diagnosis.pareto_k:.2f}" if np.isfinite(diagnosis.pareto_k) else "not fitted",
    }
    known: Any = ensemble.provenance.get("path_weights")
    if isinstance(known, Mapping):
        for name, label in (("log_z", "log Z"), ("elbo", "lower bound of log Z")):
            error = known[f"{name}_error"]
            facts[label] = str(Estimate.normal(known[name], np.inf if error is None else error, known["n"]))
        facts["energy"] = f"{ensemble.provenance['energy']}, {known['energy_calls']:,} calls"
        facts["drawn"] = (
            f"{known['drawn']:,}, of which {known['rejected']:,} failed the checks or have an infinite energy: weight zero"
        )
    return diagnosis.sentence, facts


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


def _limits(model: str | Path | None) -> str:
    """Returns the limits in a model's card; nothing if the model is not to be found here."""
    from equilibra.systems.checkpoint import read_description
    from equilibra.systems.model import WEIGHTS

    if model is None:
        return ""
    for folder in (WEIGHTS / str(model), Path(model), Path(model) / "model"):
        if (folder / "model.json").is_file():
            try:
                return str(read_description(folder)["card"].get("not_good_for", ""))
            except EquilibraError:
                return ""
    return ""


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
