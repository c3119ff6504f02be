"""Pickles of plain data, read without executing them.

A pickle is a program for a small stack machine, which may call any function. Here its instructions are read one by one (`pickletools`), and only those are followed that
build dictionaries, lists, tuples, numbers, texts and NumPy arrays of numbers, and what a `Vocabulary` names besides; anything else ends the reading with its name. No function
that a pickle names is called: names stand for fixed rules of our own.
"""

import math
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import numpy as np

from equilibra.errors import InputError

Rule = Callable[[tuple[Any, ...]], Any]
"""What stands for the call of a name: it returns what the call would have made of its arguments, or raises `RefusedPickleError`."""

_KIND = re.compile(r"[biuf](?:1|2|4|8)")
_MARK = object()


class RefusedPickleError(InputError):
    """A pickle does something that is not followed; the message says what, as a sentence about 'it'."""


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions, such as that of a type.

    Attributes:
        text: Module and attribute, with a space between.
    """

    text: str


@dataclass(eq=False)
class Record:
    """What an object of a class that a vocabulary knows held.

    Attributes:
        name: Module and name of the class, with a space between.
        attributes: Its attributes.
    """

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Vocabulary:
    """What a pickle may name besides NumPy's arrays; each name is a module and an attribute with a space between.

    Attributes:
        rules: What stands for the call of a name.
        classes: Classes whose objects are read as a `Record` of their attributes.
        mentions: Names that may be mentioned, and neither called nor made objects of.
        persistent: What stands for an object outside of the pickle, by its number or tuple; None where there is none.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    mentions: frozenset[str] = frozenset()
    persistent: Callable[[Any], Any] | None = None


def read_plain(content: bytes | BinaryIO, vocabulary: Vocabulary | None = None) -> Any:
    """Returns what a pickle builds, with arrays as NumPy arrays.

    Arguments:
        content: The pickle, or a stream, which is left behind its end.
        vocabulary: What it may name besides NumPy's arrays; nothing by default.

    Raises:
        RefusedPickleError: If it does anything else than build plain data, or is damaged.
    """
    return _Machine(vocabulary or Vocabulary()).read(content)


def unusual(what: str) -> NoReturn:
    """Refuses something that has another form than is known.

    Raises:
        RefusedPickleError: Always.
    """
    raise RefusedPickleError(f"it has an unusual form of {what}")


@dataclass
class _Type:
    """The type of an array's elements, under construction."""

    kind: str
    order: str = "|"

    def numpy(self) -> np.dtype:
        return np.dtype(("" if self.order in "|=" else self.order) + self.kind)


@dataclass(eq=False)
class _Array:
    """An array under construction."""

    value: np.ndarray | None = None


