"""Triton kernels for networks with channels last: bias and ReLU, and max pools, each in one pass over memory.

Needs Triton, which comes with PyTorch's builds for GPUs; imported only where it runs.

A tensor (B, C, T, H, W) with channels last is a table of rows (places) by columns (channels); ``stride`` is
the distance of two rows, so that a table may be some of the channels of a wider one.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def bias_relu(x, bias, out, rows, stride, out_stride, BR: tl.constexpr, BC: tl.constexpr):
    """max(x + bias, 0) of BR rows, program_id(0), and BC channels, program_id(1)."""
    row = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)[:, None]
    channel = tl.program_id(1) * BC + tl.arange(0, BC)[None, :]
    there = row < rows
    value = tl.load(x + row * stride + channel, there, 0.0).to(tl.float32)
    value = tl.maximum(value + tl.load(bias + channel), 0.0)
    tl.store(out + row * out_stride + channel, value.to(out.dtype.element_ty), there)


@triton.jit
def max_pool(
    x, bias, out, rows, stride, length, height, width, frames, lines, places, t0, y0, x0,
    KT: tl.constexpr, KS: tl.constexpr, ST: tl.constexpr, SS: tl.constexpr, BIAS: tl.constexpr,
    BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Max over windows of KT × KS × KS at strides ST, SS, SS, the first of which begins t0, y0, x0 outside.

    From (length, height, width) to (frames, lines, places). With BIAS, the bias is added afterwards and what
    is negative set to 0, which is the same as before the pool.
    """
    row = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)[:, None]
    channel = tl.program_id(1) * BC + tl.arange(0, BC)[None, :]
    there = row < rows
    column = (row % places) * SS - x0
    line = (row // places % lines) * SS - y0
    frame = (row // (places * lines) % frames) * ST - t0
    clip = row // (places * lines * frames)
    most = tl.full((BR, BC), float("-inf"), tl.float32)
    for t in tl.static_range(KT):
        for i in tl.static_range(KS):
            for j in tl.static_range(KS):
                inside = (frame + t >= 0) & (frame + t < length)
                inside = inside & (line + i >= 0) & (line + i < height)
                inside = inside & (column + j >= 0) & (column + j < width)
                at = ((clip * length + frame + t) * height + line + i) * width + column + j
                value = tl.load(x + at * stride + channel, there & inside, float("-inf"))
                most = tl.maximum(most, value.to(tl.float32))
    if BIAS:
        most = tl.maximum(most + tl.load(bias + channel), 0.0)
    tl.store(out + row * (tl.num_programs(1) * BC) + channel, most.to(out.dtype.element_ty), there)
