import mdtraj
import numpy as np
import pytest

from equilibra.data.trajectory import TrajectoryFiles, read_trajectories
from equilibra.errors import InputError, MissingDependencyError
from equilibra.systems.molecule import system as molecules

FRAMES = 7


@pytest.fixture(scope="module")
def ethanol():
    return molecules.molecule_system("CCO")


@pytest.fixture(scope="module")
def frames(ethanol):
    """Perturbed conformations (frames, atoms, 3), in Å."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=(FRAMES, ethanol.atoms, 3))
    return (ethanol.reference + noise).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ethanol, frames):
    """The same frames in every format, and their forces."""
    path = tmp_path_factory.mktemp("trajectories")
    trajectory = mdtraj.Trajectory(frames / 10.0, ethanol.topology)
    trajectory[0].save_pdb(str(path / "top.pdb"))
    for suffix in ("xtc", "dcd"):
        trajectory.save(str(path / f"run.{suffix}"))
    np.savez(path / "run.npz", positions=frames)
    np.savez(path / "forces.npz", forces=-2.0 * frames)
    return path


def read(folder, topology, *names, **options):
    files = TrajectoryFiles(topology=folder / "top.pdb", trajectories=[folder / name for name in names], **options)
    return read_trajectories(files, topology)


@pytest.mark.parametrize(("name", "tolerance"), [("run.xtc", 6e-3), ("run.dcd", 1e-5), ("run.npz", 0.0)])
def test_positions_come_back_in_angstrom(folder, ethanol, frames, name, tolerance):
    positions, forces = read(folder, ethanol.topology, name)
    assert forces is None
    assert positions.dtype == np.float32
    np.testing.assert_allclose(positions, frames, atol=tolerance, rtol=0)


def test_hdf5_with_its_own_topology(folder, ethanol, frames):
    pytest.importorskip("tables")
    mdtraj.Trajectory(frames / 10.0, ethanol.topology).save_hdf5(str(folder / "run.h5"))
    positions, _ = read(folder, ethanol.topology, "run.h5")
    np.testing.assert_allclose(positions, frames, atol=1e-5, rtol=0)


def test_a_missing_package_is_named(folder, ethanol, monkeypatch):
    def load(*arguments, **options):
        raise ImportError("HDF5 needs tables")

    monkeypatch.setattr(mdtraj, "load", load)
    with pytest.raises(MissingDependencyError, match=r"run.dcd.*HDF5 needs tables"):
        read(folder, ethanol.topology, "run.dcd")


def test_forces_belong_to_their_frames_also_with_skip_and_stride(folder, ethanol, frames):
    options = {"forces": [folder / "forces.npz"] * 2, "skip": 1, "stride": 2}
    positions, forces = read(folder, ethanol.topology, "run.npz", "run.dcd", **options)
    assert positions.shape == forces.shape == (6, ethanol.atoms, 3)
    np.testing.assert_allclose(positions, np.concatenate([frames[1::2]] * 2), atol=1e-5, rtol=0)
    np.testing.assert_allclose(forces, -2.0 * positions, atol=1e-4, rtol=0)


def test_another_molecule_is_refused(folder, ethanol):
    ether = molecules.molecule_system("COC")
    with pytest.raises(InputError, match=r"run.npz.*shape \(7, 9, 3\).*6 atoms"):
        read(folder, molecules.molecule_system("CO").topology, "run.npz")
    with pytest.raises(InputError, match=r"run.dcd.*6 atoms"):
        read(folder, molecules.molecule_system("CO").topology, "run.dcd")
    # as many atoms, but other elements: only a file that knows its atoms can tell
    with pytest.raises(InputError, match=r"top.pdb.*atom \d+ is"):
        read(folder, ether.topology, "top.pdb")
    assert ether.atoms == ethanol.atoms


def test_broken_values_are_named(folder, ethanol, frames, tmp_path):
    broken = frames.copy()
    broken[4, 2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", positions=broken, forces=broken)
    np.savez(tmp_path / "flat.npz", positions=frames[0])
    np.savez(tmp_path / "short.npz", forces=frames[:3])

    def load(positions, forces=()):
        files = TrajectoryFiles(topology=folder / "top.pdb", trajectories=[positions], forces=forces)
        return read_trajectories(files, ethanol.topology)

    with pytest.raises(InputError, match=r"nan.npz.*positions of frame 4 .*1 of 7"):
        load(tmp_path / "nan.npz")
    with pytest.raises(InputError, match=r"nan.npz.*forces of frame 4"):
        load(folder / "run.npz", [tmp_path / "nan.npz"])
    with pytest.raises(InputError, match=r"flat.npz.*shape \(9, 3\)"):
        load(tmp_path / "flat.npz")
    with pytest.raises(InputError, match=r"short.npz.*3 frames.*7"):
        load(folder / "run.npz", [tmp_path / "short.npz"])
    with pytest.raises(InputError, match=r"short.npz.*no array 'positions' \(it has forces\)"):
        load(tmp_path / "short.npz")


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 torn off", b"\x93NUMPY"])
@pytest.mark.parametrize("suffix", ["npz", "xtc", "dcd"])
def test_unreadable_files_are_an_input_error(folder, ethanol, tmp_path, content, suffix):
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"bad.{suffix}"):
        read_trajectories(TrajectoryFiles(topology=folder / "top.pdb", trajectories=[path]), ethanol.topology)


def test_truncated_archive_is_an_input_error(folder, ethanol, tmp_path):
    path = tmp_path / "torn.npz"
    path.write_bytes((folder / "run.npz").read_bytes()[:-40])
    with pytest.raises(InputError, match=r"torn.npz"):
        read_trajectories(TrajectoryFiles(topology=folder / "top.pdb", trajectories=[path]), ethanol.topology)
    np.save(tmp_path / "array.npy", np.zeros((2, 9, 3)))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InputError, match=r"array.npz"):
        read_trajectories(TrajectoryFiles(topology=folder / "top.pdb", trajectories=[tmp_path / "array.npz"]), ethanol.topology)


def test_impossible_requests_are_refused(folder, ethanol):
    good = {"topology": folder / "top.pdb", "trajectories": [folder / "run.npz"]}
    with pytest.raises(InputError, match="no trajectory"):
        TrajectoryFiles(**{**good, "trajectories": []})
    with pytest.raises(InputError, match=r"no such file: .*missing.xtc"):
        TrajectoryFiles(**{**good, "trajectories": [folder / "missing.xtc"]})
    with pytest.raises(InputError, match="no such file"):
        TrajectoryFiles(**{**good, "topology": folder / "missing.pdb"})
    with pytest.raises(InputError, match="2 force files for 1"):
        TrajectoryFiles(**good, forces=[folder / "forces.npz"] * 2)
    with pytest.raises(InputError, match="stride 0"):
        TrajectoryFiles(**good, stride=0)
    with pytest.raises(InputError, match="skip -1"):
        TrajectoryFiles(**good, skip=-1)
    with pytest.raises(InputError, match=r"7 frames.*first 7 are to be skipped"):
        read_trajectories(TrajectoryFiles(**good, skip=7), ethanol.topology)
