"""Databases in the form of the Open Catalyst data: what ASE would read comes out, of every form; nothing is unpickled; what is wrong is said."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc111, molecule
from ase.constraints import FixAtoms
from open_catalyst import FORMS, Data, install, values_of, write

from equilibra.errors import InputError, MissingDependencyError
from equilibra.systems.adsorbate.lmdb_files import read_lmdb
from equilibra.systems.adsorbate.system import AdsorbateSystem

pytest.importorskip("lmdb")


def surface(adsorbate="CO", element="Cu", seed=0):
    """An adsorbate on a slab of 0, 1 and 2 tags, at random."""
    slab = fcc111(element, (3, 3, 3), vacuum=10.0)
    slab.set_tags((slab.get_tags() == 1).astype(int))
    slab.set_constraint(FixAtoms(np.flatnonzero(slab.get_tags() == 0)))
    add_adsorbate(slab, molecule(adsorbate) if len(adsorbate) > 1 else adsorbate, 2.0, position=(3.0, 2.0))
    tags = slab.get_tags()
    tags[27:] = 2
    slab.set_tags(tags)
    slab.pbc = True
    rng = np.random.default_rng(seed)
    slab.positions[slab.get_tags() > 0] += 0.05 * rng.standard_normal((int((slab.get_tags() > 0).sum()), 3))
    return slab


def same(found, atoms):
    np.testing.assert_array_equal(found.numbers, atoms.numbers)
    np.testing.assert_array_equal(found.get_tags(), atoms.get_tags())
    np.testing.assert_allclose(found.positions, atoms.positions, atol=1e-6)
    np.testing.assert_allclose(found.cell, atoms.cell, atol=1e-5)
    assert found.pbc.all()
    (constraint,) = found.constraints
    np.testing.assert_array_equal(constraint.index, atoms.constraints[0].index)


@pytest.mark.parametrize("form", FORMS)
def test_frames_of_trajectories(monkeypatch, tmp_path, form):
    install(monkeypatch)
    frames = [surface(seed=k) for k in range(3)] + [surface("O", "Pt", seed=3)]
    forces = [torch.randn(len(atoms), 3, generator=torch.Generator().manual_seed(1)) for atoms in frames]
    entries = [
        values_of(atoms, sid=sid, fid=fid, y=-3.5 - k, force=forces[k])
        for k, (atoms, sid, fid) in enumerate(zip(frames, (7, 7, 7, 9), (4, 2, 3, 0), strict=True))
    ]
    path = write(tmp_path / "data.lmdb", entries, form, metadata=b"anything")
    found = read_lmdb(path)
    assert list(found) == ["system 7 of 'data.lmdb'", "system 9 of 'data.lmdb'"]
    first, second = found.values()
    for made, k in zip([*first, *second], (1, 2, 0, 3), strict=True):
        same(made, frames[k])
        assert made.get_potential_energy() == -3.5 - k
        np.testing.assert_array_equal(made.get_forces(apply_constraint=False), forces[k].numpy())
    system = AdsorbateSystem.of(second[0])
    assert (len(system.slab), system.atoms) == (27, 1)
    assert len(AdsorbateSystem.of(first[0]).bonds) == 1


def test_relaxed_structures_and_entries_without_a_number_of_their_system(tmp_path):
    atoms, other = surface(), surface("O", "Pt")
    relaxed = atoms.copy()
    relaxed.positions[27:] += 0.1
    entries = [
        values_of(atoms, pos_relaxed=torch.tensor(relaxed.positions), y_init=1.0, y_relaxed=torch.tensor([-2.0])),
        values_of(other, y=np.float32(0.5)),
        values_of(relaxed),
    ]
    first, second = read_lmdb(write(tmp_path / "a.lmdb", entries, "dictionary")).values()
    same(first[0], relaxed)
    same(first[1], relaxed)
    same(second[0], other)
    assert first[0].get_potential_energy() == -2.0
    assert first[1].calc is None
    assert second[0].get_potential_energy() == 0.5


def test_the_newer_form(tmp_path):
    import zlib

    from ase.db.row import AtomsRow
    from ase.io.jsonio import encode

    frames = [surface(seed=k) for k in range(2)] + [surface("O", "Pt")]
    entries = []
    for k, atoms in enumerate(frames):
        row = {name: value for name, value in AtomsRow(atoms).__dict__.items() if name[0] != "_"}
        row |= {"cell": np.asarray(atoms.cell), "energy": -1.0 - k, "forces": np.full((len(atoms), 3), float(k))}
        row |= {"constraints": [item.todict() for item in atoms.constraints], "key_value_pairs": {"note": "x"}}
        entries.append(zlib.compress(encode({**row, "data": {"sid": 5 if k < 2 else 6, "fid": -k}}).encode()))
    path = write(tmp_path / "a.aselmdb", entries, nextid=zlib.compress(b"4"), deleted_ids=zlib.compress(b"[]"))
    first, second = read_lmdb(path).values()
    for made, k in zip([*first, *second], (1, 0, 2), strict=True):
        same(made, frames[k])
        np.testing.assert_array_equal(made.positions, frames[k].positions)
        assert made.get_potential_energy() == -1.0 - k
        assert (made.get_forces(apply_constraint=False) == k).all()
    for content, match in (
        (b"{}"[:1], "damaged or is no compressed JSON"),
        (b"[1]", "is a list, expected the values"),
        (b'{"positions": [[0, 0, 0]]}', "has no 'cell', only pos"),
        (b'{"numbers": [1], "constraints": [3]}', "has 'constraints' that are not those of ASE"),
        (b'{"numbers": {"__ndarray__": [[1], "O", [1]]}}', "an array of the type 'O'"),
    ):
        path.unlink()
        with pytest.raises(InputError, match=match):
            read_lmdb(write(path, [zlib.compress(content)]))


@pytest.mark.parametrize("left_handed", [False, True])
def test_a_surface_that_is_not_along_xy_is_turned(tmp_path, left_handed):
    from scipy.spatial.transform import Rotation

    atoms = surface()
    if left_handed:
        atoms.set_cell(np.asarray(atoms.cell)[[1, 0, 2]])
    turn = Rotation.random(random_state=1).as_matrix()
    turned = atoms.copy()
    turned.set_cell(np.asarray(atoms.cell) @ turn.T)
    turned.positions = atoms.positions @ turn.T
    forces = np.random.default_rng(0).standard_normal((len(atoms), 3))
    values = values_of(turned, force=torch.tensor(forces @ turn.T))
    ((made,),) = read_lmdb(write(tmp_path / "a.lmdb", [values], "dictionary")).values()
    assert np.abs(np.asarray(made.cell)[:2, 2]).max() < 1e-5
    assert made.cell[2, 2] > 0.0
    np.testing.assert_allclose(made.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-4)
    np.testing.assert_allclose(
        made.positions[:, 2] - made.positions[0, 2], atoms.positions[:, 2] - atoms.positions[0, 2], atol=1e-4
    )
    # forces turn with the positions
    np.testing.assert_allclose(
        made.get_forces(apply_constraint=False) @ made.positions.T - forces @ atoms.positions.T,
        np.zeros((len(atoms), len(atoms))),
        atol=1e-3,
    )
    assert AdsorbateSystem.of(made).atoms == 2


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_nothing_is_executed(tmp_path):
    sprung = tmp_path / "sprung"
    path = write(tmp_path / "a.lmdb", [values_of(surface(), sid=Trap(sprung))], "dictionary")
    with pytest.raises(InputError, match=r"entry '0' is not read: it calls for '(posix|nt)\.system'; expected a pickle of"):
        read_lmdb(path)
    assert not sprung.exists()


def test_what_is_refused(monkeypatch, tmp_path):
    def refused(entry, match):
        path = tmp_path / "a.lmdb"
        path.unlink(missing_ok=True)
        with pytest.raises(InputError, match=match):
            read_lmdb(write(path, [entry] if entry is not None else [], "dictionary"))

    good = values_of(surface())
    refused(None, "there is no entry in it")
    refused({name: value for name, value in good.items() if name != "tags"}, "has no 'tags', only atomic_numbers, cell")
    refused({**good, "pos": good["pos"][1:]}, "has 'pos' with other than 29 x 3 finite numbers")
    refused({**good, "pos": good["pos"] * torch.nan}, "has 'pos' with other than 29 x 3 finite numbers")
    refused({**good, "cell": "wide"}, "has 'cell' with other than 3 x 3 finite numbers")
    refused({**good, "atomic_numbers": good["atomic_numbers"] + 0.5}, "not whole numbers from 1 to 118")
    refused({**good, "force": [1, 2]}, "has 'force' with other than")
    refused({**good, "fid": [1, 2]}, "has 'fid' .* expected one number")
    refused(pickle.dumps([1, 2]), "is a list, expected the values of a structure by their names")
    refused(b"{}", "is not read: it is damaged or is no pickle")
    # a class of another name
    monkeypatch.setattr(Data, "__module__", "open_catalyst")
    refused(pickle.dumps(Data(good)), r"it calls for 'open_catalyst\.Data'")
    with pytest.raises(InputError, match="no such file"):
        read_lmdb(tmp_path / "nothing.lmdb")
    (tmp_path / "text.lmdb").write_text("no database" * 1000)
    with pytest.raises(InputError, match="is no LMDB database that can be read"):
        read_lmdb(tmp_path / "text.lmdb")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'equilibra\[lmdb\]'"):
        read_lmdb(tmp_path / "text.lmdb")


def test_training_on_a_database(monkeypatch, tmp_path, caplog):
    from typer.testing import CliRunner

    from equilibra.cli.main import app
    from equilibra.systems.model import load

    install(monkeypatch)
    bare = surface("O", "Pt")
    bare.set_tags(np.minimum(bare.get_tags(), 1))
    frames = [surface(seed=k) for k in range(3)] + [surface("O", "Pt", seed=3), bare]
    sids = (7, 7, 7, 9, 11)
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "a.lmdb", [values_of(atoms, sid=sid) for atoms, sid in zip(frames, sids, strict=True)])
    sizes = ("dim=16", "pair_dim=8", "layers=1", "heads=2", "basis=8", "channels=2")
    command = ["train", "adsorbate", "--data", str(folder), "-o", str(tmp_path / "run"), "--steps", "2", "--batch-size", "4"]
    done = CliRunner().invoke(app, [*command, *(part for size in sizes for part in ("--network", size))])
    assert done.exit_code == 0, done.output
    # a slab that moves is another one in each frame
    assert "Trained on 4 frames of 4 slab(s) with adsorbates." in done.output
    assert "1 trajectories were left out: system 11 of 'a.lmdb': frame 0 has no adsorbate that its tags tell" in caplog.text
    model = load(str(tmp_path / "run" / "model"))
    assert model.scope.elements == (6, 8, 29, 78)
