"""The molecule's report, from data to file."""

import numpy as np
import pytest

from equilibra.errors import InputError, ShapeError
from equilibra.report.molecule import (
    BondTable,
    EvaluationRow,
    MoleculeReportData,
    RepresentativeStructure,
    ValidityRow,
    molecule_report,
    percent,
    torsion_pairs,
)

PDB = (
    "ATOM      1  N   ALA A   1       0.000   0.000   0.000  1.00  0.00           N  \n"
    "ATOM      2  CA  ALA A   1       1.450   0.000   0.000  1.00  0.00           C  \n"
    "ATOM      3  C   ALA A   1       2.000   1.400   0.000  1.00  0.00           C  \nEND\n"
)


def angles(n, seed):
    rng = np.random.default_rng(seed)
    return {"phi": rng.vonmises(-1.4, 8.0, n), "psi": rng.vonmises(2.6, 8.0, n), "chi 1": rng.uniform(-np.pi, np.pi, n)}


def report_data(**changes):
    bonds = np.array([1.45, 1.52])
    data = {
        "name": "ACE-ALA-NME <script>",
        "temperature": 300.0,
        "count": 300,
        "torsions": angles(300, 0),
        "weights": np.linspace(0.5, 1.5, 300),
        "reference_torsions": angles(400, 1),
        "reference_label": "OpenMM & co",
        "provenance": {"model": "molecule-ala2", "versions": {"torch": "2.6.0"}, "seed": 0},
        "highlights": {"samples per second": 412.0},
        "validity": [ValidityRow("stereo-centres", 299, 300, "signed volume"), ValidityRow("bonds", 300, 300)],
        "bonds": BondTable(["N–CA", "CA–C"], bonds, bonds / 50, bonds + 0.002, bonds / 49),
        "energies": np.random.default_rng(2).normal(-0.6, 0.1, 300),
        "evaluation": [EvaluationRow("Ramachandran JSD (bits)", 0.015, 0.0125, 0.3, 300), EvaluationRow("other", 1.0)],
        "quality": ([10, 20], [0.04, 0.015]),
        "representatives": [
            RepresentativeStructure(PDB, "PII", 0.98, {"phi": -1.4, "psi": 2.6}),
            RepresentativeStructure(PDB, "αL", 0.02, {"phi": 1.0, "psi": 0.6}),
        ],
        "limits": "Not for other molecules.\n\nNot for other temperatures.",
    }
    return MoleculeReportData(**{**data, **changes})


def test_full_report_has_every_section_and_number(tmp_path):
    page = molecule_report(report_data())
    assert [section.title for section in page.sections] == [
        "Free energy",
        "Torsions",
        "Structures",
        "Validity",
        "Bond lengths",
        "Energy",
        "Evaluation",
        "What this is not good for",
        "Provenance",
    ]
    html = page.write(tmp_path / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 5
    assert "<h1>ACE-ALA-NME &lt;script&gt;</h1>" in html
    assert "compared with OpenMM &amp; co" in html
    for expected in (
        "99.7 %",
        "1.20 ×",
        "Mean error 0.0020 Å",
        "<dd>412</dd>",
        "torch 2.6.0",
        "effective samples",
        "2.0 %",
        "−80",
    ):
        assert expected in html, expected
    assert "://" not in html


def test_bare_report_needs_only_samples():
    page = molecule_report(
        MoleculeReportData(name="x", temperature=300.0, count=300, torsions={"chi 1": angles(300, 0)["chi 1"]})
    )
    assert [section.title for section in page.sections] == ["Torsions"]
    rigid = molecule_report(MoleculeReportData(name="benzene", temperature=300.0, count=10))
    assert rigid.sections == []
    assert "10 conformations" in rigid.render()


def test_longer_chains_draw_a_few_surfaces_and_say_so():
    torsions = {f"{kind} {i}": angles(100, i)[kind] for i in range(6) for kind in ("phi", "psi")}
    page = molecule_report(MoleculeReportData(name="x", temperature=300.0, count=100, torsions=torsions))
    assert len(page.sections[0].elements) == 5
    assert "first 4 of 6 pairs" in page.render()


def test_pairs_of_torsions():
    assert torsion_pairs(["phi", "psi", "chi"]) == [("phi", "psi")]
    assert torsion_pairs(["psi 2", "phi 2", "phi 3", "φ 4", "ψ 4"]) == [("phi 2", "psi 2"), ("φ 4", "ψ 4")]


@pytest.mark.parametrize(
    ("passed", "total", "text"),
    [
        (10, 10, "100 %"),
        (9999, 10000, "99.99 %"),
        (999_999, 1_000_000, "99.9999 %"),
        (0, 10, "0.0 %"),
        (1, 2, "50.0 %"),
        (0, 0, "–"),
    ],
)
def test_percent_never_hides_a_failure(passed, total, text):
    assert percent(passed, total) == text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"count": 0}, InputError, "got 0 samples"),
        ({"count": 7}, ShapeError, r"phi: got shape \(300,\), expected \(7,\)"),
        ({"temperature": -1.0}, InputError, "temperature -1.0"),
        ({"weights": np.ones(3)}, ShapeError, "weights"),
        ({"energies": np.ones(3)}, ShapeError, "energies"),
        ({"torsions": {"phi": np.full(300, np.nan)}}, InputError, "not finite"),
        ({"validity": [ValidityRow("bonds", 5, 4)]}, InputError, "5 passed of 4"),
    ],
)
def test_wrong_data_is_refused_before_any_drawing(changes, error, message):
    with pytest.raises(error, match=message):
        report_data(**changes)
