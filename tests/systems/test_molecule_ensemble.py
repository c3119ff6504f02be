"""Ensembles of molecules: kept and rejected frames, conversions, and files that come back as they went."""

import csv
import json
import os

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from equilibra.errors import InputError, ShapeError
from equilibra.systems.molecule import MoleculeEnsemble, load_ensemble, molecule_system
from equilibra.systems.molecule.files import FORMATS, atomic_path, read_frames, write_frames

ROUNDING = {"xtc": 5.1e-3, "dcd": 1e-5, "npz": 0.0, "pdb": 5.1e-4, "sdf": 5.1e-5, "extxyz": 1e-6}  # Å


def make(source, frames=12, noise=0.02):
    """An ensemble with four bad frames: one that is not finite, one mirrored, one far out, one blown up."""
    system = molecule_system(source)
    rng = np.random.default_rng(0)
    x = system.reference + noise * rng.normal(size=(frames, system.atoms, 3))
    x[1] = np.nan
    x[2] *= [-1.0, 1.0, 1.0]
    x[3] *= 1e9
    x[4] *= 1.5
    return MoleculeEnsemble.from_frames(
        system,
        x,
        log_weights=rng.normal(size=frames),
        blocks=np.arange(frames) // 4,
        energies=rng.normal(size=frames),
        log_density=rng.normal(size=frames),
        provenance={"model": "none", "seed": 3},
    )


@pytest.fixture(scope="module")
def ensemble():
    return make("ACE-ALA-NME")


def test_bad_frames_are_set_apart_with_their_reasons(ensemble):
    assert (len(ensemble), len(ensemble.rejected)) == (8, 4)
    assert ensemble.validity.valid.all()
    assert [reason.split(":")[0] for reason in ensemble.rejected_reasons] == ["finite", "stereo", "bonds", "bonds"]
    np.testing.assert_array_equal(ensemble.blocks, [0, 1, 1, 1, 2, 2, 2, 2])
    table = {name: (passed, total) for name, passed, total in ensemble.validity_table()}
    assert table["all"] == (8, 12)
    assert table["finite"] == (11, 12)
    assert table["stereo"] == (10, 12)


def test_weights_are_normalised(ensemble):
    assert ensemble.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.diff(np.log(ensemble.weights)), np.diff(ensemble.log_weights))


@pytest.mark.parametrize("source", ["ACE-ALA-NME", "F/C=C/CCO", "C[C@H](N)C(=O)O", "c1ccc2[nH]ccc2c1"])
def test_a_saved_folder_comes_back(source, tmp_path):
    ensemble = make(source)
    folder = ensemble.save(tmp_path / "my results", formats=("xtc", "npz"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "ensemble.json", "rejected.csv", "rejected.xtc", "samples.csv", "samples.npz", "samples.xtc", "topology.pdb",
    ]  # fmt: skip
    back = load_ensemble(folder)
    assert back.system == ensemble.system
    assert back.system.name == source
    np.testing.assert_array_equal(back.positions, ensemble.positions)
    for name in ("log_weights", "blocks", "energies", "log_density"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ensemble, name))
    assert back.rejected_reasons == ensemble.rejected_reasons
    # the frame that is not finite and the one too far out are in no file
    missing = [np.abs(frame).max() > 1e6 or not np.isfinite(frame).all() for frame in ensemble.rejected]
    np.testing.assert_array_equal(np.isnan(back.rejected).all(axis=(1, 2)), missing)
    np.testing.assert_allclose(back.rejected[~np.array(missing)], ensemble.rejected[~np.array(missing)], atol=ROUNDING["xtc"])
    assert dict(back.provenance) == {"model": "none", "seed": 3}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("source", ["ACE-ALA-NME", "C[C@H](N)C(=O)O"])
def test_every_format_comes_back(source, suffix, tmp_path):
    ensemble = make(source)
    folder = ensemble.save(tmp_path / "out", formats=(suffix,))
    for back in (load_ensemble(folder), load_ensemble(folder / f"samples.{suffix}", folder / "topology.pdb")):
        assert back.positions.shape == ensemble.positions.shape
        np.testing.assert_allclose(back.positions, ensemble.positions, atol=ROUNDING[suffix])
        assert back.system == ensemble.system
    if suffix in ("npz", "sdf", "extxyz"):
        np.testing.assert_allclose(back.log_weights, ensemble.log_weights)
        np.testing.assert_allclose(back.energies, ensemble.energies)
    if suffix in ("sdf", "pdb"):
        assert load_ensemble(folder / f"samples.{suffix}").system == ensemble.system


