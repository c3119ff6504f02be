"""Providers of extra features: arrays, folders, language models, and the cache of what they give."""

import argparse
import dataclasses
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from structure_text import chain_lines, rich_structure

from equilibra.errors import InputError, MissingDependencyError, ShapeError
from equilibra.systems.protein import memory
from equilibra.systems.protein.known_structure import CENTRES, WIDTH, pair_geometry
from equilibra.systems.protein.named_provider import read_provider
from equilibra.systems.protein.provider_cache import ProviderCache
from equilibra.systems.protein.providers import (
    ArrayProvider,
    FolderProvider,
    MissingFeaturesError,
    NoProvider,
    Provider,
    condition,
    sequence_key,
)
from equilibra.systems.protein.sources import protein_system, protein_systems

SEQUENCE = "GAVLK"
SHARED = Path(os.environ.get("EQUILIBRA_SHARED_DATA", "shared")) / "protein" / "trpcage"


@pytest.fixture
def system():
    return protein_system(SEQUENCE)


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return generator.normal(size=(5, 7)).astype(np.float16), generator.normal(size=(5, 5, 3)).astype(np.float32)


def test_nothing_is_added_without_a_provider(system):
    assert condition(system, None) is system
    assert condition(system, NoProvider()) == system
    assert isinstance(NoProvider(), Provider)


def test_arrays_from_memory_and_files(system, arrays, tmp_path):
    single, pair = arrays
    np.save(tmp_path / "s.npy", single)
    np.save(tmp_path / "p.npy", pair[None])
    np.savez(tmp_path / "both.npz", single=single, pair=pair)
    np.savez(tmp_path / "one.npz", anything=single)
    wanted = protein_system(SEQUENCE, ArrayProvider(single, pair))
    assert wanted.provider == "arrays"
    assert np.array_equal(wanted.features.node["extra"].numpy(), single.astype(np.float32))
    assert np.array_equal(wanted.features.pair["extra"].numpy(), pair)
    assert protein_system(SEQUENCE, ArrayProvider(tmp_path / "s.npy", tmp_path / "p.npy")) == wanted
    assert protein_system(SEQUENCE, read_provider(tmp_path / "both.npz")) == wanted
    assert protein_system(SEQUENCE, read_provider(f"{tmp_path}/s.npy,{tmp_path}/p.npy")) == wanted
    # precision and the form of the file do not count, numbers do
    only = protein_system(SEQUENCE, ArrayProvider(single.astype(np.float64)))
    assert protein_system(SEQUENCE, read_provider(tmp_path / "one.npz")) == only
    assert protein_system(SEQUENCE, read_provider(str(tmp_path / "s.npy"))) == only
    assert "extra" in protein_system(SEQUENCE, read_provider(tmp_path / "p.npy")).features.pair
    assert len({wanted, only, system, protein_system(SEQUENCE, ArrayProvider(single + np.float16(1)))}) == 4


def test_arrays_that_do_not_fit(system, arrays):
    single, pair = arrays
    with pytest.raises(
        ShapeError,
        match=r"single features of the provider 'arrays': got shape \(4, 7\), expected \(5, width\) for the 5 residues of 'GAVLK'",
    ):
        condition(system, ArrayProvider(single[:4]))
    with pytest.raises(ShapeError, match=r"pair features .* got shape \(4, 4, 3\), expected \(5, 5, width\)"):
        condition(system, ArrayProvider(pair=pair[:4, :4]))
    with pytest.raises(ShapeError, match=r"got shape \(5,\), expected 2 axes, \(L, width\)"):
        ArrayProvider(single[:, 0])
    with pytest.raises(InputError, match="neither single nor pair"):
        ArrayProvider()
    with pytest.raises(InputError, match="numbers of type int64, expected floating"):
        ArrayProvider(np.ones((5, 7), dtype=np.int64))
    bad = single.astype(np.float32)
    bad[3, 2] = np.nan
    with pytest.raises(InputError, match="1 numbers are NaN or infinite, the first at residue 4"):
        ArrayProvider(bad)


