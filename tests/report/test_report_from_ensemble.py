"""The report of an ensemble: what it gathers, and what it refuses."""

import dataclasses

import numpy as np
import pytest

from equilibra.errors import InputError
from equilibra.report.from_ensemble import write_report
from equilibra.report.from_molecule import basin, report_data
from equilibra.report.molecule import molecule_report
from equilibra.systems.molecule import MoleculeEnsemble, molecule_system
from equilibra.systems.molecule.reference import bond_pairs, reference_of
from equilibra.thermo.weights import diagnose


@pytest.fixture(scope="module")
def system():
    return molecule_system("ACE-ALA-NME")


def make(system, frames=80, seed=0, **options):
    x = system.reference + 0.02 * np.random.default_rng(seed).normal(size=(frames, system.atoms, 3))
    x[3] *= [-1.0, 1.0, 1.0]
    provenance = {
        "temperature_k": 310.0,
        "network_calls": 26,
        "seed": 1,
        "timing": {"samples_per_second": 12.5, "seconds": 1.0},
    }
    return MoleculeEnsemble.from_frames(system, x, provenance=provenance, **options)


def test_the_report_counts_the_rejected_and_names_bonds(system):
    ensemble = make(system)
    data = report_data(ensemble)
    table = {row.check: (row.passed, row.total) for row in data.validity}
    assert table["all"] == (len(ensemble), 80)
    assert len(ensemble) < 80
    assert data.temperature == 310.0
    assert data.highlights == {"network calls per sample": 26, "samples per second": 12.5}
    assert "timing" not in data.provenance
    assert "ACE1 C–ALA2 N" in data.bonds.names
    i, j = bond_pairs(system)[4]
    lengths = np.linalg.norm(ensemble.positions[:, i].astype(float) - ensemble.positions[:, j], axis=-1)
    assert data.bonds.mean[4] == pytest.approx(lengths.mean(), rel=1e-6)
    assert data.representatives[0].pdb.count("ATOM") == 22
    assert sum(structure.population for structure in data.representatives) == pytest.approx(1.0)


def test_weights_count(system):
    log_weights = np.linspace(-3.0, 3.0, 80)
    ensemble = make(system, log_weights=log_weights)
    data = report_data(ensemble)
    i, j = bond_pairs(system)[0]
    lengths = np.linalg.norm(ensemble.positions[:, i].astype(float) - ensemble.positions[:, j], axis=-1)
    assert data.bonds.mean[0] == pytest.approx(np.average(lengths, weights=ensemble.weights), rel=1e-6)
    np.testing.assert_allclose(data.weights, ensemble.weights)


def test_a_reference_may_be_an_ensemble_or_compact(system, tmp_path):
    ensemble, other = make(system), make(system, seed=1)
    compact = reference_of(other.positions, system, "compact")
    from_runs = report_data(ensemble, reference=other, label="runs")
    from_compact = report_data(ensemble, reference=compact)
    np.testing.assert_array_equal(from_runs.bonds.reference_mean, from_compact.bonds.reference_mean)
    assert (from_runs.reference_label, from_compact.reference_label) == ("runs", "compact")
    page = write_report(ensemble, tmp_path / "deep" / "page.html", reference=compact)
    assert "compact" in page.read_text()
    ethanol = molecule_system("CCO")
    of_ethanol = MoleculeEnsemble(system=ethanol, positions=ethanol.reference[None])
    with pytest.raises(InputError, match="is not of CCO"):
        report_data(of_ethanol, reference=compact, temperature=300.0)


def test_constrained_bonds_of_a_reference_are_left_out(system):
    ensemble = make(system)
    rigid = np.repeat(system.reference[None], 5, axis=0)
    data = report_data(ensemble, reference=reference_of(rigid, system, "rigid"))
    assert data.bonds is None


def test_molecules_without_torsions_and_of_unknown_temperature(tmp_path):
    benzene = molecule_system("c1ccccc1")
    ensemble = MoleculeEnsemble(system=benzene, positions=np.repeat(benzene.reference[None], 4, axis=0))
    with pytest.raises(InputError, match="temperature of the ensemble is not known"):
        write_report(ensemble, tmp_path)
    data = report_data(ensemble, temperature=300.0)
    assert [structure.label for structure in data.representatives] == ["first sample"]
    assert write_report(ensemble, tmp_path, temperature=300.0) == tmp_path / "report.html"


