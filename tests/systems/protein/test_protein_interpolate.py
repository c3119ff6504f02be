"""Paths between two structures of a protein."""

import csv

import numpy as np
import pytest
import torch
from extended_protein import SEQUENCE, extended, system, tiny_model

from equilibra.errors import InputError
from equilibra.geometry import so3
from equilibra.geometry.superposition import rmsd
from equilibra.systems import paths
from equilibra.systems.files import write_trajectory
from equilibra.systems.paths import interpolate
from equilibra.systems.protein import all_atom_ensemble
from equilibra.systems.protein.frames import written_atoms
from equilibra.systems.protein.interpolate import ends_of
from equilibra.systems.protein.sources import structure
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import KCAL_PER_MOL_EV


def bent(protein, degrees):
    """Frames of a chain with a hinge in its middle."""
    trans, rot = (torch.from_numpy(value[0]) for value in extended(protein))
    turn = so3.exp(torch.tensor([0.0, 0.0, np.radians(degrees)]))
    after = torch.arange(protein.length) >= protein.length // 2
    pivot = trans[protein.length // 2 - 1]
    trans = torch.where(after[:, None], (trans - pivot) @ turn.T + pivot, trans)
    rot = torch.where(after[:, None, None], turn @ rot, rot)
    return trans[None].numpy(), rot[None].numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends")
    protein = system()
    turn = so3.exp(torch.tensor([0.3, -1.0, 0.5])).double().numpy()
    for name, degrees in (("a", 0.0), ("b", 40.0)):
        x = written_atoms(*bent(protein, degrees), protein)
        # the second lies elsewhere
        x = x if name == "a" else x @ turn.T.astype(np.float32) + 5.0
        write_trajectory(folder / f"{name}.pdb", x, protein.topology)
    return folder


def test_the_second_structure_is_laid_over_the_first(files):
    first, last = (structure(files / name) for name in ("a.pdb", "b.pdb"))
    state = ends_of(first, last)
    trans, rot = state.fields["trans"], state.fields["rot"]
    assert float((trans[1] - trans[0]).square().sum(1).mean().sqrt()) == pytest.approx(
        float(rmsd(trans[1], trans[0])), abs=1e-6
    )
    assert float(so3.angle(rot[1].mT @ rot[0]).max()) < np.radians(60.0)
    assert float(torch.linalg.det(rot).min()) == pytest.approx(1.0)


def test_a_path_goes_from_one_to_the_other_and_is_written(files, tmp_path):
    path = interpolate(tiny_model(), files / "a.pdb", files / "b.pdb", steps=7, network_steps=40, batch_size=5)
    assert len(path) == 7
    assert max(path.round_trip) < 0.05
    assert path.rmsd[0, 0] < 0.1
    assert path.rmsd[-1, 1] < 0.1
    assert path.rmsd[0, 1] == pytest.approx(path.rmsd[-1, 0], abs=0.2)
    assert (np.diff(path.rmsd[:, 0]) > 0).all()
    folder = path.save(tmp_path / "path")
    assert sorted(file.name for file in folder.iterdir()) == ["path.csv", "path.pdb", "path.xtc"]
    with (folder / "path.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert float(rows[3]["C-alpha RMSD to A (Å)"]) == pytest.approx(path.rmsd[3, 0], abs=1e-3)
    assert list(rows[0]) == [
        *("index", "fraction", "valid"),
        *("C-alpha RMSD to A (Å)", "C-alpha RMSD to B (Å)", "radius of gyration (Å)", "reasons"),
    ]


def test_a_path_has_log_densities_on_request(tmp_path):
    protein = system("GAG")
    for name, degrees in (("a", 0.0), ("b", 20.0)):
        write_trajectory(tmp_path / f"{name}.pdb", written_atoms(*bent(protein, degrees), protein), protein.topology)
    model = tiny_model(transferable=True)
    path = interpolate(model, tmp_path / "a.pdb", tmp_path / "b.pdb", steps=2, network_steps=5, log_density=True)
    assert path.columns["log-density (nats)"].shape == (2,)
    assert np.isfinite(path.ensemble.log_density).all()


def test_a_path_has_energies_on_request(tmp_path, monkeypatch):
    protein = system("GAG")
    for name, degrees in (("a", 0.0), ("b", 20.0)):
        write_trajectory(tmp_path / f"{name}.pdb", written_atoms(*bent(protein, degrees), protein), protein.topology)
    ends, options = (tmp_path / "a.pdb", tmp_path / "b.pdb"), {"steps": 3, "network_steps": 5, "energy": "amber14-obc2"}
    said = []
    path = interpolate(tiny_model(transferable=True), *ends, folder=tmp_path / "out", progress=said.append, **options)
    assert said[-1] == "placing and relaxing side chains: 3 of 3"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("all-atom-blocks", "all-atom.pdb", "all-atom.xtc", "relaxation.csv")
    ]
    assert path.ensemble.provenance["energy"]["stiffness"] > 0.0
    energies = path.energies
    assert (energies.relaxed < energies.built).all()
    assert (energies.ca_moved < 1.0).all()
    with (path.save(tmp_path / "out") / "path.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy relaxed (kcal/mol)"]) for row in rows] == pytest.approx(
        energies.relaxed / KCAL_PER_MOL_EV, abs=1e-3
    )
    assert [row["clashes as built"] for row in rows] == [str(count) for count in energies.clashes[:, 0]]
    assert {row["relaxation"] for row in rows} <= {"relaxed", "suspect"}
    # finished structures are taken from the folder; without one nothing is left behind, and the numbers are the same
    monkeypatch.setattr(all_atom_ensemble, "_Builder", lambda *parts: None)
    again = interpolate(tiny_model(transferable=True), *ends, folder=tmp_path / "out", **options)
    np.testing.assert_array_equal(again.energies.relaxed, energies.relaxed)
    monkeypatch.undo()
    before = sorted(tmp_path.rglob("*"))
    alone = interpolate(tiny_model(transferable=True), *ends, **options)
    np.testing.assert_allclose(alone.energies.relaxed, energies.relaxed)
    assert sorted(tmp_path.rglob("*")) == before