def test_files_that_hold_no_features(tmp_path, arrays):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.npy").write_text("hello")
    np.savez(tmp_path / "two.npz", a=arrays[0], b=arrays[1])
    for name in ("object.npy", "text.npy"):
        with pytest.raises(InputError, match="expected an npy or npz file of numbers without pickled objects"):
            ArrayProvider(tmp_path / name)
    with pytest.raises(InputError, match="holds the arrays a, b, expected 'single' and 'pair'"):
        read_provider(tmp_path / "two.npz")
    with pytest.raises(InputError, match="holds the arrays a, b, expected 'single'"):
        ArrayProvider(tmp_path / "two.npz")
    with pytest.raises(InputError, match="no such file of features"):
        read_provider(tmp_path / "nowhere.npy")
    with pytest.raises(InputError, match="got 'alphafold', expected 'none', a file"):
        read_provider("alphafold")
    with pytest.raises(InputError, match="got int"):
        read_provider(3)
    assert isinstance(read_provider(None), NoProvider)


def test_a_folder_for_many_proteins(tmp_path, arrays):
    single, pair = arrays
    (tmp_path / "x.fasta").write_text(">one\nGAVLK\n>two\nGAVLP\n>three\nGAVLR\n")
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "one_single.npy", single)
    np.save(folder / "one_pair.npy", pair)
    np.savez(folder / f"{sequence_key(protein_system('GAVLP'))[:16]}.npz", single=single, pair=pair)
    errors = []
    one, two = protein_systems(tmp_path / "x.fasta", read_provider(folder), on_error=errors.append)
    assert (one.name, two.name) == ("one", "two")
    assert torch.equal(one.features.pair["extra"], two.features.pair["extra"])
    assert one.provider_content == two.provider_content
    assert "holds no features of 'three'; expected three_single.npy" in str(errors[0])
    with pytest.raises(InputError, match="no such folder of features"):
        FolderProvider(tmp_path / "nowhere")


def test_a_protein_that_is_refused_is_not_asked_for_its_features(system):
    provider, errors = Counted(), []

    def check(protein):
        if protein.length == 5:
            raise InputError(f"{protein.name}: too long")

    (kept,) = protein_systems([SEQUENCE, "GAV"], provider, check=check, on_error=errors.append)
    assert (kept.sequence, provider.calls, [str(error) for error in errors]) == ("GAV", 1, ["GAVLK: too long"])


def test_a_provider_without_features_of_a_protein_says_so(system):
    class Empty(Counted):
        def features(self, system):
            return {}

    with pytest.raises(MissingFeaturesError, match="GAVLK: the provider 'counted' has no features of it"):
        condition(system, Empty())


def test_memory_is_asked_for_before_files_are_read(tmp_path, monkeypatch):
    size = 2**20
    np.save(tmp_path / "pair.npy", np.zeros((64, 64, 64), dtype=np.float32))
    np.savez_compressed(
        tmp_path / "both.npz", single=np.zeros((64, 8), dtype=np.float32), pair=np.zeros((64, 64, 64), dtype=np.float32)
    )
    assert (tmp_path / "both.npz").stat().st_size < size / 100
    monkeypatch.setattr(memory, "free_memory", lambda: 3 * size)
    for name in ("pair.npy", "both.npz"):
        with pytest.raises(InputError, match=rf"reading '.*{name}' needs about 0\.003 GB, 0\.003 GB are free"):
            read_provider(tmp_path / name)
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * size)
    read_provider(tmp_path / "pair.npy")


class Counted:
    """Counts how often it is asked."""

    name = "counted"

    def __init__(self, content="1", width=4):
        self.calls, self.version, self.width = 0, content, width

    def content(self, system):
        return self.version

    def features(self, system):
        self.calls += 1
        return {"node_extra": torch.full((system.length, self.width), float(self.calls)), "pair_extra": None}


