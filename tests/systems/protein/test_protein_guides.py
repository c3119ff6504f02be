"""Guides of proteins: residues by their numbers, structures by files, and samples guided on R^3 x SO(3)."""

import numpy as np
import pytest
import torch
from extended_protein import SEQUENCE, atoms, bind, extended, system, tiny_model

from equilibra.analysis.superposition import rmsd_matrix
from equilibra.errors import InputError
from equilibra.nn.frames import ROT, TRANS
from equilibra.state import State
from equilibra.systems.model import Model
from equilibra.systems.protein.domain import properties, written
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.files import write_frames
from equilibra.systems.protein.load import load_ensemble


def states(protein, frames=4, seed=0):
    trans, rot = extended(protein, frames, trans=0.5, rot=0.1, seed=seed)
    return State({TRANS: torch.from_numpy(trans), ROT: torch.from_numpy(rot)})


def test_properties_are_those_of_the_alpha_carbons(tmp_path):
    protein = system()
    makers, state = properties(protein), states(protein)
    ensemble = ProteinEnsemble(system=protein, positions=written(protein, state).numpy())
    np.testing.assert_allclose(makers["radius-of-gyration"]("")(state), ensemble.radius_of_gyration, atol=1e-4)
    np.testing.assert_allclose(
        makers["distance:I,J"]("2,A:11")(state), np.linalg.norm(ensemble.ca[:, 1] - ensemble.ca[:, 10], axis=-1), atol=1e-4
    )
    write_frames(tmp_path / "native.pdb", atoms(protein), protein)
    made = makers["rmsd:FILE"](str(tmp_path / "native.pdb"))
    target = load_ensemble(tmp_path / "native.pdb").ca[0]
    found = made(state).numpy()
    np.testing.assert_allclose(found, rmsd_matrix(ensemble.ca.astype(float), target.astype(float)[None])[:, 0], atol=1e-3)
    # another content is another guide
    write_frames(tmp_path / "native.pdb", atoms(protein, trans=0.5), protein)
    assert makers["rmsd:FILE"](str(tmp_path / "native.pdb")).content != made.content
    trans = state.fields[TRANS].requires_grad_()
    for name in ("radius-of-gyration", "rmsd:FILE"):
        value = makers[name](str(tmp_path / "native.pdb"))(State({**state.fields, TRANS: trans}))
        assert torch.isfinite(torch.autograd.grad(value.sum(), trans)[0]).all()


def test_residues_of_several_chains_are_named_with_their_chain():
    protein = system("GYDPETG:TWGAKLS")
    make, state = properties(protein)["distance:I,J"], states(protein)
    x = state.fields[TRANS].numpy()
    np.testing.assert_allclose(make("A:2,B:3")(state), np.linalg.norm(x[:, 1] - x[:, 9], axis=-1), rtol=1e-12)
    with pytest.raises(InputError, match="2 chains have a residue 2; write A:2 or B:2"):
        make("2,3")
    with pytest.raises(InputError, match="no residue 'C:2'"):
        make("C:2,A:3")
    with pytest.raises(InputError, match="got the residue 'two'"):
        make("two,3")
    with pytest.raises(InputError, match="whose residues go from A:GLY1 to B:SER7"):
        make("A:99,B:3")


def test_a_sample_is_guided_and_saved(monkeypatch, tmp_path):
    monkeypatch.setattr(Model, "bind", bind)
    model, protein = tiny_model(), system()
    x = extended(protein)[0][0]
    distance = float(np.linalg.norm(x[0] - x[11]))
    ensemble = model.sample(
        SEQUENCE,
        n=6,
        guides=[f"distance:1,12={distance - 2.0}+-1", "radius-of-gyration=..99+-1"],
        block_size=4,
        folder=tmp_path / "a",
    )
    # all the model knows is one structure: its likelihood is the evidence
    record = ensemble.provenance["guidance"]
    assert record["log_evidence"] == pytest.approx(-2.0, abs=0.02)
    np.testing.assert_allclose(ensemble.values["distance:1,12"], distance, atol=0.02)
    ensemble.save(tmp_path / "a")
    again = load_ensemble(tmp_path / "a")
    np.testing.assert_array_equal(again.values["radius-of-gyration"], ensemble.values["radius-of-gyration"])
    np.testing.assert_allclose(again.values["radius-of-gyration"], ensemble.radius_of_gyration, atol=1e-3)
    with pytest.raises(InputError, match=r"no such file|cannot be read|does not exist"):
        model.sample(SEQUENCE, n=2, guides=[f"rmsd:{tmp_path / 'missing.pdb'}=..2"])
    with pytest.raises(InputError, match=r"unknown property 'rmds:x.pdb'; did you mean 'rmsd:FILE'"):
        model.sample(SEQUENCE, n=2, guides=["rmds:x.pdb=..2"])
