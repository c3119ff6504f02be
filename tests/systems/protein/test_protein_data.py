import csv
import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from extended_protein import SEQUENCE, atoms, system
from structure_text import rich_structure

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import ConfigError, InputError, MissingDependencyError
from equilibra.systems.protein.data.backbones import Backbones
from equilibra.systems.protein.data.public_sets import mdcath
from equilibra.systems.protein.data.read import ProteinFiles, backbones_of
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import written_atoms
from equilibra.systems.protein.shared_residues import placed
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.protein.structures import read_structure


def coordinates(protein, frames=1, **noise):
    """N, CA and C (F, L, 3, 3) of frames about the extended chain, and all atoms as an mdtraj trajectory."""
    import mdtraj

    x = atoms(protein, frames, **noise)
    return x[:, protein.atom_index[:, :3]], mdtraj.Trajectory(x / 10.0, protein.topology)


def write(path, protein, frames=1, **noise):
    xyz, trajectory = coordinates(protein, frames, **noise)
    trajectory.save(str(path))
    return xyz


def text_file(path, sequence, xyz, *, columns=12):
    rows = np.concatenate([xyz.reshape(len(xyz), 9), np.zeros((len(xyz), 3))], axis=1)[:, :columns]
    lines = [sequence, "C" * len(sequence), *(" ".join(f"{value:.3f}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_frames_come_back_from_conformations():
    protein = system()
    xyz, _ = coordinates(protein, 5, trans=0.3, rot=0.4)
    entry = Backbones(protein, xyz).conformations()
    trans, rot = entry.fields["trans"], entry.fields["rot"]
    assert trans.mean(1).abs().max() < 1e-5
    assert entry.observed is None
    torch.testing.assert_close(torch.linalg.det(rot), torch.ones(5, protein.length), atol=1e-5, rtol=0.0)
    back = written_atoms(trans.numpy(), rot.numpy(), protein)[:, protein.atom_index[:, :3]]
    centre = xyz[:, :, 1].mean(axis=1)[:, None, None]
    np.testing.assert_allclose(back, xyz - centre, atol=1e-3)


def test_residues_that_are_not_there_count_for_nothing():
    protein = system()
    xyz, _ = coordinates(protein, 2)
    observed = np.ones(xyz.shape[:2], dtype=bool)
    observed[1, 4:7] = False
    xyz[1, 4:7] = 1000.0
    entry = Backbones(protein, xyz, observed).conformations()
    assert torch.equal(entry.observed, torch.from_numpy(observed))
    assert entry.fields["trans"][1, observed[1]].mean(0).abs().max() < 1e-5
    assert entry.fields["trans"][1].abs().max() < 50.0
    assert (entry.fields["rot"][1, 4:7] == torch.eye(3)).all()


@pytest.mark.parametrize("suffix", ["xtc", "dcd"])
def test_trajectories_with_their_topology(tmp_path, suffix):
    protein = system()
    write(tmp_path / "top.pdb", protein)
    xyz = write(tmp_path / f"run.{suffix}", protein, 7, trans=0.2)
    files = TrajectoryFiles(topology=tmp_path / "top.pdb", trajectories=[tmp_path / f"run.{suffix}"] * 2, skip=1, stride=3)
    (found,) = backbones_of(files)
    assert found.system == protein
    assert found.system.name == "top"
    np.testing.assert_allclose(found.coordinates, np.concatenate([xyz[1::3]] * 2), atol=0.011)


def test_trajectories_that_cannot_be_used_are_refused(tmp_path):
    protein, other = system(), system(SEQUENCE[1:])
    write(tmp_path / "top.pdb", protein)
    write(tmp_path / "other.pdb", other)
    write(tmp_path / "other.xtc", other, 3)
    _, trajectory = coordinates(protein, 4)

    def read(name, topology="top.pdb", **options):
        return backbones_of(TrajectoryFiles(topology=tmp_path / topology, trajectories=[tmp_path / name], **options))

    with pytest.raises(InputError, match="residues do not match; give the topology"):
        read("other.xtc")
    with pytest.raises(InputError, match="different proteins"):
        read("other.pdb")
    trajectory.xyz[2, 5] += 10.0
    trajectory.save(str(tmp_path / "torn.dcd"))
    with pytest.raises(InputError, match=r"torn.dcd': frame 2 has impossible bonds in residue A:TYR2"):
        read("torn.dcd")
    assert len(read("torn.dcd", stride=3)[0]) == 2
    trajectory.xyz[:] = coordinates(protein, 4)[1].xyz
    trajectory.xyz[3, protein.atom_index[6, 0] :] += 3.0
    trajectory.save(str(tmp_path / "cut.dcd"))
    with pytest.raises(InputError, match=r"in frame 3 the chain is cut after residue A:THR6, but not in the first frame"):
        read("cut.dcd")
    trajectory.xyz[1] = np.nan
    trajectory.save(str(tmp_path / "nan.dcd"))
    with pytest.raises(InputError, match=r"nan.dcd': positions of frame 1 are not finite"):
        read("nan.dcd")
    with pytest.raises(InputError, match="has 3 frames, but the first 5 are to be skipped"):
        read("other.xtc", "other.pdb", skip=5)
    files = TrajectoryFiles(topology=tmp_path / "top.pdb", trajectories=[tmp_path / "cut.dcd"], forces=[tmp_path / "top.pdb"])
    with pytest.raises(InputError, match="forces on atoms"):
        backbones_of(files)


def test_folders_of_samples_and_simulations(tmp_path):
    protein = dataclasses.replace(system(), name="mine")
    x = atoms(protein, 9, trans=0.02)
    backbone = x[:, protein.atom_index[:, :3]]
    for suffix, tolerance in (("npz", 1e-5), ("xtc", 0.011)):
        ProteinEnsemble(system=protein, positions=x).save(tmp_path / suffix, formats=(suffix,))
        (found,) = backbones_of(ProteinFiles(path=tmp_path / suffix, skip=1, stride=3))
        assert (found.system, found.system.name) == (protein, "mine")
        np.testing.assert_allclose(found.coordinates, backbone[1::3], atol=tolerance)
    md = tmp_path / "md"
    md.mkdir()
    write(md / "topology.pdb", protein)
    runs = [write(md / f"trajectory-{k}.dcd", protein, 4, trans=0.2, seed=k) for k in (0, 1)]
    (md / "run.json").write_text(json.dumps({"kind": "simulation of molecule"}))
    with pytest.raises(InputError, match="unfinished run; repeat its `equilibra simulate` command"):
        backbones_of(md)
    description = {"name": "mine", "trajectories": ["trajectory-0.dcd", "trajectory-1.dcd"], "frames": [4, 4]}
    (md / "simulation.json").write_text(json.dumps(description))
    (found,) = backbones_of(ProteinFiles(path=md, stride=2))
    assert (found.system, found.system.name) == (protein, "mine")
    np.testing.assert_allclose(found.coordinates, np.concatenate([run[::2] for run in runs]), atol=1e-4)
    (md / "simulation.json").write_text(json.dumps({**description, "frames": [4, 5]}))
    with pytest.raises(
        InputError, match=r"trajectory-1.dcd' has 4 frames, but simulation.json says 5; the folder is incomplete"
    ):
        backbones_of(md)
    (md / "simulation.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(InputError, match="names no trajectories with their numbers of frames"):
        backbones_of(md)


def test_folders_that_are_no_data_of_one_protein_are_refused(tmp_path):
    from equilibra.systems.molecule import MoleculeEnsemble, molecule_system

    protein, small = system(), molecule_system("CCO")
    MoleculeEnsemble(system=small, positions=small.reference[None]).save(tmp_path / "ethanol")
    with pytest.raises(InputError, match="ensemble of kind 'molecule', expected one of kind 'protein'"):
        backbones_of(tmp_path / "ethanol")
    weights = np.array([0.0, 1.0])
    ProteinEnsemble(system=protein, positions=atoms(protein, 2, trans=0.02), log_weights=weights).save(tmp_path / "weighted")
    with pytest.raises(InputError, match="uneven weights"):
        backbones_of(tmp_path / "weighted")


def test_a_folder_of_structures_is_grouped_by_protein(tmp_path):
    protein, other = system(), system("ACDEFG")
    first = write(tmp_path / "a.pdb", protein)
    write(tmp_path / "b.pdb", other)
    second = write(tmp_path / "c.pdb", protein, trans=0.05)
    (tmp_path / "notes.md").write_text("no structure")
    found = backbones_of(tmp_path)
    assert [(entry.system.name, len(entry)) for entry in found] == [("a", 2), ("b", 1)]
    np.testing.assert_allclose(found[0].coordinates, np.concatenate([first, second]), atol=0.001)
    (single,) = backbones_of(tmp_path / "b.pdb")
    assert single.system == other


def test_models_of_one_file_are_frames(tmp_path):
    protein = system()
    xyz = write(tmp_path / "models.pdb", protein, 3, trans=0.2)
    (found,) = backbones_of(tmp_path / "models.pdb")
    np.testing.assert_allclose(found.coordinates, xyz, atol=0.001)


def test_gaps_and_chains_of_structures_are_kept(tmp_path):
    text, wanted = rich_structure()
    # one model
    (tmp_path / "rich.pdb").write_text(text.split("MODEL        2")[0] + "END\n")
    (found,) = backbones_of(tmp_path / "rich.pdb")
    assert found.system.chains == ("GAMASVWX", "ACD")
    np.testing.assert_allclose(found.coordinates[0], wanted, atol=0.001)
    assert found.system.breaks.sum() == 2


def test_residues_of_impossible_geometry_are_not_observed(tmp_path):
    protein = system()
    _, trajectory = coordinates(protein)
    trajectory.xyz[0, protein.atom_index[3, 0]] += 0.2
    trajectory.save(str(tmp_path / "a.pdb"))
    (found,) = backbones_of(tmp_path)
    assert np.flatnonzero(~found.observed[0]).tolist() == [3]


def test_arrays(tmp_path):
    protein = system("ACDEF:GHIK")
    xyz, _ = coordinates(protein, 4)
    numbers = np.array([5, 6, 7, 9, 10, 1, 2, 3, 4])
    np.savez(tmp_path / "a.npz", sequence="acdef:GHIK", coords=np.concatenate([xyz, xyz], axis=2), numbers=numbers)
    np.savez(tmp_path / "b.npz", sequence="ACDEFGHIK", coords=xyz[0])
    found = backbones_of(tmp_path)
    assert [(entry.system.chains, len(entry)) for entry in found] == [(("ACDEF", "GHIK"), 4), (("ACDEFGHIK",), 1)]
    np.testing.assert_array_equal(found[0].coordinates, xyz)
    assert found[0].system.breaks.tolist() == [False, False, True, False, True, False, False, False]
    bad = {
        "no array 'coords'": {"sequence": "ACD"},
        r"coords have shape \(9, 2, 3\).*has 9 residues": {"sequence": "ACDEFGHIK", "coords": xyz[0, :, :2]},
        "numbers must increase": {"sequence": "ACDEFGHIK", "coords": xyz, "numbers": np.zeros(9)},
        "unknown residue 'B'": {"sequence": "ABDEFGHIK", "coords": xyz},
        "observed has shape": {"sequence": "ACDEFGHIK", "coords": xyz, "observed": np.ones((1, 9), dtype=bool)},
        "2 residues": {"sequence": "AC", "coords": xyz[:, :2]},
        "positions of frame 0 are not finite": {"sequence": "ACDEFGHIK", "coords": xyz * np.nan},
        "0 residues with whole backbones": {"sequence": "ACDEFGHIK", "coords": xyz, "observed": np.zeros((4, 9), dtype=bool)},
    }
    for message, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(InputError, match=message):
            backbones_of(tmp_path / "bad.npz")


def test_text_files_of_three_atoms_and_a_centre(tmp_path):
    whole, gapped = system("ACDEF"), protein_system("ACDEFGHIK")
    xyz, _ = coordinates(whole, 1)
    text_file(tmp_path / "1ABC_A.txt", "ACDEF", xyz[0])
    text_file(tmp_path / "2ABC_A.txt", "ACDEF", xyz[0] + 5.0)
    long, _ = coordinates(gapped, 1)
    # residues are missing in the middle, of which the file says nothing: as few as can bridge the distance are counted
    text_file(tmp_path / "3ABC_A.txt", "ACDEIK", long[0][[0, 1, 2, 3, 7, 8]])
    found = backbones_of(tmp_path)
    assert [(entry.system.name, len(entry)) for entry in found] == [("1ABC_A", 2), ("3ABC_A", 1)]
    np.testing.assert_allclose(found[0].coordinates[0], xyz[0], atol=0.001)
    assert found[1].system.breaks.tolist() == [False, False, False, True, False]
    assert found[1].system.residue_numbers.tolist() == [1, 2, 3, 4, 7, 8]
    text_file(tmp_path / "4ABC_A.txt", "ACDE", xyz[0])
    with pytest.raises(InputError, match=r"4ABC_A.txt': has numbers of the shape \(5, 12\) for a sequence of 4 residues"):
        backbones_of(tmp_path)


def states(folder, protein, **changes):
    (folder / "reference" / "case").mkdir(parents=True)
    xyz = write(folder / "reference" / "case" / "1AAA_A.pdb", protein)
    _, trajectory = coordinates(protein, trans=0.05)
    # the second crystal lacks the first two residues and a loop
    kept = [i for i in range(protein.length) if i not in (0, 1, 6, 7)]
    part = trajectory.atom_slice(np.sort(protein.atom_index[kept][protein.atom_index[kept] >= 0]))
    part.save(str(folder / "reference" / "case" / "2AAA_A.pdb"))
    with (folder / "testcases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["test_case", "sequence"], ["case", changes.get("sequence", protein.sequence)]])
    return xyz, kept


def test_reference_states_are_frames_of_the_whole_sequence(tmp_path):
    protein = system()
    xyz, kept = states(tmp_path, protein)
    (found,) = backbones_of(tmp_path)
    assert (found.system.name, len(found)) == ("case", 2)
    assert found.system == protein
    assert found.observed[0].all()
    assert np.flatnonzero(found.observed[1]).tolist() == kept
    np.testing.assert_allclose(found.coordinates[0], xyz[0], atol=0.001)


def test_reference_states_of_another_sequence_are_refused(tmp_path):
    states(tmp_path, system(), sequence="WWWWWWWWWWWWW")
    with pytest.raises(InputError, match=r"AAA_A.pdb' chain A are not of one protein"):
        backbones_of(tmp_path)
    shutil.rmtree(tmp_path / "reference" / "case")
    with pytest.raises(InputError, match="holds no structure of the case case"):
        backbones_of(tmp_path)


def test_mutants_and_longer_structures_find_their_place(tmp_path):
    protein = system()
    write(tmp_path / "a.pdb", protein)
    chains = read_structure(tmp_path / "a.pdb")
    longer = "MSTK" + SEQUENCE[:5] + "W" + SEQUENCE[6:] + "GG"
    xyz, observed = placed(protein_system(longer), chains, "a")
    assert np.flatnonzero(observed).tolist() == list(range(4, 4 + len(SEQUENCE)))
    np.testing.assert_array_equal(xyz[observed], chains[0].backbone)
    assert not xyz[~observed].any()
    # the structure has a residue more than the sequence
    xyz, observed = placed(protein_system(SEQUENCE[2:]), chains, "a")
    assert observed.all()
    np.testing.assert_array_equal(xyz, chains[0].backbone[2:])


def test_structures_with_gaps_and_several_chains_find_their_place(tmp_path):
    text, wanted = rich_structure()
    (tmp_path / "rich.pdb").write_text(text)
    chains = read_structure(tmp_path / "rich.pdb")
    gapped = protein_system(tmp_path / "rich.pdb")
    xyz, observed = placed(gapped, chains, "rich")
    assert observed.all()
    np.testing.assert_allclose(xyz, wanted, atol=0.001)
    # the whole sequence, of which the structure lacks two residues
    xyz, observed = placed(protein_system("GAMASTLVWK:ACD"), chains, "rich")
    assert np.flatnonzero(~observed).tolist() == [5, 6]
    np.testing.assert_allclose(xyz[observed], wanted, atol=0.001)
    with pytest.raises(InputError, match=r"rich: has 2 protein chains, expected the 1 of"):
        placed(protein_system("GAMASTLVWK"), chains, "rich")


def test_the_layout_of_atlas(tmp_path):
    protein = system()
    (tmp_path / "1abc_A").mkdir()
    write(tmp_path / "1abc_A" / "1abc_A.pdb", protein)
    runs = [write(tmp_path / "1abc_A" / f"1abc_A_R{k}.xtc", protein, 4, trans=0.2, seed=k) for k in (1, 2, 3)]
    for folder in (tmp_path, tmp_path / "1abc_A"):
        (found,) = backbones_of(ProteinFiles(path=folder, stride=2))
        assert found.system.name == "1abc_A"
        np.testing.assert_allclose(found.coordinates, np.concatenate(runs)[::2], atol=0.011)


def mdcath_file(path, protein, frames=4):
    h5py = pytest.importorskip("h5py")
    _, trajectory = coordinates(protein, 1)
    trajectory.save(str(path.with_suffix(".pdb")))
    xyz = {}
    with h5py.File(path, "w") as file:
        group = file.create_group("1abcA00")
        group["pdbProteinAtoms"] = path.with_suffix(".pdb").read_text()
        for temperature in ("320", "450"):
            for run in ("0", "1"):
                x = atoms(protein, frames, trans=0.1, seed=int(temperature) + int(run))
                xyz[temperature, run] = x[:, protein.atom_index[:, :3]]
                part = group.create_group(f"{temperature}/{run}")
                part["coords"] = x
    return xyz


def test_the_layout_of_mdcath(tmp_path):
    protein = system()
    xyz = mdcath_file(tmp_path / "domain.h5", protein)
    (found,) = backbones_of(ProteinFiles(path=tmp_path / "domain.h5", temperature=450, skip=1))
    assert found.system.name == "1abcA00"
    np.testing.assert_allclose(found.coordinates, np.concatenate([xyz["450", run][1:] for run in "01"]), atol=1e-5)
    with pytest.raises(InputError, match="no runs at 300 K, expected one of 320, 450"):
        mdcath(tmp_path / "domain.h5", temperature=300)


def test_mdcath_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "domain.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match="pip install h5py"):
        backbones_of(tmp_path / "domain.h5")


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        backbones_of(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no data of proteins"):
        backbones_of(tmp_path)
    (tmp_path / "x.foo").write_text("")
    with pytest.raises(InputError, match="unknown kind of file"):
        backbones_of(tmp_path / "x.foo")
    with pytest.raises(InputError, match="holds no PDB or mmCIF file"):
        backbones_of(ProteinFiles(path=tmp_path, layout="structures"))
    with pytest.raises(InputError, match="stride 0"):
        ProteinFiles(path=tmp_path, stride=0)
    with pytest.raises(ConfigError, match="layout: got 'pdbs'"):
        ProteinFiles(path=tmp_path, layout="pdbs")
    with pytest.raises(InputError, match=r"coordinates have shape \(1, 3, 3\)"):
        Backbones(system(), np.zeros((1, 3, 3)))
    with pytest.raises(InputError, match="got no frame"):
        Backbones(system(), np.zeros((0, len(SEQUENCE), 3, 3)))