def test_the_cache_is_keyed_by_content(tmp_path, system):
    provider = Counted()
    cache = ProviderCache(provider, tmp_path / "cache")
    assert isinstance(cache, Provider)
    first = condition(system, cache)
    again = condition(protein_system(SEQUENCE), ProviderCache(provider, tmp_path / "cache"))
    assert provider.calls == 1
    assert first == again
    assert torch.equal(first.features.node["extra"], again.features.node["extra"])
    assert first == condition(system, Counted())
    condition(protein_system("GAV:LK"), cache)
    assert provider.calls == 2
    provider.version = "2"
    condition(system, cache)
    assert provider.calls == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "garbage", "shape", "key"])
def test_a_damaged_file_is_made_again(tmp_path, system, damage):
    provider = Counted()
    cache = ProviderCache(provider, tmp_path)
    condition(system, cache)
    path = cache.path(system)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "garbage":
        path.write_bytes(b"garbage")
    else:
        np.savez(path, **{"single" if damage == "shape" else "other": np.zeros((3, 4), dtype=np.float32)})
    made = condition(system, cache)
    assert provider.calls == 2
    assert made.features.node["extra"].shape == (5, 4)
    condition(system, cache)
    assert provider.calls == 2


def test_features_that_do_not_fit_are_not_kept(tmp_path, system):
    class Wrong(Counted):
        def features(self, system):
            return {"node_extra": np.zeros((2, 4)), "pair_extra": None}

    with pytest.raises(ShapeError, match="single features of the provider 'counted'"):
        condition(system, ProviderCache(Wrong(), tmp_path))
    assert not list(tmp_path.iterdir())


def test_esm_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "esm", None)
    with pytest.raises(MissingDependencyError, match="pip install fair-esm"):
        read_provider("esm:weights.pt")


class ImaginedModel(torch.nn.Module):
    """Gives the tokens back, so that each residue can be told in the output."""

    num_layers, attention_heads = 2, 20

    def forward(self, tokens, repr_layers):
        return {
            "representations": {layer: tokens[..., None].to(torch.float64).expand(*tokens.shape, 3) for layer in repr_layers}
        }


class ImaginedAlphabet:
    def get_batch_converter(self):
        return lambda rows: (None, None, torch.tensor([[-1, *map(ord, rows[0][1]), -2]]))


@pytest.fixture
def imagined_esm(monkeypatch):
    package, pretrained = types.ModuleType("esm"), types.ModuleType("esm.pretrained")
    package.pretrained = pretrained
    pretrained.load_model_and_alphabet_core = lambda name, data: (ImaginedModel(), ImaginedAlphabet())
    monkeypatch.setitem(sys.modules, "esm", package)
    monkeypatch.setitem(sys.modules, "esm.pretrained", pretrained)


def test_esm_embeds_each_chain_and_drops_the_ends(tmp_path, imagined_esm, monkeypatch):
    torch.save({"args": argparse.Namespace(arch="x"), "model": {}}, tmp_path / "esm2.pt")
    provider = read_provider(f"esm:{tmp_path / 'esm2.pt'}")
    system = protein_system("GAV:LK", provider)
    assert system.features.node["extra"].shape == (5, 3)
    assert system.features.node["extra"][:, 0].tolist() == list(map(ord, "GAVLK"))
    assert len(system.provider_content) == 64
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    with pytest.raises(
        InputError, match=r"the language model, for a chain of 2500 residues, needs about 1\.4 GB, 1\.0 GB are free"
    ):
        protein_system("A" * 100 + ":" + "A" * 2500, provider)


def test_esm_reads_weights_safely(tmp_path, imagined_esm, system):
    with pytest.raises(InputError, match="no such file of weights"):
        read_provider("esm:nowhere.pt")
    with pytest.raises(InputError, match="got no weights"):
        read_provider("esm")
    torch.save({"model": Path("x")}, tmp_path / "unsafe.pt")
    with pytest.raises(InputError, match="cannot be read as weights of an ESM-2 model"):
        condition(system, read_provider(f"esm:{tmp_path / 'unsafe.pt'}"))


