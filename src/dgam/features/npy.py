"""NumPy's ``.npy`` form, read so that no file, however damaged, brings more than an InputError.

Plain arrays are memory-mapped. Object arrays are pickles, which can run any code of whoever wrote them when
Python opens them. Here they are opened only for a caller who says the file is trusted, and even then not run:
``pickled`` picks the data out.
"""

from __future__ import annotations

import ast
import math
import mmap
import os
import re
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.features.pickled import PLAIN_DTYPE, load_objects

_MAGIC = b"\x93NUMPY"
# A matrix as np.save writes its head, which need not go through Python's parser.
_USUAL = re.compile(
    r"\{'descr': '([<>|][a-zA-Z]\d{1,2})', 'fortran_order': False, "
    r"'shape': \((\d{1,15}), (\d{1,15})\), \} *\n?"
)
_LONGEST_HEADER = 10_000
_PYTHON2_LONG = re.compile(r"(\d)L\b")
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Header:
    """What the head of a ``.npy`` file says; ``offset`` is the byte at which the data begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the whole file, head and data."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_header(path: str | os.PathLike[str]) -> Header:
    """The head of a ``.npy`` file. InputError where the file is missing, damaged or cut short."""
    with open_input(path) as file:
        header = parse_header(file, str(path))
        if not header.dtype.hasobject:
            _refuse_wrong_size(header, os.fstat(file.fileno()).st_size, str(path))
        return header


def map_array(path: str | os.PathLike[str], header: Header | None = None) -> NDArray[Any]:
    """The array of a ``.npy`` file, read-only and memory-mapped. InputError like :func:`read_header`.

    The file stays open as long as the array lives. An object array is an InputError: it is a pickle.
    """
    header = header or read_header(path)
    if header.dtype.hasobject:
        raise InputError(f"{path}: holds Python objects (a pickle), expected a plain array of numbers.")
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    try:
        if math.prod(header.shape) == 0:
            return np.empty(header.shape, header.dtype)
        with open_input(path) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.ndarray(header.shape, header.dtype, content, header.offset, order=order)
    except (OSError, ValueError, TypeError) as error:  # TypeError: too small a file for the array
        raise InputError(f"{path}: cannot be memory-mapped: {error}.") from error


def read_member(file: BinaryIO, where: str) -> NDArray[Any]:
    """The plain array of a ``.npy`` stream that cannot be mapped (a member of an ``.npz``), in memory."""
    header = parse_header(file, where)
    if header.dtype.hasobject:
        raise InputError(f"{where}: holds Python objects (a pickle), expected a plain array of numbers.")
    data = file.read()
    _refuse_wrong_size(header, header.offset + len(data), where)
    try:
        return np.ndarray(header.shape, header.dtype, data, order="F" if header.fortran_order else "C")
    except ValueError as error:
        raise InputError(f"{where}: its .npy head is damaged: {error}.") from error


def parse_header(file: BinaryIO, where: str) -> Header:
    """Read a ``.npy`` head from the start of ``file``, which is left at the data."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != _MAGIC:
        found = "is empty" if not start else f"begins with {start[:6]!r}"
        raise InputError(f"{where}: is not a NumPy .npy file: it {found}.")
    form = {1: "<H", 2: "<I", 3: "<I"}.get(start[6])
    if form is None:
        raise InputError(f"{where}: .npy version {start[6]}.{start[7]}, versions 1 to 3 are known.")
    size = file.read(struct.calcsize(form))
    length = struct.unpack(form, size)[0] if len(size) == struct.calcsize(form) else 0
    text = file.read(length) if length <= _LONGEST_HEADER else b""
    if not length or len(text) < length:
        raise InputError(f"{where}: its .npy head is damaged or cut short.")
    shape, dtype, fortran_order = _parse_fields(
        text.decode("utf-8" if start[6] == 3 else "latin1", "replace"), where
    )
    return Header(shape, dtype, fortran_order, 8 + len(size) + length)


def _parse_fields(text: str, where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    damaged = f"{where}: its .npy head is damaged: {text.strip()[:80]!r}."
    if (usual := _USUAL.fullmatch(text)) and PLAIN_DTYPE.fullmatch(usual[1]):
        return (int(usual[2]), int(usual[3])), np.dtype(usual[1]), False
    try:
        fields = ast.literal_eval(_PYTHON2_LONG.sub(r"\1", text.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise InputError(damaged) from None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise InputError(damaged)
    shape, order, descr = fields["shape"], fields["fortran_order"], fields["descr"]
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS or not isinstance(order, bool):
        raise InputError(damaged)
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
        raise InputError(damaged)
    if not isinstance(descr, str) or not (descr == "|O" or PLAIN_DTYPE.fullmatch(descr)):
        raise InputError(f"{where}: elements of type {str(descr)[:80]!r}, expected plain numbers.")
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: elements of unknown type {descr!r}, expected plain numbers.") from None
    return shape, dtype, order


def _refuse_wrong_size(header: Header, found: int, where: str) -> None:
    if found != header.size:
        state = "cut short" if found < header.size else "too long"
        raise InputError(
            f"{where}: is {state}: {found} bytes, its head promises {header.size} (shape {header.shape}, "
            f"{header.dtype})."
        )


def open_input(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading bytes; InputError says why it cannot be."""
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_objects(path: str | os.PathLike[str], *, trusted: bool) -> list[Any]:
    """The elements of a one-dimensional ``.npy`` object array (or the rows of a plain array), as a list.

    An object array is a pickle: without ``trusted`` it is an InputError. With it, whatever it holds other
    than arrays, lists, tuples, numbers, text and bytes is still refused. Python 2's text comes as bytes.
    Arrays inside are read-only and point into the memory-mapped file.
    """
    with open_input(path) as file:
        header = parse_header(file, str(path))
        if not header.dtype.hasobject:
            return list(map_array(path, read_header(path)))
        if not trusted:
            raise InputError(
                f"{path}: holds Python objects, that is a pickle, which can run code when it is opened. If "
                "you trust whoever made it, pass --trusted-pickle (trusted_pickle=True in Python)."
            )
    try:
        content = np.asarray(np.memmap(path, np.uint8, "r"))
        value = load_objects(content.data, header.offset)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be memory-mapped: {error}.") from error
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        raise InputError(f"{path}: expected a list of arrays, got a single {type(value).__name__}.")
    return list(value)