class _Machine:
    """Follows the instructions of one pickle."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.rules = {**_NUMPY, **vocabulary.rules}
        self.known = {*self.rules, *vocabulary.classes, *vocabulary.mentions, _NDARRAY}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, content: bytes | BinaryIO) -> Any:
        """Returns what the pickle builds."""
        try:
            for opcode, argument, _ in pickletools.genops(content):
                if opcode.name == "STOP":
                    return _finished(self.stack.pop(), {})
                self._follow(opcode.name, argument)
        except RefusedPickleError:
            raise
        except Exception as error:  # a damaged file can fail anywhere
            raise RefusedPickleError("it is damaged or is no pickle") from error
        raise RefusedPickleError("it has no end")

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
        else:
            self._follow_named(name, argument)

    def _follow_named(self, name: str, argument: Any) -> None:
        """Follows the instructions that ordinary pickles call functions and make objects with."""
        stack = self.stack
        if name == "GLOBAL":
            stack.append(self._name(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self._name(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, Name) or not isinstance(arguments, tuple):
                raise RefusedPickleError("it calls something that is no function by its name")
            if function.text not in self.rules:
                unusual(f"'{function.text.replace(' ', '.')}'")
            stack.append(self.rules[function.text](arguments))
        elif name == "NEWOBJ":
            arguments, kind = stack.pop(), stack.pop()
            if not isinstance(kind, Name) or kind.text not in self.vocabulary.classes or arguments != ():
                raise RefusedPickleError("it makes an object of something that is no class that is known")
            stack.append(Record(kind.text))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name == "BINPERSID" and self.vocabulary.persistent is not None:
            stack.append(self.vocabulary.persistent(stack.pop()))
        else:
            raise RefusedPickleError(f"it uses the instruction {name}")

    def _name(self, text: str) -> Name:
        if text not in self.known:
            raise RefusedPickleError(f"it calls for '{text.replace(' ', '.')}'")
        return Name(text)

    def _after_mark(self) -> list[Any]:
        place = max(k for k, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _target(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise RefusedPickleError(f"it adds items to a {type(self.stack[-1]).__name__}")
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


def _pairs(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, str | int | bytes) for key in keys):
        raise RefusedPickleError("it has a dictionary whose keys are no texts or numbers")
    return dict(zip(keys, items[1::2], strict=True))


def raw(value: Any) -> bytes:
    """Returns the bytes of an array or a storage.

    Raises:
        RefusedPickleError: If they are no bytes.
    """
    if isinstance(value, str):  # bytes of Python 2
        return value.encode("latin1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return unusual("the bytes of an array")


def _filled(given: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    """Returns the array of some bytes, whose number must be that of the shape."""
    content = raw(given)
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        unusual("an array")
    kept = kind.numpy()
    if math.prod(shape) * kept.itemsize != len(content):
        unusual("an array: its shape and its bytes do not fit")
    return np.frombuffer(content, kept).reshape(shape, order="F" if order == "F" else "C")


def _number_type(arguments: tuple[Any, ...]) -> _Type:
    if not arguments or not isinstance(arguments[0], str | bytes):
        unusual("'numpy.dtype'")
    kind = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("latin1")
    if not _KIND.fullmatch(kind):
        raise RefusedPickleError(f"it has an array of the type '{kind}', which is none of plain numbers")
    return _Type(kind)


def _empty_array(arguments: tuple[Any, ...]) -> _Array:
    if not arguments or arguments[0] != Name(_NDARRAY):
        unusual("an array")
    return _Array()


def _array_of_buffer(arguments: tuple[Any, ...]) -> _Array:
    if len(arguments) != 4:
        unusual("an array")
    return _Array(_filled(*arguments))


def _number(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2:
        unusual("a number")
    return _filled(arguments[1], arguments[0], (), "C")[()]


def _bytes(arguments: tuple[Any, ...]) -> bytes:
    if arguments[1:] not in (("latin1",), ("latin-1",)) or not isinstance(arguments[0], str):
        unusual("'_codecs.encode'")
    return arguments[0].encode("latin1")


_NDARRAY = "numpy ndarray"
_NUMPY: Mapping[str, Rule] = {
    f"{module} {name}": rule
    for rule, modules, name in (
        (_empty_array, ("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct"),
        (_number, ("numpy.core.multiarray", "numpy._core.multiarray"), "scalar"),
        (_array_of_buffer, ("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
        (_number_type, ("numpy",), "dtype"),
        (_bytes, ("_codecs",), "encode"),
    )
    for module in modules
}


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Type) and isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "="):
        target.order = state[1]
    elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
        _, shape, kind, fortran, content = state
        target.value = _filled(content, kind, shape, "F" if fortran else "C")
    elif isinstance(target, Record) and isinstance(state, dict) and all(isinstance(key, str) for key in state):
        target.attributes.update(state)
    else:
        raise RefusedPickleError(f"it sets the state of a {type(target).__name__.strip('_')}")


def _finished(value: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Returns a value with its arrays in the place of those under construction; what holds itself goes on doing so."""
    if isinstance(value, _Array):
        return value.value if value.value is not None else unusual("an array")
    if not isinstance(value, dict | list | tuple | Record):
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, tuple):
        made = tuple(_finished(item, seen) for item in value)
        seen[id(value)] = (value, made)
        return made
    seen[id(value)] = (value, value)
    if isinstance(value, list):
        value[:] = [_finished(item, seen) for item in value]
        return value
    items = value.attributes if isinstance(value, Record) else value
    for key in items:
        items[key] = _finished(items[key], seen)
    return value
