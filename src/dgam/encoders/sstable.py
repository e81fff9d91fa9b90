"""Reader of LevelDB-style sorted tables, the container of TensorFlow's ``.index`` files.

A table is a row of blocks, an index block that points at them, and a 48-byte footer that points at the
index. In a block every key is written as how much it shares with the key before, and the rest. The file is
not trusted: every length and offset is checked before it is used, and every block's checksum is compared.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dgam.core.errors import InputError
from dgam.encoders.crc32c import masked_crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # compression type, checksum
_MAX_ENTRIES = 100_000
_MAX_KEY = 1024


def read_table(data: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table in rising order of keys. InputError, naming ``where``, if it is damaged."""
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise damaged(
            where, "it does not end in the mark of a table file, so it is no index file or cut short"
        )
    footer = Cursor(data[-_FOOTER:-8], where)
    footer.varint(), footer.varint()  # the meta-index block, which holds nothing needed here
    index = _block(data, footer.varint(), footer.varint(), where)
    read_to = entries = 0
    last_key: bytes | None = None
    for _, handle in _entries(index, where):
        cursor = Cursor(handle, where)
        offset, size = cursor.varint(), cursor.varint()
        if offset < read_to:
            raise damaged(where, "two of its blocks overlap")
        read_to = offset + size + _TRAILER
        for key, value in _entries(_block(data, offset, size, where), where):
            if last_key is not None and key <= last_key:
                raise damaged(where, f"its keys are out of order at {key[:80]!r}")
            entries += 1
            if entries > _MAX_ENTRIES:
                raise damaged(where, f"it has more than {_MAX_ENTRIES} entries")
            last_key = key
            yield key, value


def damaged(where: str, what: str) -> InputError:
    """The error for a checkpoint file whose content cannot be right."""
    return InputError(f"{where}: {what}. Get the file again, with 'dgam weights get' or from where it came.")


class Cursor:
    """Reads numbers and byte strings off ``data`` from the front; InputError past the end."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def varint(self) -> int:
        """A little-endian base-128 number below 2⁶⁴."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                return value
        raise damaged(self._where, "a number in it is longer than 64 bits")

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise damaged(self._where, "a record in it runs past its end")
        piece = self._data[self._at : end]
        self._at = end
        return piece


def _block(data: bytes, offset: int, size: int, where: str) -> bytes:
    end = offset + size
    if end + _TRAILER > len(data) - _FOOTER:
        raise damaged(where, "a block of it lies outside the file")
    (stored,) = struct.unpack_from("<I", data, end + 1)
    if masked_crc32c(data[offset : end + 1]) != stored:
        raise damaged(where, f"the checksum of its block at byte {offset} is wrong")
    if data[end] != 0:
        raise damaged(
            where, f"its block at byte {offset} is compressed (type {data[end]}), which is not supported"
        )
    return data[offset:end]


def _entries(block: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise damaged(where, "a block of it is too short")
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    if 4 * restarts + 4 > len(block):
        raise damaged(where, "a block of it has more restart points than room")
    cursor = Cursor(block[: len(block) - 4 - 4 * restarts], where)
    key = b""
    while cursor:
        shared, rest, size = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + rest > _MAX_KEY:
            raise damaged(where, "a key in it has an impossible length")
        key = key[:shared] + cursor.take(rest)
        yield key, cursor.take(size)
