"""AlphaFold 2 features in the pickles of the release, read without executing them.

A pickle is a program for a small stack machine, which may call any function. Here its instructions are read one by one (`pickletools`), and only those are followed that
build dictionaries, lists, tuples, numbers, texts and NumPy arrays of numbers; anything else ends the reading with its name. NumPy's own functions for
arrays are not called either: they are names that stand for a fixed rule.
"""

import math
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError, ShapeError

SINGLE_WIDTH, PAIR_WIDTH = 384, 128

_KIND = re.compile(r"[biuf](?:1|2|4|8)")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A name of the few that a pickle of arrays mentions."""

    text: str


@dataclass
class _Type:
    """The type of an array's elements, under construction."""

    kind: str
    order: str = "|"

    def numpy(self) -> np.dtype:
        return np.dtype(("" if self.order in "|=" else self.order) + self.kind)


@dataclass
class _Array:
    """An array under construction."""

    value: np.ndarray | None = None


_NUMPY = {
    f"{module} {name}": role
    for role, modules, name in (
        ("empty array", ("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct"),
        ("number", ("numpy.core.multiarray", "numpy._core.multiarray"), "scalar"),
        ("array of a buffer", ("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
        ("array", ("numpy",), "ndarray"),
        ("type", ("numpy",), "dtype"),
        ("bytes", ("_codecs",), "encode"),
    )
    for module in modules
}


class _Refused(Exception):
    """The pickle does something that is not followed."""


class _Reader:
    """Follows the instructions of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, content: bytes) -> Any:
        """Returns what the pickle builds."""
        try:
            for opcode, argument, _ in pickletools.genops(content):
                if opcode.name == "STOP":
                    return _finished(self.stack.pop())
                self._follow(opcode.name, argument)
        except _Refused:
            raise
        except Exception as error:  # a damaged file can fail anywhere
            raise _Refused("it is damaged or is no pickle") from error
        raise _Refused("it has no end")

    def _follow(self, name: str, argument: Any) -> None:
        stack, memo = self.stack, self.memo
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _VALUES:
            stack.append(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._after_mark()
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self._after_mark()
            stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else _pairs(items))
        elif name == "APPEND":
            item = stack.pop()
            self._target(list).append(item)
        elif name == "APPENDS":
            items = self._after_mark()
            self._target(list).extend(items)
        elif name == "SETITEM":
            items = [stack.pop(), stack.pop()][::-1]
            self._target(dict).update(_pairs(items))
        elif name == "SETITEMS":
            items = self._after_mark()
            self._target(dict).update(_pairs(items))
        elif name == "GLOBAL":
            stack.append(_name(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_name(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_reduce(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise _Refused(f"it uses the instruction {name}")

    def _after_mark(self) -> list[Any]:
        place = max(k for k, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _target(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise _Refused(f"it adds items to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]


_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}

_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)


def _name(text: str) -> _Name:
    if text not in _NUMPY:
        raise _Refused(f"it calls for '{text.replace(' ', '.')}'")
    return _Name(text)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, str | int | bytes) for key in keys):
        raise _Refused("it has a dictionary whose keys are no texts or numbers")
    return dict(zip(keys, items[1::2], strict=True))


def _raw(value: Any) -> bytes:
    if isinstance(value, str):  # bytes of Python 2
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return _wrong("the bytes of an array")


def _wrong(what: str) -> NoReturn:
    raise _Refused(f"it has an unusual form of {what}")


def _filled(raw: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    """Returns the array of some bytes, whose number must be that of the shape."""
    content = _raw(raw)
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        _wrong("an array")
    kept = kind.numpy()
    if math.prod(shape) * kept.itemsize != len(content):
        _wrong("an array: its shape and its bytes do not fit")
    return np.frombuffer(content, kept).reshape(shape, order="F" if order == "F" else "C")


def _reduce(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise _Refused("it calls something that is no function of NumPy's arrays")
    role = _NUMPY[function.text]
    if role == "type" and arguments and isinstance(arguments[0], str | bytes):
        kind = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("latin1")
        if not _KIND.fullmatch(kind):
            raise _Refused(f"it has an array of the type '{kind}', which is none of plain numbers")
        return _Type(kind)
    if role == "empty array" and arguments and isinstance(arguments[0], _Name) and _NUMPY[arguments[0].text] == "array":
        return _Array()
    if role == "array of a buffer" and len(arguments) == 4:
        raw, kind, shape, order = arguments
        return _Array(_filled(raw, kind, shape, order))
    if role == "number" and len(arguments) == 2:
        return _filled(arguments[1], arguments[0], (), "C")[()]
    if role == "bytes" and arguments[1:] in (("latin1",), ("latin-1",)) and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    return _wrong(f"'{function.text.replace(' ', '.')}'")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Type) and isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "="):
        target.order = state[1]
    elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, fortran, raw = state
        target.value = _filled(raw, kind, shape, "F" if fortran else "C")
    else:
        raise _Refused(f"it sets the state of a {type(target).__name__.strip('_')}")


def _finished(value: Any, depth: int = 0) -> Any:
    """Returns a value with its arrays in the place of those under construction, down to the dictionaries in dictionaries."""
    if isinstance(value, _Array):
        return value.value if value.value is not None else _wrong("an array")
    if isinstance(value, dict) and depth < 4:
        return {key: _finished(item, depth + 1) for key, item in value.items()}
    return value


def read_feature_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """Reads `single` (L, 384) and `pair` (L, L, 128) from a pickle of the release, in float32.

    The arrays may lie in the dictionary of the pickle or under its key `representations`, as AlphaFold 2 writes them, with or without a leading axis of one.

    Raises:
        InputError: If there is no such file, it does anything else than hold numbers, or has no such arrays.
        ShapeError: If an array has another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'; expected a pickle with the arrays 'single' and 'pair'")
    try:
        content = _Reader().read(path.read_bytes())
    except _Refused as refusal:
        raise InputError(
            f"'{path}' is not read: {refusal}; expected a pickle of NumPy arrays and plain containers only"
        ) from refusal
    if isinstance(content, dict) and isinstance(content.get("representations"), dict):
        content = content["representations"]
    if not isinstance(content, dict) or not all(isinstance(content.get(name), np.ndarray) for name in ("single", "pair")):
        found = ", ".join(map(str, list(content)[:10])) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(f"'{path}' holds {found or 'nothing'}, expected arrays 'single' and 'pair'")
    single, pair = (np.array(content[name], dtype=np.float32) for name in ("single", "pair"))
    single = single[0] if single.ndim == 3 and len(single) == 1 else single
    pair = pair[0] if pair.ndim == 4 and len(pair) == 1 else pair
    if single.ndim != 2 or single.shape[1] != SINGLE_WIDTH:
        raise ShapeError(f"'single' in '{path}'", single.shape, f"(L, {SINGLE_WIDTH})")
    length = len(single)
    if pair.shape != (length, length, PAIR_WIDTH):
        raise ShapeError(f"'pair' in '{path}'", pair.shape, f"({length}, {length}, {PAIR_WIDTH}), the length of 'single'")
    for name, value in (("single", single), ("pair", pair)):
        if not np.isfinite(value).all():
            raise InputError(f"'{name}' in '{path}' has numbers that are NaN or infinite; expected finite numbers")
    return {"single": single, "pair": pair}


def convert_features(path: str | Path, folder: str | Path) -> list[Path]:
    """Converts a pickle of features to `single.npy` and `pair.npy` in a folder, and returns their paths."""
    arrays, written = read_feature_pickle(path), []
    for name, value in arrays.items():
        written.append(Path(folder) / f"{name}.npy")
        with atomic_path(written[-1]) as temporary, temporary.open("wb") as file:
            np.save(file, value)
    return written
