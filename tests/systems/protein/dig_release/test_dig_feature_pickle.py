"""Pickles of features: arrays of every protocol are read, and nothing else is followed."""

import os
import pickle

import numpy as np
import pytest
import torch

from equilibra.errors import InputError, ShapeError
from equilibra.systems.protein.dig_release.feature_pickle import convert_features, read_feature_pickle

L = 5
RNG = np.random.default_rng(0)
SINGLE = RNG.standard_normal((L, 384)).astype(np.float32)
PAIR = RNG.standard_normal((L, L, 128)).astype(np.float32)
PROTOCOLS = (2, 3, 4, 5)


@pytest.fixture
def write(tmp_path):
    def dump(content, protocol=4):
        path = tmp_path / "features.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
        return path

    return dump


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f2", "f8"])
def test_arrays(write, protocol, dtype):
    content = {
        "single": SINGLE.astype(dtype),
        "pair": np.asfortranarray(PAIR.astype(dtype)),
        "note": ["a", (1, 2.5, None, True)],
    }
    found = read_feature_pickle(write(content, protocol))
    for name in ("single", "pair"):
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], content[name].astype(np.float32))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_layout_of_alphafold(write, protocol):
    content = {
        "ptm": np.float32(0.8),
        "plddt": np.arange(L),
        "seen": {3: "x", b"k": 10**30},
        "representations": {"single": SINGLE[None], "pair": PAIR[None], "msa_first_row": SINGLE},
        "empty": [{}, [], (), ""],
    }
    found = read_feature_pickle(write(content, protocol))
    assert np.array_equal(found["pair"], PAIR)
    assert np.array_equal(found["single"], SINGLE)


def test_converted_files(write, tmp_path):
    files = convert_features(write({"single": SINGLE, "pair": PAIR}), tmp_path / "out")
    assert [file.name for file in files] == ["single.npy", "pair.npy"]
    assert np.array_equal(np.load(files[0], allow_pickle=False), SINGLE)
    assert np.array_equal(np.load(files[1], allow_pickle=False), PAIR)


class Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Plain:
    pass


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
def test_nothing_is_executed(write, tmp_path, protocol):
    sprung = tmp_path / "sprung"
    for trap in (
        Calls(os.system, f"touch {sprung}"),
        Calls(eval, f"open({str(sprung)!r}, 'w')"),
        Calls(open, str(sprung), "w"),
        Calls(getattr, "x", "upper"),
    ):
        with pytest.raises(InputError, match="is not read: it calls for '"):
            read_feature_pickle(write({"single": SINGLE, "pair": PAIR, "x": trap}, protocol))
    assert not sprung.exists()


def test_what_is_refused_is_named(write):
    def refused(content, match):
        with pytest.raises(InputError, match=match):
            read_feature_pickle(write(content))

    refused({"x": torch.zeros(2)}, r"it calls for 'torch\._utils\._rebuild_tensor_v2'")
    refused({"x": Plain()}, r"it calls for '.*\.Plain'; expected a pickle of NumPy arrays and plain containers only")
    refused({"x": np.array([{}, 1], dtype=object)}, "an array of the type 'O8', which is none of plain numbers")
    refused({"x": np.array(["text"])}, "an array of the type 'U4'")
    refused({"x": np.zeros(2, dtype=[("a", "f4")])}, "an array of the type 'V4'")
    refused({"x": {1}}, "it uses the instruction EMPTY_SET")
    refused({(1, 2): 1}, "a dictionary whose keys are no texts or numbers")
    whole = pickle.dumps({"single": SINGLE, "pair": PAIR})
    refused(whole[:1000], "it is damaged or is no pickle")
    refused(b"", "it is damaged or is no pickle")
    refused(b"no pickle at all", "it is")
    # more elements than bytes
    refused(whole.replace(b"M\x80\x01", b"M\x80\x7f", 1), "its shape and its bytes do not fit")
    # instructions out of place
    refused(b"\x80\x04)R.", "it is damaged|it calls something")
    refused(b"\x80\x04K\x01)R.", "it calls something that is no function by its name")
    refused(b"\x80\x04K\x01)b.", "it sets the state of a int")
    refused(b"\x80\x04cnumpy\nndarray\n)R.", "an unusual form of 'numpy.ndarray'")
    refused(b"\x80\x04cnumpy\nload\n)R.", r"it calls for 'numpy\.load'")


def test_contents_that_do_not_fit(write, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_feature_pickle(tmp_path / "nothing.pkl")
    with pytest.raises(InputError, match="holds single, other, expected arrays 'single' and 'pair'"):
        read_feature_pickle(write({"single": SINGLE, "other": 1}))
    with pytest.raises(InputError, match="holds a list, expected"):
        read_feature_pickle(write([SINGLE]))
    with pytest.raises(ShapeError, match=r"'single' in .*: got shape \(5, 100\), expected \(L, 384\)"):
        read_feature_pickle(write({"single": SINGLE[:, :100], "pair": PAIR}))
    with pytest.raises(ShapeError, match=r"expected \(5, 5, 128\), the length of 'single'"):
        read_feature_pickle(write({"single": SINGLE, "pair": PAIR[:, :4]}))
    with pytest.raises(InputError, match=r"'pair' in .* NaN or infinite"):
        read_feature_pickle(write({"single": SINGLE, "pair": np.full_like(PAIR, np.nan)}))
