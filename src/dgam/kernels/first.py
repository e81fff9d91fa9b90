"""Before and after the products with x: weights packed side by side, λ, and the attention's gradients."""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from collections.abc import Mapping
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dgam.kernels.blocks import added_up
from dgam.kernels.numbers import DISCREPANCY, GAMMA1, SHARPNESS, number

_BLOCK = 4096  # numbers in a block
_PROGRAMS = 264  # where each leaves a row of sums, at most, all members together


class Packed(NamedTuple):
    """Weights as the products take them. Side by side in ``matrix`` (E, front + 2·hidden, d) and ``bias``
    (E, front + 2·hidden): the attention's first layer, the classifier, a row of zeros, b, zeros up to
    ``front``, −Wᵀ with bias Wᵀb, the encoder's first layer but for λ. ``entry`` (E, hidden, latent) is the
    decoder's first layer but for λ; ``by_lambda`` (E, 2, hidden) what λ adds to it, with z = rλ + ε and with
    z fixed."""

    matrix: Tensor
    bias: Tensor
    entry: Tensor
    by_lambda: Tensor


@triton.jit
def _pack(
    attention, attention_bias, classifier, encode, encode_bias, last, last_bias, entry, numbers,
    matrix, bias, entry_out, by_lambda,
    s, d, units, classes, front, hidden, latent, D: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    e, row = tl.program_id(1).to(tl.int64), tl.program_id(0)
    wide = front + 2 * hidden
    begin = e * s
    if row < wide:
        column = tl.arange(0, D)
        inside = column < d
        value = tl.zeros((D,), tl.float32)
        add = 0.0
        if row < units:
            value = tl.load(attention + begin + row * d + column, inside, 0.0)
            add = tl.load(attention_bias + begin + row)
        elif row < units + classes:
            value = tl.load(classifier + begin + (row - units) * d + column, inside, 0.0)
        elif row == units + classes + 1:
            value = tl.load(last_bias + begin + column, inside, 0.0)
        elif row < front:
            add = 0.0
        elif row < front + hidden:
            value = -tl.load(last + begin + column * hidden + (row - front), inside, 0.0)
            value = value.to(matrix.dtype.element_ty).to(tl.float32)
            b = tl.load(last_bias + begin + column, inside, 0.0).to(matrix.dtype.element_ty).to(tl.float32)
            add = -tl.sum(value * b, 0)
        else:
            value = tl.load(encode + begin + (row - front - hidden) * (d + 1) + column, inside, 0.0)
            add = tl.load(encode_bias + begin + row - front - hidden)
        tl.store(matrix + (e * wide + row) * d + column, value, inside)
        tl.store(bias + e * wide + row, add)
    else:
        h, narrow = row - wide, tl.arange(0, L)
        known = narrow < latent
        at = entry + begin + h * (latent + 1)
        of_z = tl.load(at + narrow, known, 0.0)
        tl.store(entry_out + (e * hidden + h) * latent + narrow, of_z, known)
        alone = tl.load(at + latent)
        r = number(numbers, e, DISCREPANCY)
        tl.store(by_lambda + e * 2 * hidden + h, alone + r * tl.sum(of_z, 0))
        tl.store(by_lambda + (e * 2 + 1) * hidden + h, alone)


def pack(weights: Mapping[str, Tensor], numbers: Tensor, front: int, dtype: torch.dtype) -> Packed:
    """From the weights in float32, views of one tensor (E, P)."""
    attention, classifier = weights["attention.hidden.weight"], weights["classifier.output.weight"]
    entry = weights["cvae.decode_z.weight"]
    members, units, d = attention.shape
    hidden, latent = entry.shape[1], entry.shape[2] - 1
    wide = front + 2 * hidden
    made = Packed(
        matrix=attention.new_empty(members, wide, d, dtype=dtype),
        bias=attention.new_empty(members, wide, dtype=dtype),
        entry=attention.new_empty(members, hidden, latent, dtype=dtype),
        by_lambda=attention.new_empty(members, 2, hidden),
    )
    _pack[(wide + hidden, members)](
        attention, weights["attention.hidden.bias"], classifier, weights["cvae.encode_x.weight"],
        weights["cvae.encode_x.bias"], weights["cvae.decode_x.weight"], weights["cvae.decode_x.bias"],
        entry, numbers, *made, attention.stride(0), d, units, classifier.shape[1], front, hidden, latent,
        D=triton.next_power_of_2(d), L=triton.next_power_of_2(latent),
    )  # fmt: skip
    return made


@triton.jit
def _attend(
    units, bias, weight, out_bias, out, n, m, x_e, x_n, s,
    BIAS: tl.constexpr, R: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    row = tl.program_id(0) * R + tl.arange(0, R)
    mask = (row < n)[:, None] & inside[None, :]
    x = tl.load(units + e * x_e + row[:, None] * x_n + column[None, :], mask, 0.0).to(tl.float32)
    if BIAS:
        x += tl.load(bias + e * s + column, inside, 0.0)[None, :]
    w = tl.load(weight + e * s + column, inside, 0.0)
    score = tl.sum(tl.maximum(x, 0.0) * w[None, :], 1) + tl.load(out_bias + e * s)
    tl.store(out + e * n + row, tl.sigmoid(score), row < n)


def attend(units: Tensor, weights: Mapping[str, Tensor], *, biased: bool) -> Tensor:
    """λ (E, n) of the attention's hidden units (E, n, m) before ReLU, which have their bias or not."""
    members, n, m = units.shape
    weight = weights["attention.output.weight"]
    out = weight.new_empty(members, n)
    columns = triton.next_power_of_2(m)
    rows = max(1, _BLOCK // columns)
    _attend[(triton.cdiv(n, rows), members)](
        units, weights["attention.hidden.bias"], weight, weights["attention.output.bias"], out, n, m,
        *units.stride()[:2], weight.stride(0), BIAS=not biased, R=rows, M=columns,
    )  # fmt: skip
    return out


@triton.jit
def _by_units(
    units, attention, by_labels, by_features, numbers, share, scale, parts, n, m, x_e, x_n,
    R: tl.constexpr, M: tl.constexpr, TILES,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    weight = scale * number(numbers, e, GAMMA1) * tl.load(share + e)
    weight *= number(numbers, e, SHARPNESS)
    products, total = tl.zeros((R, M), tl.float32), tl.zeros((R, M), tl.float32)
    scores = tl.zeros((R,), tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        there = row < n
        at = units + e * x_e + row[:, None] * x_n + column[None, :]
        mask = there[:, None] & inside[None, :]
        x = tl.maximum(tl.load(at, mask, 0.0).to(tl.float32), 0.0)
        lam = tl.load(attention + e * n + row, there, 0.0)
        by = tl.load(by_labels + e * n + row, there, 0.0)
        by += weight * tl.load(by_features + e * n + row, there, 0.0)
        by *= lam * (1.0 - lam)  # before the sigmoid
        scores += by
        masked = tl.where(x > 0, by[:, None], 0.0)
        tl.store(at, masked, mask)
        products += x * by[:, None]
        total += masked
    place = parts + (e * tl.num_programs(0) + tl.program_id(0)) * (3 * M) + column
    tl.store(place, tl.sum(products, 0))
    tl.store(place + M, tl.sum(total, 0))
    tl.store(place + 2 * M, tl.zeros((M,), tl.float32) + tl.sum(scores, 0))


@triton.jit
def _fold_units(
    parts, output, of_output, of_bias, of_output_bias, rows, m, s, g, M: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.program_id(0) * W + tl.arange(0, W)
    begin = parts + e * rows * (3 * M)
    products = added_up(begin, rows, 3 * M, column, column < M, R, W)
    total = added_up(begin + M, rows, 3 * M, column, column < M, R, W)
    scores = added_up(begin + 2 * M, rows, 3 * M, column, column < M, R, W)
    tl.store(of_output + e * g + column, products, column < m)
    # The gradient by a unit is that by the score times its output weight, which can as well multiply sums.
    weight = tl.load(output + e * s + column, column < m, 0.0)
    tl.store(of_bias + e * g + column, total * weight, column < m)
    tl.store(of_output_bias + e * g + column, scores, column < 1)


def by_units(
    units: Tensor,
    attention: Tensor,
    by_labels: Tensor,
    by_features: Tensor,
    numbers: Tensor,
    share: Tensor,
    scale: float,
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
) -> None:
    """The attention's hidden units (E, n, m) before ReLU become the gradient by their score where they are
    above 0, else 0; gradients of the output layer and of the hidden bias are set.

    λ (E, n), the gradients by it of the discriminative losses and of the squared error (E, n), which counts
    γ1 · ``share`` (E, 1) · ``scale`` · sharpness.
    """
    members, n, m = units.shape
    columns = triton.next_power_of_2(m)
    rows = max(1, 2 * _BLOCK // columns)
    tiles = triton.cdiv(triton.cdiv(n, rows), max(1, _PROGRAMS // members))
    count = triton.cdiv(n, rows * tiles)
    parts = attention.new_empty(members, count, 3, columns)
    _by_units[(count, members)](
        units, attention, by_labels, by_features, numbers, share, scale, parts, n, m, *units.stride()[:2],
        R=rows, M=columns, TILES=tiles, num_warps=8,
    )  # fmt: skip
    output, of_output = weights["attention.output.weight"], gradients["attention.output.weight"]
    _fold_units[(triton.cdiv(columns, 16), members)](
        parts, output, of_output, gradients["attention.hidden.bias"], gradients["attention.output.bias"],
        count, m, output.stride(0), of_output.stride(0), M=columns, R=128, W=16,
    )  # fmt: skip


@triton.jit
def _spread(
    of_first, output, of_hidden, of_classifier, of_x, d, front, units, classes, s, g, D: tl.constexpr
):
    e, row, column = tl.program_id(1).to(tl.int64), tl.program_id(0), tl.arange(0, D)
    inside = column < d
    value = tl.load(of_first + (e * front + row) * d + column, inside, 0.0).to(tl.float32)
    if row < units:
        value *= tl.load(output + e * s + row)
        tl.store(of_hidden + e * g + row * d + column, value, inside)
    elif row < units + classes:
        tl.store(of_classifier + e * g + (row - units) * d + column, value, inside)
    else:
        tl.store(of_x + e * d + column, value, inside)


def spread(of_first: Tensor, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
    """The gradients (E, front, d) of the attention's first layer, but for the output weights, of the
    classifier, and Σx, put in their places. Σx (E, d) is returned."""
    members, front, d = of_first.shape
    output, of_hidden = weights["attention.output.weight"], gradients["attention.hidden.weight"]
    units, classes = of_hidden.shape[1], gradients["classifier.output.weight"].shape[1]
    of_x = output.new_empty(members, d)
    _spread[(units + classes + 1, members)](
        of_first, output, of_hidden, gradients["classifier.output.weight"], of_x, d, front, units, classes,
        output.stride(0), of_hidden.stride(0), D=triton.next_power_of_2(d),
    )  # fmt: skip
    return of_x
