"""Ensembles of proteins: kept and rejected frames, torsions, files that come back as they went, and trajectories of all atoms."""

import json

import mdtraj
import numpy as np
import pytest
from extended_protein import SEQUENCE, atoms, system

from equilibra.errors import InputError
from equilibra.systems.ensemble_folder import kind_of
from equilibra.systems.files import mdtraj_trajectory
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.load import load_ensemble
from equilibra.systems.protein.runs import join_runs, load_runs, same_system

ROUNDING = {"xtc": 5.1e-3, "dcd": 1e-5, "npz": 0.0, "pdb": 5.1e-4}  # Å


def make(source=f"{SEQUENCE}:GAG", frames=8):
    protein = system(source)
    x = atoms(protein, frames, trans=0.03, rot=0.02)
    x[1] = np.nan
    x[2, 20:] += 30.0
    rng = np.random.default_rng(1)
    return ProteinEnsemble.from_frames(
        protein,
        x,
        log_weights=rng.normal(size=frames),
        blocks=np.arange(frames) // 4,
        log_density=rng.normal(size=frames),
        provenance={"model": "none", "seed": 3},
    )


@pytest.fixture(scope="module")
def ensemble():
    return make()


def test_what_an_ensemble_tells(ensemble):
    assert (len(ensemble), len(ensemble.rejected)) == (6, 2)
    assert [reason.split(":")[0] for reason in ensemble.rejected_reasons] == ["finite", "chain"]
    assert ensemble.ca.shape == (6, 15, 3)
    assert ensemble.atom5.shape == (6, 15, 5, 3)
    assert ensemble.trans.shape == (6, 15, 3)
    assert np.abs(ensemble.trans.mean(axis=1)).max() < 1e-5
    assert np.abs(ensemble.rot @ ensemble.rot.swapaxes(2, 3) - np.eye(3)).max() < 1e-5
    trajectory = ensemble.to_mdtraj()
    np.testing.assert_allclose(
        ensemble.radius_of_gyration,
        10 * mdtraj.compute_rg(trajectory.atom_slice(trajectory.topology.select("name CA"))),
        rtol=1e-4,
    )
    torsions = ensemble.torsions()
    assert [name for name in torsions if "A:TYR2" in name] == ["phi A:TYR2", "psi A:TYR2", "omega A:TYR2"]
    for kind, compute in (("phi", mdtraj.compute_phi), ("psi", mdtraj.compute_psi), ("omega", mdtraj.compute_omega)):
        own = np.stack([values for name, values in torsions.items() if name.startswith(f"{kind} ")], axis=1)
        np.testing.assert_allclose(own, compute(trajectory)[1], atol=1e-4)
    assert ensemble.cis_share == 0.0
    assert "phi ALA2" in ProteinEnsemble(system=system("AAA"), positions=atoms(system("AAA"))).torsions()


@pytest.mark.parametrize("suffix", list(ROUNDING))
def test_a_saved_folder_comes_back(ensemble, suffix, tmp_path):
    folder = ensemble.save(tmp_path / "out", formats=(suffix,))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["ensemble.json", "rejected.csv", "rejected.xtc", "samples.csv", f"samples.{suffix}", "topology.pdb"]
    )
    back = load_ensemble(folder)
    assert back.system == ensemble.system
    np.testing.assert_allclose(back.positions, ensemble.positions, atol=ROUNDING[suffix])
    for name in ("log_weights", "blocks", "log_density"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ensemble, name))
    assert back.rejected_reasons == ensemble.rejected_reasons
    assert dict(back.provenance) == {"model": "none", "seed": 3}
    by_names = load_ensemble(folder / f"samples.{suffix}", None if suffix == "pdb" else folder / "topology.pdb")
    assert by_names.system == ensemble.system
    np.testing.assert_allclose(by_names.positions, ensemble.positions, atol=ROUNDING[suffix])
    assert kind_of(folder) == "protein"
    description = json.loads((folder / "ensemble.json").read_text())
    assert (description["kind"], description["protein"]["sequence"]) == ("protein", f"{SEQUENCE}:GAG")


