"""Crystals of many elements: a small set in the layout of perov-5, from its table to samples of a composition that was not in it."""

import csv
import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "crystal"))

from equilibra.analysis.crystal.charges import charge_neutral
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.files import cif_text
from equilibra.systems.crystal.formula import atomic_number
from equilibra.systems.crystal.structures import Structure
from equilibra.train import crystal as training
from equilibra.train.crystal import CrystalEntry, train_crystal

SIZE = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, "image_cutoff": 3.5}
SITES = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])


def perovskite(a, b, x, edge):
    numbers = np.array([atomic_number(symbol) for symbol in (a, b, x, x, x)])
    return Structure(numbers=numbers, frac=SITES, cell=edge * np.eye(3), name=f"{a}{b}{x}3")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with the columns of CDVAE's perov_5 files."""
    path = tmp_path_factory.mktemp("perov") / "train.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["", "material_id", "heat_all", "heat_ref", "dir_gap", "ind_gap", "cif"])
        for index, (a, b, x) in enumerate(itertools.product(("Ca", "Sr", "Ba"), ("Ti", "Zr"), ("O", "S"))):
            made = perovskite(a, b, x, 3.8 + 0.1 * index / 12 + (0.9 if x == "S" else 0.0))
            text = cif_text(made.numbers, made.frac, made.cell, made.name)
            rows.writerow([index, index + 100, 0.1 * index, 0.2 * index, 1.5, 1.0 if index % 2 else 2.0, text])
        # a record without a volume does not sink the others
        rows.writerow([99, 199, 0.0, 0.0, 0.0, 0.0, re.sub("_cell_length_a .*", "_cell_length_a 0.0", text)])
    return path


def test_a_set_of_perovskites_is_learned_and_sampled(table, config, tmp_path, monkeypatch, caplog):
    problems = []
    found = read_structures(table, problems.append)
    assert len(found) == 12
    assert len(problems) == 1
    assert found[3].values["heat_ref"] == pytest.approx(0.6)
    assert {len(item) for item in found} == {5}
    monkeypatch.setattr(training, "TRANSFERABLE", 10)
    run = train_crystal([CrystalEntry(data=table)], tmp_path, config(steps=6), name="perov", labels=["ind_gap"], network=SIZE)
    assert "1 records were left out" in caplog.text
    assert run.scope.transferable
    assert run.scope.elements == (8, 16, 20, 22, 38, 40, 56)
    # calcium and strontium on one lattice with both anions: nothing of the training
    few = SamplerConfig(grid=GridConfig(steps=3))
    ensemble = run.sample("CaTiO2S", n=2, seed=3, block_size=6, sampler=few, labels={"ind_gap": 1.5})
    assert ensemble.validity.valid.all()
    assert ensemble.system.formula == "O2SCaTi"
    assert run.process.fields["cell"].space.centre == pytest.approx(np.mean([np.cbrt(i.volume / 5) for i in found]), rel=1e-3)


def test_charges_of_perovskites_balance():
    pytest.importorskip("pymatgen")
    known = [perovskite("Sr", "Ti", "O", 3.9), perovskite("Sr", "Na", "O", 4.0), perovskite("Al", "Cu", "Au", 4.0)]
    assert charge_neutral(known).tolist() == [True, False, True]
