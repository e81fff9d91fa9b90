"""Triton kernels of TV-L1: linearising, median, iterating, and looking who still moves.

Needs Triton, which comes with PyTorch's builds for GPUs; imported only where it runs.

Planes of a pair are interleaved by rows, (H + 2, planes, PITCH), with a margin of one row above and below and
of at least one column behind, so that a pixel's neighbours lie at distances known when compiling and need no
test of their own. The margins of the dual variable are zero, those of the rest hold anything.

Programs are a tile of BY × BX pixels, program_id(0), of a pair, program_id(1). Programs of pairs that have
stopped end at once. Each iteration leaves a state and the sums of its tiles behind, in places of its own, and
the next one finds out from these whether its pair goes on; so nothing need wait for the processor, and every
sum is taken in an order that does not depend on the batch. A state is 2 × (the pair moved) + (which of the
two copies of u and of the dual variable is the newest).
"""

from __future__ import annotations

import triton
import triton.language as tl

TINY = tl.constexpr(1.1920929e-07)  # |∇I|² counts as no less than this
# Let the compiler think that rows may begin anywhere: with vectors of four pixels a thread, the loads one
# pixel aside would be four times as many transactions.
_IMAGES = ("u", "smooth", "p", "terms", "texels", "first", "changes", "new_changes")
_SIZES = ("pairs", "height", "width")
ROUNDER = tl.constexpr(12582912.0)  # 1.5 · 2²³: added and taken off, it rounds a float32 to whole numbers


@triton.jit
def _tile(height, width, BX: tl.constexpr, BY: tl.constexpr):
    """Columns and rows of this program's pixels, (BY · BX,) each.

    On one axis, because on two the compiler may put the threads of a warp down a column.
    """
    across = tl.cdiv(width, BX)
    tile = tl.program_id(0)
    each = tl.arange(0, BX * BY)
    return (tile % across) * BX + each % BX, (tile // across) * BY + each // BX


@triton.jit
def _moves(states, changes, pair, limit, TILES: tl.constexpr):
    """Whether a pair goes on after the iteration that left states (pairs) and changes (pairs, TILES)."""
    moves = tl.load(states + pair) > 1
    if moves:
        moves = tl.sum(tl.load(changes + pair * TILES + tl.arange(0, TILES)), 0) > limit
    return moves


@triton.jit
def _tap(fraction, NUMBER: tl.constexpr):
    """Weight of one of the four taps of Keys' kernel, a = −0.75."""
    f = fraction
    if NUMBER == 0:
        weight = ((-0.75 * f + 1.5) * f - 0.75) * f
    elif NUMBER == 1:
        weight = (1.25 * f - 2.25) * f * f + 1.0
    elif NUMBER == 2:
        weight = ((-1.25 * f + 1.5) * f + 0.75) * f
    else:
        weight = (0.75 * f - 0.75) * f * f
    return weight


@triton.jit
def _split(position, size, grid, GRID: tl.constexpr):
    """Positions to whole pixels and fractions; beyond two pixels outside all taps fall on zeros anyway."""
    position = tl.minimum(tl.maximum(position, -3.0), size + 1.0)
    if GRID:
        position = ((position * grid + ROUNDER) - ROUNDER) / grid
    whole = tl.floor(position)
    return whole.to(tl.int32), position - whole


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_IMAGES)
def linearise(
    u, first, texels, terms, states, pairs, height, width, grid,
    PITCH: tl.constexpr, GRID: tl.constexpr, BX: tl.constexpr, BY: tl.constexpr,
):  # fmt: skip
    """The data term about the flow u (2, pairs, 2 planes): ``terms`` (pairs, 3 planes): by u, by v, constant.

    ``first`` (pairs, 1 plane) and ``texels`` (pairs, 3 planes: value, gradient) are the two images.
    """
    x, y = _tile(height, width, BX, BY)
    inside = (x < width) & (y < height)
    pair = tl.program_id(1).to(tl.int64)
    plane = (height + 2) * PITCH
    side = tl.load(states + pair) & 1
    u_at = u + (side * pairs + pair) * 2 * plane + (y + 1) * (2 * PITCH) + x
    u0 = tl.load(u_at, inside, 0.0)
    u1 = tl.load(u_at + PITCH, inside, 0.0)
    column, fx = _split(x + u0, width, grid, GRID)
    row, fy = _split(y + u1, height, grid, GRID)
    texel = texels + pair * 3 * plane + row * (3 * PITCH) + column  # of the tap in front, in the row above
    value = tl.zeros_like(u0)
    gx = tl.zeros_like(u0)
    gy = tl.zeros_like(u0)
    for j in tl.static_range(4):
        line = tl.zeros_like(u0)
        line_x = tl.zeros_like(u0)
        line_y = tl.zeros_like(u0)
        there = inside & (row + (j - 1) >= 0) & (row + (j - 1) < height)
        for i in tl.static_range(4):
            weight = _tap(fx, i)
            known = there & (column + (i - 1) >= 0) & (column + (i - 1) < width)
            at = texel + (j * 3 * PITCH + i - 1)
            line += tl.load(at, known, 0.0) * weight
            line_x += tl.load(at + PITCH, known, 0.0) * weight
            line_y += tl.load(at + 2 * PITCH, known, 0.0) * weight
        weight = _tap(fy, j)
        value += line * weight
        gx += line_x * weight
        gy += line_y * weight
    before = tl.load(first + pair * plane + (y + 1) * PITCH + x, inside, 0.0)
    out = terms + pair * 3 * plane + (y + 1) * (3 * PITCH) + x
    tl.store(out, gx, inside)
    tl.store(out + PITCH, gy, inside)
    tl.store(out + 2 * PITCH, value - gx * u0 - gy * u1 - before, inside)


