"""Stage (b), equation 10: the CVAE there and back, and what its weights' gradients are made of.

What a layer leaves for them lies in ``work`` (slots, E, n, W), in columns of zeros where a layer is narrower
than W: FIRST and SECOND are the encoder's hidden units, DECODED_FIRST and DECODED_SECOND the decoder's; BY_…
are gradients by what they are named after, in units of the loss that ``numbers.UNIT`` names. Half of those by
the decoder's output is meant.
"""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from collections.abc import Mapping
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from dgam.kernels.blocks import added_up, back, forth, matrix, vector
from dgam.kernels.first import Packed
from dgam.kernels.numbers import DISCREPANCY, RATIO, number

FORTH = {"R": 64, "num_warps": 4}  # snippets of a block; those that measured best on an H200
BACK = {"R": 128, "num_warps": 8}
SLOTS = 10

FIRST = tl.constexpr(0)
SECOND = tl.constexpr(1)
MEAN = tl.constexpr(2)  # μ, then the gradient by it
SPREAD = tl.constexpr(3)  # log σ², then the gradient by it
Z = tl.constexpr(4)
DECODED_FIRST = tl.constexpr(5)
DECODED_SECOND = tl.constexpr(6)
BY_SECOND = tl.constexpr(7)
BY_FIRST = tl.constexpr(8)
BY_HIDDEN = tl.constexpr(9)


@triton.jit
def _forward(
    entry, attention, noise, numbers, of_lambda, inner, inner_bias, to_z, to_z_bias, from_z, from_z_bias,
    by_lambda, last, last_bias, work, sums, kl, n, hidden, latent, x_e, x_n, s, i_e, o_m, slot,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, W)
    row = tl.program_id(0) * R + tl.arange(0, R)
    there = row < n
    rows = there[:, None] & (column < W)[None, :]
    at = work + (e * n + row)[:, None] * W + column[None, :]
    slot = tl.cast(slot, tl.int64)  # of many members, ten of them are more than 2³¹ numbers
    dtype: tl.constexpr = work.dtype.element_ty
    lam = tl.load(attention + e * n + row, there, 0.0)

    first = tl.load(
        entry + e * x_e + row[:, None] * x_n + column[None, :],
        there[:, None] & (column < hidden)[None, :],
        0.0,
    ).to(tl.float32)
    first += lam[:, None] * vector(of_lambda + e * s, o_m, hidden, W)[None, :]
    first = tl.maximum(first, 0.0).to(dtype)
    tl.store(at + FIRST * slot, first, rows)
    second = forth(first, matrix(inner + e * i_e, hidden, hidden, hidden, W, W))
    second = tl.maximum(second + vector(inner_bias + e * s, 1, hidden, W)[None, :], 0.0).to(dtype)
    tl.store(at + SECOND * slot, second, rows)

    mean = forth(second, matrix(to_z + e * i_e, hidden, latent, hidden, W, W))
    mean += vector(to_z_bias + e * s, 1, latent, W)[None, :]
    tl.store(at + MEAN * slot, mean.to(dtype), rows)
    gap = mean - (lam * number(numbers, e, DISCREPANCY))[:, None]
    spread = forth(second, matrix(to_z + e * i_e + latent * hidden, hidden, latent, hidden, W, W))
    spread += vector(to_z_bias + e * s + latent, 1, latent, W)[None, :]
    tl.store(at + SPREAD * slot, spread.to(dtype), rows)
    deviation = tl.exp(0.5 * spread)
    known = there[:, None] & (column < latent)[None, :]
    twice = tl.where(known, gap * gap + deviation * deviation - 1.0 - spread, 0.0)
    tl.store(kl + e * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.sum(twice, 1), 0))
    eps = tl.load(noise + (e * n + row)[:, None] * latent + column[None, :], known, 0.0)
    z = (mean + deviation * eps.to(tl.float32)).to(dtype)
    tl.store(at + Z * slot, z, rows)

    first = forth(z, matrix(from_z + e * hidden * latent, latent, hidden, latent, W, W))
    first += lam[:, None] * vector(by_lambda + (e * 2 + 1) * hidden, 1, hidden, W)[None, :]
    first += vector(from_z_bias + e * s, 1, hidden, W)[None, :]
    first = tl.maximum(first, 0.0).to(dtype)
    tl.store(at + DECODED_FIRST * slot, first, rows)
    second = forth(first, matrix(last + e * i_e, hidden, hidden, hidden, W, W))
    second = tl.maximum(second + vector(last_bias + e * s, 1, hidden, W)[None, :], 0.0).to(dtype)
    tl.store(at + DECODED_SECOND * slot, second, rows)
    second = tl.where(there[:, None], second.to(tl.float32), 0.0)
    tl.store(sums + (e * tl.num_programs(0) + tl.program_id(0)) * W + column, tl.sum(second, 0))


