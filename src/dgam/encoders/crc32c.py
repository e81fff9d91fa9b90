"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of large arrays, in NumPy.

The checksum is linear over GF(2) in the data and in its start value, so a long input is cut into lanes that
are run side by side, and the lanes are joined by the matrix that moves a checksum past zero bytes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8  # LevelDB and TensorFlow store checksums rotated and offset by this
_LANE = 512  # bytes a lane has at least

Words = NDArray[np.uint32]


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of ``data`` (any contiguous bytes), 0 to 2³² − 1."""
    source = np.frombuffer(data, dtype=np.uint8)
    lanes = 1
    while lanes * _LANE < source.size:
        lanes *= 2
    length = -(-source.size // lanes)
    padded = np.zeros(lanes * length, dtype=np.uint8)  # leading zeros leave a checksum that starts at 0 alone
    padded[padded.size - source.size :] = source
    columns = np.ascontiguousarray(padded.reshape(lanes, length).T)  # (length, lanes)
    table = _byte_table()
    registers = np.zeros(lanes, dtype=np.uint32)
    for column in columns:
        registers = table[(registers ^ column) & 0xFF] ^ (registers >> np.uint32(8))
    shift = _past_zeros(length)
    while registers.size > 1:
        registers = _apply(shift, registers[0::2]) ^ registers[1::2]
        shift = _apply(shift, shift)
    start = _apply(_past_zeros(source.size), np.array([0xFFFFFFFF], dtype=np.uint32))
    return int(registers[0] ^ start[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum as table and bundle files store it: rotated right by 15 bits, plus a constant."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF


@lru_cache(maxsize=1)
def _byte_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    return table


@lru_cache(maxsize=256)  # a checkpoint has many variables of few sizes
def _past_zeros(count: int) -> Words:
    """The matrix, as the images of the 32 unit vectors, that moves a register past ``count`` zero bytes."""
    result = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))  # the identity
    table = _byte_table()
    power = table[result & 0xFF] ^ (result >> np.uint32(8))  # one zero byte
    while count:
        if count & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        count >>= 1
    return result


def _apply(matrix: Words, vectors: Words) -> Words:
    result = np.zeros_like(vectors)
    for bit in range(32):
        result ^= np.where((vectors >> np.uint32(bit)) & 1, matrix[bit], np.uint32(0))
    return result
