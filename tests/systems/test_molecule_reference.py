"""The compact reference of a model: what is written comes back, and belongs to one molecule."""

import numpy as np
import pytest

from equilibra.errors import InputError, ShapeError
from equilibra.systems.molecule import MoleculeEnsemble, molecule_system
from equilibra.systems.molecule.reference import bond_pairs, model_reference, read_reference, write_reference


@pytest.fixture(scope="module")
def system():
    return molecule_system("ACE-ALA-NME")


@pytest.fixture(scope="module")
def frames(system):
    return system.reference + 0.03 * np.random.default_rng(0).normal(size=(400, system.atoms, 3))


def test_a_reference_comes_back(system, frames, tmp_path):
    write_reference(tmp_path / "reference.npz", frames, system, "molecular dynamics, 1 µs")
    with np.load(tmp_path / "reference.npz", allow_pickle=False) as arrays:
        assert arrays["torsion_names"].dtype.kind == "U"
        assert arrays["torsions"].dtype == np.float32
        assert arrays["torsions"].shape == (2, 400)
    reference = read_reference(tmp_path / "reference.npz")
    assert reference.label == "molecular dynamics, 1 µs"
    torsions = MoleculeEnsemble(system=system, positions=frames).torsions()
    assert list(reference.torsions) == list(torsions)
    for name, values in torsions.items():
        np.testing.assert_allclose(np.cos(reference.torsions[name] - values), 1.0, atol=1e-6)
    i, j = bond_pairs(system)[0]
    lengths = np.linalg.norm(frames[:, i] - frames[:, j], axis=-1)
    assert reference.bond_mean[0] == pytest.approx(lengths.mean(), rel=1e-9)
    assert reference.bond_std[0] == pytest.approx(lengths.std(ddof=1), rel=1e-9)
    assert reference.fits(system)
    assert not reference.fits(molecule_system("CCO"))


def test_it_is_found_in_the_folder_of_a_model(system, frames, tmp_path):
    assert model_reference(tmp_path, system) is None
    write_reference(tmp_path / "model" / "reference.npz", frames, system, "here")
    found = model_reference(tmp_path, system)
    assert found is not None
    assert found.label == "here"
    assert model_reference(tmp_path, molecule_system("CCO")) is None


def test_torsions_may_be_transposed(system, frames, tmp_path):
    write_reference(tmp_path / "a.npz", frames, system, "x")
    with np.load(tmp_path / "a.npz") as arrays:
        np.savez(tmp_path / "b.npz", **{**arrays, "torsions": arrays["torsions"].T})
    a, b = read_reference(tmp_path / "a.npz"), read_reference(tmp_path / "b.npz")
    for name in a.torsions:
        np.testing.assert_array_equal(a.torsions[name], b.torsions[name])


def test_wrong_references_are_refused(system, frames, tmp_path):
    with pytest.raises(ShapeError, match="positions"):
        write_reference(tmp_path / "x.npz", frames[:, :5], system, "x")
    with pytest.raises(InputError, match="got 1 frames"):
        write_reference(tmp_path / "x.npz", frames[:1], system, "x")
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="no reference that can be read"):
        read_reference(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", torsions=np.zeros((2, 3)))
    with pytest.raises(InputError, match="no reference that can be read"):
        read_reference(tmp_path / "other.npz")
    with pytest.raises(InputError, match="no such file"):
        read_reference(tmp_path / "none.npz")
