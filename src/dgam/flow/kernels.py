"""The five inner loops of TV-L1 as vector kernels.

A plane is an image whose rows are padded with zeros: ``MARGIN`` floats on the left, and on the right up to a
whole number of vectors. Rows of several planes lie interleaved (row 0 of each plane, then row 1 of each, …):

    U     2 planes   flow u, v in px
    P     4 planes   θ × dual variables (p11, p12, p21, p22), with one more row of zeros above the first
    C     4 planes   warped gradient Ix, Iy; constant part of the residual; 1 / |∇I|²
    texels           per pixel I, Ix, Iy, 0 with BORDER pixels of zeros on every side

``span`` is the distance between two rows of one plane within such a group. Lanes right of the image hold
zeros in every plane, and each kernel keeps them so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from dgam.flow.median import MIDDLE, SELECT_MEDIAN, SORT_COLUMN, compare
from dgam.flow.vector_ir import (
    FLOAT,
    INTEGER,
    POINTER,
    Kernel,
    Library,
    Number,
    compile_module,
    host_lanes,
    new_module,
)

MARGIN = 16
BORDER = 4
BLOCK = 10  # most iterations in one sweep
_TINY = 1.1920929e-07  # |∇I|² counts as no less than this


def iterate(module: object, lanes: int) -> Kernel:
    """``count`` ≤ BLOCK primal-dual iterations in one sweep over the rows; squared change per iteration in
    ``errors``.

    Row y of iteration k needs row y + 1 of iteration k − 1 and nothing below it. So the iterations follow one
    another down the image one row apart, and the rows between them stay in the cache. The first iteration
    reads U and P from the ``in`` buffers and leaves them whole: a sweep that went past the stopping point can
    be taken again, shorter.
    """
    k = Kernel(
        module,
        "iterate",
        [
            *((name, POINTER) for name in ("u_in", "p_in", "u_out", "p_out", "coefficients", "errors")),
            *((name, INTEGER) for name in ("height", "width", "span", "count")),
            *((name, FLOAT) for name in ("threshold", "tau", "tau_theta")),
        ],
    )
    height, width, span = k["height"], k["width"], k["span"]
    last = width - 1 - _remainder(k, width - 1, lanes)  # first column of the last vector
    change = k.variable(lanes)

    def primal(x: Number, y: Number, u: Number, p: Number, has_row_above: bool) -> list[Number]:
        """Store u of row y at x (threshold step on the residual, then θ div p); it and the old p12, p22."""
        data = k.at(k["coefficients"], y * span * 4 + x + MARGIN)
        gx, gy, constant, inverse = (k.load(data, span * i, lanes) for i in range(4))
        row = k.at(u, y * span * 2 + x + MARGIN)
        old = [k.load(row, span * i, lanes) for i in range(2)]
        residual = constant + (gx * old[0] + gy * old[1])
        step = (
            (residual * inverse).min(k["threshold"].spread(lanes)).max((0.0 - k["threshold"]).spread(lanes))
        )
        dual = k.at(p, (y + 1) * span * 4 + x + MARGIN)
        out = k.at(k["u_out"], y * span * 2 + x + MARGIN)
        results, above = [], []
        squares: Number | None = None
        for i, gradient in enumerate((gx, gy)):
            across = k.load(dual, span * (2 * i), lanes) - k.load(dual, span * (2 * i) - 1, lanes)
            down = k.load(dual, span * (2 * i + 1), lanes)
            if has_row_above:
                above.append(k.load(dual, span * (2 * i + 1 - 4), lanes))
                down = down - above[-1]
            new = old[i] - step * gradient + (across + down)
            k.store(new, out, span * i)
            results.append(new)
            square = (new - old[i]) * (new - old[i])
            squares = square if squares is None else squares + square
        assert squares is not None
        change.set(change.get() + squares)
        return results + above

    def dual_row(x: Number, y: Number, p: Number, below: list[Number] | None, at_edge: bool) -> None:
        """p of row y at x. ``below``: u, v of row y + 1, then p12, p22 of row y; None on the last row."""
        row = k.at(k["u_out"], y * span * 2 + x + MARGIN)
        dual = k.at(p, (y + 1) * span * 4 + x + MARGIN)
        out = k.at(k["p_out"], (y + 1) * span * 4 + x + MARGIN)
        tops, norms = [], []
        for i in range(2):
            here = k.load(row, span * i, lanes)
            right = k.load(row, span * i + 1, lanes) - here
            if at_edge:
                inside = (k.counter(lanes) + x.spread(lanes)) < (width - 1).spread(lanes)
                right = inside.choose(right, right * 0.0)
            old = k.load(dual, span * (2 * i), lanes)
            if below is None:
                tops.append((old + k["tau"] * right, k.load(dual, span * (2 * i + 1), lanes)))
                norm = right * right
            else:
                down = below[i] - here
                tops.append((old + k["tau"] * right, below[2 + i] + k["tau"] * down))
                norm = right * right + down * down
            norms.append(k["tau_theta"] * norm.sqrt() + 1.0)
        both = 1.0 / (norms[0] * norms[1])  # one division for the two
        for i, (first, second) in enumerate(tops):
            scale = both * norms[1 - i]
            k.store(first * scale, out, span * (2 * i))
            k.store(second * scale, out, span * (2 * i + 1))

    def along_row(body: Callable[[Number, bool], object]) -> None:
        with k.loop(0, last, step=lanes) as x:
            body(x, False)
        body(last, True)

    with k.loop(0, height + k["count"]) as front, k.loop(0, k["count"]) as iteration:
        y = front - iteration
        first = iteration < 1
        u = Number(k, k.builder.select(first.value, k["u_in"].value, k["u_out"].value))
        p = Number(k, k.builder.select(first.value, k["p_in"].value, k["p_out"].value))
        with k.when((y < height + 1) & (y > -1)):
            change.set(k.load(k["errors"], iteration * lanes, lanes))
            with k.when(y < 1):
                along_row(lambda x, _: primal(x, y, u, p, has_row_above=False))
            with k.when((y > 0) & (y < height)):
                along_row(lambda x, edge: dual_row(x, y - 1, p, primal(x, y, u, p, has_row_above=True), edge))
            with k.when(y > height - 1):
                along_row(lambda x, edge: dual_row(x, y - 1, p, None, edge))
            k.store(change.get(), k["errors"], iteration * lanes)
    k.finish()
    return k


def _remainder(k: Kernel, number: Number, lanes: int) -> Number:
    return Number(k, k.builder.and_(number.value, k.integer(lanes - 1).value))


def median(module: object, lanes: int, size: int) -> Kernel:
    """Median of ``size`` × ``size`` pixels (3 or 5) in each plane of U, edges repeated outwards.

    ``columns`` is room for ``size`` rows: each column is sorted once and serves ``size`` neighbouring pixels.
    """
    k = Kernel(
        module,
        f"median{size}",
        [
            *((name, POINTER) for name in ("u_in", "u_out", "columns")),
            *((name, INTEGER) for name in ("height", "width", "span")),
        ],
    )
    height, width, span = k["height"], k["width"], k["span"]
    reach = size // 2
    with k.loop(0, k.integer(2)) as plane, k.loop(0, height) as y:
        rows = []
        for offset in range(-reach, reach + 1):
            source = y + offset
            source = (source < 0).choose(k.integer(0), source)
            source = (source > height - 1).choose(height - 1, source)
            rows.append(k.at(k["u_in"], (source * 2 + plane) * span + MARGIN))
        with k.loop(0, width, step=lanes) as x:
            column = [k.load(row, x, lanes) for row in rows]
            compare(column, SORT_COLUMN[size], Number.min, Number.max)
            for i, value in enumerate(column):
                k.store(value, k["columns"], span * i + x + MARGIN)
        for i in range(size):
            row = k.at(k["columns"], span * i + MARGIN)
            left, right = k.load(row, 0), k.load(row, width - 1)
            for beyond in range(reach):
                k.store(left, row, -1 - beyond)
                k.store(right, row, width + beyond)
        out = k.at(k["u_out"], (y * 2 + plane) * span + MARGIN)
        with k.loop(0, width, step=lanes) as x:
            window = [
                k.load(k.at(k["columns"], span * i + x + MARGIN), shift, lanes)
                for i in range(size)
                for shift in range(-reach, reach + 1)
            ]
            compare(window, SELECT_MEDIAN[size], Number.min, Number.max)
            inside = (k.counter(lanes) + x.spread(lanes)) < width.spread(lanes)
            k.store(inside.choose(window[MIDDLE], window[MIDDLE] * 0.0), out, x)
    k.finish()
    return k


# Cubic weights of the four taps by power of the fraction: Keys' kernel with a = −0.75.
_CUBIC = ((0.0, 1.0, 0.0, 0.0), (-0.75, 0.0, 0.75, 0.0), (1.5, -2.25, 1.5, -0.75), (-0.75, 1.25, -1.25, 0.75))


def warp(module: object, lanes: int) -> Kernel:
    """C from the second image and its gradient, read at (x + u, y + v) by bicubic interpolation; zeros
    outside.

    ``grid`` > 0 rounds positions to that many steps a pixel first. ``pitch``: floats from one texel row to
    the next.
    """
    k = Kernel(
        module,
        "warp",
        [
            *((name, POINTER) for name in ("texels", "image", "u_in", "coefficients")),
            *((name, INTEGER) for name in ("height", "width", "span", "pitch")),
            ("grid", FLOAT),
        ],
    )
    height, width, span = k["height"], k["width"], k["span"]
    starts, across, sampled = k.scratch(2 * lanes), k.scratch(lanes), k.scratch(4 * lanes)
    down = k.scratch(4 * lanes)
    powers = [
        k.vector([tap for tap in taps for _ in range(4)]) for taps in _CUBIC
    ]  # each tap for four channels

    def split(position: Number, size: Number) -> tuple[Number, Number]:
        """Pixel of the first tap, counted in texels, and the fraction."""
        snapped = (position * k["grid"]).round_even() / k["grid"].max(1.0)
        position = (k["grid"] > 0.0).spread(lanes).choose(snapped, position)
        # Two pixels outside, every tap already falls on zeros.
        position = position.max(-3.0).min((size + 1).to_float().spread(lanes))
        whole = position.floor()
        return whole.to_int() + (BORDER - 1), position - whole

    with k.loop(0, height) as y, k.loop(0, width, step=lanes) as x:
        flow_row = k.at(k["u_in"], y * span * 2 + x + MARGIN)
        u, v = (k.load(flow_row, span * i, lanes) for i in range(2))
        column = k.counter(lanes) + x.spread(lanes)
        first_column, fraction = split(column.to_float() + u, width)
        k.store(fraction, across)
        first_row, fraction = split(y.to_float().spread(lanes) + v, height)
        k.store(first_row * k["pitch"] + first_column * 4, starts)
        for tap in range(4):
            a, b, c, d = (_CUBIC[power][tap] for power in range(4))
            k.store(((d * fraction + c) * fraction + b) * fraction + a, down, tap * lanes)
        with k.loop(0, k.integer(lanes)) as lane:
            texel = k.at(k["texels"], k.load_integer(starts, lane))
            place = k.load(across, lane).spread(16)
            total = k.load(texel, 0, 16) * k.load(down, lane)
            for tap in range(1, 4):
                total = total + k.load(texel, k["pitch"] * tap, 16) * k.load(down, lane + tap * lanes)
            total = total * (((powers[3] * place + powers[2]) * place + powers[1]) * place + powers[0])
            half = total.take(*range(8)) + total.take(*range(8, 16))
            k.store(half.take(*range(4)) + half.take(*range(4, 8)), sampled, lane * 4)
        parts = [k.load(sampled, i * lanes, lanes) for i in range(4)]
        flat = parts[0].join(parts[1]).join(parts[2].join(parts[3]))  # lane by lane I, Ix, Iy, 0
        value, gx, gy = (flat.take(*range(i, 4 * lanes, 4)) for i in range(3))
        image = k.load(k["image"], y * span + x + MARGIN, lanes)
        squared = gx * gx + gy * gy
        inverse = 1.0 / squared.max(_TINY)
        inside = column < width.spread(lanes)
        out = k.at(k["coefficients"], y * span * 4 + x + MARGIN)
        for i, number in enumerate((gx, gy, value - gx * u - gy * v - image, inverse)):
            k.store(inside.choose(number, number * 0.0), out, span * i)
    k.finish()
    return k


def texels(module: object) -> Kernel:
    """Image (one plane) and its centred differences (halved one-sided ones at the edges) as texels."""
    k = Kernel(
        module,
        "texels",
        [
            *((name, POINTER) for name in ("image", "texels")),
            *((name, INTEGER) for name in ("height", "width", "span", "pitch")),
        ],
    )
    height, width, span = k["height"], k["width"], k["span"]

    def neighbours(index: Number, size: Number) -> tuple[Number, Number]:
        return (index < 1).choose(index, index - 1), (index < size - 1).choose(index + 1, index)

    with k.loop(0, height) as y:
        above, below = neighbours(y, height)
        row, row_above, row_below = (k.at(k["image"], line * span + MARGIN) for line in (y, above, below))
        out = k.at(k["texels"], (y + BORDER) * k["pitch"] + 4 * BORDER)
        with k.loop(0, width) as x:
            left, right = neighbours(x, width)
            k.store(k.load(row, x), out, x * 4)
            k.store((k.load(row, right) - k.load(row, left)) * 0.5, out, x * 4 + 1)
            k.store((k.load(row_below, x) - k.load(row_above, x)) * 0.5, out, x * 4 + 2)
    k.finish()
    return k


def resize(module: object, lanes: int) -> Kernel:
    """Bilinear resampling of one plane, times ``factor``.

    Tables of floats: the lower neighbour, the upper one and the upper one's weight, for every output row
    (``rows``, 3 × height_out) and column (``columns``, 3 × width_out). ``line`` is room for one input row.
    """
    k = Kernel(
        module,
        "resize",
        [
            *((name, POINTER) for name in ("source", "target", "rows", "columns", "line")),
            *((name, INTEGER) for name in ("width_in", "step_in", "height", "width", "step_out")),
            ("factor", FLOAT),
        ],
    )
    height, width = k["height"], k["width"]
    with k.loop(0, height) as y:
        upper, lower = (
            k.at(k["source"], k.load(k["rows"], height * i + y).to_int() * k["step_in"] + MARGIN)
            for i in range(2)
        )
        weight = k.load(k["rows"], height * 2 + y)
        with k.loop(0, k["width_in"], step=lanes) as x:
            mixed = k.load(upper, x, lanes) * (1.0 - weight) + k.load(lower, x, lanes) * weight
            k.store(mixed * k["factor"], k["line"], x)
        out = k.at(k["target"], y * k["step_out"] + MARGIN)
        with k.loop(0, width) as x:
            left, right = (k.load(k["line"], k.load(k["columns"], width * i + x).to_int()) for i in range(2))
            weight = k.load(k["columns"], width * 2 + x)
            k.store(left * (1.0 - weight) + right * weight, out, x)
    k.finish()
    return k


@cache
def library(lanes: int | None = None) -> Library:
    """All kernels, compiled for this processor on the first call (a fraction of a second)."""
    lanes = lanes or host_lanes()
    module = new_module()
    kernels = {
        "iterate": iterate(module, lanes),
        "median3": median(module, lanes, 3),
        "median5": median(module, lanes, 5),
        "warp": warp(module, lanes),
        "texels": texels(module),
        "resize": resize(module, lanes),
    }
    return compile_module(module, kernels, lanes)
