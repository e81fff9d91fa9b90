"""What kernels over rows of snippets share."""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def matrix(at, stride, rows, columns, N: tl.constexpr, K: tl.constexpr):
    """A weight (rows, columns) as a block (N, K), zeros beyond it."""
    i, j = tl.arange(0, N), tl.arange(0, K)
    return tl.load(at + i[:, None] * stride + j[None, :], (i < rows)[:, None] & (j < columns)[None, :], 0.0)


@triton.jit
def vector(at, stride, count, N: tl.constexpr):
    """``count`` numbers as a block (N,) in float32, zeros beyond them."""
    i = tl.arange(0, N)
    return tl.load(at + i * stride, i < count, 0.0).to(tl.float32)


@triton.jit
def forth(x, weight):
    """x (R, K) through a layer's weight (N, K): (R, N) in float32."""
    return tl.dot(x, tl.trans(weight), input_precision="ieee")


@triton.jit
def back(by, weight):
    """A gradient (R, N) back through a layer's weight (N, K): (R, K) in float32."""
    return tl.dot(by, weight, input_precision="ieee")


@triton.jit
def added_up(parts, count, size, place, mask, P: tl.constexpr, B: tl.constexpr):
    """The sum of ``count`` rows of ``size`` numbers, at some places (B,) within a row."""
    total = tl.zeros((B,), tl.float32)
    for start in range(0, count, P):
        part = start + tl.arange(0, P)
        at = parts + part[:, None] * size + place[None, :]
        total += tl.sum(tl.load(at, (part < count)[:, None] & mask[None, :], 0.0), 0)
    return total


@triton.jit
def total_of(at, count, BLOCK: tl.constexpr):
    """The sum of ``count`` numbers that lie in a row."""
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        total += tl.load(at + i, i < count, 0.0)
    return tl.sum(total, 0)