def test_basins_have_names():
    degrees = {
        (-70, -20): "alpha-R",
        (-75, 150): "PII",
        (-150, 155): "beta",
        (60, 45): "alpha-L",
        (70, -60): "C7ax",
        (55, 170): "epsilon",
    }
    for (phi, psi), name in degrees.items():
        assert basin(np.radians(phi), np.radians(psi)) == name
        assert basin(np.radians(phi + 360), np.radians(psi - 360)) == name


def test_weights_have_a_section_with_their_verdict(system):
    log_weights = np.random.default_rng(5).normal(size=80)
    ensemble = make(system, log_weights=log_weights, energies=np.linspace(-1.0, 0.0, 80))
    data = report_data(ensemble)
    diagnosis = diagnose(ensemble.log_weights)
    assert data.weight_verdict == diagnosis.sentence
    assert data.weight_facts["effective sample size"].startswith(f"{diagnosis.ess:.0f} of {len(ensemble)} (")
    assert "log Z" not in data.weight_facts
    page = molecule_report(data)
    assert page.sections[0].title == "Weights"
    record = {"n": len(ensemble), "log_z": -3.21, "log_z_error": 0.1, "elbo": -4.0, "elbo_error": None, "drawn": 80}
    known = {**ensemble.provenance, "energy": "mmff94", "path_weights": {**record, "rejected": 3, "energy_calls": 100}}
    told = report_data(dataclasses.replace(ensemble, provenance=known))
    assert told.weight_facts["log Z"] == "-3.21 ± 0.10"
    assert told.weight_facts["energy"] == "mmff94, 100 calls"
    assert "path_weights" not in told.provenance
    # equal weights are none
    assert not any(section.title == "Weights" for section in molecule_report(report_data(make(system))).sections)


def guided_ensemble(system, *, corrected, log_weights=None):
    values = np.linspace(2.0, 3.0, 80)
    row = {
        "name": "distance:1,5",
        "unit": "Å",
        "target": "2.5 ± 0.1 Å",
        "strength": 2.0,
        "bounds": [2.4, 2.6],
        "mean": 2.5,
        "deviation": 0.29,
        "share": 0.2,
        "doubt": None,
    }
    row |= {"weighted_mean": 2.51, "weighted_deviation": 0.1, "weighted_share": 0.7} if corrected else {}
    record = {
        "corrected": corrected,
        "guides": [row, {**row, "name": "size", "target": "large", "bounds": None, "share": None, "weighted_share": None}],
    }
    weights = {
        "n": 79,
        "ess": 12.0,
        "ess_fraction": 0.15,
        "pareto_k": None,
        "sentence": "The weights are usable.",
        "log_evidence": -2.0,
    }
    weights |= {"log_evidence_error": 0.12, "drawn": 80, "rejected": 1, "populations": 4}
    ensemble = make(system, log_weights=log_weights, values={"distance:1,5": values, "size": values**2})
    return dataclasses.replace(
        ensemble, provenance={**ensemble.provenance, "guidance": {**record, **(weights if corrected else {})}}
    )


def test_guided_samples_have_a_section_with_their_wish(system):
    log_weights = np.random.default_rng(5).normal(size=80)
    data = report_data(guided_ensemble(system, corrected=True, log_weights=log_weights))
    assert data.weight_verdict == "The weights are usable."
    assert data.weight_facts["effective sample size"] == "12 of 79 (15.0 %)"
    assert data.weight_facts["Pareto k"] == "not fitted"
    assert data.weight_facts["average likelihood of the model's samples, ln"] == "-2.00 ± 0.12"
    assert "guidance" not in data.provenance
    assert [item.name for item in data.guided] == ["distance:1,5 (Å)", "size (Å)"]
    sections = {section.title: section for section in molecule_report(data).sections}
    words, table, figure = sections["Guidance"].elements
    assert "not of equilibrium" in words.text
    assert table.rows[0][:4] == ["distance:1,5 (Å)", "2.5 ± 0.1 Å, to the power of 2", "2.5 ± 0.29", "2.51 ± 0.1"]
    assert table.rows[0][4:] == ["20.0 %", "70.0 %"]
    assert table.rows[1][4:] == [None, None]
    assert figure.image.startswith(b"\x89PNG")
    guess = {s.title: s for s in molecule_report(report_data(guided_ensemble(system, corrected=False))).sections}
    assert "Weights" not in guess
    assert "a guess" in guess["Guidance"].elements[0].text
    assert guess["Guidance"].elements[1].rows[0] == [
        "distance:1,5 (Å)",
        "2.5 ± 0.1 Å, to the power of 2",
        "2.5 ± 0.29",
        "20.0 %",
    ]