def test_energies_that_cannot_be_had_are_refused_before_the_path_is_computed(files, tmp_path, monkeypatch):
    def fail(*parts, **options):
        raise AssertionError

    monkeypatch.setattr(paths, "latent_path", fail)
    with pytest.raises(InputError, match="unknown force field 'amber'"):
        interpolate(tiny_model(), files / "a.pdb", files / "b.pdb", energy="amber")
    other = system("GAXAG")
    write_trajectory(tmp_path / "x.pdb", written_atoms(*extended(other), other), other.topology)
    with pytest.raises(InputError, match="A:UNK3 has no all-atom form"):
        interpolate(tiny_model(transferable=True), tmp_path / "x.pdb", tmp_path / "x.pdb", energy="amber14-obc2")


def test_copies_and_missing_residues_are_no_obstacle(files, tmp_path):
    dimer = system(f"{SEQUENCE}:{SEQUENCE}")
    write_trajectory(tmp_path / "dimer.pdb", written_atoms(*extended(dimer), dimer), dimer.topology)
    short = ProteinSystem.of_chains([SEQUENCE[1:10]], name="short", numbers=[np.arange(2, 11)])
    write_trajectory(tmp_path / "short.pdb", written_atoms(*bent(short, 10.0), short), short.topology)
    path = interpolate(
        tiny_model(), tmp_path / "dimer.pdb", tmp_path / "short.pdb", steps=2, network_steps=5, outside_scope=True
    )
    assert path.ensemble.system.sequence == SEQUENCE[1:10]
    with pytest.raises(InputError, match=f"is the sequence {SEQUENCE[1:10]}, but the model"):
        interpolate(tiny_model(), tmp_path / "dimer.pdb", tmp_path / "short.pdb", steps=2)


def test_other_input_is_refused(files, tmp_path):
    other = system("MKVLWAALLVTF")
    write_trajectory(tmp_path / "c.pdb", written_atoms(*extended(other), other), other.topology)
    with pytest.raises(InputError, match="not of one protein"):
        interpolate(tiny_model(), files / "a.pdb", tmp_path / "c.pdb")
    with pytest.raises(InputError, match="steps: got 1"):
        interpolate(tiny_model(), files / "a.pdb", files / "b.pdb", steps=1)
    with pytest.raises(InputError, match="no such file"):
        interpolate(tiny_model(), files / "a.pdb", tmp_path / "none.pdb")
