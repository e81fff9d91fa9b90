"""Sums over snippets: products of two layers in ``work`` of ``posterior``, and their way to the gradients."""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from dgam.kernels.blocks import added_up
from dgam.kernels.numbers import CVAE_WEIGHT, UNIT, number
from dgam.kernels.posterior import (
    BY_FIRST,
    BY_HIDDEN,
    BY_SECOND,
    DECODED_FIRST,
    FIRST,
    MEAN,
    SECOND,
    SPREAD,
    Z,
)

_ROWS = 64  # snippets at a time
_PROGRAMS = 132  # of all members together, about
_PRODUCTS = 6
PRODUCTS = tl.constexpr(_PRODUCTS)


@triton.jit
def _outer(work, beyond, parts, sums, n, slot, length, R: tl.constexpr, W: tl.constexpr):
    """Products of two layers over some snippets, and the left one's sums."""
    part, k, e = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    left = tl.where(k == 1, BY_SECOND, tl.where(k == 2, BY_FIRST, tl.where(k == 3, MEAN, SPREAD)))
    left = tl.where(k == 5, BY_HIDDEN, left)
    right = tl.where(k == 1, DECODED_FIRST, tl.where(k == 2, Z, tl.where(k == 5, FIRST, SECOND)))
    column, slot = tl.arange(0, W), tl.cast(slot, tl.int64)
    a, b, stride = work + left * slot + e * n * W, work + right * slot + e * n * W, W
    if k == 0:  # the centred layer lies beside another
        a, b, stride = beyond + e * n * 2 * W + W, beyond + e * n * 2 * W + W, 2 * W
    total, gathered = tl.zeros((W, W), tl.float32), tl.zeros((R, W), tl.float32)
    end = tl.minimum(n, (part + 1) * length)
    for start in range(part * length, end, R):
        row = start + tl.arange(0, R)
        mask = (row < end)[:, None] & (column < W)[None, :]
        place = row[:, None] * stride + column[None, :]
        x = tl.load(a + place, mask, 0.0)
        y = tl.load(b + place, mask, 0.0)
        total = tl.dot(tl.trans(x), y, total, input_precision="ieee")
        gathered += x.to(tl.float32)
    place = (e * PRODUCTS + k) * tl.num_programs(0) + part
    tl.store(parts + place * W * W + column[:, None] * W + column[None, :], total)
    tl.store(sums + place * W + column, tl.sum(gathered, 0))


@triton.jit
def own_factor(numbers, share, e):
    """What the CVAE's gradients of a member have yet to be multiplied by."""
    unit = number(numbers, e, UNIT)
    return unit * number(numbers, e, CVAE_WEIGHT) * tl.load(share + e)


@triton.jit
def _weigh(work, beyond, attention, sums, n, slot, length, R: tl.constexpr, W: tl.constexpr):
    """Sums over some snippets of λ·BY_FIRST, of the gradient by the encoder's first layer, of λ times it."""
    part, e, column = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.arange(0, W)
    slot = tl.cast(slot, tl.int64)
    of_first, of_entry = tl.zeros((R, W), tl.float32), tl.zeros((R, W), tl.float32)
    weighed = tl.zeros((R, W), tl.float32)
    end = tl.minimum(n, (part + 1) * length)
    for start in range(part * length, end, R):
        row = start + tl.arange(0, R)
        mask = (row < end)[:, None] & (column < W)[None, :]
        lam = tl.load(attention + e * n + row, row < end, 0.0)[:, None]
        by = tl.load(work + BY_FIRST * slot + (e * n + row)[:, None] * W + column[None, :], mask, 0.0)
        of_first += by.to(tl.float32) * lam
        by = tl.load(beyond + (e * n + row)[:, None] * (2 * W) + column[None, :], mask, 0.0).to(tl.float32)
        of_entry += by
        weighed += by * lam
    at = sums + (e * 3 * tl.num_programs(0) + part) * W + column
    tl.store(at, tl.sum(of_first, 0))
    tl.store(at + tl.num_programs(0) * W, tl.sum(of_entry, 0))
    tl.store(at + 2 * tl.num_programs(0) * W, tl.sum(weighed, 0))


