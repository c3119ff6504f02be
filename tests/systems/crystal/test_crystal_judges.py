"""Judges of crystals, and relaxations through ASE."""

import dataclasses

import numpy as np
import pytest
from known_crystals import diamond, graphite, rock_salt

from equilibra.errors import InputError, MissingDependencyError
from equilibra.systems.crystal.calculators import calculator, k_size
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.judge import check_judges, judge, judged
from equilibra.systems.crystal.relax import diamond_energy, relax
from equilibra.systems.crystal.system import CrystalSystem


def test_judges_value_structures_of_any_compositions():
    told = []
    found = judge([graphite(), diamond(), rock_salt(), diamond(3.6)], "band-gap:megnet", progress=lambda *now: told.append(now))
    assert abs(found[0]) < 0.5
    assert found[1] == pytest.approx(4.6, abs=0.5)
    assert found[2] == pytest.approx(5.04, abs=0.5)
    assert told[-1] == (4, 4)
    assert judge([diamond()], "density")[0] == pytest.approx(3.516, abs=2e-3)
    flat = dataclasses.replace(diamond(), cell=np.diag([3.0, 3.0, 0.05]))
    assert np.isnan(judge([flat], "band-gap:tight-binding")[0])


def test_judges_by_xtb_are_those_of_the_property():
    pytest.importorskip("tblite")
    assert judge([diamond()], "band-gap:xtb")[0] == pytest.approx(5.97, abs=0.01)


def test_an_ensemble_keeps_what_its_judges_say(tmp_path):
    ensemble = CrystalEnsemble.of([diamond(), diamond(3.7)])
    found = judged(ensemble, ["band-gap:megnet", "energy:tight-binding"])
    assert set(found.values) == {"band-gap:megnet", "energy:tight-binding"}
    assert found.provenance["judges"] == ["band-gap:megnet", "energy:tight-binding"]
    assert found.values["energy:tight-binding"][0] < found.values["energy:tight-binding"][1]
    found.save(tmp_path, formats=("extxyz",))
    again = CrystalEnsemble.read(tmp_path)
    np.testing.assert_allclose(again.values["band-gap:megnet"], found.values["band-gap:megnet"], rtol=1e-4)


def test_a_guide_is_not_its_own_judge():
    carbon = CrystalSystem.of_formula("C2")
    with pytest.raises(InputError, match="guides these samples as well"):
        check_judges(["band-gap:megnet"], ["band-gap:megnet"], carbon)
    with pytest.raises(InputError, match="is given twice"):
        check_judges(["density", "density"], [], carbon)
    with pytest.raises(InputError, match="did you mean 'band-gap:megnet'"):
        check_judges(["bandgap:megnet"], [], carbon)
    with pytest.raises(InputError, match="is a model of carbon"):
        check_judges(["energy:tight-binding"], [], CrystalSystem.of_formula("NaCl"))


def test_relaxation_finds_the_minimum_of_the_energy():
    wide = diamond(3.8)
    found = relax([wide, rock_salt()], "tight-binding")
    assert found.converged.tolist() == [True, False]
    assert "expected carbon alone" in found.problems[1]
    assert np.isnan(found.after[1])
    assert found.structures[1].energy is None
    # the published lattice constant of the model is 3.555 Å
    assert (4 * found.structures[0].volume) ** (1 / 3) == pytest.approx(3.555, abs=0.02)
    assert found.after[0] < found.before[0]
    assert found.structures[0].energy == found.after[0]
    assert diamond_energy("tight-binding") == pytest.approx(found.after[0], abs=2e-3)
    still = relax([wide], "tight-binding", steps=0)
    assert still.before[0] == pytest.approx(still.after[0])
    with pytest.raises(InputError, match="relax: got the force 0"):
        relax([wide], "tight-binding", force=0.0)


def test_calculators_by_name_and_of_the_user(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ase.calculators.lj import LennardJones\n\n\ndef argon():\n    return LennardJones(sigma=1.2, epsilon=0.1, rc=4.0)\n\n\ndef none():\n    return 3\n"
    )
    found = relax([diamond()], f"{path}:argon", steps=2, cells=False)
    assert np.isfinite(found.after).all()
    assert np.allclose(found.structures[0].cell, diamond().cell)
    with pytest.raises(InputError, match="got an object of the class int, expected an ASE calculator"):
        calculator(f"{path}:none")
    with pytest.raises(InputError, match="unknown calculator 'tightbinding'; did you mean 'tight-binding'"):
        calculator("tightbinding")
    assert k_size(np.diag([2.0, 4.0, 40.0]), 0.5) == (7, 4, 1)


def test_a_missing_calculator_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, words in (("gpaw", "libxc-dev"), ("xtb", r"equilibra\[xtb\]")):
        with pytest.raises(MissingDependencyError, match=words):
            calculator(name)
