"""Pickles of plain data: tensors of every type and layout, objects as records, and nothing else; every trap is refused by its name."""

import collections
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from equilibra.plain_pickles.reader import Record, RefusedPickleError, Vocabulary, read_plain
from equilibra.plain_pickles.tensors import TENSORS

PROTOCOLS = (2, 3, 4, 5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_tensors_of_every_type(protocol, dtype):
    x = (10 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))).to(getattr(torch, dtype))
    found = read_plain(pickle.dumps({"x": x, "again": [x, (x,)]}, protocol=protocol), TENSORS)
    assert found["x"].dtype == np.dtype(dtype)
    for made in (found["x"], found["again"][0], found["again"][1][0]):
        np.testing.assert_array_equal(made, x.numpy())


def test_views_of_storages():
    x = torch.arange(60, dtype=torch.float64).reshape(3, 4, 5)
    views = [
        x[1],
        x[:, 2],
        x.permute(2, 0, 1),
        x[:, ::2, 1:4],
        x[0, 0, 0],
        x[:0],
        x.reshape(-1)[7:],
        x.clone().requires_grad_(),
    ]
    found = read_plain(pickle.dumps(views), TENSORS)
    for made, view in zip(found, views, strict=True):
        np.testing.assert_array_equal(made, view.detach().numpy())
    assert found[0].flags.writeable


def test_streams_are_left_behind_the_end():
    stream = io.BytesIO(pickle.dumps([1, 2]) + pickle.dumps("next") + b"rest")
    assert read_plain(stream) == [1, 2]
    assert read_plain(stream) == "next"
    assert stream.read() == b"rest"


class Plain:
    def __init__(self, **values):
        self.__dict__.update(values)


def test_objects_of_known_classes_are_records_that_may_hold_themselves(monkeypatch):
    module = types.ModuleType("somewhere")
    module.Plain = Plain
    monkeypatch.setitem(sys.modules, "somewhere", module)
    monkeypatch.setattr(Plain, "__module__", "somewhere")
    inner = Plain(x=np.arange(3.0))
    outer = Plain(inner=inner, pair=(inner, [inner]), mention=Plain)
    inner.parent = outer
    vocabulary = Vocabulary(classes=frozenset({"somewhere Plain"}))
    for protocol in PROTOCOLS:
        found = read_plain(pickle.dumps(outer, protocol=protocol), vocabulary)
        assert isinstance(found, Record)
        assert found.name == "somewhere Plain"
        part = found.attributes["inner"]
        np.testing.assert_array_equal(part.attributes["x"], np.arange(3.0))
        assert part.attributes["parent"] is found
        assert found.attributes["pair"][0] is part
        assert found.attributes["pair"][1][0] is part
    with pytest.raises(RefusedPickleError, match=r"it calls for 'somewhere\.Plain'"):
        read_plain(pickle.dumps(outer))


class Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
def test_nothing_is_executed(tmp_path, protocol):
    sprung = tmp_path / "sprung"
    inside = io.BytesIO()
    torch.save(Calls(os.system, f"touch {sprung}"), inside, _use_new_zipfile_serialization=False)
    for trap in (
        Calls(os.system, f"touch {sprung}"),
        Calls(torch.storage._load_from_bytes, inside.getvalue()),
        Calls(eval, f"open({str(sprung)!r}, 'w')"),
        collections.OrderedDict(x=Calls(open, str(sprung), "w")),
    ):
        with pytest.raises(RefusedPickleError, match=r"it calls for '|it uses the instruction"):
            read_plain(pickle.dumps({"x": torch.zeros(2), "trap": trap}, protocol=protocol), TENSORS)
    assert not sprung.exists()


def swapped(value, old, new):
    content = pickle.dumps(value)
    assert old in content
    return content.replace(old, new, 1)


def test_what_is_refused_is_named():
    def refused(content, match):
        with pytest.raises(RefusedPickleError, match=match):
            read_plain(content, TENSORS)

    refused(pickle.dumps(torch.zeros(2, dtype=torch.bfloat16)), r"it calls for 'torch\.BFloat16Storage'")
    refused(pickle.dumps(torch.zeros(2).to_sparse()), "it calls for")
    refused(pickle.dumps(torch.nn.Parameter(torch.zeros(2))), "it calls for 'torch._utils._rebuild_parameter'")
    # one number for a thousand million: a tensor that repeats its numbers
    refused(pickle.dumps(torch.zeros(1).expand(10**9)), "its shape and its storage do not fit")
    x = torch.arange(6.0).reshape(2, 3)
    refused(swapped(x, b"K\x02K\x03\x86", b"K\x03K\x03\x86"), "its shape and its storage do not fit")
    refused(swapped(x, b"K\x03K\x01\x86", b"K\x09K\x01\x86"), "its shape and its storage do not fit")
    refused(swapped(x, b"\x06\x00\x00\x00\x00\x00\x00\x00", b"\x07\x00\x00\x00\x00\x00\x00\x00"), "its length and its bytes")
    refused(swapped(x, b"\x8a\nl\xfc", b"\x8a\nl\xfd"), "another format of torch.save")
    refused(pickle.dumps(x)[:300], "damaged or is no pickle")
    refused(b"\x80\x04ctorch.storage\n_load_from_bytes\n)R.", "an unusual form of a tensor's storage")
    refused(b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n)R.", "an unusual form of a tensor")
    refused(b"\x80\x04ccollections\nOrderedDict\n)\x81.", "it makes an object of something that is no class")
    nested = b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."
    refused(nested, "damaged")
    # a tuple of a tuple of ..., each twice: a million million items that are few
    shared = ()
    for _ in range(40):
        shared = (shared, shared)
    found = read_plain(pickle.dumps(shared))
    for _ in range(40):
        assert found[0] is found[1]
        found = found[0]