@triton.jit
def _fold(
    parts, sums, gradients, squares, gathered, places, numbers, share, count, g,
    W: tl.constexpr, B: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Products into the weights' gradients, the first of them into ``squares``; the sums of their left sides,
    which the last programs have, into the biases', the first into ``gathered``."""
    k, e = tl.program_id(1), tl.program_id(2).to(tl.int64)
    factor = own_factor(numbers, share, e)
    table = places + k * 6
    if tl.program_id(0) < tl.num_programs(0) - 1:
        place = tl.program_id(0) * B + tl.arange(0, B)
        begin = parts + (e * PRODUCTS + k) * count * W * W
        total = added_up(begin, count, W * W, place, place < W * W, P, B)
        if k == 0:
            tl.store(squares + e * W * W + place, total)
        else:
            row, column = place // W, place % W
            inside = (row < tl.load(table + 2)) & (column < tl.load(table + 3))
            at = gradients + e * g + tl.load(table) + row * tl.load(table + 1) + column
            tl.store(at, total * factor, inside)
    else:
        unit = tl.arange(0, W)
        of_unit = added_up(sums + (e * PRODUCTS + k) * count * W, count, W, unit, unit < W, P, W)
        if k == 0:
            tl.store(gathered + e * W + unit, of_unit)
        else:
            to = gradients + e * g + tl.load(table + 4) + unit
            tl.store(to, of_unit * factor, unit < tl.load(table + 2))


@triton.jit
def _fold_weighed(
    sums, gradients, places, numbers, share, count, g, W: tl.constexpr, B: tl.constexpr, P: tl.constexpr
):
    k, e = tl.program_id(1), tl.program_id(2).to(tl.int64)
    unit = tl.program_id(0) * B + tl.arange(0, B)
    total = added_up(sums + (e * 3 + k) * count * W, count, W, unit, unit < W, P, B)
    table = places + k * 3
    at = gradients + e * g + tl.load(table) + unit * tl.load(table + 1)
    tl.store(at, total * own_factor(numbers, share, e), unit < tl.load(table + 2))


@dataclass(frozen=True)
class Places:
    """Where sums go within ``gradients`` (E, P).

    ``products`` (6, 6): of a product its offset, the distance of its rows, their number and length, and the
    offset of its left side's sums; the first one's go elsewhere. ``weighed`` (3, 3): of a vector its offset,
    the distance of its numbers, and how many there are.
    """

    gradients: Tensor
    products: Tensor
    weighed: Tensor

    @classmethod
    def of(cls, gradients: Mapping[str, Tensor], whole: Tensor) -> "Places":
        """From gradients by name, views of ``whole`` (E, P)."""
        named = {name.removeprefix("cvae."): value for name, value in gradients.items()}
        entry, to_z, to_z_bias = named["decode_z.weight"], named["encode_z.weight"], named["encode_z.bias"]
        latent, begin = to_z.shape[1] // 2, whole.storage_offset()
        products = [
            (named["decode_hidden.weight"], named["decode_hidden.bias"]),
            (entry[..., :latent], named["decode_z.bias"]),
            (to_z[:, :latent], to_z_bias[:, :latent]),
            (to_z[:, latent:], to_z_bias[:, latent:]),
            (named["encode_hidden.weight"], named["encode_hidden.bias"]),
        ]
        weighed = [entry[..., latent], named["encode_x.bias"], named["encode_x.weight"][..., -1]]
        rows = [
            [x.storage_offset() - begin, x.stride(1), x.shape[1], x.shape[2], b.storage_offset() - begin, 0]
            for x, b in products
        ]
        return cls(
            whole,
            torch.tensor([[0] * 6, *rows], device=whole.device),
            torch.tensor(
                [[x.storage_offset() - begin, x.stride(1), x.shape[1]] for x in weighed], device=whole.device
            ),
        )


def multiply(
    work: Tensor, beyond: Tensor, places: Places, numbers: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the weights between the CVAE's hidden layers and of biases behind them, put in their
    places.

    Σgᵀg (E, W, W) and Σg (E, W) are returned, of g as the right half of ``beyond`` (E, n, 2·W) has it.
    """
    _, members, n, wide = work.shape
    parts, length = _parts(n, max(4, _PROGRAMS // (_PRODUCTS * members)))
    partial = numbers.new_empty(members, _PRODUCTS, parts, wide, wide)
    sums = numbers.new_empty(members, _PRODUCTS, parts, wide)
    _outer[(parts, _PRODUCTS, members)](
        work, beyond, partial, sums, n, work.stride(0), length, R=_ROWS, W=wide, num_warps=8
    )
    squares, gathered = numbers.new_empty(members, wide, wide), numbers.new_empty(members, wide)
    block = min(256, wide * wide)
    g = places.gradients.stride(0)
    _fold[(wide * wide // block + 1, _PRODUCTS, members)](
        partial, sums, places.gradients, squares, gathered, places.products, numbers, share, parts, g,
        W=wide, B=block, P=16,
    )  # fmt: skip
    return squares, gathered


def weigh(
    work: Tensor, beyond: Tensor, attention: Tensor, places: Places, numbers: Tensor, share: Tensor
) -> None:
    """Gradients of what λ (E, n) is multiplied with and of the encoder's first bias, put in their places."""
    _, members, n, wide = work.shape
    parts, length = _parts(n, max(13, _PROGRAMS // members))
    weighed = numbers.new_empty(members, 3, parts, wide)
    _weigh[(parts, members)](
        work, beyond, attention, weighed, n, work.stride(0), length, R=_ROWS // 2, W=wide, num_warps=8
    )
    _fold_weighed[(triton.cdiv(wide, 32), 3, members)](
        weighed, places.gradients, places.weighed, numbers, share, parts, places.gradients.stride(0),
        W=wide, B=min(wide, 32), P=64,
    )  # fmt: skip


def _parts(n: int, most: int) -> tuple[int, int]:
    """Snippets in at most so many parts: how many, and how long each."""
    length = triton.cdiv(triton.cdiv(n, max(1, most)), _ROWS) * _ROWS
    return triton.cdiv(n, length), length
