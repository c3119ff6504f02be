"""Guides of adsorbates: heights, energies, distances across the edge of the cell and tilts, each against the posterior in closed form; what is refused."""

import math

import numpy as np
import pytest
import torch
from ase.build import fcc111
from exact_adsorbate import make

from equilibra.errors import InputError
from equilibra.guidance.targets import Range, Value
from equilibra.nn.surface import POSITIONS
from equilibra.state import State
from equilibra.systems.adsorbate.domain import properties, written
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.properties import FAILED
from equilibra.systems.adsorbate.system import LIFT, AdsorbateSystem

torch.set_num_threads(1)
WIDTH = 0.05

OWN = """
from ase.calculators.calculator import Calculator, all_changes
import numpy as np

class Spring(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        stretch = atoms.positions[-1, 2] - atoms.positions[:-1, 2].max() - 2.1
        forces = np.zeros((len(atoms), 3))
        forces[-1, 2] = -20.0 * stretch
        self.results = {"energy": 10.0 * stretch**2, "forces": forces}

class Moody(Spring):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if atoms.positions[-1, 2] > atoms.positions[:-1, 2].max() + 3.0:
            raise RuntimeError("too high for me")

def spring():
    return Spring()

def moody():
    return Moody()

def length(x, system):
    assert x.shape[1:] == (system.atoms, 3)
    return (x[:, 0] - x[:, 1]).norm(dim=-1)
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def on_platinum(adsorbate):
    return AdsorbateSystem.of(fcc111("Pt", (2, 2, 3), vacuum=10.0), adsorbate)


def weighted(values, log_likelihood, density):
    """Mean and log of the evidence of a one-dimensional density times a likelihood, by quadrature on a fine grid."""
    w = density * np.exp(log_likelihood(torch.from_numpy(values), torch.zeros(len(values), dtype=torch.float64)).numpy())
    return float((values * w).sum() / w.sum()), math.log(w.sum() / density.sum())


def agrees(record, row, mean, evidence):
    """Whether a guided run has the mean and the evidence, within four of its own errors and a percent for its finite steps."""
    assert abs(row["weighted_mean"] - mean) < 4.0 * row["weighted_mean_error"] + 0.01 * row["weighted_deviation"]
    assert row["weighted_mean_error"] < 0.25 * row["weighted_deviation"]
    assert abs(record["log_evidence"] - evidence) < 4.0 * record["log_evidence_error"] + 0.03
    assert record["ess"] > 60


class TestPosterior:
    def test_of_a_height(self):
        # atom over the edge of the cell: heights are Gaussian wherever it is
        system = on_platinum("O")
        centre = np.array([[2.7, 0.1, 2.0 - LIFT]])
        wish, tolerance = 2.0 + 2.0 * WIDTH, 0.5 * WIDTH
        ensemble = make(system, centre, WIDTH, steps=30).sample(
            system, 400, guides=[f"height:1={wish}+-{tolerance}"], block_size=40
        )
        record = ensemble.provenance["guidance"]
        (row,) = record["guides"]
        total = WIDTH**2 + tolerance**2
        agrees(
            record,
            row,
            (2.0 * tolerance**2 + wish * WIDTH**2) / total,
            0.5 * math.log(tolerance**2 / total) - 0.5 * (wish - 2.0) ** 2 / total,
        )
        assert row["weighted_deviation"] == pytest.approx(WIDTH * tolerance / math.sqrt(total), rel=0.15)
        np.testing.assert_allclose(
            ensemble.values["height:1"], ensemble.positions[:, 0, 2] - system.slab.positions[:, 2].max(), atol=1e-5
        )

    def test_of_an_energy_that_another_program_computes(self, own):
        # exp(-E / r) of a spring times a Gaussian is a Gaussian
        system = on_platinum("O")
        unit = 0.05
        ensemble = make(system, [[0.4, 0.6, 2.0 - LIFT]], WIDTH, steps=30).sample(
            system, 300, guides=[f"energy:{own}:spring=min+-{unit}"], block_size=30
        )
        stiff, spring = 1.0 / WIDTH**2, 20.0 / unit
        centre = (2.0 * stiff + 2.1 * spring) / (stiff + spring)
        heights = ensemble.positions[:, 0, 2].astype(float) - system.top
        error = 1.0 / math.sqrt((stiff + spring) * ensemble.provenance["guidance"]["ess"])
        assert abs(ensemble.weights @ heights - centre) < 4.0 * error + 0.01 * WIDTH
        record = ensemble.provenance["guidance"]
        exact = 0.5 * math.log(stiff / (stiff + spring)) - 0.5 * 0.1**2 / (1.0 / stiff + 1.0 / spring)
        assert abs(record["log_evidence"] - exact) < 4.0 * record["log_evidence_error"] + 0.03
        (values,) = ensemble.values.values()
        np.testing.assert_allclose(values, 10.0 * (heights - 2.1) ** 2, atol=1e-4)

    def test_of_a_distance_across_the_edge_of_the_cell(self):
        system = on_platinum("N2")
        bond = 1.3
        centre = np.array([[-0.5 * bond, 0.0, 2.2 - LIFT], [0.5 * bond, 0.0, 2.2 - LIFT]])
        spread = math.sqrt(2.0) * WIDTH
        wish = Value(0.5 * spread, bond + 1.5 * spread)
        guide = f"distance:1,2={wish.value}+-{wish.width}"
        ensemble = make(system, centre, WIDTH, steps=30).sample(system, 400, guides=[guide], block_size=40, seed=1)
        record = ensemble.provenance["guidance"]
        # the length of a Gaussian vector about one of a given length
        r = np.linspace(bond - 8.0 * spread, bond + 8.0 * spread, 4001)
        density = r * (np.exp(-0.5 * ((r - bond) / spread) ** 2) - np.exp(-0.5 * ((r + bond) / spread) ** 2))
        agrees(record, record["guides"][0], *weighted(r, wish.log_likelihood, density))
        x = ensemble.positions.astype(float)
        np.testing.assert_allclose(ensemble.values["distance:1,2"], np.linalg.norm(x[:, 0] - x[:, 1], axis=-1), atol=1e-4)

    def test_of_a_tilt(self):
        system = on_platinum("CO")
        bond, spread = 1.15, math.sqrt(2.0) * WIDTH
        centre = np.array([[0.0, 0.0, 2.0 - LIFT], [0.0, 0.0, 2.0 + bond - LIFT]])
        wish = Range(1.0, 8.0, 14.0)
        ensemble = make(system, centre, WIDTH, steps=30).sample(
            system, 400, guides=["tilt:1,2=8..14+-1"], block_size=40, seed=2
        )
        record = ensemble.provenance["guidance"]
        # density of the angle: a Gaussian vector about the normal, in polar coordinates, its length summed over
        angle = np.linspace(0.0, 60.0, 3001)
        r = np.linspace(bond - 8.0 * spread, bond + 8.0 * spread, 801)
        away = r[None] ** 2 - 2.0 * r[None] * bond * np.cos(np.radians(angle))[:, None] + bond**2
        density = np.sin(np.radians(angle)) * (r[None] ** 2 * np.exp(-0.5 * away / spread**2)).sum(1)
        agrees(record, record["guides"][0], *weighted(angle, wish.log_likelihood, density))


def test_properties_do_not_depend_on_images(own):
    system = on_platinum("CO")
    x = torch.tensor(system.placed(6, seed=1))
    cell = torch.tensor(np.asarray(system.slab.cell))
    moved = x.clone()
    moved[:, 0] += 2.0 * cell[0] - cell[1]
    moved[:, 1] -= cell[1]
    makers = properties(system)
    for spelling, argument in (("height:I", "2"), ("distance:I,J", "1, 2"), ("tilt:I,J", "1,2"), ("energy:emt", "emt")):
        made = makers[spelling](argument)
        values = made(State({POSITIONS: x}))
        assert torch.allclose(made(State({POSITIONS: moved})), values, atol=1e-6), spelling
        leaf = moved.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(made.with_gradient(State({POSITIONS: leaf})).sum(), leaf)
        step = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        slope = made(State({POSITIONS: moved + step})) - made(State({POSITIONS: moved - step}))
        assert torch.allclose(slope, 2.0 * (gradient * step).flatten(1).sum(1), rtol=1e-4, atol=1e-9), spelling
    bond = x[:, 1] - x[:, 0]
    assert torch.allclose(makers["distance:I,J"]("1,2")(State({POSITIONS: x})), bond.norm(dim=-1))
    tilt = makers["tilt:I,J"]("1,2")(State({POSITIONS: x}))
    assert torch.allclose(torch.cos(torch.deg2rad(tilt)), bond[:, 2] / bond.norm(dim=-1))
    assert torch.allclose(makers["tilt:I,J"]("2,1")(State({POSITIONS: x})), 180.0 - tilt)
    exact = adsorbate_energy(system, "emt").energy(x)
    assert torch.allclose(makers["energy:emt"]("emt")(State({POSITIONS: x})), exact)
    # a function of the user's sees molecules in one piece
    whole = written(system, State({POSITIONS: moved}))
    assert torch.allclose(whole[:, 1] - whole[:, 0], bond)
    assert torch.allclose(whole[..., 2], x[..., 2] + system.level)


def test_a_structure_that_a_calculator_cannot_evaluate_has_a_value_and_no_gradient(own):
    system = on_platinum("O")
    made = properties(system)["energy:emt"](f"{own}:moody")
    x = torch.tensor([[[0.0, 0.0, 0.5]], [[0.0, 0.0, 2.2]]], dtype=torch.float64, requires_grad=True)
    values = made.with_gradient(State({POSITIONS: x}))
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert values.tolist() == pytest.approx([10.0 * (0.5 + LIFT - 2.1) ** 2, FAILED])
    assert float(gradient[0, 0, 2]) == pytest.approx(20.0 * (0.5 + LIFT - 2.1))
    assert not gradient[1].any()


def test_files_keep_the_values_and_sites_have_errors_of_populations(own, tmp_path):
    system = on_platinum("CO")
    model = make(system, [[0.0, 0.0, 2.0 - LIFT], [0.0, 0.0, 3.15 - LIFT]])
    guides = ["height:1=2.05+-0.05", f"{own}:length=1.2+-0.1"]
    ensemble = model.sample(system, 40, guides=guides, block_size=10)
    ensemble.save(tmp_path / "out", formats=("extxyz", "npz"))
    again = AdsorbateEnsemble.read(tmp_path / "out")
    assert set(again.values) == {"height:1", "own.py:length"}
    for name, values in ensemble.values.items():
        np.testing.assert_allclose(again.values[name], values, rtol=1e-6)
    assert len(again.populations()) == 4
    assert sum(row.population for row in again.populations_of_sites()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        ("height:3=2", r"height: there is no mobile atom '3'; those of .* are 1 \(C\), 2 \(O\)"),
        ("height=2", "write height:I"),
        ("tilt:1=20", "tilt: got '1', expected two numbers such as tilt:3,17"),
        ("tilt:2,2=20", "expected two different numbers"),
        ("distance:1,C=2", "there is no mobile atom 'C'"),
        ("energy:no_such=1", "no_such"),
        ("hight:1=2", "did you mean 'height:I'"),
    ],
)
def test_wrong_guides_are_refused_before_any_work(guide, words, tmp_path):
    system = on_platinum("CO")
    model = make(system, [[0.0, 0.0, 0.8], [0.0, 0.0, 2.0]])
    model.denoiser.centre = None  # a call would fail
    with pytest.raises(InputError, match=words):
        model.sample(system, 5, guides=[guide], folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