def test_a_folder_without_description_is_read_by_its_names(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    (folder / "ensemble.json").unlink()
    back = load_ensemble(folder)
    np.testing.assert_allclose(back.positions, ensemble.positions, atol=ROUNDING["xtc"])
    assert back.provenance["files"] == ["samples.xtc"]
    by_system = load_ensemble(folder / "samples.xtc", ensemble.system)
    assert by_system.system is ensemble.system


def test_the_files_say_what_is_in_them(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    description = json.loads((folder / "ensemble.json").read_text())
    assert description["frames"] == 8
    assert description["rejected"] == 4
    assert description["digest"] == ensemble.system.digest
    assert {"check": "stereo", "passed": 10, "total": 12} in description["validity"]
    with (folder / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0]["valid"] == "1"
    assert float(rows[3]["log_weight"]) == ensemble.log_weights[3]
    top, _ = read_frames(folder / "topology.pdb")
    np.testing.assert_allclose(top[0], ensemble.positions[0], atol=ROUNDING["pdb"])
    assert (folder / "topology.pdb").stat().st_mode & 0o044


def test_saving_again_replaces_and_leaves_nothing_stale(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    clean = MoleculeEnsemble(system=ensemble.system, positions=ensemble.positions[:3])
    clean.save(folder)
    assert len(load_ensemble(folder)) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["ensemble.json", "samples.csv", "samples.xtc", "topology.pdb"]


def test_a_folder_of_another_molecule_is_refused_and_untouched(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="holds an ensemble of ACE-ALA-NME, not of CCO; choose another folder"):
        make_ethanol().save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def make_ethanol():
    system = molecule_system("CCO")
    return MoleculeEnsemble(system=system, positions=system.reference[None])


def test_save_refuses_what_it_cannot_do(ensemble, tmp_path):
    with pytest.raises(InputError, match="formats: got trr, expected some of xtc"):
        ensemble.save(tmp_path / "a", formats=("trr",))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        ensemble.save(tmp_path / "file")
    with pytest.raises(InputError, match="cannot write"):
        ensemble.save(tmp_path / "file" / "below")
    bad = MoleculeEnsemble(system=ensemble.system, positions=-ensemble.positions)
    with pytest.raises(InputError, match="no frame of ACE-ALA-NME passed the checks"):
        bad.save(tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(ensemble, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied; choose a folder that you may write to"):
        ensemble.save(tmp_path / "locked")


def test_load_says_what_is_wrong(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    with pytest.raises(InputError, match="no such file or folder"):
        load_ensemble(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no ensemble: expected ensemble\.json, or topology\.pdb"):
        load_ensemble(tmp_path / "empty")
    with pytest.raises(InputError, match="holds no bonds; give a topology"):
        load_ensemble(folder / "samples.xtc")
    with pytest.raises(InputError, match=r"samples\.xtc"):
        load_ensemble(folder / "samples.xtc", molecule_system("CCO"))
    (tmp_path / "bad.xtc").write_bytes(b"not a trajectory")
    with pytest.raises(InputError, match=r"bad\.xtc' cannot be read"):
        load_ensemble(tmp_path / "bad.xtc", folder / "topology.pdb")
    np.savez(tmp_path / "wrong.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="has no array 'positions'"):
        load_ensemble(tmp_path / "wrong.npz", folder / "topology.pdb")


def test_an_altered_folder_is_noticed(ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "out")
    path = folder / "ensemble.json"
    description = json.loads(path.read_text())
    for change, message in (
        ({"frames": 9}, "has 8 frames, but ensemble.json says 9"),
        ({"schema_version": 99}, "version 99, expected a molecule's of version 1"),
        ({"digest": "0"}, "the file was changed"),
        ({"molecule": "x"}, "the molecule in it is malformed"),
    ):
        path.write_text(json.dumps({**description, **change}))
        with pytest.raises(InputError, match=message):
            load_ensemble(folder)
    path.write_text("{")
    with pytest.raises(InputError, match="is not a JSON file that can be read"):
        load_ensemble(folder)
    path.write_text("{}")
    with pytest.raises(InputError, match="lacks digest, files"):
        load_ensemble(folder)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_conversions_agree_with_each_other(ensemble):
    trajectory, atoms, mol = ensemble.to_mdtraj(), ensemble.to_ase(), ensemble.to_rdkit()
    assert (trajectory.n_frames, len(atoms), mol.GetNumConformers()) == (8, 8, 8)
    np.testing.assert_allclose(trajectory.xyz * 10, ensemble.positions, atol=1e-5)
    np.testing.assert_allclose(atoms[3].positions, ensemble.positions[3], atol=1e-6)
    np.testing.assert_allclose(mol.GetConformer(5).GetPositions(), ensemble.positions[5], atol=1e-6)
    assert atoms[3].info["log_weight"] == ensemble.log_weights[3]
    assert atoms[0].get_chemical_formula() == "C6H12N2O2"


def test_torsions_of_a_peptide_are_phi_and_psi(ensemble):
    mdtraj = pytest.importorskip("mdtraj")
    torsions = ensemble.torsions()
    assert list(torsions) == ["phi ALA2", "psi ALA2"]
    np.testing.assert_allclose(
        torsions["phi ALA2"], mdtraj.compute_phi(ensemble.to_mdtraj(), periodic=False)[1][:, 0], atol=1e-5
    )
    np.testing.assert_allclose(
        torsions["psi ALA2"], mdtraj.compute_psi(ensemble.to_mdtraj(), periodic=False)[1][:, 0], atol=1e-5
    )


def test_torsions_of_other_molecules_are_those_of_rotatable_bonds():
    ensemble = make("CC(C)CC(=O)Nc1ccccc1")
    torsions = ensemble.torsions()
    # the amide's bond counts: only the ring, the double bond and the methyls do not turn
    assert len(torsions) == 4
    mol = ensemble.to_rdkit()
    for name, angles in torsions.items():
        assert angles.shape == (len(ensemble),)
        quadruple = [[atom.name for atom in ensemble.system.topology.atoms].index(part) for part in name.split()[1].split("-")]
        judge = [rdMolTransforms.GetDihedralRad(conformer, *quadruple) for conformer in mol.GetConformers()]
        np.testing.assert_allclose(angles, judge, atol=1e-4)
    assert make_benzene().torsions() == {}


def make_benzene():
    system = molecule_system("c1ccccc1")
    return MoleculeEnsemble(system=system, positions=system.reference[None])


def test_sdf_records_carry_name_and_weights(ensemble, tmp_path):
    ensemble.to_sdf(tmp_path / "out.sdf")
    mols = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False))
    assert len(mols) == 8
    assert mols[2].GetProp("_Name") == "ACE-ALA-NME"
    assert mols[2].GetDoubleProp("log_weight") == ensemble.log_weights[2]
    assert {Chem.FindMolChiralCenters(mol)[0][1] for mol in mols} == {"S"}


def test_arrays_must_fit_and_cannot_be_written_to(ensemble):
    system = ensemble.system
    with pytest.raises(ShapeError, match=r"positions: got shape \(2, 5, 3\)"):
        MoleculeEnsemble(system=system, positions=np.zeros((2, 5, 3)))
    with pytest.raises(ShapeError, match=r"log_weights: got shape \(3,\)"):
        MoleculeEnsemble(system=system, positions=ensemble.positions, log_weights=np.zeros(3))
    with pytest.raises(ShapeError, match="rejected_reasons"):
        MoleculeEnsemble(system=system, positions=ensemble.positions, rejected=ensemble.rejected)
    with pytest.raises(ShapeError, match="energies"):
        MoleculeEnsemble.from_frames(system, ensemble.positions, energies=np.zeros(1))
    with pytest.raises(ValueError, match="read-only"):
        ensemble.positions[0] = 0
    assert "frames=8, rejected=4" in repr(ensemble)


def test_write_frames_refuses_nothing_and_unknown_formats(ensemble, tmp_path):
    with pytest.raises(InputError, match="there is no frame to write"):
        write_frames(tmp_path / "x.xtc", ensemble.positions[:0], ensemble.system)
    with pytest.raises(InputError, match="unknown format 'foo'"):
        write_frames(tmp_path / "x.foo", ensemble.positions, ensemble.system)
    assert not list(tmp_path.iterdir())
