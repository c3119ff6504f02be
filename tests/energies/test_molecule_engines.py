"""MMFF94 against RDKit; GAFF2 and SO3LR where they are not installed."""

import os
import sys
import types

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from equilibra.energies import gaff
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.gaff import find_programs, gaff_system
from equilibra.energies.mmff import MMFFEnergy
from equilibra.energies.so3lr import So3lrEnergy
from equilibra.errors import InputError, MissingDependencyError
from equilibra.units import KCAL_PER_MOL_EV


@pytest.fixture(scope="module")
def alanine():
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)N[C@@H](C)C(=O)NC"))
    rdDistGeom.EmbedMultipleConfs(mol, 4, randomSeed=7)
    return mol


def coordinates(mol):
    return torch.from_numpy(np.stack([conformer.GetPositions() for conformer in mol.GetConformers()]))


@pytest.mark.parametrize("variant", ["mmff94", "mmff94s"])
def test_mmff_is_rdkits_own_energy_and_gradient(alanine, variant):
    energy = MMFFEnergy(alanine, variant)
    x = coordinates(alanine)
    u, force = energy.energy_and_force(x)
    parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(alanine, mmffVariant=variant.upper().replace("94S", "94s"))
    for index, conformer in enumerate(alanine.GetConformers()):
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(alanine, parameters, confId=conformer.GetId())
        assert float(u[index]) == pytest.approx(field.CalcEnergy() * KCAL_PER_MOL_EV, rel=1e-10)
        expected = -np.array(field.CalcGrad()).reshape(-1, 3) * KCAL_PER_MOL_EV
        assert np.allclose(force[index].numpy(), expected, rtol=1e-9, atol=1e-10)
    assert energy.degrees == 63


def test_mmff_gradient_is_the_finite_difference(alanine):
    energy = MMFFEnergy(alanine)
    x = coordinates(alanine)
    _, force = energy.energy_and_force(x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    step = 1e-5
    slope = (energy.energy(x + step * direction) - energy.energy(x - step * direction)) / (2 * step)
    assert torch.allclose(slope, -(force * direction).sum((1, 2)), rtol=1e-6, atol=1e-6)
    moving = x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy.energy(moving).sum(), moving)
    assert torch.allclose(gradient, -force)


def test_mmff_counts_and_does_not_touch_the_molecule(alanine):
    before = coordinates(alanine)
    reduced = ReducedEnergy.at(MMFFEnergy(alanine), 300.0)
    # the force field has no cut-off, whatever conformation it was made with
    far = torch.cat([before, 50.0 * before])
    reduced.check(far)
    assert reduced.calls == len(far)
    assert torch.equal(coordinates(alanine), before)
    assert alanine.GetNumConformers() == 4


@pytest.mark.parametrize(
    ("smiles", "hydrogens", "message"),
    [
        ("CCO", False, "6 hydrogens are not atoms.*AddHs"),
        ("OB(O)c1ccccc1", True, "no atom types for B"),
        ("[CH3]", True, "atoms C0 have unpaired electrons"),
        ("FS(F)(F)(F)(F)F", True, "valence state or bonding"),
        ("[2H]", False, "at least two"),
    ],
)
def test_mmff_says_what_is_missing(smiles, hydrogens, message):
    mol = Chem.MolFromSmiles(smiles)
    with pytest.raises(InputError, match=message):
        MMFFEnergy(Chem.AddHs(mol) if hydrogens else mol)
    with pytest.raises(InputError, match="did you mean 'mmff94'"):
        MMFFEnergy(mol, "mmff")


@pytest.fixture
def bare_path(monkeypatch, tmp_path):
    """Neither the search path nor the interpreter's folder holds a program."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gaff.sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path


def program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_gaff_gives_the_install_line(bare_path, alanine):
    with pytest.raises(MissingDependencyError, match=r"antechamber, parmchk2, tleap were not found.*pip install ambertools"):
        gaff_system(alanine)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in programs are shell scripts")
def test_gaff_finds_programs_and_repeats_their_last_words(bare_path, alanine):
    for name in gaff.PROGRAMS:
        program(bare_path, name, "echo 'the odd electron is not supported'; exit 3")
    assert set(find_programs()) == set(gaff.PROGRAMS)
    with pytest.raises(InputError, match=r"antechamber failed .*exit code 3.*odd electron"):
        gaff_system(alanine)
    program(bare_path, "antechamber", "/bin/sleep 5")
    with pytest.raises(InputError, match=r"longer than 0.1 s"):
        gaff_system(alanine, timeout=0.1)
    with pytest.raises(InputError, match="no conformer"):
        gaff_system(Chem.AddHs(Chem.MolFromSmiles("CO")))
    with pytest.raises(InputError, match="expected 'bcc' or 'gas'"):
        gaff_system(alanine, charges="resp")


def test_so3lr_gives_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "so3krates_torch.calculator.so3", None)
    before = torch.get_default_dtype()
    with pytest.raises(MissingDependencyError, match="pip install so3krates-torch"):
        So3lrEnergy([8, 1, 1])
    assert torch.get_default_dtype() == before


def test_so3lr_works_in_double_precision_and_leaves_torch_as_it_was(monkeypatch):
    """With a stand-in that notes how it is called; the network itself is an optional package."""
    from ase.calculators.emt import EMT

    seen = {}

    class Standin(EMT):
        def __init__(self, **kwargs):
            print("a banner")
            seen.update(kwargs)
            super().__init__()

        def calculate(self, atoms=None, *args, **kwargs):
            seen["dtype"] = torch.get_default_dtype()
            seen["charge"] = atoms.info["charge"]
            super().calculate(atoms, *args, **kwargs)

    module = types.ModuleType("so3krates_torch.calculator.so3")
    module.SO3LRCalculator = Standin
    for name in ("so3krates_torch", "so3krates_torch.calculator"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "so3krates_torch.calculator.so3", module)
    before = torch.get_default_dtype()
    energy = So3lrEnergy([8, 1, 1], charge=1)
    energy.energy(torch.eye(3)[None])
    assert seen["r_max_lr"] == 12.0
    assert seen["dispersion_energy_cutoff_lr_damping"] == 2.0
    assert seen["dtype"] == torch.float64
    assert seen["charge"] == 1
    assert torch.get_default_dtype() == before
    assert energy.name == "so3lr"
