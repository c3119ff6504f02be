"""PyTorch's tensors in pickles, as NumPy arrays.

A tensor in an ordinary pickle names its storage, its offset, its shape and its strides. The storage is bytes of its own: those of the older format of `torch.save`, which is five pickles, one
after the other (a number that tells the format, its version, facts of the machine, the storage's type and length, its key), and then the numbers. All of it is read by the same rules.
"""

import io
import math
from typing import Any

import numpy as np

from equilibra.plain_pickles.reader import Name, RefusedPickleError, Vocabulary, raw, read_plain, unusual

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001

_KINDS = {
    "torch DoubleStorage": "f8",
    "torch FloatStorage": "f4",
    "torch HalfStorage": "f2",
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}


def _storage(arguments: tuple[Any, ...]) -> np.ndarray:
    """Returns the numbers (length,) of a storage from its bytes."""
    if len(arguments) != 1:
        unusual("a tensor's storage")
    stream = io.BytesIO(raw(arguments[0]))
    if read_plain(stream) != _MAGIC or read_plain(stream) != _VERSION:
        unusual("a tensor's storage: it is of another format of torch.save")
    machine = read_plain(stream)
    described = read_plain(stream, Vocabulary(mentions=frozenset(_KINDS), persistent=lambda given: given))
    keys = read_plain(stream)
    match described:
        case ("storage", Name(kind), str(key), _, int(length), None) if keys == [key]:
            order = "<" if not isinstance(machine, dict) or machine.get("little_endian", True) else ">"
            dtype = np.dtype(order + _KINDS[kind])
            content = stream.read()
            if len(content) != 8 + length * dtype.itemsize or int.from_bytes(content[:8], "little") != length:
                unusual("a tensor's storage: its length and its bytes do not fit")
            return np.frombuffer(content, dtype, offset=8)
    return unusual("a tensor's storage")


def _tensor(arguments: tuple[Any, ...]) -> np.ndarray:
    """Returns the array of a storage, an offset, a shape and strides."""
    match arguments[:4]:
        case (np.ndarray() as storage, int(offset), tuple(shape), tuple(strides)) if storage.ndim == 1:
            numbers = [offset, *shape, *strides]
            fine = len(shape) == len(strides) and all(isinstance(n, int) and n >= 0 for n in numbers)
            # a tensor that repeats its numbers could be of any size
            fine = fine and math.prod(shape) <= len(storage)
            last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=False)) if fine else 0
            if fine and (0 in shape or last < len(storage)):
                if 0 in shape:
                    return np.zeros(shape, storage.dtype)
                steps = [step * storage.itemsize for step in strides]
                return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()
            unusual("a tensor: its shape and its storage do not fit")
    return unusual("a tensor")


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Returns the dictionary that an empty ordered one stands for."""
    if arguments:
        raise RefusedPickleError("it has an ordered dictionary that is not empty at first")
    return {}


TENSORS = Vocabulary(
    rules={
        "torch._utils _rebuild_tensor_v2": _tensor,
        "torch.storage _load_from_bytes": _storage,
        "collections OrderedDict": _ordered,
    }
)
"""What a pickle with tensors names."""