@triton.jit
def _step(u0, u1, gx, gy, constant, spread0, spread1, threshold):
    """The new flow of a pixel, from the old one, the data term and the divergence of the dual variable."""
    residual = constant + gx * u0 + gy * u1
    step = residual / tl.maximum(gx * gx + gy * gy, TINY)
    step = tl.minimum(tl.maximum(step, -threshold), threshold)
    return u0 - step * gx + spread0, u1 - step * gy + spread1


@triton.jit
def _spread(at, inside, PITCH: tl.constexpr):
    """Dual variable of one flow component at a pixel, and its divergence there, to the right and below."""
    across = tl.load(at, inside, 0.0)
    down = tl.load(at + PITCH, inside, 0.0)
    here = (across - tl.load(at - 1, inside, 0.0)) + (down - tl.load(at - 3 * PITCH, inside, 0.0))
    right = (tl.load(at + 1, inside, 0.0) - across) + (
        tl.load(at + (PITCH + 1), inside, 0.0) - tl.load(at + (1 - 3 * PITCH), inside, 0.0)
    )
    below = (tl.load(at + 4 * PITCH, inside, 0.0) - tl.load(at + (4 * PITCH - 1), inside, 0.0)) + (
        tl.load(at + 5 * PITCH, inside, 0.0) - down
    )
    return across, down, here, right, below


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_IMAGES)
def iterate(
    u, smooth, p, terms, states, changes, new_states, new_changes, counts,
    pairs, height, width, limit, threshold, tau, tau_theta,
    PITCH: tl.constexpr, FIRST: tl.constexpr, TILES: tl.constexpr, BX: tl.constexpr, BY: tl.constexpr,
):  # fmt: skip
    """One primal-dual iteration of every pair that still moves, from one copy of u and θp to the other.

    u (2, pairs, 2 planes); θp (2, pairs, 4 planes: across and down of u, of v); terms (pairs, 3 planes). The
    FIRST one of a round reads the flow from ``smooth`` (pairs, 2 planes). The new flow to the right and below
    is computed a second time here, which is cheaper than another pass over memory.
    """
    pair = tl.program_id(1).to(tl.int64)
    state = tl.load(states + pair)
    moves = _moves(states, changes, pair, limit, TILES)
    side = state & 1
    if tl.program_id(0) == 0:
        tl.store(new_states + pair, tl.where(moves, 3 - side, side))
        tl.store(counts + pair, tl.load(counts + pair) + moves.to(tl.int32))
    if moves:
        x, y = _tile(height, width, BX, BY)
        inside = (x < width) & (y < height)
        plane = (height + 2) * PITCH
        here = side * pairs + pair
        there = (1 - side) * pairs + pair
        at = (y + 1) * PITCH
        u_at = (smooth + pair * 2 * plane if FIRST else u + here * 2 * plane) + (2 * at + x)
        p_at = p + here * 4 * plane + (4 * at + x)
        d_at = terms + pair * 3 * plane + (3 * at + x)

        across0, down0, spread0, spread0_right, spread0_below = _spread(p_at, inside, PITCH)
        across1, down1, spread1, spread1_right, spread1_below = _spread(p_at + 2 * PITCH, inside, PITCH)
        u0 = tl.load(u_at, inside, 0.0)
        u1 = tl.load(u_at + PITCH, inside, 0.0)
        new0, new1 = _step(
            u0, u1,
            tl.load(d_at, inside, 0.0), tl.load(d_at + PITCH, inside, 0.0),
            tl.load(d_at + 2 * PITCH, inside, 0.0),
            spread0, spread1, threshold,
        )  # fmt: skip
        right0, right1 = _step(
            tl.load(u_at + 1, inside, 0.0), tl.load(u_at + (PITCH + 1), inside, 0.0),
            tl.load(d_at + 1, inside, 0.0), tl.load(d_at + (PITCH + 1), inside, 0.0),
            tl.load(d_at + (2 * PITCH + 1), inside, 0.0),
            spread0_right, spread1_right, threshold,
        )  # fmt: skip
        below0, below1 = _step(
            tl.load(u_at + 2 * PITCH, inside, 0.0), tl.load(u_at + 3 * PITCH, inside, 0.0),
            tl.load(d_at + 3 * PITCH, inside, 0.0), tl.load(d_at + 4 * PITCH, inside, 0.0),
            tl.load(d_at + 5 * PITCH, inside, 0.0),
            spread0_below, spread1_below, threshold,
        )  # fmt: skip
        u_out = u + there * 2 * plane + (2 * at + x)
        p_out = p + there * 4 * plane + (4 * at + x)
        tl.store(u_out, new0, inside)
        tl.store(u_out + PITCH, new1, inside)
        not_last = x < width - 1
        not_lowest = y < height - 1
        right0 = tl.where(not_last, right0 - new0, 0.0)
        right1 = tl.where(not_last, right1 - new1, 0.0)
        below0 = tl.where(not_lowest, below0 - new0, 0.0)
        below1 = tl.where(not_lowest, below1 - new1, 0.0)
        scale0 = 1.0 / (1.0 + tau_theta * tl.sqrt(right0 * right0 + below0 * below0))
        scale1 = 1.0 / (1.0 + tau_theta * tl.sqrt(right1 * right1 + below1 * below1))
        tl.store(p_out, (across0 + tau * right0) * scale0, inside)
        tl.store(p_out + PITCH, (down0 + tau * below0) * scale0, inside)
        tl.store(p_out + 2 * PITCH, (across1 + tau * right1) * scale1, inside)
        tl.store(p_out + 3 * PITCH, (down1 + tau * below1) * scale1, inside)
        change0 = new0 - u0
        change1 = new1 - u1
        squares = tl.where(inside, change0 * change0 + change1 * change1, 0.0)
        tl.store(new_changes + pair * TILES + tl.program_id(0), tl.sum(squares, 0))


