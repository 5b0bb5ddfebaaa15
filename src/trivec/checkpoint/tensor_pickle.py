"""Reads the pickle inside a torch file as data, with a machine that knows little more than `torch.save` writes.

A pickle is a program. Python's own machine runs all of it: it calls whatever is named, and even with names withheld a
few bytes make it fill a memo of 34 GB, copy a dict of copies, or hash a tuple so nested that it takes a lifetime. This
one has the opcodes for constants and containers, the names that rebuild a tensor, and nothing whose memory outgrows the
length of the stream. Knows nothing about zip archives or the model.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.checkpoint.tensors import StoredTensor

STORAGE_DTYPES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
# Asked for a storage's elements by key, dtype and number of elements.
Storage = Callable[[str, str, int], npt.NDArray[np.generic]]

_CONSTANTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORAGE = "torch storage "  # before a storage's dtype, where a name stands for its class
_MOST_DIMENSIONS = 8
_MARK = object()


class ForbiddenNameError(Exception):
    """The pickle asks for something that is no part of rebuilding a tensor."""


class DamagedPickleError(Exception):
    """The stream is no pickle, or describes something else than tensors."""


class _Name(str):
    """One of the admitted names; a type of its own, so that no text of the stream passes for it."""

    __slots__ = ()


def read_tensor_pickle(stream: bytes, storage: Storage) -> object:
    """Return what a pickle of tensors describes: a StoredTensor, a constant, or containers of these.

    Args:
        stream: The pickle. Memory and time grow with its length.
        storage: Gives the elements that lie elsewhere; may raise what damaged data raises.

    Raises:
        ForbiddenNameError: It asks for a name that no tensor needs; nothing was looked up or called.
        DamagedPickleError: It is damaged.
    """
    machine = _Machine(storage)
    try:
        for opcode, argument, _position in pickletools.genops(stream):
            if opcode.name == "STOP":
                (value,) = machine.stack
                return value
            machine.step(opcode.name, argument)
    except (ForbiddenNameError, DamagedPickleError):
        raise
    except Exception as error:  # whatever pops from an empty stack or unpacks what is not there
        raise DamagedPickleError(str(error) or type(error).__name__) from error
    raise DamagedPickleError("it has no end")


class _Machine:
    def __init__(self, storage: Storage) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage

    def step(self, opcode: str, argument: Any) -> None:  # noqa: C901, PLR0912 -- a machine's table of instructions
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case _ if opcode in _CONSTANTS:
                stack.append(argument)
            case _ if opcode in _FIXED:
                stack.append(_FIXED[opcode])
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case _ if opcode in _SHORT_TUPLES:
                count = _SHORT_TUPLES[opcode]
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if opcode == "APPEND" else self._pop_to_mark()
                _of_type(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = [stack.pop(-2), stack.pop()] if opcode == "SETITEM" else self._pop_to_mark()
                self._set_items(items)
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL" | "INST":
                stack.append(_admitted(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_admitted(_of_type(module, str), _of_type(name, str)))
            case "BINPERSID":
                stack.append(self._stored(stack.pop()))
            case "REDUCE":
                arguments, name = _of_type(stack.pop(), tuple), _of_type(stack.pop(), _Name)
                stack.append(_rebuilt(name, arguments))
            case "BUILD":  # the `_metadata` that torch hangs on a state dict, of no use here
                stack.pop()
                _of_type(stack[-1], dict)
            case _:
                raise DamagedPickleError(f"opcode {opcode} has no part in tensors")

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _set_items(self, items: list[Any]) -> None:
        target = _of_type(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise DamagedPickleError(f"a dict has a {type(key).__name__} as a key")
            target[key] = value

    def _stored(self, reference: Any) -> StoredTensor:
        kind, name, key, _location, count = _of_type(reference, tuple)
        if kind != "storage" or type(name) is not _Name or not name.startswith(_STORAGE):
            raise DamagedPickleError("a reference to something that is no storage")
        dtype = name.removeprefix(_STORAGE)
        return StoredTensor(self._storage(_of_type(key, str), dtype, _of_type(count, int)), dtype)


def _admitted(module: str, name: str) -> _Name:
    match module, name:
        case ("collections", "OrderedDict") | ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_parameter"):
            return _Name(name)
        case "torch", _ if name in STORAGE_DTYPES:
            return _Name(_STORAGE + STORAGE_DTYPES[name])
    raise ForbiddenNameError(f"{module}.{name}"[:100])


def _rebuilt(name: _Name, arguments: tuple[Any, ...]) -> Any:
    match name:
        case "OrderedDict":
            if arguments:
                raise DamagedPickleError("an OrderedDict made of another value, which torch.save never writes")
            return {}
        case "_rebuild_tensor_v2":
            storage, offset, size, stride, *_unused = arguments
            return _rebuild_tensor(_of_type(storage, StoredTensor), offset, size, stride)
        case "_rebuild_parameter":
            return _of_type(arguments[0], StoredTensor)
    raise DamagedPickleError("a storage is called")


def _rebuild_tensor(storage: StoredTensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> StoredTensor:
    stored = storage.data
    if len(_of_type(size, tuple)) != len(_of_type(stride, tuple)) or len(size) > _MOST_DIMENSIONS:
        raise DamagedPickleError(f"a tensor of {len(size)} sizes and {len(stride)} strides")
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *size, *stride)):
        raise DamagedPickleError("a tensor whose offset, size or stride is no whole number of at least 0")
    if math.prod(size) > stored.size:
        raise DamagedPickleError(f"a tensor of shape {size} over a storage of {stored.size} elements")
    itemsize = stored.itemsize
    # np.ndarray checks that offset, shape and strides stay inside the storage (a truncated storage raises here).
    data: npt.NDArray[np.generic] = np.ndarray(
        size, stored.dtype, stored.data, offset * itemsize, tuple(s * itemsize for s in stride)
    )
    return StoredTensor(data, storage.dtype)


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise DamagedPickleError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value
