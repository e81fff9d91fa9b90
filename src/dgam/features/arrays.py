"""Where the features of one video and stream lie, and how they are got from there.

Three kinds of place (a ``.npy`` file or some columns of it, a member of an ``.npz``, memory) offer the same
two methods, so that the layouts above need not know which they hold.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError, Problem
from dgam.features.npy import map_array, open_input, parse_header, read_header, read_member
from dgam.features.source import Array, FeatureSource

_CHUNK = 1 << 22  # elements looked at together in the search for NaN
_NATIVE = ("float16", "float32", "float64")


class Place(Protocol):
    """Features of one video in one stream."""

    @property
    def where(self) -> str:
        """The file, for messages."""
        ...

    def shape(self) -> tuple[int, int]:
        """(T, d), without reading the features. InputError where there is no such array of floats."""
        ...

    def load(self) -> Array:
        """The features (T, d), float16, float32 or float64 as they are kept, not to be written to."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns ``start`` to ``stop`` of arrays that must be ``width`` wide."""

    start: int
    stop: int
    width: int

    def cut(self, shape: tuple[int, int], where: str) -> tuple[int, int]:
        """The shape of these columns of an array of ``shape``. InputError for another width."""
        if shape[1] != self.width:
            raise InputError(
                f"{where}: has {shape[1]} columns, expected {self.width} for the joined streams."
            )
        return shape[0], self.stop - self.start


@dataclass(frozen=True, slots=True)
class NpyPlace:
    """A ``.npy`` file, memory-mapped, or some of its columns."""

    where: str
    columns: Columns | None = None

    def shape(self) -> tuple[int, int]:
        header = read_header(self.where)
        shape = features_shape(header.shape, header.dtype, self.where)
        return self.columns.cut(shape, self.where) if self.columns else shape

    def load(self) -> Array:
        header = read_header(self.where)
        features_shape(header.shape, header.dtype, self.where)
        return _cut(map_array(self.where, header), self.columns, self.where)


@dataclass(frozen=True, slots=True)
class NpzPlace:
    """One array of an ``.npz`` archive, read into memory."""

    file: str
    key: str

    @property
    def where(self) -> str:
        return f"{self.file}[{self.key}]"

    def shape(self) -> tuple[int, int]:
        with _archive(self.file) as archive, archive.open(f"{self.key}.npy") as member:
            # A zip member reads like a file, but is annotated as IO[bytes].
            # For mypy: a file in a zip reads like a file.
            header = parse_header(member, self.where)  # type: ignore[arg-type]
        return features_shape(header.shape, header.dtype, self.where)

    def load(self) -> Array:
        with _archive(self.file) as archive:
            array = read_member(io.BytesIO(archive.read(f"{self.key}.npy")), self.where)
        features_shape(array.shape, array.dtype, self.where)
        return _cut(array, None, self.where)


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """An array in memory, or some of its columns; ``where`` says where it came from."""

    where: str
    array: Any
    columns: Columns | None = None

    def shape(self) -> tuple[int, int]:
        if not isinstance(self.array, np.ndarray):
            raise InputError(f"{self.where}: expected an array, got {type(self.array).__name__}.")
        shape = features_shape(self.array.shape, self.array.dtype, self.where)
        return self.columns.cut(shape, self.where) if self.columns else shape

    def load(self) -> Array:
        self.shape()
        view = self.array.view()
        view.flags.writeable = False
        return _cut(view, self.columns, self.where)


def npz_keys(path: str) -> list[str]:
    """Names of the arrays in an ``.npz`` archive, in its order. InputError where it cannot be read."""
    with _archive(path) as archive:
        return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def features_shape(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> tuple[int, int]:
    """``shape`` if it is that of snippet features, (T, d) with d > 0, and the numbers are floats; else
    InputError."""
    if len(shape) != 2 or shape[1] < 1:
        raise InputError(
            f"{where}: has shape {shape}, expected (T, d): one row for each snippet, one column a feature."
        )
    if dtype.newbyteorder("=").name not in _NATIVE:
        raise InputError(f"{where}: holds {dtype} numbers, expected float16, float32 or float64.")
    return shape[0], shape[1]


def non_finite(array: Array) -> tuple[int, int, int] | None:
    """Snippet and dimension of the first NaN or infinity of a (T, d) array and their count; None without any.

    Looks at a few MiB at a time, so that a memory-mapped array never needs to fit into memory.
    """
    rows = max(1, _CHUNK // max(array.shape[1], 1))
    first: tuple[int, int] | None = None
    count = 0
    for start in range(0, array.shape[0], rows):
        bad = _not_finite(array[start : start + rows])  # (rows, d)
        found = int(np.count_nonzero(bad))
        if found and first is None:
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            first = start + int(row), int(column)
        count += found
    return (*first, count) if first else None


def all_finite(array: Array) -> bool:
    """Whether (T, d) features hold neither NaN nor infinity; as fast as they can be read."""
    rows = max(1, _CHUNK // max(array.shape[1], 1))
    for start in range(0, array.shape[0], rows):
        block = array[start : start + rows]  # (rows, d)
        if block.dtype != np.float16 and block.flags.c_contiguous:
            flat = block.reshape(-1)  # (rows · d,)
            with np.errstate(over="ignore", invalid="ignore"):
                squares = np.dot(flat, flat)
            if math.isfinite(squares):  # or else one is not finite, or they are but huge
                continue
        if _not_finite(block).any():
            return False
    return True


def _not_finite(block: Array) -> NDArray[np.bool_]:
    if block.dtype == np.float16:  # all bits of the exponent set; many times faster than isfinite on halves
        bits = block.view(np.uint16)  # (rows, d)
        exponent = np.uint16(0x7C00)
        bad: NDArray[np.bool_] = (bits & exponent) == exponent
    else:
        bad = ~np.isfinite(block)
    return bad


def defect(array: Array, dimension: int) -> str | None:
    """What makes features (T, d) unusable, in words: none at all, another dimension, NaN or infinity; else
    None."""
    if array.shape[0] == 0:
        return "has no snippets (T = 0)."
    if array.shape[1] != dimension:
        return f"has {array.shape[1]} features a snippet, expected {dimension}."
    if found := non_finite(array):
        row, column, count = found
        return (
            f"holds {count} NaN or infinite value{'s' * (count > 1)}, the first ({array[row, column]}) at "
            f"snippet {row}, dimension {column}."
        )
    return None


def where_of(source: FeatureSource, video: str, stream: str) -> str:
    """The file with a video's features, for messages; the source's name where it has no files."""
    where = getattr(source, "where", None)
    return str(where(video, stream)) if where else source.name


def as_problem(error: InputError, where: str, video: str) -> Problem:
    """An error met while reading ``where``, as a Problem; another file that it names takes its place."""
    text = str(error)
    named, separator, what = text.partition(": ")
    if separator and named != where and os.path.exists(named):
        return Problem(named, what, video)
    return Problem(where, text.removeprefix(f"{where}: "), video)


def _cut(array: NDArray[Any], columns: Columns | None, where: str) -> Array:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
        array.flags.writeable = False
    if columns is None:
        return array
    columns.cut((array.shape[0], array.shape[1]), where)
    return array[:, columns.start : columns.stop]  # (T, d of the stream)


@contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
    with open_input(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except InputError:
            raise
        except Exception as error:  # a damaged archive can raise anything
            detail = f"{type(error).__name__}: {str(error)[:200]}"
            raise InputError(f"{path}: is not a readable .npz archive ({detail}).") from error