@triton.jit
def look(states, changes, first_states, still, limit, TILES: tl.constexpr):
    """After a round: which pairs still move, int32 (pairs), and their states for the round that follows."""
    pair = tl.program_id(0)
    moves = _moves(states, changes, pair, limit, TILES)
    side = tl.load(states + pair) & 1
    tl.store(first_states + pair, side + 2 * moves.to(tl.int32))
    tl.store(still + pair, moves.to(tl.int32))


@triton.jit
def _order(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort3(a, b, c):
    a, c = _order(a, c)
    a, b = _order(a, b)
    b, c = _order(b, c)
    return a, b, c


@triton.jit
def _sort5(a, b, c, d, e):
    a, d = _order(a, d)
    b, e = _order(b, e)
    a, c = _order(a, c)
    b, d = _order(b, d)
    a, b = _order(a, b)
    c, e = _order(c, e)
    b, c = _order(b, c)
    d, e = _order(d, e)
    c, d = _order(c, d)
    return a, b, c, d, e


@triton.jit
def _column3(at, column, up, down, inside):
    """Three pixels of a column, sorted."""
    a = tl.load(at + (up + column), inside, 0.0)
    b = tl.load(at + column, inside, 0.0)
    c = tl.load(at + (down + column), inside, 0.0)
    return _sort3(a, b, c)


@triton.jit
def _median3(at, left, x, right, up, down, inside):
    a0, a1, a2 = _column3(at, left, up, down, inside)
    b0, b1, b2 = _column3(at, x, up, down, inside)
    c0, c1, c2 = _column3(at, right, up, down, inside)
    low = tl.maximum(tl.maximum(a0, b0), c0)
    high = tl.minimum(tl.minimum(a2, b2), c2)
    _, middle, _ = _sort3(a1, b1, c1)
    _, median, _ = _sort3(low, middle, high)
    return median


@triton.jit
def _column5(at, column, up2, up, down, down2, inside):
    """Five pixels of a column, sorted."""
    a = tl.load(at + (up2 + column), inside, 0.0)
    b = tl.load(at + (up + column), inside, 0.0)
    c = tl.load(at + column, inside, 0.0)
    d = tl.load(at + (down + column), inside, 0.0)
    e = tl.load(at + (down2 + column), inside, 0.0)
    return _sort5(a, b, c, d, e)


@triton.jit
def _median5(at, left2, left, x, right, right2, up2, up, down, down2, inside):
    """Columns sorted, then rows, then those orders of median.SELECT_MEDIAN that go across rows."""
    a0, a1, a2, a3, a4 = _column5(at, left2, up2, up, down, down2, inside)
    b0, b1, b2, b3, b4 = _column5(at, left, up2, up, down, down2, inside)
    c0, c1, c2, c3, c4 = _column5(at, x, up2, up, down, down2, inside)
    d0, d1, d2, d3, d4 = _column5(at, right, up2, up, down, down2, inside)
    e0, e1, e2, e3, e4 = _column5(at, right2, up2, up, down, down2, inside)
    _, _, _, v3, v4 = _sort5(a0, b0, c0, d0, e0)
    _, _, v7, v8, v9 = _sort5(a1, b1, c1, d1, e1)
    _, v11, v12, v13, _ = _sort5(a2, b2, c2, d2, e2)
    v15, v16, v17, _, _ = _sort5(a3, b3, c3, d3, e3)
    v20, v21, _, _, _ = _sort5(a4, b4, c4, d4, e4)
    v7, v20 = _order(v7, v20)
    v12, v11 = _order(v12, v11)
    v13, v21 = _order(v13, v21)
    v20, v3 = _order(v20, v3)
    v12, v4 = _order(v12, v4)
    v20, v15 = _order(v20, v15)
    v11, v4 = _order(v11, v4)
    v20, v11 = _order(v20, v11)
    v15, v4 = _order(v15, v4)
    v3, v17 = _order(v3, v17)
    v8, v16 = _order(v8, v16)
    v15, v12 = _order(v15, v12)
    v3, v11 = _order(v3, v11)
    v13, v16 = _order(v13, v16)
    v3, v12 = _order(v3, v12)
    v11, v4 = _order(v11, v4)
    v9, v13 = _order(v9, v13)
    v12, v8 = _order(v12, v8)
    v11, v9 = _order(v11, v9)
    v4, v8 = _order(v4, v8)
    v11, v4 = _order(v11, v4)
    return v4


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_IMAGES)
def median(
    u, smooth, states, changes, pairs, height, width, limit,
    PITCH: tl.constexpr, SIZE: tl.constexpr, TILES: tl.constexpr, BX: tl.constexpr, BY: tl.constexpr,
):  # fmt: skip
    """Median of SIZE × SIZE pixels (3 or 5) of the flow of pairs that move, edges repeated outwards."""
    pair = tl.program_id(1).to(tl.int64)
    side = tl.load(states + pair) & 1
    moves = _moves(states, changes, pair, limit, TILES)
    if moves:
        x, y = _tile(height, width, BX, BY)
        inside = (x < width) & (y < height)
        plane = (height + 2) * PITCH
        row = 2 * PITCH
        left = tl.maximum(x - 1, 0)
        right = tl.minimum(x + 1, width - 1)
        up = (tl.maximum(y - 1, 0) - y) * row
        down = (tl.minimum(y + 1, height - 1) - y) * row
        left2 = tl.maximum(x - 2, 0)
        right2 = tl.minimum(x + 2, width - 1)
        up2 = (tl.maximum(y - 2, 0) - y) * row
        down2 = (tl.minimum(y + 2, height - 1) - y) * row
        for component in tl.static_range(2):
            at = u + (side * pairs + pair) * 2 * plane + ((y + 1) * row + component * PITCH)
            if SIZE == 3:
                middle = _median3(at, left, x, right, up, down, inside)
            else:
                middle = _median5(at, left2, left, x, right, right2, up2, up, down, down2, inside)
            out = smooth + pair * 2 * plane + ((y + 1) * row + component * PITCH + x)
            tl.store(out, middle, inside)
