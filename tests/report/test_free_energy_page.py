"""The pages of free energies and of densities say N, units and what an error means, whatever they show."""

import re

import numpy as np
import pytest

from equilibra.report.density_page import density_report
from equilibra.report.density_plots import calibration, log_density_histogram
from equilibra.report.free_energies import free_energy
from equilibra.report.free_energy_page import free_energy_report, interval, percent, write_free_energy_report
from equilibra.systems.molecule import MoleculeEnsemble, molecule_system
from equilibra.systems.molecule.conformation_density import ConformationDensity
from equilibra.thermo.estimate import Estimate

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def system():
    return molecule_system("ACE-ALA-NME")


def ensemble(system, frames=60, **options):
    x = system.reference + 0.05 * np.random.default_rng(0).normal(size=(frames, system.atoms, 3))
    return MoleculeEnsemble(system=system, positions=x, **options)


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.render()))


def test_the_page_of_an_unweighted_ensemble(system, tmp_path):
    provenance = {"model": "tiny", "temperature_k": 300.0}
    result = free_energy(ensemble(system, provenance=provenance), cv="rg", states=["distance:1,19>1"], resamples=20)
    page = text_of(free_energy_report(result))
    assert "N = 60" in page
    assert "95 % interval" in page
    assert "binomial" in page
    assert "those of the model" in page
    assert "Shaded" not in page  # the state is not one of the variable that is drawn
    assert write_free_energy_report(result, tmp_path / "page.html").read_text().count("data:image/png") == 1


def test_the_page_of_weights_says_whether_they_can_be_trusted(system):
    weights = np.random.default_rng(1).normal(size=60)
    result = free_energy(ensemble(system, log_weights=weights), cv="phi", second_cv="rg", resamples=20)
    page = free_energy_report(result)
    text = text_of(page)
    assert "Pareto k" in text
    assert "Effective sample size" in text
    assert "usable" in text
    assert "temperature is not known" in text
    assert page.render().count("data:image/png") == 2
    # without states there is no table of them
    assert "States" not in [section.title for section in page.sections]


def test_markup_in_a_state_is_shown_not_obeyed(system):
    result = free_energy(ensemble(system), cv="phi", states=["phi<0"], resamples=20)
    page = free_energy_report(result).render()
    assert "φ&lt;0" in page
    assert "φ<0" not in page


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.5, "50.0 %"), (0.0123, "1.2 %"), (0.99995, "99.9950 %"), (2e-5, "0.0020 %")],
)
def test_shares_never_round_to_all_or_nothing(share, text):
    assert percent(share) == text


def test_intervals():
    assert interval(Estimate(1.0, 0.012, 0.976, 1.024, 9)) == "0.976 to 1.024"
    assert interval(Estimate(np.inf, np.inf, 3.21, np.inf, 9)) == "3.21 to ∞"


def density_of(system, *, energies=None, trace="exact", n=20):
    values = np.linspace(60.0, 90.0, n)
    made = ensemble(system, n, log_density=values, energies=energies)
    return ConformationDensity(
        ensemble=made,
        index=np.arange(n) * 3,
        integration_error=np.full(n, 0.01),
        trace_error=np.full(n, 0.0 if trace == "exact" else 0.5),
        u=None if energies is None else energies / 0.02585,
        energy_name="" if energies is None else "toy",
        temperature=300.0,
        trace=trace,
        degrees=63,
        sigma_min=0.01,
        notes=("A note.",),
        provenance={"model": "tiny", "check": "halving"},
    )


def test_the_page_of_densities(system):
    plain = density_report(density_of(system))
    assert "Calibration" not in [section.title for section in plain.sections]
    text = text_of(plain)
    assert "N = 20" in text
    assert "the trace is exact, over 63 directions" in text
    assert "A note." in text
    energies = -0.02585 * np.linspace(0.0, 30.0, 20)
    compared = text_of(density_report(density_of(system, energies=energies, trace="hutchinson")))
    assert "slope of ln p over −u" in compared
    assert "toy at 300 K" in compared
    assert "standard error over the random probes" in compared
    # the most probable of the twenty is number 57 of the source
    assert re.search(r"1\. most probable\s+57\s+90\.00", compared)


def test_plots_of_densities_are_pictures():
    x = np.random.default_rng(0).normal(size=50)
    assert log_density_histogram(x).startswith(PNG)
    assert log_density_histogram([3.0]).startswith(PNG)
    assert calibration(x, 2 * x, slope=2.0, energy="toy", temperature=300.0, error=np.full(50, 0.1)).startswith(PNG)


def test_one_conformation_has_a_page(system):
    one = density_of(system, n=1)
    assert one.calibration() is None
    assert one.to_dict()["standard_deviation"] is None
    assert "1. most probable" in text_of(density_report(one))