@pytest.mark.skipif(not SHARED.exists(), reason="needs AlphaFold features: set EQUILIBRA_SHARED_DATA")
def test_alphafold_features():
    provider = read_provider(f"{SHARED / 'trpcage_af2_single.npy'},{SHARED / 'trpcage_af2_pair.npy'}")
    system = protein_system(SHARED / "trp_cage.pdb", provider)
    assert system.sequence == "NLYIQWLKDGGPSSGRPPPS"
    assert system.features.node["extra"].shape == (20, 384)
    assert system.features.pair["extra"].shape == (20, 20, 128)
    with pytest.raises(ShapeError, match=r"got shape \(20, 384\), expected \(10, width\)"):
        protein_system("GYDPETGTWG", provider)


def test_a_known_structure_tells_how_residues_lie(tmp_path):
    text, wanted = rich_structure()
    (tmp_path / "rich.pdb").write_text(text)
    provider = read_provider(f"structure:{tmp_path / 'rich.pdb'}")
    whole = protein_system("GAMASTLVWK:ACD", provider)
    found = whole.features.pair["extra"].numpy()
    assert found.shape == (13, 13, WIDTH)
    assert whole.provider == "structure"
    # zeros for the two residues that the structure lacks
    assert not found[[5, 6]].any()
    assert not found[:, [5, 6]].any()
    # distances: the feature whose centre is nearest is the largest
    there = np.delete(np.arange(13), [5, 6])
    r = np.linalg.norm(wanted[:, None, 1] - wanted[None, :, 1], axis=-1)
    nearest = np.abs(np.log(CENTRES) - np.log(np.maximum(r, 1e-3))[..., None]).argmin(-1)
    apart = r > CENTRES[0]
    ours = found[np.ix_(there, there)][..., : len(CENTRES)].argmax(-1)
    assert np.abs(ours - nearest)[apart].max() <= 1
    # directions and turns are those of frames from the atoms
    frames = np.stack([_axes(residue) for residue in wanted])
    seen = found[np.ix_(there, there)][..., len(CENTRES) :]
    i, j = 2, 9
    arm = (wanted[j, 1] - wanted[i, 1]) / r[i, j]
    np.testing.assert_allclose(seen[i, j, :3], frames[i].T @ arm, atol=2e-3)
    np.testing.assert_allclose(seen[i, j, 3:6], frames[j].T @ -arm, atol=2e-3)
    np.testing.assert_allclose(seen[i, j, 6:].reshape(3, 3), frames[i].T @ frames[j], atol=2e-3)


def test_features_of_a_structure_do_not_change_as_it_is_moved():
    generator = np.random.default_rng(1)
    _, xyz = rich_structure()
    turn = Rotation.random(rng=generator).as_matrix()
    here, there = (pair_geometry(x, np.ones(len(x), bool)) for x in (xyz, xyz @ turn.T + [30.0, -5.0, 8.0]))
    np.testing.assert_allclose(here, there, atol=1e-5)
    mirrored = pair_geometry(xyz * [1.0, 1.0, -1.0], np.ones(len(xyz), bool))
    assert np.abs(mirrored - here).max() > 0.1