@triton.jit
def _middle(sums, mean, count, rows, R: tl.constexpr, W: tl.constexpr, B: tl.constexpr, ROUND: tl.constexpr):
    """The mean of rows of sums (E, rows, W), rounded as features are, in float32."""
    e, column = tl.program_id(1).to(tl.int64), tl.program_id(0) * B + tl.arange(0, B)
    total = added_up(sums + e * rows * W, rows, W, column, column < W, R, B)
    tl.store(mean + e * W + column, (total / count).to(ROUND).to(tl.float32), column < W)


@triton.jit
def _backward(
    gap, attention, noise, numbers, inner, to_z, from_z, last, gram, mean, work, beyond,
    n, hidden, latent, x_e, x_n, i_e, slot, R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, W)
    row = tl.program_id(0) * R + tl.arange(0, R)
    there = row < n
    rows = there[:, None] & (column < W)[None, :]
    at = work + (e * n + row)[:, None] * W + column[None, :]
    ahead = beyond + (e * n + row)[:, None] * (2 * W) + column[None, :]
    slot = tl.cast(slot, tl.int64)
    dtype: tl.constexpr = work.dtype.element_ty
    # Loads well before they are needed: a block has nothing else to do while it waits for them.
    second = tl.load(at + DECODED_SECOND * slot, rows, 0.0)
    g = tl.load(
        gap + e * x_e + row[:, None] * x_n + column[None, :],
        there[:, None] & (column < hidden)[None, :],
        0.0,
    )
    square = matrix(gram + e * hidden * hidden, hidden, hidden, hidden, W, W)
    first = tl.load(at + DECODED_FIRST * slot, rows, 0.0)
    of_last = matrix(last + e * i_e, hidden, hidden, hidden, W, W)
    lam = tl.load(attention + e * n + row, there, 0.0)
    ratio = number(numbers, e, RATIO)
    prior = (lam * number(numbers, e, DISCREPANCY))[:, None]
    centred = (second.to(tl.float32) - tl.load(mean + e * W + column)[None, :]).to(dtype)
    tl.store(ahead + W, centred, rows)

    by = back(second, square) + g.to(tl.float32)
    by_second = tl.where(second > 0, by, 0.0).to(dtype)
    of_entry = matrix(from_z + e * hidden * latent, latent, hidden, latent, W, W)
    known = there[:, None] & (column < latent)[None, :]
    eps = tl.load(noise + (e * n + row)[:, None] * latent + column[None, :], known, 0.0)
    spread = tl.load(at + SPREAD * slot, rows, 0.0)
    middle = tl.load(at + MEAN * slot, rows, 0.0)
    tl.store(at + BY_SECOND * slot, by_second, rows)

    by = back(by_second, of_last)
    by_first = tl.where(first > 0, by, 0.0).to(dtype)
    of_spread = matrix(to_z + e * i_e + latent * hidden, hidden, latent, hidden, W, W)
    of_mean = matrix(to_z + e * i_e, hidden, latent, hidden, W, W)
    second = tl.load(at + SECOND * slot, rows, 0.0)
    tl.store(at + BY_FIRST * slot, by_first, rows)

    by = back(by_first, of_entry)
    of_inner = matrix(inner + e * i_e, hidden, hidden, hidden, W, W)
    first = tl.load(at + FIRST * slot, rows, 0.0)
    deviation = tl.exp(0.5 * spread.to(tl.float32))
    by_spread = 0.5 * (ratio * (deviation * deviation - 1.0) + by * eps.to(tl.float32) * deviation)
    by_spread = tl.where(known, by_spread, 0.0).to(dtype)
    tl.store(at + SPREAD * slot, by_spread, rows)
    by_mean = by + ratio * (middle.to(tl.float32) - prior)
    by_mean = tl.where(known, by_mean, 0.0).to(dtype)
    tl.store(at + MEAN * slot, by_mean, rows)

    by = back(by_spread, of_spread) + back(by_mean, of_mean)
    by_hidden = tl.where(second > 0, by, 0.0).to(dtype)
    tl.store(at + BY_HIDDEN * slot, by_hidden, rows)
    by = back(by_hidden, of_inner)
    by_entry = tl.where(first > 0, by, 0.0).to(dtype)
    tl.store(ahead, by_entry, rows)


