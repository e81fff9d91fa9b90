"""Writes TensorFlow checkpoints in the tensor-bundle format, for tests of the reader."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

_NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def masked_crc(data: bytes) -> int:
    """CRC-32C bit by bit, masked: slow, and independent of the reader's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def field(number: int, value: int | bytes) -> bytes:
    """A protocol-buffer field: a varint or a length-delimited one."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(dtype: int, shape: Iterable[int], offset: int, size: int, crc: int, shard: int = 0) -> bytes:
    """A BundleEntryProto; fields that are zero are left out, as protocol buffers do."""
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    parts = field(1, dtype) + field(2, dimensions)
    for number, value in ((3, shard), (4, offset), (5, size)):
        parts += field(number, value) if value else b""
    return parts + varint(6 << 3 | 5) + struct.pack("<I", crc)


def header(shards: int = 1, endianness: int = 0) -> bytes:
    return field(1, shards) + (field(2, endianness) if endianness else b"") + field(3, field(1, 1))


def block(pairs: Iterable[tuple[bytes, bytes]], restart_every: int = 16) -> bytes:
    """One block with prefix-compressed keys, restart points, compression type 0 and its checksum."""
    body, restarts, last = bytearray(), [], b""
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index % restart_every == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    content = bytes(body) + struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))
    return content + b"\0" + struct.pack("<I", masked_crc(content + b"\0"))


def table(pairs: list[tuple[bytes, bytes]], block_entries: int = 40) -> bytes:
    """A whole table file of sorted pairs."""
    out, index = bytearray(), []
    for start in range(0, len(pairs), block_entries):
        part = pairs[start : start + block_entries]
        data = block(part)
        index.append((part[-1][0], varint(len(out)) + varint(len(data) - 5)))
        out += data
    return with_index(bytes(out), index)


def with_index(blocks: bytes, index: list[tuple[bytes, bytes]]) -> bytes:
    """Add the meta-index, an index block of these handles, and the footer."""
    meta, pointers = block([]), block(index, restart_every=1)
    out = blocks + meta + pointers
    handles = (len(blocks), len(meta) - 5, len(blocks) + len(meta), len(pointers) - 5)
    footer = b"".join(varint(number) for number in handles)
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_checkpoint(prefix: Path, arrays: Mapping[str, np.ndarray], crc_of: object = None) -> None:
    """Write ``prefix.index`` and ``prefix.data-00000-of-00001``; ``crc_of`` replaces the slow checksum."""
    checksum = crc_of if callable(crc_of) else masked_crc
    pairs, data = [(b"", header())], bytearray()
    for name in sorted(arrays):
        array = arrays[name]
        content = array.tobytes()
        number = _NUMBERS[array.dtype.name]
        record = entry(number, array.shape, len(data), len(content), checksum(content))
        pairs.append((name.encode(), record))
        data += content
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(table(pairs))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(bytes(data))
