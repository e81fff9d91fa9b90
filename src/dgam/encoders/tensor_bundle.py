"""Reader of TensorFlow checkpoints in the tensor-bundle format (``X.index`` and ``X.data-00000-of-00001``).

The index is a sorted table from a variable's name to a small protocol buffer that says its type, its shape
and where its bytes lie. Only what checkpoints of plain variables use is read; no TensorFlow is needed.
Neither file is trusted: bounds and checksums are checked, and memory stays within the files' size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.encoders.crc32c import masked_crc32c
from dgam.encoders.sstable import Cursor, damaged, read_table

_MAX_INDEX_BYTES = 16 << 20
_MAX_DIMENSIONS = 16
_MAX_BYTES = 1 << 62
# TensorFlow's numbers of data types (types.proto) that can be read.
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
_SIZES = {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 9: 8, 10: 1, 14: 2, 17: 2, 19: 2, 22: 4, 23: 8}

Fields = dict[int, list[int | bytes]]


@dataclass(frozen=True)
class BundleEntry:
    """Where one variable lies: ``size`` bytes from ``offset`` in data file ``shard``; ``crc`` is masked
    CRC-32C.

    ``dtype`` is TensorFlow's number of the type. ``sliced`` variables are spread over other entries.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool = False


class TensorBundle:
    """A checkpoint opened by its prefix (the path without ``.index``).

    Raises InputError where the index file is missing or damaged. The data file is opened by :meth:`read`.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = os.fspath(prefix)
        self._where = f"{self.prefix}.index"
        table = dict(read_table(_read_small(Path(self._where)), self._where))
        if b"" not in table:
            raise damaged(self._where, "it has no header entry, so it is no checkpoint index")
        header = _fields(table.pop(b""), self._where)
        self.shards = _number(header, 1, 1)
        if not 1 <= self.shards <= 1000:
            raise damaged(self._where, f"it speaks of {self.shards} data files")
        if _number(header, 2, 0) != 0:
            raise damaged(self._where, "its numbers are big-endian, which is not supported")
        self.entries: Mapping[str, BundleEntry] = MappingProxyType(
            {_text(key, self._where): self._entry(key, value) for key, value in table.items()}
        )

    def read(self, name: str) -> NDArray[Any]:
        """One variable as a new array. KeyError for an unknown name.

        InputError where the data file is missing or too short, the checksum is wrong, or the variable has
        a type that is not read.
        """
        entry = self.entries[name]
        path = f"{self.prefix}.data-{entry.shard:05d}-of-{self.shards:05d}"
        if entry.sliced or entry.dtype not in _DTYPES:
            raise InputError(
                f"{self._where}: variable {name!r} is of a kind that is not read (type {entry.dtype})."
            )
        try:
            with open(path, "rb") as file:
                length = os.fstat(file.fileno()).st_size
                if entry.offset + entry.size > length:
                    raise damaged(
                        path,
                        f"variable {name!r} ends at byte {entry.offset + entry.size}, the file at {length}",
                    )
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read: {error.strerror}. A checkpoint is two files, .index and .data-…, "
                f"side by side."
            ) from error
        if len(data) != entry.size or masked_crc32c(data) != entry.crc:
            raise damaged(path, f"the checksum of variable {name!r} is wrong")
        return np.frombuffer(data, dtype=_DTYPES[entry.dtype]).reshape(entry.shape).copy()

    def _entry(self, key: bytes, value: bytes) -> BundleEntry:
        name = _text(key, self._where)
        fields = _fields(value, self._where)
        entry = BundleEntry(
            dtype=_number(fields, 1, 0),
            shape=_shape(_message(fields, 2), self._where),
            shard=_number(fields, 3, 0),
            offset=_number(fields, 4, 0),
            size=_number(fields, 5, 0),
            crc=_number(fields, 6, 0),
            sliced=bool(fields.get(7)),
        )
        if entry.shard >= self.shards or entry.offset > _MAX_BYTES or entry.size > _MAX_BYTES:
            raise damaged(self._where, f"variable {name!r} lies in a place that cannot be")
        width = _SIZES.get(entry.dtype)
        if not entry.sliced and width is not None and math.prod(entry.shape) * width != entry.size:
            raise damaged(
                self._where, f"variable {name!r} of shape {entry.shape} cannot have {entry.size} bytes"
            )
        return entry


def _read_small(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_INDEX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}. Name a checkpoint by the path without '.index'."
        ) from error
    if len(data) > _MAX_INDEX_BYTES:
        raise damaged(str(path), f"it is larger than {_MAX_INDEX_BYTES >> 20} MiB, which no index file is")
    return data


def _fields(data: bytes, where: str) -> Fields:
    """The fields of a protocol-buffer message by number: integers, and byte strings for what is nested."""
    fields: Fields = {}
    cursor = Cursor(data, where)
    while cursor:
        tag = cursor.varint()
        match tag & 7:
            case 0:
                value: int | bytes = cursor.varint()
            case 1:
                value = int.from_bytes(cursor.take(8), "little")
            case 2:
                value = cursor.take(cursor.varint())
            case 5:
                value = int.from_bytes(cursor.take(4), "little")
            case kind:
                raise damaged(where, f"a record in it has the unknown wire type {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: Fields, number: int, default: int) -> int:
    value = fields.get(number, [default])[-1]
    return value if isinstance(value, int) else -1  # −1 fits no check that follows


def _message(fields: Fields, number: int) -> bytes:
    value = fields.get(number, [b""])[-1]
    return value if isinstance(value, bytes) else b""


def _shape(message: bytes, where: str) -> tuple[int, ...]:
    sizes = []
    for dimension in _fields(message, where).get(2, []):
        if not isinstance(dimension, bytes):
            raise damaged(where, "a shape in it cannot be read")
        size = _number(_fields(dimension, where), 1, 0)
        if not 0 <= size < 1 << 40:
            raise damaged(where, f"a shape in it has the impossible size {size}")
        sizes.append(size)
    if len(sizes) > _MAX_DIMENSIONS:
        raise damaged(where, f"a shape in it has {len(sizes)} dimensions")
    return tuple(sizes)


def _text(key: bytes, where: str) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(where, f"the variable name {key[:80]!r} is no UTF-8") from error