def test_the_files_are_what_readers_of_benchmarks_expect(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    trajectory = mdtraj.load(folder / "samples.xtc", top=folder / "topology.pdb")
    assert trajectory.n_frames == len(ensemble)
    residue = trajectory.topology.residue(1)
    assert [atom.name for atom in residue.atoms] == ["N", "CA", "C", "O", "CB"]
    assert [atom.name for atom in trajectory.topology.residue(0).atoms] == ["N", "CA", "C", "O"]
    assert "".join(chain for chain in trajectory.topology.to_fasta()) == f"{SEQUENCE}GAG"
    with np.load(ensemble.save(tmp_path / "npz", formats=("npz",)) / "samples.npz") as arrays:
        np.testing.assert_array_equal(arrays["trans"], ensemble.trans)
        np.testing.assert_array_equal(arrays["rot"], ensemble.rot)


def test_a_folder_of_features_or_of_another_protein(ensemble, tmp_path):
    protein = ensemble.system.with_extra(np.zeros((15, 4)), None, provider="arrays", content="abc")
    folder = ProteinEnsemble(system=protein, positions=ensemble.positions).save(tmp_path / "out")
    back = load_ensemble(folder)
    assert (back.system.digest, back.system.provider) == (protein.digest, "arrays")
    assert same_system([ensemble.system, back.system]) is ensemble.system
    with pytest.raises(InputError, match="choose another folder"):
        ensemble.save(folder)
    (tmp_path / "out" / "ensemble.json").write_text(json.dumps({"kind": "molecule", "schema_version": 1}))
    with pytest.raises(InputError, match=r"ensemble\.json' lacks digest"):
        load_ensemble(folder)


def all_atom(ensemble, tmp_path, *, box=None):
    """A trajectory with hydrogens, waters and another order of atoms, and its topology."""
    topology, order = mdtraj.Topology(), []
    water = topology.add_residue("HOH", topology.add_chain("W"))
    topology.add_atom("O", mdtraj.element.oxygen, water)
    for chain in ensemble.system.topology.chains:
        new = topology.add_chain(chain.chain_id)
        for residue in chain.residues:
            copy = topology.add_residue(residue.name, new, residue.resSeq)
            for atom in reversed(list(residue.atoms)):
                topology.add_atom("H" + atom.name, mdtraj.element.hydrogen, copy)
                topology.add_atom(atom.name, atom.element, copy)
                order.append(atom.index)
    x = np.zeros((len(ensemble), topology.n_atoms, 3), np.float32)
    x[:, 2::2] = ensemble.positions[:, order]
    x[:, 1::2] = x[:, 2::2] + 0.5
    whole = mdtraj_trajectory(x[:1], topology)
    whole.save_pdb(str(tmp_path / "all.pdb"))
    if box is not None:
        x = np.where(np.arange(len(x))[:, None, None] % 2 == 0, x % box, x)
    trajectory = mdtraj_trajectory(x, topology)
    if box is not None:
        trajectory.unitcell_lengths = np.full((len(x), 3), box / 10.0)
        trajectory.unitcell_angles = np.full((len(x), 3), 90.0)
    trajectory.save_xtc(str(tmp_path / "all.xtc"))
    return tmp_path / "all.xtc", tmp_path / "all.pdb"


def test_the_backbone_of_all_atoms_is_taken(ensemble, tmp_path):
    xtc, pdb = all_atom(ensemble, tmp_path)
    back = load_ensemble(xtc, pdb)
    assert same_system([ensemble.system, back.system]) == ensemble.system
    np.testing.assert_allclose(back.positions, ensemble.positions, atol=ROUNDING["xtc"])
    assert back.validity.valid.all()
    assert len(load_runs(f"{xtc}:{pdb}")[0]) == len(ensemble)
    joined = join_runs([ensemble, back])
    assert len(joined) == 2 * len(ensemble)
    with pytest.raises(InputError, match="give a topology"):
        load_ensemble(xtc)
    with pytest.raises(InputError, match="residues do not match"):
        load_ensemble(xtc, ensemble.save(tmp_path / "out") / "topology.pdb")
    shuffled = mdtraj.load(xtc, top=pdb)
    shuffled.xyz = np.ascontiguousarray(shuffled.xyz[:, ::-1])
    shuffled.save_xtc(str(tmp_path / "shuffled.xtc"))
    with pytest.raises(InputError, match="atoms are not those of the topology"):
        load_ensemble(tmp_path / "shuffled.xtc", pdb)


def test_chains_cut_by_a_periodic_box_are_made_whole(ensemble, tmp_path):
    xtc, pdb = all_atom(ensemble, tmp_path, box=30.0)
    back = load_ensemble(xtc, pdb)
    assert back.validity.valid.all()
    first = slice(0, len(SEQUENCE))
    for x, y in ((back.trans[:, first], ensemble.trans[:, first]), (back.rot, ensemble.rot)):
        np.testing.assert_allclose(x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True), atol=0.02)


def test_missing_atoms_are_placed(ensemble, tmp_path):
    trajectory = ensemble.to_mdtraj()
    keep = trajectory.topology.select("name N or name CA or name C")
    trajectory.atom_slice(keep).save_pdb(str(tmp_path / "bare.pdb"))
    back = load_ensemble(tmp_path / "bare.pdb")
    assert back.system.sequence == ensemble.system.sequence
    np.testing.assert_allclose(back.positions, ensemble.positions, atol=5e-3)


def test_different_proteins_are_not_joined(ensemble):
    other = make(f"{SEQUENCE}:GAA")
    with pytest.raises(InputError, match="are different proteins: residue 15 is B:GLY3 in one and B:ALA3 in the other"):
        join_runs([ensemble, other])
    with pytest.raises(InputError, match="they have 2 and 1 chains"):
        join_runs([ensemble, make(SEQUENCE)])
