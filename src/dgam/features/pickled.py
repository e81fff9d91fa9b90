"""Reading the data out of a pickled object array without running it.

A pickle is a program for a small stack machine, and one of its instructions calls any function by name. This
reader knows the instructions that NumPy's pickles of arrays, lists, numbers and text are made of, and builds
those itself: it imports and calls nothing, stays within the file's size in memory, and refuses everything
else with InputError. NumPy's own unpickling crashes the interpreter on damaged files. The data of arrays are
not copied but point into the buffer. The instructions are described in CPython's ``Lib/pickletools.py``, the
states of arrays and dtypes in NumPy's ``ndarray.__reduce__`` and ``dtype.__reduce__``.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError

PLAIN_DTYPE = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgFDGSUVMmcu]\d{0,9}(\[\w{1,16}\])?")
"""Spellings of dtypes that hold no Python objects and are safe to hand to ``np.dtype``."""

_MARK = object()
_FUNCTIONS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "new array",
    ("numpy._core.multiarray", "_reconstruct"): "new array",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("_codecs", "encode"): "encode",
}
_TUPLES = {0x29: 0, 0x85: 1, 0x86: 2, 0x87: 3}
_CONSTANTS = {0x4E: None, 0x88: True, 0x89: False}
_NUMBERS = {0x4A: "<i", 0x4B: "<B", 0x4D: "<H", 0x47: ">d"}
_BYTES = {
    0x42: "<I",
    0x43: "<B",
    0x8E: "<Q",
    0x96: "<Q",
    0x54: "<i",
    0x55: "<B",
}  # the last two: Python 2's text
_TEXT = {0x58: "<I", 0x8C: "<B", 0x8D: "<Q"}
_LONGS = {0x8A: "<B", 0x8B: "<i"}
_PUTS = {0x71: "<B", 0x72: "<I"}
_GETS = {0x68: "<B", 0x6A: "<I"}


class _Function:
    """A function that the pickle names; it is told apart by name and never called."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Unfinished:
    """An array or dtype between the instruction that makes it and the one that gives it its state."""

    def __init__(self, descr: str | None = None) -> None:
        self.descr = descr
        self.value: Any = None


class _Damaged(Exception):
    pass


def load_objects(data: memoryview, start: int = 0) -> Any:
    """What the pickle in ``data`` from ``start`` holds. InputError, without a file name, for anything but
    plain data."""
    try:
        return _Machine(data, start).run()
    except (
        _Damaged,
        IndexError,
        KeyError,
        ValueError,
        TypeError,
        OverflowError,
        struct.error,
        AttributeError,
    ) as error:
        raise InputError(f"its pickle is damaged ({type(error).__name__}: {str(error)[:100]}).") from error


