"""The discriminative losses of stage (a) with their gradients, equations 4 to 6 and 13 to 15.

The TCAM (E, n, C + 1), without bias, is columns of a wider tensor. Blocks are some snippets of a video.
"""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from dgam.kernels.numbers import ALPHA, BACKGROUND_OFFSET, FOREGROUND, FOREGROUND_OFFSET, GAMMA2, number

_BLOCK = 2048  # numbers in a block
TINY = tl.constexpr(1.1754943508222875e-38)


@triton.jit
def _probabilities(tcam, column, mask, classes):
    """Softmax over the columns of a block."""
    x = tl.load(tcam, mask, 0.0).to(tl.float32)
    x = tl.where((column < classes)[None, :], x, float("-inf"))
    x = tl.exp(x - tl.max(x, 1)[:, None])
    return x / tl.sum(x, 1)[:, None]


@triton.jit
def _of_labels(p, label, column, actions):
    """Probabilities of the labelled classes, 0 of other classes, −1 beyond them."""
    return tl.where((column < actions)[None, :], p * label[None, :], -1.0)


@triton.jit
def _guides(tcam, labels, guides, videos, length, actions, x_e, x_n, R: tl.constexpr, C: tl.constexpr):
    """λ̂_fg and λ̂_bg before smoothing, (2, E, B, T)."""
    video, column = tl.program_id(1), tl.arange(0, C)
    e, b = (video // videos).to(tl.int64), video % videos
    row = tl.program_id(0) * R + tl.arange(0, R)
    there = row < length
    at = tcam + e * x_e + (b * length + row)[:, None] * x_n + column[None, :]
    p = _probabilities(at, column, there[:, None] & (column <= actions)[None, :], actions + 1)
    label = tl.load(labels + video * actions + column, column < actions, 0.0)
    most = tl.max(_of_labels(p, label, column, actions), 1)
    background = tl.sum(tl.where((column == actions)[None, :], p, 0.0), 1)
    place = guides + video.to(tl.int64) * length + row
    tl.store(place, most, there)
    tl.store(place + tl.num_programs(1).to(tl.int64) * length, 1.0 - background, there)


@triton.jit
def _pool(
    tcam, attention, bias, labels, numbers, sums, found, by_pooled, by_logits, moved,
    videos, length, actions, x_e, x_n, s, BIAS: tl.constexpr, MEAN: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Foreground and background of a video: losses (E, B, 2), gradients by the pooled TCAM and by logits
    (E, B, 2, C), what leaves through the divisors (E, B, 2), and Σλ (E, B)."""
    video, column = tl.program_id(0), tl.arange(0, C)
    e, b = (video // videos).to(tl.int64), video % videos
    known = column <= actions
    front, rest = tl.zeros((R, C), tl.float32), tl.zeros((R, C), tl.float32)
    total = tl.zeros((R,), tl.float32)
    for start in range(0, length, R):
        row = start + tl.arange(0, R)
        there = row < length
        at = tcam + e * x_e + (b * length + row)[:, None] * x_n + column[None, :]
        x = tl.load(at, there[:, None] & known[None, :], 0.0).to(tl.float32)
        lam = tl.load(attention + (e * videos + b) * length + row, there, 0.0)
        front += x * lam[:, None]
        rest += x * (1.0 - lam)[:, None]
        total += lam
    of_lam = tl.sum(total, 0)
    tl.store(sums + video, of_lam)
    label = tl.load(labels + video * actions + column, column < actions, 0.0)
    count = tl.sum(label, 0)
    aim = label / tl.maximum(count, 1.0) if MEAN else label
    aim = tl.where(column == actions, tl.where(count == 0, 1.0, 0.0), aim)
    add = tl.load(bias + e * s + column, known, 0.0) if BIAS else tl.zeros((C,), tl.float32)
    for side in tl.static_range(2):
        if side == 0:
            pooled, amount = tl.sum(front, 0), of_lam
            aims = aim
            weight = number(numbers, e, FOREGROUND)
            amount += number(numbers, e, FOREGROUND_OFFSET)
        else:
            pooled, amount = tl.sum(rest, 0), length - of_lam
            aims = tl.where(column == actions, 1.0, 0.0)
            weight = number(numbers, e, ALPHA)
            amount += number(numbers, e, BACKGROUND_OFFSET)
        below, divisor = amount < TINY, tl.maximum(amount, TINY)
        pooled = pooled / divisor
        logits = tl.where(known, pooled + add, float("-inf"))
        logits = logits - tl.max(logits, 0)
        p = tl.exp(logits)
        whole = tl.sum(p, 0)
        log_p = tl.where(known, logits - tl.log(whole), 0.0)
        tl.store(found + video * 2 + side, -tl.sum(aims * log_p, 0))
        by = (p / whole * tl.sum(aims, 0) - aims) * (weight / videos)
        place = (video.to(tl.int64) * 2 + side) * C + column
        tl.store(by_logits + place, by)
        by = by / divisor
        tl.store(by_pooled + place, by)
        tl.store(moved + video * 2 + side, tl.where(below, 0.0, tl.sum(tl.where(known, by * pooled, 0.0), 0)))


@triton.jit
def _smooth(curve, taps, row, there, length, radius):
    """A Gaussian over a curve (T,), mirrored beyond its ends, at some rows. The transpose is the same."""
    smooth = tl.zeros_like(row).to(tl.float32)
    turn = 2 * length
    for offset in range(-radius, radius + 1):
        place = (row + offset + (radius // turn + 1) * turn) % turn
        place = tl.minimum(place, turn - 1 - place)
        smooth += tl.load(taps + radius + offset) * tl.load(curve + place, there, 0.0)
    return smooth


@triton.jit
def _by_pooled(by_pooled, video, column, C: tl.constexpr):
    """Gradients by a video's pooled TCAM, of foreground and of background, (C,) each."""
    at = by_pooled + video.to(tl.int64) * 2 * C + column
    return tl.load(at), tl.load(at + C)


@triton.jit
def _through_pools(lam, front, back):
    """The gradient by the TCAM through equations 4 and 5."""
    return lam[:, None] * front[None, :] + (1.0 - lam)[:, None] * back[None, :]


@triton.jit
def _put_slopes(at, by, column, there, actions):
    """In place of the TCAM, which no other block reads, the gradient by it; 1 beside it, for the sum of
    x."""
    by = tl.where((column <= actions)[None, :], by, 1.0)
    tl.store(at, by, there[:, None] & (column <= actions + 1)[None, :])


@triton.jit
def _slopes(
    tcam, attention, by_pooled, moved, guides, taps, numbers, by_attention, by_gaps, guide,
    videos, length, actions, radius, x_e, x_n, LINKED: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Gradient by λ (E, B, T), of the guide's losses by their gaps (2, E, B, T), and the losses of blocks.
    Not LINKED, which is where no gradient goes through the guides, by the TCAM as well."""
    video, column = tl.program_id(1), tl.arange(0, C)
    e, b = (video // videos).to(tl.int64), video % videos
    row = tl.program_id(0) * R + tl.arange(0, R)
    there = row < length
    mask = there[:, None] & (column <= actions)[None, :]
    at = tcam + e * x_e + (b * length + row)[:, None] * x_n + column[None, :]
    x = tl.load(at, mask, 0.0).to(tl.float32)
    front, back = _by_pooled(by_pooled, video, column, C)
    # λ enters foreground with one sign and background with the other, in the sum above and in the one below.
    by = tl.sum(x * (front - back)[None, :], 1)
    by -= tl.load(moved + video * 2) - tl.load(moved + video * 2 + 1)
    curve = video.to(tl.int64) * length
    lam = tl.load(attention + curve + row, there, 0.0)
    weight = number(numbers, e, GAMMA2) / (videos * length)
    lost = tl.zeros((R,), tl.float32)
    all_curves = tl.num_programs(1).to(tl.int64) * length
    for side in tl.static_range(2):
        gap = lam - _smooth(guides + side * all_curves + curve, taps, row, there, length, radius)
        lost += tl.abs(gap)
        slope = tl.where(gap > 0, weight, tl.where(gap < 0, -weight, 0.0))
        if LINKED:
            tl.store(by_gaps + side * all_curves + curve + row, slope, there)
        by += slope
    tl.store(by_attention + curve + row, by, there)
    tl.store(guide + video * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.where(there, lost, 0.0), 0))
    if not LINKED:
        _put_slopes(at, _through_pools(lam, front, back), column, there, actions)


@triton.jit
def _through_guides(
    tcam, attention, labels, by_pooled, by_gaps, taps,
    videos, length, actions, radius, x_e, x_n, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The gradient by the TCAM in its place, that through the guides included; 1 beside it."""
    video, column = tl.program_id(1), tl.arange(0, C)
    e, b = (video // videos).to(tl.int64), video % videos
    row = tl.program_id(0) * R + tl.arange(0, R)
    there = row < length
    mask = there[:, None] & (column <= actions)[None, :]
    at = tcam + e * x_e + (b * length + row)[:, None] * x_n + column[None, :]
    p = _probabilities(at, column, mask, actions + 1)
    label = tl.load(labels + video * actions + column, column < actions, 0.0)
    found = _of_labels(p, label, column, actions)
    chosen = tl.where(found == tl.max(found, 1)[:, None], 1.0, 0.0)  # ties share, as amax has it
    chosen = chosen / tl.sum(chosen, 1)[:, None]
    curve = video.to(tl.int64) * length
    all_curves = tl.num_programs(1).to(tl.int64) * length
    by_most = -_smooth(by_gaps + curve, taps, row, there, length, radius)
    by_last = _smooth(by_gaps + all_curves + curve, taps, row, there, length, radius)
    by_p = chosen * by_most[:, None] * label[None, :]
    by_p = tl.where((column == actions)[None, :], by_last[:, None], by_p)
    by_p = p * (by_p - tl.sum(by_p * p, 1)[:, None])
    front, back = _by_pooled(by_pooled, video, column, C)
    lam = tl.load(attention + curve + row, there, 0.0)
    _put_slopes(at, by_p + _through_pools(lam, front, back), column, there, actions)


@triton.jit
def _of_bias(by_logits, gradient, videos, actions, g, C: tl.constexpr):
    e, column = tl.program_id(0).to(tl.int64), tl.arange(0, C)
    total = tl.zeros((C,), tl.float32)
    for row in range(2 * videos):
        total += tl.load(by_logits + (e * 2 * videos + row) * C + column)
    tl.store(gradient + e * g + column, total, column <= actions)


@dataclass(frozen=True)
class Discriminated:
    """Gradient by λ (E, n) of the weighted losses, and what the terms are made of: losses of videos
    (E, B, 2), guide's of blocks (E, blocks), Σλ of videos (E, B), gradients by the
    logits of foreground and background (E, B, 2, columns)."""

    by_attention: Tensor
    found: Tensor
    guide: Tensor
    sums: Tensor
    by_logits: Tensor


def guides(tcam: Tensor, labels: Tensor, length: int) -> Tensor:
    """λ̂_fg and λ̂_bg before smoothing, (2, E, B, T), of a TCAM (E, n, C + 1) and labels (E, B, C)."""
    members, videos, actions = labels.shape
    out = labels.new_empty(2, members, videos, length)
    rows, columns = _sizes(actions)
    _guides[(triton.cdiv(length, rows), members * videos)](
        tcam, labels, out, videos, length, actions, *tcam.stride()[:2], R=rows, C=columns
    )
    return out


def discriminate(
    tcam: Tensor,
    attention: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    above: Tensor,
    taps: Tensor,
    numbers: Tensor,
    *,
    detach: bool,
    mean: bool,
) -> Discriminated:
    """``tcam`` (E, n, C + 1) becomes the gradient by it, and the column behind it 1. λ (E, n), ``above`` from
    :func:`guides`, ``taps`` of the smoothing Gaussian (2·radius + 1,). ``mean`` is whether several labels of
    a video share one count."""
    (members, videos, actions), length = labels.shape, above.shape[3]
    rows, columns = _sizes(actions)
    blocks = triton.cdiv(length, rows)
    sums, found = labels.new_empty(members, videos), labels.new_empty(members, videos, 2)
    by_pooled, by_logits = labels.new_empty(2, members, videos, 2, columns)
    pooled = max(16, min(triton.next_power_of_2(length), 8 * _BLOCK // columns))  # at a time, of one video
    moved, by_gaps = torch.empty_like(found), above if detach else torch.empty_like(above)
    strides = tcam.stride()[:2]
    _pool[(members * videos,)](
        tcam, attention, numbers if bias is None else bias, labels, numbers, sums, found, by_pooled,
        by_logits, moved, videos, length, actions, *strides, 0 if bias is None else bias.stride(0),
        BIAS=bias is not None, MEAN=mean, R=pooled, C=columns, num_warps=16,
    )  # fmt: skip
    by_attention, guide = torch.empty_like(attention), labels.new_empty(members, videos * blocks)
    grid, radius = (blocks, members * videos), len(taps) // 2
    _slopes[grid](
        tcam, attention, by_pooled, moved, above, taps, numbers, by_attention, by_gaps, guide,
        videos, length, actions, radius, *strides, LINKED=not detach, R=rows, C=columns,
    )  # fmt: skip
    if not detach:
        _through_guides[grid](
            tcam, attention, labels, by_pooled, by_gaps, taps, videos, length, actions, radius, *strides,
            R=rows, C=columns,
        )  # fmt: skip
    return Discriminated(by_attention, found, guide, sums, by_logits)


def put_bias(discriminated: Discriminated, gradient: Tensor) -> None:
    """The gradient (E, C + 1) by the classifier's bias, put in its place."""
    members, videos, _, columns = discriminated.by_logits.shape
    _of_bias[(members,)](
        discriminated.by_logits, gradient, videos, gradient.shape[1] - 1, gradient.stride(0), C=columns
    )


def _sizes(actions: int) -> tuple[int, int]:
    columns = max(16, triton.next_power_of_2(actions + 2))
    return max(16, _BLOCK // columns), columns
