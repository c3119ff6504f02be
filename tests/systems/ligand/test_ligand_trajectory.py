"""Trajectories of complexes: poses are found in the frame of the receptor whatever moves, and fitted to torsions; what does not fit is told."""

import numpy as np
import pytest
import torch
from moving_complex import SMILES, ligand, moving_complex
from rdkit import Chem
from toy_pocket import seeded, toy_system

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import InputError
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.poses import fitted_poses, pose_positions, random_state
from equilibra.systems.ligand.trajectory import ComplexTrajectory, read_ligand_trajectory


def read(folder, suffix="xtc", **options):
    files = TrajectoryFiles(topology=folder / "complex.pdb", trajectories=(folder / f"md.{suffix}",))
    return read_ligand_trajectory(ComplexTrajectory(files=files, **options))


@pytest.mark.parametrize(("suffix", "tolerance"), [("xtc", 0.03), ("dcd", 2e-3)])
def test_poses_are_those_of_the_frames(tmp_path, suffix, tolerance):
    mol = ligand()
    known = moving_complex(tmp_path, mol, 40, suffix=suffix)
    found = read(tmp_path, suffix)
    # XTC keeps hundredths of an Å
    assert found.wander.max() < tolerance
    assert found.misfit.max() < tolerance
    low, high = (corner.numpy() for corner in found.system.box.corners)
    heavy = found.system.torsions.heavy
    inside = ((known[:, heavy] > low) & (known[:, heavy] < high)).all(axis=(1, 2))
    sure = np.abs(found.outside) > 0.05
    assert (found.used == inside)[sure].all()
    assert 5 < found.used.sum() < 40
    assert np.abs(found.positions - known[found.used]).max() < 3 * tolerance
    assert np.abs(pose_positions(found.system, found.state).numpy() - known[found.used])[:, heavy].max() < 3 * tolerance
    assert Chem.MolToSmiles(Chem.RemoveHs(found.system.mol)) == Chem.CanonSmiles(SMILES)
    assert f"{int(found.used.sum())} of 40 frames" in found.in_words()
    assert "outside of the box" in found.in_words()
    assert any(f"found from the coordinates: {Chem.CanonSmiles(SMILES)}" in warning for warning in found.system.warnings)
    names = {residue.name for residue in found.system.receptor.atoms.residues}
    assert names == {"ALA"}
    again = tmp_path / "again"
    again.mkdir()
    for name, text in zip(("receptor.pdb", "ligand.sdf"), found.texts, strict=True):
        (again / name).write_text(text)
    given = LigandInput(receptor=again / "receptor.pdb", ligand=again / "ligand.sdf", keep_geometry=True)
    assert ligand_systems(given)[0] == found.system


def test_frames_of_another_geometry_are_left_out_with_numbers(tmp_path):
    moving_complex(tmp_path, ligand(), 20, suffix="dcd")
    import mdtraj

    frames = mdtraj.load(str(tmp_path / "md.dcd"), top=str(tmp_path / "complex.pdb"))
    start = frames.topology.select("resname LIG")[0]
    x = frames.xyz.copy()
    x[12, start : start + 3] += 0.3  # nm: a broken molecule
    frames.xyz = x
    frames.save(str(tmp_path / "md.dcd"))
    found = read(tmp_path, "dcd")
    assert found.misfit[12] > 0.75
    assert not found.used[12]
    assert "left out 1 that fit worse than 0.75 Å" in found.in_words()
    numbers = found.numbers()
    assert numbers["frames"] == 20
    assert 12 not in numbers["used"]


@pytest.mark.parametrize("template", [SMILES, "[NH3+][C@@H](C)CCOC"])
def test_bond_orders_are_those_of_the_template(tmp_path, template):
    moving_complex(tmp_path, ligand(), 3)
    if "+" in template:
        with pytest.raises(InputError, match="other hydrogens than the template"):
            read(tmp_path, template=template)
        return
    assert Chem.MolToSmiles(Chem.RemoveHs(read(tmp_path, template=template).system.mol)) == Chem.CanonSmiles(SMILES)
    with pytest.raises(InputError, match="connected differently"):
        read(tmp_path, template="CCCCO")


def test_bond_orders_that_make_no_sense_are_refused(tmp_path):
    # perceived with an oxonium and a sulfonium
    acid = "O=C([O-])c1sc(C)cc1OCC(=O)[O-]"
    moving_complex(tmp_path, ligand(acid), 2)
    with pytest.raises(InputError, match=r"cannot be told from the coordinates.*--ligand-template"):
        read(tmp_path)
    assert Chem.MolToSmiles(Chem.RemoveHs(read(tmp_path, template=acid).system.mol)) == Chem.CanonSmiles(acid)


def test_fits_are_least_squares(tmp_path):
    system = toy_system(tmp_path, "C1CCCCC1CCOc1ccccc1", size=(30,))
    state = random_state(system, 16, generator=seeded(0))
    assert len(system.geometries) > 2
    exact = pose_positions(system, state).numpy()
    back, misfit = fitted_poses(system, exact)
    assert misfit.max() < 1e-4
    assert torch.equal(back.fields["conformer"], state.fields["conformer"])
    exact = pose_positions(system, random_state(system, 30, generator=seeded(0))).numpy()
    heavy = system.torsions.heavy
    rng = np.random.default_rng(1)
    noisy = exact + 0.05 * rng.standard_normal(exact.shape)
    fitted, misfit = fitted_poses(system, noisy)
    # D fitted parameters of 3 L coordinates take their share of the noise
    parameters = 6 + len(system.torsions.axes)
    share = (misfit**2).mean() / (3 * 0.05**2 * (1 - parameters / (3 * len(heavy))))
    assert abs(share - 1) < 4 * (2 / (len(misfit) * (3 * len(heavy) - parameters))) ** 0.5
    # at a least-squares fit the rest is at right angles to every direction
    from equilibra.geometry.torsion_tree import pulled_back

    x = pose_positions(system, fitted)
    rest = torch.zeros_like(x)
    rest[:, heavy] = (torch.from_numpy(noisy) - x)[:, heavy]
    for part in pulled_back(x, rest, system.torsions.tree):
        assert part.abs().max() < 0.02


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    moving_complex(tmp_path, ligand(), 2)
    with pytest.raises(InputError, match=r"0 residues named 'XYZ', expected one.*LIG"):
        read(tmp_path, residue="XYZ")
    text = (tmp_path / "complex.pdb").read_text()
    (tmp_path / "complex.pdb").write_text("\n".join(line for line in text.splitlines() if "HOH" not in line))
    with pytest.raises(InputError, match="atoms, but its topology has"):
        read(tmp_path)
    far = [line[:30] + f"{float(line[30:38]) + 30:8.3f}" + line[38:] if "LIG" in line else line for line in text.splitlines()]
    (tmp_path / "complex.pdb").write_text("\n".join(far))
    with pytest.raises(InputError, match="0 residues with C-alphas are within 10 Å"):
        read(tmp_path, template=SMILES)