def test_known_structures_of_many_proteins(tmp_path):
    text, _ = rich_structure()
    folder = tmp_path / "known"
    folder.mkdir()
    (folder / "one.pdb").write_text(text)
    (tmp_path / "x.fasta").write_text(">one\nGAMASTLVWK:ACD\n>two\nGAMASTLVWK:ACE\n>three\nWWWWWWWWWW:WWW\n")
    (folder / "1abc.A.pdb").write_text(text)
    provider = read_provider(f"structure:{folder}")
    dotted = dataclasses.replace(protein_system("GAMASTLVWK:ACD"), name="1abc.A")
    assert condition(dotted, provider).provider_content
    errors = []
    (one,) = protein_systems(tmp_path / "x.fasta", provider, on_error=errors.append)
    assert one.provider_content
    assert "holds no structure of 'two'; expected two.pdb or" in str(errors[0])
    (folder / f"{sequence_key(protein_system('WWWWWWWWWW:WWW'))[:16]}.pdb").write_text(text)
    with pytest.raises(InputError, match="are not of one protein"):
        condition(protein_system("WWWWWWWWWW:WWW"), provider)
    with pytest.raises(InputError, match=r"no such file or folder: 'nowhere\.pdb'"):
        read_provider("structure:nowhere.pdb")
    (tmp_path / "notes.txt").write_text("no structure")
    with pytest.raises(InputError, match=r"'.*notes\.txt' is no structure; expected a file that ends in \.pdb"):
        read_provider(f"structure:{tmp_path / 'notes.txt'}")


def test_several_known_states_of_a_protein_are_averaged_over_those_that_have_both_residues(tmp_path):
    text, wanted = rich_structure()
    states = tmp_path / "known" / "rich"
    states.mkdir(parents=True)
    (states / "a.pdb").write_text(text)
    # the second state lacks the last residue, and has another chain B
    turned = Rotation.from_euler("z", 70.0, degrees=True).as_matrix()
    other = np.concatenate([wanted[:8], wanted[8:] @ turned.T + [0.0, 12.0, 3.0]])
    other = np.pad(other, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan)  # neither O nor CB
    moved = chain_lines("GAMAS", "A", other[:5], [10, 11, 12, 13, 14]) + chain_lines("VWK", "A", other[5:8], [17, 18, 19])
    (states / "b.pdb").write_text(moved + "TER\n" + chain_lines("AC", "B", other[8:10]) + "TER\nEND\n")
    (states / "notes.txt").write_text("no structure")
    provider = read_provider(f"structure:{tmp_path / 'known'}")
    plain = dataclasses.replace(protein_system("GAMASTLVWK:ACD"), name="rich")
    both = condition(plain, provider)
    found = both.features.pair["extra"].numpy()
    alone = [
        condition(plain, read_provider(f"structure:{states / name}")).features.pair["extra"].numpy()
        for name in ("a.pdb", "b.pdb")
    ]
    np.testing.assert_allclose(found[:12, :12], (alone[0] + alone[1])[:12, :12] / 2, atol=1e-6)
    np.testing.assert_allclose(found[12], alone[0][12], atol=1e-6)
    # what both share is as sharp as in one, what differs is not
    np.testing.assert_allclose(found[:5, :5], alone[0][:5, :5], atol=2e-3)
    assert np.abs(found[:5, 10] - alone[0][:5, 10]).max() > 0.2
    named = condition(plain, read_provider(f"structure:{states / 'a.pdb'}, {states / 'b.pdb'}"))
    assert named.provider_content == both.provider_content
    with pytest.raises(InputError, match=r"no such file or folder: 'nowhere\.pdb'"):
        read_provider(f"structure:{states / 'a.pdb'},nowhere.pdb")
    with pytest.raises(InputError, match=r"'.*known' is no structure"):
        read_provider(f"structure:{states / 'a.pdb'},{tmp_path / 'known'}")
    (states / "b.pdb").unlink()
    again = condition(plain, read_provider(f"structure:{tmp_path / 'known'}"))
    assert again.provider_content != both.provider_content
    np.testing.assert_array_equal(again.features.pair["extra"].numpy(), alone[0])


def _axes(residue):
    """The frame of a residue by the Gram-Schmidt process from its atoms: x along CA-N, C in the half-plane of positive y."""
    n, ca, c = residue
    x = (n - ca) / np.linalg.norm(n - ca)
    y = (c - ca) - ((c - ca) @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)