class _Machine:
    def __init__(self, data: memoryview, start: int) -> None:
        self._data = data
        self._at = start
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self._take(1)[0]) != 0x2E:  # '.'
            self._step(code)
        (result,) = self._stack
        return _finished(result)

    def _step(self, code: int) -> None:
        stack = self._stack
        if code in _NUMBERS:
            stack.append(self._number(_NUMBERS[code]))
        elif code in _BYTES:
            stack.append(self._take(self._number(_BYTES[code])))
        elif code in _TEXT:
            stack.append(str(self._take(self._number(_TEXT[code])), "utf-8"))
        elif code in _LONGS:
            stack.append(int.from_bytes(self._take(self._number(_LONGS[code])), "little", signed=True))
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            count = _TUPLES[code]
            items = tuple(_finished(item) for item in stack[len(stack) - count :])
            if len(items) < count:
                raise _Damaged("too few values for a tuple")
            stack[len(stack) - count :] = [items]
        elif code in _PUTS:
            self._memo[self._number(_PUTS[code])] = stack[-1]
        elif code in _GETS:
            stack.append(self._memo[self._number(_GETS[code])])
        else:
            self._step_rare(code)

    def _step_rare(self, code: int) -> None:
        stack = self._stack
        match code:
            case 0x80:  # protocol
                self._take(1)
            case 0x95:  # frame
                self._take(8)
            case 0x28:
                stack.append(_MARK)
            case 0x5D:
                stack.append([])
            case 0x61 | 0x65:  # append one, or all above the mark
                items = [stack.pop()] if code == 0x61 else self._above_mark()
                if not isinstance(stack[-1], list):
                    raise _Damaged("appends to what is no list")
                stack[-1].extend(_item(item) for item in items)
            case 0x74:
                stack.append(tuple(_finished(item) for item in self._above_mark()))
            case 0x94:
                self._memo[len(self._memo)] = stack[-1]
            case 0x63:
                stack.append(_function(self._line(), self._line()))
            case 0x93:
                name, module = stack.pop(), stack.pop()
                stack.append(_function(module, name))
            case 0x52:
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            case 0x62:
                state = stack.pop()
                _build(stack[-1], state)
            case _:
                raise InputError(
                    f"its pickle does more than hold arrays, lists, numbers and text (code {code:#04x})."
                )

    def _take(self, count: int) -> memoryview:
        if count < 0 or self._at + count > len(self._data):
            raise _Damaged("it is cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        line = bytearray()
        while (byte := self._take(1)[0]) != 0x0A:
            line.append(byte)
        return line.decode("ascii")

    def _above_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def _finished(value: Any) -> Any:
    """An array instead of its placeholder; other values as they are."""
    if isinstance(value, _Unfinished) and value.descr is None:
        if value.value is None:
            raise _Damaged("an array without its state")
        return value.value
    return value


def _item(value: Any) -> Any:
    """A value as it may stand in a list: bytes (and Python 2's text) are views of the buffer until they get
    here."""
    value = _finished(value)
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, tuple):
        return tuple(bytes(part) if isinstance(part, memoryview) else part for part in value)
    if value is _MARK or isinstance(value, _Function | _Unfinished):
        raise _Damaged("an instruction among the values")
    return value


def _function(module: Any, name: Any) -> _Function:
    known = _FUNCTIONS.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if known is None:
        raise InputError(
            f"its pickle asks for {module}.{name}, expected nothing but arrays, lists, numbers and text."
        )
    return _Function(known)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Function) or not isinstance(arguments, tuple):
        raise _Damaged("calls what is no function")
    match function.name, arguments:
        case "new array", (_Function(name="ndarray"), _, _):
            return _Unfinished()
        case "dtype", (str() | memoryview() as descr, *_):
            return _Unfinished(descr if isinstance(descr, str) else str(descr, "ascii"))
        case "scalar", (_Unfinished() as dtype, memoryview() as raw):
            return _array((), _dtype(dtype), False, raw).item()
        case "encode", (str() as text, "latin1"):
            return memoryview(text.encode("latin1"))
    raise _Damaged(f"{function.name} with arguments of other kinds")


def _build(target: Any, state: Any) -> None:
    if not isinstance(target, _Unfinished) or not isinstance(state, tuple):
        raise _Damaged("a state for what takes none")
    if target.descr is not None:
        order = state[1] if isinstance(state[1], str) else str(state[1], "ascii")
        if any(part is not None for part in state[2:5]):
            raise _Damaged("a dtype with fields")
        if target.descr[0] not in "<>=|" and order in ("<", ">"):
            target.descr = order + target.descr
        return
    _, shape, dtype, fortran_order, raw = state
    if isinstance(dtype, _Unfinished) and dtype.descr in ("O8", "|O8", "O", "|O"):
        if not isinstance(raw, list) or math.prod(shape) != len(raw) or min(shape, default=0) < 0:
            raise _Damaged("an object array of another size")
        array = np.empty(len(raw), dtype=object)
        for index, item in enumerate(raw):
            array[index] = item
        target.value = array.reshape(shape, order="F" if fortran_order else "C")
    else:
        target.value = _array(shape, _dtype(dtype), bool(fortran_order), raw)


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Unfinished) or value.descr is None or not PLAIN_DTYPE.fullmatch(value.descr):
        raise _Damaged("an unknown dtype")
    return np.dtype(value.descr)


def _array(shape: Any, dtype: np.dtype[Any], fortran_order: bool, raw: Any) -> NDArray[Any]:
    if not isinstance(raw, memoryview) or not all(type(size) is int and size >= 0 for size in shape):
        raise _Damaged("an array without its data")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise _Damaged(f"an array of shape {shape} with {len(raw)} bytes")
    return np.ndarray(shape, dtype, raw, order="F" if fortran_order else "C")