@dataclass(frozen=True)
class Generated:
    """Of the way there: the mean of DECODED_SECOND as it is rounded (E, W), twice the KL of blocks
    (E, blocks)."""

    mean: Tensor
    kl: Tensor


def forward(
    entry: Tensor,
    attention: Tensor,
    noise: Tensor,
    numbers: Tensor,
    packed: Packed,
    weights: Mapping[str, Tensor],
    rounded: Mapping[str, Tensor],
    work: Tensor,
) -> Generated:
    """From the encoder's first layer but for λ (E, n, hidden), λ (E, n) and noise (E, n, latent) to the
    decoder's last hidden units; every layer is left in ``work`` (slots, E, n, W)."""
    members, n, hidden = entry.shape
    latent, blocks, wide = noise.shape[2], triton.cdiv(n, FORTH["R"]), work.shape[3]
    of_lambda = weights["cvae.encode_x.weight"][..., -1]
    inner, bias = rounded["cvae.encode_hidden.weight"], weights["cvae.encode_hidden.bias"]
    sums, kl = attention.new_empty(members, blocks, wide), attention.new_empty(members, blocks)
    _forward[(blocks, members)](
        entry, attention, noise, numbers, of_lambda, inner, bias, rounded["cvae.encode_z.weight"],
        weights["cvae.encode_z.bias"], packed.entry, weights["cvae.decode_z.bias"], packed.by_lambda,
        rounded["cvae.decode_hidden.weight"], weights["cvae.decode_hidden.bias"], work, sums, kl,
        n, hidden, latent, *entry.stride()[:2], bias.stride(0), inner.stride(0), of_lambda.stride(1),
        work.stride(0), W=wide, **FORTH,
    )  # fmt: skip
    mean = attention.new_empty(members, wide)
    _middle[(triton.cdiv(wide, 16), members)](sums, mean, n, blocks, R=128, W=wide, B=16, ROUND=_triton(work))
    return Generated(mean, kl)


def backward(
    gap: Tensor,
    attention: Tensor,
    noise: Tensor,
    numbers: Tensor,
    packed: Packed,
    rounded: Mapping[str, Tensor],
    gram: Tensor,
    mean: Tensor,
    work: Tensor,
    beyond: Tensor,
) -> None:
    """And back: gradients are left in ``work``, and side by side in ``beyond`` (E, n, 2·W) that by the
    encoder's first layer, and DECODED_SECOND less its ``mean``."""
    members, n, hidden = gap.shape
    blocks, wide, inner = triton.cdiv(n, BACK["R"]), work.shape[3], rounded["cvae.encode_hidden.weight"]
    _backward[(blocks, members)](
        gap, attention, noise, numbers, inner, rounded["cvae.encode_z.weight"], packed.entry,
        rounded["cvae.decode_hidden.weight"], gram, mean, work, beyond,
        n, hidden, noise.shape[2], *gap.stride()[:2], inner.stride(0), work.stride(0), W=wide, **BACK,
    )  # fmt: skip


def _triton(x: Tensor) -> tl.dtype:
    return {2: tl.bfloat16, 4: tl.float32}[x.element_size()]
